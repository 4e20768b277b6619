//! Packets of any length, one after the other.
//!
//! A packet is worked on from its first byte, as a *stream* of blocks:
//!
//! ```text
//! in memory      SPI, sequence, IV | data ..
//! counter        1                 | 2, 3, 4 ..
//! key stream     hides the tag     | hides the data
//! GHASH          AAD               | ciphertext ..  (then the lengths)
//! ```
//!
//! As header and IV of ESP are one block, nothing has to be shifted, and what a packet needs
//! beside its data costs a lane instead of a vector.
//!
//! The stream is cut into groups of up to [`GROUP`] vectors. AES keeps the states of a group in
//! registers, and between its rounds stands the GHASH of ciphertext that is already there: when
//! opening the group's own, when sealing the group before it.

#![expect(
    clippy::needless_range_loop,
    reason = "one index goes through several arrays"
)]

use super::ghash::{Sum, polynomial};
use super::job::{Job, counters, rounds, share};
use super::simd::Simd;
use super::team::{Ends, take_lowest};

/// Vectors whose AES runs side by side. Each AES instruction takes 4 cycles and one or two can
/// start per cycle, so fewer leave the unit idle; more, and GHASH would not find free registers.
const GROUP: usize = 5;

/// Encrypts the packets that have a bit in `packets`, and writes their tags.
///
/// Between the AES rounds of a group stands the GHASH of the group before it, be it of the same
/// packet or of the one before: so the hash of a packet is complete when the next has begun.
#[inline(always)]
pub(super) fn seal<S: Simd, const R: usize>(
    s: S,
    jobs: &[Job<'_>],
    stretch: usize,
    mut packets: u64,
) {
    if packets == 0 {
        return;
    }
    let mut ends = Ends::none(s, jobs);
    let mut index = take_lowest(&mut packets);
    let mut pending = Pending {
        index,
        job: &jobs[usize::from(index)],
        at: 0,
        count: 0,
        blocks: [s.zero(); GROUP],
        pad: s.zero(),
    };
    let mut hash = Hash::start(s, stretch);
    loop {
        let job = &jobs[usize::from(index)];
        let base = job.base(s);
        let vectors = job.vectors::<S>();
        let mut at = 0;
        while at < vectors {
            let count = group_of::<S>(vectors, at, stretch, GROUP - 1);
            let pad = match count {
                1 => encrypt::<S, R, 1>(s, job, base, at, &mut hash, &mut pending),
                2 => encrypt::<S, R, 2>(s, job, base, at, &mut hash, &mut pending),
                3 => encrypt::<S, R, 3>(s, job, base, at, &mut hash, &mut pending),
                4 => encrypt::<S, R, 4>(s, job, base, at, &mut hash, &mut pending),
                _ => encrypt::<S, R, 5>(s, job, base, at, &mut hash, &mut pending),
            };
            if at > 0 {
                hash.end_group(s, job, at);
            } else {
                if pending.count > 0 {
                    ends.seal(s, pending.index, hash.sum, pending.pad);
                }
                hash = Hash::start(s, stretch);
                (pending.index, pending.job, pending.pad) = (index, job, pad);
            }
            (pending.at, pending.count) = (at, count);
            at += count;
        }
        if packets == 0 {
            break;
        }
        index = take_lowest(&mut packets);
    }
    hash.add_group(s, &pending);
    ends.seal(s, pending.index, hash.sum, pending.pad);
    ends.seal_rest(s);
}

/// Decrypts the packets that have a bit in `packets`. Bit `i` of the answer says that packet `i`
/// is authentic; the others are wiped.
#[inline(always)]
pub(super) fn open<S: Simd, const R: usize>(
    s: S,
    jobs: &[Job<'_>],
    stretch: usize,
    mut packets: u64,
) -> u64 {
    if packets == 0 {
        return 0;
    }
    let mut ends = Ends::none(s, jobs);
    let mut authentic = 0;
    while packets != 0 {
        let index = take_lowest(&mut packets);
        let job = &jobs[usize::from(index)];
        let base = job.base(s);
        let vectors = job.vectors::<S>();
        let mut hash = Hash::start(s, stretch);
        let mut pad = s.zero();
        let mut at = 0;
        while at < vectors {
            let count = group_of::<S>(vectors, at, stretch, S::OPEN_GROUP);
            let key_stream = match count {
                1 => decrypt::<S, R, 1>(s, job, base, at, &mut hash),
                2 => decrypt::<S, R, 2>(s, job, base, at, &mut hash),
                3 => decrypt::<S, R, 3>(s, job, base, at, &mut hash),
                4 => decrypt::<S, R, 4>(s, job, base, at, &mut hash),
                5 => decrypt::<S, R, 5>(s, job, base, at, &mut hash),
                6 => decrypt::<S, R, 6>(s, job, base, at, &mut hash),
                7 => decrypt::<S, R, 7>(s, job, base, at, &mut hash),
                _ => decrypt::<S, R, 8>(s, job, base, at, &mut hash),
            };
            if at == 0 {
                pad = key_stream;
            }
            at += count;
            hash.end_group(s, job, at);
        }
        authentic |= ends.open(s, index, hash.sum, pad);
    }
    authentic | ends.open_rest(s)
}

/// How many of `vectors` vectors make a group that starts at vector `at`: up to `most` and one
/// more, as a single one that is left over would wait for each of its rounds. A group is all in
/// one stretch.
#[inline(always)]
fn group_of<S: Simd>(vectors: usize, at: usize, stretch: usize, most: usize) -> usize {
    let stretch = stretch / S::LANES;
    let left = (vectors - at).min(stretch - (at & (stretch - 1)));
    if left == most + 1 {
        left
    } else {
        left.min(most)
    }
}

/// Ciphertext that waits to be hashed: a group of a packet.
struct Pending<'a, 'k, S: Simd> {
    index: u8,
    job: &'a Job<'k>,
    /// Number of its first vector, and how many there are.
    at: usize,
    count: usize,
    blocks: [S::V; GROUP],
    /// In the first lane what hides the packet's tag.
    pad: S::V,
}

/// Encrypts `A` vectors of the stream from vector `at`, and hashes what is `pending`. Leaves the
/// new ciphertext there, and returns the first vector of key stream.
#[inline(always)]
fn encrypt<S: Simd, const R: usize, const A: usize>(
    s: S,
    job: &Job<'_>,
    base: S::V,
    at: usize,
    hash: &mut Hash<S>,
    pending: &mut Pending<'_, '_, S>,
) -> S::V {
    let mut x = states::<S, A>(s, base, at);
    let power = pending.job.power(pending.at * S::LANES, hash.stretch);
    rounds!(
        s,
        R,
        x,
        hash.sum,
        |i, round| s.splat_from(&job.key.round_keys[round]),
        {
            for i in share(GROUP, round, R) {
                // The carry goes with the first vector, which comes last: it may still be on its way.
                let i = (i + 1) % GROUP;
                // Asked here, and not once for all rounds, there is one piece of code for any count.
                if i < pending.count {
                    hash.add(s, pending.job, power, i, pending.blocks[i]);
                }
            }
        }
    );
    let first = x[0];
    for i in 0..A {
        pending.blocks[i] = job.apply(s, at + i, i == 0, i + 1 == A, x[i]);
    }
    first
}

/// Hashes and decrypts `A` vectors of the stream from vector `at`, and returns the first vector of
/// key stream.
#[inline(always)]
fn decrypt<S: Simd, const R: usize, const A: usize>(
    s: S,
    job: &Job<'_>,
    base: S::V,
    at: usize,
    hash: &mut Hash<S>,
) -> S::V {
    let mut x = states::<S, A>(s, base, at);
    let power = job.power(at * S::LANES, hash.stretch);
    rounds!(
        s,
        R,
        x,
        hash.sum,
        |i, round| s.splat_from(&job.key.round_keys[round]),
        {
            for i in share(A, round, R) {
                let i = (i + 1) % A;
                let blocks = job.load(s, at + i, i == 0, i + 1 == A);
                hash.add(s, job, power, i, blocks);
            }
        }
    );
    let first = x[0];
    for i in 0..A {
        let _ = job.apply(s, at + i, i == 0, i + 1 == A, x[i]);
    }
    first
}

#[inline(always)]
fn states<S: Simd, const A: usize>(s: S, base: S::V, at: usize) -> [S::V; A] {
    let mut x = [base; A];
    for i in 0..A {
        x[i] = s.xor(base, counters(s, 1, at + i));
    }
    x
}

/// GHASH of a packet on the way.
struct Hash<S: Simd> {
    sum: Sum<S>,
    /// Hash of the stretches before, to be added to the next block; zero within a stretch.
    carry: S::V,
    /// Blocks between two reductions.
    stretch: usize,
}

impl<S: Simd> Hash<S> {
    #[inline(always)]
    fn start(s: S, stretch: usize) -> Self {
        Self {
            sum: Sum::zero(s),
            carry: s.zero(),
            stretch,
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
        let (powers, seconds) = job.key.powers_of(s, power + i * S::LANES);
        self.sum.add(s, blocks, powers, seconds);
    }

    /// Adds what is pending.
    #[inline(always)]
    fn add_group(&mut self, s: S, pending: &Pending<'_, '_, S>) {
        let power = pending.job.power(pending.at * S::LANES, self.stretch);
        // A constant number of times, for the blocks to stay in registers.
        for i in 0..GROUP {
            if i < pending.count {
                self.add(s, pending.job, power, i, pending.blocks[i]);
            }
        }
    }

    /// After the vectors before `vector`: reduces if a stretch ended there, and more follows.
    #[inline(always)]
    fn end_group(&mut self, s: S, job: &Job<'_>, vector: usize) {
        let block = vector * S::LANES;
        if block & (self.stretch - 1) == 0 && block <= job.last_stretch(self.stretch) {
            self.carry = self.sum.fold(s).reduce(s, polynomial(s));
            self.sum = Sum::zero(s);
        }
    }
}
