//! The algebra of GHASH (NIST SP 800-38D section 6.4) for many blocks at once.
//!
//! GHASH reads a block as a polynomial over GF(2) with its bits in the unhandy order. With the
//! bytes of every block reversed it becomes POLYVAL (RFC 8452 appendix A), whose product is
//! `dot(a, b) = a * b * x^-128` modulo `x^128 + x^127 + x^126 + x^121 + 1`, with the key
//! `H * x`. That is the form used here: only the bytes are shuffled, never the bits.
//!
//! For blocks `X1 .. Xn` and powers `P1 = H * x`, `P(i+1) = dot(Pi, P1)` the hash is
//! `dot(X1, Pn) + .. + dot(Xn, P1)`. Products are linear, so all of them are added up first
//! and reduced once.
//!
//! With `a = a1 x^64 + a0` and the same for `b`, there are two ways to multiply, and the key
//! holds what they need of each power besides the power itself (its *second*):
//!
//! * Karatsuba: three products of 64 bits, `a1 b1`, `a0 b0` and `(a1 + a0)(b1 + b0)`. The second
//!   is `b1 + b0`.
//! * Schoolbook: four, but only two sums to be kept and a short reduction. With the second
//!   `c = b x^-64`, `a b x^-128 = (a1 b1 + a0 c1) + (a1 b0 + a0 c0) x^-64`. It wins where three
//!   operands are added by one instruction, as with AVX-512.

use super::simd::{HIGH_HIGH, HIGH_LOW, LOW_HIGH, LOW_LOW, Simd};

/// Low 64 bits' share of the reduction polynomial: `x^63 + x^62 + x^57`.
pub(super) const POLYNOMIAL: u64 = 0xc200_0000_0000_0000;

/// The polynomial in the low half of each lane.
#[inline(always)]
pub(super) fn polynomial<S: Simd>(s: S) -> S::V {
    // SAFETY: SSE2 only.
    s.splat(unsafe { core::arch::x86_64::_mm_set_epi64x(0, POLYNOMIAL as i64) })
}

/// A sum of products not yet reduced, lane by lane.
#[derive(Clone, Copy)]
pub(super) struct Sum<S: Simd> {
    low: S::V,
    middle: S::V,
    high: S::V,
}

impl<S: Simd> Sum<S> {
    #[inline(always)]
    pub(super) fn zero(s: S) -> Self {
        Self {
            low: s.zero(),
            middle: s.zero(),
            high: s.zero(),
        }
    }

    /// Adds `blocks * powers`, lane by lane. With Karatsuba `seconds` are in both halves of a lane.
    #[inline(always)]
    pub(super) fn add(&mut self, s: S, blocks: S::V, powers: S::V, seconds: S::V) {
        if S::SCHOOLBOOK {
            self.low = s.xor3(
                self.low,
                s.clmul::<HIGH_LOW>(blocks, powers),
                s.clmul::<LOW_LOW>(blocks, seconds),
            );
            self.middle = s.xor3(
                self.middle,
                s.clmul::<HIGH_HIGH>(blocks, powers),
                s.clmul::<LOW_HIGH>(blocks, seconds),
            );
            return;
        }
        let folded = s.xor(blocks, s.swap(blocks));
        self.low = s.xor(self.low, s.clmul::<LOW_LOW>(blocks, powers));
        self.high = s.xor(self.high, s.clmul::<HIGH_HIGH>(blocks, powers));
        self.middle = s.xor(self.middle, s.clmul::<LOW_LOW>(folded, seconds));
    }

    /// The sum of both.
    #[inline(always)]
    pub(super) fn plus(self, s: S, other: Self) -> Self {
        Self {
            low: s.xor(self.low, other.low),
            middle: s.xor(self.middle, other.middle),
            high: s.xor(self.high, other.high),
        }
    }

    /// The three vectors, for [`Simd::pin`].
    #[inline(always)]
    pub(super) fn parts(&mut self) -> [&mut S::V; 3] {
        [&mut self.low, &mut self.middle, &mut self.high]
    }

    /// All lanes added into the first.
    #[inline(always)]
    pub(super) fn fold(self, s: S) -> Self {
        Self {
            low: s.first(s.fold(self.low)),
            middle: s.first(s.fold(self.middle)),
            high: s.first(s.fold(self.high)),
        }
    }

    /// Lane `i` is the sum of all lanes of `sums[i]`.
    #[inline(always)]
    pub(super) fn fold_each(s: S, [a, b, c, d]: &[Self; 4]) -> Self {
        Self {
            low: s.fold_each([a.low, b.low, c.low, d.low]),
            middle: s.fold_each([a.middle, b.middle, c.middle, d.middle]),
            high: s.fold_each([a.high, b.high, c.high, d.high]),
        }
    }

    /// Each lane times `x^-128`, modulo the polynomial.
    ///
    /// The sum is `high x^128 + middle x^64 + low`, so this is
    /// `high + (middle + low x^-64) x^-64`.
    #[inline(always)]
    pub(super) fn reduce(self, s: S, polynomial: S::V) -> S::V {
        if S::SCHOOLBOOK {
            return s.xor3(
                self.middle,
                s.swap(self.low),
                s.clmul::<LOW_LOW>(self.low, polynomial),
            );
        }
        let middle = s.xor(self.middle, s.xor(self.low, self.high));
        let middle = s.xor(middle, divide(s, self.low, polynomial));
        s.xor(self.high, divide(s, middle, polynomial))
    }
}

/// `v * x^-64`. The low half of `v`, times the polynomial (whose constant term is 1), clears
/// itself when added; what stays is `v` moved down and the rest of that product.
#[inline(always)]
pub(super) fn divide<S: Simd>(s: S, v: S::V, polynomial: S::V) -> S::V {
    s.xor(s.swap(v), s.clmul::<LOW_LOW>(v, polynomial))
}
