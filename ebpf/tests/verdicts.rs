//! The committed object in the kernel against the rule in user space: the same frames, the same
//! tables, the same verdicts. Needs root; says so and passes without.

#[path = "../rule/tests/common/mod.rs"]
#[expect(dead_code, reason = "the rule's own tests use the rest")]
mod common;
#[expect(dead_code, reason = "the tests on interfaces use the rest")]
mod support;

use std::net::IpAddr;

use common::{
    frames,
    world::{INSIDE, LOCAL, MAC, VLAN, World},
};
use hawser_ebpf::{Passed, PortConfig, Role, Sizes, Steering, Verdict};
use hawser_steer::judge;
use ipnet::IpNet;
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};

/// Test runs arrive at the loopback interface.
const LOOPBACK: u32 = 1;
const XDP_PASS: u32 = 2;
/// The kernel refuses test runs of less than an Ethernet header.
const SHORTEST: usize = 14;

fn port(role: Role) -> PortConfig {
    PortConfig {
        ifindex: LOOPBACK,
        mac: MAC,
        role,
        base_slot: 0,
    }
}

fn loaded() -> Steering {
    let mut steering = Steering::load(&Sizes::default()).expect("the kernel takes the object");
    steering.set_local_addresses(LOCAL).unwrap();
    steering
        .insert_inside(
            INSIDE.map(|(address, length, action)| (IpNet::new(address, length).unwrap(), action)),
        )
        .unwrap();
    steering.set_inside_vlan(LOOPBACK, VLAN, true).unwrap();
    steering
}

/// An ESP packet.
fn esp_to(destination: [u8; 4]) -> Vec<u8> {
    let mut frame = MAC.to_vec();
    frame.extend([
        2, 0, 0, 0, 0, 9, 8, 0, 0x45, 0, 0, 32, 0, 0, 0, 0, 64, 50, 0, 0,
    ]);
    frame.extend([198, 51, 100, 7]);
    frame.extend(destination);
    frame.extend([0, 0, 1, 0, 0, 0, 0, 1, 7, 7, 7, 7]);
    frame
}

/// What the kernel counted for one frame: its verdict, and whether a socket was missing.
fn judged_by_kernel(steering: &mut Steering, frame: &[u8]) -> (Verdict, bool) {
    const NO_SOCKET: Verdict = Verdict::Pass(Passed::NoSocket);
    let before = steering.stats().unwrap();
    let run = steering.test_run(frame, 1).unwrap();
    // There is no socket, so whatever is ours goes to the kernel too.
    assert_eq!(run.action, XDP_PASS);
    let counted = steering.stats().unwrap().since(&before);
    let verdicts: Vec<Verdict> = counted
        .iter()
        .filter(|(verdict, count)| *count > 0 && *verdict != NO_SOCKET)
        .map(|(verdict, count)| {
            assert_eq!(count, 1);
            verdict
        })
        .collect();
    assert_eq!(verdicts.len(), 1, "one verdict a frame: {verdicts:?}");
    (verdicts[0], counted.get(NO_SOCKET) == 1)
}

#[test]
fn kernel_and_user_space_agree() {
    if support::skip_without_root("kernel_and_user_space_agree") {
        return;
    }
    let mut steering = loaded();
    // Its own seed each time; a failure prints the frame.
    let mut runner = TestRunner::default();
    let mut seen = std::collections::HashSet::new();
    for round in 0..20_000 {
        let role = World::ROLES[round / 5000];
        if round % 5000 == 0 {
            steering.put_port(&port(role)).unwrap();
        }
        let world = World { role };
        let frame = frames::frame().new_tree(&mut runner).unwrap().current();
        let damage = frames::damage().new_tree(&mut runner).unwrap().current();
        let bytes = damage.apply(frame.bytes());
        if bytes.len() < SHORTEST {
            continue;
        }
        let expected = judge(&bytes[..], &world.port(), &world);
        let (verdict, is_without_socket) = judged_by_kernel(&mut steering, &bytes);
        assert_eq!(
            verdict, expected,
            "{role:?} {frame:?} {damage:?} {bytes:02x?}"
        );
        assert_eq!(is_without_socket, expected.is_take());
        seen.insert(verdict);
    }
    assert_eq!(seen.len(), 15, "all of the rule's verdicts: {seen:?}");
}

