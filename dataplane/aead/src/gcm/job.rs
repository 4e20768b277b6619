//! What the kernels need to know of one packet, and the AES rounds they share.

use core::arch::x86_64::{
    __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set_epi64x,
};

use super::expand::{Key, POWERS, STRETCH};
use super::simd::{Block, Simd};
use super::{HEADER, IV, Packet, TAG};

/// Counter blocks below this are in [`COUNTERS`]. Enough for [`crate::MAX_PACKET`]: block 0 of
/// the payload has counter 2, and a vector of four may begin at the last.
const COUNTERS_LEN: usize = crate::MAX_PACKET / 16 + 2 + 3;

/// The 32-bit counter of each block, big-endian at the block's end, all else zero. Adding
/// (`xor`) an entry to a nonce block is one instruction; counting in registers takes three.
static COUNTERS: [Block; COUNTERS_LEN] = {
    let mut table = [Block([0; 16]); COUNTERS_LEN];
    let mut i = 0;
    while i < COUNTERS_LEN {
        let bytes = (i as u32).to_be_bytes();
        table[i].0[12] = bytes[0];
        table[i].0[13] = bytes[1];
        table[i].0[14] = bytes[2];
        table[i].0[15] = bytes[3];
        i += 1;
    }
    table
};

/// A packet, taken apart.
#[derive(Clone, Copy)]
pub(super) struct Job<'k, S: Simd> {
    pub(super) key: &'k Key,
    /// First byte of the encrypted part.
    pub(super) data: *mut u8,
    /// Bytes of the encrypted part. 16 bytes of tag follow, and 16 of header go before.
    pub(super) len: usize,
    /// Nonce with counter 0, plus the first round key, in every lane.
    base: S::V,
    /// The AAD as a GHASH block, bytes reversed.
    pub(super) aad: __m128i,
    /// The lengths of AAD and data in bits as a GHASH block, bytes reversed.
    pub(super) lengths: __m128i,
}

impl<'k, S: Simd> Job<'k, S> {
    /// A packet to be sealed; writes its sequence number and IV.
    #[inline(always)]
    pub(super) fn seal(s: S, key: &'k Key, packet: &mut Packet<'_>) -> Self {
        let iv = packet.sequence.to_be_bytes();
        packet.write_sequence();
        packet.bytes[HEADER..HEADER + IV].copy_from_slice(&iv);
        Self::new(s, key, packet, iv)
    }

    /// A packet to be opened.
    #[inline(always)]
    pub(super) fn open(s: S, key: &'k Key, packet: &mut Packet<'_>) -> Self {
        let iv = packet.bytes[HEADER..HEADER + IV]
            .try_into()
            .expect("8 bytes");
        Self::new(s, key, packet, iv)
    }

    /// All in registers: a nonce put together in memory and read back as a vector at once
    /// would wait for the stores (25 ns on some processors).
    #[inline(always)]
    fn new(s: S, key: &'k Key, packet: &mut Packet<'_>, iv: [u8; IV]) -> Self {
        let len = packet.bytes.len() - HEADER - IV - TAG;
        let spi = u32::from_be_bytes(packet.bytes[..4].try_into().expect("4 bytes"));
        let (spi, sequence) = (u64::from(spi), packet.sequence);
        // RFC 4106 section 5: SPI and sequence number, or SPI and both halves with ESN.
        let (aad_high, aad_low, aad_len) = if key.esn {
            (spi << 32 | sequence >> 32, sequence << 32, 12)
        } else {
            (spi << 32 | sequence & 0xffff_ffff, 0, 8)
        };
        #[cfg(test)]
        let (aad_high, aad_low, aad_len) = match packet.other_aad {
            Some((bytes, len)) => {
                let aad = u128::from_be_bytes(bytes);
                ((aad >> 64) as u64, aad as u64, len as i64)
            }
            None => (aad_high, aad_low, aad_len),
        };
        let iv = u64::from_le_bytes(iv);
        let salt = u64::from(key.salt);
        // SAFETY: SSE2 only.
        let (nonce, aad, lengths) = unsafe {
            (
                _mm_set_epi64x((iv >> 32) as i64, (iv << 32 | salt) as i64),
                _mm_set_epi64x(aad_high as i64, aad_low as i64),
                _mm_set_epi64x(aad_len * 8, len as i64 * 8),
            )
        };
        Self {
            key,
            // SAFETY: the packet is at least header, IV and tag long.
            data: unsafe { packet.bytes.as_mut_ptr().add(HEADER + IV) },
            len,
            base: s.xor(s.splat(nonce), s.splat_from(&key.round_keys[0])),
            aad,
            lengths,
        }
    }

