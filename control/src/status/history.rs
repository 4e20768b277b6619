//! Rates: counters of the last second, and what follows from two counts.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use hawser_api::{Ceiling, RegimeTimes, Stats, TunnelId, TunnelStats};

use super::{TimeShares, Traffic};

/// How long rates look back.
const WINDOW: Duration = Duration::from_secs(1);

/// Counters of the last second.
#[derive(Default)]
pub struct History {
    samples: VecDeque<Arc<Sample>>,
}

/// Counters at one moment.
pub struct Sample {
    /// The counters.
    pub stats: Stats,
    by_tunnel: HashMap<TunnelId, usize>,
}

impl Sample {
    fn new(stats: Stats) -> Self {
        let by_tunnel = stats
            .tunnels
            .iter()
            .enumerate()
            .map(|(i, t)| (t.id, i))
            .collect();
        Self { stats, by_tunnel }
    }

    /// A tunnel's counters.
    #[must_use]
    pub fn tunnel(&self, id: TunnelId) -> Option<&TunnelStats> {
        self.by_tunnel.get(&id).map(|i| &self.stats.tunnels[*i])
    }
}

impl History {
    /// Takes in counters.
    pub fn push(&mut self, stats: Stats) {
        let now = stats.at_nanos;
        // Counters of another process, or a clock that went back, start afresh.
        if self
            .samples
            .back()
            .is_some_and(|last| last.stats.at_nanos >= now)
        {
            self.samples.clear();
        }
        self.samples.push_back(Arc::new(Sample::new(stats)));
        let window = WINDOW.as_nanos() as u64;
        // The oldest one kept is the youngest that is at least a window old.
        while self
            .samples
            .get(1)
            .is_some_and(|s| now - s.stats.at_nanos >= window)
        {
            self.samples.pop_front();
        }
    }

    /// Forgets everything: the data plane is another one.
    pub fn clear(&mut self) {
        self.samples.clear();
    }

    /// The newest counters and those to compare them with.
    #[must_use]
    pub fn span(&self) -> Option<Span<'_>> {
        let (old, new) = (self.samples.front()?, self.samples.back()?);
        let nanos = new.stats.at_nanos - old.stats.at_nanos;
        Some(Span { old, new, nanos })
    }
}

/// Two samples with the time between them.
#[derive(Clone, Copy)]
pub struct Span<'h> {
    /// The older one; the same as the newer one when there is only one.
    pub old: &'h Sample,
    /// The newer one.
    pub new: &'h Sample,
    nanos: u64,
}

impl Span<'_> {
    /// A counter's growth a second.
    #[must_use]
    pub fn rate(&self, old: u64, new: u64) -> u64 {
        if self.nanos == 0 {
            return 0;
        }
        let growth = u128::from(new.saturating_sub(old));
        u64::try_from(growth * 1_000_000_000 / u128::from(self.nanos)).unwrap_or(u64::MAX)
    }

    /// A tunnel's traffic.
    #[must_use]
    pub fn traffic(&self, id: TunnelId) -> Traffic {
        let Some(new) = self.new.tunnel(id) else {
            return Traffic::default();
        };
        // A tunnel that is younger than the older sample has no rate yet.
        let old = self.old.tunnel(id).unwrap_or(new);
        let dropped = new.drops.total();
        Traffic {
            out_bits_per_second: self.rate(old.sent_bytes * 8, new.sent_bytes * 8),
            out_packets_per_second: self.rate(old.sent, new.sent),
            in_bits_per_second: self.rate(old.received_bytes * 8, new.received_bytes * 8),
            in_packets_per_second: self.rate(old.received, new.received),
            sent: new.sent,
            sent_bytes: new.sent_bytes,
            received: new.received,
            received_bytes: new.received_bytes,
            dropped,
            dropped_per_second: self.rate(old.drops.total(), dropped),
        }
    }
}

impl Traffic {
    /// Adds another tunnel's.
    pub fn add(&mut self, other: &Self) {
        self.out_bits_per_second += other.out_bits_per_second;
        self.out_packets_per_second += other.out_packets_per_second;
        self.in_bits_per_second += other.in_bits_per_second;
        self.in_packets_per_second += other.in_packets_per_second;
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.received += other.received;
        self.received_bytes += other.received_bytes;
        self.dropped += other.dropped;
        self.dropped_per_second += other.dropped_per_second;
    }

