//! The rings between this process and the kernel.
//!
//! A ring is an array whose length is a power of two, and two indexes that count up for ever and
//! wrap at 2^32: the producer's and the consumer's. Each side writes only its own index, with
//! release order after it is done with the entries, and reads the other's with acquire order. The
//! producer owns the entries that are free, the consumer those that are filled; nothing else
//! protects an entry.
//!
//! Both sides work in the same way: `acquire` says how many entries are there (and looks at the
//! other side's index, a likely cache miss, only when the last look does not suffice), slices give
//! access to them, `release` hands them over.
//!
//! All unsafety of the rings is in [`Shared`]. The kernel is trusted to follow the protocol, but a
//! nonsensical index cannot lead outside the ring.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::mapping::Mapping;

/// Set by the kernel in a ring's flags when it sleeps and wants a system call (`XDP_RING_NEED_WAKEUP`).
const NEED_WAKEUP: u32 = libc::XDP_RING_NEED_WAKEUP;

/// Where a ring's parts are in its mapping, in bytes from the start.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) producer: usize,
    pub(crate) consumer: usize,
    pub(crate) flags: usize,
    pub(crate) entries: usize,
}

/// A receive or transmit descriptor, `struct xdp_desc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Descriptor {
    /// Offset of the packet from the start of the UMEM.
    pub(crate) address: u64,
    /// Bytes.
    pub(crate) len: u32,
    /// `XDP_PKT_CONTD`: the packet goes on in the next descriptor.
    pub(crate) options: u32,
}

/// What a ring can hold.
///
/// # Safety
/// Any bit pattern must be a valid value, and the type must be what the kernel has in that ring.
pub(crate) unsafe trait Entry: Copy {}
// SAFETY: an integer; the fill and completion rings hold `__u64` addresses.
unsafe impl Entry for u64 {}
// SAFETY: three integers without padding, laid out as `struct xdp_desc`.
unsafe impl Entry for Descriptor {}

/// The shared memory of a ring. Everything that is unsafe about rings happens here.
struct Shared<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    size: u32,
    _memory: Arc<Mapping>,
    _entries: PhantomData<T>,
}

// SAFETY: the memory is not tied to a thread; the indexes are atomics, and the entries are reached
// only through `Producer` and `Consumer`, of which there is one for each ring and side.
unsafe impl<T: Entry + Send> Send for Shared<T> {}

impl<T: Entry> Shared<T> {
    /// # Panics
    /// When the parts do not lie, aligned, inside the mapping, or `size` is not a power of two.
    fn new(memory: Arc<Mapping>, layout: Layout, size: u32) -> Shared<T> {
        assert!(size.is_power_of_two(), "ring sizes are powers of two");
        let part = |offset: usize, len: usize, align: usize| {
            assert!(
                offset
                    .checked_add(len)
                    .is_some_and(|end| end <= memory.len())
            );
            assert!(
                offset.is_multiple_of(align),
                "mappings are page aligned, so this decides"
            );
            // SAFETY: inside the mapping, as just seen.
            unsafe { memory.start().add(offset) }
        };
        let entries = size as usize * size_of::<T>();
        Shared {
            producer: part(layout.producer, 4, 4).cast(),
            consumer: part(layout.consumer, 4, 4).cast(),
            flags: part(layout.flags, 4, 4).cast(),
            entries: part(layout.entries, entries, align_of::<T>()).cast(),
            size,
            _memory: memory,
            _entries: PhantomData,
        }
    }

    #[inline]
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: aligned and inside the mapping (`new`), which lives as long as `self`; the
        // other side only accesses it atomically.
        unsafe { self.producer.as_ref() }
    }

    #[inline]
    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as in `producer`.
        unsafe { self.consumer.as_ref() }
    }

    #[inline]
    fn flags(&self) -> &AtomicU32 {
        // SAFETY: as in `producer`.
        unsafe { self.flags.as_ref() }
    }

    /// Position in the array of an index, and how many of `n` entries lie before the array's end.
    #[inline]
    fn span(&self, index: u32, n: u32) -> (usize, usize) {
        assert!(n <= self.size);
        let at = index & (self.size - 1);
        (at as usize, n.min(self.size - at) as usize)
    }

    /// # Safety
    /// The `n` entries from `index` must belong to the caller's side of the ring.
    #[inline]
    unsafe fn read(&self, index: u32, n: u32) -> (&[T], &[T]) {
        let (at, first) = self.span(index, n);
        // SAFETY: `span` keeps both parts inside the array; the other side does not write them
        // (the caller's promise), and any bit pattern is a `T`.
        unsafe {
            (
                slice::from_raw_parts(self.entries.add(at).as_ptr(), first),
                slice::from_raw_parts(self.entries.as_ptr(), n as usize - first),
            )
        }
    }

    /// # Safety
    /// As [`read`](Shared::read).
    #[inline]
    unsafe fn write(&mut self, index: u32, n: u32) -> (&mut [T], &mut [T]) {
        let (at, first) = self.span(index, n);
        // SAFETY: as in `read`, and the parts do not overlap since `n <= size`.
        unsafe {
            (
                slice::from_raw_parts_mut(self.entries.add(at).as_ptr(), first),
                slice::from_raw_parts_mut(self.entries.as_ptr(), n as usize - first),
            )
        }
    }
}

/// The side that fills entries: fill and transmit rings.
pub(crate) struct Producer<T> {
    shared: Shared<T>,
    /// Our index, as published.
    head: u32,
    /// The consumer's index at the last look.
    seen: u32,
}

