//! Peers that die, return, forget, or come twice.

use std::time::Duration;

use super::world::{ID, World, connection, pair};
use crate::{DpdAction, Path, Startup, State};

const SECOND: Duration = Duration::from_secs(1);

fn cut(world: &mut World) {
    world.fate = Some(Box::new(|_| vec![]));
}

#[test]
fn a_quiet_peer_is_asked_and_a_dead_one_noticed_in_time() {
    for action in [DpdAction::Clear, DpdAction::Restart] {
        let (mut a, mut b) = pair();
        a.dpd.action = action;
        b.dpd.action = DpdAction::Clear;
        let mut world = World::up(100, a, b);
        world.run(25 * SECOND);
        let asked = world.status(0).counters.dpd_sent;
        assert!((1..=3).contains(&asked), "asked {asked} times");
        cut(&mut world);
        world.run(41 * SECOND);
        assert!(
            world.failed(0, "peer is dead: nothing heard from it for 40 s"),
            "{:?}",
            world.nodes[0].failures
        );
        assert!(world.nodes[0].inbound.is_empty() && world.nodes[0].outbound.is_empty());
        let state = world.status(0).ike;
        assert_eq!(state == State::Negotiating, action == DpdAction::Restart);
        assert_eq!(world.status(0).counters.dpd_failed, 1);
        world.fate = None;
        world.run(3 * SECOND);
        if action == DpdAction::Restart {
            world.expect_up();
        } else {
            world.expect_down(0);
        }
    }
}

#[test]
fn nobody_is_asked_without_dead_peer_detection() {
    let (mut a, mut b) = pair();
    a.dpd.action = DpdAction::None;
    b.dpd.action = DpdAction::None;
    let mut world = World::up(101, a, b);
    let sent = world.sent;
    cut(&mut world);
    world.run(600 * SECOND);
    assert_eq!(world.sent, sent);
    assert_eq!(world.status(0).ike, State::Established);
}

#[test]
fn traffic_is_a_sign_of_life() {
    let (a, mut b) = pair();
    b.dpd.action = DpdAction::None;
    let mut world = World::up(102, a, b);
    for _ in 0..20 {
        world.run(5 * SECOND);
        world.call(0, |e, now| e.activity(now, ID, now));
    }
    assert_eq!(world.status(0).counters.dpd_sent, 0);
    world.run(11 * SECOND);
    assert_eq!(world.status(0).counters.dpd_sent, 1);
}

#[test]
fn a_restarted_initiator_replaces_what_it_had() {
    let (a, b) = pair();
    let mut world = World::up(103, a.clone(), b);
    world.run(5 * SECOND);
    world.restart(0, 777, vec![a]);
    world.run(3 * SECOND);
    world.expect_up();
}

#[test]
fn a_restarted_responder_is_back_within_three_seconds() {
    for (seed, away) in [(104, 1u32), (105, 7), (106, 20), (107, 33)] {
        let (a, b) = pair();
        let mut world = World::up(seed, a, b.clone());
        cut(&mut world);
        world.restart(1, 888, Vec::new());
        world.run(away * SECOND);
        world.fate = None;
        world.configure(1, vec![b.clone()]);
        // ESP that arrives at the new process makes it say that it does not know the SPI.
        let outbound = world.nodes[0].outbound.values().next().cloned();
        if let Some(outbound) = outbound {
            let path = Path {
                local: "192.0.2.2:500".parse().expect("good"),
                remote: "192.0.2.1:0".parse().expect("good"),
            };
            world.call(1, |e, now| e.unknown_spi(now, outbound.spi, path));
        }
        world.run(3 * SECOND);
        world.expect_up();
        assert!(world.nodes[0].endpoint.counters().hints >= 1);
    }
}

#[test]
fn a_forged_hint_changes_nothing() {
    let (a, b) = pair();
    let mut world = World::up(108, a, b);
    let before = world.status(0).spis;
    let outbound = world.nodes[0]
        .outbound
        .values()
        .next()
        .cloned()
        .expect("up");
    // Somebody in the peer's name says that it does not know our SPI.
    let mut forger = World::new(109, 2);
    forger.hold = true;
    forger.configure(1, vec![connection(2, 1)]);
    forger.held[1].clear();
    let path = Path {
        local: "192.0.2.2:500".parse().expect("good"),
        remote: "192.0.2.1:500".parse().expect("good"),
    };
    forger.configure(
        1,
        vec![{
            let mut c = connection(2, 1);
            c.startup = Startup::Add;
            c
        }],
    );
    forger.held[1].clear();
    forger.call(1, |e, now| e.unknown_spi(now, outbound.spi, path));
    let hint = forger.held[1].pop_back().expect("a hint");
    for _ in 0..50 {
        world.deliver(&hint);
    }
    assert_eq!(world.nodes[0].endpoint.counters().hints, 50);
    assert!(
        world.status(0).counters.initiations <= 2,
        "one attempt beside the SA"
    );
    world.run(20 * SECOND);
    world.expect_up();
    // The attempt was real and the peer agreed to it: it is asked once, not fifty times.
    assert_ne!(world.status(0).spis, before);
}

#[test]
fn both_sides_initiating_at_once_end_with_one_tunnel() {
    for (seed, delay_b) in [
        (110, 10u64),
        (111, 30),
        (112, 1),
        (113, 60),
        (114, 25),
        (115, 19),
    ] {
        let (a, mut b) = pair();
        b.startup = Startup::Start;
        let mut world = World::new(seed, 2);
        world.lossless = true;
        world.fate = Some(Box::new(move |p| {
            let delay = if p.from == 0 { 10 } else { delay_b };
            vec![Duration::from_millis(delay)]
        }));
        world.configure(1, vec![b]);
        world.configure(0, vec![a]);
        world.run(30 * SECOND);
        world.expect_up();
    }
}

