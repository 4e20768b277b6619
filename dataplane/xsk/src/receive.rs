//! Receiving: filled descriptors become frames, frames refill the fill ring.

use arrayvec::ArrayVec;

use crate::counters::Counters;
use crate::frame::Frame;
use crate::held::Purpose;
use crate::pool::FramePool;
use crate::ring::Descriptor;
use crate::socket::Socket;
use crate::sys;

/// Where received frames go. Bounded: the packet loop must not allocate.
pub trait FrameSink {
    /// How many frames still fit.
    fn room(&self) -> usize;
    /// Takes a frame; called at most [`room`](FrameSink::room) times.
    fn put(&mut self, frame: Frame);
}

impl<const N: usize> FrameSink for ArrayVec<Frame, N> {
    #[inline]
    fn room(&self) -> usize {
        self.remaining_capacity()
    }

    #[inline]
    fn put(&mut self, frame: Frame) {
        self.push(frame);
    }
}

/// A vector takes as many as it has capacity for.
impl FrameSink for Vec<Frame> {
    #[inline]
    fn room(&self) -> usize {
        self.capacity() - self.len()
    }

    #[inline]
    fn put(&mut self, frame: Frame) {
        self.push(frame);
    }
}

/// The state of a packet that comes in several frames.
#[derive(Debug, Default)]
pub(crate) enum Gathering {
    /// Between packets.
    #[default]
    Idle,
    /// Its beginning.
    Packet(Frame),
    /// It is dropped; its remaining frames are still to come.
    Discard,
}

impl Gathering {
    /// Adds one descriptor's frame; the whole packet when that was the last.
    fn add(
        &mut self,
        part: Frame,
        goes_on: bool,
        pool: &mut FramePool,
        counters: &mut Counters,
    ) -> Option<Frame> {
        let mut packet = match std::mem::take(self) {
            // A descriptor that is a packet by itself, and the first of several.
            Gathering::Idle if !goes_on => return Some(part),
            Gathering::Idle => pool.take_jumbo().or_else(|| {
                counters.jumbo_without_frame += 1;
                None
            }),
            Gathering::Packet(packet) => Some(packet),
            Gathering::Discard => None,
        };
        if let Some(jumbo) = &mut packet
            && !jumbo.append(part.bytes())
        {
            counters.jumbo_too_long += 1;
            pool.give_all(packet.take());
        }
        pool.give(part);
        match packet {
            Some(packet) if goes_on => *self = Gathering::Packet(packet),
            Some(packet) => {
                counters.received_jumbo += 1;
                return Some(packet);
            }
            None if goes_on => *self = Gathering::Discard,
            None => {}
        }
        None
    }
}

impl Socket {
    /// Moves received packets to `out`, at most as many as it has room for; how many.
    ///
    /// A packet of several frames is gathered into a jumbo frame of `pool`, across calls if need
    /// be, and appears when it is complete.
    #[inline]
    pub fn receive(&mut self, pool: &mut FramePool, out: &mut impl FrameSink) -> usize {
        let room = u32::try_from(out.room()).unwrap_or(u32::MAX);
        let n = self.rx.acquire(room).min(room);
        if n == 0 {
            return 0;
        }
        let mut packets = 0;
        let area = self.umem.area();
        let within = u64::from(area.chunk() - 1);
        let (first, second) = self.rx.entries(n);
        for &Descriptor {
            address,
            len,
            options,
        } in first.iter().chain(second)
        {
            // In copy mode the packet is 256 bytes into its chunk; a driver may put it elsewhere.
            let index = area.index_at(address);
            if !self.held.take(index, Purpose::Receive) {
                self.counters.foreign_addresses += 1;
                continue;
            }
            // SAFETY: we gave the kernel this frame for receiving, and now it has returned it:
            // `held` keeps track of that, so nobody else has it.
            let frame = unsafe { Frame::claim(area, index, (address & within) as u32, len) };
            frame.prefetch();
            let goes_on = options & libc::XDP_PKT_CONTD != 0;
            let frame = if !goes_on && matches!(self.gathering, Gathering::Idle) {
                frame
            } else {
                match self.gathering.add(frame, goes_on, pool, &mut self.counters) {
                    Some(packet) => packet,
                    None => continue,
                }
            };
            out.put(frame);
            packets += 1;
        }
        self.rx.release(n);
        self.fill_debt += n;
        self.counters.received += packets as u64;
        packets
    }

