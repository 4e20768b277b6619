//! Frames from the worker that received them to the worker that owns their SA.
//!
//! One single-producer ring for each ordered pair of workers, moved a burst at a time. The buffers
//! wander with the packets; the frame pools even that out among themselves.

use hawser_xsk::{Frame, FramePool};
use rtrb::{Consumer, Producer, RingBuffer};

/// Frames a ring holds. Unit: frames. Sixteen bursts: what arrives while the owner handles a
/// batch of every other socket. Too small: `handoff_full` drops under bursts. Too large: a slow
/// owner hides behind a long queue.
const RING: usize = 1024;

/// The sending end, at the worker that receives from the network.
pub struct Sender(Producer<Frame>);

/// The receiving end, at the worker that owns the SA.
pub struct Receiver(Consumer<Frame>);

/// A ring between two workers.
#[must_use]
pub fn ring() -> (Sender, Receiver) {
    let (sender, receiver) = RingBuffer::new(RING);
    (Sender(sender), Receiver(receiver))
}

impl Sender {
    /// Sends frames from the front of `frames`; what does not fit goes back to the pool.
    /// Returns how many were sent.
    pub fn send(&mut self, frames: &mut Vec<Frame>, pool: &mut FramePool) -> usize {
        let n = frames.len().min(self.0.slots());
        let sent = match self.0.write_chunk_uninit(n) {
            Ok(chunk) => chunk.fill_from_iter(frames.drain(..n)),
            Err(_) => 0,
        };
        pool.give_all(frames.drain(..));
        sent
    }
}

impl Receiver {
    /// Receives up to `max` frames into `frames`.
    pub fn receive(&mut self, frames: &mut Vec<Frame>, max: usize) -> usize {
        let n = max.min(self.0.slots());
        if let Ok(chunk) = self.0.read_chunk(n) {
            frames.extend(chunk);
        }
        n
    }

    /// Whether no frame waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_in_order() {
        let mut pool = FramePool::heap(256, 2048);
        let (mut sender, mut receiver) = ring();
        let mut got = Vec::with_capacity(64);
        for round in 0..100u8 {
            let mut out: Vec<_> = (0..64)
                .map(|n| {
                    let mut frame = pool.take().unwrap();
                    assert!(frame.set(&[round, n]));
                    frame
                })
                .collect();
            assert_eq!(sender.send(&mut out, &mut pool), 64);
            assert_eq!(receiver.receive(&mut got, 64), 64);
            for (n, frame) in got.drain(..).enumerate() {
                assert_eq!(frame.bytes(), &[round, n as u8]);
                pool.give(frame);
            }
        }
        assert_eq!(pool.len(), 256);
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
