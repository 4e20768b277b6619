//! Sending: frames become descriptors, completed ones return to the pool.
//!
//! In copy mode the kernel does nearly all the work, inside `sendto`: it copies the packet, and on
//! veth runs the peer's receive side as well. Processor time in ns for each packet, everything
//! included, by the largest number of packets in a round, each round with one `sendto` (veth, Linux
//! 6.18, AMD Zen 3, a machine busy with other work: the ratios hold, the figures are high; medians
//! of 9 interleaved runs of `xsk_pps tx seconds=0.3` and `xsk_pps forward wait=poll seconds=0.4`):
//!
//! | packets a round | 1 | 8 | 32 | 64 |
//! |---|---|---|---|---|
//! | send 64 bytes | 2601 | 1441 | 1349 | 1322 |
//! | send 1400 bytes | 2726 | 1628 | 1474 | 1463 |
//! | forward 64 bytes | 2630 | 1676 | 1372 | 1415 |
//! | forward 1400 bytes | 3276 | 2094 | 1758 | 1685 |
//!
//! So one call a round is enough and no call need be put off: rounds of eight packets already save
//! a third to a half, more than 32 saves nothing, and a loaded worker's rounds are larger by
//! themselves. The kernel's budget a call ([`transmit_budget`](crate::Options::transmit_budget))
//! and send buffers between 200 kB and 8 MB change little (64 bytes, rounds of 64: 1341 and 1355
//! with a budget of 32, 1253 and 1311 with 2048), since [`kick`](crate::Socket::kick) calls again
//! while there is progress.

use std::os::fd::AsFd;

use arrayvec::ArrayVec;

use crate::frame::Frame;
use crate::held::{Held, Purpose};
use crate::pool::FramePool;
use crate::ring::{Descriptor, Slots};
use crate::socket::{Link, Socket, link_of};
use crate::sys;

/// Descriptors one packet may have: a linear part and `MAX_SKB_FRAGS` (17) fragments.
const MOST_PARTS: usize = 18;

/// Length of an Ethernet header: the kernel sends nothing shorter.
const SHORTEST: usize = 14;

/// System calls without any progress before [`Socket::kick`] leaves the rest for the next time.
///
/// Unit: calls. The kernel says `EAGAIN` when its budget is spent (then there was progress, and
/// calling again is right) and when buffers or the device's queue are full. Waiting for those here
/// would stop the worker; with 0 a queue that was full for an instant costs a whole round.
const STALLS: u32 = 1;

/// Why a frame was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The transmit ring is full.
    RingFull,
    /// It is of another memory (jumbo, heap) and no frame was free to copy it into.
    NoFrame,
    /// Shorter than an Ethernet header.
    TooShort,
    /// Longer than a frame and the socket is not multi-buffer, or too long even then.
    TooLong,
}

impl Socket {
    /// Puts frames in the transmit ring; how many. The kernel sends them at the next
    /// [`kick`](Socket::kick).
    ///
    /// Frames that cannot be sent return to `pool`; the counters say why.
    #[inline]
    pub fn transmit(
        &mut self,
        pool: &mut FramePool,
        frames: impl IntoIterator<Item = Frame>,
    ) -> usize {
        self.transmit_or_else(pool, frames, |pool, frame, _| pool.give(frame))
    }

    /// As [`transmit`](Socket::transmit), with the frames that cannot be sent handed to `refused`.
    ///
    /// Frames of the UMEM are sent as they are. Others (jumbo and heap frames) are copied into
    /// frames of `pool`: several if the packet is longer than one, which needs multi-buffer.
    ///
    /// # Panics
    /// When a frame must be copied and the pool is not of this socket's UMEM.
    pub fn transmit_or_else(
        &mut self,
        pool: &mut FramePool,
        frames: impl IntoIterator<Item = Frame>,
        mut refused: impl FnMut(&mut FramePool, Frame, Refusal),
    ) -> usize {
        let frames = frames.into_iter();
        let want = frames.size_hint().0.max(1) + MOST_PARTS;
        let free = self.tx.acquire(want as u32);
        let mut slots = self.tx.slots();
        let area = self.umem.area();
        let mut packets = 0;
        for frame in frames {
            let refusal = if frame.len() < SHORTEST {
                self.counters.refused_too_short += 1;
                Refusal::TooShort
            } else if std::ptr::eq(frame.area(), area) {
                if slots.left() > 0 {
                    put(&mut slots, &mut self.held, frame, 0);
                    packets += 1;
                    continue;
                }
                self.counters.refused_ring_full += 1;
                Refusal::RingFull
            } else {
                assert!(
                    std::ptr::eq(pool.area(), area),
                    "a socket sends from frames of its own UMEM"
                );
                let most = if self.granted.multi_buffer {
                    MOST_PARTS
                } else {
                    1
                };
                match scatter(&frame, pool, area.chunk() as usize, most, slots.left()) {
                    Ok(parts) => {
                        let last = parts.len() - 1;
                        for (i, part) in parts.into_iter().enumerate() {
                            let options = if i < last { libc::XDP_PKT_CONTD } else { 0 };
                            put(&mut slots, &mut self.held, part, options);
                        }
                        packets += 1;
                        pool.give(frame);
                        continue;
                    }
                    Err(refusal) => {
                        *match refusal {
                            Refusal::RingFull => &mut self.counters.refused_ring_full,
                            Refusal::NoFrame => &mut self.counters.refused_no_frame,
                            Refusal::TooShort => &mut self.counters.refused_too_short,
                            Refusal::TooLong => &mut self.counters.refused_too_long,
                        } += 1;
                        refusal
                    }
                }
            };
            refused(pool, frame, refusal);
        }
        let used = free - slots.left() as u32;
        if used > 0 {
            self.tx.release(used);
            self.unkicked = true;
        }
        self.counters.transmitted += packets as u64;
        packets
    }

