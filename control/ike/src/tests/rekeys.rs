//! Lifetimes: who rekeys when, and what if it does not work.

use std::time::Duration;

use super::world::{ID, World, pair};
use crate::{Connection, Lifetime, RekeyReason, State, testing::TestRandom};

const SECOND: Duration = Duration::from_secs(1);

fn lifetimes(c: &mut Connection, ike: u32, child: u32) {
    let of = |rekey: u32| Lifetime {
        rekey_after: rekey * SECOND,
        jitter_percent: 10,
        hard: 2 * rekey * SECOND,
    };
    c.lifetime = of(ike);
    c.children[0].lifetime = of(child);
}

#[test]
fn the_defaults_rekey_before_aws_does() {
    let (a, mut b) = pair();
    // AWS may begin 3,060 s after a child and 28,260 s after an IKE SA was made.
    lifetimes(&mut b, 28_260, 3_060);
    let mut world = World::up(400, a, b);
    world.lossless = true;
    world.run(30_000 * SECOND);
    world.expect_up();
    let (ours, theirs) = (world.status(0).counters, world.status(1).counters);
    assert_eq!(ours.ike_rekeys, 1);
    assert!(
        (11..=13).contains(&ours.child_rekeys),
        "{}",
        ours.child_rekeys
    );
    assert_eq!(theirs.child_rekeys, ours.child_rekeys);
    assert_eq!(
        world.nodes[0].stopped_sending + world.nodes[1].stopped_sending,
        0
    );
    assert!(world.nodes[0].failures.is_empty());
}

#[test]
fn both_sides_rekeying_all_the_time_lose_nothing() {
    for seed in 401..404 {
        let (mut a, mut b) = pair();
        lifetimes(&mut a, 31, 3);
        lifetimes(&mut b, 29, 3);
        let mut world = World::up(seed, a, b);
        world.lossless = true;
        world.run(600 * SECOND);
        assert_eq!(
            world.nodes[0].stopped_sending + world.nodes[1].stopped_sending,
            0
        );
        assert_eq!(world.status(0).ike, State::Established);
        let rekeys = world.status(0).counters.child_rekeys;
        assert!(rekeys >= 150, "{rekeys}");
        for node in &world.nodes {
            assert!(node.failures.is_empty(), "{:?}", node.failures);
            assert!(node.inbound.len() <= 4 && node.endpoint.sas.len() <= 3);
        }
    }
}

#[test]
fn a_bad_network_loses_no_sa() {
    for seed in 410..422u64 {
        let (mut a, mut b) = pair();
        for c in [&mut a, &mut b] {
            lifetimes(c, 50, 7);
            c.children[0].lifetime.hard = 40 * SECOND;
        }
        let mut world = World::up(seed, a, b);
        let mut random = TestRandom::new(seed);
        // One in eight is lost, one in eight doubled, all are late by up to 300 ms.
        world.fate = Some(Box::new(move |_| {
            let n = random.next();
            let delay = Duration::from_millis(1 + n % 300);
            match (n >> 32) % 8 {
                0 => vec![],
                1 => vec![delay, delay + Duration::from_millis((n >> 48) % 900)],
                _ => vec![delay],
            }
        }));
        world.lossless = true;
        world.run(400 * SECOND);
        assert_eq!(
            world.nodes[0].stopped_sending + world.nodes[1].stopped_sending,
            0
        );
        world.fate = None;
        world.lossless = true;
        world.run(10 * SECOND);
        assert_eq!(world.status(0).spis, world.status(1).spis);
        assert!(world.status(0).counters.child_rekeys >= 40);
    }
}

#[test]
fn forward_secrecy_is_used_when_configured_and_only_then() {
    for (a_pfs, b_pfs, works) in [
        (true, true, true),
        (false, false, true),
        (true, false, false),
    ] {
        let (mut a, mut b) = pair();
        for (c, pfs) in [(&mut a, a_pfs), (&mut b, b_pfs)] {
            let words = if pfs {
                "aes128gcm16-x25519"
            } else {
                "aes128gcm16"
            };
            c.children[0].proposals = vec![words.parse().expect("good")];
        }
        let mut world = World::up(420, a, b);
        assert_eq!(world.status(0).children[0].pfs, None, "none in IKE_AUTH");
        let spi = world.nodes[0].outbound[&(ID, 0)].spi;
        world.call(0, |e, now| e.rekey_child(now, ID, spi, RekeyReason::Bytes));
        world.run(3 * SECOND);
        world.expect_up();
        assert_eq!(world.status(0).children[0].pfs.is_some(), a_pfs && works);
        assert_eq!(world.nodes[0].outbound[&(ID, 0)].spi != spi, works);
        if !works {
            assert!(
                world.failed(
                    0,
                    "peer accepts none of our proposals in rekeying a child SA"
                ),
                "{:?}",
                world.nodes[0].failures
            );
            assert!(world.failed(1, "no common proposal for the child SA: peer offers"));
        }
    }
}

