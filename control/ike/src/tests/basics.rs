//! A tunnel comes up and goes down.

use std::time::Duration;

use super::world::{ID, NatBox, World, address, connection, pair};
use crate::{ChildProposal, Group, IkeProposal, NatStatus, Settings, Startup, State};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_tunnel_comes_up_in_two_exchanges() {
    let (a, b) = pair();
    let world = World::up(1, a, b);
    assert_eq!(
        world.sent, 6,
        "two exchanges, and the responder sees that they are complete"
    );
    let status = world.status(0);
    assert_eq!(status.initiator, Some(true));
    assert_eq!(status.nat, NatStatus::None);
    assert_eq!(status.peer_identity.as_deref(), Some("192.0.2.2"));
    assert_eq!(
        status.ike_suite.as_deref(),
        Some("aes256gcm16-prfsha384-x25519")
    );
    assert_eq!(
        status.children[0].outbound,
        world.status(1).children[0].inbound
    );
    assert!(world.nodes[0].failures.is_empty() && world.nodes[1].failures.is_empty());
    let (path, encapsulated) = world.nodes[0].paths[&ID];
    assert_eq!((path.remote.port(), encapsulated), (500, false));
}

#[test]
fn closing_takes_both_sides_down() {
    let (a, b) = pair();
    let mut world = World::up(2, a, b);
    world.call(0, |e, now| e.close(now, ID));
    world.run(5 * SECOND);
    world.expect_down(0);
    world.expect_down(1);
    world.run(60 * SECOND);
    world.expect_down(0);
    assert_eq!(world.nodes[0].endpoint.sas.len(), 0);
    assert_eq!(world.nodes[1].endpoint.sas.len(), 0);
    world.call(0, |e, now| e.initiate(now, ID));
    world.run(SECOND);
    world.expect_up();
}

#[test]
fn the_initiator_comes_back_when_the_peer_deletes() {
    let (a, b) = pair();
    let mut world = World::up(3, a, b);
    world.call(1, |e, now| e.close(now, ID));
    world.run(SECOND / 2);
    assert_eq!(world.status(0).ike, State::Down);
    world.run(15 * SECOND);
    world.expect_up();
}

#[test]
fn shutdown_ends_everything() {
    let (a, b) = pair();
    let mut world = World::up(4, a, b);
    world.call(0, |e, now| e.shutdown(now));
    assert!(!world.nodes[0].endpoint.is_idle());
    world.run(SECOND);
    assert!(world.nodes[0].endpoint.is_idle());
    world.run(60 * SECOND);
    world.expect_down(0);
}

#[test]
fn every_lost_message_is_sent_again() {
    for lost in 0..4 {
        let (a, b) = pair();
        let mut world = World::new(10 + lost, 2);
        let mut count = 0;
        world.fate = Some(Box::new(move |_| {
            count += 1;
            if count == lost + 1 {
                vec![]
            } else {
                vec![Duration::from_millis(10)]
            }
        }));
        world.configure(1, vec![b]);
        world.configure(0, vec![a]);
        world.run(3 * SECOND);
        world.expect_up();
    }
}

#[test]
fn every_doubled_message_changes_nothing() {
    let (a, b) = pair();
    let mut world = World::new(20, 2);
    world.fate = Some(Box::new(|_| {
        vec![Duration::from_millis(10), Duration::from_millis(15)]
    }));
    world.configure(1, vec![b]);
    world.configure(0, vec![a]);
    world.run(5 * SECOND);
    world.expect_up();
    assert!(world.nodes[1].endpoint.counters().repeated >= 2);
}

#[test]
fn the_responder_asks_for_its_group() {
    let (mut a, mut b) = pair();
    a.proposals = vec!["aes256gcm16-prfsha256-x25519-ecp256".parse().expect("good")];
    b.proposals = vec!["aes256gcm16-prfsha256-ecp256".parse().expect("good")];
    let world = World::up(21, a, b);
    assert_eq!(world.sent, 8);
    assert!(world.status(0).ike_suite.expect("up").ends_with("ecp256"));
    assert!(world.nodes[1].failures.is_empty(), "it is no failure");
}

