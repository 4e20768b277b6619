//! The sink: per flow what arrived, and a latency histogram.

/// Words in a [`Flow`].
pub const FLOW_WORDS: usize = 16;
/// Words of the window in which duplicates are told apart.
pub const WINDOW_WORDS: usize = 8;
/// Sequence numbers the window holds at least: a packet this far behind can still be judged.
pub const WINDOW: u64 = 32 * (WINDOW_WORDS as u64 - 1);
/// Entries of `LATENCY`.
pub const LATENCY_BUCKETS: u32 = 512;
/// Entries of `SINK_STATS`.
pub const SINK_STATS: u32 = 3;

/// Positions in a [`Flow`].
pub mod flow_word {
    /// Packets received, duplicates included.
    pub const RECEIVED: usize = 0;
    /// Bytes of the frames received.
    pub const BYTES: usize = 1;
    /// Packets received again.
    pub const DUPLICATES: usize = 2;
    /// Packets that arrived behind a higher sequence number.
    pub const REORDERED: usize = 3;
    /// Packets too far behind for the window.
    pub const LATE: usize = 4;
    /// Highest sequence number plus 1.
    pub const NEXT: usize = 5;
    /// Packets whose window word could not be changed because of contention.
    pub const CONTENDED: usize = 6;
    /// First word of the window: 32 bits block number plus 1, 32 bits seen.
    pub const WINDOW: usize = 8;
}

/// Packets the sink counts outside of any flow; the variant is the index in `SINK_STATS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SinkStat {
    /// Belonged to a flow.
    Counted = 0,
    /// Not from the generator; left to the network stack.
    Foreign = 1,
    /// A flow number beyond the size of `FLOWS`; dropped.
    FlowRange = 2,
}

/// What arrived of one flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Packets received, duplicates included.
    pub received: u64,
    /// Bytes of the frames received.
    pub bytes: u64,
    /// Packets received again.
    pub duplicates: u64,
    /// Packets that arrived behind a higher sequence number of the flow, duplicates not counted.
    pub reordered: u64,
    /// Of the reordered, those more than [`WINDOW`] behind: a duplicate among them goes unseen.
    pub late: u64,
    /// Highest sequence number plus 1.
    pub next: u64,
    /// Packets that could not be checked for duplication because of contention; 0 is expected.
    pub contended: u64,
}

impl Flow {
    /// Reads a value of `FLOWS`.
    #[must_use]
    pub fn decode(words: &[u64; FLOW_WORDS]) -> Self {
        Self {
            received: words[flow_word::RECEIVED],
            bytes: words[flow_word::BYTES],
            duplicates: words[flow_word::DUPLICATES],
            reordered: words[flow_word::REORDERED],
            late: words[flow_word::LATE],
            next: words[flow_word::NEXT],
            contended: words[flow_word::CONTENDED],
        }
    }

    /// Packets received, each once.
    #[must_use]
    pub fn distinct(&self) -> u64 {
        self.received.saturating_sub(self.duplicates)
    }

    /// Packets missing below the highest sequence number seen. What was lost behind it shows only
    /// in comparison with what was sent: see [`lost_of`](Self::lost_of).
    #[must_use]
    pub fn lost_below_next(&self) -> u64 {
        self.next.saturating_sub(self.distinct())
    }

    /// Packets missing of `sent`, the generator's own count.
    #[must_use]
    pub fn lost_of(&self, sent: u64) -> u64 {
        sent.saturating_sub(self.distinct())
    }
}

/// The bucket of `LATENCY` for a time: 8 buckets an octave, so each is at most 12.5 % wide.
#[must_use]
#[inline(always)]
pub const fn latency_bucket(ns: u64) -> u32 {
    if ns < 8 {
        return ns as u32;
    }
    let exponent = 63 - ns.leading_zeros();
    (exponent - 2) * 8 + ((ns >> (exponent - 3)) & 7) as u32
}

/// The smallest time that falls into a bucket of `LATENCY`.
#[must_use]
pub const fn bucket_low_ns(bucket: u32) -> u64 {
    if bucket < 8 {
        return bucket as u64;
    }
    let exponent = bucket / 8 + 2;
    if exponent > 63 {
        u64::MAX
    } else {
        (8 + (bucket & 7) as u64) << (exponent - 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn last_bucket_is_in_range() {
        assert!(latency_bucket(u64::MAX) < LATENCY_BUCKETS);
    }

    proptest! {
        #[test]
        fn bucket_bounds_hold(shift in 0_u32..64, ns: u64) {
            let ns = ns >> shift;
            let bucket = latency_bucket(ns);
            prop_assert!(bucket_low_ns(bucket) <= ns);
            // The last bucket has no successor.
            if bucket < 495 {
                let (low, next) = (bucket_low_ns(bucket), bucket_low_ns(bucket + 1));
                prop_assert!(ns < next);
                prop_assert!(bucket < 8 || (next - low) * 8 <= low);
            }
        }
    }
}
