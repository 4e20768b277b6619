//! Free frames of one worker.
//!
//! A pool is a plain stack: no lock, no atomic, the frame used last is the one used next and still
//! in the cache. Frames wander, though: a worker that hands packets to another, which sends them,
//! also hands over the buffers. So a pool keeps a ceiling; what is above it goes to the commons of
//! the memory area, from where a pool that runs empty helps itself, [`EXCHANGE`] frames for one
//! lock. A balanced worker never takes the lock.

use crate::area::Area;
use crate::audit::{Census, Place};
use crate::frame::{Frame, HEADROOM};

/// Bytes of a jumbo frame: a 9000 byte packet with headers, and all that a 16 KiB buffer can hold.
pub const JUMBO: usize = 16384;

/// Frames moved between a pool and the commons under one lock.
///
/// Unit: frames. One burst of a worker; with 1 the lock is taken per packet, with thousands a
/// single worker empties the commons while its neighbours starve.
const EXCHANGE: usize = 64;

/// A worker's free frames: chunks of one memory area, and jumbo frames if it was given some.
pub struct FramePool {
    chunks: FreeList,
    jumbos: Option<FreeList>,
}

impl FramePool {
    /// All frames of an area.
    ///
    /// # Safety
    /// To be called once for an area, before anything else takes frames from it.
    pub(crate) unsafe fn whole(area: &'static Area) -> FramePool {
        // SAFETY: passed on to the caller.
        let chunks = unsafe { FreeList::whole(area) };
        FramePool {
            chunks,
            jumbos: None,
        }
    }

    /// `count` frames of `chunk` bytes on the heap, for tests and in-memory measurements; a socket
    /// accepts them too but must copy them.
    ///
    /// The memory is never freed.
    ///
    /// # Panics
    /// When `chunk` is not a power of two from 2048 to 32768, or `count` is 0 or above `u32`.
    pub fn heap(count: usize, chunk: usize) -> FramePool {
        let (count, chunk) = (layout_u32(count), layout_u32(chunk));
        // SAFETY: the area is new.
        unsafe { FramePool::whole(Area::heap(count, chunk)) }
    }

    /// Adds `count` jumbo frames of [`JUMBO`] bytes, which multi-buffer packets are gathered into.
    ///
    /// They live on the heap and their memory is touched only when used. Replaces jumbo frames the
    /// pool had.
    #[must_use]
    pub fn with_jumbos(mut self, count: usize) -> FramePool {
        self.jumbos = (count > 0).then(|| {
            let area = Area::heap(layout_u32(count), JUMBO as u32);
            // SAFETY: the area is new.
            unsafe { FreeList::whole(area) }
        });
        self
    }

    /// A free frame, empty, with [`HEADROOM`] in front. None when this pool and the commons of its
    /// area are empty.
    #[inline]
    pub fn take(&mut self) -> Option<Frame> {
        self.chunks.take()
    }

    /// A free jumbo frame, empty, with [`HEADROOM`] in front.
    pub fn take_jumbo(&mut self) -> Option<Frame> {
        self.jumbos.as_mut()?.take()
    }

    /// Takes a frame back. One that belongs to none of this pool's areas returns to its own.
    #[inline]
    pub fn give(&mut self, frame: Frame) {
        if std::ptr::eq(frame.area(), self.chunks.area) {
            self.chunks.give(frame);
        } else if let Some(jumbos) = &mut self.jumbos
            && std::ptr::eq(frame.area(), jumbos.area)
        {
            jumbos.give(frame);
        }
    }

    /// Takes frames back.
    #[inline]
    pub fn give_all(&mut self, frames: impl IntoIterator<Item = Frame>) {
        for frame in frames {
            self.give(frame);
        }
    }

    /// Free frames in this pool, jumbo frames not counted.
    #[inline]
    pub fn len(&self) -> usize {
        self.chunks.free.len()
    }

