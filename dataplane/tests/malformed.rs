//! Any bytes from the network: every frame is delivered or counted, none is lost, and good traffic
//! goes on.

mod support;

use proptest::prelude::*;
use support::*;

/// What an attacker does to a frame.
#[derive(Clone, Debug)]
enum Damage {
    Nothing,
    Flip(usize, u8),
    Cut(usize),
    Grow(Vec<u8>),
    Replace(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        Just(Damage::Nothing),
        (any::<usize>(), 1u8..).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        any::<usize>().prop_map(Damage::Cut),
        proptest::collection::vec(any::<u8>(), 1..100).prop_map(Damage::Grow),
        proptest::collection::vec(any::<u8>(), 14..200).prop_map(Damage::Replace),
    ]
}

impl Damage {
    fn apply(&self, mut frame: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Nothing => {}
            Self::Flip(at, bits) => {
                let at = at % frame.len();
                frame[at] ^= bits;
            }
            Self::Cut(at) => frame.truncate(14 + at % (frame.len() - 14)),
            Self::Grow(bytes) => frame.extend(bytes),
            Self::Replace(bytes) => frame.clone_from(bytes),
        }
        frame
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_frame_from_outside_is_delivered_or_counted(
        damages in proptest::collection::vec(damage(), 1..64),
        udp_encapsulated: bool,
        outer_v6: bool,
        inner_v6: bool,
    ) {
        let plan = Plan { udp: udp_encapsulated, outer_v6, ..Plan::default() };
        let (mut a, mut b) = pair(&plan);
        let free = b.pipeline.pool().len();
        let packets: Vec<_> =
            (0..damages.len()).map(|n| udp(0, inner_v6, (n as u16, 9), &[7; 50])).collect();
        let sent = a.send(&packets);
        let frames: Vec<_> = damages.iter().zip(sent).map(|(d, frame)| d.apply(frame)).collect();
        let delivered = b.receive(&frames).len() as u64;
        prop_assert_eq!(delivered + b.counters().all_drops().total(), frames.len() as u64);
        let untouched = damages.iter().filter(|d| matches!(d, Damage::Nothing)).count() as u64;
        prop_assert!(delivered >= untouched, "{} of {}", delivered, untouched);
        prop_assert_eq!(b.pipeline.pool().len(), free);
        let good = b.receive(&a.send(&packets));
        prop_assert_eq!(good.len(), packets.len(), "good traffic goes on: {:?}", b.drops());
    }

    #[test]
    fn every_frame_from_inside_is_sent_or_counted(
        damages in proptest::collection::vec(damage(), 1..64),
        inner_v6: bool,
    ) {
        let (mut a, _) = pair(&Plan::default());
        let free = a.pipeline.pool().len();
        let frames: Vec<_> = damages
            .iter()
            .enumerate()
            .map(|(n, d)| d.apply(udp(0, inner_v6, (n as u16, 9), &[7; 50])))
            .collect();
        let sent = a.send(&frames).len() as u64;
        let errors = a.take(INSIDE).len() as u64;
        let host = a.out.host.len() as u64;
        let waited = u64::from(a.pipeline.is_waiting());
        let drops = a.counters().all_drops().total();
        prop_assert!(waited > 0 || host > 0 || sent + drops >= frames.len() as u64);
        prop_assert!(errors <= frames.len() as u64);
        let later = a.now + 3_000_000_000;
        a.pipeline.housekeep(later);
        for frame in a.out.host.drain(..) {
            a.pipeline.pool().give(frame);
        }
        prop_assert_eq!(a.pipeline.pool().len(), free, "no frame is lost");
    }
}
