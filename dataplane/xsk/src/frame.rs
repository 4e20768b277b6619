//! The packet buffer.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use crate::area::Area;
use crate::audit::Place;

/// Free bytes in front of a fresh packet.
///
/// The kernel puts a received packet 256 bytes (`XDP_PACKET_HEADROOM`) into its chunk; frames from
/// a pool start there too, so that code which prepends headers meets one case. The largest thing
/// prepended, an Ethernet header with two VLAN tags, IPv6, UDP, ESP and a 16-byte IV, takes 94.
pub const HEADROOM: usize = 256;

/// An exclusively owned packet buffer: a chunk of UMEM, or a buffer on the heap.
///
/// The packet is a window into the buffer; the free bytes before and after it are its headroom and
/// tailroom. Bytes that a window grows over keep whatever they held.
///
/// A frame is 24 bytes, moves freely between threads, and cannot be cloned. Give it back with
/// [`FramePool::give`](crate::FramePool::give); a frame that is dropped instead returns to its
/// memory area under a lock, which is right for error paths and too slow for the packet loop.
pub struct Frame {
    chunk: NonNull<u8>,
    area: &'static Area,
    window: Window,
}

/// Where the packet is in its buffer: start in bits 0-15, length in 16-31, the buffer's size in
/// 32-47.
///
/// One word rather than three fields, because a frame is moved right after it was trimmed or grown:
/// a wide load of what narrow stores have just written cannot be forwarded and waits until they
/// are in the cache, some 12 cycles for each move.
#[derive(Clone, Copy)]
struct Window(u64);

impl Window {
    #[inline]
    fn new(start: u16, len: u16, size: u16) -> Self {
        Self(u64::from(start) | u64::from(len) << 16 | u64::from(size) << 32)
    }

    #[inline]
    fn start(self) -> u16 {
        self.0 as u16
    }

    #[inline]
    fn len(self) -> u16 {
        (self.0 >> 16) as u16
    }

    #[inline]
    fn size(self) -> u16 {
        (self.0 >> 32) as u16
    }
}

const _: () = assert!(size_of::<Frame>() == 24 && size_of::<Option<Frame>>() == 24);

// SAFETY: a frame owns its chunk alone (a pool hands an index out once and takes it back by value)
// and the chunk is not tied to a thread.
unsafe impl Send for Frame {}
// SAFETY: a shared frame only allows reading.
unsafe impl Sync for Frame {}

impl Frame {
    /// The frame with this index, its packet at `start..start + len`, clamped to the buffer.
    ///
    /// # Safety
    /// No other frame of this area with this index may exist, nor may the kernel hold it.
    #[inline]
    pub(crate) unsafe fn claim(area: &'static Area, index: u32, start: u32, len: u32) -> Frame {
        let size = area.chunk();
        let start = start.min(size);
        let len = len.min(size - start);
        // An area's frames have at most 32768 bytes, so all three fit.
        Frame {
            chunk: area.chunk_base(index),
            area,
            window: Window::new(start as u16, len as u16, size as u16),
        }
    }

    /// Gives the chunk away: its index, without the drop that would return it to the area.
    #[inline]
    pub(crate) fn surrender(self) -> u32 {
        let frame = ManuallyDrop::new(self);
        frame.area.index_of(frame.chunk)
    }

