//! A token bucket that several processors fill and empty without a lock.
//!
//! The generic cell rate algorithm (ITU-T I.371, annex A): a bucket is the one number `due`, the
//! time at which it will be full again. A packet is within the ceiling if `due` is not further
//! ahead of now than the bucket is deep, and moves `due` by its cost. One number, so one
//! compare-and-swap keeps it exact.

use core::{
    intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd},
    sync::atomic::AtomicU64,
};

/// How often a processor tries to change a number that another one changed meanwhile. The verifier
/// wants a bound; with the few processors of a lab a handful of tries is ample, and giving up is
/// counted.
const TRIES: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Within,
    Over,
    Contended,
}

/// Charges `cost` if the bucket is not too far ahead. Times in 2^-8 ns.
#[inline(always)]
pub(crate) fn charge(due: &AtomicU64, cost: u64, depth: u64, now: u64) -> Outcome {
    if cost == 0 {
        return Outcome::Within;
    }
    for _ in 0..TRIES {
        let seen = get(due);
        let base = if seen > now { seen } else { now };
        if base - now > depth {
            return Outcome::Over;
        }
        if swap(due, seen, base + cost) {
            return Outcome::Within;
        }
    }
    Outcome::Contended
}

/// Takes a charge back, when another bucket refused the packet.
#[inline(always)]
pub(crate) fn refund(due: &AtomicU64, cost: u64) {
    add(due, cost.wrapping_neg());
}

/// Raises a number; returns whether it was lower.
#[inline(always)]
pub(crate) fn raise(number: &AtomicU64, to: u64) -> bool {
    for _ in 0..TRIES {
        let seen = get(number);
        if seen >= to {
            return false;
        }
        if swap(number, seen, to) {
            return true;
        }
    }
    false
}

/// Sets bit `bit` of the word for `block` in a window slot.
#[inline(always)]
pub(crate) fn mark(slot: &AtomicU64, block: u32, bit: u32) -> Mark {
    let mask = 1_u64 << bit;
    for _ in 0..TRIES {
        let seen = get(slot);
        let held = (seen >> 32) as u32;
        let wanted = if held == block {
            if seen & mask != 0 {
                return Mark::Duplicate;
            }
            seen | mask
        } else if held < block {
            u64::from(block) << 32 | mask
        } else {
            return Mark::Late;
        };
        if swap(slot, seen, wanted) {
            return Mark::New;
        }
    }
    Mark::Contended
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    New,
    Duplicate,
    Late,
    Contended,
}

/// The words of a map value as numbers that all processors may change.
///
/// # Safety
/// `value` points to a map value, which the kernel keeps and aligns to 8 bytes while the program
/// runs. All programs change it by atomic operations only; user space may read a mixture of old and
/// new words, each whole.
#[inline(always)]
pub(crate) unsafe fn words<'a, const N: usize>(value: *mut [u64; N]) -> &'a [AtomicU64; N] {
    // SAFETY: the caller's promise; `AtomicU64` has the layout of `u64`.
    unsafe { &*value.cast() }
}

#[inline(always)]
pub(crate) fn add(number: &AtomicU64, amount: u64) {
    // SAFETY: the reference is valid and aligned, and atomic changes need no exclusive access.
    unsafe {
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(number.as_ptr(), amount);
    }
}

/// Changes a number if it still is what was seen; returns whether it was.
///
/// By the intrinsic, since the target is described as one without compare-and-swap, as which it
/// began; instruction set v3 has it.
#[inline(always)]
fn swap(number: &AtomicU64, seen: u64, wanted: u64) -> bool {
    const ORDER: AtomicOrdering = AtomicOrdering::SeqCst;
    // SAFETY: the reference is valid and aligned, and atomic changes need no exclusive access.
    unsafe { atomic_cxchg::<u64, ORDER, ORDER>(number.as_ptr(), seen, wanted) }.1
}

/// Reads a number.
///
/// Volatile, since instruction set v3 has no atomic load of its own: an aligned 64-bit load is one.
#[inline(always)]
fn get(number: &AtomicU64) -> u64 {
    // SAFETY: the reference is valid and aligned; the load is a single instruction, so it cannot
    // see half a change.
    unsafe { number.as_ptr().read_volatile() }
}
