//! For tests: what a piece of code allocates, counted by the allocator itself.
//!
//! ```
//! use hawser_counting_allocator::{CountingAllocator, allocated};
//!
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator = CountingAllocator;
//!
//! let (text, cost) = allocated(|| String::with_capacity(100));
//! assert_eq!((cost.calls, cost.octets), (1, 100));
//! ```
//!
//! Each thread counts its own, so tests that run side by side do not disturb each other. What another
//! thread does on behalf of the code is not seen.
//!
//! No part of the product. An allocator is an unsafe trait, and this is the one place that implements it.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
};

thread_local! {
    // Without a destructor and made at compile time, so that to count never allocates.
    static ALLOCATED: Cell<Allocated> = const { Cell::new(Allocated { calls: 0, octets: 0 }) };
}

/// What was allocated, even if it was given back meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocated {
    /// How often memory was asked for. To grow is to ask again.
    pub calls: u64,
    /// How much memory was asked for, all in all.
    pub octets: u64,
}

/// Does `work` and says what this thread allocated for it.
///
/// # Panics
/// If the program's `#[global_allocator]` is no [`CountingAllocator`]: everything would seem free.
pub fn allocated<T>(work: impl FnOnce() -> T) -> (T, Allocated) {
    let unused = ALLOCATED.get();
    drop(black_box(Box::new(0_u8)));
    let before = ALLOCATED.get();
    assert_ne!(
        unused, before,
        "make a CountingAllocator the #[global_allocator]"
    );
    let result = work();
    let after = ALLOCATED.get();
    let cost = Allocated {
        calls: after.calls - before.calls,
        octets: after.octets - before.octets,
    };
    (result, cost)
}

/// The system's allocator, which also counts.
pub struct CountingAllocator;

// SAFETY: every call goes on to the system's allocator as it came. What is not here (`realloc`,
// `alloc_zeroed`) the trait makes of these two.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Allocated { calls, octets } = ALLOCATED.get();
        ALLOCATED.set(Allocated {
            calls: calls + 1,
            octets: octets + layout.size() as u64,
        });
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(memory, layout) }
    }
}