    #[inline]
    pub(crate) fn area(&self) -> &'static Area {
        self.area
    }

    /// Offset of the packet from the start of its area, as descriptors have it.
    #[inline]
    pub(crate) fn address(&self) -> u64 {
        let chunk = self.chunk.as_ptr() as usize - self.area.base().as_ptr() as usize;
        chunk as u64 + u64::from(self.window.start())
    }

    /// Offset of the buffer from the start of its area.
    #[inline]
    pub(crate) fn chunk_address(&self) -> u64 {
        self.address() - u64::from(self.window.start())
    }

    /// Empty packet at the buffer's start, without headroom.
    #[inline]
    pub(crate) fn rewind(&mut self) {
        self.place(0, 0);
    }

    /// The packet.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: start and length never exceed the size, the chunk has `size` initialised bytes that
        // live forever, and this frame owns them alone.
        unsafe {
            let packet = self.chunk.add(self.headroom());
            std::slice::from_raw_parts(packet.as_ptr(), self.len())
        }
    }

    /// The packet, to be changed.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` excludes every other slice of this frame.
        unsafe {
            let packet = self.chunk.add(self.headroom());
            std::slice::from_raw_parts_mut(packet.as_ptr(), self.len())
        }
    }

    /// Length of the packet in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.window.len())
    }

    /// Whether there is no packet.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size of the buffer in bytes: headroom, packet and tailroom.
    #[inline]
    pub fn capacity(&self) -> usize {
        usize::from(self.window.size())
    }

    /// Free bytes before the packet.
    #[inline]
    pub fn headroom(&self) -> usize {
        usize::from(self.window.start())
    }

    /// Free bytes after the packet.
    #[inline]
    pub fn tailroom(&self) -> usize {
        self.capacity() - self.headroom() - self.len()
    }

    /// Lets the packet begin `n` bytes earlier; false, and nothing changed, without the room.
    #[inline]
    #[must_use]
    pub fn grow_front(&mut self, n: usize) -> bool {
        if n > self.headroom() {
            return false;
        }
        self.place(self.headroom() - n, self.len() + n);
        true
    }

    /// Lets the packet end `n` bytes later; false, and nothing changed, without the room.
    #[inline]
    #[must_use]
    pub fn grow_back(&mut self, n: usize) -> bool {
        if n > self.tailroom() {
            return false;
        }
        self.place(self.headroom(), self.len() + n);
        true
    }

    /// Lets the packet begin `front` bytes earlier and end `back` bytes later; false, and nothing
    /// changed, without the room for both.
    #[inline]
    #[must_use]
    pub fn grow(&mut self, front: usize, back: usize) -> bool {
        if front > self.headroom() || back > self.tailroom() {
            return false;
        }
        self.place(self.headroom() - front, front + self.len() + back);
        true
    }

    /// Removes the first `n` bytes of the packet, or all of it when it is shorter.
    #[inline]
    pub fn trim_front(&mut self, n: usize) {
        let n = n.min(self.len());
        self.place(self.headroom() + n, self.len() - n);
    }

    /// Shortens the packet to `len` bytes; no effect on a shorter one.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.place(self.headroom(), self.len().min(len));
    }

    /// Keeps the `len` bytes of the packet from `offset` on, or what there is of them.
    #[inline]
    pub fn narrow(&mut self, offset: usize, len: usize) {
        let offset = offset.min(self.len());
        let len = len.min(self.len() - offset);
        self.place(self.headroom() + offset, len);
    }

    /// Sets the window. `start + len` is at most the size: the callers have seen to it.
    #[inline]
    fn place(&mut self, start: usize, len: usize) {
        debug_assert!(start + len <= self.capacity());
        self.window = Window::new(start as u16, len as u16, self.window.size());
    }

    /// Back to an empty packet with [`HEADROOM`] in front.
    #[inline]
    pub fn reset(&mut self) {
        self.place(HEADROOM, 0);
    }

    /// Makes `packet` the frame's packet, with [`HEADROOM`] in front; false, and the frame reset,
    /// when it is too long.
    #[inline]
    #[must_use]
    pub fn set(&mut self, packet: &[u8]) -> bool {
        self.reset();
        self.append(packet)
    }

    /// Adds bytes at the packet's end; false, and nothing changed, without the room.
    #[inline]
    #[must_use]
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        let end = self.len();
        if !self.grow_back(bytes.len()) {
            return false;
        }
        self.bytes_mut()[end..].copy_from_slice(bytes);
        true
    }

    /// Asks the processor for the packet's first cache line.
    #[inline]
    pub fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch reads nothing the program can see, and the address is in the chunk.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.chunk.as_ptr().add(self.headroom()).cast());
        }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let index = self.area.index_of(self.chunk);
        self.area.audit.moved(index, Place::Hand, Place::Commons);
        self.area.put_back(std::iter::once(index));
    }
}

