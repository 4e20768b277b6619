//! Batches: the only way to seal or open packets.

use arrayvec::ArrayVec;

use crate::gcm::Jobs;
use crate::key::{OpeningKey, SealingKey};
use crate::packet::Packet;
use crate::sequence::Sequence;
use crate::suite::{Shape, Suite};

/// Most packets in a batch. 64, so that one machine word holds the verdicts.
pub const BATCH: usize = 64;

/// Bytes of the longest packet, from SPI to ICV: the largest frame of the packet path.
pub const MAX_PACKET: usize = 16 * 1024;

/// Which lengths packets of AES-GCM may have. Known here, and not only to the key, the check of most
/// packets is one comparison.
const GCM: Shape = Suite::Aes128Gcm16.shape();

#[inline(always)]
fn fits(shape: Shape, packet: &[u8]) -> bool {
    shape.ciphertext(packet.len()).is_some()
}

/// Packets to be encrypted by one call.
#[derive(Default)]
pub struct SealBatch<'a> {
    jobs: Jobs<'a>,
    others: Others<'a, SealingKey>,
}

/// Packets of a batch that do not go through the vector kernels of AES-GCM.
struct Others<'a, K> {
    keys: ArrayVec<&'a K, BATCH>,
    packets: ArrayVec<Packet<'a>, BATCH>,
    /// Their numbers in the batch.
    at: ArrayVec<u8, BATCH>,
}

impl<K> Default for Others<'_, K> {
    #[inline(always)]
    fn default() -> Self {
        Self {
            keys: ArrayVec::new(),
            packets: ArrayVec::new(),
            at: ArrayVec::new(),
        }
    }
}

impl<'a, K> Others<'a, K> {
    #[inline]
    fn push(&mut self, at: usize, key: &'a K, packet: Packet<'a>) {
        self.keys.push(key);
        self.packets.push(packet);
        self.at.push(at as u8);
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.packets.clear();
        self.at.clear();
    }
}

impl<'a> SealBatch<'a> {
    /// An empty batch.
    #[must_use]
    #[inline]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a packet, and writes its sequence number. The caller has written the SPI and, after
    /// the room for sequence number and IV, the plaintext with its padding and trailer; room for
    /// the ICV follows.
    ///
    /// # Panics
    /// These are mistakes of the caller, not of a packet: the batch is full; `sequence` comes
    /// from another key; the packet is shorter than [`Suite::overhead`](crate::Suite::overhead) or longer than
    /// [`MAX_PACKET`], or its plaintext is no
    /// multiple of the AES block with a CBC suite.
    #[inline]
    pub fn push(&mut self, key: &'a SealingKey, sequence: Sequence, packet: &'a mut [u8]) {
        let len = self.len();
        assert!(len < BATCH, "the batch is full");
        let sequence = sequence.consume(key.id());
        match key.vector() {
            Some(key) => {
                assert!(fits(GCM, packet), "no room for IV and ICV");
                self.jobs.push_to_seal(key, sequence, packet);
            }
            None => {
                assert!(
                    fits(key.shape(), packet),
                    "no room for IV and ICV, or an odd length"
                );
                self.others.push(len, key, Packet::new(packet, sequence));
            }
        }
    }

    /// Packets pushed so far.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.jobs.len() + self.others.packets.len()
    }

    /// Whether nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing more can be pushed.
    #[must_use]
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len() == BATCH
    }

    /// Writes sequence number, IV, ciphertext and ICV of every packet, and gives the packets up.
    ///
    /// By reference, as to move a batch costs more than to go through it.
    pub fn seal(&mut self) {
        self.jobs.seal();
        let Others { keys, packets, .. } = &mut self.others;
        let mut start = 0;
        while start < keys.len() {
            start += SealingKey::seal_run(&keys[start..], &mut packets[start..]);
        }
        self.others.clear();
    }
}

/// Packets to be authenticated and decrypted by one call.
#[derive(Default)]
pub struct OpenBatch<'a> {
    sequences: ArrayVec<u64, BATCH>,
    jobs: Jobs<'a>,
    /// Bit `i`: packet `i` is among the jobs, which are in the order of these bits.
    in_jobs: u64,
    others: Others<'a, OpeningKey>,
}

impl<'a> OpenBatch<'a> {
    /// An empty batch.
    #[must_use]
    #[inline]
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
        let at = self.len();
        self.sequences.push(sequence);
        match key.vector() {
            Some(key) if fits(GCM, packet) => {
                self.jobs.push_to_open(key, sequence, packet);
                self.in_jobs |= 1 << at;
            }
            None if fits(key.shape(), packet) => {
                self.others.push(at, key, Packet::new(packet, sequence));
            }
            _ => wipe_malformed(packet),
        }
    }

    /// Packets pushed so far.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.sequences.len()
    }

    /// Whether nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// Whether nothing more can be pushed.
    #[must_use]
    #[inline]
    pub fn is_full(&self) -> bool {
        self.sequences.is_full()
    }

    /// Checks every packet and decrypts the authentic ones in place, and gives the packets up. The
    /// payload of every other packet is zero when this returns: nobody sees plaintext that was not
    /// authentic.
    ///
    /// By reference, as to move a batch costs more than to go through it.
    #[must_use = "a packet may only be used if its verdict says so"]
    pub fn open(&mut self) -> Verdicts {
        let mut authentic = deposit(self.jobs.open(), self.in_jobs);
        let Others { keys, packets, at } = &mut self.others;
        let mut start = 0;
        while start < keys.len() {
            let (run, verdicts) = OpeningKey::open_run(&keys[start..], &mut packets[start..]);
            for (i, at) in at[start..start + run].iter().enumerate() {
                authentic |= (verdicts >> i & 1) << at;
            }
            start += run;
        }
        self.others.clear();
        self.in_jobs = 0;
        Verdicts {
            authentic,
            sequences: self.sequences.take(),
        }
    }
}

/// Nobody shall take what cannot be a packet for plaintext.
#[cold]
fn wipe_malformed(packet: &mut [u8]) {
    let header = packet.len().min(crate::packet::HEADER);
    packet[header..].fill(0);
}

/// Puts the lowest bits of `bits` where `places` has bits, in their order.
#[inline]
fn deposit(bits: u64, mut places: u64) -> u64 {
    if places & places.wrapping_add(1) == 0 {
        // They are there, as of a batch of one kind.
        return bits;
    }
    let mut deposited = 0;
    let mut i = 0;
    while places != 0 {
        deposited |= (bits >> i & 1) << places.trailing_zeros();
        places &= places - 1;
        i += 1;
    }
    deposited
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
