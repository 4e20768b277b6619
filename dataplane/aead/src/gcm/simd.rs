//! The vector instructions the kernels are written in, behind one trait.
//!
//! A vector holds 1, 2 or 4 AES blocks, one to a 128-bit lane, and every operation works on
//! each lane by itself. The implementor is a token: having one proves that the processor has
//! the instructions, so everything but access through pointers is safe to call.
//!
//! All methods are `inline(always)`, and end up in functions that enable the target features.
//! Called from anywhere else they would be correct but slow, and that includes closures: they
//! are functions of their own, without the features. The kernels therefore have none.

use core::arch::x86_64::{
    __m128i, __m256i, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_clmulepi64_si128,
    _mm_loadu_si128, _mm_set_epi8, _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_storeu_si128,
    _mm_xor_si128, _mm256_aesenc_epi128, _mm256_aesenclast_epi128, _mm256_and_si256,
    _mm256_broadcastsi128_si256, _mm256_castsi128_si256, _mm256_castsi256_si128,
    _mm256_clmulepi64_epi128, _mm256_extracti128_si256, _mm256_inserti128_si256,
    _mm256_loadu_si256, _mm256_permute2x128_si256, _mm256_setzero_si256, _mm256_shuffle_epi8,
    _mm256_shuffle_epi32, _mm256_storeu_si256, _mm256_xor_si256, _mm256_zextsi128_si256,
};
use core::arch::x86_64::{_mm_and_si128, _mm_setzero_si128};

/// One AES block in memory.
#[repr(C, align(16))]
#[derive(Clone, Copy, Default)]
pub(super) struct Block(pub(super) [u8; 16]);

impl zeroize::DefaultIsZeroes for Block {}

impl Block {
    #[inline(always)]
    pub(super) fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }
}

/// Which 64-bit halves `clmul` multiplies: bit 0 chooses from the first operand, bit 4 from
/// the second, 1 being the high half.
pub(super) const LOW_LOW: i32 = 0x00;
pub(super) const HIGH_HIGH: i32 = 0x11;

/// A set of vector instructions.
pub(super) trait Simd: Copy {
    /// [`LANES`](Self::LANES) blocks.
    type V: Copy;
    /// Blocks in a vector.
    const LANES: usize;
    /// Bytes in a vector.
    const BYTES: usize = 16 * Self::LANES;

    fn zero(self) -> Self::V;
    fn xor(self, a: Self::V, b: Self::V) -> Self::V;
    fn and(self, a: Self::V, b: Self::V) -> Self::V;
    /// A whole AES round, the last without MixColumns.
    fn aes(self, state: Self::V, key: Self::V) -> Self::V;
    fn aes_last(self, state: Self::V, key: Self::V) -> Self::V;
    /// Carry-less product of one 64-bit half of each lane.
    fn clmul<const HALVES: i32>(self, a: Self::V, b: Self::V) -> Self::V;
    /// The bytes of each block in opposite order.
    fn reverse(self, v: Self::V) -> Self::V;
    /// The two 64-bit halves of each block exchanged.
    fn swap(self, v: Self::V) -> Self::V;
    /// The same block in every lane.
    fn splat(self, block: __m128i) -> Self::V;
    /// Lane `i` is `blocks[i]`; blocks beyond the lanes are left out.
    fn gather(self, blocks: [__m128i; 4]) -> Self::V;
    /// The block in the first lane, zero in the others.
    fn first(self, block: __m128i) -> Self::V;
    /// Lane `i`.
    fn lane(self, v: Self::V, i: usize) -> __m128i;
    /// The sum of all lanes.
    fn fold(self, v: Self::V) -> __m128i;
    /// Lane `i` is the sum of all lanes of `vectors[i]`.
    fn fold_each(self, vectors: [Self::V; 4]) -> Self::V;
    /// Makes all of these vectors be computed here, before anything that uses the results.
    /// Left alone the compiler sorts AES and GHASH apart again, which were interleaved so that
    /// the processor finds work for both units within its window.
    fn pin<const N: usize>(self, states: &mut [Self::V; N], others: [&mut Self::V; 3]);

    /// # Safety
    /// [`BYTES`](Self::BYTES) readable bytes, of any alignment.
    unsafe fn load(self, from: *const u8) -> Self::V;
    /// # Safety
    /// [`BYTES`](Self::BYTES) writable bytes, of any alignment.
    unsafe fn store(self, to: *mut u8, v: Self::V);
    /// Reads a vector of which `len` bytes (1 to `BYTES`) count; the others are arbitrary.
    ///
    /// # Safety
    /// `len + 16` readable bytes.
    unsafe fn load_tail(self, from: *const u8, len: usize) -> Self::V;
    /// Writes at least `len` bytes (1 to `BYTES`), and at most 15 bytes more.
    ///
    /// # Safety
    /// `len + 16` writable bytes.
    unsafe fn store_tail(self, to: *mut u8, len: usize, v: Self::V);

    /// The blocks in the first two lanes, zero in the others.
    #[inline(always)]
    fn pair(self, a: __m128i, b: __m128i) -> Self::V {
        // SAFETY: SSE2, which every x86-64 has.
        let zero = unsafe { _mm_setzero_si128() };
        self.gather([a, b, zero, zero])
    }

