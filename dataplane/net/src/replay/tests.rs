use std::collections::BTreeSet;

use proptest::prelude::*;

use super::ReplayError::{Duplicate, Overflow, TooOld, Zero};
use super::*;

const HIGH: u64 = 1 << 32;

fn window(size: u32, esn: bool) -> ReplayWindow {
    ReplayWindow::new(size, esn).expect("a valid size")
}

/// Tables of (sequence, expected), each packet authentic: it is committed.
#[test]
fn sequences() {
    type Steps = &'static [(u64, Result<(), ReplayError>)];
    let tables: &[(u32, bool, Steps)] = &[
        (
            64,
            false,
            &[
                (0, Err(Zero)),
                (1, Ok(())),
                (1, Err(Duplicate)),
                (64, Ok(())),
                (2, Ok(())),
                (1, Err(Duplicate)),
                // Top 65: the window is 2 to 65.
                (65, Ok(())),
                (1, Err(TooOld)),
                (2, Err(Duplicate)),
                (3, Ok(())),
                (3, Err(Duplicate)),
                // A jump within the ring, one beyond it.
                (128, Ok(())),
                (64, Err(TooOld)),
                (65, Err(Duplicate)),
                (66, Ok(())),
                (1_000_000, Ok(())),
                (999_936, Err(TooOld)),
                (999_937, Ok(())),
                (128, Err(TooOld)),
                (0, Err(Zero)),
                (999_937, Err(Duplicate)),
                (u32::MAX as u64, Ok(())),
                (HIGH, Err(Overflow)),
                (u32::MAX as u64, Err(Duplicate)),
            ],
        ),
        (
            1024,
            false,
            &[
                (1024, Ok(())),
                (1, Ok(())),
                (0, Err(Zero)),
                (1025, Ok(())),
                (1, Err(TooOld)),
                (2, Ok(())),
                (2048, Ok(())),
                (1024, Err(TooOld)),
                (1025, Err(Duplicate)),
                (1026, Ok(())),
                (1026, Err(Duplicate)),
                (3072, Ok(())),
                (2048, Err(TooOld)),
                (2049, Ok(())),
            ],
        ),
        (
            4096,
            true,
            &[
                (4096, Ok(())),
                (1, Ok(())),
                (4097, Ok(())),
                (1, Err(TooOld)),
                (2, Ok(())),
                (HIGH - 1, Ok(())),
                (HIGH, Ok(())),
                (HIGH - 1, Err(Duplicate)),
                (HIGH - 2, Ok(())),
                (HIGH + 4094, Ok(())),
                (HIGH - 2, Err(TooOld)),
                (HIGH - 1, Err(Duplicate)),
                (HIGH, Err(Duplicate)),
                (HIGH + 1, Ok(())),
                (5 * HIGH, Ok(())),
                (5 * HIGH - 4096, Err(TooOld)),
                (5 * HIGH - 4095, Ok(())),
                (u64::MAX, Ok(())),
                (u64::MAX, Err(Duplicate)),
                (u64::MAX - 4095, Ok(())),
                (u64::MAX - 4096, Err(TooOld)),
            ],
        ),
        // Sizes that are not multiples of 64.
        (
            100,
            false,
            &[
                (100, Ok(())),
                (1, Ok(())),
                (101, Ok(())),
                (1, Err(TooOld)),
                (2, Ok(())),
            ],
        ),
        (65, false, &[(129, Ok(())), (65, Ok(())), (64, Err(TooOld))]),
    ];
    for (size, esn, steps) in tables {
        let mut window = window(*size, *esn);
        for (seq, expected) in *steps {
            assert_eq!(
                window.check(*seq),
                *expected,
                "window {size}, sequence {seq}"
            );
            assert_eq!(
                window.mark(*seq),
                *expected,
                "window {size}, sequence {seq}"
            );
        }
    }
}

/// RFC 4303 A2.2, both cases: (window, top, low half) to the full number.
#[test]
fn inference() {
    for (size, top, low, expected) in [
        // Before the first packet there is no earlier subspace.
        (64, 0, 0, 0),
        (64, 0, 1, 1),
        (64, 0, u32::MAX, HIGH - 1),
        // Case A, the window is 937..=1000.
        (64, 1000, 937, 937),
        (64, 1000, 1000, 1000),
        (64, 1000, 5000, 5000),
        (64, 1000, u32::MAX, HIGH - 1),
        (64, 1000, 936, HIGH + 936),
        (64, 1000, 0, HIGH),
        // The window's lower edge is the first number of the subspace: still case A.
        (64, HIGH + 63, 0, HIGH),
        (64, HIGH + 63, u32::MAX, 2 * HIGH - 1),
        // Case B, the window straddles 2^32: 2^32 - 1 .. 2^32 + 62.
        (64, HIGH + 62, u32::MAX, HIGH - 1),
        (64, HIGH + 62, u32::MAX - 1, 2 * HIGH - 2),
        (64, HIGH + 62, 62, HIGH + 62),
        (64, HIGH, u32::MAX - 62, HIGH - 63),
        (64, HIGH, u32::MAX - 63, 2 * HIGH - 64),
        (4096, 7 * HIGH + 10, u32::MAX, 7 * HIGH - 1),
        (4096, 7 * HIGH + 10, 11, 7 * HIGH + 11),
        // At the top of a subspace: a low number is from the next.
        (1024, HIGH - 1, 0, HIGH),
        (1024, HIGH - 1, u32::MAX - 1023, HIGH - 1024),
        (1024, HIGH - 1, u32::MAX - 1024, 2 * HIGH - 1025),
        // The last subspace has no next: what wraps is certainly old.
        (64, u64::MAX, 5, 5),
    ] {
        let window = ReplayWindow::resume(size, true, top).expect("valid");
        assert_eq!(
            window.infer(low),
            expected,
            "window {size}, top {top:#x}, low {low:#x}"
        );
    }
    let plain = ReplayWindow::resume(64, false, 1000).expect("valid");
    assert_eq!(plain.infer(5), 5);
}

