//! A gateway in memory of any size, fed from and drained to frames as a worker does it.

use std::time::{Duration, Instant};

use anyhow::Context;
use arrayvec::ArrayVec;
use hawser_aead::{BATCH, Suite};
use hawser_api::PortId;
use hawser_dataplane::harness::{Gateway, Plan};
use hawser_xsk::Frame;

pub use hawser_dataplane::harness::{INSIDE, OUTSIDE, destination};

/// How large the gateway is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Tunnels, all in one ECMP group.
    pub tunnels: u32,
    /// Routes into the group.
    pub routes: u32,
    /// Cipher of all SAs.
    pub suite: Suite,
    /// Frames in the pool.
    pub frames: usize,
}

/// A gateway; side 0's outbound SAs are side 1's inbound ones.
pub struct World {
    /// The gateway.
    pub gateway: Gateway,
}

impl World {
    /// Builds side 0 or 1. Returns how long that took, nearly all of it for loading and compiling
    /// the tables.
    #[must_use]
    pub fn new(side: u8, scale: Scale) -> (Self, Duration) {
        let begun = Instant::now();
        let gateway = Gateway::new(
            side,
            &Plan {
                tunnels: scale.tunnels,
                routes: scale.routes,
                suite: scale.suite,
                frames: scale.frames,
                ..Plan::default()
            },
        );
        (Self { gateway }, begun.elapsed())
    }

    /// Runs one batch; the result is in [`World::sent`].
    #[inline]
    pub fn run(&mut self, port: PortId, frames: impl ExactSizeIterator<Item = Frame>) {
        let gateway = &mut self.gateway;
        gateway.now += 1000;
        // As a worker does with what a ring gave it.
        let mut batch: ArrayVec<Frame, BATCH> = ArrayVec::new();
        batch.extend(frames.inspect(Frame::prefetch));
        gateway
            .pipeline
            .from_port(port, batch.drain(..), gateway.now, &mut gateway.out);
    }

    /// One batch through no packet path at all: from the caller into a batch and out of a port. What
    /// a measurement of [`World::run`] holds besides the packet path.
    #[inline]
    pub fn pass(&mut self, port: PortId, frames: impl ExactSizeIterator<Item = Frame>) {
        let mut batch: ArrayVec<Frame, BATCH> = ArrayVec::new();
        batch.extend(frames.inspect(Frame::prefetch));
        self.gateway.now += 1000;
        self.sent(port).extend(batch);
    }

    /// The frames that were sent out of a port.
    pub fn sent(&mut self, port: PortId) -> &mut Vec<Frame> {
        &mut self.gateway.out.ports[port.index()].queues[0]
    }

    /// Gives the frames that were sent out of a port back to the pool.
    pub fn take_back(&mut self, port: PortId) {
        let Gateway { pipeline, out, .. } = &mut self.gateway;
        let sent = out.ports[port.index()].queues[0].drain(..);
        pipeline.pool().give_all(sent);
    }

    /// Gives any frames back to the pool.
    pub fn give(&mut self, frames: impl IntoIterator<Item = Frame>) {
        self.gateway.pipeline.pool().give_all(frames);
    }

    /// Takes a frame with these bytes.
    ///
    /// # Errors
    /// When the pool is empty or the packet too large for a frame.
    pub fn frame(&mut self, bytes: &[u8]) -> anyhow::Result<Frame> {
        let pool = self.gateway.pipeline.pool();
        let mut frame = pool.take().context("out of frames")?;
        anyhow::ensure!(frame.set(bytes), "packet too large");
        Ok(frame)
    }

    /// Takes frames with these packets.
    ///
    /// # Errors
    /// As [`World::frame`].
    pub fn frames(&mut self, packets: &[Vec<u8>]) -> anyhow::Result<Vec<Frame>> {
        packets.iter().map(|bytes| self.frame(bytes)).collect()
    }

    /// The packets as side 1 gets them: sealed by this gateway.
    ///
    /// # Errors
    /// As [`World::frame`].
    pub fn seal(&mut self, packets: &[Vec<u8>]) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut sealed = Vec::with_capacity(packets.len());
        for batch in packets.chunks(BATCH) {
            let frames = self.frames(batch)?;
            self.run(INSIDE, frames.into_iter());
            let sent = self.sent(OUTSIDE).iter();
            sealed.extend(sent.map(|frame| frame.bytes().to_vec()));
            self.take_back(OUTSIDE);
        }
        Ok(sealed)
    }

    /// Fails when anything was dropped: a measurement of drops measures nothing.
    ///
    /// # Errors
    /// The drops.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let drops = self.gateway.drops();
        anyhow::ensure!(drops.is_empty(), "packets were dropped: {drops:?}");
        Ok(())
    }
}

/// A UDP packet of `length` bytes (IP header included) to route `n`, of one of `flows` flows.
#[must_use]
pub fn packet(n: u32, flow: u16, length: usize) -> Vec<u8> {
    let [a, b, c, _] = destination(n);
    let total = length as u16;
    let mut ip = vec![0x45, 0];
    ip.extend(total.to_be_bytes());
    ip.extend([
        0,
        0,
        0,
        0,
        64,
        17,
        0,
        0,
        10,
        0,
        (flow >> 8) as u8,
        flow as u8,
        a,
        b,
        c,
        7,
    ]);
    let sum = hawser_net::checksum::of(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip.extend((1024 + flow).to_be_bytes());
    ip.extend(4789u16.to_be_bytes());
    ip.extend((total - 20).to_be_bytes());
    ip.extend([0, 0]);
    ip.resize(length, 0x5a);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 77, 0x08, 0x00];
    frame.extend(ip);
    frame
}
