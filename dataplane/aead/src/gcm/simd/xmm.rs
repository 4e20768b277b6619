//! AES-NI and PCLMULQDQ: one block to a vector.

use core::arch::x86_64::{
    __m128i, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_and_si128, _mm_clmulepi64_si128,
    _mm_loadu_si128, _mm_setzero_si128, _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_storeu_si128,
    _mm_xor_si128,
};

use super::{Simd, pin, reversal, tie};

/// One block.
#[derive(Clone, Copy)]
pub(in crate::gcm) struct Xmm(());

impl Xmm {
    pub(in crate::gcm) fn is_available() -> bool {
        is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("pclmulqdq")
            && is_x86_feature_detected!("avx")
    }

    /// # Safety
    /// [`is_available`](Self::is_available).
    #[inline(always)]
    pub(in crate::gcm) unsafe fn new() -> Self {
        Self(())
    }
}

pin!(pin_xmm, __m128i, xmm_reg, "avx");

// SAFETY of the blocks without a remark of their own: `self` proves that the processor has the
// instruction.
#[expect(clippy::undocumented_unsafe_blocks, reason = "said above")]
impl Simd for Xmm {
    type V = __m128i;
    const LANES: usize = 1;
    const SIDE_BY_SIDE: usize = 0;
    const SEAL_GROUP: usize = 8;
    const OPEN_GROUP: usize = 8;

    #[inline(always)]
    fn zero(self) -> __m128i {
        unsafe { _mm_setzero_si128() }
    }
    #[inline(always)]
    fn xor(self, a: __m128i, b: __m128i) -> __m128i {
        unsafe { _mm_xor_si128(a, b) }
    }
    #[inline(always)]
    fn and(self, a: __m128i, b: __m128i) -> __m128i {
        unsafe { _mm_and_si128(a, b) }
    }
    #[inline(always)]
    fn aes(self, state: __m128i, key: __m128i) -> __m128i {
        unsafe { _mm_aesenc_si128(state, key) }
    }
    #[inline(always)]
    fn aes_last(self, state: __m128i, key: __m128i) -> __m128i {
        unsafe { _mm_aesenclast_si128(state, key) }
    }
    #[inline(always)]
    fn clmul<const HALVES: i32>(self, a: __m128i, b: __m128i) -> __m128i {
        unsafe { _mm_clmulepi64_si128::<HALVES>(a, b) }
    }
    #[inline(always)]
    fn reverse(self, v: __m128i) -> __m128i {
        unsafe { _mm_shuffle_epi8(v, reversal()) }
    }
    #[inline(always)]
    fn swap(self, v: __m128i) -> __m128i {
        unsafe { _mm_shuffle_epi32::<0x4e>(v) }
    }
    #[inline(always)]
    fn splat(self, block: __m128i) -> __m128i {
        block
    }
    #[inline(always)]
    fn gather(self, blocks: [__m128i; 4]) -> __m128i {
        blocks[0]
    }
    #[inline(always)]
    fn first(self, block: __m128i) -> __m128i {
        block
    }
    #[inline(always)]
    fn lane(self, v: __m128i, _: usize) -> __m128i {
        v
    }
    #[inline(always)]
    fn fold(self, v: __m128i) -> __m128i {
        v
    }
    #[inline(always)]
    fn fold_each(self, vectors: [__m128i; 4]) -> __m128i {
        vectors[0]
    }
    #[inline(always)]
    fn pin<const N: usize>(self, states: &mut [__m128i; N], others: [&mut __m128i; 3]) {
        unsafe { pin_xmm(states, others) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> __m128i {
        unsafe { _mm_loadu_si128(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u8, v: __m128i) {
        unsafe { _mm_storeu_si128(to.cast(), v) }
    }
    #[inline(always)]
    unsafe fn load_tail(self, from: *const u8, len: usize) -> __m128i {
        // SAFETY: 16 bytes follow those that count.
        self.and(unsafe { self.load(from) }, self.mask(len))
    }
    #[inline(always)]
    unsafe fn add_tail(self, at: *mut u8, len: usize, key_stream: __m128i) -> __m128i {
        let mask = self.mask(len);
        // SAFETY: 16 bytes follow those that count.
        let v = self.xor(unsafe { self.load(at) }, self.and(key_stream, mask));
        unsafe { self.store(at, v) };
        self.and(v, mask)
    }
}
