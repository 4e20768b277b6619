//! Packets of any length, one after the other; [`Team`]s share what comes at their ends.
//!
//! The payload is cut into groups of [`GROUP`] vectors. AES keeps the states of a group in
//! registers, and between its rounds stands the GHASH of ciphertext that is already there:
//! when opening the group's own, when sealing the group before it.

#![expect(
    clippy::needless_range_loop,
    reason = "one index goes through several arrays"
)]

use super::expand::STRETCH;
use super::ghash::{Sum, polynomial};
use super::job::{Job, counters, rounds, share};
use super::simd::Simd;
use super::team::{Team, is_authentic, write_tags};

/// Vectors whose AES runs side by side. Each AES instruction takes 4 cycles and two can start
/// per cycle, so fewer leave the unit idle; more, and GHASH would not find free registers.
pub(super) const GROUP: usize = 4;

/// Encrypts the packets at `indices` and writes their tags.
#[inline(always)]
pub(super) fn seal<S: Simd, const R: usize>(s: S, jobs: &[Job<'_>], indices: &[u8]) {
    for indices in indices.chunks(S::LANES) {
        let team = Team::<false>::new(s, jobs, indices);
        let pads = team.tag_pads::<S, R>(s);
        let mut sums = [Sum::zero(s); 4];
        for i in 0..indices.len() {
            sums[i] = encrypt::<S, R>(s, team.jobs[i]);
        }
        let mut sums = Sum::fold_each(s, &sums);
        team.add_lengths(s, &mut sums);
        let tags = Team::<false>::tags(s, sums, pads);
        write_tags(s, &team.jobs, indices.len(), tags);
    }
}

/// Decrypts the packets at `indices`. Bit `i` of the answer says that packet `i` is authentic;
/// the others are wiped.
#[inline(always)]
pub(super) fn open<S: Simd, const R: usize>(s: S, jobs: &[Job<'_>], indices: &[u8]) -> u64 {
    let mut authentic = 0;
    for indices in indices.chunks(S::LANES) {
        let team = Team::<false>::new(s, jobs, indices);
        let pads = team.tag_pads::<S, R>(s);
        let mut sums = [Sum::zero(s); 4];
        for i in 0..indices.len() {
            sums[i] = decrypt::<S, R>(s, team.jobs[i]);
        }
        let mut sums = Sum::fold_each(s, &sums);
        team.add_lengths(s, &mut sums);
        let tags = Team::<false>::tags(s, sums, pads);
        for i in 0..S::LANES {
            let job = team.jobs[i];
            if i < indices.len() && is_authentic(job, job.tag(), s.lane(tags, i)) {
                authentic |= 1 << indices[i];
            }
        }
    }
    authentic
}

/// Encrypts a packet's data, and returns the hash of AAD and ciphertext.
#[inline(always)]
fn encrypt<S: Simd, const R: usize>(s: S, job: &Job<'_>) -> Sum<S> {
    let mut hash = Hash::start(s, job);
    let vectors = job.vectors::<S>();
    if vectors == 0 {
        return hash.sum;
    }
    let base = job.base(s);
    let full = (vectors - 1) / GROUP;
    let mut pending = [s.zero(); GROUP];
    for group in 0..full {
        let at = group * GROUP;
        if group == 0 {
            encrypt_group::<S, R, GROUP, 0>(s, job, base, at, false, &mut hash, &mut pending);
        } else {
            encrypt_group::<S, R, GROUP, GROUP>(s, job, base, at, false, &mut hash, &mut pending);
            hash.end_group(s, job, at);
        }
    }
    let at = full * GROUP;
    macro_rules! last {
        ($vectors:literal, $before:expr) => {{
            encrypt_group::<S, R, $vectors, { $before }>(
                s,
                job,
                base,
                at,
                true,
                &mut hash,
                &mut pending,
            );
            if $before > 0 {
                hash.end_group(s, job, at);
            }
            let power = job.power(at * S::LANES);
            for i in 0..$vectors {
                hash.add(s, job, power, i, pending[i]);
            }
        }};
    }
    match (full > 0, vectors - at) {
        (true, 1) => last!(1, GROUP),
        (true, 2) => last!(2, GROUP),
        (true, 3) => last!(3, GROUP),
        (true, _) => last!(4, GROUP),
        (false, 1) => last!(1, 0),
        (false, 2) => last!(2, 0),
        (false, 3) => last!(3, 0),
        (false, _) => last!(4, 0),
    }
    hash.sum
}

/// Decrypts a packet's data, and returns the hash of AAD and ciphertext.
#[inline(always)]
fn decrypt<S: Simd, const R: usize>(s: S, job: &Job<'_>) -> Sum<S> {
    let mut hash = Hash::start(s, job);
    let vectors = job.vectors::<S>();
    if vectors == 0 {
        return hash.sum;
    }
    let base = job.base(s);
    let full = (vectors - 1) / GROUP;
    for group in 0..full {
        decrypt_group::<S, R, GROUP>(s, job, base, group * GROUP, false, &mut hash);
        hash.end_group(s, job, (group + 1) * GROUP);
    }
    let at = full * GROUP;
    match vectors - at {
        1 => decrypt_group::<S, R, 1>(s, job, base, at, true, &mut hash),
        2 => decrypt_group::<S, R, 2>(s, job, base, at, true, &mut hash),
        3 => decrypt_group::<S, R, 3>(s, job, base, at, true, &mut hash),
        _ => decrypt_group::<S, R, 4>(s, job, base, at, true, &mut hash),
    }
    hash.sum
}

/// Encrypts `A` vectors of data from vector `at`, and hashes the `P` vectors before them, which
/// are `pending`. Leaves the new ciphertext there. `last` says whether the packet ends here.
#[inline(always)]
fn encrypt_group<S: Simd, const R: usize, const A: usize, const P: usize>(
    s: S,
    job: &Job<'_>,
    base: S::V,
    at: usize,
    last: bool,
    hash: &mut Hash<S>,
    pending: &mut [S::V; GROUP],
) {
    let mut x = states::<S, A>(s, base, at);
    let power = job.power((at - P) * S::LANES);
    rounds!(
        s,
        R,
        x,
        hash.sum,
        |i, round| s.splat_from(&job.key.round_keys[round]),
        {
            for i in share(P, round, R) {
                hash.add(s, job, power, i, pending[i]);
            }
        }
    );
    for i in 0..A {
        pending[i] = job.apply(s, at + i, last && i + 1 == A, x[i]);
    }
}

/// Hashes and decrypts `A` vectors of data from vector `at`; `last` as in [`encrypt_group`].
#[inline(always)]
fn decrypt_group<S: Simd, const R: usize, const A: usize>(
    s: S,
    job: &Job<'_>,
    base: S::V,
    at: usize,
    last: bool,
    hash: &mut Hash<S>,
) {
    let mut x = states::<S, A>(s, base, at);
    let power = job.power(at * S::LANES);
    rounds!(
        s,
        R,
        x,
        hash.sum,
        |i, round| s.splat_from(&job.key.round_keys[round]),
        {
            for i in share(A, round, R) {
                let data = job.load(s, at + i, last && i + 1 == A);
                hash.add(s, job, power, i, data);
            }
        }
    );
    for i in 0..A {
        let _ = job.apply(s, at + i, last && i + 1 == A, x[i]);
    }
}

#[inline(always)]
fn states<S: Simd, const A: usize>(s: S, base: S::V, at: usize) -> [S::V; A] {
    let mut x = [base; A];
    for i in 0..A {
        x[i] = s.xor(base, counters(s, at + i));
    }
    x
}

/// GHASH of a packet on the way.
struct Hash<S: Simd> {
    sum: Sum<S>,
    /// Hash of the stretches before, to be added to the next block; zero within a stretch.
    carry: S::V,
}

impl<S: Simd> Hash<S> {
    #[inline(always)]
    fn start(s: S, job: &Job<'_>) -> Self {
        let mut sum = Sum::zero(s);
        let power = job.aad_power();
        sum.add(
            s,
            s.first_from(job.aad()),
            s.splat_from(&job.key.powers[power]),
            s.splat_from(&job.key.seconds[power]),
        );
        Self {
            sum,
            carry: s.zero(),
        }
    }

    /// Adds vector `i` of a group; `power` is that of the group's first vector. A group is all
    /// in one stretch.
    #[inline(always)]
    fn add(&mut self, s: S, job: &Job<'_>, power: usize, i: usize, mut blocks: S::V) {
        if i == 0 {
            blocks = s.xor(blocks, self.carry);
            self.carry = s.zero();
        }
        let (powers, seconds) = job.key.powers(s, power + i * S::LANES);
        self.sum.add(s, blocks, powers, seconds);
    }

    /// After the vectors before `vector`: reduces if a stretch ended there, and more follows.
    #[inline(always)]
    fn end_group(&mut self, s: S, job: &Job<'_>, vector: usize) {
        let block = vector * S::LANES;
        if block.is_multiple_of(STRETCH) && block <= job.last_stretch() {
            self.carry = self.sum.fold(s).reduce(s, polynomial(s));
            self.sum = Sum::zero(s);
        }
    }
}
