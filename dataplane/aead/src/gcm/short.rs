//! Short packets side by side: the packets of a [`Team`], all of the same number of vectors.
//!
//! There is then enough independent work to fill both the AES and the multiplication unit: when
//! opening, the GHASH of a team stands between its own AES rounds; when sealing, between those
//! of the next team.

#![expect(
    clippy::needless_range_loop,
    reason = "one index goes through several arrays"
)]

use super::ghash::Sum;
use super::job::{Job, counters, rounds, share};
use super::simd::Simd;
use super::team::Team;

/// Longest packet, in vectors, that goes side by side with others.
pub(super) const MOST: usize = 4;

/// Seals the packets that have a bit in `packets`. They make whole teams, and have `U` vectors of
/// data each.
/// `N` is the number of vectors of a team, `U * LANES`, and `X` one more: AES states.
#[inline(always)]
pub(super) fn seal<
    S: Simd,
    const R: usize,
    const U: usize,
    const N: usize,
    const X: usize,
    const SAME: bool,
>(
    s: S,
    jobs: &[Job<'_>],
    mut packets: u64,
) {
    let mut team = Team::<SAME>::take(s, jobs, &mut packets);
    let mut hash = Hash::start(s);
    let mut x = states::<S, U, N, X, SAME>(s, &team);
    rounds!(
        s,
        R,
        x,
        hash.sum,
        |i, round| round_key::<S, U, N, SAME>(s, &team, i, round),
        {}
    );
    let mut pending = apply::<S, U, N, X, SAME>(s, &team, &x);
    let mut pads = x[N];

    while packets != 0 {
        let following = Team::<SAME>::take(s, jobs, &mut packets);
        let mut x = states::<S, U, N, X, SAME>(s, &following);
        rounds!(
            s,
            R,
            x,
            hash.sum,
            |i, round| round_key::<S, U, N, SAME>(s, &following, i, round),
            {
                for i in share(N + 2, round, R) {
                    hash.piece::<U, N, SAME>(s, &team, i, &pending);
                }
            }
        );
        team.seal(s, hash.sums(s), pads);
        pending = apply::<S, U, N, X, SAME>(s, &following, &x);
        hash = Hash::start(s);
        (team, pads) = (following, x[N]);
    }

    for i in 0..N + 2 {
        hash.piece::<U, N, SAME>(s, &team, i, &pending);
    }
    team.seal(s, hash.sums(s), pads);
}

/// Opens packets as [`seal`] seals them. Bit `i` of the answer says that
/// packet `i` is authentic; the others are wiped.
#[inline(always)]
pub(super) fn open<
    S: Simd,
    const R: usize,
    const U: usize,
    const N: usize,
    const X: usize,
    const SAME: bool,
>(
    s: S,
    jobs: &[Job<'_>],
    mut packets: u64,
) -> u64 {
    let mut authentic = 0;
    while packets != 0 {
        let team = Team::<SAME>::take(s, jobs, &mut packets);
        let mut hash = Hash::start(s);
        let mut data = [s.zero(); N];
        let mut x = states::<S, U, N, X, SAME>(s, &team);
        rounds!(
            s,
            R,
            x,
            hash.sum,
            |i, round| round_key::<S, U, N, SAME>(s, &team, i, round),
            {
                for i in share(N + 2, round, R) {
                    if i < N {
                        data[i] = team.jobs[i / U].load(s, i % U, i % U + 1 == U);
                    }
                    hash.piece::<U, N, SAME>(s, &team, i, &data);
                }
            }
        );
        let _ = apply::<S, U, N, X, SAME>(s, &team, &x);
        authentic |= team.open(s, hash.sums(s), x[N]);
    }
    authentic
}

/// The key of round `round` for state `i`: its packet's in every lane, and for the last state,
/// which has a tag counter of each packet, each packet's in its lane.
#[inline(always)]
fn round_key<S: Simd, const U: usize, const N: usize, const SAME: bool>(
    s: S,
    team: &Team<'_, '_, SAME>,
    i: usize,
    round: usize,
) -> S::V {
    if i < N {
        team.round_key(s, i / U, round)
    } else {
        team.round_keys(s, round)
    }
}

/// Counter blocks of every packet of the team, and at last those of the tags, one to a lane.
#[inline(always)]
fn states<S: Simd, const U: usize, const N: usize, const X: usize, const SAME: bool>(
    s: S,
    team: &Team<'_, '_, SAME>,
) -> [S::V; X] {
    let mut x = [team.tag_counters(s); X];
    for i in 0..N {
        x[i] = s.xor(team.jobs[i / U].base(s), counters(s, i % U));
    }
    x
}

/// Adds the key stream to the data; returns what is then there, for GHASH.
#[inline(always)]
fn apply<S: Simd, const U: usize, const N: usize, const X: usize, const SAME: bool>(
    s: S,
    team: &Team<'_, '_, SAME>,
    x: &[S::V; X],
) -> [S::V; N] {
    let mut data = [s.zero(); N];
    for i in 0..N {
        data[i] = team.jobs[i / U].apply(s, i % U, i % U + 1 == U, x[i]);
    }
    data
}

/// GHASH of a team, packet after packet, in pieces that fit between AES rounds.
struct Hash<S: Simd> {
    /// Of the packet under way; in the end of what the packets have besides data.
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

    /// Piece `i` of `N + 2`: vector `i` of the team's `data`, then what comes
    /// before and after the data of each packet.
    #[inline(always)]
    fn piece<const U: usize, const N: usize, const SAME: bool>(
        &mut self,
        s: S,
        team: &Team<'_, '_, SAME>,
        i: usize,
        data: &[S::V; N],
    ) {
        if i == N {
            team.add_aads(s, &mut self.sum);
        } else if i > N {
            team.add_lengths(s, &mut self.sum);
        } else {
            let (packet, vector) = (i / U, i % U);
            let job = team.jobs[packet];
            let power = job.data_power() + vector * S::LANES;
            let (powers, seconds) = job.key.powers_of(s, power);
            self.sum.add(s, data[i], powers, seconds);
            if vector + 1 == U {
                self.done[packet] = self.sum;
                self.sum = Sum::zero(s);
            }
        }
    }

    /// The hashes, each in its packet's lane.
    #[inline(always)]
    fn sums(&self, s: S) -> Sum<S> {
        Sum::fold_each(s, &self.done).plus(s, self.sum)
    }
}