    /// The share of a ceiling that sending uses; `None` without a ceiling.
    #[must_use]
    pub fn share_of(&self, ceiling: &Ceiling) -> Option<f64> {
        let share = |rate: u64, limit: u64| (limit > 0).then(|| rate as f64 / limit as f64);
        let bits = share(self.out_bits_per_second, ceiling.bits_per_second);
        let packets = share(self.out_packets_per_second, ceiling.packets_per_second);
        match (bits, packets) {
            (Some(bits), Some(packets)) => Some(bits.max(packets)),
            (one, other) => one.or(other),
        }
    }
}

impl TimeShares {
    /// Where the time between two counts went.
    #[must_use]
    pub fn between(old: &RegimeTimes, new: &RegimeTimes) -> Self {
        let spent = [
            new.idle.saturating_sub(old.idle),
            new.asleep.saturating_sub(old.asleep),
            new.busy.saturating_sub(old.busy),
            new.backpressure.saturating_sub(old.backpressure),
            new.housekeeping.saturating_sub(old.housekeeping),
        ];
        let total: u64 = spent.iter().sum();
        if total == 0 {
            return Self::default();
        }
        let [idle, asleep, busy, backpressure, housekeeping] =
            spent.map(|nanos| nanos as f64 / total as f64);
        Self {
            idle,
            asleep,
            busy,
            backpressure,
            housekeeping,
        }
    }
}

#[cfg(test)]
mod tests {
    use hawser_api::Drops;

    use super::*;

    fn sample(at_millis: u64, sent: u64) -> Stats {
        Stats {
            at_nanos: at_millis * 1_000_000,
            tunnels: vec![TunnelStats {
                id: TunnelId(3),
                sent,
                sent_bytes: sent * 1000,
                received: 0,
                received_bytes: 0,
                idle_millis: None,
                inside_mtu: 1446,
                owner: None,
                outbound: None,
                inbound: Vec::new(),
                drops: Drops::default(),
            }],
            ..Stats::default()
        }
    }

    #[test]
    fn rates_slide_over_a_second() {
        let mut history = History::default();
        let mut rates = Vec::new();
        // 100 packets every 250 ms for a second, then nothing.
        for n in 0..12_u64 {
            history.push(sample(250 * n, 100 * n.min(4)));
            rates.push(
                history
                    .span()
                    .unwrap()
                    .traffic(TunnelId(3))
                    .out_packets_per_second,
            );
        }
        assert_eq!(rates, [0, 400, 400, 400, 400, 300, 200, 100, 0, 0, 0, 0]);
        assert_eq!(history.samples.len(), 5);
    }

    #[test]
    fn another_process_starts_afresh() {
        let mut history = History::default();
        history.push(sample(5000, 1_000_000));
        history.push(sample(100, 5));
        let traffic = history.span().unwrap().traffic(TunnelId(3));
        assert_eq!((traffic.sent, traffic.out_packets_per_second), (5, 0));
    }

    #[test]
    fn the_nearer_ceiling_counts() {
        let traffic = Traffic {
            out_bits_per_second: 500,
            out_packets_per_second: 90,
            ..Traffic::default()
        };
        let ceiling = |bits_per_second, packets_per_second| Ceiling {
            bits_per_second,
            packets_per_second,
        };
        assert_eq!(traffic.share_of(&ceiling(1000, 100)), Some(0.9));
        assert_eq!(traffic.share_of(&ceiling(1000, 0)), Some(0.5));
        assert_eq!(traffic.share_of(&ceiling(0, 0)), None);
    }

    #[test]
    fn shares_add_up() {
        let old = RegimeTimes {
            idle: 100,
            busy: 50,
            ..RegimeTimes::default()
        };
        let new = RegimeTimes {
            idle: 150,
            busy: 200,
            ..RegimeTimes::default()
        };
        let shares = TimeShares::between(&old, &new);
        assert!((shares.idle - 0.25).abs() < 1e-9 && (shares.busy - 0.75).abs() < 1e-9);
    }
}