#[test]
fn a_number_inferred_into_the_past_is_too_old() {
    let window = ReplayWindow::resume(64, true, u64::MAX).expect("valid");
    assert_eq!(window.check(window.infer(5)), Err(TooOld));
}

#[test]
fn checks_move_nothing() {
    let mut window = window(64, false);
    window.mark(10).expect("new");
    for seq in [11, 5000, u64::from(u32::MAX), 9, 10] {
        let _ = window.check(seq);
    }
    assert_eq!(window.top(), 10);
    assert_eq!(window.check(9), Ok(()));
    assert_eq!(window.check(11), Ok(()));
    assert_eq!(window.mark(HIGH), Err(Overflow));
    assert_eq!(window.top(), 10);
}

#[test]
fn a_duplicate_within_a_batch_passes_the_check_and_fails_the_commit() {
    let mut window = window(1024, false);
    let batch = [5, 6, 5, 7, 6];
    for seq in batch {
        assert_eq!(window.check(seq), Ok(()));
    }
    let commits = batch.map(|seq| window.mark(seq).is_ok());
    assert_eq!(commits, [true, true, false, true, false]);
}

#[test]
fn resuming_takes_all_before_as_seen() {
    for size in [64, 100, 1024, 4096] {
        for top in [0, 1, 63, 64, 5000, HIGH - 1, HIGH, HIGH + 17] {
            let mut window = ReplayWindow::resume(size, true, top).expect("valid");
            for seq in top.saturating_sub(2 * u64::from(size))..=top {
                assert!(window.check(seq).is_err(), "{seq} of {top}");
            }
            for seq in top + 1..top + 2 * u64::from(size) {
                assert_eq!(window.mark(seq), Ok(()), "{seq} of {top}");
            }
        }
    }
}

#[test]
fn sizes() {
    for size in [0, 1, 63, 4097, u32::MAX] {
        assert_eq!(
            ReplayWindow::new(size, false).err(),
            Some(WindowSizeError(size))
        );
    }
    for size in [64, 65, 2048, 4096] {
        assert_eq!(window(size, true).size(), size);
    }
}

/// The window as a set of everything seen.
struct Oracle {
    size: u64,
    esn: bool,
    top: u64,
    seen: BTreeSet<u64>,
}

impl Oracle {
    fn check(&self, seq: u64) -> Result<(), ReplayError> {
        match () {
            () if seq == 0 => Err(Zero),
            () if !self.esn && seq >= HIGH => Err(Overflow),
            () if seq.saturating_add(self.size) <= self.top => Err(TooOld),
            () if self.seen.contains(&seq) => Err(Duplicate),
            () => Ok(()),
        }
    }

    fn mark(&mut self, seq: u64) -> Result<(), ReplayError> {
        self.check(seq)?;
        self.seen.insert(seq);
        self.top = self.top.max(seq);
        Ok(())
    }
}

proptest! {
    #[test]
    fn equals_a_set(
        size in 64u32..=4096,
        esn: bool,
        near_wrap: bool,
        steps in proptest::collection::vec((-10_000i64..10_000, 0u32..40), 1..300),
    ) {
        let mut window = window(size, esn);
        let mut oracle = Oracle { size: size.into(), esn, top: 0, seen: BTreeSet::new() };
        let mut base = if near_wrap { HIGH as i64 - 5000 } else { 5000 };
        for (step, scale) in steps {
            // Mostly small steps around the top, some large.
            base = (base + if scale > 30 { step } else { step / 200 }).max(0);
            let seq = base as u64;
            prop_assert_eq!(window.check(seq), oracle.check(seq), "check {}", seq);
            prop_assert_eq!(window.mark(seq), oracle.mark(seq), "mark {}", seq);
            prop_assert_eq!(window.top(), oracle.top);
        }
    }

    /// Whatever is not left of the window and less than 2^32 above its lower edge is inferred.
    #[test]
    fn inference_is_exact_near_the_window(size in 64u32..=4096, high in 0u64..5, low: u32, ahead: u32) {
        let top = high << 32 | u64::from(low);
        let window = ReplayWindow::resume(size, true, top).expect("valid");
        let bottom = top.saturating_sub(u64::from(size) - 1);
        let seq = bottom + u64::from(ahead);
        prop_assert_eq!(window.infer(seq as u32), seq);
    }
}
