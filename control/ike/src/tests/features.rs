//! Childless IKE SAs, several children, MOBIKE, what is refused.

use std::time::Duration;

use hawser_ike_wire::{
    ExchangeType, Header, IkeSpi, Message, MessageId, Notify, NotifyType, Payload, Payloads,
};

use super::world::{ID, World, address, pair};
use crate::{Child, Path, State};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_ike_sa_can_be_made_before_its_child() {
    let (mut a, b) = pair();
    a.childless = true;
    let world = World::up(500, a, b);
    assert_eq!(world.sent, 8);
    assert!(
        world.status(0).children[0].pfs.is_some(),
        "made with its own key exchange"
    );
}

fn second_child() -> Child {
    let mut child = Child {
        name: "second".into(),
        ..Child::default()
    };
    for side in [&mut child.local_ts, &mut child.remote_ts] {
        side.truncate(1);
        side[0].protocol = 17;
        side[0].ports = (4789, 4789);
    }
    for p in &mut child.proposals {
        p.groups = vec![crate::Group::X25519];
    }
    child
}

#[test]
fn several_children_share_an_ike_sa() {
    let (mut a, mut b) = pair();
    for c in [&mut a, &mut b] {
        c.children[0].local_ts.truncate(1);
        c.children[0].local_ts[0].protocol = 6;
        c.children[0].remote_ts.truncate(1);
        c.children[0].remote_ts[0].protocol = 6;
        c.children.push(second_child());
    }
    let mut world = World::new(501, 2);
    world.configure(1, vec![b]);
    world.configure(0, vec![a]);
    world.run(SECOND);
    for node in 0..2 {
        let status = world.status(node);
        assert_eq!(
            status.child,
            State::Established,
            "{:#?}",
            world.nodes[node].log
        );
        assert_eq!(status.children.len(), 2);
        assert_eq!(world.nodes[node].endpoint.sas.len(), 1);
        assert_eq!(world.nodes[node].outbound.len(), 2);
    }
    world.lossless = true;
    world.check_traffic();
    let spi = world.nodes[1].outbound[&(ID, 1)].spi;
    world.call(1, |e, now| {
        e.rekey_child(now, ID, spi, crate::RekeyReason::Bytes)
    });
    world.call(0, |e, now| e.rekey_ike(now, ID));
    world.run(10 * SECOND);
    assert_ne!(world.nodes[1].outbound[&(ID, 1)].spi, spi);
    assert_eq!(world.status(0).children.len(), 2);
    assert_eq!(world.nodes[0].inbound.len(), 2);
    assert_eq!(world.nodes[0].endpoint.sas.len(), 1);
}

#[test]
fn mobike_moves_a_tunnel_to_another_address() {
    let (a, mut b) = pair();
    b.remote = crate::Remote::Any;
    let mut world = World::up(502, a, b);
    let spis = world.status(0).spis;
    world.nodes[0].addresses = vec![address(99)];
    world.call(0, |e, now| e.local_address(now, ID, address(99)));
    world.run(SECOND);
    world.expect_up();
    assert_eq!(world.status(0).spis, spis);
    assert_eq!(world.nodes[1].paths[&ID].0.remote.ip(), address(99));
    assert_eq!(world.nodes[1].paths[&ID].0.remote.port(), 4500);
    assert_eq!(world.nodes[0].paths[&ID].0.local.ip(), address(99));
    assert!(!world.nodes[1].paths[&ID].1, "no NAT, no encapsulation");
    world.run(30 * SECOND);
    world.expect_up();
}

#[test]
fn traffic_follows_a_peer_only_to_an_address_that_answers() {
    let (a, mut b) = pair();
    b.remote = crate::Remote::Any;
    let mut world = World::up(509, a, b);
    // The peer speaks from another's address: nothing that is sent there comes back.
    world.nodes[0].addresses = vec![address(99)];
    world.fate = Some(Box::new(|p| {
        if p.path.local.ip() == address(99) {
            return vec![];
        }
        vec![Duration::from_millis(10)]
    }));
    world.call(0, |e, now| e.local_address(now, ID, address(99)));
    world.run(10 * SECOND);
    assert_eq!(world.nodes[1].paths[&ID].0.remote.ip(), address(1));
    world.fate = None;
    world.run(5 * SECOND);
    world.expect_up();
    assert_eq!(world.nodes[1].paths[&ID].0.remote.ip(), address(99));
}

