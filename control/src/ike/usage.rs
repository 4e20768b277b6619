//! What the data plane's counters tell the key exchange: who is alive, which SA is used up, where
//! traffic wants a tunnel.

use std::time::{Duration, Instant};

use hawser_api::{DropReason, Spi, Stats, TunnelId, TunnelStats};
use hawser_ike::RekeyReason;

use super::{Exchange, connection_of};
use crate::config::ike::Lifetimes;

/// Counters of a tunnel when its present outbound SA was first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    spi: Spi,
    sent_bytes: u64,
    received_bytes: u64,
    received: u64,
    /// Counters seen last: what has grown since is news.
    seen: (u64, u64),
    /// The limit was reached and said.
    said: bool,
}

impl Usage {
    fn begin(spi: Spi, stats: &TunnelStats) -> Self {
        Self {
            spi,
            sent_bytes: stats.sent_bytes,
            received_bytes: stats.received_bytes,
            received: stats.received,
            seen: (stats.sent, stats.received),
            said: false,
        }
    }

    /// Which limit of the configuration is reached.
    fn exceeds(&self, limits: &Lifetimes, stats: &TunnelStats) -> Option<RekeyReason> {
        let grown = |now: u64, then: u64| now.saturating_sub(then);
        let bytes = grown(stats.sent_bytes, self.sent_bytes)
            .max(grown(stats.received_bytes, self.received_bytes));
        let sent = stats
            .outbound
            .as_ref()
            .map_or(0, |sa| sa.next_sequence.saturating_sub(1));
        let packets = sent.max(grown(stats.received, self.received));
        if limits.bytes > 0 && bytes >= limits.bytes {
            Some(RekeyReason::Bytes)
        } else if limits.packets > 0 && packets >= limits.packets {
            Some(RekeyReason::Packets)
        } else {
            None
        }
    }
}

impl Exchange {
    /// Takes in the data plane's counters. `limits` gives the lifetimes of a tunnel.
    pub fn counted<'l>(
        &mut self,
        stats: &Stats,
        limits: impl Fn(TunnelId) -> Option<&'l Lifetimes>,
    ) {
        let now = Instant::now();
        for tunnel in &stats.tunnels {
            let Some(limits) = limits(tunnel.id) else {
                continue;
            };
            self.traffic_wants(tunnel, now);
            let Some(outbound) = &tunnel.outbound else {
                continue;
            };
            let usage = self
                .usage
                .entry(tunnel.id)
                .or_insert_with(|| Usage::begin(outbound.spi, tunnel));
            if usage.spi != outbound.spi {
                *usage = Usage::begin(outbound.spi, tunnel);
            }
            let connection = connection_of(tunnel.id);
            if tunnel.received > usage.seen.1
                && let Some(idle) = tunnel.idle_millis
                && let Some(at) = now.checked_sub(Duration::from_millis(idle))
            {
                self.endpoint.activity(now, connection, at);
            }
            if tunnel.sent > usage.seen.0 {
                self.endpoint.sent(now, connection, now);
            }
            usage.seen = (tunnel.sent, tunnel.received);
            if !usage.said
                && let Some(reason) = usage.exceeds(limits, tunnel)
            {
                usage.said = true;
                self.endpoint
                    .rekey_child(now, connection, outbound.spi, reason);
            }
        }
    }

    /// Packets that find no SA start a tunnel that waits for them.
    fn traffic_wants(&mut self, tunnel: &TunnelStats, now: Instant) {
        let Some(before) = self.on_traffic.get_mut(&tunnel.id) else {
            return;
        };
        let dropped = tunnel.drops.get(DropReason::TunnelDown);
        if dropped > *before && tunnel.outbound.is_none() {
            self.endpoint.initiate(now, connection_of(tunnel.id));
        }
        *before = dropped;
    }
}

#[cfg(test)]
mod tests {
    use hawser_api::{Drops, OutboundSaStats};

    use super::*;

    fn stats(bytes: u64, next_sequence: u64) -> TunnelStats {
        TunnelStats {
            id: TunnelId(1),
            sent: 0,
            sent_bytes: bytes,
            received: 0,
            received_bytes: 0,
            idle_millis: None,
            inside_mtu: 0,
            owner: None,
            outbound: Some(OutboundSaStats {
                spi: Spi(4096),
                next_sequence,
            }),
            inbound: Vec::new(),
            drops: Drops::default(),
        }
    }

    #[test]
    fn limits_count_from_the_sa_on() {
        let mut limits = Lifetimes {
            phase1: 100,
            phase2: 50,
            margin: 1,
            phase1_margin: 1,
            fuzz: 0,
            bytes: 1000,
            packets: 0,
            reauthenticate: None,
        };
        let usage = Usage::begin(Spi(4096), &stats(5_000, 1));
        assert_eq!(usage.exceeds(&limits, &stats(5_999, 9)), None);
        let reached = usage.exceeds(&limits, &stats(6_000, 9));
        assert_eq!(reached, Some(RekeyReason::Bytes));
        (limits.bytes, limits.packets) = (0, 8);
        assert_eq!(usage.exceeds(&limits, &stats(6_000, 8)), None);
        let reached = usage.exceeds(&limits, &stats(6_000, 9));
        assert_eq!(reached, Some(RekeyReason::Packets));
        limits.packets = 0;
        assert_eq!(usage.exceeds(&limits, &stats(u64::MAX, u64::MAX)), None);
    }
}
