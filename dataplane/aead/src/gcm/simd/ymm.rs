//! VAES and VPCLMULQDQ on AVX2: two blocks to a vector.

use core::arch::x86_64::{
    __m128i, __m256i, _mm_loadu_si128, _mm_storeu_si128, _mm_xor_si128, _mm256_aesenc_epi128,
    _mm256_aesenclast_epi128, _mm256_and_si256, _mm256_broadcastsi128_si256,
    _mm256_castsi128_si256, _mm256_castsi256_si128, _mm256_clmulepi64_epi128,
    _mm256_extracti128_si256, _mm256_inserti128_si256, _mm256_loadu_si256,
    _mm256_permute2x128_si256, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_shuffle_epi32,
    _mm256_storeu_si256, _mm256_xor_si256, _mm256_zextsi128_si256,
};

use super::{Simd, Xmm, pin, reversal, tie};

/// Two blocks.
#[derive(Clone, Copy)]
pub(in crate::gcm) struct Ymm(());

impl Ymm {
    pub(in crate::gcm) fn is_available() -> bool {
        Xmm::is_available()
            && is_x86_feature_detected!("avx2")
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

pin!(pin_ymm, __m256i, ymm_reg, "avx2");

// SAFETY of the blocks without a remark of their own: `self` proves that the processor has the
// instruction.
#[expect(clippy::undocumented_unsafe_blocks, reason = "said above")]
impl Simd for Ymm {
    type V = __m256i;
    const LANES: usize = 2;
    const SIDE_BY_SIDE: usize = 4;
    const SEAL_GROUP: usize = 6;
    const OPEN_GROUP: usize = 8;

    #[inline(always)]
    fn zero(self) -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    fn xor(self, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_xor_si256(a, b) }
    }
    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(a, b) }
    }
    #[inline(always)]
    fn aes(self, state: __m256i, key: __m256i) -> __m256i {
        unsafe { _mm256_aesenc_epi128(state, key) }
    }
    #[inline(always)]
    fn aes_last(self, state: __m256i, key: __m256i) -> __m256i {
        unsafe { _mm256_aesenclast_epi128(state, key) }
    }
    #[inline(always)]
    fn clmul<const HALVES: i32>(self, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_clmulepi64_epi128::<HALVES>(a, b) }
    }
    #[inline(always)]
    fn reverse(self, v: __m256i) -> __m256i {
        unsafe { _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(reversal())) }
    }
    #[inline(always)]
    fn swap(self, v: __m256i) -> __m256i {
        unsafe { _mm256_shuffle_epi32::<0x4e>(v) }
    }
    #[inline(always)]
    fn splat(self, block: __m128i) -> __m256i {
        unsafe { _mm256_broadcastsi128_si256(block) }
    }
    #[inline(always)]
    fn gather(self, blocks: [__m128i; 4]) -> __m256i {
        unsafe { _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(blocks[0]), blocks[1]) }
    }
    #[inline(always)]
    fn first(self, block: __m128i) -> __m256i {
        unsafe { _mm256_zextsi128_si256(block) }
    }
    #[inline(always)]
    fn lane(self, v: __m256i, i: usize) -> __m128i {
        unsafe {
            if i == 0 {
                _mm256_castsi256_si128(v)
            } else {
                _mm256_extracti128_si256::<1>(v)
            }
        }
    }
    #[inline(always)]
    fn fold(self, v: __m256i) -> __m128i {
        unsafe { _mm_xor_si128(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v)) }
    }
    #[inline(always)]
    fn fold_each(self, [a, b, ..]: [__m256i; 4]) -> __m256i {
        unsafe {
            _mm256_xor_si256(
                _mm256_permute2x128_si256::<0x20>(a, b),
                _mm256_permute2x128_si256::<0x31>(a, b),
            )
        }
    }
    #[inline(always)]
    fn pin<const N: usize>(self, states: &mut [__m256i; N], others: [&mut __m256i; 3]) {
        unsafe { pin_ymm(states, others) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> __m256i {
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u8, v: __m256i) {
        unsafe { _mm256_storeu_si256(to.cast(), v) }
    }
    #[inline(always)]
    unsafe fn load_tail(self, from: *const u8, len: usize) -> __m256i {
        // SAFETY: 32 bytes are there if 16 count, else 16.
        let v = unsafe {
            if len > 16 {
                self.load(from)
            } else {
                _mm256_zextsi128_si256(_mm_loadu_si128(from.cast()))
            }
        };
        self.and(v, self.mask(len))
    }
    #[inline(always)]
    unsafe fn add_tail(self, at: *mut u8, len: usize, key_stream: __m256i) -> __m256i {
        let mask = self.mask(len);
        let key_stream = self.and(key_stream, mask);
        // SAFETY: 32 bytes are there if 16 count, else 16.
        let v = unsafe {
            if len > 16 {
                let v = self.xor(self.load(at), key_stream);
                self.store(at, v);
                v
            } else {
                let v = _mm256_zextsi128_si256(_mm_loadu_si128(at.cast()));
                let v = self.xor(v, key_stream);
                _mm_storeu_si128(at.cast(), _mm256_castsi256_si128(v));
                v
            }
        };
        self.and(v, mask)
    }
}