#[test]
fn without_a_common_proposal_both_sides_say_what_each_has() {
    let (mut a, mut b) = pair();
    a.proposals = vec!["aes256-sha1-modp1024".parse().expect("good")];
    b.proposals = IkeProposal::aws_gcm_only();
    let mut world = World::new(22, 2);
    world.configure(1, vec![b]);
    world.configure(0, vec![a]);
    world.run(SECOND / 2);
    assert!(
        world.failed(1, "peer offers IKE: AES_CBC_256"),
        "{:?}",
        world.nodes[1].failures
    );
    assert!(world.failed(1, "we allow IKE: AES_GCM_16_256"));
    assert!(world.failed(0, "peer accepts none of our proposals"));
    assert_eq!(world.nodes[1].endpoint.sas.len(), 0, "nothing is kept");
}

#[test]
fn without_a_common_child_proposal_the_ike_sa_stays() {
    let (mut a, mut b) = pair();
    a.children[0].proposals = vec!["aes128-sha1".parse().expect("good")];
    b.children[0].proposals = ChildProposal::aws_gcm_only();
    let mut world = World::new(23, 2);
    world.configure(1, vec![b]);
    world.configure(0, vec![a]);
    world.run(SECOND);
    assert_eq!(world.status(0).ike, State::Established);
    assert_eq!(world.status(0).child, State::Down);
    assert!(
        world.failed(0, "peer accepts none of our proposals in IKE_AUTH"),
        "{:?}",
        world.nodes[0].failures
    );
    assert!(world.failed(
        1,
        "no common proposal for the child SA: peer offers ESP: AES_CBC_128"
    ));
    assert!(world.nodes[0].inbound.is_empty() && world.nodes[1].inbound.is_empty());
}

#[test]
fn selectors_that_do_not_meet_are_refused() {
    let (mut a, mut b) = pair();
    a.children[0].remote_ts.truncate(1);
    a.children[0].remote_ts[0].addresses = ([10, 1, 0, 0].into(), [10, 1, 255, 255].into());
    b.children[0].local_ts.truncate(1);
    b.children[0].local_ts[0].addresses = ([10, 2, 0, 0].into(), [10, 2, 255, 255].into());
    let mut world = World::new(24, 2);
    world.configure(1, vec![b]);
    world.configure(0, vec![a]);
    world.run(SECOND);
    assert!(
        world.failed(0, "peer accepts none of our traffic selectors"),
        "{:?}",
        world.nodes[0].failures
    );
    assert!(world.failed(1, "no common traffic selectors"));
}

#[test]
fn selectors_are_narrowed() {
    let (mut a, mut b) = pair();
    b.children[0].local_ts.truncate(1);
    b.children[0].local_ts[0].addresses = ([10, 2, 0, 0].into(), [10, 2, 255, 255].into());
    a.children[0].local_ts.truncate(1);
    let world = World::up(25, a, b.clone());
    let inbound = world.nodes[0].inbound.values().next().expect("one");
    assert_eq!(inbound.selectors.remote, b.children[0].local_ts);
    let theirs = world.nodes[1].inbound.values().next().expect("one");
    assert_eq!(theirs.selectors.local, b.children[0].local_ts);
    assert_eq!(theirs.selectors.remote, inbound.selectors.local);
}

#[test]
fn a_wrong_pre_shared_key_is_named_as_such() {
    let (mut a, b) = pair();
    a.auth = crate::Auth::Psk(hawser_api::Secret::new(b"another".to_vec()));
    let mut world = World::new(26, 2);
    world.configure(1, vec![b]);
    world.configure(0, vec![a]);
    world.run(SECOND / 2);
    assert!(world.failed(1, "the pre-shared key does not match that of 192.0.2.1"));
    assert!(world.failed(
        0,
        "peer refuses our authentication as 192.0.2.1 towards 192.0.2.2: compare the pre-shared key"
    ));
    assert_eq!(world.status(0).child, State::Down);
    assert!(world.nodes[0].inbound.is_empty() && world.nodes[1].inbound.is_empty());
    for node in &world.nodes {
        for sentence in node.failures.iter().chain(&node.log) {
            assert!(!sentence.contains("another"), "no key in a sentence");
        }
    }
}

