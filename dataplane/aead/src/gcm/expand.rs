//! Key set-up: AES round keys and the powers of the hash key. Constant time; runs once per
//! security association.

use core::arch::x86_64::{
    __m128i, _mm_aeskeygenassist_si128, _mm_cvtsi32_si128, _mm_cvtsi128_si32, _mm_set_epi64x,
};

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::ghash::{POLYNOMIAL, Sum, divide, polynomial};
use super::simd::{Block, Simd, Xmm};
use crate::prefetch_all;
use crate::rung::Rung;
use crate::tables::{self, Counted};

/// Powers of the hash key: the longest stretch, and the length block after it.
pub(super) const POWERS: usize = tables::FULL + 1;

/// An expanded AES-GCM key.
#[repr(C, align(64))]
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Key {
    /// 11 round keys for AES-128, 15 for AES-256.
    pub(super) round_keys: [Block; 15],
    /// First four bytes of every nonce, as they stand in memory.
    pub(super) salt: u32,
    pub(super) esn: bool,
    /// What code works with it.
    #[zeroize(skip)]
    pub(super) kernel: Kernel,
    /// Power `i` of the hash key at index `POWERS - i`, then zeros, so that a vector that
    /// starts at the last power can be loaded.
    pub(super) powers: [Block; POWERS + 3],
    /// For each power what multiplication needs besides: its product with `x^-64`, or the sum of
    /// its 64-bit halves, in both halves.
    pub(super) seconds: [Block; POWERS + 3],
    #[zeroize(skip)]
    _counted: Counted,
}

/// The code a key needs: packets whose keys need the same go through it together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Kernel {
    /// Never `Portable`, and available: seen to where keys are made.
    pub(super) rung: Rung,
    /// Whether this is AES-256.
    pub(super) long: bool,
}

impl Key {
    /// `key` is 16 or 32 bytes and `salt` 4.
    pub(super) fn new(s: Xmm, key: &[u8], salt: &[u8], esn: bool, rung: Rung) -> Box<Self> {
        let mut expanded = Box::new(Self {
            round_keys: [Block::default(); 15],
            salt: u32::from_ne_bytes(salt.try_into().expect("4 bytes")),
            esn,
            kernel: Kernel {
                rung,
                long: key.len() == 32,
            },
            powers: [Block::default(); POWERS + 3],
            seconds: [Block::default(); POWERS + 3],
            _counted: Counted::new(),
        });
        expanded.expand_round_keys(s, key);
        expanded.expand_powers(s, rung == Rung::Avx512);
        expanded
    }

    /// Asks the processor for the part of the tables that a packet of `len` bytes needs.
    #[inline]
    pub(crate) fn prefetch(&self, len: usize) {
        prefetch_all(&self.round_keys);
        // The packet's blocks, one of them the AAD, and the lengths.
        let blocks = len.div_ceil(16).min(tables::tables().stretch() + 1);
        let from = POWERS - blocks;
        prefetch_all(&self.powers[from..POWERS]);
        prefetch_all(&self.seconds[from..POWERS]);
    }

    /// The powers, and what else multiplication needs of them, for a vector whose first block
    /// has the power at `index`.
    #[inline(always)]
    pub(super) fn powers_of<S: Simd>(&self, s: S, index: usize) -> (S::V, S::V) {
        debug_assert!(index < POWERS);
        // SAFETY: a vector that starts at any power ends within the table.
        unsafe {
            (
                s.load(self.powers.as_ptr().add(index).cast()),
                s.load(self.seconds.as_ptr().add(index).cast()),
            )
        }
    }

    pub(super) fn rounds(&self) -> usize {
        if self.kernel.long { 14 } else { 10 }
    }

    /// FIPS 197 section 5.2.
    fn expand_round_keys(&mut self, _: Xmm, key: &[u8]) {
        let key_words = key.len() / 4;
        let mut words = [0_u32; 60];
        for (word, bytes) in words.iter_mut().zip(key.chunks_exact(4)) {
            *word = u32::from_le_bytes(bytes.try_into().expect("4 bytes"));
        }
        let mut round_constant = 1_u32;
        for i in key_words..4 * (self.rounds() + 1) {
            let mut word = words[i - 1];
            if i % key_words == 0 {
                // SAFETY: the token says that AES instructions are there.
                word = unsafe { substitute(word) }.rotate_right(8) ^ round_constant;
                // Multiplication by x in AES's field; only AES-128 gets past 0x80.
                round_constant = (round_constant << 1) ^ ((round_constant >> 7) * 0x11b);
            } else if key_words == 8 && i % 8 == 4 {
                // SAFETY: as above.
                word = unsafe { substitute(word) };
            }
            words[i] = words[i - key_words] ^ word;
        }
        for (round_key, words) in self.round_keys.iter_mut().zip(words.chunks_exact(4)) {
            for (bytes, word) in round_key.0.chunks_exact_mut(4).zip(words) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
        }
        words.zeroize();
    }

    fn expand_powers(&mut self, s: Xmm, schoolbook: bool) {
        let first = self.hash_key(s);
        let polynomial = polynomial(s);
        let mut power = first;
        for i in 1..=POWERS {
            let sum = s.xor(power, s.swap(power));
            self.powers[POWERS - i].store(power);
            if schoolbook {
                self.seconds[POWERS - i].store(divide(s, power, polynomial));
            } else {
                self.seconds[POWERS - i].store(sum);
            }
            let mut next = Sum::zero(s);
            next.add(s, power, first, s.xor(first, s.swap(first)));
            power = next.reduce(s, polynomial);
        }
    }

    /// `H * x` in POLYVAL's form: RFC 8452 appendix A, `mulX_POLYVAL(ByteReverse(H))`.
    fn hash_key(&self, s: Xmm) -> __m128i {
        let mut state = s.splat_from(&self.round_keys[0]);
        for round_key in &self.round_keys[1..self.rounds()] {
            state = s.aes(state, s.splat_from(round_key));
        }
        state = s.aes_last(state, s.splat_from(&self.round_keys[self.rounds()]));
        let mut bytes = Block::default();
        bytes.store(state);
        let h = u128::from_be_bytes(bytes.0);
        bytes.zeroize();
        // Without a branch: the mask is all ones if the top bit was set.
        let carry = (h >> 127).wrapping_neg();
        let h = h << 1 ^ carry & (u128::from(POLYNOMIAL) << 64 | 1);
        // SAFETY: SSE2 only.
        unsafe { _mm_set_epi64x((h >> 64) as i64, h as i64) }
    }
}

/// AES's S-box on each byte of a word, without a table in memory.
#[inline]
#[target_feature(enable = "aes,avx")]
fn substitute(word: u32) -> u32 {
    // The instruction applies the S-box to word 1 and returns that in word 0.
    let v = core::arch::x86_64::_mm_slli_si128::<4>(_mm_cvtsi32_si128(word as i32));
    _mm_cvtsi128_si32(_mm_aeskeygenassist_si128::<0>(v)) as u32
}
