//! What a router does with packets that cannot simply go on.

use std::net::IpAddr;

use hawser_aead::Suite;
use hawser_api::*;
use hawser_dataplane::harness::*;

/// The IPv4 or IPv6 packet in a frame.
fn ip(frame: &[u8]) -> &[u8] {
    &frame[14..]
}

fn big(df: bool) -> Vec<u8> {
    let payload: Vec<u8> = (0..1480u32).map(|n| n as u8).collect();
    ipv4([10, 0, 0, 1], [10, 1, 0, 1], 17, &payload, df)
}

#[test]
fn too_large_with_df_is_answered_with_the_mtu() {
    let (mut a, _) = pair(&Plan::default());
    assert_eq!(a.send(&[big(true)]).len(), 0);
    assert_eq!(a.drops(), [(DropReason::PacketTooBig, 1)]);
    let answer = a.take(INSIDE);
    assert_eq!(answer.len(), 1);
    let ip = ip(&answer[0]);
    assert_eq!(
        &answer[0][..6],
        &[2, 0, 0, 0, 0, 99],
        "to the sender's Ethernet address"
    );
    assert_eq!(
        (&ip[12..16], &ip[16..20]),
        (&[10, 0, 255, 254][..], &[10, 0, 0, 1][..])
    );
    assert_eq!(&ip[20..22], &[3, 4], "fragmentation needed");
    assert_eq!(
        u16::from_be_bytes([ip[26], ip[27]]),
        1446,
        "AES-GCM over IPv4 at 1500"
    );
    assert_eq!(
        &ip[28 + 12..28 + 20],
        &[10, 0, 0, 1, 10, 1, 0, 1],
        "quotes the packet"
    );
    assert_eq!(a.counters().icmp_sent, 1);
}

#[test]
fn too_large_ipv6_is_answered_with_packet_too_big() {
    let (mut a, _) = pair(&Plan::default());
    assert_eq!(a.send(&[udp(0, true, (1, 2), &[0; 1450])]).len(), 0);
    let answer = a.take(INSIDE);
    assert_eq!(answer.len(), 1);
    let ip = ip(&answer[0]);
    assert_eq!((ip[6], ip[40], ip[41]), (58, 2, 0));
    assert_eq!(u32::from_be_bytes(ip[44..48].try_into().unwrap()), 1446);
}

#[test]
fn too_large_without_df_is_fragmented_before_encryption() {
    for (plan, df) in [
        (Plan::default(), false),
        (
            Plan {
                clear_inner_df: true,
                ..Plan::default()
            },
            true,
        ),
        (
            Plan {
                suite: Suite::Aes256CbcSha512_256,
                udp: true,
                ..Plan::default()
            },
            false,
        ),
    ] {
        let (mut a, mut b) = pair(&plan);
        let sent = big(df);
        let encrypted = a.send(std::slice::from_ref(&sent));
        assert!(
            encrypted.iter().all(|frame| frame.len() - 14 <= 1500),
            "outer fits the MTU"
        );
        let pieces = b.receive(&encrypted);
        assert_eq!(pieces.len(), 2);
        assert_eq!((a.drops(), b.drops()), (vec![], vec![]));
        let mut whole = vec![0; 1480];
        for piece in &pieces {
            let ip = ip(piece);
            assert_eq!(hawser_net::checksum::of(&ip[..20]), 0, "header checksum");
            let offset = usize::from(u16::from_be_bytes([ip[6] & 0x1f, ip[7]])) * 8;
            whole[offset..offset + ip.len() - 20].copy_from_slice(&ip[20..]);
        }
        assert_eq!(whole, sent[34..], "{plan:?}");
    }
}