    /// Whether this pool has no free frame; the commons of its area may still have some.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.chunks.free.is_empty()
    }

    /// Free jumbo frames in this pool.
    pub fn jumbos(&self) -> usize {
        self.jumbos.as_ref().map_or(0, |jumbos| jumbos.free.len())
    }

    /// Bytes in a frame of this pool.
    pub fn chunk(&self) -> usize {
        self.chunks.area.chunk() as usize
    }

    /// A pool for another worker, with `n` frames of this one or as many as it has. Jumbo frames
    /// stay.
    ///
    /// The new pool passes on to the commons what exceeds half its frames, so that frames which
    /// wander to it from other workers return.
    #[must_use]
    pub fn split_off(&mut self, n: usize) -> FramePool {
        FramePool {
            chunks: self.chunks.split_off(n),
            jumbos: None,
        }
    }

    /// One pool for each of `ways` workers, with equal shares and the ceiling of [`split_off`].
    /// Jumbo frames go back to their area: give each worker its own with [`with_jumbos`].
    ///
    /// [`split_off`]: FramePool::split_off
    /// [`with_jumbos`]: FramePool::with_jumbos
    #[must_use]
    pub fn split(mut self, ways: usize) -> Vec<FramePool> {
        let mut left = self.len();
        (0..ways)
            .map(|worker| {
                let share = left / (ways - worker);
                left -= share;
                self.split_off(share)
            })
            .collect()
    }

    /// Sets how many free frames the pool keeps before it passes on to the commons.
    pub fn set_ceiling(&mut self, frames: usize) {
        self.chunks.set_ceiling(frames);
    }

    /// Where the frames of this pool's area are, over all pools and sockets that share it. None
    /// without debug assertions.
    pub fn audit(&self) -> Option<Census> {
        self.chunks.area.audit.census()
    }

    /// The memory area of the pool's chunks.
    #[inline]
    pub(crate) fn area(&self) -> &'static Area {
        self.chunks.area
    }
}

/// Free frames of one area.
struct FreeList {
    area: &'static Area,
    /// Indexes of the frames, the most recently used last.
    free: Vec<u32>,
    ceiling: usize,
}

impl FreeList {
    /// # Safety
    /// As [`FramePool::whole`].
    unsafe fn whole(area: &'static Area) -> FreeList {
        let count = area.count();
        // Low addresses are taken first.
        FreeList {
            area,
            free: (0..count).rev().collect(),
            ceiling: count as usize,
        }
    }

    #[inline]
    fn take(&mut self) -> Option<Frame> {
        if self.free.is_empty() {
            self.refill();
        }
        let index = self.free.pop()?;
        self.area.audit.moved(index, Place::Pool, Place::Hand);
        // SAFETY: an index is in one free list or none; popping it makes it ours alone.
        Some(unsafe { Frame::claim(self.area, index, HEADROOM as u32, 0) })
    }

    #[inline]
    fn give(&mut self, frame: Frame) {
        debug_assert!(std::ptr::eq(frame.area(), self.area));
        let index = frame.surrender();
        self.area.audit.moved(index, Place::Hand, Place::Pool);
        if self.free.len() >= self.ceiling {
            self.spill();
        }
        self.free.push(index);
    }

    #[cold]
    fn refill(&mut self) {
        self.area.fetch(&mut self.free, EXCHANGE.min(self.ceiling));
        if self.free.is_empty() {
            self.area.end_quarantine();
            self.area.fetch(&mut self.free, EXCHANGE.min(self.ceiling));
        }
    }

    /// The frames at the bottom were unused longest: they are in no cache.
    #[cold]
    fn spill(&mut self) {
        let n = EXCHANGE.min(self.free.len());
        self.pass_on(n);
    }

    fn pass_on(&mut self, n: usize) {
        let area = self.area;
        area.put_back(
            self.free
                .drain(..n)
                .inspect(|&index| area.audit.moved(index, Place::Pool, Place::Commons)),
        );
    }

    fn split_off(&mut self, n: usize) -> FreeList {
        let n = n.min(self.free.len());
        let mut free = self.free.split_off(self.free.len() - n);
        let ceiling = (n / 2).max(2 * EXCHANGE);
        // Room for everything the list may ever hold: the packet loop must not allocate.
        free.reserve(ceiling + EXCHANGE);
        FreeList {
            area: self.area,
            free,
            ceiling,
        }
    }

    fn set_ceiling(&mut self, frames: usize) {
        self.ceiling = frames.clamp(1, self.area.count() as usize);
        self.free
            .reserve(self.ceiling.saturating_sub(self.free.len()) + EXCHANGE);
    }
}

impl Drop for FreeList {
    fn drop(&mut self) {
        self.pass_on(self.free.len());
    }
}

