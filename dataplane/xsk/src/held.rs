//! Which frames the kernel holds for one socket.
//!
//! One byte a frame, written when a frame goes to the kernel, read and written when it returns. It
//! buys two things for that: an address that the kernel (or a driver with a bug)
//! returns without having got it is refused instead of becoming a second owner of somebody's
//! frame, and when a socket closes, for whatever reason, all its frames come back.

use std::time::{Duration, Instant};

use crate::area::Area;
use crate::audit::Place;

/// How long frames of a closed socket rest that a driver may still touch.
///
/// The kernel takes a zero-copy driver off its frames in a work queue after `close`, under the
/// network configuration lock, and packets sent with pages of the UMEM may still be in a queue.
/// Both take milliseconds. Too short: a new packet's bytes could be overwritten by a late write.
/// Too long: the frames are missing after an interface flaps.
const QUARANTINE: Duration = Duration::from_secs(2);

/// What the kernel has a frame for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Purpose {
    Receive = 1,
    Transmit = 2,
}

impl Purpose {
    fn place(self) -> Place {
        match self {
            Purpose::Receive => Place::Receive,
            Purpose::Transmit => Place::Transmit,
        }
    }
}

/// The frames one socket's kernel side holds.
///
/// Dropped, it gives them back to their area: it must be the last part of a socket to go.
pub(crate) struct Held {
    area: &'static Area,
    /// A [`Purpose`] for each frame of the area, 0 for those that are not ours.
    purposes: Box<[u8]>,
    receive: u32,
    transmit: u32,
    /// A driver works on the frames directly.
    pub(crate) zero_copy: bool,
}

impl Held {
    pub(crate) fn new(area: &'static Area) -> Held {
        let purposes = vec![0; area.count() as usize].into_boxed_slice();
        Held {
            area,
            purposes,
            receive: 0,
            transmit: 0,
            zero_copy: false,
        }
    }

    /// Notes that the frame, which was in hand, goes to the kernel.
    #[inline]
    pub(crate) fn put(&mut self, index: u32, purpose: Purpose) {
        self.area.audit.moved(index, Place::Hand, purpose.place());
        self.purposes[index as usize] = purpose as u8;
        *self.count(purpose) += 1;
    }

    /// Notes that the kernel returned the frame; false when it did not have it for that purpose.
    #[inline]
    #[must_use]
    pub(crate) fn take(&mut self, index: u32, purpose: Purpose) -> bool {
        match self.purposes.get_mut(index as usize) {
            Some(noted) if *noted == purpose as u8 => *noted = 0,
            _ => return false,
        }
        self.area.audit.moved(index, purpose.place(), Place::Hand);
        *self.count(purpose) -= 1;
        true
    }

    #[inline]
    fn count(&mut self, purpose: Purpose) -> &mut u32 {
        match purpose {
            Purpose::Receive => &mut self.receive,
            Purpose::Transmit => &mut self.transmit,
        }
    }

    /// Frames given for receiving and not returned yet.
    #[inline]
    pub(crate) fn receive(&self) -> u32 {
        self.receive
    }

    /// Frames given for sending and not returned yet.
    #[inline]
    pub(crate) fn transmit(&self) -> u32 {
        self.transmit
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut at_once = Vec::new();
        let mut later = Vec::new();
        for (index, &noted) in (0..).zip(&self.purposes) {
            let purpose = match noted {
                0 => continue,
                1 => Purpose::Receive,
                _ => Purpose::Transmit,
            };
            self.area
                .audit
                .moved(index, purpose.place(), Place::Commons);
            // In copy mode only the kernel's socket code writes to frames for receiving, and
            // `close` waits for it.
            if purpose == Purpose::Receive && !self.zero_copy {
                at_once.push(index);
            } else {
                later.push(index);
            }
        }
        self.area.put_back(at_once.into_iter());
        self.area.put_back_later(Instant::now() + QUARANTINE, later);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FramePool;

    #[test]
    fn only_what_was_given_returns() {
        let mut pool = FramePool::heap(4, 2048);
        let mut held = Held::new(pool.area());
        let index = pool.take().unwrap().surrender();
        held.put(index, Purpose::Receive);
        assert_eq!((held.receive(), held.transmit()), (1, 0));
        assert!(!held.take(index, Purpose::Transmit));
        assert!(!held.take(index + 1, Purpose::Receive));
        assert!(!held.take(u32::MAX, Purpose::Receive));
        assert!(held.take(index, Purpose::Receive));
        assert!(!held.take(index, Purpose::Receive));
        assert_eq!(held.receive(), 0);
    }

    #[test]
    fn frames_return_when_a_socket_goes() {
        let mut pool = FramePool::heap(4, 2048);
        let area = pool.area();
        let mut held = Held::new(area);
        for purpose in [Purpose::Receive, Purpose::Receive, Purpose::Transmit] {
            held.put(pool.take().unwrap().surrender(), purpose);
        }
        drop(held);
        assert_eq!(
            std::iter::from_fn(|| pool.take())
                .map(std::mem::forget)
                .count(),
            3
        );
        assert!(
            pool.take().is_none(),
            "what was being sent rests for a while"
        );
        std::thread::sleep(QUARANTINE);
        assert!(pool.take().is_some());
    }
}
