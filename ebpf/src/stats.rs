//! The program's counters.

use hawser_steer::{VERDICTS, Verdict};

/// Packets by verdict since the program was loaded, over all ports and processors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SteeringStats([u64; VERDICTS as usize]);

impl SteeringStats {
    pub(crate) fn from_counters(counters: [u64; VERDICTS as usize]) -> Self {
        Self(counters)
    }

    /// Packets with this verdict.
    #[must_use]
    pub fn get(&self, verdict: Verdict) -> u64 {
        self.0[verdict.index() as usize]
    }

    /// Every verdict with its packets.
    pub fn iter(&self) -> impl Iterator<Item = (Verdict, u64)> {
        Verdict::ALL
            .into_iter()
            .map(|verdict| (verdict, self.get(verdict)))
    }

    /// What was added since `earlier`, a reading of the same program.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut counters = self.0;
        for (now, before) in counters.iter_mut().zip(earlier.0) {
            *now = now.saturating_sub(before);
        }
        Self(counters)
    }
}