#[test]
fn a_wrong_identity_is_named_as_such() {
    let (mut a, b) = pair();
    a.local_id = crate::identity::parse("gw.example.org").expect("good");
    let mut world = World::new(27, 2);
    world.configure(1, vec![b.clone()]);
    world.configure(0, vec![a.clone()]);
    world.run(SECOND / 2);
    assert!(
        world.failed(1, "peer says it is gw.example.org, we expect 192.0.2.1"),
        "{:?}",
        world.nodes[1].failures
    );
    // The responder's identity: the initiator refuses, and the responder learns it.
    a.local_id = b_id(1);
    a.remote_id = crate::IdentityMatch::Any;
    let mut b = b;
    b.local_id = crate::identity::parse("keyid:blue").expect("good");
    let mut world = World::new(28, 2);
    world.configure(1, vec![b]);
    world.configure(0, vec![a.clone()]);
    world.run(SECOND);
    world.expect_up();
    a.remote_id = crate::IdentityMatch::Exact(crate::identity::parse("red").expect("good"));
    world.configure(0, vec![a]);
    world.run(SECOND);
    assert!(
        world.failed(1, "peer wants to talk to red, we are"),
        "{:?}",
        world.nodes[1].failures
    );
}

fn b_id(last: u8) -> crate::Identity {
    crate::identity::of_address(address(last))
}

#[test]
fn a_nat_moves_both_to_port_4500() {
    for behind in 0..2 {
        let (mut a, mut b) = pair();
        let public: std::net::IpAddr = [198, 51, 100, 7].into();
        let mut world = World::new(30 + behind as u64, 2);
        let shift = if behind == 0 { 10_000 } else { 0 };
        world.nodes[behind].nat = Some(NatBox { public, shift });
        let others_view = crate::Remote::Address(public);
        if behind == 0 {
            b.remote = others_view;
        } else {
            a.remote = others_view;
        }
        world.configure(1, vec![b]);
        world.configure(0, vec![a]);
        world.run(SECOND);
        world.expect_up();
        let (path, encapsulated) = world.nodes[0].paths[&ID];
        assert!(encapsulated && path.local.port() == 4500 && path.remote.port() == 4500);
        let (path, encapsulated) = world.nodes[1].paths[&ID];
        assert!(encapsulated && path.local.port() == 4500);
        assert_eq!(path.remote.port(), 4500 + shift);
        let expected = [NatStatus::Local, NatStatus::Remote];
        assert_eq!(world.status(behind).nat, expected[0]);
        assert_eq!(world.status(1 - behind).nat, expected[1]);
    }
}

#[test]
fn forced_encapsulation_needs_only_one_side() {
    for forcing in 0..2 {
        let (mut a, mut b) = pair();
        if forcing == 0 {
            a.force_encapsulation = true;
        } else {
            b.force_encapsulation = true;
        }
        let world = World::up(40 + forcing, a, b);
        for node in &world.nodes {
            let (path, encapsulated) = node.paths[&ID];
            assert!(encapsulated);
            assert_eq!((path.local.port(), path.remote.port()), (4500, 4500));
        }
    }
}

#[test]
fn keepalives_are_sent_behind_a_nat_when_nothing_else_is() {
    let (mut a, mut b) = pair();
    a.dpd.action = crate::DpdAction::None;
    b.dpd.action = crate::DpdAction::None;
    b.remote = crate::Remote::Address([198, 51, 100, 7].into());
    let mut world = World::new(50, 2);
    world.nodes[0].nat = Some(NatBox {
        public: [198, 51, 100, 7].into(),
        shift: 100,
    });
    world.configure(1, vec![b]);
    world.configure(0, vec![a]);
    world.run(101 * SECOND);
    world.expect_up();
    assert_eq!(world.nodes[0].keepalives, 5);
    assert_eq!(world.nodes[1].keepalives, 0);
}

