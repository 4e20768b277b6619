//! Cache hints.

/// Asks the processor for the cache line that `value` begins in. For what will be needed soon and
/// is not needed now; a hint, without effect on what the program computes.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    line(core::ptr::from_ref(value).cast());
}

/// [`prefetch`] for all cache lines of `value`.
#[inline(always)]
pub fn prefetch_all<T: ?Sized>(value: &T) {
    let first: *const u8 = core::ptr::from_ref(value).cast();
    for offset in (0..size_of_val(value)).step_by(LINE) {
        line(first.wrapping_add(offset));
    }
}

/// Bytes of a cache line on every processor that has our vector rungs. Elsewhere nothing happens.
const LINE: usize = 64;

#[inline(always)]
fn line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program can see and never faults.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
