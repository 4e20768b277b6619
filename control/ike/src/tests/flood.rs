//! Many requests of nobody: cookies, limits, memory.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::world::{World, pair};
use crate::{Connection, Path, Remote, Settings};

const SECOND: Duration = Duration::from_secs(1);

fn small() -> Settings {
    Settings {
        cookie_threshold: 8,
        half_open_limit: 24,
        half_open_per_source: 12,
        ..Settings::default()
    }
}

/// IKE_SA_INIT requests as different initiators send them.
fn requests(count: usize) -> Vec<Vec<u8>> {
    let (a, _) = pair();
    (0..count)
        .map(|i| {
            let mut forger = World::new(5_000 + i as u64, 2);
            forger.hold = true;
            forger.configure(0, vec![a.clone()]);
            forger.held[0].pop_front().expect("a request").bytes
        })
        .collect()
}

fn responder(settings: &Settings, b: Connection) -> World {
    let mut world = World::with_settings(201, 2, settings);
    world.configure(1, vec![b]);
    world
}

fn at(source: SocketAddr) -> Path {
    Path {
        local: "192.0.2.2:500".parse().expect("good"),
        remote: source,
    }
}

#[test]
fn above_the_threshold_cookies_are_asked_for_and_memory_is_bounded() {
    let (_, mut b) = pair();
    b.remote = Remote::Any;
    let mut world = responder(&small(), b);
    world.fate = Some(Box::new(|_| vec![]));
    for (i, request) in requests(100).iter().enumerate() {
        let source: IpAddr = [203, 0, 113, i as u8].into();
        let path = at(SocketAddr::new(source, 500));
        world.call(1, |e, now| e.handle_datagram(now, path, request));
    }
    let endpoint = &world.nodes[1].endpoint;
    assert_eq!(endpoint.half_open(), 8);
    assert_eq!(endpoint.counters().cookies_sent, 92);
    assert_eq!(endpoint.sas.len(), 8);
    world.run(31 * SECOND);
    assert_eq!(world.nodes[1].endpoint.half_open(), 0);
    assert_eq!(world.nodes[1].endpoint.sas.len(), 0);
    assert!(world.nodes[1].endpoint.poll_timeout().is_none());
}

#[test]
fn an_honest_peer_returns_its_cookie_and_gets_through() {
    let (a, mut b) = pair();
    b.remote = Remote::Any;
    let mut world = responder(&small(), b);
    for (i, request) in requests(20).iter().enumerate() {
        let source: IpAddr = [203, 0, 113, i as u8].into();
        let path = at(SocketAddr::new(source, 500));
        world.call(1, |e, now| e.handle_datagram(now, path, request));
    }
    world.configure(0, vec![a]);
    world.run(SECOND);
    assert_eq!(
        world.nodes[0].outbound.len(),
        1,
        "{:?}",
        world.nodes[0].failures
    );
    world.check_traffic();
    assert_eq!(world.nodes[1].endpoint.counters().cookies_bad, 0);
}

#[test]
fn a_source_that_proves_its_address_is_still_limited() {
    let settings = Settings {
        cookie_threshold: 1_000,
        ..small()
    };
    let (_, mut b) = pair();
    b.remote = Remote::Any;
    let mut world = responder(&settings, b);
    world.fate = Some(Box::new(|_| vec![]));
    for (port, request) in (1000u16..).zip(&requests(40)) {
        let path = at(SocketAddr::new([203, 0, 113, 1].into(), port));
        world.call(1, |e, now| e.handle_datagram(now, path, request));
    }
    let endpoint = &world.nodes[1].endpoint;
    assert_eq!(endpoint.half_open(), 12);
    assert_eq!(endpoint.counters().half_open_refused, 28);
}

#[test]
fn an_established_tunnel_does_not_notice_a_flood() {
    let (a, mut b) = pair();
    b.remote = Remote::Any;
    let mut world = World::with_settings(202, 2, &small());
    world.configure(1, vec![b]);
    world.configure(0, vec![a]);
    world.run(SECOND);
    world.expect_up();
    for (i, request) in requests(60).iter().enumerate() {
        let source: IpAddr = [203, 0, 113, i as u8].into();
        let path = at(SocketAddr::new(source, 500));
        world.call(1, |e, now| e.handle_datagram(now, path, request));
    }
    world.run(60 * SECOND);
    world.expect_up();
    assert_eq!(world.status(0).counters.dpd_failed, 0);
}

#[test]
fn sentences_about_strangers_come_once_a_second() {
    let (_, mut b) = pair();
    b.remote = Remote::Any;
    b.proposals = crate::IkeProposal::aws_gcm_only();
    let mut world = responder(&Settings::default(), b);
    for (i, request) in requests(50).iter().enumerate() {
        let source: IpAddr = [203, 0, 113, i as u8].into();
        let path = at(SocketAddr::new(source, 500));
        world.call(1, |e, now| e.handle_datagram(now, path, request));
    }
    assert_eq!(world.nodes[1].failures.len(), 1);
    assert!(world.nodes[1].failures[0].starts_with("203.0.113.0:500: no common proposal"));
}