    /// Blocks of data, the last one perhaps not full.
    #[inline(always)]
    pub(super) fn blocks(&self) -> usize {
        self.len.div_ceil(16)
    }

    /// Vectors of data, the last one perhaps not full.
    #[inline(always)]
    pub(super) fn vectors(&self) -> usize {
        self.len.div_ceil(S::BYTES)
    }

    /// Bytes in the last vector: 1 to [`Simd::BYTES`] (if there is data).
    #[inline(always)]
    pub(super) fn tail(&self) -> usize {
        self.len - (self.vectors() - 1) * S::BYTES
    }

    /// Counter blocks for vector `vector` of the data, first round key added.
    #[inline(always)]
    pub(super) fn counters(&self, s: S, vector: usize) -> S::V {
        let at = 2 + vector * S::LANES;
        debug_assert!(at + S::LANES <= COUNTERS_LEN);
        // SAFETY: a packet's length is limited to what the table holds.
        s.xor(self.base, unsafe {
            s.load(COUNTERS.as_ptr().add(at).cast())
        })
    }

    /// Counter block 1, whose encryption hides the tag, first round key added, in every lane.
    #[inline(always)]
    pub(super) fn tag_counter(&self, s: S) -> S::V {
        s.xor(self.base, s.splat_from(&COUNTERS[1]))
    }

    /// Start of data vector `vector`.
    #[inline(always)]
    pub(super) fn at(&self, vector: usize) -> *mut u8 {
        debug_assert!(vector * S::BYTES <= self.len);
        // SAFETY: within the data, or one past it.
        unsafe { self.data.add(vector * S::BYTES) }
    }

    /// The data of a vector that is full.
    #[inline(always)]
    pub(super) fn load(&self, s: S, vector: usize) -> S::V {
        debug_assert!((vector + 1) * S::BYTES <= self.len);
        // SAFETY: within the data.
        unsafe { s.load(self.at(vector)) }
    }

    /// The data of the last vector, zero beyond its end.
    #[inline(always)]
    pub(super) fn load_last(&self, s: S) -> S::V {
        // SAFETY: 16 bytes of tag follow the data.
        let v = unsafe { s.load_tail(self.at(self.vectors() - 1), self.tail()) };
        s.and(v, s.mask(self.tail()))
    }

    /// Adds key stream to a vector that is full.
    #[inline(always)]
    pub(super) fn apply(&self, s: S, vector: usize, key_stream: S::V) {
        let v = s.xor(self.load(s, vector), key_stream);
        // SAFETY: within the data.
        unsafe { s.store(self.at(vector), v) }
    }

    /// Adds key stream to the last vector. Bytes of the tag behind it may be written, with the
    /// value they have.
    #[inline(always)]
    pub(super) fn apply_last(&self, s: S, key_stream: S::V) {
        let (at, tail) = (self.at(self.vectors() - 1), self.tail());
        let key_stream = s.and(key_stream, s.mask(tail));
        // SAFETY: 16 bytes of tag follow the data.
        unsafe { s.store_tail(at, tail, s.xor(s.load_tail(at, tail), key_stream)) }
    }

    /// The tag in the packet.
    #[inline(always)]
    pub(super) fn tag(&self) -> __m128i {
        // SAFETY: 16 bytes of tag follow the data; SSE2 only.
        unsafe { _mm_loadu_si128(self.data.add(self.len).cast()) }
    }