#[test]
fn fragments_of_a_datagram_share_a_tunnel() {
    let (mut a, _) = pair(&Plan {
        tunnels: 16,
        ..Plan::default()
    });
    for id in 0..50u16 {
        let mut packets = Vec::new();
        for (offset, more) in [(0u16, true), (2, true), (4, false)] {
            let mut frame = ipv4([10, 0, 0, 1], [10, 1, 0, 1], 17, &[id as u8; 16], false);
            frame[18..20].copy_from_slice(&id.to_be_bytes());
            let flags = offset | if more { 0x2000 } else { 0 };
            frame[20..22].copy_from_slice(&flags.to_be_bytes());
            frame[24..26].fill(0);
            let sum = hawser_net::checksum::of(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
            packets.push(frame);
        }
        let tunnels: Vec<u8> = a.send(&packets).iter().map(|frame| frame[33]).collect();
        assert_eq!(tunnels.len(), 3);
        assert!(tunnels.iter().all(|t| *t == tunnels[0]), "{tunnels:?}");
    }
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

/// A TCP SYN with an MSS option of 1460.
fn syn(from: u8) -> Vec<u8> {
    let mut tcp = vec![0; 24];
    tcp[..4].copy_from_slice(&[0x30, 0x39, 0, 80]);
    tcp[12] = 6 << 4;
    tcp[13] = 2;
    tcp[20..24].copy_from_slice(&[2, 4, 0x05, 0xb4]);
    let (source, target) = ([10, from, 0, 1], [10, 1 - from, 0, 1]);
    let mut pseudo: Vec<u8> = [source, target].concat();
    pseudo.extend([0, 6, 0, 24]);
    pseudo.extend(&tcp);
    let sum = hawser_net::checksum::of(&pseudo);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    ipv4(source, target, 6, &tcp, true)
}

#[test]
fn mss_is_clamped_on_the_way_out_and_on_the_way_in() {
    // Side A has the smaller MTU; the SYN of B is not touched by B, so A must do it on arrival.
    let small = Plan {
        outside_mtu: 1400,
        ..Plan::default()
    };
    let mut a = Gateway::new(0, &small);
    let mut b = Gateway::new(1, &Plan::default());
    let mss = |frame: &[u8]| u16::from_be_bytes([frame[56], frame[57]]);
    let checked = |frame: &[u8]| {
        let mut pseudo = frame[26..34].to_vec();
        pseudo.extend([0, 6, 0, 24]);
        pseudo.extend(&frame[34..58]);
        assert_eq!(hawser_net::checksum::of(&pseudo), 0, "TCP checksum");
    };
    let out = b.receive(&a.send(&[syn(0)]));
    assert_eq!(
        mss(&out[0]),
        1346 - 40,
        "1400 - 20 - 8 - 8 - 16 - 2, rounded to the block"
    );
    checked(&out[0]);
    let back = a.receive(&b.send(&[syn(1)]));
    assert_eq!(mss(&back[0]), 1346 - 40);
    checked(&back[0]);
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

#[test]
fn selectors_are_enforced_both_ways() {
    let (mut a, mut b) = pair(&Plan {
        tunnels: 1,
        ..Plan::default()
    });
    let host = |last| {
        let address = IpAddr::from([10, 0, 0, last]);
        let any = TrafficSelector {
            addresses: ([0, 0, 0, 0].into(), [255, 255, 255, 255].into()),
            protocol: 17,
            ports: (0, 65535),
        };
        (
            TrafficSelector {
                addresses: (address, address),
                ..any
            },
            any,
        )
    };
    let (only, any) = host(2);
    let outbound = OutboundSa {
        tunnel: TunnelId(0),
        spi: spi(1, 0),
        suite: a.plan.suite,
        key: key(a.plan.suite, 0, 0),
        esn: false,
        selectors: Selectors {
            local: vec![only],
            remote: vec![any],
        },
    };
    let plain = udp(0, false, (1, 2), b"x");
    let encrypted = a.send(std::slice::from_ref(&plain));
    a.apply(vec![Update::PutOutboundSa(outbound)]).unwrap();
    assert_eq!(a.send(&[plain]).len(), 0);
    assert_eq!(a.drops(), [(DropReason::SelectorMismatchOut, 1)]);

    let inbound = InboundSa {
        tunnel: TunnelId(0),
        spi: spi(1, 0),
        suite: b.plan.suite,
        key: key(b.plan.suite, 0, 0),
        esn: false,
        replay_window: 64,
        selectors: Selectors {
            local: vec![any],
            remote: vec![only],
        },
    };
    b.apply(vec![Update::PutInboundSa(inbound)]).unwrap();
    assert_eq!(b.receive(&encrypted).len(), 0);
    assert_eq!(b.drops(), [(DropReason::SelectorMismatchIn, 1)]);
}

#[test]
fn a_used_up_sa_sends_no_more() {
    let (mut a, mut b) = pair(&Plan {
        tunnels: 1,
        ..Plan::default()
    });
    let sa = a.model.outbound().next().unwrap().clone();
    sa.key.set_limit(5);
    let packets: Vec<_> = (0..5u16).map(|n| udp(0, false, (n, 2), b"x")).collect();
    let sent = a.send(&packets);
    assert_eq!(sent.len(), 5);
    assert_eq!(a.send(&packets[..1]).len(), 0);
    assert_eq!(a.drops(), [(DropReason::SequenceExhausted, 1)]);
    assert_eq!(b.receive(&sent).len(), 5);
}

#[test]
fn a_refused_transaction_changes_nothing() {
    let (mut a, mut b) = pair(&Plan::default());
    let generation = a.model.generation();
    let bad_sa = InboundSa {
        tunnel: TunnelId(1),
        spi: spi(0, 0),
        suite: Suite::Aes128Gcm16,
        key: key(Suite::Aes128Gcm16, 1, 1),
        esn: false,
        replay_window: 64,
        selectors: Selectors::default(),
    };
    let short_key = InboundSa {
        spi: Spi(0x9999),
        key: Secret::new(vec![1; 19]),
        ..bad_sa.clone()
    };
    let reserved = InboundSa {
        spi: Spi(255),
        ..bad_sa.clone()
    };
    let window = InboundSa {
        spi: Spi(0x9999),
        replay_window: 63,
        ..bad_sa.clone()
    };
    let bad_route = Update::PutRoutes {
        table: TableId::MAIN,
        routes: vec![Route {
            prefix: net("10.7.0.0/16"),
            next_hop: NextHop::Tunnel(TunnelId(99)),
        }],
    };
    for (bad, says) in [
        (Update::PutInboundSa(bad_sa), "used by two tunnels"),
        (Update::PutInboundSa(short_key), "SPI 0x00009999"),
        (Update::PutInboundSa(reserved), "reserved"),
        (Update::PutInboundSa(window), "replay window"),
        (bad_route, "tunnel 99"),
    ] {
        let refusal = a
            .apply(vec![Update::RemoveTunnel(TunnelId(3)), bad])
            .unwrap_err();
        assert!(refusal.to_string().contains(says), "{refusal}");
    }
    assert_eq!(a.model.generation(), generation);
    let flows: Vec<_> = (0..64u16).map(|n| udp(0, false, (n, 2), b"x")).collect();
    assert_eq!(b.receive(&a.send(&flows)).len(), 64);
    assert!(a.counters().tunnels[3].sent > 0, "tunnel 3 is still there");
}

#[test]
fn taking_over_keeps_what_is_the_same() {
    let (mut a, mut b) = pair(&Plan::default());
    let flows: Vec<_> = (0..64u16).map(|n| udp(0, false, (n, 2), b"x")).collect();
    let first = a.send(&flows);
    assert_eq!(b.receive(&first).len(), 64);
    // A new control says everything again, but for tunnel 3.
    for gateway in [&mut a, &mut b] {
        gateway.plan.tunnels = 3;
        let mut updates = vec![Update::ReplaceAll];
        updates.extend(gateway.updates());
        gateway.apply(updates).unwrap();
    }
    assert_eq!(
        b.receive(&first).len(),
        0,
        "the replay windows are those of before"
    );
    let duplicates = b.counters().all_drops().get(DropReason::ReplayDuplicate);
    let unknown = b.counters().all_drops().get(DropReason::UnknownSpi);
    assert_eq!(duplicates + unknown, 64);
    assert!(unknown > 0, "tunnel 3 is gone");
    assert_eq!(
        b.receive(&a.send(&flows)).len(),
        64,
        "sequence numbers go on"
    );
}

#[test]
fn a_peer_behind_a_nat_may_move() {
    let (mut a, mut b) = pair(&Plan {
        tunnels: 1,
        udp: true,
        ..Plan::default()
    });
    let mut encrypted = a.send(&[udp(0, false, (1, 2), b"x")]);
    encrypted[0][34..36].copy_from_slice(&1234u16.to_be_bytes());
    assert_eq!(b.receive(&encrypted).len(), 1);
    let address = outer(0, 0, false);
    assert_eq!(
        b.out.events,
        [Event::PeerMoved {
            tunnel: TunnelId(0),
            address,
            port: 1234
        }]
    );
    // A forged packet moves nobody.
    b.out.events.clear();
    b.now += 2_000_000_000;
    let mut forged = a.send(&[udp(0, false, (1, 2), b"x")]);
    forged[0][34..36].copy_from_slice(&4321u16.to_be_bytes());
    *forged[0].last_mut().unwrap() ^= 1;
    assert_eq!(b.receive(&forged).len(), 0);
    assert_eq!(b.out.events, []);
}

#[test]
fn esp_that_cannot_be_is_counted_by_reason() {
    let (mut a, mut b) = pair(&Plan {
        tunnels: 1,
        ..Plan::default()
    });
    let good = a.send(&[udp(0, false, (1, 2), b"x")]).remove(0);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = good.clone();
        change(&mut frame);
        let total = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        frame[24..26].fill(0);
        let sum = hawser_net::checksum::of(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    let cases = [
        (with(&|f| f.truncate(34 + 7)), DropReason::EspMalformed),
        (with(&|f| f.truncate(34 + 20)), DropReason::EspMalformed),
        (with(&|f| f[20] = 0x20), DropReason::OuterFragment),
        (with(&|f| f[34] = 0xee), DropReason::UnknownSpi),
        (with(&|f| f[29] = 99), DropReason::WrongOuterAddress),
        (with(&|f| f[33] = 99), DropReason::WrongOuterAddress),
        (with(&|f| f[38..42].fill(0)), DropReason::BadSequence),
        (with(&|f| f[50] ^= 0x80), DropReason::AuthenticationFailed),
        (good[..20].to_vec(), DropReason::Truncated),
        (with(&|f| f[14] = 0x43), DropReason::BadIpHeader),
    ];
    for (frame, reason) in cases {
        let before = b.counters().all_drops().get(reason);
        let total = b.counters().all_drops().total();
        assert_eq!(b.receive(&[frame]).len(), 0, "{reason}");
        assert_eq!(
            b.counters().all_drops().get(reason),
            before + 1,
            "{reason}: {:?}",
            b.drops()
        );
        assert_eq!(b.counters().all_drops().total(), total + 1, "{reason}");
    }
    assert_eq!(b.receive(&[good]).len(), 1, "the good one still passes");
}

#[test]
fn out_of_frames_is_counted_and_passes() {
    let plan = Plan {
        frames: 64,
        tunnels: 1,
        ..Plan::default()
    };
    let (mut a, mut b) = pair(&plan);
    let mut hoard = Vec::new();
    let input = {
        let mut frame = a.pipeline.pool().take().unwrap();
        assert!(frame.set(&big(false)));
        frame
    };
    while let Some(frame) = a.pipeline.pool().take() {
        hoard.push(frame);
    }
    // Two fragments are needed and no frame is there.
    a.pipeline
        .from_port(INSIDE, vec![input].into_iter(), 5, &mut a.out);
    assert_eq!(a.drops(), [(DropReason::FragmentationFailed, 1)]);
    a.pipeline.pool().give_all(hoard);
    assert_eq!(b.receive(&a.send(&[big(false)])).len(), 2);
}
