//! One packet at a time, any length.
//!
//! The payload is cut into groups of [`GROUP`] vectors. AES keeps the states of a group in
//! registers, and between its rounds stands the GHASH of ciphertext that is already there:
//! when opening the group's own, when sealing the group before it.

#![expect(
    clippy::needless_range_loop,
    reason = "one index goes through several arrays"
)]

use core::arch::x86_64::__m128i;

use super::expand::{POWERS, STRETCH};
use super::ghash::{Sum, polynomial};
use super::job::{Job, equal, rounds, share};
use super::simd::Simd;

/// Vectors whose AES runs side by side. Each AES instruction takes 4 cycles and two can start
/// per cycle, so fewer leave the unit idle; more, and GHASH would not find free registers.
pub(super) const GROUP: usize = 4;

/// Encrypts a packet and writes its tag.
#[inline(always)]
pub(super) fn seal<S: Simd, const R: usize>(s: S, job: &Job<'_, S>) {
    let mut hash = Hash::start(s, job);
    let vectors = job.vectors();
    if vectors == 0 {
        return job.write_tag(finish(s, hash, job, encrypt_tag_counter::<S, R>(s, job)));
    }
    let full = (vectors - 1) / GROUP;
    for group in 0..full {
        if group == 0 {
            seal_group::<S, R, GROUP, GROUP, 0>(s, job, 0, &mut hash);
        } else {
            seal_group::<S, R, GROUP, GROUP, GROUP>(s, job, group * GROUP, &mut hash);
            hash.end_group(s, job, group * GROUP);
        }
    }
    let at = full * GROUP;
    macro_rules! last {
        ($vectors:literal, $states:literal, $before:expr) => {{
            let pad = seal_group::<S, R, $vectors, $states, { $before }>(s, job, at, &mut hash);
            if $before > 0 {
                hash.end_group(s, job, at);
            }
            let power = job.power(at * S::LANES);
            for i in 0..$vectors {
                hash.add(s, job, power, at, i, i + 1 == $vectors);
            }
            pad
        }};
    }
    let pad = match (full > 0, vectors - at) {
        (true, 1) => last!(1, 2, GROUP),
        (true, 2) => last!(2, 3, GROUP),
        (true, 3) => last!(3, 4, GROUP),
        (true, _) => last!(4, 5, GROUP),
        (false, 1) => last!(1, 2, 0),
        (false, 2) => last!(2, 3, 0),
        (false, 3) => last!(3, 4, 0),
        (false, _) => last!(4, 5, 0),
    };
    job.write_tag(finish(s, hash, job, pad));
}

/// Decrypts a packet and says whether it is authentic. If not, its data is wiped.
#[inline(always)]
pub(super) fn open<S: Simd, const R: usize>(s: S, job: &Job<'_, S>) -> bool {
    let tag = job.tag();
    let mut hash = Hash::start(s, job);
    let vectors = job.vectors();
    let pad = if vectors == 0 {
        encrypt_tag_counter::<S, R>(s, job)
    } else {
        let full = (vectors - 1) / GROUP;
        for group in 0..full {
            open_group::<S, R, GROUP, GROUP>(s, job, group * GROUP, &mut hash);
            hash.end_group(s, job, (group + 1) * GROUP);
        }
        let at = full * GROUP;
        match vectors - at {
            1 => open_group::<S, R, 1, 2>(s, job, at, &mut hash),
            2 => open_group::<S, R, 2, 3>(s, job, at, &mut hash),
            3 => open_group::<S, R, 3, 4>(s, job, at, &mut hash),
            _ => open_group::<S, R, 4, 5>(s, job, at, &mut hash),
        }
    };
    let authentic = equal(tag, finish(s, hash, job, pad));
    if !authentic {
        job.wipe();
    }
    authentic
}

/// Encrypts `A` vectors of data from vector `at`, and hashes the `P` vectors before them.
/// With `N = A + 1` states it is the packet's last group, and the encrypted tag counter is
/// returned; with `N = A` nothing of use is.
#[inline(always)]
fn seal_group<S: Simd, const R: usize, const A: usize, const N: usize, const P: usize>(
    s: S,
    job: &Job<'_, S>,
    at: usize,
    hash: &mut Hash<S>,
) -> S::V {
    let mut x = states::<S, A, N>(s, job, at);
    let power = job.power((at - P) * S::LANES);
    rounds!(
        s,
        R,
        x,
        hash.sum,
        |i, round| s.splat_from(&job.key.round_keys[round]),
        {
            for i in share(P, round, R) {
                hash.add(s, job, power, at - P, i, false);
            }
        }
    );
    apply::<S, A, N>(s, job, at, &x);
    x[N - 1]
}

