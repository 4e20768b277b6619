//! What the kernels need to know of one packet, and the AES rounds they share.

use core::arch::x86_64::{__m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8};

use super::expand::{Key, POWERS};
use super::simd::{Block, Simd};
use super::{HEADER, IV, TAG};

/// Bytes of header and IV: a block.
const HEAD: usize = HEADER + IV;

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

/// A packet, taken apart: one cache line.
///
/// The jobs of a batch are all written before the first is read. A vector read of what scalar
/// stores have just written would wait for them to reach the cache (25 ns on some processors).
#[repr(C, align(64))]
pub(super) struct Job<'k> {
    /// Nonce with counter 0.
    nonce: Block,
    /// The AAD as a GHASH block, bytes reversed.
    aad: Block,
    /// The lengths of data and AAD in bits as a GHASH block, bytes reversed.
    lengths: Block,
    /// First byte of the packet: 16 bytes of header and IV, data, and 16 bytes of tag.
    packet: *mut u8,
    pub(super) key: &'k Key,
}

impl<'k> Job<'k> {
    /// A packet to be sealed; writes its sequence number and IV.
    #[inline(always)]
    pub(super) fn seal(key: &'k Key, sequence: u64, packet: &'k mut [u8]) -> Self {
        let head = head(packet);
        // RFC 4303 section 2.2: the low half. RFC 4106 section 3.1: any IV that is used once.
        head[4..8].copy_from_slice(&(sequence as u32).to_be_bytes());
        head[8..].copy_from_slice(&sequence.to_be_bytes());
        Self::new(key, sequence, packet, sequence.swap_bytes())
    }

    /// A packet to be opened.
    #[inline(always)]
    pub(super) fn open(key: &'k Key, sequence: u64, packet: &'k mut [u8]) -> Self {
        let iv = u64::from_le_bytes(head(packet)[8..].try_into().expect("8 bytes"));
        Self::new(key, sequence, packet, iv)
    }

    /// `iv` is as a register holds it.
    #[inline(always)]
    fn new(key: &'k Key, sequence: u64, packet: &'k mut [u8], iv: u64) -> Self {
        let len = packet.len() - (HEAD + TAG);
        let spi = u32::from_be_bytes(head(packet)[..4].try_into().expect("4 bytes"));
        let spi = u64::from(spi);
        // RFC 4106 section 5: SPI and sequence number, or SPI and both halves with ESN.
        let (aad_high, aad_low, aad_len) = if key.esn {
            (spi << 32 | sequence >> 32, sequence << 32, 12)
        } else {
            (spi << 32 | sequence & 0xffff_ffff, 0, 8)
        };
        Self {
            nonce: Block::new(iv << 32 | u64::from(key.salt), iv >> 32),
            aad: Block::new(aad_low, aad_high),
            lengths: Block::new(len as u64 * 8, aad_len * 8),
            packet: packet.as_mut_ptr(),
            key,
        }
    }

    /// Takes other AAD than ESP's, for published vectors.
    #[cfg(test)]
    pub(super) fn set_aad(&mut self, aad: [u8; 16], len: usize) {
        let block = u128::from_be_bytes(aad);
        self.aad = Block::new(block as u64, (block >> 64) as u64);
        self.lengths = Block::new(self.lengths.low(), len as u64 * 8);
    }

