//! Packets of any length, one after the other.
//!
//! The data of a packet is cut into groups of a few vectors ([`Groups`]). AES keeps the states of
//! a group in registers, and between its rounds stands the GHASH of ciphertext that is already
//! there: when opening the group's own, when sealing the group before it. What comes before and
//! after the data is worked out for a [`Team`] of packets at once: a lane for each, instead of a
//! vector for those packets whose data fills theirs.

#![expect(
    clippy::needless_range_loop,
    reason = "one index goes through several arrays"
)]

use super::expand::POWERS;
use super::ghash::{Sum, polynomial};
use super::job::{Job, counters, rounds, share};
use super::simd::{Block, Simd};
use super::team::{Team, heads, take_lowest};

/// Most vectors of a group on any rung.
const MOST: usize = 8;

/// Encrypts the packets that have a bit in `packets`, and writes their tags. `same` says whether
/// all have one key, `stretch` how many blocks are hashed between two reductions.
///
/// Between the AES rounds of a group stands the GHASH of the group before it, be it of the same
/// packet or of the one before: so the hash of a packet is complete when the next has begun.
#[inline(always)]
pub(super) fn seal<S: Simd, const R: usize>(
    s: S,
    jobs: &[Job<'_>],
    stretch: usize,
    same: bool,
    mut packets: u64,
) {
    let mut pending = Pending {
        job: &jobs[0],
        group: Group::NONE,
        blocks: [s.zero(); MOST],
    };
    let mut hash = Hash::start(s, &Block::default());
    // Hashes of the packets of the team before.
    let mut sums = [Sum::zero(s); 4];
    let mut before: Option<(Team<'_, '_, false>, S::V)> = None;
    while packets != 0 {
        let mut members = packets;
        let team = Team::take_some(s, jobs, &mut packets);
        members ^= packets;
        let (hashes, pads) = heads::<S, R>(s, &team, same);
        let mut i = 0;
        while members != 0 {
            let job = &jobs[usize::from(take_lowest(&mut members))];
            let base = job.base(s);
            let mut groups = Groups::new(s, job, S::SEAL_GROUP, stretch);
            while groups.left() {
                let group = groups.next(s);
                match group.count {
                    1 => encrypt::<S, R, 1>(s, job, base, group, &mut hash, &mut pending),
                    2 => encrypt::<S, R, 2>(s, job, base, group, &mut hash, &mut pending),
                    3 => encrypt::<S, R, 3>(s, job, base, group, &mut hash, &mut pending),
                    4 => encrypt::<S, R, 4>(s, job, base, group, &mut hash, &mut pending),
                    5 => encrypt::<S, R, 5>(s, job, base, group, &mut hash, &mut pending),
                    6 => encrypt::<S, R, 6>(s, job, base, group, &mut hash, &mut pending),
                    7 => encrypt::<S, R, 7>(s, job, base, group, &mut hash, &mut pending),
                    _ => encrypt::<S, R, 8>(s, job, base, group, &mut hash, &mut pending),
                }
                if group.at > 0 {
                    hash.end_group(s, pending.group);
                } else {
                    // Now the packet before is hashed, the last of its team if this is a first.
                    sums[(i + S::LANES - 1) % S::LANES] = hash.sum;
                    if i == 0 {
                        if let Some((team, pads)) = before {
                            team.seal(s, team.complete(s, &sums), pads);
                        }
                        before = Some((team, pads));
                    }
                    hash = Hash::start(s, &hashes[i % 4]);
                    pending.job = job;
                }
                pending.group = group;
            }
            i += 1;
        }
    }
    if let Some((team, pads)) = before {
        // A constant number of times, for the blocks to stay in registers.
        for i in 0..S::SEAL_GROUP {
            hash.add_pending(s, &pending, i);
        }
        sums[(team.count - 1) % S::LANES] = hash.sum;
        team.seal(s, team.complete(s, &sums), pads);
    }
}

/// Decrypts the packets that have a bit in `packets`, as [`seal`] encrypts them. Bit `i` of the
/// answer says that packet `i` is authentic; the others are wiped.
#[inline(always)]
pub(super) fn open<S: Simd, const R: usize>(
    s: S,
    jobs: &[Job<'_>],
    stretch: usize,
    same: bool,
    mut packets: u64,
) -> u64 {
    let mut sums = [Sum::zero(s); 4];
    let mut authentic = 0;
    while packets != 0 {
        let mut members = packets;
        let team = Team::take_some(s, jobs, &mut packets);
        members ^= packets;
        let (hashes, pads) = heads::<S, R>(s, &team, same);
        let mut i = 0;
        while members != 0 {
            let job = &jobs[usize::from(take_lowest(&mut members))];
            let base = job.base(s);
            let mut hash = Hash::start(s, &hashes[i % 4]);
            let mut groups = Groups::new(s, job, S::OPEN_GROUP, stretch);
            while groups.left() {
                let group = groups.next(s);
                match group.count {
                    1 => decrypt::<S, R, 1>(s, job, base, group, &mut hash),
                    2 => decrypt::<S, R, 2>(s, job, base, group, &mut hash),
                    3 => decrypt::<S, R, 3>(s, job, base, group, &mut hash),
                    4 => decrypt::<S, R, 4>(s, job, base, group, &mut hash),
                    5 => decrypt::<S, R, 5>(s, job, base, group, &mut hash),
                    6 => decrypt::<S, R, 6>(s, job, base, group, &mut hash),
                    7 => decrypt::<S, R, 7>(s, job, base, group, &mut hash),
                    _ => decrypt::<S, R, 8>(s, job, base, group, &mut hash),
                }
                hash.end_group(s, group);
            }
            sums[i % S::LANES] = hash.sum;
            i += 1;
        }
        authentic |= team.open(s, team.complete(s, &sums), pads);
    }
    authentic
}

/// Vectors of a packet that go through AES side by side.
#[derive(Clone, Copy)]
struct Group {
    /// Number of its first vector, and how many there are.
    at: usize,
    count: usize,
    /// Index of the power for the first block.
    power: usize,
    /// Whether a stretch ends here that is not the packet's last.
    reduce: bool,
}

impl Group {
    const NONE: Self = Self {
        at: 0,
        count: 0,
        power: 0,
        reduce: false,
    };
}

/// The groups of a packet. Blocks are hashed in stretches; in the last one, which may be shorter,
/// the length block follows and has the power 1. A group is all in one stretch.
struct Groups {
    vectors: usize,
    /// Most vectors of a group and of a stretch.
    most: usize,
    stretch: usize,
    /// Where the next group and the one after its stretch begin.
    at: usize,
    end: usize,
    /// Index of the power for the next group, and of what it would be if there were one stretch.
    power: usize,
    single: usize,
}

impl Groups {
    #[inline(always)]
    fn new<S: Simd>(_: S, job: &Job<'_>, most: usize, stretch: usize) -> Self {
        // A packet without data has a vector without a byte.
        let vectors = job.vectors::<S>().max(1);
        let single = job.data_power();
        Self {
            vectors,
            most,
            stretch: stretch / S::LANES,
            at: 0,
            end: 0,
            power: single,
            single,
        }
    }

    #[inline(always)]
    fn left(&self) -> bool {
        self.at < self.vectors
    }

    #[inline(always)]
    fn next<S: Simd>(&mut self, _: S) -> Group {
        if self.at == self.end {
            if self.vectors - self.at > self.stretch {
                self.end = self.at + self.stretch;
                self.power = POWERS - self.stretch * S::LANES;
            } else {
                self.end = self.vectors;
                self.power = self.single.wrapping_add(self.at * S::LANES);
            }
        }
        let left = self.end - self.at;
        // The last two are of a size: a single vector would wait for each of its rounds.
        let count = if left >= 2 * self.most {
            self.most
        } else if left > self.most {
            left.div_ceil(2)
        } else {
            left
        };
        let group = Group {
            at: self.at,
            count,
            power: self.power,
            reduce: count == left && self.end != self.vectors,
        };
        self.at += count;
        self.power += count * S::LANES;
        group
    }
}

/// Ciphertext that waits to be hashed: a group of a packet.
struct Pending<'a, 'k, S: Simd> {
    job: &'a Job<'k>,
    group: Group,
    blocks: [S::V; MOST],
}

/// Encrypts the `A` vectors of a group, and hashes what is `pending`. Leaves the new ciphertext
/// there.
#[inline(always)]
fn encrypt<S: Simd, const R: usize, const A: usize>(
    s: S,
    job: &Job<'_>,
    base: S::V,
    group: Group,
    hash: &mut Hash<S>,
    pending: &mut Pending<'_, '_, S>,
) {
    let mut x = states::<S, A>(s, base, group.at);
    rounds!(
        s,
        R,
        x,
        hash.sum,
        |i, round| s.splat_from(&job.key.round_keys[round]),
        {
            for i in share(S::SEAL_GROUP, round, R) {
                // The carry goes with the first vector, which comes last: it may still be on its way.
                hash.add_pending(s, pending, (i + 1) % S::SEAL_GROUP);
            }
        }
    );
    for i in 0..A {
        let tail = i + 1 == A && job.has_tail(s, group.at + A);
        pending.blocks[i] = job.apply(s, group.at + i, tail, x[i]);
    }
}

/// Hashes and decrypts the `A` vectors of a group.
#[inline(always)]
fn decrypt<S: Simd, const R: usize, const A: usize>(
    s: S,
    job: &Job<'_>,
    base: S::V,
    group: Group,
    hash: &mut Hash<S>,
) {
    // As a mask costs nothing, there is then no branch, and each vector is loaded in one place.
    let tail = S::MASKS || job.has_tail(s, group.at + A);
    let mut x = states::<S, A>(s, base, group.at);
    rounds!(
        s,
        R,
        x,
        hash.sum,
        |i, round| s.splat_from(&job.key.round_keys[round]),
        {
            for i in share(A, round, R) {
                let i = (i + 1) % A;
                let blocks = job.load(s, group.at + i, i + 1 == A && tail);
                hash.add(s, job, group, i, blocks);
            }
        }
    );
    for i in 0..A {
        let _ = job.apply(s, group.at + i, i + 1 == A && tail, x[i]);
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
    /// Hash of what comes before the stretch, to be added to its first block; zero after that.
    carry: S::V,
}

impl<S: Simd> Hash<S> {
    #[inline(always)]
    fn start(s: S, before: &Block) -> Self {
        Self {
            sum: Sum::zero(s),
            carry: s.first_from(before),
        }
    }

    /// Adds vector `i` of a group.
    #[inline(always)]
    fn add(&mut self, s: S, job: &Job<'_>, group: Group, i: usize, mut blocks: S::V) {
        if i == 0 {
            blocks = s.xor(blocks, self.carry);
            self.carry = s.zero();
        }
        let (powers, seconds) = job.key.powers_of(s, group.power + i * S::LANES);
        self.sum.add(s, blocks, powers, seconds);
    }

    /// Adds vector `i` of what is pending, if there are as many.
    #[inline(always)]
    fn add_pending(&mut self, s: S, pending: &Pending<'_, '_, S>, i: usize) {
        // Asked here, and not once for all rounds, there is one piece of code for any count.
        if i < pending.group.count {
            self.add(s, pending.job, pending.group, i, pending.blocks[i]);
        }
    }

    /// Reduces if a stretch ends with the group.
    #[inline(always)]
    fn end_group(&mut self, s: S, group: Group) {
        if group.reduce {
            self.carry = self.sum.fold(s).reduce(s, polynomial(s));
            self.sum = Sum::zero(s);
        }
    }
}
