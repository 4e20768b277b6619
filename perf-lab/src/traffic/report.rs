//! What became of the traffic.

use hdrhistogram::Histogram;
use serde::Serialize;

/// What became of one flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FlowReport {
    /// Its number.
    pub flow: u16,
    /// Packets sent.
    pub sent: u64,
    /// Packets received, duplicates included.
    pub received: u64,
    /// Bytes of the Ethernet frames received.
    pub received_bytes: u64,
    /// Packets that never arrived.
    pub lost: u64,
    /// Packets received again.
    pub duplicates: u64,
    /// Packets received behind one that was sent later.
    pub reordered: u64,
}

/// Latency, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencyReport {
    /// Packets measured.
    pub packets: u64,
    /// Smallest.
    pub min: f64,
    /// Median.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// Largest.
    pub max: f64,
}

impl LatencyReport {
    /// Reads a histogram of nanoseconds.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            packets: histogram.len(),
            min: histogram.min() as f64 / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
        }
    }
}

/// What became of all flows of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TrafficReport {
    /// How long packets were sent, seconds.
    pub seconds: f64,
    /// The flows.
    pub flows: Vec<FlowReport>,
    /// One-way latency.
    pub latency: LatencyReport,
}

impl TrafficReport {
    /// Sum of a column.
    #[must_use]
    pub fn total(&self, column: impl Fn(&FlowReport) -> u64) -> u64 {
        self.flows.iter().map(column).sum()
    }

    /// Packets a second that arrived, each once.
    #[must_use]
    pub fn packets_per_second(&self) -> f64 {
        self.total(|f| f.received - f.duplicates) as f64 / self.seconds
    }

    /// Share of the sent packets that got lost.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.total(|f| f.lost) as f64 / (self.total(|f| f.sent) as f64).max(1.0)
    }

    /// Fails with the flows concerned when anything was lost, duplicated or reordered.
    ///
    /// # Errors
    /// With the numbers.
    pub fn must_be_perfect(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.total(|f| f.sent) > 0, "nothing was sent");
        let bad: Vec<_> = self
            .flows
            .iter()
            .filter(|f| f.lost + f.duplicates + f.reordered > 0)
            .collect();
        if let Some(worst) = bad
            .iter()
            .max_by_key(|f| f.lost + f.duplicates + f.reordered)
        {
            anyhow::bail!(
                "of {} packets {} lost, {} duplicated, {} reordered, in {} of {} flows; worst: {worst:?}",
                self.total(|f| f.sent),
                self.total(|f| f.lost),
                self.total(|f| f.duplicates),
                self.total(|f| f.reordered),
                bad.len(),
                self.flows.len(),
            );
        }
        Ok(())
    }
}

/// A histogram for latencies: nanoseconds up to a minute, 1 % exact.
#[must_use]
pub(super) fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("the bounds are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imperfection_is_reported() {
        let perfect = FlowReport {
            sent: 5,
            received: 5,
            ..FlowReport::default()
        };
        let mut report = TrafficReport {
            seconds: 1.0,
            ..TrafficReport::default()
        };
        assert!(report.must_be_perfect().is_err(), "nothing sent");
        report.flows = vec![perfect; 2];
        report.must_be_perfect().unwrap();
        report.flows[1].reordered = 1;
        assert!(
            report
                .must_be_perfect()
                .unwrap_err()
                .to_string()
                .contains("1 reordered")
        );
    }

    #[test]
    fn latency_percentiles_are_in_microseconds() {
        let mut histogram = latency_histogram();
        for micros in 1..=1000_u64 {
            histogram.record(micros * 1000).unwrap();
        }
        let report = LatencyReport::of(&histogram);
        assert_eq!(report.packets, 1000);
        assert!((report.p50 - 500.0).abs() < 10.0, "{report:?}");
        assert!((report.p99 - 990.0).abs() < 20.0, "{report:?}");
        assert_eq!(LatencyReport::of(&latency_histogram()).packets, 0);
    }
}