    /// Bytes of data.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.lengths.low() as usize / 8
    }

    /// Blocks of data, the last one perhaps not full.
    #[inline(always)]
    pub(super) fn blocks(&self) -> usize {
        self.len().div_ceil(16)
    }

    /// Vectors of data, the last one perhaps not full.
    #[inline(always)]
    pub(super) fn vectors<S: Simd>(&self) -> usize {
        self.len().div_ceil(S::BYTES)
    }

    /// Whether the data ends before vector `vector` begins, not where it does.
    #[inline(always)]
    pub(super) fn has_tail<S: Simd>(&self, _: S, vector: usize) -> bool {
        self.len() < vector * S::BYTES
    }

    /// The AAD as a GHASH block.
    #[inline(always)]
    pub(super) fn aad(&self) -> &Block {
        &self.aad
    }

    /// Both lengths as a GHASH block.
    #[inline(always)]
    pub(super) fn lengths(&self) -> &Block {
        &self.lengths
    }

    /// The nonce with counter 0.
    #[inline(always)]
    pub(super) fn nonce(&self) -> &Block {
        &self.nonce
    }

    /// Nonce with counter 0, first round key added, in every lane: to be added to
    /// [`counters`].
    #[inline(always)]
    pub(super) fn base<S: Simd>(&self, s: S) -> S::V {
        s.xor(
            s.splat_from(&self.nonce),
            s.splat_from(&self.key.round_keys[0]),
        )
    }

    /// Ciphertext of vector `vector` for GHASH. `tail` says that it may not be full: then zeros
    /// follow the data.
    #[inline(always)]
    pub(super) fn load<S: Simd>(&self, s: S, vector: usize, tail: bool) -> S::V {
        let at = vector * S::BYTES;
        // SAFETY: within the data; and behind the last vector are 16 bytes of tag.
        s.reverse(unsafe {
            let from = self.packet.add(HEAD + at);
            if tail {
                s.load_tail(from, (self.len() - at).min(S::BYTES))
            } else {
                s.load(from)
            }
        })
    }

    /// Adds key stream to vector `vector`, and returns what is then there as [`load`](Self::load)
    /// does.
    #[inline(always)]
    pub(super) fn apply<S: Simd>(&self, s: S, vector: usize, tail: bool, key_stream: S::V) -> S::V {
        let at = vector * S::BYTES;
        // SAFETY: as for `load`.
        s.reverse(unsafe {
            let to = self.packet.add(HEAD + at);
            if tail {
                s.add_tail(to, (self.len() - at).min(S::BYTES), key_stream)
            } else {
                s.add(to, key_stream)
            }
        })
    }

    /// Where the data ends and the tag begins.
    #[inline(always)]
    fn end(&self) -> usize {
        HEAD + self.len()
    }

    /// The tag in the packet.
    #[inline(always)]
    pub(super) fn tag(&self) -> __m128i {
        // SAFETY: 16 bytes of tag follow the data; SSE2 only.
        unsafe { _mm_loadu_si128(self.packet.add(self.end()).cast()) }
    }

    /// Writes the tag.
    #[inline(always)]
    pub(super) fn write_tag(&self, tag: __m128i) {
        // SAFETY: 16 bytes of tag follow the data; SSE2 only.
        unsafe { core::arch::x86_64::_mm_storeu_si128(self.packet.add(self.end()).cast(), tag) }
    }

    /// Zeroes the data of a packet that was not authentic.
    #[cold]
    #[inline(never)]
    pub(super) fn wipe(&self) {
        // SAFETY: the data.
        unsafe { core::ptr::write_bytes(self.packet.add(HEAD), 0, self.len()) }
    }

    /// Index of the power that the first block of data is to be multiplied with in a packet of a
    /// single stretch, where the length block follows the last one. The AAD's is the one before. Of
    /// longer packets it is below zero: to be used once as many blocks were hashed.
    #[inline(always)]
    pub(super) fn data_power(&self) -> usize {
        (POWERS - 1).wrapping_sub(self.blocks())
    }
}

/// Header and IV.
#[inline(always)]
fn head(packet: &mut [u8]) -> &mut [u8; HEAD] {
    let head = packet.first_chunk_mut();
    head.expect("a packet has header, IV and tag")
}

/// Counters of vector `vector` of the data, to be added to [`Job::base`].
#[inline(always)]
pub(super) fn counters<S: Simd>(s: S, vector: usize) -> S::V {
    let at = 2 + vector * S::LANES;
    debug_assert!(at + S::LANES <= COUNTERS_LEN);
    // SAFETY: a packet's length is limited to what the table holds.
    unsafe { s.load(COUNTERS.as_ptr().add(at).cast()) }
}

/// Counter 1, whose encryption hides the tag, in every lane.
#[inline(always)]
pub(super) fn tag_counter<S: Simd>(s: S) -> S::V {
    s.splat_from(&COUNTERS[1])
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