#[test]
fn every_truncation_agrees() {
    if support::skip_without_root("every_truncation_agrees") {
        return;
    }
    let mut steering = loaded();
    let world = World { role: Role::Both };
    steering.put_port(&port(world.role)).unwrap();
    let mut runner = TestRunner::default();
    for _ in 0..100 {
        let bytes = frames::frame()
            .new_tree(&mut runner)
            .unwrap()
            .current()
            .bytes();
        for length in SHORTEST..=bytes.len() {
            let cut = &bytes[..length];
            let (verdict, _) = judged_by_kernel(&mut steering, cut);
            assert_eq!(verdict, judge(cut, &world.port(), &world), "{cut:02x?}");
        }
    }
}

/// A frame of several buffers, as with an MTU of 9000: the headers are in the first.
#[test]
fn jumbo_frames_are_judged_by_their_first_buffer() {
    if support::skip_without_root("jumbo_frames_are_judged_by_their_first_buffer") {
        return;
    }
    let mut steering = loaded();
    let world = World { role: Role::Both };
    steering.put_port(&port(world.role)).unwrap();
    let mut runner = TestRunner::default();
    for _ in 0..200 {
        let mut bytes = frames::frame()
            .new_tree(&mut runner)
            .unwrap()
            .current()
            .bytes();
        bytes.resize(9014, 0x5a);
        let (verdict, _) = judged_by_kernel(&mut steering, &bytes);
        assert_eq!(
            verdict,
            judge(&bytes[..], &world.port(), &world),
            "{:02x?}",
            &bytes[..64]
        );
    }
}

#[test]
fn tables_follow_their_changes() {
    if support::skip_without_root("tables_follow_their_changes") {
        return;
    }
    use hawser_ebpf::{Action, Taken};
    let mut steering = Steering::load(&Sizes::default()).unwrap();
    let inside = esp_to([10, 1, 2, 3]);
    let expect = |steering: &mut Steering, frame: &[u8], verdict: Verdict| {
        assert_eq!(judged_by_kernel(steering, frame).0, verdict);
    };
    let net = |text: &str| text.parse::<IpNet>().unwrap();

    expect(&mut steering, &inside, Verdict::Pass(Passed::NoPort));
    steering.put_port(&port(Role::Both)).unwrap();
    expect(&mut steering, &inside, Verdict::Pass(Passed::NoRoute));
    steering
        .insert_inside([(net("10.0.0.0/8"), Action::Take)])
        .unwrap();
    expect(&mut steering, &inside, Verdict::Take(Taken::Inside));
    // Host bits are ignored.
    steering
        .insert_inside([(net("10.1.99.99/16"), Action::Pass)])
        .unwrap();
    expect(&mut steering, &inside, Verdict::Pass(Passed::Exception));
    steering
        .remove_inside([net("10.1.0.0/16"), net("10.77.0.0/16")])
        .unwrap();
    expect(&mut steering, &inside, Verdict::Take(Taken::Inside));

    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    steering
        .set_local_addresses([address("10.1.2.3"), address("2001:db8::1")])
        .unwrap();
    expect(&mut steering, &inside, Verdict::Take(Taken::Esp));
    steering
        .set_local_addresses([address("192.0.2.1")])
        .unwrap();
    expect(&mut steering, &inside, Verdict::Take(Taken::Inside));
    expect(
        &mut steering,
        &esp_to([192, 0, 2, 1]),
        Verdict::Take(Taken::Esp),
    );

    // Another MAC address, as after a change of the interface.
    steering
        .put_port(&PortConfig {
            mac: [2, 0, 0, 0, 0, 1],
            ..port(Role::Both)
        })
        .unwrap();
    expect(&mut steering, &inside, Verdict::Pass(Passed::OtherStation));
}