    /// As [`pair`](Self::pair), from memory.
    #[inline(always)]
    fn pair_from(self, a: &Block, b: &Block) -> Self::V {
        // SAFETY: a block is 16 readable bytes.
        unsafe {
            self.pair(
                _mm_loadu_si128(a.as_ptr().cast()),
                _mm_loadu_si128(b.as_ptr().cast()),
            )
        }
    }

    /// The block in every lane.
    #[inline(always)]
    fn splat_from(self, block: &Block) -> Self::V {
        // SAFETY: a block is 16 readable bytes.
        self.splat(unsafe { _mm_loadu_si128(block.as_ptr().cast()) })
    }

    /// Ones in the first `len` bytes (at most `BYTES`), then zeros.
    #[inline(always)]
    fn mask(self, len: usize) -> Self::V {
        static ONES_THEN_ZEROS: [u8; 128] = {
            let mut bytes = [0; 128];
            let mut i = 0;
            while i < 64 {
                bytes[i] = 0xff;
                i += 1;
            }
            bytes
        };
        debug_assert!(len <= Self::BYTES);
        // SAFETY: 64 - len is between 0 and 64, and 64 bytes follow byte 64.
        unsafe { self.load(ONES_THEN_ZEROS.as_ptr().add(64 - len)) }
    }
}

/// AES-NI and PCLMULQDQ: one block.
#[derive(Clone, Copy)]
pub(super) struct Xmm(());

/// VAES and VPCLMULQDQ on AVX2: two blocks.
#[derive(Clone, Copy)]
pub(super) struct Ymm(());

impl Xmm {
    pub(super) fn is_available() -> bool {
        is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("pclmulqdq")
            && is_x86_feature_detected!("avx")
    }

    /// # Safety
    /// [`is_available`](Self::is_available).
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

impl Ymm {
    pub(super) fn is_available() -> bool {
        Xmm::is_available()
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("vpclmulqdq")
    }

    /// # Safety
    /// [`is_available`](Self::is_available).
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

/// One empty assembly statement that takes and gives back all of the vectors.
macro_rules! tie {
    ($class:ident, $x:ident, $a:ident, $b:ident, $c:ident; $($i:literal)*) => {
        // SAFETY: no instruction at all.
        unsafe {
            core::arch::asm!(
                concat!("/* {a} {b} {c}", $(" {", $i, "}",)* " */"),
                $(inout($class) $x[$i],)*
                a = inout($class) *$a,
                b = inout($class) *$b,
                c = inout($class) *$c,
                options(pure, nomem, nostack, preserves_flags)
            )
        }
    };
}

/// The body of [`Simd::pin`]. The register class can only be named in a function that has the
/// feature.
macro_rules! pin {
    ($name:ident, $vector:ident, $class:ident, $feature:literal) => {
        #[inline]
        #[target_feature(enable = $feature)]
        fn $name<const N: usize>(x: &mut [$vector; N], [a, b, c]: [&mut $vector; 3]) {
            match N {
                1 => tie!($class, x, a, b, c; 0),
                2 => tie!($class, x, a, b, c; 0 1),
                3 => tie!($class, x, a, b, c; 0 1 2),
                4 => tie!($class, x, a, b, c; 0 1 2 3),
                5 => tie!($class, x, a, b, c; 0 1 2 3 4),
                6 => tie!($class, x, a, b, c; 0 1 2 3 4 5),
                7 => tie!($class, x, a, b, c; 0 1 2 3 4 5 6),
                8 => tie!($class, x, a, b, c; 0 1 2 3 4 5 6 7),
                _ => tie!($class, x, a, b, c; 0 1 2 3 4 5 6 7 8),
            }
        }
    };
}

pin!(pin_xmm, __m128i, xmm_reg, "avx");
pin!(pin_ymm, __m256i, ymm_reg, "avx2");

#[inline(always)]
fn reversal() -> __m128i {
    // SAFETY: SSE2, which every x86-64 has.
    unsafe { _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) }
}

// SAFETY of every block without a remark of its own in the two implementations: `self` proves
// that the processor has the instruction.
#[expect(clippy::undocumented_unsafe_blocks, reason = "said once above")]
impl Simd for Xmm {
    type V = __m128i;
    const LANES: usize = 1;

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
    unsafe fn load_tail(self, from: *const u8, _: usize) -> __m128i {
        // SAFETY: at least one byte counts, and 16 follow.
        unsafe { _mm_loadu_si128(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store_tail(self, to: *mut u8, _: usize, v: __m128i) {
        // SAFETY: at least one byte counts, and 16 follow.
        unsafe { _mm_storeu_si128(to.cast(), v) }
    }
}

#[expect(clippy::undocumented_unsafe_blocks, reason = "said once above")]
impl Simd for Ymm {
    type V = __m256i;
    const LANES: usize = 2;

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
        unsafe {
            if len > 16 {
                _mm256_loadu_si256(from.cast())
            } else {
                _mm256_zextsi128_si256(_mm_loadu_si128(from.cast()))
            }
        }
    }
    #[inline(always)]
    unsafe fn store_tail(self, to: *mut u8, len: usize, v: __m256i) {
        // SAFETY: 32 bytes are there if 16 count, else 16. The same limit as in `load_tail`:
        // a load wider than the store before it would have to wait for the cache.
        unsafe {
            if len > 16 {
                _mm256_storeu_si256(to.cast(), v);
            } else {
                _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(v));
            }
        }
    }
}