#[test]
fn a_side_that_starts_a_little_later_loses_nothing() {
    // The first requests of the side that was first find nobody, and come again while, or after,
    // the other side's tunnel is made. From the moment that a side sends, the other receives.
    for later in (0..1500).step_by(10) {
        let (a, mut b) = pair();
        b.startup = Startup::Start;
        let mut world = World::new(6_000 + later, 2);
        world.lossless = true;
        world.delay = Duration::from_millis(3);
        world.configure(1, vec![b]);
        world.run(Duration::from_millis(later));
        world.configure(0, vec![a]);
        world.run(Duration::from_millis(700));
        world.expect_traffic();
        world.run(30 * SECOND);
        world.expect_up();
        let stopped = world.nodes.iter().map(|n| n.stopped_sending);
        assert_eq!(stopped.sum::<usize>(), 0, "{later} ms");
    }
}

#[test]
fn of_two_made_at_once_the_one_with_initial_contact_stays() {
    // A's IKE_AUTH is long under way. A peer that does not decide by nonces takes its own SA away
    // when it comes at last.
    for seed in 0..8 {
        let (a, mut b) = pair();
        b.startup = Startup::Start;
        let mut world = World::new(8_000 + seed, 2);
        world.lossless = true;
        world.hold = true;
        world.configure(1, vec![b]);
        world.configure(0, vec![a]);
        let take =
            |world: &mut World, from: usize| world.held[from].pop_front().expect("a message");
        let theirs = take(&mut world, 1);
        let ours = take(&mut world, 0);
        world.deliver(&ours);
        let answer = take(&mut world, 1);
        world.deliver(&answer);
        let late = take(&mut world, 0);
        world.deliver(&theirs);
        for from in [0, 1, 0, 0, 1] {
            let next = take(&mut world, from);
            world.deliver(&next);
        }
        assert_eq!(world.status(0).counters.established, 1);
        world.held[0].push_back(late);
        world.release();
        world.run(30 * SECOND);
        world.expect_up();
        assert_eq!(world.status(0).counters.established, 2);
        assert_eq!(world.status(0).initiator, Some(true), "seed {seed}");
    }
}

#[test]
fn both_sides_initiating_over_a_bad_network_lose_nothing() {
    for seed in 0..200u64 {
        let (a, mut b) = pair();
        b.startup = Startup::Start;
        let mut world = World::new(7_000 + seed, 2);
        world.lossless = true;
        let mut random = crate::testing::TestRandom::new(seed);
        world.fate = Some(Box::new(move |_| {
            let mut octets = [0; 3];
            hawser_ike_crypto::Random::fill(&mut random, &mut octets);
            let delay = |octet: u8| Duration::from_millis(u64::from(octet % 40));
            match octets[0] {
                0..50 => vec![],
                50..100 => vec![delay(octets[1]), delay(octets[2])],
                _ => vec![delay(octets[1])],
            }
        }));
        // What comes within this time is handled together, as a daemon does.
        world.burst = Duration::from_millis(seed % 4 * 5);
        world.configure(1, vec![b]);
        world.run(Duration::from_millis(seed % 50 * 15));
        world.configure(0, vec![a]);
        world.run(60 * SECOND);
        world.fate = None;
        world.run(30 * SECOND);
        world.expect_up();
    }
}

#[test]
fn an_initiator_without_initial_contact_leaves_no_second_tunnel_for_long() {
    // The peer lost its SA, but says nothing: its new SA is used at once, the old one goes.
    let (a, b) = pair();
    let mut world = World::up(116, a.clone(), b);
    let old = world.status(1).spis;
    world.restart(0, 999, vec![]);
    let mut c = a;
    c.startup = Startup::Add;
    world.configure(0, vec![c]);
    world.call(0, |e, now| e.initiate(now, ID));
    world.run(30 * SECOND);
    world.expect_up();
    assert_ne!(world.status(1).spis, old);
}

#[test]
fn refused_attempts_come_slower_and_slower() {
    let (mut a, b) = pair();
    a.auth = crate::Auth::Psk(hawser_api::Secret::new(b"wrong".to_vec()));
    let mut world = World::new(117, 2);
    world.configure(1, vec![b]);
    world.configure(0, vec![a]);
    world.run(100 * SECOND);
    let attempts = world.status(0).counters.initiations;
    assert!(
        (6..=8).contains(&attempts),
        "1+2+4+8+16+30+30 s: {attempts}"
    );
}

#[test]
fn reauthentication_makes_the_new_tunnel_first() {
    let (mut a, b) = pair();
    a.reauthenticate = Some(60 * SECOND);
    let mut world = World::up(118, a, b);
    let first = world.status(0).spis;
    world.lossless = true;
    world.run(80 * SECOND);
    world.expect_up();
    assert_ne!(world.status(0).spis, first);
    assert_eq!(
        world.nodes[0].stopped_sending + world.nodes[1].stopped_sending,
        0
    );
}

#[test]
fn tunnels_on_traffic_wait_for_it_and_do_not_come_back_on_their_own() {
    let (mut a, b) = pair();
    a.startup = Startup::Trap;
    let mut world = World::new(119, 2);
    world.configure(1, vec![b]);
    world.configure(0, vec![a]);
    world.run(60 * SECOND);
    assert_eq!(world.sent, 0);
    world.call(0, |e, now| e.initiate(now, ID));
    world.run(SECOND);
    world.expect_up();
    world.call(1, |e, now| e.close(now, ID));
    world.run(60 * SECOND);
    world.expect_down(0);
}
