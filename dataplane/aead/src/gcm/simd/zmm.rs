//! VAES and VPCLMULQDQ on AVX-512: four blocks to a vector, 32 registers, and loads and stores
//! with a mask.

use core::arch::x86_64::{
    __m128i, __m512i, _bzhi_u64, _mm_xor_si128, _mm256_castsi256_si128, _mm256_extracti128_si256,
    _mm256_xor_si256, _mm512_aesenc_epi128, _mm512_aesenclast_epi128, _mm512_and_si512,
    _mm512_broadcast_i32x4, _mm512_castsi128_si512, _mm512_castsi512_si128, _mm512_castsi512_si256,
    _mm512_clmulepi64_epi128, _mm512_extracti32x4_epi32, _mm512_extracti64x4_epi64,
    _mm512_inserti32x4, _mm512_loadu_si512, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8,
    _mm512_maskz_mov_epi8, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_shuffle_epi32,
    _mm512_shuffle_i64x2, _mm512_storeu_si512, _mm512_ternarylogic_epi64, _mm512_xor_si512,
    _mm512_zextsi128_si512,
};

use super::{Simd, Xmm, pin, reversal, tie};

/// Four blocks.
#[derive(Clone, Copy)]
pub(in crate::gcm) struct Zmm(());

impl Zmm {
    pub(in crate::gcm) fn is_available() -> bool {
        Xmm::is_available()
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("vpclmulqdq")
    }

    /// # Safety
    /// [`is_available`](Self::is_available).
    #[inline(always)]
    pub(in crate::gcm) unsafe fn new() -> Self {
        Self(())
    }
}

pin!(pin_zmm, __m512i, zmm_reg, "avx512f");

/// Ones in the lowest `len` bits, `len` being at most 64.
#[inline(always)]
fn bits(len: usize) -> u64 {
    // SAFETY: only called with the instruction at hand.
    unsafe { _bzhi_u64(u64::MAX, len as u32) }
}

// SAFETY of the blocks without a remark of their own: `self` proves that the processor has the
// instruction.
#[expect(clippy::undocumented_unsafe_blocks, reason = "said above")]
impl Simd for Zmm {
    type V = __m512i;
    const LANES: usize = 4;
    const SIDE_BY_SIDE: usize = 2;
    const MASKS: bool = true;
    const SEAL_GROUP: usize = 8;
    const OPEN_GROUP: usize = 8;
    const SCHOOLBOOK: bool = true;

    #[inline(always)]
    fn zero(self) -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    fn xor(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_xor_si512(a, b) }
    }
    #[inline(always)]
    fn xor3(self, a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        unsafe { _mm512_ternarylogic_epi64::<0x96>(a, b, c) }
    }
    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(a, b) }
    }
    #[inline(always)]
    fn aes(self, state: __m512i, key: __m512i) -> __m512i {
        unsafe { _mm512_aesenc_epi128(state, key) }
    }
    #[inline(always)]
    fn aes_last(self, state: __m512i, key: __m512i) -> __m512i {
        unsafe { _mm512_aesenclast_epi128(state, key) }
    }
    #[inline(always)]
    fn clmul<const HALVES: i32>(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_clmulepi64_epi128::<HALVES>(a, b) }
    }
    #[inline(always)]
    fn reverse(self, v: __m512i) -> __m512i {
        unsafe { _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(reversal())) }
    }
    #[inline(always)]
    fn swap(self, v: __m512i) -> __m512i {
        unsafe { _mm512_shuffle_epi32::<0x4e>(v) }
    }
    #[inline(always)]
    fn splat(self, block: __m128i) -> __m512i {
        unsafe { _mm512_broadcast_i32x4(block) }
    }
    #[inline(always)]
    fn gather(self, [a, b, c, d]: [__m128i; 4]) -> __m512i {
        unsafe {
            let v = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(a), b);
            _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(v, c), d)
        }
    }
    #[inline(always)]
    fn first(self, block: __m128i) -> __m512i {
        unsafe { _mm512_zextsi128_si512(block) }
    }
    #[inline(always)]
    fn lane(self, v: __m512i, i: usize) -> __m128i {
        unsafe {
            match i {
                0 => _mm512_castsi512_si128(v),
                1 => _mm512_extracti32x4_epi32::<1>(v),
                2 => _mm512_extracti32x4_epi32::<2>(v),
                _ => _mm512_extracti32x4_epi32::<3>(v),
            }
        }
    }
    #[inline(always)]
    fn fold(self, v: __m512i) -> __m128i {
        unsafe {
            let v = _mm256_xor_si256(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64::<1>(v));
            _mm_xor_si128(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v))
        }
    }
    #[inline(always)]
    fn fold_each(self, [a, b, c, d]: [__m512i; 4]) -> __m512i {
        unsafe {
            // Lanes 0 + 2 and 1 + 3 of a, then of b; the same for c and d.
            let ab = _mm512_xor_si512(
                _mm512_shuffle_i64x2::<0x44>(a, b),
                _mm512_shuffle_i64x2::<0xee>(a, b),
            );
            let cd = _mm512_xor_si512(
                _mm512_shuffle_i64x2::<0x44>(c, d),
                _mm512_shuffle_i64x2::<0xee>(c, d),
            );
            _mm512_xor_si512(
                _mm512_shuffle_i64x2::<0x88>(ab, cd),
                _mm512_shuffle_i64x2::<0xdd>(ab, cd),
            )
        }
    }
    #[inline(always)]
    fn pin<const N: usize>(self, states: &mut [__m512i; N], others: [&mut __m512i; 3]) {
        unsafe { pin_zmm(states, others) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u8, v: __m512i) {
        unsafe { _mm512_storeu_si512(to.cast(), v) }
    }
    #[inline(always)]
    unsafe fn load_tail(self, from: *const u8, len: usize) -> __m512i {
        // SAFETY: the mask keeps the access within `len` bytes.
        unsafe { _mm512_maskz_loadu_epi8(bits(len), from.cast()) }
    }
    #[inline(always)]
    unsafe fn add_tail(self, at: *mut u8, len: usize, key_stream: __m512i) -> __m512i {
        // SAFETY: the mask keeps the accesses within `len` bytes.
        unsafe {
            let bits = bits(len);
            let v = _mm512_maskz_loadu_epi8(bits, at.cast());
            let v = _mm512_xor_si512(v, _mm512_maskz_mov_epi8(bits, key_stream));
            _mm512_mask_storeu_epi8(at.cast(), bits, v);
            v
        }
    }
}
