//! What packets share at their ends: as many as a vector has lanes are a team, one packet to a
//! lane. The encrypted tag counters, the reduction of the hashes and the blocks before and
//! after the data then cost a vector for the team instead of one for each packet.
//!
//! Each packet may have its own key, as with many tunnels few packets of a batch share one.

use core::arch::x86_64::__m128i;

use super::expand::POWERS;
use super::ghash::{Sum, polynomial};
use super::job::{Job, equal, rounds, tag_counter};
use super::simd::{Block, Simd};

/// Packets that end together, all of one key if `SAME`. Of the array the first `LANES` count;
/// in a team that is not full, some repeat its first packet.
pub(super) struct Team<'a, 'k, const SAME: bool> {
    pub(super) jobs: [&'a Job<'k>; 4],
}

impl<'a, 'k, const SAME: bool> Team<'a, 'k, SAME> {
    /// The packets at `indices`, of which there are 1 to `LANES`.
    #[inline(always)]
    pub(super) fn new<S: Simd>(_: S, jobs: &'a [Job<'k>], indices: &[u8]) -> Self {
        let mut team = [&jobs[usize::from(indices[0])]; 4];
        for i in 1..S::LANES {
            if let Some(&index) = indices.get(i) {
                team[i] = &jobs[usize::from(index)];
            }
        }
        Self { jobs: team }
    }

    /// The key of round `round` for a vector of packet `packet`.
    #[inline(always)]
    pub(super) fn round_key<S: Simd>(&self, s: S, packet: usize, round: usize) -> S::V {
        let job = &self.jobs[if SAME { 0 } else { packet }];
        s.splat_from(&job.key.round_keys[round])
    }

    /// The key of round `round` for a vector with a block of each packet.
    #[inline(always)]
    pub(super) fn round_keys<S: Simd>(&self, s: S, round: usize) -> S::V {
        self.of_keys(s, |job| &job.key.round_keys[round])
    }

    /// Each packet's block in its lane.
    #[inline(always)]
    fn gather<S: Simd>(&self, s: S, block: impl Fn(&'a Job<'k>) -> &'a Block) -> S::V {
        let [a, b, c, d] = self.jobs;
        s.gather_from([block(a), block(b), block(c), block(d)])
    }

    /// As [`gather`](Self::gather), for a block that is the same if the keys are.
    #[inline(always)]
    fn of_keys<S: Simd>(&self, s: S, block: impl Fn(&'a Job<'k>) -> &'a Block) -> S::V {
        if SAME {
            s.splat_from(block(self.jobs[0]))
        } else {
            self.gather(s, block)
        }
    }

    /// The counter blocks whose encryption hides the tags, first round key added.
    #[inline(always)]
    pub(super) fn tag_counters<S: Simd>(&self, s: S) -> S::V {
        let nonces = self.gather(s, Job::nonce);
        s.xor3(nonces, self.round_keys(s, 0), tag_counter(s))
    }

    /// Those blocks encrypted.
    #[inline(always)]
    pub(super) fn tag_pads<S: Simd, const R: usize>(&self, s: S) -> S::V {
        let mut x = [self.tag_counters(s)];
        let mut sum = Sum::zero(s);
        rounds!(s, R, x, sum, |i, round| self.round_keys(s, round), {});
        x[0]
    }

    /// Adds the block before the data, for packets of a single stretch.
    #[inline(always)]
    pub(super) fn add_aads<S: Simd>(&self, s: S, sums: &mut Sum<S>) {
        let powers = self.gather(s, |job| &job.key.powers[job.aad_power()]);
        let seconds = self.gather(s, |job| &job.key.seconds[job.aad_power()]);
        sums.add(s, self.gather(s, Job::aad), powers, seconds);
    }

    /// Adds the block after the data.
    #[inline(always)]
    pub(super) fn add_lengths<S: Simd>(&self, s: S, sums: &mut Sum<S>) {
        let powers = self.of_keys(s, |job| &job.key.powers[POWERS - 1]);
        let seconds = self.of_keys(s, |job| &job.key.seconds[POWERS - 1]);
        sums.add(s, self.gather(s, Job::lengths), powers, seconds);
    }

    /// The tags, each in its packet's lane: `sums` is complete in each lane, and `pads` are the
    /// encrypted tag counters.
    #[inline(always)]
    pub(super) fn tags<S: Simd>(s: S, sums: Sum<S>, pads: S::V) -> S::V {
        s.xor(s.reverse(sums.reduce(s, polynomial(s))), pads)
    }
}

/// Writes the tags of the first `count` packets of a team.
#[inline(always)]
pub(super) fn write_tags<S: Simd>(s: S, jobs: &[&Job<'_>; 4], count: usize, tags: S::V) {
    for (i, job) in jobs[..S::LANES].iter().enumerate() {
        if i < count {
            job.write_tag(s.lane(tags, i));
        }
    }
}

/// Whether the packet has this tag. If not, its data is wiped.
#[inline(always)]
pub(super) fn is_authentic(job: &Job<'_>, sent: __m128i, computed: __m128i) -> bool {
    let authentic = equal(sent, computed);
    if !authentic {
        job.wipe();
    }
    authentic
}