/// Enough outside addresses and ports that some share their place in the arrays in front.
#[test]
fn crowded_addresses_and_ports_are_told_apart() {
    if support::skip_without_root("crowded_addresses_and_ports_are_told_apart") {
        return;
    }
    let mut steering = Steering::load(&Sizes::default()).unwrap();
    // The first has the place that the loopback interface shares.
    let other = PortConfig {
        ifindex: LOOPBACK + 64,
        mac: [2; 6],
        ..port(Role::Inside)
    };
    steering.put_port(&other).unwrap();
    steering.put_port(&port(Role::Outside)).unwrap();

    let address = |i: u32| std::net::Ipv4Addr::from_bits(0xc633_6400 + i * 3);
    let check = |steering: &mut Steering, is_local: &dyn Fn(u32) -> bool| {
        for i in 0..2000 {
            let frame = esp_to(address(i).octets());
            let expected = if is_local(i) {
                Verdict::Take(hawser_ebpf::Taken::Esp)
            } else {
                Verdict::Pass(Passed::NoRoute)
            };
            assert_eq!(
                judged_by_kernel(steering, &frame).0,
                expected,
                "{}",
                address(i)
            );
        }
    };
    let set = |steering: &mut Steering, range: std::ops::Range<u32>| {
        steering
            .set_local_addresses(range.map(|i| IpAddr::from(address(i))))
            .unwrap();
    };
    set(&mut steering, 0..900);
    check(&mut steering, &|i| i < 900);
    set(&mut steering, 850..860);
    check(&mut steering, &|i| (850..860).contains(&i));
    set(&mut steering, 0..0);
    check(&mut steering, &|_| false);
}

#[test]
fn full_tables_and_wrong_slots_are_told() {
    if support::skip_without_root("full_tables_and_wrong_slots_are_told") {
        return;
    }
    use hawser_ebpf::{Action, SteeringError};
    let sizes = Sizes {
        ports: 2,
        vlans: 4,
        local: 4,
        inside: 8,
        slots: 4,
    };
    let mut steering = Steering::load(&sizes).unwrap();
    let routes = (0..9_u8).map(|i| (IpNet::new([10, i, 0, 0].into(), 25).unwrap(), Action::Take));
    let error = steering.insert_inside(routes).unwrap_err();
    assert!(
        matches!(
            error,
            SteeringError::Full {
                map: "INSIDE_V4",
                entries: 8
            }
        ),
        "{error}"
    );
    let addresses = (0..9_u8).map(|i| IpAddr::from([192, 0, 2, i]));
    let error = steering.set_local_addresses(addresses).unwrap_err();
    assert!(
        matches!(
            error,
            SteeringError::Full {
                map: "LOCAL_V4",
                entries: 4
            }
        ),
        "{error}"
    );
    let error = steering
        .put_port(&PortConfig {
            base_slot: 4,
            ..port(Role::Both)
        })
        .unwrap_err();
    assert!(
        matches!(error, SteeringError::Slot { slot: 4, slots: 4 }),
        "{error}"
    );
    let error = steering.set_inside_vlan(1, 4095, true).unwrap_err();
    assert!(matches!(error, SteeringError::Vlan(4095)), "{error}");
    let error = steering.attach(&PortConfig {
        ifindex: 0x7fff_ffff,
        ..port(Role::Both)
    });
    assert!(
        matches!(error, Err(SteeringError::NoInterface { .. })),
        "{error:?}"
    );
    assert!(matches!(
        steering.detach(3),
        Err(SteeringError::NotAttached { ifindex: 3 })
    ));
}
