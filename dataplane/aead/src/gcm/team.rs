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

/// Packets that end together, all of one key if `SAME`. Of the arrays the first `count` matter; the
/// rest are any packets of the batch, and what comes out of their lanes is not used.
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
        let powers = self.gather(s, |job| &job.key.powers[job.aad_power()]);
        let seconds = self.gather(s, |job| &job.key.seconds[job.aad_power()]);
        sums.add(s, aads, powers, seconds);
    }

    /// Adds the block after the data.
    #[inline(always)]
    pub(super) fn add_lengths<S: Simd>(&self, s: S, sums: &mut Sum<S>) {
        let powers = self.of_keys(s, |job| &job.key.powers[POWERS - 1]);
        let seconds = self.of_keys(s, |job| &job.key.seconds[POWERS - 1]);
        sums.add(s, self.gather(s, Job::lengths), powers, seconds);
    }

    /// The tags, each in its packet's lane, where `sums` is complete and `pads` are the
    /// encrypted tag counters.
    #[inline(always)]
    fn tags<S: Simd>(s: S, sums: Sum<S>, pads: S::V) -> S::V {
        s.xor(s.reverse(sums.reduce(s, polynomial(s))), pads)
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

/// Packets whose AAD and data are hashed, until there are enough for a team.
pub(super) struct Ends<'a, 'k, S: Simd> {
    jobs: &'a [Job<'k>],
    indices: [u8; 4],
    sums: [Sum<S>; 4],
    pads: [Block; 4],
    count: usize,
}

impl<'a, 'k, S: Simd> Ends<'a, 'k, S> {
    #[inline(always)]
    pub(super) fn none(s: S, jobs: &'a [Job<'k>]) -> Self {
        Self {
            jobs,
            indices: [0; 4],
            sums: [Sum::zero(s); 4],
            pads: [Block::default(); 4],
            count: 0,
        }
    }

    /// Takes a packet, its hash, and in the first lane of `pad` what hides its tag. Says whether
    /// the team is full.
    #[inline(always)]
    fn push(&mut self, s: S, index: u8, sum: Sum<S>, pad: S::V) -> bool {
        // Never more than there are lanes: said so that no bound need be checked.
        let at = self.count % 4;
        self.indices[at] = index;
        self.sums[at] = sum;
        self.pads[at].store(s.lane(pad, 0));
        self.count += 1;
        self.count == S::LANES
    }

    /// The team, its hashes and pads.
    #[inline(always)]
    fn team(&mut self, s: S) -> (Team<'a, 'k, false>, Sum<S>, S::V) {
        let team = Team {
            jobs: self.indices.map(|i| &self.jobs[usize::from(i)]),
            indices: self.indices,
            count: self.count,
        };
        let mut sums = Sum::fold_each(s, &self.sums);
        team.add_lengths(s, &mut sums);
        let [a, b, c, d] = &self.pads;
        self.count = 0;
        (team, sums, s.gather_from([a, b, c, d]))
    }

    /// Takes a packet to be sealed, as [`push`](Self::push) does.
    #[inline(always)]
    pub(super) fn seal(&mut self, s: S, index: u8, sum: Sum<S>, pad: S::V) {
        if self.push(s, index, sum, pad) {
            self.seal_rest(s);
        }
    }

    /// Seals a team that may not be full.
    #[inline(always)]
    pub(super) fn seal_rest(&mut self, s: S) {
        if self.count > 0 {
            let (team, sums, pads) = self.team(s);
            team.seal(s, sums, pads);
        }
    }

    /// Takes a packet to be opened, as [`push`](Self::push) does. Sets the bits of packets that
    /// are authentic.
    #[inline(always)]
    pub(super) fn open(&mut self, s: S, index: u8, sum: Sum<S>, pad: S::V) -> u64 {
        if self.push(s, index, sum, pad) {
            self.open_rest(s)
        } else {
            0
        }
    }

    /// Opens a team that may not be full.
    #[inline(always)]
    pub(super) fn open_rest(&mut self, s: S) -> u64 {
        if self.count == 0 {
            return 0;
        }
        let (team, sums, pads) = self.team(s);
        team.open(s, sums, pads)
    }
}