    /// Offers free frames of `pool` to the kernel until the fill ring is full again; how many.
    ///
    /// To be called after each [`receive`](Socket::receive), and once after opening. A pool that
    /// is empty leaves the ring short; that is counted, and made good by the next calls.
    ///
    /// # Panics
    /// When the pool is not of this socket's UMEM.
    #[inline]
    pub fn refill(&mut self, pool: &mut FramePool) -> usize {
        if self.fill_debt == 0 {
            return 0;
        }
        assert!(
            std::ptr::eq(pool.area(), self.umem.area()),
            "a socket receives into frames of its own UMEM"
        );
        // The debt counts frames that were taken from the ring, so that many slots are free, but
        // the kernel may publish that late.
        let want = self.fill.acquire(self.fill_debt).min(self.fill_debt);
        let mut filled = 0;
        let mut slots = self.fill.slots();
        while filled < want
            && let Some(frame) = pool.take()
        {
            let address = frame.chunk_address();
            let index = frame.surrender();
            self.held.put(index, Purpose::Receive);
            slots.put(address);
            filled += 1;
        }
        if filled > 0 {
            self.fill.release(filled);
            self.fill_debt -= filled;
        }
        if filled < want {
            self.counters.fill_short += 1;
            self.counters.fill_starved += u64::from(self.held.receive() == 0);
        }
        if self.fill.needs_wakeup() {
            // The result would only tell about the link, which `kick` and `link` report.
            let _ = sys::wake_receive(std::os::fd::AsFd::as_fd(&*self.fd));
        }
        filled as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::JUMBO;
    use proptest::prelude::*;

    fn part(pool: &mut FramePool, len: usize, byte: u8) -> Frame {
        let mut frame = pool.take().unwrap();
        assert!(frame.set(&vec![byte; len]));
        frame
    }

    #[test]
    fn parts_become_one_packet() {
        let mut pool = FramePool::heap(4, 4096).with_jumbos(1);
        let mut gathering = Gathering::default();
        let mut counters = Counters::default();
        for (len, byte) in [(3840, 1), (3840, 2)] {
            let part = part(&mut pool, len, byte);
            assert!(
                gathering
                    .add(part, true, &mut pool, &mut counters)
                    .is_none()
            );
        }
        let last = part(&mut pool, 1334, 3);
        let packet = gathering
            .add(last, false, &mut pool, &mut counters)
            .unwrap();
        assert_eq!(
            packet.bytes(),
            [vec![1; 3840], vec![2; 3840], vec![3; 1334]].concat()
        );
        assert_eq!((pool.len(), pool.jumbos()), (4, 0));
        assert_eq!(
            counters,
            Counters {
                received_jumbo: 1,
                ..Counters::default()
            }
        );
        // The next packet starts afresh.
        let single = part(&mut pool, 60, 4);
        assert_eq!(
            gathering
                .add(single, false, &mut pool, &mut counters)
                .unwrap()
                .len(),
            60
        );
    }

    proptest! {
        /// Packets of any number of parts, with jumbo frames or without: each is delivered whole
        /// or counted, and no frame is lost.
        #[test]
        fn every_packet_is_whole_or_counted(
            packets in prop::collection::vec(prop::collection::vec(1usize..3840, 1..8), 1..20),
            jumbos in 0usize..2,
        ) {
            let mut pool = FramePool::heap(2, 4096).with_jumbos(jumbos);
            let mut gathering = Gathering::default();
            let mut counters = Counters::default();
            let mut expected = Counters::default();
            for lens in packets {
                let mut sent = Vec::new();
                let mut got = None;
                for (i, &len) in lens.iter().enumerate() {
                    let part = part(&mut pool, len, i as u8);
                    sent.extend_from_slice(part.bytes());
                    prop_assert!(got.is_none());
                    got = gathering.add(part, i + 1 < lens.len(), &mut pool, &mut counters);
                }
                let fits = lens.len() == 1 || sent.len() <= JUMBO - crate::HEADROOM;
                if lens.len() > 1 {
                    if jumbos == 0 {
                        expected.jumbo_without_frame += 1;
                    } else if fits {
                        expected.received_jumbo += 1;
                    } else {
                        expected.jumbo_too_long += 1;
                    }
                }
                let whole = fits && (lens.len() == 1 || jumbos > 0);
                prop_assert_eq!(got.as_ref().map(Frame::bytes), whole.then_some(&sent[..]));
                pool.give_all(got);
                prop_assert_eq!((pool.len(), pool.jumbos()), (2, jumbos));
            }
            prop_assert_eq!(counters, expected);
        }
    }
}