#[test]
fn another_group_is_tried_when_the_peer_wants_it() {
    let (mut a, mut b) = pair();
    let good = |words: &str| words.parse().expect("good");
    a.children[0].proposals = vec![good("aes128gcm16-x25519-ecp256")];
    b.children[0].proposals = vec![good("aes128gcm16-ecp256")];
    a.proposals = vec!["aes128gcm16-prfsha256-ecp256".parse().expect("good")];
    b.proposals = a.proposals.clone();
    let mut world = World::up(421, a, b);
    let spi = world.nodes[0].inbound.keys().next().copied().expect("one");
    world.call(0, |e, now| {
        e.rekey_child(now, ID, spi, RekeyReason::Sequence)
    });
    world.run(3 * SECOND);
    world.expect_up();
    assert_eq!(world.status(0).children[0].pfs, Some(crate::Group::Ecp256));
    assert!(world.nodes[0].failures.is_empty());
}

#[test]
fn a_child_that_cannot_be_rekeyed_ends_and_is_made_anew() {
    let (mut a, mut b) = pair();
    lifetimes(&mut a, 10_000, 100);
    a.children[0].proposals = vec!["aes128gcm16-x25519".parse().expect("good")];
    b.children[0].proposals = vec!["aes128gcm16-ecp256".parse().expect("good")];
    let mut world = World::up(422, a, b);
    world.run(190 * SECOND);
    world.expect_up();
    assert!(
        world.failed(
            0,
            "peer accepts none of our proposals in rekeying a child SA"
        ),
        "{:?}",
        world.nodes[0].failures
    );
    world.run(15 * SECOND);
    assert!(world.failed(
        0,
        "a child SA reached its lifetime before it could be rekeyed"
    ));
    assert_eq!(world.status(0).ike, State::Established);
}

#[test]
fn an_ike_sa_that_cannot_be_rekeyed_ends_and_is_made_anew() {
    let (mut a, b) = pair();
    lifetimes(&mut a, 100, 10_000);
    let mut world = World::up(423, a, b);
    let before = world.status(0).spis;
    // The peer refuses all rekeying: its requests never get through.
    world.fate = Some(Box::new(|p| {
        let exchange = hawser_ike_wire::Header::parse(&p.bytes).map(|h| h.exchange);
        if exchange == Ok(hawser_ike_wire::ExchangeType::CreateChildSa) {
            vec![]
        } else {
            vec![Duration::from_millis(10)]
        }
    }));
    world.run(205 * SECOND);
    world.expect_up();
    assert_ne!(world.status(0).spis, before);
}

#[test]
fn a_rekeyed_child_drains_before_it_goes() {
    let (a, b) = pair();
    let mut world = World::up(424, a, b);
    let spi = world.nodes[0].outbound[&(ID, 0)].spi;
    world.call(0, |e, now| {
        e.rekey_child(now, ID, spi, RekeyReason::Packets)
    });
    world.run(SECOND);
    assert_eq!(world.nodes[0].inbound.len(), 2);
    assert_eq!(world.nodes[1].inbound.len(), 2);
    assert_ne!(world.nodes[0].outbound[&(ID, 0)].spi, spi);
    world.run(2 * SECOND);
    world.expect_up();
    // What is rekeyed already is not rekeyed again for the same SPI.
    let rekeys = world.status(0).counters.child_rekeys;
    world.call(0, |e, now| {
        e.rekey_child(now, ID, spi, RekeyReason::Packets)
    });
    world.run(SECOND);
    assert_eq!(world.status(0).counters.child_rekeys, rekeys);
}

#[test]
fn many_tunnels_do_not_rekey_at_once() {
    let (a, b) = pair();
    let mut soonest = Duration::MAX;
    let mut latest = Duration::ZERO;
    for seed in 430..470 {
        let world = World::up(seed, a.clone(), b.clone());
        let left = world.status(0).children[0].rekey_in.expect("a lifetime");
        soonest = soonest.min(left);
        latest = latest.max(left);
    }
    assert!(latest <= 2_700 * SECOND && soonest >= 2_429 * SECOND);
    assert!(
        latest - soonest > 150 * SECOND,
        "spread over {:?}",
        latest - soonest
    );
}
