//! The whole packet path over many frames, timed batch by batch. Filling the frames is not timed.

use std::time::{Duration, Instant};

use hawser_aead::BATCH;
use hawser_api::PortId;

use crate::world::{INSIDE, OUTSIDE, World};

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the site into the tunnels.
    Encrypt,
    /// Out of the tunnels to the site.
    Decrypt,
    /// From a port to itself, through nothing: what the others hold besides the packet path.
    Empty,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Encrypt, Self::Decrypt, Self::Empty];

    /// As figures are labelled.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::Empty => "empty",
        }
    }

    fn ports(self) -> (PortId, PortId) {
        match self {
            Self::Encrypt => (INSIDE, OUTSIDE),
            Self::Decrypt => (OUTSIDE, INSIDE),
            Self::Empty => (INSIDE, INSIDE),
        }
    }
}

/// Runs packets through the gateway, whole batches only. Says how long it took and how many
/// packets they were.
///
/// # Errors
/// When not every packet comes out.
pub fn run(world: &mut World, packets: &[Vec<u8>], way: Way) -> anyhow::Result<(Duration, usize)> {
    let (input, output) = way.ports();
    let mut spent = Duration::ZERO;
    let mut count = 0;
    // All frames are filled before the first is timed: with many of them the early ones have left
    // the caches by then, as they have after a NIC wrote them.
    let mut frames = world.frames(packets)?;
    while frames.len() >= BATCH {
        let batch = frames.drain(..BATCH);
        let begun = Instant::now();
        if way == Way::Empty {
            world.pass(output, batch);
        } else {
            world.run(input, batch);
        }
        spent += begun.elapsed();
        count += BATCH;
        let sent = world.sent(output);
        anyhow::ensure!(sent.len() == BATCH, "{} of a batch came out", sent.len());
        world.take_back(output);
    }
    world.give(frames);
    Ok((spent, count))
}