    /// Packets, more exactly descriptors, in the transmit ring that the kernel has not taken yet.
    pub fn pending(&mut self) -> u32 {
        self.tx.pending()
    }

    /// Makes the kernel send what is in the transmit ring: one system call as a rule, none when
    /// there is nothing to send or the driver looks by itself.
    ///
    /// Says how the interface is, as far as this call found out: without anything to send it is
    /// taken to be up.
    ///
    /// What the kernel cannot take now (`EAGAIN`) stays in the ring for the next call. When the
    /// device's queue is full or has no carrier (`EBUSY`) one packet is lost and counted; the rest
    /// stays too, since each further call would lose another one.
    pub fn kick(&mut self) -> Link {
        if !self.unkicked {
            return Link::Up;
        }
        if !self.tx.needs_wakeup() {
            self.unkicked = false;
            return Link::Up;
        }
        let mut stalls = 0;
        let mut pending = self.tx.pending();
        loop {
            self.counters.kicks += 1;
            let Err(error) = sys::wake_transmit(self.fd.as_fd()) else {
                self.unkicked = false;
                return Link::Up;
            };
            if let Some(link) = link_of(&error) {
                return link;
            }
            match error.raw_os_error() {
                Some(libc::EAGAIN) => self.counters.kicks_unfinished += 1,
                Some(libc::EBUSY) => {
                    self.counters.dropped_by_device += 1;
                    return Link::Up;
                }
                Some(libc::EINTR) => {}
                errno => {
                    self.counters.kicks_failed += 1;
                    self.last_error = errno;
                    return Link::Up;
                }
            }
            let before = pending;
            pending = self.tx.pending();
            if pending == before {
                if stalls == STALLS {
                    return Link::Up;
                }
                stalls += 1;
            }
        }
    }

    /// Returns the frames that were sent to `pool`; how many. To be called once a round: the
    /// kernel stops sending when nobody takes its completions.
    #[inline]
    pub fn recycle(&mut self, pool: &mut FramePool) -> usize {
        let outstanding = self.held.transmit();
        if outstanding == 0 {
            return 0;
        }
        let n = self.completion.acquire(outstanding);
        let area = self.umem.area();
        let (first, second) = self.completion.entries(n);
        for &address in first.iter().chain(second) {
            let index = area.index_at(address);
            if !self.held.take(index, Purpose::Transmit) {
                self.counters.foreign_addresses += 1;
                continue;
            }
            // SAFETY: we gave the kernel this frame for sending, and now it has returned it:
            // `held` keeps track of that, so nobody else has it.
            pool.give(unsafe { Frame::claim(area, index, 0, 0) });
        }
        if n > 0 {
            self.completion.release(n);
        }
        n as usize
    }
}

/// Writes one descriptor; the kernel owns the frame from its release on.
#[inline]
fn put(slots: &mut Slots<'_, Descriptor>, held: &mut Held, frame: Frame, options: u32) {
    slots.put(Descriptor {
        address: frame.address(),
        len: frame.len() as u32,
        options,
    });
    held.put(frame.surrender(), Purpose::Transmit);
}

/// Copies a packet into as many frames of `pool` as it takes.
fn scatter(
    packet: &Frame,
    pool: &mut FramePool,
    chunk: usize,
    most: usize,
    slots: usize,
) -> Result<ArrayVec<Frame, MOST_PARTS>, Refusal> {
    let n = packet.len().div_ceil(chunk);
    if n > most {
        return Err(Refusal::TooLong);
    }
    if n > slots {
        return Err(Refusal::RingFull);
    }
    let mut parts = ArrayVec::new();
    for bytes in packet.bytes().chunks(chunk) {
        let Some(mut part) = pool.take() else {
            pool.give_all(parts);
            return Err(Refusal::NoFrame);
        };
        // From the chunk's start: nothing is prepended any more, and the packet may fill it.
        part.rewind();
        assert!(part.append(bytes), "a part is at most a frame long");
        parts.push(part);
    }
    Ok(parts)
}
