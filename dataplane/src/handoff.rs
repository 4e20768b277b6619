//! Frames from the worker that received them to the worker that owns their SA.
//!
//! One single-producer ring for each ordered pair of workers, moved a burst at a time. Frames are
//! conserved: for every frame that comes over, the owner sends an empty one back on a second ring,
//! so neither worker's free list runs dry however lopsided the traffic is.

use hawser_xsk::{Frame, FramePool};
use rtrb::{Consumer, Producer, RingBuffer, chunks::ChunkError};

/// Frames a ring holds. Unit: frames. Sixteen bursts: what arrives while the owner handles a
/// batch of every other socket. Too small: `handoff_full` drops under bursts. Too large: a slow
/// owner hides behind a long queue.
const RING: usize = 1024;

/// The sending end, at the worker that receives from the network.
pub struct Sender {
    full: Producer<Frame>,
    empty: Consumer<Frame>,
}

/// The receiving end, at the worker that owns the SA.
pub struct Receiver {
    full: Consumer<Frame>,
    empty: Producer<Frame>,
    /// Empty frames still owed because the free list had none.
    owed: usize,
}

/// A ring between two workers.
#[must_use]
pub fn ring() -> (Sender, Receiver) {
    let (full_in, full_out) = RingBuffer::new(RING);
    let (empty_in, empty_out) = RingBuffer::new(2 * RING);
    (
        Sender {
            full: full_in,
            empty: empty_out,
        },
        Receiver {
            full: full_out,
            empty: empty_in,
            owed: 0,
        },
    )
}

impl Sender {
    /// Sends frames from the front of `frames`; what does not fit goes back to the pool.
    /// Returns how many were sent.
    pub fn send(&mut self, frames: &mut Vec<Frame>, pool: &mut FramePool) -> usize {
        let n = frames.len().min(self.full.slots());
        if let Ok(chunk) = self.full.write_chunk_uninit(n) {
            chunk.fill_from_iter(frames.drain(..n));
        }
        pool.give_all(frames.drain(..));
        n
    }

    /// Takes back the empty frames.
    pub fn reclaim(&mut self, pool: &mut FramePool) {
        while let Ok(frame) = self.empty.pop() {
            pool.give(frame);
        }
    }
}

impl Receiver {
    /// Receives up to `max` frames into `frames` and sends as many empty ones back.
    pub fn receive(&mut self, frames: &mut Vec<Frame>, max: usize, pool: &mut FramePool) -> usize {
        let n = max.min(self.full.slots());
        let n = match self.full.read_chunk(n) {
            Ok(chunk) => {
                frames.extend(chunk);
                n
            }
            Err(ChunkError::TooFewSlots(_)) => 0,
        };
        self.owed += n;
        while self.owed > 0 {
            let Some(frame) = pool.take() else { break };
            if let Err(rtrb::PushError::Full(frame)) = self.empty.push(frame) {
                pool.give(frame);
                break;
            }
            self.owed -= 1;
        }
        n
    }

    /// Whether frames wait.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.full.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_conserved() {
        let mut here = FramePool::heap(2 * RING + 10, 2048);
        let mut there = here.split_off(RING);
        let (before_here, before_there) = (here.len(), there.len());
        let (mut sender, mut receiver) = ring();
        let mut got = Vec::with_capacity(64);
        for round in 0..100u8 {
            let mut out: Vec<_> = (0..64)
                .map(|n| {
                    let mut frame = here.take().unwrap();
                    assert!(frame.set(&[round, n]));
                    frame
                })
                .collect();
            assert_eq!(sender.send(&mut out, &mut here), 64);
            assert_eq!(receiver.receive(&mut got, 64, &mut there), 64);
            for (n, frame) in got.drain(..).enumerate() {
                assert_eq!(frame.bytes(), &[round, n as u8], "in order");
                there.give(frame);
            }
            sender.reclaim(&mut here);
        }
        assert_eq!((here.len(), there.len()), (before_here, before_there));
    }

    #[test]
    fn a_full_ring_gives_the_rest_back() {
        let mut pool = FramePool::heap(RING + 20, 2048);
        let (mut sender, _receiver) = ring();
        let mut frames: Vec<_> = (0..RING + 20).map(|_| pool.take().unwrap()).collect();
        assert_eq!(sender.send(&mut frames, &mut pool), RING);
        assert_eq!(pool.len(), 20);
    }
}