impl<T: Entry> Producer<T> {
    /// Goes on where the ring's indexes stand.
    ///
    /// # Safety
    /// This must be the ring's only producer.
    ///
    /// # Panics
    /// When `layout` and `size` do not fit the mapping or `size` is not a power of two.
    pub(crate) unsafe fn new(memory: Arc<Mapping>, layout: Layout, size: u32) -> Producer<T> {
        let shared = Shared::new(memory, layout, size);
        let head = shared.producer().load(Ordering::Relaxed);
        let seen = shared.consumer().load(Ordering::Acquire);
        Producer { shared, head, seen }
    }

    /// Free entries; looks at the consumer's index when fewer than `want` were free last time.
    #[inline]
    pub(crate) fn acquire(&mut self, want: u32) -> u32 {
        let free = self.free();
        if free >= want {
            return free;
        }
        self.seen = self.shared.consumer().load(Ordering::Acquire);
        self.free()
    }

    #[inline]
    fn free(&self) -> u32 {
        self.shared.size - self.head.wrapping_sub(self.seen).min(self.shared.size)
    }

    /// The free entries that `acquire` found, in order.
    #[inline]
    pub(crate) fn slots(&mut self) -> Slots<'_, T> {
        let (head, free) = (self.head, self.free());
        // SAFETY: free entries are the producer's, and there is no other producer.
        let (first, second) = unsafe { self.shared.write(head, free) };
        Slots {
            now: first.iter_mut(),
            later: second.iter_mut(),
        }
    }

    /// Hands the first `n` free entries to the consumer.
    ///
    /// # Panics
    /// When fewer were acquired.
    #[inline]
    pub(crate) fn release(&mut self, n: u32) {
        assert!(
            n <= self.free(),
            "entries are acquired before they are released"
        );
        self.head = self.head.wrapping_add(n);
        self.shared.producer().store(self.head, Ordering::Release);
    }

    /// Entries the consumer has not taken yet, at this moment.
    #[inline]
    pub(crate) fn pending(&mut self) -> u32 {
        self.seen = self.shared.consumer().load(Ordering::Acquire);
        self.shared.size - self.free()
    }

    /// Whether the kernel waits for a system call before it looks at this ring.
    #[inline]
    pub(crate) fn needs_wakeup(&self) -> bool {
        self.shared.flags().load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }

    pub(crate) fn size(&self) -> u32 {
        self.shared.size
    }
}

/// Free entries of a ring, to be written one after the other across the array's end.
pub(crate) struct Slots<'a, T> {
    now: slice::IterMut<'a, T>,
    later: slice::IterMut<'a, T>,
}

impl<T> Slots<'_, T> {
    /// Entries left.
    #[inline]
    pub(crate) fn left(&self) -> usize {
        self.now.len() + self.later.len()
    }

    /// Writes the next entry.
    ///
    /// # Panics
    /// When none is left.
    #[inline]
    pub(crate) fn put(&mut self, value: T) {
        if self.now.len() == 0 {
            std::mem::swap(&mut self.now, &mut self.later);
        }
        *self.now.next().expect("the caller counts the slots") = value;
    }
}

/// The side that empties entries: receive and completion rings.
pub(crate) struct Consumer<T> {
    shared: Shared<T>,
    /// Our index, as published.
    tail: u32,
    /// The producer's index at the last look.
    seen: u32,
}

impl<T: Entry> Consumer<T> {
    /// Goes on where the ring's indexes stand.
    ///
    /// # Safety
    /// This must be the ring's only consumer.
    ///
    /// # Panics
    /// When `layout` and `size` do not fit the mapping or `size` is not a power of two.
    pub(crate) unsafe fn new(memory: Arc<Mapping>, layout: Layout, size: u32) -> Consumer<T> {
        let shared = Shared::new(memory, layout, size);
        let tail = shared.consumer().load(Ordering::Relaxed);
        let seen = shared.producer().load(Ordering::Acquire);
        Consumer { shared, tail, seen }
    }

    /// Filled entries; looks at the producer's index when fewer than `want` were there last time.
    #[inline]
    pub(crate) fn acquire(&mut self, want: u32) -> u32 {
        let filled = self.filled();
        if filled >= want {
            return filled;
        }
        self.seen = self.shared.producer().load(Ordering::Acquire);
        self.filled()
    }

    #[inline]
    fn filled(&self) -> u32 {
        self.seen.wrapping_sub(self.tail).min(self.shared.size)
    }

    /// The first `n` filled entries, in order: those up to the array's end, then the rest.
    ///
    /// # Panics
    /// When fewer were acquired.
    #[inline]
    pub(crate) fn entries(&self, n: u32) -> (&[T], &[T]) {
        assert!(
            n <= self.filled(),
            "entries are acquired before they are read"
        );
        // SAFETY: filled entries are the consumer's until released, and there is no other one.
        unsafe { self.shared.read(self.tail, n) }
    }

    /// Hands the first `n` filled entries back to the producer.
    ///
    /// # Panics
    /// When fewer were acquired.
    #[inline]
    pub(crate) fn release(&mut self, n: u32) {
        assert!(
            n <= self.filled(),
            "entries are acquired before they are released"
        );
        self.tail = self.tail.wrapping_add(n);
        self.shared.consumer().store(self.tail, Ordering::Release);
    }

    /// Entries the producer has filled, at this moment.
    pub(crate) fn pending(&mut self) -> u32 {
        self.seen = self.shared.producer().load(Ordering::Acquire);
        self.filled()
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