fn layout_u32(n: usize) -> u32 {
    u32::try_from(n).expect("frame counts and sizes fit 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_are_distinct_and_return() {
        let mut pool = FramePool::heap(4, 2048);
        let mut held: Vec<Frame> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!((held.len(), pool.len()), (4, 0));
        for (i, frame) in held.iter_mut().enumerate() {
            assert!(frame.set(&[i as u8; 1792]));
        }
        for (i, frame) in held.iter().enumerate() {
            assert_eq!(frame.bytes(), [i as u8; 1792]);
        }
        pool.give_all(held);
        assert_eq!(pool.len(), 4);
        assert!(pool.take().unwrap().is_empty());
    }

    #[test]
    fn a_dropped_frame_is_not_lost() {
        let mut pool = FramePool::heap(1, 2048);
        drop(pool.take().unwrap());
        assert_eq!(pool.len(), 0);
        let frame = pool.take();
        assert!(frame.is_some());
        assert!(pool.take().is_none());
    }

    #[test]
    fn a_dropped_pool_leaves_its_frames_to_the_others() {
        let mut pool = FramePool::heap(300, 2048);
        drop(pool.split_off(200));
        let held: Vec<Frame> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(held.len(), 300);
    }

    #[test]
    fn a_foreign_frame_goes_home() {
        let (mut a, mut b) = (FramePool::heap(1, 2048), FramePool::heap(1, 2048));
        b.give(a.take().unwrap());
        assert_eq!((a.len(), b.len()), (0, 1));
        assert!(a.take().is_some());
    }

    #[test]
    fn jumbo_frames_are_bounded_and_return() {
        let mut pool = FramePool::heap(1, 2048).with_jumbos(2);
        let mut jumbo = pool.take_jumbo().unwrap();
        assert!(jumbo.set(&[1; 9018]));
        assert_eq!(jumbo.tailroom(), JUMBO - HEADROOM - 9018);
        let second = pool.take_jumbo().unwrap();
        assert!(pool.take_jumbo().is_none());
        pool.give(jumbo);
        drop(second);
        assert_eq!((pool.jumbos(), pool.len()), (1, 1));
        assert!(FramePool::heap(1, 2048).take_jumbo().is_none());
    }

    /// One worker receives, the other sends and so ends up with all frames.
    #[test]
    fn wandering_frames_come_back() {
        let mut pools = FramePool::heap(1024, 2048).split(2);
        let [a, b] = &mut pools[..] else {
            unreachable!()
        };
        for _ in 0..10_000 {
            b.give(a.take().expect("frames return from the other worker"));
        }
    }

    #[test]
    fn shares_are_equal() {
        let pools = FramePool::heap(11, 2048).split(3);
        assert_eq!(
            pools.iter().map(FramePool::len).collect::<Vec<_>>(),
            [3, 4, 4]
        );
    }

    #[test]
    #[cfg(debug_assertions)]
    fn the_census_adds_up() {
        let mut pool = FramePool::heap(10, 2048);
        let held = pool.take();
        drop(pool.take());
        let census = pool.audit().unwrap();
        assert_eq!(
            (census.pool, census.hand, census.commons, census.total()),
            (8, 1, 1, 10)
        );
        drop(held);
    }

    #[test]
    #[should_panic(expected = "power of two")]
    fn odd_frame_sizes_are_refused() {
        let _ = FramePool::heap(1, 3000);
    }

    proptest! {
        /// Whatever is done with pools and frames, the number of frames stays.
        #[test]
        fn frames_are_conserved(steps in prop::collection::vec((0u8..6, 0usize..3), 0..400)) {
            const FRAMES: usize = 400;
            let mut pools = FramePool::heap(FRAMES, 2048).split(3);
            for pool in &mut pools {
                pool.set_ceiling(70);
            }
            let mut held = Vec::new();
            for (step, i) in steps {
                match step {
                    0..=2 => held.extend((0..20).map_while(|_| pools[i].take())),
                    3 => for frame in held.drain(..held.len().min(25)) { pools[i].give(frame) },
                    4 => held.truncate(held.len().saturating_sub(3)),
                    _ => {
                        let split = pools[i].split_off(10);
                        pools[i] = split;
                    }
                }
            }
            let mut all: Vec<usize> = held.iter().map(|f| f.bytes().as_ptr() as usize).collect();
            let drained: Vec<Frame> =
                pools.iter_mut().flat_map(|p| std::iter::from_fn(|| p.take()).collect::<Vec<_>>())
                    .collect();
            all.extend(drained.iter().map(|f| f.bytes().as_ptr() as usize));
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all.len(), FRAMES);
        }
    }
}
