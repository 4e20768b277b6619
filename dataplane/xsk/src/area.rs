//! One block of memory cut into equal frames, and the list of frames nobody holds.
//!
//! An area is leaked on purpose: it lives until the process ends. A gateway makes its areas once
//! at start, and in return a [`Frame`](crate::Frame) needs neither a lifetime nor a reference
//! count, and a frame that outlives its socket, its pool or its worker stays sound. Programs that
//! make areas again and again (tests) grow by each of them.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::audit::{Audit, Place};

/// Smallest frame: the kernel's smallest chunk in aligned mode (`XDP_UMEM_MIN_CHUNK_SIZE`).
pub(crate) const SMALLEST_CHUNK: u32 = 2048;
/// Largest frame: offsets inside a frame are 16 bits wide.
pub(crate) const LARGEST_CHUNK: u32 = 32768;
/// Alignment of every area. UMEM needs pages; heap areas follow so that both behave alike.
const PAGE: usize = 4096;

/// Equal frames in one block of memory, for the life of the process.
pub(crate) struct Area {
    base: NonNull<u8>,
    count: u32,
    shift: u32,
    /// Frames that belong to no pool: dropped ones, and what full pools passed on.
    commons: Mutex<Vec<u32>>,
    /// Length of `commons`, readable without the lock: an empty pool looks here on every attempt.
    waiting: AtomicU32,
    /// Frames of closed sockets that the kernel may still read or write, and from when on it does
    /// not.
    quarantine: Mutex<Vec<(Instant, Vec<u32>)>>,
    pub(crate) audit: Audit,
}

// SAFETY: `base` is only an address. The memory behind it is reached through `Frame`s alone, each
// of which owns a chunk of its own; all other fields are `Sync` by themselves.
unsafe impl Sync for Area {}
// SAFETY: as above; nothing in an area is tied to the thread that made it.
unsafe impl Send for Area {}

impl Area {
    /// Cuts `base` into `count` frames of `chunk` bytes, all of them held by the caller.
    ///
    /// # Safety
    /// `base` must be `count * chunk` bytes of initialised memory that is readable and writable
    /// until the process ends, and that nothing else in this program reaches.
    ///
    /// # Panics
    /// When `chunk` is not a power of two from 2048 to 32768 or there are no frames.
    pub(crate) unsafe fn leak(base: NonNull<u8>, count: u32, chunk: u32) -> &'static Area {
        assert_layout(count, chunk);
        Box::leak(Box::new(Area {
            base,
            count,
            shift: chunk.trailing_zeros(),
            commons: Mutex::new(Vec::with_capacity(count as usize)),
            waiting: AtomicU32::new(0),
            quarantine: Mutex::new(Vec::new()),
            audit: Audit::new(count),
        }))
    }

    /// An area on the heap, zeroed; its pages are touched only when its frames are used.
    ///
    /// # Panics
    /// As [`Area::leak`].
    pub(crate) fn heap(count: u32, chunk: u32) -> &'static Area {
        assert_layout(count, chunk);
        let layout = Layout::from_size_align(count as usize * chunk as usize, PAGE)
            .expect("the area fits the address space");
        // SAFETY: the layout's size is not zero, `assert_layout` saw to that.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(memory) else {
            handle_alloc_error(layout)
        };
        // SAFETY: fresh, zeroed, never freed, and known to nobody else.
        unsafe { Area::leak(base, count, chunk) }
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Bytes in a frame.
    #[inline]
    pub(crate) fn chunk(&self) -> u32 {
        1 << self.shift
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Length of the whole area in bytes.
    pub(crate) fn bytes(&self) -> usize {
        (self.count as usize) << self.shift
    }

    /// First byte of the frame with this index.
    #[inline]
    pub(crate) fn chunk_base(&self, index: u32) -> NonNull<u8> {
        debug_assert!(index < self.count);
        // SAFETY: indexes come from `index_of` or from the pools, which begin with 0..count, so
        // the offset stays inside the block.
        unsafe { self.base.add((index as usize) << self.shift) }
    }

    /// Index of the frame that starts at `chunk_base`.
    #[inline]
    pub(crate) fn index_of(&self, chunk_base: NonNull<u8>) -> u32 {
        ((chunk_base.as_ptr() as usize - self.base.as_ptr() as usize) >> self.shift) as u32
    }

    /// Index of the frame that a descriptor's address lies in; beyond `count` if in none.
    #[inline]
    pub(crate) fn index_at(&self, address: u64) -> u32 {
        u32::try_from(address >> self.shift).unwrap_or(u32::MAX)
    }

    /// Takes frames back that nobody holds any more.
    pub(crate) fn put_back(&self, indexes: impl Iterator<Item = u32>) {
        let mut commons = self.commons();
        commons.extend(indexes);
        self.waiting.store(commons.len() as u32, Ordering::Relaxed);
    }

    /// Takes frames back that may not be used before `until`. They count as waiting, and join the
    /// commons when somebody asks after that.
    pub(crate) fn put_back_later(&self, until: Instant, indexes: Vec<u32>) {
        if !indexes.is_empty() {
            self.quarantined().push((until, indexes));
        }
    }

    /// Moves frames whose time has come to the commons. To be called now and then: when sockets
    /// are opened and by pools that run empty.
    pub(crate) fn end_quarantine(&self) {
        let mut quarantine = self.quarantined();
        if quarantine.is_empty() {
            return;
        }
        let now = Instant::now();
        quarantine.retain_mut(|(until, indexes)| {
            let over = *until <= now;
            if over {
                self.put_back(indexes.drain(..));
            }
            !over
        });
    }

    /// Moves up to `most` frames to `free`. Cheap when there are none.
    pub(crate) fn fetch(&self, free: &mut Vec<u32>, most: usize) {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut commons = self.commons();
        let from = commons.len() - commons.len().min(most);
        for index in commons.drain(from..) {
            self.audit.moved(index, Place::Commons, Place::Pool);
            free.push(index);
        }
        self.waiting.store(commons.len() as u32, Ordering::Relaxed);
    }

    fn quarantined(&self) -> MutexGuard<'_, Vec<(Instant, Vec<u32>)>> {
        self.quarantine
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic elsewhere cannot leave the list half changed: both writers only push or drain.
    fn commons(&self) -> MutexGuard<'_, Vec<u32>> {
        self.commons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn assert_layout(count: u32, chunk: u32) {
    assert!(
        chunk.is_power_of_two() && (SMALLEST_CHUNK..=LARGEST_CHUNK).contains(&chunk),
        "a frame has a power of two of bytes, from 2048 to 32768, not {chunk}"
    );
    assert!(count > 0, "an area has at least one frame");
}
