//! Our own, on any rung.

use hawser_aead::{OpenBatch, OpeningKey, Rung, SealBatch, SealingKey, Suite};

use crate::contender::{Contender, Packet};

pub(crate) struct Ours {
    rung: Rung,
    sealing: Vec<SealingKey>,
    opening: Vec<OpeningKey>,
}

impl Ours {
    pub(crate) fn new(rung: Rung, suite: Suite, keys: &[Vec<u8>]) -> Self {
        let sealing = |k: &Vec<u8>| SealingKey::on_rung(rung, suite, k, false, 1, u64::MAX);
        let opening = |k: &Vec<u8>| OpeningKey::on_rung(rung, suite, k, false);
        Self {
            rung,
            sealing: keys
                .iter()
                .map(sealing)
                .collect::<Result<_, _>>()
                .expect("a good key"),
            opening: keys
                .iter()
                .map(opening)
                .collect::<Result<_, _>>()
                .expect("a good key"),
        }
    }
}

impl Contender for Ours {
    fn name(&self) -> String {
        format!("hawser {}", self.rung)
    }

    fn seal(&mut self, packets: &mut [Packet<'_>]) {
        let mut batch = SealBatch::new();
        let mut rest = packets;
        // One reservation for each stretch of packets of a key, as the packet path has it.
        while let Some(first) = rest.first() {
            let which = first.key;
            let count = rest.iter().take_while(|packet| packet.key == which).count();
            let (stretch, others) = rest.split_at_mut(count);
            let key = &self.sealing[which];
            let numbers = key.reserve(count as u32).expect("numbers left");
            for (packet, number) in stretch.iter_mut().zip(numbers) {
                batch.push(key, number, packet.bytes);
            }
            rest = others;
        }
        batch.seal();
    }

    fn open(&mut self, packets: &mut [Packet<'_>]) -> bool {
        let count = packets.len();
        let mut batch = OpenBatch::new();
        for packet in packets {
            let low = u32::from_be_bytes(packet.bytes[4..8].try_into().expect("4 bytes"));
            batch.push(&self.opening[packet.key], u64::from(low), packet.bytes);
        }
        let verdicts = batch.open();
        (0..count).all(|i| verdicts.get(i).is_some())
    }
}
