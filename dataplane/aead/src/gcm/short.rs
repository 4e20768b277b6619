//! Short packets of one key in teams: as many packets as a vector has lanes, all of the same
//! number of vectors.
//!
//! What a packet needs besides its data (the encrypted tag counter, the reduction of its hash,
//! adding up the lanes) then happens once for the team, a packet to a lane. And there is enough
//! independent work to fill both the AES and the multiplication unit: when opening, the GHASH
//! of a team stands between its own AES rounds; when sealing, between those of the next team.

use super::Packet;
use super::expand::{Key, POWERS};
use super::ghash::{Sum, polynomial};
use super::job::{Job, equal, rounds};
use super::simd::Simd;

/// Longest packet, in vectors, that any rung puts into a team ([`Simd::TEAM`]).
pub(super) const MOST: usize = 4;

/// Seals the packets at `indices`, which make whole teams and have `U` vectors of data each.
/// `N` is the number of AES states of a team, `U * LANES + 1`.
#[inline(always)]
pub(super) fn seal<S: Simd, const R: usize, const U: usize, const N: usize>(
    s: S,
    key: &Key,
    packets: &mut [Packet<'_>],
    indices: &[u8],
) {
    let (first, rest) = indices.split_at(S::LANES);
    let mut team = seal_jobs(s, key, packets, first);
    let mut hash = Hash::start(s);
    let mut x = states::<S, U, N>(s, &team);
    rounds!(s, key, R, x, hash.sum, round => {
        let _ = round;
    });
    apply::<S, U, N>(s, &team, &x);
    let mut pad = x[N - 1];

    for following in rest.chunks_exact(S::LANES) {
        let following = seal_jobs(s, key, packets, following);
        let mut x = states::<S, U, N>(s, &following);
        rounds!(s, key, R, x, hash.sum, round => {
            for i in 0..Hash::<S>::pieces(U) {
                if round == 1 + i * (R - 1) / Hash::<S>::pieces(U) {
                    hash.piece::<U>(s, key, &team, i);
                }
            }
        });
        apply::<S, U, N>(s, &following, &x);
        write_tags(s, &team, hash.finish(s, pad));
        hash = Hash::start(s);
        (team, pad) = (following, x[N - 1]);
    }

    for i in 0..Hash::<S>::pieces(U) {
        hash.piece::<U>(s, key, &team, i);
    }
    write_tags(s, &team, hash.finish(s, pad));
}

/// Opens the packets at `indices`, as [`seal`] seals them. Bit `i` of the answer says that
/// packet `i` is authentic; the others are wiped.
#[inline(always)]
pub(super) fn open<S: Simd, const R: usize, const U: usize, const N: usize>(
    s: S,
    key: &Key,
    packets: &mut [Packet<'_>],
    indices: &[u8],
) -> u64 {
    let mut authentic = 0;
    for indices in indices.chunks_exact(S::LANES) {
        let mut team = [Job::open(s, key, &mut packets[usize::from(indices[0])]); 4];
        for i in 1..S::LANES {
            team[i] = Job::open(s, key, &mut packets[usize::from(indices[i])]);
        }
        let mut tags = [team[0].tag(); 4];
        for i in 1..S::LANES {
            tags[i] = team[i].tag();
        }
        let mut hash = Hash::start(s);
        let mut x = states::<S, U, N>(s, &team);
        rounds!(s, key, R, x, hash.sum, round => {
            for i in 0..Hash::<S>::pieces(U) {
                if round == 1 + i * (R - 1) / Hash::<S>::pieces(U) {
                    hash.piece::<U>(s, key, &team, i);
                }
            }
        });
        apply::<S, U, N>(s, &team, &x);
        let computed = hash.finish(s, x[N - 1]);
        for i in 0..S::LANES {
            if equal(s.lane(computed, i), tags[i]) {
                authentic |= 1 << indices[i];
            } else {
                team[i].wipe();
            }
        }
    }
    authentic
}

/// The first `LANES` of the array are the team.
#[inline(always)]
fn seal_jobs<S: Simd>(s: S, key: &Key, packets: &mut [Packet<'_>], indices: &[u8]) -> [Job<S>; 4] {
    let mut team = [Job::seal(s, key, &mut packets[usize::from(indices[0])]); 4];
    for i in 1..S::LANES {
        team[i] = Job::seal(s, key, &mut packets[usize::from(indices[i])]);
    }
    team
}

/// Counter blocks of every packet of the team, and at last those of the tags, one to a lane.
#[inline(always)]
fn states<S: Simd, const U: usize, const N: usize>(s: S, team: &[Job<S>; 4]) -> [S::V; N] {
    let mut tag_counters = [s.lane(team[0].tag_counter(s), 0); 4];
    for i in 1..S::LANES {
        tag_counters[i] = s.lane(team[i].tag_counter(s), 0);
    }
    let mut x = [s.gather(tag_counters); N];
    for i in 0..U * S::LANES {
        x[i] = team[i / U].counters(s, i % U);
    }
    x
}

#[inline(always)]
fn apply<S: Simd, const U: usize, const N: usize>(s: S, team: &[Job<S>; 4], x: &[S::V; N]) {
    for i in 0..U * S::LANES {
        if i % U + 1 == U {
            team[i / U].apply_last(s, x[i]);
        } else {
            team[i / U].apply(s, i % U, x[i]);
        }
    }
}

#[inline(always)]
fn write_tags<S: Simd>(s: S, team: &[Job<S>; 4], tags: S::V) {
    for (i, job) in team[..S::LANES].iter().enumerate() {
        job.write_tag(s.lane(tags, i));
    }
}

/// GHASH of a team, packet after packet, in pieces that fit between AES rounds.
struct Hash<S: Simd> {
    /// Of the packet under way.
    sum: Sum<S>,
    /// Of the packets that are done.
    done: [Sum<S>; 4],
}

impl<S: Simd> Hash<S> {
    #[inline(always)]
    fn start(s: S) -> Self {
        Self {
            sum: Sum::zero(s),
            done: [Sum::zero(s); 4],
        }
    }

    /// Number of pieces for packets of `vectors` vectors: those and one more for each packet.
    #[inline(always)]
    const fn pieces(vectors: usize) -> usize {
        (vectors + 1) * S::LANES
    }

    #[inline(always)]
    fn piece<const U: usize>(&mut self, s: S, key: &Key, team: &[Job<S>; 4], i: usize) {
        let (packet, vector) = (i / (U + 1), i % (U + 1));
        let job = &team[packet];
        if vector < U {
            let data = if vector + 1 == U {
                job.load_last(s)
            } else {
                job.load(s, vector)
            };
            let (powers, sums) = Job::powers(s, key, job.power(0) + vector * S::LANES);
            self.sum.add(s, s.reverse(data), powers, sums);
        } else {
            self.ends(s, key, job);
            self.done[packet] = self.sum;
            self.sum = Sum::zero(s);
        }
    }

    /// AAD and length block, which stand before and after the data.
    #[inline(always)]
    fn ends(&mut self, s: S, key: &Key, job: &Job<S>) {
        let (first, last) = (job.aad_power(), POWERS - 1);
        let (aad, lengths) = (s.first(job.aad), s.first(job.lengths));
        let (powers, sums) = (&key.powers, &key.sums);
        if S::LANES == 1 {
            self.sum.add(
                s,
                aad,
                s.splat_from(&powers[first]),
                s.splat_from(&sums[first]),
            );
            self.sum.add(
                s,
                lengths,
                s.splat_from(&powers[last]),
                s.splat_from(&sums[last]),
            );
        } else {
            let blocks = s.pair(job.aad, job.lengths);
            let powers = s.pair_from(&powers[first], &powers[last]);
            self.sum
                .add(s, blocks, powers, s.pair_from(&sums[first], &sums[last]));
        }
    }

    /// The tags, packet `i`'s in lane `i`; `pad` holds the encrypted tag counters.
    #[inline(always)]
    fn finish(self, s: S, pad: S::V) -> S::V {
        let hashes = Sum::fold_each(s, &self.done).reduce(s, polynomial(s));
        s.xor(s.reverse(hashes), pad)
    }
}
