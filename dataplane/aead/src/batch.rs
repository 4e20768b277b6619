//! Batches: the only way to seal or open packets.

use arrayvec::ArrayVec;

use crate::key::{OpeningKey, SealingKey};
use crate::packet::Packet;
use crate::sequence::Sequence;

/// Most packets in a batch. 64, so that one machine word holds the verdicts.
pub const BATCH: usize = 64;

/// Bytes of the longest packet, from SPI to ICV: the largest frame of the packet path.
pub const MAX_PACKET: usize = 16 * 1024;

/// Packets to be encrypted by one call.
#[derive(Default)]
pub struct SealBatch<'a> {
    keys: ArrayVec<&'a SealingKey, BATCH>,
    packets: ArrayVec<Packet<'a>, BATCH>,
}

impl<'a> SealBatch<'a> {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a packet. The caller has written the SPI and, after the room for sequence number
    /// and IV, the plaintext with its padding and trailer; room for the ICV follows.
    ///
    /// # Panics
    /// These are mistakes of the caller, not of a packet: the batch is full; `sequence` comes
    /// from another key; the packet is shorter than [`Suite::overhead`](crate::Suite::overhead) or longer than
    /// [`MAX_PACKET`], or its plaintext is no
    /// multiple of the AES block with a CBC suite.
    #[inline]
    pub fn push(&mut self, key: &'a SealingKey, sequence: Sequence, packet: &'a mut [u8]) {
        assert!(
            key.shape().ciphertext(packet.len()).is_some(),
            "no room for IV and ICV, or an odd length"
        );
        let sequence = sequence.consume(key.id());
        self.keys.push(key);
        self.packets.push(Packet::new(packet, sequence));
    }

    /// Packets pushed so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Whether nothing more can be pushed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.packets.is_full()
    }

    /// Writes sequence number, IV, ciphertext and ICV of every packet.
    pub fn seal(mut self) {
        let mut start = 0;
        while start < self.keys.len() {
            start += SealingKey::seal_run(&self.keys[start..], &mut self.packets[start..]);
        }
    }
}

/// Packets to be authenticated and decrypted by one call.
#[derive(Default)]
pub struct OpenBatch<'a> {
    keys: ArrayVec<&'a OpeningKey, BATCH>,
    packets: ArrayVec<Packet<'a>, BATCH>,
    /// Bit `i`: packet `i` is too short or of an odd length, and is never looked at.
    malformed: u64,
}

impl<'a> OpenBatch<'a> {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a packet with its full sequence number, whose high half the caller inferred from
    /// the replay window (RFC 4303 appendix A) or set to 0 without ESN. A packet whose length
    /// cannot be right is taken, and will be reported as forged.
    ///
    /// # Panics
    /// When the batch is full.
    #[inline]
    pub fn push(&mut self, key: &'a OpeningKey, sequence: u64, packet: &'a mut [u8]) {
        if key.shape().ciphertext(packet.len()).is_none() {
            self.malformed |= 1 << self.packets.len();
            let header = packet.len().min(crate::packet::HEADER);
            packet[header..].fill(0);
        }
        self.keys.push(key);
        self.packets.push(Packet::new(packet, sequence));
    }

    /// Packets pushed so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Whether nothing more can be pushed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.packets.is_full()
    }

    /// Checks every packet and decrypts the authentic ones in place. The payload of every
    /// other packet is zero when this returns: nobody sees plaintext that was not authentic.
    #[must_use = "a packet may only be used if its verdict says so"]
    pub fn open(mut self) -> Verdicts {
        let mut authentic = 0;
        let mut start = 0;
        while start < self.keys.len() {
            // Up to the next malformed packet.
            let good = (self.malformed >> start).trailing_zeros() as usize;
            let end = self.keys.len().min(start + good);
            if start == end {
                start += 1;
                continue;
            }
            let (keys, packets) = (&self.keys[start..end], &mut self.packets[start..end]);
            let (run, verdicts) = OpeningKey::open_run(keys, packets);
            authentic |= verdicts << start;
            start += run;
        }
        let mut sequences = ArrayVec::new();
        sequences.extend(self.packets.iter().map(|packet| packet.sequence));
        Verdicts {
            authentic,
            sequences,
        }
    }
}

/// What [`OpenBatch::open`] found, packet by packet in the order they were pushed.
pub struct Verdicts {
    authentic: u64,
    sequences: ArrayVec<u64, BATCH>,
}

impl Verdicts {
    /// Proof that packet `i` is authentic; `None` if it is forged (its payload was zeroed) or
    /// if there is no such packet.
    #[must_use]
    #[inline]
    pub fn get(&self, i: usize) -> Option<Authenticated> {
        let sequence = *self.sequences.get(i)?;
        (self.authentic >> i & 1 == 1).then_some(Authenticated { sequence })
    }

    /// Number of packets judged.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sequences.len()
    }

    /// Whether there was no packet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }
}

/// Proof that a packet with this sequence number was authentic. Made only by
/// [`Verdicts::get`]; the argument of whatever may happen only after authentication.
#[derive(Debug)]
#[must_use]
pub struct Authenticated {
    sequence: u64,
}

impl Authenticated {
    /// The packet's full sequence number, which the tag covers.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}