/// Hashes and decrypts `A` vectors of data from vector `at`; `N` as in [`seal_group`].
#[inline(always)]
fn open_group<S: Simd, const R: usize, const A: usize, const N: usize>(
    s: S,
    job: &Job<'_, S>,
    at: usize,
    hash: &mut Hash<S>,
) -> S::V {
    let mut x = states::<S, A, N>(s, job, at);
    let power = job.power(at * S::LANES);
    rounds!(
        s,
        R,
        x,
        hash.sum,
        |i, round| s.splat_from(&job.key.round_keys[round]),
        {
            for i in share(A, round, R) {
                hash.add(s, job, power, at, i, N > A && i + 1 == A);
            }
        }
    );
    apply::<S, A, N>(s, job, at, &x);
    x[N - 1]
}

#[inline(always)]
fn states<S: Simd, const A: usize, const N: usize>(s: S, job: &Job<'_, S>, at: usize) -> [S::V; N] {
    let mut x = [job.tag_counter(s); N];
    for (i, state) in x[..A].iter_mut().enumerate() {
        *state = job.counters(s, at + i);
    }
    x
}

#[inline(always)]
fn apply<S: Simd, const A: usize, const N: usize>(
    s: S,
    job: &Job<'_, S>,
    at: usize,
    x: &[S::V; N],
) {
    for i in 0..A {
        if N > A && i + 1 == A {
            job.apply_last(s, x[i]);
        } else {
            job.apply(s, at + i, x[i]);
        }
    }
}

#[inline(always)]
fn encrypt_tag_counter<S: Simd, const R: usize>(s: S, job: &Job<'_, S>) -> S::V {
    let mut x = [job.tag_counter(s)];
    let mut sum = Sum::zero(s);
    rounds!(
        s,
        R,
        x,
        sum,
        |i, round| s.splat_from(&job.key.round_keys[round]),
        {}
    );
    x[0]
}

/// GHASH of a packet on the way.
struct Hash<S: Simd> {
    sum: Sum<S>,
    /// Hash of the stretches before, to be added to the next block; zero within a stretch.
    carry: S::V,
    polynomial: S::V,
}

impl<S: Simd> Hash<S> {
    #[inline(always)]
    fn start(s: S, job: &Job<'_, S>) -> Self {
        let mut sum = Sum::zero(s);
        let power = job.aad_power();
        let (powers, sums) = (&job.key.powers[power], &job.key.sums[power]);
        sum.add(
            s,
            s.first(job.aad),
            s.splat_from(powers),
            s.splat_from(sums),
        );
        Self {
            sum,
            carry: s.zero(),
            polynomial: polynomial(s),
        }
    }

    /// Adds vector `first + i` of the ciphertext, where `power` is that of vector `first`; all
    /// of it in one stretch.
    #[inline(always)]
    fn add(&mut self, s: S, job: &Job<'_, S>, power: usize, first: usize, i: usize, last: bool) {
        let data = if last {
            job.load_last(s)
        } else {
            job.load(s, first + i)
        };
        let mut blocks = s.reverse(data);
        if i == 0 {
            blocks = s.xor(blocks, self.carry);
            self.carry = s.zero();
        }
        let (powers, sums) = job.powers(s, power + i * S::LANES);
        self.sum.add(s, blocks, powers, sums);
    }

    /// After the vectors before `vector`: reduces if a stretch ended there, and more follows.
    #[inline(always)]
    fn end_group(&mut self, s: S, job: &Job<'_, S>, vector: usize) {
        let block = vector * S::LANES;
        if block.is_multiple_of(STRETCH) && block <= job.last_stretch() {
            self.carry = self.sum.fold(s).reduce(s, self.polynomial);
            self.sum = Sum::zero(s);
        }
    }
}

/// The tag: the length block hashed, all lanes summed and reduced, and `pad` (the encrypted
/// tag counter, in the first lane) added.
#[inline(always)]
fn finish<S: Simd>(s: S, mut hash: Hash<S>, job: &Job<'_, S>, pad: S::V) -> __m128i {
    let (powers, sums) = (&job.key.powers[POWERS - 1], &job.key.sums[POWERS - 1]);
    hash.sum.add(
        s,
        s.first(job.lengths),
        s.splat_from(powers),
        s.splat_from(sums),
    );
    let hash = hash.sum.fold(s).reduce(s, hash.polynomial);
    s.lane(s.xor(s.reverse(hash), pad), 0)
}
