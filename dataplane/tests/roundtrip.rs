//! What goes into one gateway comes out of the other, unchanged but for what a router changes.

use hawser_aead::Suite;
use hawser_api::*;
use hawser_dataplane::harness::*;

/// The packet as the far gateway hands it to its site: new Ethernet header, TTL two lower.
fn delivered(sent: &[u8], to: u8) -> Vec<u8> {
    let mut packet = sent.to_vec();
    packet[..6].copy_from_slice(&[2, 0, 0, 0, to, 99]);
    packet[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    if packet[12] == 0x08 {
        packet[22] -= 2;
        packet[24..26].fill(0);
        let sum = hawser_net::checksum::of(&packet[14..34]);
        packet[24..26].copy_from_slice(&sum.to_be_bytes());
    } else {
        packet[21] -= 2;
    }
    packet
}

#[test]
fn every_suite_family_and_encapsulation() {
    for suite in Suite::ALL {
        for mode in 0..8 {
            let plan = Plan {
                suite,
                esn: mode & 1 != 0,
                udp: mode & 2 != 0,
                outer_v6: mode & 4 != 0,
                ..Plan::default()
            };
            let (mut a, mut b) = pair(&plan);
            for v6 in [false, true] {
                let sent: Vec<_> = (0..150usize)
                    .map(|n| udp(0, v6, (1000 + n as u16, 53), &vec![n as u8; n * 9]))
                    .collect();
                let encrypted = a.send(&sent);
                assert_eq!(encrypted.len(), sent.len(), "{plan:?} {:?}", a.drops());
                let mut got = b.receive(&encrypted);
                assert_eq!(b.drops(), [], "{plan:?}");
                let mut expected: Vec<_> = sent.iter().map(|s| delivered(s, 1)).collect();
                got.sort();
                expected.sort();
                assert_eq!(got, expected, "{plan:?}");
            }
        }
    }
}

#[test]
fn flows_keep_their_order_and_their_tunnel() {
    let (mut a, mut b) = pair(&Plan {
        tunnels: 8,
        ..Plan::default()
    });
    let sent: Vec<_> = (0..640u32)
        .map(|n| udp(0, false, (1000 + (n % 32) as u16, 53), &n.to_be_bytes()))
        .collect();
    let got = b.receive(&a.send(&sent));
    assert_eq!(got.len(), sent.len());
    let mut last = std::collections::HashMap::new();
    for packet in &got {
        let port = u16::from_be_bytes([packet[34], packet[35]]);
        let n = u32::from_be_bytes(packet[42..46].try_into().unwrap());
        assert!(
            last.insert(port, n).is_none_or(|before| before < n),
            "order in a flow"
        );
    }
    let used = b
        .counters()
        .tunnels
        .iter()
        .filter(|t| t.received > 0)
        .count();
    assert!(used >= 6, "32 flows over 8 tunnels use only {used}");
}

#[test]
fn losing_a_tunnel_moves_only_its_flows() {
    let (mut a, _b) = pair(&Plan {
        tunnels: 8,
        ..Plan::default()
    });
    let flows: Vec<_> = (0..512u16)
        .map(|n| udp(0, false, (1000 + n, 53), b"x"))
        .collect();
    let tunnel_of = |frames: &[Vec<u8>]| frames.iter().map(|f| f[33]).collect::<Vec<_>>();
    let before = tunnel_of(&a.send(&flows));
    a.apply(vec![Update::RemoveOutboundSa(TunnelId(3))])
        .unwrap();
    let after = tunnel_of(&a.send(&flows));
    assert_eq!(after.len(), flows.len(), "no packet is lost");
    for (old, new) in before.iter().zip(&after) {
        assert!(
            if *old == 3 { *new != 3 } else { old == new },
            "{old} moved to {new}"
        );
    }
}

#[test]
fn a_replayed_or_forged_packet_is_counted_and_good_ones_pass() {
    let (mut a, mut b) = pair(&Plan {
        tunnels: 1,
        ..Plan::default()
    });
    let encrypted = a.send(&[udp(0, false, (1, 2), b"one"), udp(0, false, (1, 2), b"two")]);
    // The same packet twice in one batch, and a damaged one in front.
    let mut forged = encrypted[1].clone();
    *forged.last_mut().unwrap() ^= 1;
    let batch = [
        forged,
        encrypted[0].clone(),
        encrypted[0].clone(),
        encrypted[1].clone(),
    ];
    assert_eq!(b.receive(&batch).len(), 2);
    assert_eq!(
        b.drops(),
        [
            (DropReason::ReplayDuplicate, 1),
            (DropReason::AuthenticationFailed, 1)
        ]
    );
    assert_eq!(b.receive(&encrypted).len(), 0);
    assert_eq!(b.counters().all_drops().get(DropReason::ReplayDuplicate), 3);
    assert_eq!(b.counters().tunnels[0].received, 2);
}

#[test]
fn a_packet_for_the_host_goes_to_the_host_and_back() {
    let (mut a, mut b) = pair(&Plan::default());
    // From A's host to the inside tunnel address of B: A has no route for it but this one.
    let hop = NextHop::Tunnel(TunnelId(2));
    let routes = vec![Route {
        prefix: net("169.254.1.1/32"),
        next_hop: hop,
    }];
    a.apply(vec![Update::PutRoutes {
        table: TableId::MAIN,
        routes,
    }])
    .unwrap();
    let frame = ipv4(
        [10, 0, 0, 1],
        [169, 254, 1, 1],
        1,
        &[8, 0, 0, 0, 0, 0, 0, 0],
        false,
    );
    let encrypted = a.send(&[frame]);
    assert_eq!(encrypted.len(), 1);
    assert_eq!(b.receive(&encrypted).len(), 0);
    assert_eq!(b.out.host.len(), 1);
    assert_eq!(b.out.host[0].bytes()[16..20], [169, 254, 1, 1]);
    assert_eq!(b.out.host[0].bytes()[8], 63, "not decremented on delivery");
    let mut answer = b.out.host.pop().unwrap();
    let packet = ipv4([169, 254, 1, 1], [10, 0, 0, 1], 1, &[0; 8], false);
    assert!(answer.set(&packet[14..]));
    b.pipeline
        .from_host(vec![answer].into_iter(), 5, &mut b.out);
    let back = b.take(OUTSIDE);
    assert_eq!(back.len(), 1);
    assert_eq!(a.receive(&back).len(), 1);
}

#[test]
fn frames_are_conserved() {
    let (mut a, mut b) = pair(&Plan::default());
    let (free_a, free_b) = (a.pipeline.pool().len(), b.pipeline.pool().len());
    let sent: Vec<_> = (0..300u16)
        .map(|n| udp(0, n % 2 == 0, (n, 53), &[0; 100]))
        .collect();
    b.receive(&a.send(&sent));
    assert_eq!(
        (a.pipeline.pool().len(), b.pipeline.pool().len()),
        (free_a, free_b)
    );
}