    /// Writes the tag.
    #[inline(always)]
    pub(super) fn write_tag(&self, tag: __m128i) {
        // SAFETY: 16 bytes of tag follow the data; SSE2 only.
        unsafe { core::arch::x86_64::_mm_storeu_si128(self.data.add(self.len).cast(), tag) }
    }

    /// Zeroes the data of a packet that was not authentic.
    #[cold]
    #[inline(never)]
    pub(super) fn wipe(&self) {
        // SAFETY: the data.
        unsafe { core::ptr::write_bytes(self.data, 0, self.len) }
    }

    /// Index of the power that block `block` of the data is to be multiplied with. Blocks are
    /// hashed in stretches of [`STRETCH`] from the packet's start; in the last one, which may
    /// be shorter, the length block follows and has the power 1.
    #[inline(always)]
    pub(super) fn power(&self, block: usize) -> usize {
        if block < self.last_stretch() {
            POWERS - STRETCH + block % STRETCH
        } else {
            POWERS - 1 - (self.blocks() - block)
        }
    }

    /// The powers, and their sums, for a vector whose first block has the power at `index`.
    #[inline(always)]
    pub(super) fn powers(&self, s: S, index: usize) -> (S::V, S::V) {
        debug_assert!(index < POWERS);
        // SAFETY: a vector that starts at any power ends within the table.
        unsafe {
            (
                s.load(self.key.powers.as_ptr().add(index).cast()),
                s.load(self.key.sums.as_ptr().add(index).cast()),
            )
        }
    }

    /// First block of the last stretch.
    #[inline(always)]
    pub(super) fn last_stretch(&self) -> usize {
        self.blocks().saturating_sub(1) / STRETCH * STRETCH
    }

    /// Index of the power the AAD is to be multiplied with: it goes before the first block.
    #[inline(always)]
    pub(super) fn aad_power(&self) -> usize {
        self.power(0) - 1
    }
}

/// Whether two tags are equal: all bytes are compared, wherever they differ.
#[inline(always)]
pub(super) fn equal(a: __m128i, b: __m128i) -> bool {
    // SAFETY: SSE2 only.
    unsafe { _mm_movemask_epi8(_mm_cmpeq_epi8(a, b)) == 0xffff }
}

/// Which of `pieces` pieces of work come after round `round`, so that they are spread evenly
/// over the `rounds - 1` rounds before the last.
///
/// Asked this way round, each piece stands in the code once; asking of every piece whether it
/// is its turn would stand there once a round, and double the time to compile.
#[inline(always)]
pub(super) const fn share(pieces: usize, round: usize, rounds: usize) -> core::ops::Range<usize> {
    ((round - 1) * pieces).div_ceil(rounds - 1)..(round * pieces).div_ceil(rounds - 1)
}

/// Encrypts the counter blocks in the array `$x` (first round key already added), and runs
/// `$between` after each round but the last, `$round` being its number from 1. `$round_key` is
/// the key of round `$round` for state `$i`. What `$between` does to the hash sum `$sum` is
/// kept in its place between the rounds.
///
/// A macro, as the rounds must be unrolled for the states to stay in registers, and a closure
/// could not borrow what the code around it needs.
macro_rules! rounds {
    ($s:ident, $rounds:ident, $x:ident, $sum:expr, |$i:ident, $round:ident| $round_key:expr,
     $between:expr) => {
        rounds!(@ $s, $rounds, $x, $sum, $i, $round, $round_key, $between;
                1 2 3 4 5 6 7 8 9 10 11 12 13);
        let $round: usize = $rounds;
        for $i in 0..$x.len() {
            $x[$i] = $s.aes_last($x[$i], $round_key);
        }
    };
    (@ $s:ident, $rounds:ident, $x:ident, $sum:expr, $i:ident, $round:ident, $round_key:expr,
     $between:expr; $($number:literal)*) => {
        $(
            if $number < $rounds {
                let $round: usize = $number;
                for $i in 0..$x.len() {
                    $x[$i] = $s.aes($x[$i], $round_key);
                }
                $between
                $s.pin(&mut $x, $sum.parts());
            }
        )*
    };
}
pub(super) use rounds;
