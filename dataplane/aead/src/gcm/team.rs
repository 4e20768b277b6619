//! What packets share at their ends: as many as a vector has lanes are a team, one packet to a
//! lane. The encrypted tag counters, the reduction of the hashes and the blocks before and
//! after the data then cost a vector for the team instead of one for each packet.
//!
//! Each packet may have its own key, as with many tunnels few packets of a batch share one.

use super::expand::POWERS;
use super::ghash::{Sum, polynomial};
use super::job::{Job, equal, tag_counter};
use super::simd::{Block, Simd};

/// Takes the lowest bit away, and returns its number; there must be one.
#[inline(always)]
pub(super) fn take_lowest(bits: &mut u64) -> u8 {
    let lowest = bits.trailing_zeros() as u8;
    *bits &= *bits - 1;
    lowest
}

/// Packets that end together, all of one key if `SAME`. The first `count` matter; the rest are any
/// packets of the batch, and what comes out of their lanes is not used.
#[derive(Clone, Copy)]
pub(super) struct Team<'a, 'k, const SAME: bool> {
    pub(super) jobs: [&'a Job<'k>; 4],
    indices: [u8; 4],
    /// How many packets there are: no more than `LANES`.
    pub(super) count: usize,
}

impl<'a, 'k, const SAME: bool> Team<'a, 'k, SAME> {
    /// The first `LANES` of the packets that have a bit in `packets`, which are taken away; there
    /// must be as many.
    #[inline(always)]
    pub(super) fn take<S: Simd>(_: S, jobs: &'a [Job<'k>], packets: &mut u64) -> Self {
        let mut indices = [take_lowest(packets); 4];
        for index in &mut indices[1..S::LANES] {
            *index = take_lowest(packets);
        }
        Self {
            jobs: indices.map(|i| &jobs[usize::from(i)]),
            indices,
            count: S::LANES,
        }
    }

    /// As [`take`](Self::take), but there may be fewer.
    #[inline(always)]
    pub(super) fn take_some<S: Simd>(_: S, jobs: &'a [Job<'k>], packets: &mut u64) -> Self {
        let mut indices = [take_lowest(packets); 4];
        let mut count = 1;
        for index in &mut indices[1..S::LANES] {
            if *packets != 0 {
                *index = take_lowest(packets);
                count += 1;
            }
        }
        Self {
            jobs: indices.map(|i| &jobs[usize::from(i)]),
            indices,
            count,
        }
    }

    /// The same team, all packets of which have one key.
    #[inline(always)]
    fn of_one_key(&self) -> Team<'a, 'k, true> {
        Team {
            jobs: self.jobs,
            indices: self.indices,
            count: self.count,
        }
    }

    #[inline(always)]
    fn heads<S: Simd, const R: usize>(&self, s: S) -> (S::V, S::V) {
        let mut pads = self.tag_counters(s);
        for round in 1..R {
            pads = s.aes(pads, self.round_keys(s, round));
        }
        pads = s.aes_last(pads, self.round_keys(s, R));
        let mut sums = Sum::zero(s);
        let (powers, seconds) = self.first_powers(s);
        sums.add(s, self.gather(s, Job::aad), powers, seconds);
        (sums.reduce(s, polynomial(s)), pads)
    }

    /// The key of round `round` for a vector of packet `packet`.
    #[inline(always)]
    pub(super) fn round_key<S: Simd>(&self, s: S, packet: usize, round: usize) -> S::V {
        let job = &self.jobs[if SAME { 0 } else { packet }];
        s.splat_from(&job.key.round_keys[round])
    }

    /// The counter blocks whose encryption hides the tags, first round key added.
    #[inline(always)]
    pub(super) fn tag_counters<S: Simd>(&self, s: S) -> S::V {
        let nonces = self.gather(s, Job::nonce);
        s.xor3(nonces, self.round_keys(s, 0), tag_counter(s))
    }

    /// The key of round `round`, each packet's in its lane.
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

    /// Adds the block before the data, for packets of a single stretch.
    #[inline(always)]
    pub(super) fn add_aads<S: Simd>(&self, s: S, sums: &mut Sum<S>) {
        let aads = self.gather(s, Job::aad);
        let powers = self.gather(s, |job| &job.key.powers[job.data_power() - 1]);
        let seconds = self.gather(s, |job| &job.key.seconds[job.data_power() - 1]);
        sums.add(s, aads, powers, seconds);
    }

    /// Adds the block after the data.
    #[inline(always)]
    pub(super) fn add_lengths<S: Simd>(&self, s: S, sums: &mut Sum<S>) {
        let (powers, seconds) = self.first_powers(s);
        sums.add(s, self.gather(s, Job::lengths), powers, seconds);
    }

    /// The hash keys, and what else multiplication needs of them.
    #[inline(always)]
    fn first_powers<S: Simd>(&self, s: S) -> (S::V, S::V) {
        (
            self.of_keys(s, |job| &job.key.powers[POWERS - 1]),
            self.of_keys(s, |job| &job.key.seconds[POWERS - 1]),
        )
    }

    /// The tags, each in its packet's lane, where `sums` is complete and `pads` are the
    /// encrypted tag counters.
    #[inline(always)]
    fn tags<S: Simd>(s: S, sums: Sum<S>, pads: S::V) -> S::V {
        s.xor(s.reverse(sums.reduce(s, polynomial(s))), pads)
    }

    /// The hashes of the packets, each in its packet's lane, where `sums` are those of AAD and data.
    #[inline(always)]
    pub(super) fn complete<S: Simd>(&self, s: S, sums: &[Sum<S>; 4]) -> Sum<S> {
        let mut sums = Sum::fold_each(s, sums);
        self.add_lengths(s, &mut sums);
        sums
    }

    /// Writes the tags.
    #[inline(always)]
    pub(super) fn seal<S: Simd>(&self, s: S, sums: Sum<S>, pads: S::V) {
        let tags = Self::tags(s, sums, pads);
        for i in 0..S::LANES {
            if i < self.count {
                self.jobs[i].write_tag(s.lane(tags, i));
            }
        }
    }

    /// Compares the tags, and wipes the data of packets that are not authentic. Of those that
    /// are, the bits are set in what is returned.
    #[inline(always)]
    pub(super) fn open<S: Simd>(&self, s: S, sums: Sum<S>, pads: S::V) -> u64 {
        let tags = Self::tags(s, sums, pads);
        let mut authentic = 0;
        for i in 0..S::LANES {
            if i >= self.count {
                break;
            }
            if equal(s.lane(tags, i), self.jobs[i].tag()) {
                authentic |= 1 << self.indices[i];
            } else {
                self.jobs[i].wipe();
            }
        }
        authentic
    }
}

/// What comes before the data of each packet of a team: the hashes of the AAD, and in each
/// packet's lane the encrypted tag counter. `same` says whether all have one key.
#[inline(always)]
pub(super) fn heads<S: Simd, const R: usize>(
    s: S,
    team: &Team<'_, '_, false>,
    same: bool,
) -> ([Block; 4], S::V) {
    let (sums, pads) = if same {
        team.of_one_key().heads::<S, R>(s)
    } else {
        team.heads::<S, R>(s)
    };
    let mut hashes = [Block::default(); 4];
    for (i, hash) in hashes.iter_mut().enumerate().take(S::LANES) {
        hash.store(s.lane(sums, i));
    }
    (hashes, pads)
}
