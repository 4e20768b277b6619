//! Short packets in teams: as many packets as a vector has lanes, all of the same number of
//! vectors. Each may have its own key, as with many tunnels few packets of a batch share one.
//!
//! What a packet needs besides its data (the encrypted tag counter, the reduction of its hash,
//! adding up the lanes) then happens once for the team, a packet to a lane. And there is enough
//! independent work to fill both the AES and the multiplication unit: when opening, the GHASH
//! of a team stands between its own AES rounds; when sealing, between those of the next team.

use super::Packet;
use super::expand::{Key, POWERS};
use super::ghash::{Sum, polynomial};
use super::job::{Job, equal, rounds, share};
use super::simd::Simd;

/// Longest packet, in vectors, that goes into a team. Two packets of 4 vectors each have 9 AES
/// states, which with the hash sums fills the 16 registers.
pub(super) const MOST: usize = 4;

/// Seals the packets at `indices`, which make whole teams and have `U` vectors of data each.
/// `N` is the number of AES states of a team, `U * LANES + 1`.
#[inline(always)]
pub(super) fn seal<S: Simd, const R: usize, const U: usize, const N: usize>(
    s: S,
    keys: &[&Key],
    packets: &mut [Packet<'_>],
    indices: &[u8],
) {
    let (first, rest) = indices.split_at(S::LANES);
    let mut team = seal_jobs(s, keys, packets, first);
    let mut hash = Hash::start(s);
    let mut x = states::<S, U, N>(s, &team);
    rounds!(
        s,
        R,
        x,
        hash.sum,
        |i, round| round_key::<S, U, N>(s, &team, i, round),
        {}
    );
    apply::<S, U, N>(s, &team, &x);
    let mut pad = x[N - 1];

    for following in rest.chunks_exact(S::LANES) {
        let following = seal_jobs(s, keys, packets, following);
        let mut x = states::<S, U, N>(s, &following);
        rounds!(
            s,
            R,
            x,
            hash.sum,
            |i, round| round_key::<S, U, N>(s, &following, i, round),
            {
                for i in share(Hash::<S>::pieces(U), round, R) {
                    hash.piece::<U>(s, &team, i);
                }
            }
        );
        apply::<S, U, N>(s, &following, &x);
        write_tags(s, &team, hash.finish(s, pad));
        hash = Hash::start(s);
        (team, pad) = (following, x[N - 1]);
    }

    for i in 0..Hash::<S>::pieces(U) {
        hash.piece::<U>(s, &team, i);
    }
    write_tags(s, &team, hash.finish(s, pad));
}

/// Opens the packets at `indices`, as [`seal`] seals them. Bit `i` of the answer says that
/// packet `i` is authentic; the others are wiped.
#[inline(always)]
pub(super) fn open<S: Simd, const R: usize, const U: usize, const N: usize>(
    s: S,
    keys: &[&Key],
    packets: &mut [Packet<'_>],
    indices: &[u8],
) -> u64 {
    let mut authentic = 0;
    for indices in indices.chunks_exact(S::LANES) {
        let team = open_jobs(s, keys, packets, indices);
        let mut tags = [team[0].tag(); 4];
        for i in 1..S::LANES {
            tags[i] = team[i].tag();
        }
        let mut hash = Hash::start(s);
        let mut x = states::<S, U, N>(s, &team);
        rounds!(
            s,
            R,
            x,
            hash.sum,
            |i, round| round_key::<S, U, N>(s, &team, i, round),
            {
                for i in share(Hash::<S>::pieces(U), round, R) {
                    hash.piece::<U>(s, &team, i);
                }
            }
        );
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
fn seal_jobs<'k, S: Simd>(
    s: S,
    keys: &[&'k Key],
    packets: &mut [Packet<'_>],
    indices: &[u8],
) -> [Job<'k, S>; 4] {
    let first = usize::from(indices[0]);
    let mut team = [Job::seal(s, keys[first], &mut packets[first]); 4];
    for i in 1..S::LANES {
        let index = usize::from(indices[i]);
        team[i] = Job::seal(s, keys[index], &mut packets[index]);
    }
    team
}

/// As [`seal_jobs`], for opening.
#[inline(always)]
fn open_jobs<'k, S: Simd>(
    s: S,
    keys: &[&'k Key],
    packets: &mut [Packet<'_>],
    indices: &[u8],
) -> [Job<'k, S>; 4] {
    let first = usize::from(indices[0]);
    let mut team = [Job::open(s, keys[first], &mut packets[first]); 4];
    for i in 1..S::LANES {
        let index = usize::from(indices[i]);
        team[i] = Job::open(s, keys[index], &mut packets[index]);
    }
    team
}

/// The key of round `round` for state `i`: its packet's in every lane, and for the last state,
/// which has a tag counter of each packet, each packet's in its lane.
#[inline(always)]
fn round_key<S: Simd, const U: usize, const N: usize>(
    s: S,
    team: &[Job<'_, S>; 4],
    i: usize,
    round: usize,
) -> S::V {
    if i + 1 < N {
        s.splat_from(&team[i / U].key.round_keys[round])
    } else {
        let [a, b, c, d] = team;
        s.gather_from([
            &a.key.round_keys[round],
            &b.key.round_keys[round],
            &c.key.round_keys[round],
            &d.key.round_keys[round],
        ])
    }
}

/// Counter blocks of every packet of the team, and at last those of the tags, one to a lane.
#[inline(always)]
fn states<S: Simd, const U: usize, const N: usize>(s: S, team: &[Job<'_, S>; 4]) -> [S::V; N] {
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
fn apply<S: Simd, const U: usize, const N: usize>(s: S, team: &[Job<'_, S>; 4], x: &[S::V; N]) {
    for i in 0..U * S::LANES {
        if i % U + 1 == U {
            team[i / U].apply_last(s, x[i]);
        } else {
            team[i / U].apply(s, i % U, x[i]);
        }
    }
}

#[inline(always)]
fn write_tags<S: Simd>(s: S, team: &[Job<'_, S>; 4], tags: S::V) {
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
    fn piece<const U: usize>(&mut self, s: S, team: &[Job<'_, S>; 4], i: usize) {
        let (packet, vector) = (i / (U + 1), i % (U + 1));
        let job = &team[packet];
        if vector < U {
            let data = if vector + 1 == U {
                job.load_last(s)
            } else {
                job.load(s, vector)
            };
            let (powers, sums) = job.powers(s, job.power(0) + vector * S::LANES);
            self.sum.add(s, s.reverse(data), powers, sums);
        } else {
            self.ends(s, job);
            self.done[packet] = self.sum;
            self.sum = Sum::zero(s);
        }
    }

    /// AAD and length block, which stand before and after the data.
    #[inline(always)]
    fn ends(&mut self, s: S, job: &Job<'_, S>) {
        let (first, last) = (job.aad_power(), POWERS - 1);
        let (aad, lengths) = (s.first(job.aad), s.first(job.lengths));
        let (powers, sums) = (&job.key.powers, &job.key.sums);
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
