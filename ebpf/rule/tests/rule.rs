//! The user-space twin of the XDP program against two independent statements of the rule.

mod common;

use common::{frames, model, world::World};
use hawser_steer::{Passed, Port, Role, Taken, Verdict, judge};
use proptest::prelude::*;

fn rule(world: &World, frame: &[u8]) -> Verdict {
    judge(frame, &world.port(), world)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn whole_frames_are_judged_as_described(
        frame in frames::frame(), role in prop::sample::select(&World::ROLES[..]),
    ) {
        let world = World { role };
        let bytes = frame.bytes();
        prop_assert_eq!(rule(&world, &bytes), frame.expected(&world));
        prop_assert_eq!(model::verdict(&world, &bytes), frame.expected(&world));
    }

    #[test]
    fn damaged_frames_are_judged_as_the_model_does(
        frame in frames::frame(), damage in frames::damage(),
        role in prop::sample::select(&World::ROLES[..]),
    ) {
        let world = World { role };
        let bytes = damage.apply(frame.bytes());
        prop_assert_eq!(rule(&world, &bytes), model::verdict(&world, &bytes));
    }

    #[test]
    fn noise_is_judged_as_the_model_does(
        bytes in prop::collection::vec(any::<u8>(), 0..128),
        role in prop::sample::select(&World::ROLES[..]),
    ) {
        let world = World { role };
        prop_assert_eq!(rule(&world, &bytes), model::verdict(&world, &bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Cut at *each* length: the verdict is the model's, and it is never a take that the whole
    /// frame does not deserve.
    #[test]
    fn every_truncation(
        frame in frames::frame(), role in prop::sample::select(&World::ROLES[..]),
    ) {
        let world = World { role };
        let bytes = frame.bytes();
        let whole = rule(&world, &bytes);
        for length in 0..bytes.len() {
            let cut = rule(&world, &bytes[..length]);
            prop_assert_eq!(cut, model::verdict(&world, &bytes[..length]), "at {}", length);
            prop_assert!(!cut.is_take() || cut == whole, "at {}: {:?}", length, cut);
        }
    }
}

/// The generated frames must reach every verdict of the rule, or the tests above prove little.
#[test]
fn every_verdict_is_reached() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut seen = std::collections::HashSet::new();
    let mut runner = TestRunner::deterministic();
    for round in 0..20_000 {
        let frame = frames::frame().new_tree(&mut runner).unwrap().current();
        let damage = frames::damage().new_tree(&mut runner).unwrap().current();
        let world = World {
            role: World::ROLES[round % 4],
        };
        seen.insert(rule(&world, &damage.apply(frame.bytes())));
    }
    for verdict in Verdict::ALL {
        let is_the_programs = matches!(verdict, Verdict::Pass(Passed::NoSocket | Passed::NoPort));
        assert_eq!(seen.contains(&verdict), !is_the_programs, "{verdict:?}");
    }
}

#[test]
fn verdicts_are_numbered_in_order() {
    for (index, verdict) in (0..).zip(Verdict::ALL) {
        assert_eq!(verdict.index(), index);
    }
    let names: std::collections::HashSet<_> = Verdict::ALL.iter().map(|v| v.name()).collect();
    assert_eq!(names.len(), Verdict::ALL.len());
}

#[test]
fn ports_survive_the_map() {
    for role in World::ROLES {
        let port = Port::new(role, 7, [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc]);
        assert_eq!(Port::decode(&port.encode()), port);
        assert_eq!(port.base_slot(), 7);
        assert_eq!(
            port.is_outside(),
            matches!(role, Role::Outside | Role::Both)
        );
        assert_eq!(port.is_inside(), matches!(role, Role::Inside | Role::Both));
    }
}

/// RFC 3948, 2.2 and 2.3, spelled out byte by byte.
#[test]
fn port_4500_tells_ike_esp_and_keepalive_apart() {
    let world = World {
        role: Role::Outside,
    };
    let datagram = |length: u8, payload: &[u8]| {
        let mut frame = vec![0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 2, 0, 0, 0, 0, 9, 8, 0];
        frame.extend([
            0x45,
            0,
            0,
            28 + payload.len() as u8,
            0,
            0,
            0x40,
            0,
            64,
            17,
            0,
            0,
        ]);
        frame.extend([198, 51, 100, 7, 192, 0, 2, 1]);
        frame.extend([0x11, 0x94, 0x11, 0x94, 0, length, 0, 0]);
        frame.extend(payload);
        rule(&world, &frame)
    };
    let esp = [0, 0, 1, 0, 0, 0, 0, 1, 0xaa, 0xbb];
    assert_eq!(datagram(18, &esp), Verdict::Take(Taken::EspInUdp));
    assert_eq!(datagram(18, &[0; 10]), Verdict::Pass(Passed::Ike));
    assert_eq!(datagram(9, &[0xff]), Verdict::Pass(Passed::Keepalive));
    // Padded by Ethernet, still a keepalive.
    assert_eq!(
        datagram(9, &[0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        Verdict::Pass(Passed::Keepalive)
    );
    assert_eq!(datagram(18, &esp[..3]), Verdict::Pass(Passed::Malformed));
}
