//! The vector instructions the kernels are written in, behind one trait.
//!
//! A vector holds 1, 2 or 4 AES blocks, one to a 128-bit lane, and every operation works on
//! each lane by itself. The implementor is a token: having one proves that the processor has
//! the instructions, so everything but access through pointers is safe to call.
//!
//! All methods are `inline(always)`, and end up in functions that enable the target features.
//! Called from anywhere else they would be correct but slow, and that includes closures: they
//! are functions of their own, without the features. The kernels therefore have none.

mod xmm;
mod ymm;
mod zmm;

use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_set_epi8, _mm_storeu_si128};

pub(super) use xmm::Xmm;
pub(super) use ymm::Ymm;
pub(super) use zmm::Zmm;

/// One AES block in memory.
#[repr(C, align(16))]
#[derive(Clone, Copy, Default)]
pub(super) struct Block(pub(super) [u8; 16]);

impl zeroize::DefaultIsZeroes for Block {}

impl Block {
    /// Of two 64-bit halves as a register holds them.
    #[inline(always)]
    pub(super) fn new(low: u64, high: u64) -> Self {
        Self((u128::from(high) << 64 | u128::from(low)).to_le_bytes())
    }

    #[inline(always)]
    pub(super) fn store(&mut self, v: __m128i) {
        // SAFETY: a block is 16 writable bytes; SSE2 only.
        unsafe { _mm_storeu_si128(self.0.as_mut_ptr().cast(), v) }
    }

    /// The low 64-bit half.
    #[inline(always)]
    pub(super) fn low(&self) -> u64 {
        u128::from_le_bytes(self.0) as u64
    }

    #[inline(always)]
    pub(super) fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }
}

/// Which 64-bit halves `clmul` multiplies: bit 0 chooses from the first operand, bit 4 from
/// the second, 1 being the high half.
pub(super) const LOW_LOW: i32 = 0x00;
pub(super) const HIGH_HIGH: i32 = 0x11;
pub(super) const HIGH_LOW: i32 = 0x01;
pub(super) const LOW_HIGH: i32 = 0x10;

/// A set of vector instructions.
pub(super) trait Simd: Copy {
    /// [`LANES`](Self::LANES) blocks.
    type V: Copy;
    /// Blocks in a vector.
    const LANES: usize;
    /// Bytes in a vector.
    const BYTES: usize = 16 * Self::LANES;
    /// Longest packets, in vectors, that go side by side: as long as the states of
    /// [`LANES`](Self::LANES) of them fit the registers.
    const SIDE_BY_SIDE: usize;
    /// Whether there are masked loads and stores: `load_tail` and `add_tail` then cost no more than
    /// `load` and `add`.
    const MASKS: bool = false;
    /// Most vectors of a packet to be sealed whose AES runs side by side, at most 8. An AES
    /// instruction takes 4 cycles and one or two can start per cycle, so fewer leave the unit idle:
    /// with 4 the narrow rungs, and with 5 AVX-512, took 5 to 8 % longer from 1424 bytes on.
    const SEAL_GROUP: usize;
    /// Most vectors of a packet to be opened whose AES runs side by side, at most 8.
    const OPEN_GROUP: usize;
    /// How GHASH multiplies: see `ghash`.
    const SCHOOLBOOK: bool = false;

    fn zero(self) -> Self::V;
    fn xor(self, a: Self::V, b: Self::V) -> Self::V;
    #[inline(always)]
    fn xor3(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        self.xor(a, self.xor(b, c))
    }
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
    /// Reads `len` bytes (at most `BYTES`), and puts zeros after them.
    ///
    /// # Safety
    /// `len + 16` readable bytes.
    unsafe fn load_tail(self, from: *const u8, len: usize) -> Self::V;
    /// Adds key stream to a vector in memory, and returns what is then there.
    ///
    /// # Safety
    /// [`BYTES`](Self::BYTES) bytes, readable and writable, of any alignment.
    #[inline(always)]
    unsafe fn add(self, at: *mut u8, key_stream: Self::V) -> Self::V {
        // SAFETY: as the caller says.
        unsafe {
            let v = self.xor(self.load(at), key_stream);
            self.store(at, v);
            v
        }
    }
    /// Adds key stream to the first `len` bytes (at most `BYTES`) in memory, and returns those, and
    /// zeros after them.
    ///
    /// # Safety
    /// `len + 16` bytes, readable and writable. Those behind the first `len` may be written, with
    /// the value they have.
    unsafe fn add_tail(self, at: *mut u8, len: usize, key_stream: Self::V) -> Self::V;

    /// As [`gather`](Self::gather), from memory.
    #[inline(always)]
    fn gather_from(self, [a, b, c, d]: [&Block; 4]) -> Self::V {
        // SAFETY: a block is 16 readable bytes.
        unsafe {
            self.gather([
                _mm_loadu_si128(a.as_ptr().cast()),
                _mm_loadu_si128(b.as_ptr().cast()),
                _mm_loadu_si128(c.as_ptr().cast()),
                _mm_loadu_si128(d.as_ptr().cast()),
            ])
        }
    }

    /// As [`first`](Self::first), from memory.
    #[inline(always)]
    fn first_from(self, block: &Block) -> Self::V {
        // SAFETY: a block is 16 readable bytes.
        self.first(unsafe { _mm_loadu_si128(block.as_ptr().cast()) })
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

/// The shuffle that puts the bytes of a block in opposite order.
#[inline(always)]
fn reversal() -> __m128i {
    // SAFETY: SSE2, which every x86-64 has.
    unsafe { _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) }
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
                9 => tie!($class, x, a, b, c; 0 1 2 3 4 5 6 7 8),
                13 => tie!($class, x, a, b, c; 0 1 2 3 4 5 6 7 8 9 10 11 12),
                _ => tie!($class, x, a, b, c; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16),
            }
        }
    };
}
use {pin, tie};