/// With MOBIKE the peer that moved says so, without it is followed (RFC 4555, section 3.8).
#[test]
fn a_mapping_that_changes_is_followed() {
    for mobike in [true, false] {
        let (mut a, mut b) = pair();
        a.mobike = mobike;
        b.remote = crate::Remote::Any;
        // Only the hidden side asks: the other one could not reach it.
        b.dpd.action = crate::DpdAction::None;
        let mut world = World::new(51, 2);
        let public: std::net::IpAddr = [198, 51, 100, 7].into();
        world.nodes[0].nat = Some(NatBox { public, shift: 100 });
        world.configure(1, vec![b]);
        world.configure(0, vec![a]);
        world.run(SECOND);
        world.expect_up();
        // Before and after the peer has said for the first time where it sees us, and on a new SA.
        for (shift, time) in [(200, 15), (300, 15), (400, 15)] {
            if shift == 400 {
                world.call(0, |e, now| e.rekey_ike(now, ID));
                world.run(SECOND);
            }
            world.nodes[0].nat = Some(NatBox { public, shift });
            world.run(time * SECOND);
            world.expect_up();
            let port = world.nodes[1].paths[&ID].0.remote.port();
            assert_eq!(port, 4500 + shift, "MOBIKE: {mobike}");
        }
        let told = "the NAT in front of us has another mapping: peer is told";
        let said = world.nodes[0].log.iter().any(|line| line.contains(told));
        assert_eq!(said, mobike, "{:#?}", world.nodes[0].log);
    }
}

/// RFC 4555, section 3.8: with MOBIKE a message from elsewhere may be a try of a path, and moves
/// nothing by itself. It is answered there (RFC 7296, section 2.11).
#[test]
fn with_mobike_a_message_from_elsewhere_moves_nothing_but_is_answered_there() {
    let (a, mut b) = pair();
    b.remote = crate::Remote::Any;
    b.dpd.action = crate::DpdAction::None;
    let mut world = World::new(52, 2);
    let public: std::net::IpAddr = [198, 51, 100, 7].into();
    world.nodes[0].nat = Some(NatBox { public, shift: 100 });
    world.configure(1, vec![b]);
    world.configure(0, vec![a]);
    world.run(SECOND);
    world.expect_up();
    world.nodes[0].nat = Some(NatBox { public, shift: 200 });
    world.hold = true;
    while world.held[0].is_empty() {
        world.run(SECOND);
    }
    let check = world.held[0].pop_front().expect("a liveness check");
    assert_eq!(check.path.remote.port(), 4700);
    world.deliver(&check);
    assert_eq!(world.nodes[1].paths[&ID].0.remote.port(), 4600);
    let answer = world.held[1].pop_front().expect("an answer");
    assert_eq!(answer.to, 0, "it came through the new mapping");
}

#[test]
fn a_wildcard_responder_takes_any_address() {
    for remote in [
        crate::Remote::Any,
        crate::Remote::Net("192.0.2.0/28".parse().expect("a network")),
    ] {
        let (a, mut b) = pair();
        b.remote = remote;
        b.startup = Startup::Start;
        World::up(52, a, b);
    }
    let (a, mut b) = pair();
    b.remote = crate::Remote::Net("10.0.0.0/8".parse().expect("a network"));
    let mut world = World::new(53, 2);
    world.configure(1, vec![b]);
    world.configure(0, vec![a]);
    world.run(SECOND);
    assert_eq!(
        world.nodes[1].endpoint.counters().no_connection,
        2,
        "and a copy"
    );
}

#[test]
fn connections_between_the_same_addresses_are_told_apart_by_identity() {
    let names = ["one", "two", "three"];
    let mut world = World::new(54, 2);
    let side = |local: u8, remote: u8, startup: Startup| {
        (1u32..)
            .zip(names)
            .map(|(n, name)| {
                let mut c = connection(local, remote);
                c.id = crate::ConnectionId(n);
                let own = |side: u8| {
                    crate::identity::parse(&format!("{name}.{side}.example")).expect("good")
                };
                c.local_id = own(local);
                c.remote_id = crate::IdentityMatch::Exact(own(remote));
                c.startup = startup;
                c.auth = crate::Auth::Psk(hawser_api::Secret::new(name.as_bytes().to_vec()));
                c
            })
            .collect::<Vec<_>>()
    };
    world.configure(1, side(2, 1, Startup::Add));
    world.configure(0, side(1, 2, Startup::Start));
    world.run(SECOND);
    for node in &world.nodes {
        assert_eq!(node.outbound.len(), 3, "{:?}", node.failures);
        assert_eq!(node.inbound.len(), 3);
    }
    world.check_traffic();
    for n in 1..=3 {
        let id = crate::ConnectionId(n);
        let a = world.nodes[0].endpoint.connection_status(world.now, id);
        let b = world.nodes[1].endpoint.connection_status(world.now, id);
        assert_eq!(a.expect("there").spis, b.expect("there").spis);
    }
}

