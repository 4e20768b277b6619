//! What an SA lets through, and how SAs come, stay and go.

use std::net::IpAddr;

use hawser_aead::Suite;
use hawser_api::*;
use hawser_dataplane::harness::*;

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
        transient: false,
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
        transient: false,
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
        transient: false,
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
fn sas_whose_keys_control_does_not_know_are_kept() {
    let (mut a, mut b) = pair(&Plan {
        tunnels: 2,
        ..Plan::default()
    });
    let flows: Vec<_> = (0..64).map(|n| udp(0, false, (n, 2), b"x")).collect();
    assert_eq!(b.receive(&a.send(&flows)).len(), 64);
    for gateway in [&mut a, &mut b] {
        let mut updates = vec![Update::ReplaceAll, Update::KeepSas(TunnelId(0))];
        let is_sa = |u: &Update| matches!(u, Update::PutOutboundSa(_) | Update::PutInboundSa(_));
        updates.extend(gateway.updates().into_iter().filter(|u| !is_sa(u)));
        gateway.apply(updates).unwrap();
    }
    // All flows are in the tunnel that still has SAs; the other one's are gone.
    let encrypted = a.send(&flows);
    assert_eq!(b.receive(&encrypted).len(), 64);
    assert_eq!(b.receive(&encrypted).len(), 0, "the replay window is kept");
    let duplicates = b.counters().all_drops().get(DropReason::ReplayDuplicate);
    assert_eq!(duplicates, 64);
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