#[test]
fn a_peer_that_moves_on_is_checked_where_it_is() {
    let (a, mut b) = pair();
    b.remote = crate::Remote::Any;
    for pause in [0, 5, 15, 25, 35, 45] {
        let mut world = World::up(510 + pause, a.clone(), b.clone());
        world.lossless = true;
        for last in [97, 98, 1, 99] {
            world.nodes[0].addresses = vec![address(last)];
            world.call(0, |e, now| e.local_address(now, ID, address(last)));
            world.run(Duration::from_millis(pause));
        }
        // The IKE SA is rekeyed meanwhile.
        world.call(1, |e, now| e.rekey_ike(now, ID));
        world.run(30 * SECOND);
        world.expect_up();
        assert_eq!(world.nodes[1].paths[&ID].0.remote.ip(), address(99));
        // Whoever rekeyed, the side that began the first SA may move.
        assert_eq!(world.status(0).initiator, Some(false));
        world.nodes[0].addresses = vec![address(95)];
        world.call(0, |e, now| e.local_address(now, ID, address(95)));
        world.run(10 * SECOND);
        world.expect_up();
        assert_eq!(world.nodes[1].paths[&ID].0.remote.ip(), address(95));
    }
}

#[test]
fn a_wrong_cookie_ends_the_sa() {
    use crate::sa::pending::AddressCheck;
    let (a, mut b) = pair();
    b.remote = crate::Remote::Any;
    let mut world = World::up(520, a, b);
    let before = world.status(1).spis;
    let (now, path) = (world.now, world.status(1).path.expect("up"));
    world.call(1, |e, _| {
        let id = e.connections[&ID].current.expect("up");
        e.with_sa(now, id, |e, sa| {
            let check = AddressCheck {
                cookie: vec![1; 16],
                path,
            };
            let wrong = Notify::with_data(NotifyType::Cookie2, vec![2; 16]);
            let payloads = Payloads::from(vec![Payload::Notify(wrong)]);
            e.on_address_checked(sa, &check, &payloads);
        });
        e.settle();
    });
    world.run(30 * SECOND);
    assert!(world.failed(1, "does not return our cookie"));
    world.expect_up();
    assert_ne!(world.status(1).spis, before);
}

#[test]
fn an_attempt_begins_anew_where_we_are() {
    let (a, mut b) = pair();
    b.remote = crate::Remote::Any;
    let mut world = World::new(521, 2);
    world.configure(1, vec![b]);
    // The address is not there yet: nothing comes back.
    world.nodes[0].addresses = vec![address(99)];
    world.configure(0, vec![a]);
    world.run(SECOND);
    assert!(world.nodes[0].outbound.is_empty());
    world.call(0, |e, now| e.local_address(now, ID, address(99)));
    // The other side forgets the first one after half a minute.
    world.run(40 * SECOND);
    world.expect_up();
    assert_eq!(world.status(0).counters.initiations, 2);
}

#[test]
fn without_mobike_an_address_does_not_move() {
    let (mut a, b) = pair();
    a.mobike = false;
    let mut world = World::up(503, a, b);
    world.call(0, |e, now| e.local_address(now, ID, address(99)));
    world.run(SECOND);
    assert_eq!(world.nodes[0].paths[&ID].0.local.ip(), address(1));
}

/// An unprotected answer to A's IKE_SA_INIT.
fn answer(world: &mut World, notify: Notify) {
    world.hold = true;
    let (a, _) = pair();
    world.configure(0, vec![a]);
    let request = world.held[0].pop_front().expect("a request");
    let header = Header::parse(&request.bytes).expect("good");
    let answer = Header {
        responder_spi: IkeSpi(77),
        initiator: false,
        response: true,
        ..header
    };
    let message = Message::new(answer, Payloads::from(vec![Payload::Notify(notify)]));
    let bytes = message.emit().expect("good");
    let path = Path {
        local: request.path.remote,
        remote: request.path.local,
    };
    world.call(0, |e, now| e.handle_datagram(now, path, &bytes));
}

