//! Sequence numbers that can be used once.
//!
//! With AES-GCM the sequence number is the nonce, and a nonce used twice under one key gives
//! away the authentication key. So numbers come only from a counter inside the key, in blocks,
//! by one atomic addition; and a number is a value that sealing consumes.

use core::sync::atomic::{AtomicU64, Ordering};

/// One unused sequence number of one [`SealingKey`](crate::SealingKey).
///
/// Neither `Copy` nor `Clone`. Dropping it unused leaves a gap, which receivers accept.
#[derive(Debug)]
#[must_use = "an unused sequence number leaves a gap"]
pub struct Sequence {
    value: u64,
    owner: KeyId,
}

impl Sequence {
    /// The low 32 bits: what the packet carries.
    #[must_use]
    pub fn low(&self) -> u32 {
        self.value as u32
    }

    /// The whole 64-bit number.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.value
    }

    /// Gives up the number, for a key that must be the one that made it.
    #[inline]
    pub(crate) fn consume(self, by: KeyId) -> u64 {
        assert!(self.owner == by, "sequence number of another key");
        self.value
    }
}

/// Consecutive unused sequence numbers of one key, as an iterator of [`Sequence`].
#[derive(Debug)]
pub struct SequenceBlock {
    next: u64,
    end: u64,
    owner: KeyId,
}

impl Iterator for SequenceBlock {
    type Item = Sequence;

    #[inline]
    fn next(&mut self) -> Option<Sequence> {
        if self.next == self.end {
            return None;
        }
        let value = self.next;
        self.next += 1;
        Some(Sequence {
            value,
            owner: self.owner,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.end - self.next) as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for SequenceBlock {}

/// Tells keys apart within this process, so that a number cannot be used with a foreign key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KeyId(u64);

impl KeyId {
    pub(crate) fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Highest sequence number without ESN. RFC 4303 section 3.3.3 forbids to wrap.
const LAST_SHORT: u64 = u32::MAX as u64;

/// Highest sequence number used with ESN. 2^48 below the end, so that additions racing past
/// the limit (each at most 2^32, one per thread) cannot wrap the counter.
const LAST_EXTENDED: u64 = u64::MAX - (1 << 48);

/// The counter of a key. On a cache line of its own: every worker writes it, and the key's
/// tables beside it are read for every packet.
#[repr(align(128))]
pub(crate) struct Counter {
    next: AtomicU64,
    /// Last number that may be used.
    limit: AtomicU64,
    hard: u64,
    owner: KeyId,
}

impl Counter {
    /// `None` if `first` is 0 (RFC 4303: the first packet has number 1) or beyond what the
    /// number's width can hold.
    pub(crate) fn new(esn: bool, first: u64, limit: u64) -> Option<Self> {
        let hard = if esn { LAST_EXTENDED } else { LAST_SHORT };
        (1..=hard).contains(&first).then(|| Self {
            next: AtomicU64::new(first),
            limit: AtomicU64::new(limit.min(hard)),
            hard,
            owner: KeyId::fresh(),
        })
    }

    pub(crate) fn owner(&self) -> KeyId {
        self.owner
    }

    #[inline]
    pub(crate) fn reserve(&self, n: u32) -> Option<SequenceBlock> {
        // Relaxed: the numbers order nothing but themselves.
        let limit = self.limit.load(Ordering::Relaxed);
        if self.next.load(Ordering::Relaxed) > limit {
            return None;
        }
        let next = self.next.fetch_add(u64::from(n), Ordering::Relaxed);
        let end = next + u64::from(n);
        (end <= limit + 1).then_some(SequenceBlock {
            next,
            end,
            owner: self.owner,
        })
    }

    pub(crate) fn set_limit(&self, limit: u64) {
        self.limit.store(limit.min(self.hard), Ordering::Relaxed);
    }

    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_are_consecutive_up_to_the_limit_and_none_after_it() {
        let counter = Counter::new(false, 5, 9).unwrap();
        let values = |n| {
            counter
                .reserve(n)
                .map(|block| block.map(|s| s.value()).collect())
        };
        assert_eq!(values(3), Some(vec![5, 6, 7]));
        assert_eq!(values(3), None, "8, 9 and 10 would pass the limit");
        assert_eq!(
            values(1),
            None,
            "numbers passed over are not given out later"
        );
        counter.set_limit(u64::MAX);
        assert_eq!(values(1), Some(vec![11]));
    }

    #[test]
    fn without_esn_the_last_number_is_the_last_of_32_bits() {
        let counter = Counter::new(false, u64::from(u32::MAX) - 1, u64::MAX).unwrap();
        let low: Vec<_> = counter.reserve(2).unwrap().map(|s| s.low()).collect();
        assert_eq!(low, [u32::MAX - 1, u32::MAX]);
        assert!(counter.reserve(1).is_none());
        assert!(Counter::new(false, 1 << 32, u64::MAX).is_none());
        assert!(Counter::new(true, 1 << 32, u64::MAX).is_some());
        assert!(Counter::new(true, 0, u64::MAX).is_none());
    }

    #[test]
    fn the_counter_cannot_be_driven_around() {
        let counter = Counter::new(true, LAST_EXTENDED, u64::MAX).unwrap();
        assert!(counter.reserve(1).is_some());
        for _ in 0..100_000 {
            assert!(counter.reserve(u32::MAX).is_none());
        }
        assert_eq!(counter.next(), LAST_EXTENDED + 1);
    }

    #[test]
    #[should_panic(expected = "another key")]
    fn a_number_serves_only_the_key_that_made_it() {
        let (a, b) = (
            Counter::new(false, 1, 9).unwrap(),
            Counter::new(false, 1, 9).unwrap(),
        );
        a.reserve(1).unwrap().next().unwrap().consume(b.owner());
    }

    #[test]
    fn threads_never_share_a_number() {
        let counter = Counter::new(true, 1, 40_000).unwrap();
        let all: Vec<u64> = std::thread::scope(|scope| {
            let take = || {
                let mut got = Vec::new();
                while let Some(block) = counter.reserve(7) {
                    got.extend(block.map(|s| s.value()));
                }
                got
            };
            let handles: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            handles
                .into_iter()
                .flat_map(|h| h.join().unwrap())
                .collect()
        });
        let distinct: BTreeSet<_> = all.iter().copied().collect();
        assert_eq!(distinct.len(), all.len());
        assert!(distinct.iter().all(|v| (1..=40_000).contains(v)));
        assert!(
            all.len() > 39_960,
            "only the tail below one block may be lost"
        );
    }
}
