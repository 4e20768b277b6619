//! Any bytes from the network: every frame is delivered or counted, none is lost, and good traffic
//! goes on.

use hawser_dataplane::harness::{
    Damage, Plan, from_inside, from_outside, fuzz_from_inside, fuzz_from_outside, pair,
};
use proptest::{collection::vec, prelude::*};

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        Just(Damage::Nothing),
        (any::<usize>(), 1u8..).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        any::<usize>().prop_map(Damage::Cut),
        vec(any::<u8>(), 1..100).prop_map(Damage::Grow),
        vec(any::<u8>(), 14..200).prop_map(Damage::Replace),
        vec(any::<u8>(), 0..200).prop_map(Damage::Sealed),
        inner().prop_map(Damage::Sealed),
    ]
}

/// Something like an IP packet with an ESP trailer, as a peer gone mad would send it.
fn inner() -> impl Strategy<Value = Vec<u8>> {
    (
        any::<bool>(),
        vec(any::<u8>(), 40..200),
        vec((0..40_usize, any::<u8>()), 0..4),
    )
        .prop_map(|(v6, noise, changes)| {
            let frame = hawser_dataplane::harness::udp(0, v6, (1, 2), &noise);
            let mut text = frame[14..].to_vec();
            for (at, bits) in changes {
                text[at] ^= bits;
            }
            text.extend([1, 2, 2, if v6 { 41 } else { 4 }]);
            text
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_frame_from_outside_is_delivered_or_counted(
        damages in vec(damage(), 1..64),
        udp: bool,
        outer_v6: bool,
        inner_v6: bool,
    ) {
        let plan = Plan { udp, outer_v6, ..Plan::default() };
        from_outside(&mut pair(&plan), &damages, inner_v6);
    }

    #[test]
    fn every_frame_from_inside_is_sent_or_counted(
        damages in vec(damage(), 1..64),
        inner_v6: bool,
    ) {
        from_inside(&mut pair(&Plan::default()).0, &damages, inner_v6);
    }

    #[test]
    fn fuzz_input_of_any_kind_is_understood(input in vec(any::<u8>(), 0..2000)) {
        fuzz_from_outside(&input);
        fuzz_from_inside(&input);
    }
}