#[test]
fn a_redirect_is_refused() {
    let mut world = World::new(504, 2);
    let target = vec![1, 4, 198, 51, 100, 1];
    answer(&mut world, Notify::with_data(NotifyType::Redirect, target));
    assert!(world.failed(0, "peer redirects us to another gateway, which is refused"));
}

#[test]
fn cookies_without_end_are_a_loop() {
    let mut world = World::new(505, 2);
    answer(
        &mut world,
        Notify::with_data(NotifyType::Cookie, vec![1; 16]),
    );
    for n in 0..10 {
        let Some(request) = world.held[0].pop_front() else {
            break;
        };
        let header = Header::parse(&request.bytes).expect("good");
        let again = Header {
            initiator: false,
            response: true,
            ..header
        };
        let cookie = Notify::with_data(NotifyType::Cookie, vec![n; 16]);
        let bytes = Message::new(again, Payloads::from(vec![Payload::Notify(cookie)]))
            .emit()
            .expect("good");
        let path = Path {
            local: request.path.remote,
            remote: request.path.local,
        };
        world.call(0, |e, now| e.handle_datagram(now, path, &bytes));
    }
    assert!(
        world.failed(0, "peer asks for a cookie again and again"),
        "{:?}",
        world.nodes[0].failures
    );
}

#[test]
fn a_group_that_we_do_not_allow_is_named() {
    let mut world = World::new(506, 2);
    answer(&mut world, Notify::invalid_ke(2));
    assert!(
        world.failed(
            0,
            "peer wants key exchange group modp1024 (2), we allow IKE: "
        ),
        "{:?}",
        world.nodes[0].failures
    );
}

#[test]
fn an_unknown_sa_is_answered_with_a_hint_only_for_known_peers() {
    let (_, b) = pair();
    let mut world = World::new(507, 2);
    world.configure(1, vec![b]);
    let header = Header {
        initiator_spi: IkeSpi(1),
        responder_spi: IkeSpi(2),
        exchange: ExchangeType::Informational,
        initiator: true,
        response: false,
        higher_version: false,
        message_id: MessageId(7),
    };
    let bytes = Message::new(header, Payloads::from(Vec::new()))
        .emit()
        .expect("good");
    world.hold = true;
    for (remote, answers) in [("192.0.2.1:500", 1), ("192.0.2.77:500", 0)] {
        let path = Path {
            local: "192.0.2.2:500".parse().expect("good"),
            remote: remote.parse().expect("good"),
        };
        world.held[1].clear();
        world.call(1, |e, now| e.handle_datagram(now, path, &bytes));
        assert_eq!(world.held[1].len(), answers);
    }
    for _ in 0..2_000 {
        let path = Path {
            local: "192.0.2.2:500".parse().expect("good"),
            remote: "192.0.2.1:500".parse().expect("good"),
        };
        world.call(1, |e, now| e.handle_datagram(now, path, &bytes));
    }
    assert!(world.held[1].len() < 600, "within a budget");
}

#[test]
fn transmits_wait_for_events() {
    let (a, b) = pair();
    let mut world = World::up(508, a, b);
    let spi = world.nodes[0].outbound[&(ID, 0)].spi;
    world.hold = true;
    world.call(0, |e, now| {
        e.rekey_child(now, ID, spi, crate::RekeyReason::Bytes)
    });
    let request = world.held[0].pop_front().expect("a request");
    let now = world.now;
    let endpoint = &mut world.nodes[1].endpoint;
    endpoint.handle_datagram(now, request.path, &request.bytes);
    assert!(
        endpoint.poll_transmit().is_none(),
        "the inbound SA is not there yet"
    );
    let mut added = false;
    while let Some(event) = endpoint.poll_event() {
        added |= matches!(event, crate::Event::InboundAdd(_));
    }
    assert!(added);
    assert!(endpoint.poll_transmit().is_some());
}
