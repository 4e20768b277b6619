//! What they work on.

use hawser_aead::Suite;

use crate::contender::{BATCH, HEAD, Packet, TAG};

/// Packets in memory: where each lies, how long it is, whose it is.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// Of the encrypted part; 0 for a mixture.
    pub(crate) size: usize,
    pub(crate) keys: Vec<Vec<u8>>,
    layout: Vec<(usize, usize, usize)>,
    memory: Vec<u8>,
}

impl Workload {
    pub(crate) fn new(
        name: &'static str,
        size: usize,
        suite: Suite,
        keys: usize,
        count: usize,
        stride: usize,
    ) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |n: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as usize % n
        };
        let material = |random: &mut dyn FnMut(usize) -> usize| {
            (0..suite.key_len()).map(|_| random(256) as u8).collect()
        };
        let keys_material = (0..keys).map(|_| material(&mut random)).collect();
        let mut whose: Vec<_> = (0..count).map(|_| random(keys)).collect();
        whose
            .chunks_mut(BATCH)
            .for_each(|batch| batch.sort_unstable());
        let mut layout = Vec::new();
        for (i, key) in whose.into_iter().enumerate() {
            let size = match size {
                0 => [64, 64, 64, 64, 64, 64, 64, 576, 576, 576, 576, 1424][random(12)],
                size => size,
            };
            layout.push((i * stride, HEAD + size + TAG, key));
        }
        let memory = (0..count * stride + 64).map(|i| (i * 31) as u8).collect();
        Self {
            name,
            size,
            keys: keys_material,
            layout,
            memory,
        }
    }

    pub(crate) fn packets(&mut self) -> Vec<Packet<'_>> {
        let skew = self.memory.as_ptr().align_offset(64);
        let mut rest = &mut self.memory[skew..];
        let mut at = 0;
        let mut packets = Vec::with_capacity(self.layout.len());
        for &(offset, len, key) in &self.layout {
            let (_, tail) = rest.split_at_mut(offset - at);
            let (bytes, tail) = tail.split_at_mut(len);
            packets.push(Packet { key, bytes });
            rest = tail;
            at = offset + len;
        }
        packets
    }
}
