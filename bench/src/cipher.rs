//! The cipher alone, over batches that are grouped by key as the packet path groups them.

use std::time::{Duration, Instant};

use anyhow::Context;
use hawser_aead::{BATCH, OpenBatch, OpeningKey, SealBatch, SealingKey, Suite};
use hawser_xsk::Frame;

/// Keys of as many SAs, for both directions.
pub struct Keys {
    suite: Suite,
    sealing: Vec<SealingKey>,
    opening: Vec<OpeningKey>,
}

/// How long the ESP packet of an inner packet is, from SPI to ICV, in bytes.
#[must_use]
pub fn esp_len(suite: Suite, inner: usize) -> usize {
    let text = (inner + 2).next_multiple_of(suite.block_len());
    suite.overhead() + text
}

impl Keys {
    /// `count` keys.
    ///
    /// # Errors
    /// None that is expected: the key material has the suite's length.
    pub fn new(suite: Suite, count: u32) -> anyhow::Result<Self> {
        let material = vec![0x42; suite.key_len()];
        let last = u64::from(u32::MAX);
        let sealing = |_| Ok(SealingKey::new(suite, &material, false, 1, last)?);
        let opening = |_| Ok(OpeningKey::new(suite, &material, false)?);
        Ok(Self {
            suite,
            sealing: (0..count).map(sealing).collect::<anyhow::Result<_>>()?,
            opening: (0..count).map(opening).collect::<anyhow::Result<_>>()?,
        })
    }

    /// The suite of all of them.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Packets of a batch that have the same key.
    fn per_key(&self) -> usize {
        BATCH.div_ceil(self.sealing.len().min(BATCH))
    }

    /// Which key has the `k`th group of the `batch`th batch.
    fn at(&self, batch: usize, k: usize) -> usize {
        (batch + k) % self.sealing.len()
    }

    /// Seals ESP packets batch by batch. Says how long it took and the sequence numbers used.
    ///
    /// # Errors
    /// When the sequence numbers are used up.
    pub fn seal(&self, frames: &mut [Frame]) -> anyhow::Result<(Duration, Vec<u64>)> {
        let mut spent = Duration::ZERO;
        let mut sequences = Vec::with_capacity(frames.len());
        for (n, batch) in frames.chunks_mut(BATCH).enumerate() {
            let begun = Instant::now();
            let mut seal = SealBatch::new();
            for (k, group) in batch.chunks_mut(self.per_key()).enumerate() {
                let key = &self.sealing[self.at(n, k)];
                let mut block = key
                    .reserve(group.len() as u32)
                    .context("sequence numbers")?;
                for frame in group {
                    let sequence = block.next().context("sequence numbers")?;
                    sequences.push(sequence.value());
                    seal.push(key, sequence, frame.bytes_mut());
                }
            }
            seal.seal();
            spent += begun.elapsed();
        }
        Ok((spent, sequences))
    }

    /// Opens what [`Keys::seal`] sealed, with the sequence numbers that it said.
    ///
    /// # Errors
    /// When one of them is not authentic.
    pub fn open(&self, frames: &mut [Frame], sequences: &[u64]) -> anyhow::Result<Duration> {
        let mut spent = Duration::ZERO;
        let batches = frames.chunks_mut(BATCH).zip(sequences.chunks(BATCH));
        for (n, (batch, sequences)) in batches.enumerate() {
            let begun = Instant::now();
            let mut open = OpenBatch::new();
            for (at, (frame, &sequence)) in batch.iter_mut().zip(sequences).enumerate() {
                let key = &self.opening[self.at(n, at / self.per_key())];
                open.push(key, sequence, frame.bytes_mut());
            }
            let verdicts = open.open();
            drop(open);
            spent += begun.elapsed();
            anyhow::ensure!(
                (0..batch.len()).all(|i| verdicts.get(i).is_some()),
                "authentic"
            );
        }
        Ok(spent)
    }
}
