//! What a router does with packets that cannot simply go on.

use std::net::IpAddr;

use hawser_api::*;
use hawser_dataplane::harness::*;

/// The IPv4 or IPv6 packet in a frame.
fn ip(frame: &[u8]) -> &[u8] {
    &frame[14..]
}

#[test]
fn ttl_of_one_ends_here_with_time_exceeded() {
    let (mut a, _) = pair(&Plan::default());
    let mut frame = udp(0, false, (1, 2), b"x");
    frame[22] = 1;
    frame[24..26].fill(0);
    let sum = hawser_net::checksum::of(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(a.send(&[frame]).len(), 0);
    assert_eq!(a.drops(), [(DropReason::TtlExpired, 1)]);
    let answer = a.take(INSIDE);
    assert_eq!(ip(&answer[0])[20..22], [11, 0]);
}

#[test]
fn no_route_is_answered_and_a_black_hole_is_not() {
    let (mut a, _) = pair(&Plan::default());
    let routes = vec![Route {
        prefix: net("10.9.0.0/16"),
        next_hop: NextHop::Blackhole,
    }];
    a.apply(vec![Update::PutRoutes {
        table: TableId::MAIN,
        routes,
    }])
    .unwrap();
    let to = |to| ipv4([10, 0, 0, 1], to, 17, &[0; 8], false);
    a.send(&[to([172, 16, 0, 1]), to([10, 9, 0, 1])]);
    assert_eq!(
        a.drops(),
        [(DropReason::NoRoute, 1), (DropReason::Blackhole, 1)]
    );
    let answer = a.take(INSIDE);
    assert_eq!(answer.len(), 1);
    assert_eq!(ip(&answer[0])[20..22], [3, 0]);
}

#[test]
fn a_packet_waits_for_its_neighbour() {
    let (mut a, mut b) = pair(&Plan::default());
    let mut sent = udp(0, false, (1, 2), b"wait");
    sent[33] = 77;
    sent[24..26].fill(0);
    let sum = hawser_net::checksum::of(&sent[14..34]);
    sent[24..26].copy_from_slice(&sum.to_be_bytes());
    let encrypted = a.send(&[sent.clone(), sent]);
    assert_eq!(b.receive(&encrypted).len(), 0);
    assert_eq!(b.drops(), []);
    let address = IpAddr::from([10, 1, 0, 77]);
    assert_eq!(
        b.out.events,
        [Event::NeighbourNeeded {
            port: INSIDE,
            vlan: None,
            address
        }],
        "asked once"
    );
    let mac = [2, 0, 0, 0, 1, 77];
    b.apply(vec![Update::PutNeighbours(vec![Neighbour {
        port: INSIDE,
        vlan: None,
        address,
        mac,
    }])])
    .unwrap();
    let out = b.take(INSIDE);
    assert_eq!(out.len(), 2, "both are delivered now");
    assert_eq!(out[0][..6], mac);
    assert_eq!(out[0][22], 62, "TTL decremented once by each gateway");
}

#[test]
fn a_packet_does_not_wait_for_ever() {
    let (mut a, mut b) = pair(&Plan::default());
    b.apply(vec![Update::RemoveNeighbours(vec![(
        INSIDE,
        None,
        [10, 1, 0, 1].into(),
    )])])
    .unwrap();
    let encrypted = a.send(&[udp(0, false, (1, 2), b"x")]);
    let free = b.pipeline.pool().len();
    b.receive(&encrypted);
    assert!(b.pipeline.is_waiting());
    let later = b.now + 3_000_000_000;
    b.pipeline.housekeep(later);
    assert_eq!(b.drops(), [(DropReason::NoNeighbour, 1)]);
    assert_eq!(b.pipeline.pool().len(), free, "its frame is free again");
}

#[test]
fn a_hub_passes_packets_from_tunnel_to_tunnel() {
    let (mut a, mut hub) = pair(&Plan::default());
    // The hub knows 10.2/16 behind tunnel 3, whose far end holds the same keys as A does.
    let hop = NextHop::Tunnel(TunnelId(3));
    let route = |prefix, next_hop| Update::PutRoutes {
        table: TableId::MAIN,
        routes: vec![Route {
            prefix: net(prefix),
            next_hop,
        }],
    };
    hub.apply(vec![route("10.2.0.0/16", hop)]).unwrap();
    a.apply(vec![route("10.2.0.0/16", NextHop::Tunnel(TunnelId(0)))])
        .unwrap();
    let sent = ipv4([10, 0, 0, 1], [10, 2, 0, 9], 17, &[7; 32], false);
    let encrypted = a.send(&[sent]);
    assert_eq!(hub.receive(&encrypted).len(), 0);
    let onward = hub.take(OUTSIDE);
    assert_eq!(onward.len(), 1);
    assert_eq!(onward[0][33], 3, "through tunnel 3");
    assert_eq!(hub.counters().tunnels[0].received, 1);
    assert_eq!(hub.counters().tunnels[3].sent, 1);
}

#[test]
fn congestion_is_carried_out_of_the_tunnel() {
    let mark = |frames: &mut Vec<Vec<u8>>| {
        for frame in frames {
            frame[15] |= 3;
            frame[24..26].fill(0);
            let sum = hawser_net::checksum::of(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
    };
    let with_tos = |tos: u8| {
        let mut frame = udp(0, false, (1, 2), b"x");
        frame[15] = tos;
        frame[24..26].fill(0);
        let sum = hawser_net::checksum::of(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    let (mut a, mut b) = pair(&Plan::default());
    let mut encrypted = a.send(&[with_tos(0xb8 | 2)]);
    assert_eq!(
        encrypted[0][15],
        0xb8 | 2,
        "DSCP and ECN copied to the outer header"
    );
    mark(&mut encrypted);
    let out = b.receive(&encrypted);
    assert_eq!(out[0][15], 0xb8 | 3);
    assert_eq!(hawser_net::checksum::of(&out[0][14..34]), 0);

    let mut encrypted = a.send(&[with_tos(0)]);
    mark(&mut encrypted);
    assert_eq!(
        b.receive(&encrypted).len(),
        0,
        "RFC 6040: the inner transport cannot hear it"
    );
    assert_eq!(b.drops(), [(DropReason::EcnNotCapable, 1)]);
}

#[test]
fn vlans_look_in_their_own_table() {
    let (mut a, mut b) = pair(&Plan::default());
    let vlan = Some(100);
    let guests = TableId(1);
    a.apply(vec![
        Update::PutAttachment(Attachment {
            port: INSIDE,
            vlan,
            table: guests,
        }),
        Update::PutRoutes {
            table: guests,
            routes: vec![Route {
                prefix: net("10.1.0.0/16"),
                next_hop: NextHop::Tunnel(TunnelId(1)),
            }],
        },
    ])
    .unwrap();
    let tag = |frame: &[u8], vlan: u16| {
        let mut tagged = frame[..12].to_vec();
        tagged.extend([0x81, 0x00]);
        tagged.extend(vlan.to_be_bytes());
        tagged.extend(&frame[12..]);
        tagged
    };
    let plain = udp(0, false, (1, 2), b"x");
    let encrypted = a.send(&[tag(&plain, 100), tag(&plain, 200)]);
    assert_eq!(encrypted.len(), 1);
    assert_eq!(encrypted[0][33], 1, "the guests' table leads to tunnel 1");
    assert_eq!(
        a.drops(),
        [(DropReason::NoRoute, 1)],
        "VLAN 200 is not attached"
    );
    // And out of the tunnel into a VLAN.
    let neighbour = Neighbour {
        port: INSIDE,
        vlan,
        address: [10, 1, 0, 1].into(),
        mac: [6; 6],
    };
    let hop = NextHop::Inside {
        port: INSIDE,
        vlan,
        gateway: None,
    };
    b.apply(vec![
        Update::PutNeighbours(vec![neighbour]),
        Update::PutRoutes {
            table: TableId::MAIN,
            routes: vec![Route {
                prefix: net("10.1.0.0/16"),
                next_hop: hop,
            }],
        },
    ])
    .unwrap();
    let out = b.receive(&encrypted);
    assert_eq!(
        out[0][..18],
        [6, 6, 6, 6, 6, 6, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 100, 8, 0]
    );
}