/// Sizes only: a packet's bytes may be somebody's plaintext.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("headroom", &self.headroom())
            .field("len", &self.len())
            .field("tailroom", &self.tailroom())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FramePool;
    use proptest::prelude::*;

    fn frame() -> Frame {
        FramePool::heap(1, 2048).take().unwrap()
    }

    #[test]
    fn a_fresh_frame_is_empty_with_headroom() {
        let frame = frame();
        assert!(frame.is_empty());
        assert_eq!(
            (frame.headroom(), frame.len(), frame.tailroom()),
            (256, 0, 1792)
        );
    }

    #[test]
    fn headers_are_prepended_in_place() {
        let mut frame = frame();
        assert!(frame.set(b"payload"));
        let payload = frame.bytes().as_ptr();
        assert!(frame.grow_front(4));
        frame.bytes_mut()[..4].copy_from_slice(b"head");
        assert_eq!(frame.bytes(), b"headpayload");
        assert_eq!(frame.bytes()[4..].as_ptr(), payload);
        frame.trim_front(4);
        assert_eq!(frame.bytes(), b"payload");
        frame.truncate(3);
        assert_eq!(frame.bytes(), b"pay");
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut frame = frame();
        assert!(frame.set(&[7; 1792]));
        assert!(!frame.grow_back(1));
        assert!(!frame.grow_front(257));
        assert!(!frame.append(&[0]));
        assert_eq!(frame.bytes(), [7; 1792]);
        assert!(frame.grow_front(256));
        assert_eq!((frame.headroom(), frame.len()), (0, 2048));
        assert!(!frame.set(&[0; 1793]));
        assert!(frame.is_empty());
    }

    #[test]
    fn cutting_more_than_there_is_leaves_nothing() {
        let mut frame = frame();
        assert!(frame.set(b"abc"));
        frame.trim_front(usize::MAX);
        assert!(frame.is_empty());
        assert_eq!(frame.headroom(), 259);
    }

    proptest! {
        /// The window behaves like a vector with room on both sides.
        #[test]
        fn the_window_is_a_window(steps in prop::collection::vec((0u8..7, 0usize..3000), 0..60)) {
            let mut frame = frame();
            let (mut start, mut end) = (256usize, 256usize);
            for (step, n) in steps {
                match step {
                    0 => {
                        let fits = n <= start;
                        prop_assert_eq!(frame.grow_front(n), fits);
                        start -= if fits { n } else { 0 };
                    }
                    1 => {
                        let fits = end + n <= 2048;
                        prop_assert_eq!(frame.grow_back(n), fits);
                        end += if fits { n } else { 0 };
                    }
                    2 => {
                        frame.trim_front(n);
                        start = end.min(start + n);
                    }
                    3 => {
                        frame.truncate(n);
                        end = end.min(start + n);
                    }
                    5 => {
                        let fits = n <= start && end + n / 2 <= 2048;
                        prop_assert_eq!(frame.grow(n, n / 2), fits);
                        start -= if fits { n } else { 0 };
                        end += if fits { n / 2 } else { 0 };
                    }
                    4 => {
                        frame.narrow(n, n / 2);
                        start = end.min(start + n);
                        end = end.min(start + n / 2);
                    }
                    _ => {
                        frame.reset();
                        (start, end) = (256, 256);
                    }
                }
                prop_assert_eq!(frame.headroom(), start);
                prop_assert_eq!(frame.bytes().len(), end - start);
                prop_assert_eq!(frame.tailroom(), 2048 - end);
            }
        }
    }
}