#[test]
fn an_unanswered_attempt_is_reported_and_goes_on() {
    let (a, b) = pair();
    let mut world = World::new(55, 2);
    world.configure(0, vec![a]);
    world.run(31 * SECOND);
    assert!(
        world.failed(0, "no answer from 192.0.2.2:500 to IKE_SA_INIT after 30 s"),
        "{:?}",
        world.nodes[0].failures
    );
    assert_eq!(world.status(0).ike, State::Negotiating);
    world.configure(1, vec![b]);
    world.run(3 * SECOND);
    world.expect_up();
}

#[test]
fn key_exchange_groups_of_every_kind_work() {
    for group in [Group::Modp2048, Group::Ecp384, Group::Ecp521, Group::X25519] {
        let (mut a, mut b) = pair();
        for c in [&mut a, &mut b] {
            c.proposals = vec![format!("aes128-sha256-{group}").parse().expect("good")];
            c.children[0].proposals = vec![format!("aes256-sha512-{group}").parse().expect("good")];
        }
        World::up(56, a, b);
    }
}

#[test]
fn extended_sequence_numbers_are_negotiated() {
    let (mut a, mut b) = pair();
    a.children[0].proposals = vec!["aes128gcm16-esn-noesn".parse().expect("good")];
    b.children[0].proposals = vec!["aes128gcm16-noesn-esn".parse().expect("good")];
    let world = World::up(57, a.clone(), b.clone());
    assert!(
        !world.status(0).children[0].esn,
        "the responder prefers none"
    );
    b.children[0].proposals = vec!["aes128gcm16-esn".parse().expect("good")];
    let world = World::up(58, a, b);
    assert!(world.status(0).children[0].esn && world.status(1).children[0].esn);
}

#[test]
fn keys_are_logged_only_when_asked_for() {
    let (a, b) = pair();
    let world = World::up(59, a.clone(), b.clone());
    assert!(world.nodes[0].key_log.is_empty());
    let settings = Settings {
        key_log: true,
        ..Settings::default()
    };
    let mut world = World::with_settings(60, 2, &settings);
    world.configure(1, vec![b]);
    world.configure(0, vec![a]);
    world.run(SECOND);
    assert_eq!(world.nodes[0].key_log.len(), 1);
    assert_eq!(world.nodes[0].key_log, world.nodes[1].key_log);
}

#[test]
fn a_key_log_that_is_switched_on_begins_with_what_is_in_use() {
    let (a, b) = pair();
    let mut world = World::up(61, a, b);
    let logging = |key_log| Settings {
        key_log,
        ..Settings::default()
    };
    for _ in 0..2 {
        // Once more changes nothing.
        world.call(0, |e, now| e.adjust(now, logging(true)));
        assert_eq!(world.nodes[0].key_log.len(), 1);
    }
    world.call(0, |e, now| e.rekey_ike(now, ID));
    world.run(SECOND);
    assert_eq!(world.nodes[0].key_log.len(), 2);
    world.call(0, |e, now| e.adjust(now, logging(false)));
    world.call(0, |e, now| e.rekey_ike(now, ID));
    world.run(SECOND);
    assert_eq!(world.nodes[0].key_log.len(), 2);
    // The replaced SAs go, too.
    world.run(30 * SECOND);
    world.expect_up();
}

#[test]
fn a_changed_connection_is_made_anew_and_an_unchanged_one_stays() {
    let (a, b) = pair();
    let mut world = World::up(61, a.clone(), b);
    let before = world.status(0).spis;
    let mut same = a.clone();
    same.name = "another name".into();
    same.dpd.delay = Duration::from_secs(5);
    world.configure(0, vec![same]);
    world.run(SECOND);
    assert_eq!(world.status(0).spis, before);
    assert_eq!(world.status(0).name, "another name");
    let mut other = a;
    other.children[0].replay_window = 64;
    world.configure(0, vec![other]);
    world.run(20 * SECOND);
    world.expect_up();
    assert_ne!(world.status(0).spis, before);
    assert_eq!(
        world.nodes[0]
            .inbound
            .values()
            .next()
            .expect("one")
            .replay_window,
        64
    );
    world.configure(0, Vec::new());
    world.run(5 * SECOND);
    assert!(world.nodes[0].inbound.is_empty() && world.nodes[0].outbound.is_empty());
}
