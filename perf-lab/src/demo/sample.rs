//! One look at everything that counts, and what happened between two looks.

use std::{collections::BTreeMap, time::Instant};

use anyhow::Result;

use super::Lab;
use crate::{
    gateway::TunnelCounters,
    policer::Cap,
    topology::{Family, Side, outside_address},
};

/// Counters of one tunnel and direction.
#[derive(Clone, Debug, Default)]
pub(super) struct TunnelSample {
    pub(super) name: String,
    pub(super) up: bool,
    /// Outer packets that the outside network let through.
    pub(super) passed: u64,
    pub(super) passed_bytes: u64,
    /// Drops by reason: of the outside network and of both gateways. With traffic both ways, those
    /// of the gateways, which do not tell the directions apart, are with the first.
    pub(super) drops: BTreeMap<String, u64>,
}

/// All counters at one time.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) tunnels: Vec<TunnelSample>,
    /// Drops that belong to no tunnel.
    pub(super) other_drops: BTreeMap<String, u64>,
    /// Test packets that arrived, each once, and the bytes of their frames; by sender.
    pub(super) arrived: Vec<(u64, u64)>,
}

impl Sample {
    /// Looks at the lab; `flows` are those of the phase: first and how many.
    pub(super) fn take(lab: &Lab, flows: (u32, u32)) -> Result<Self> {
        let (a, b) = (lab.pair.a.status()?, lab.pair.b.status()?);
        let at = Instant::now();
        let sinks = lab.sinks.iter();
        let arrived = sinks
            .map(|sink| sink.received(flows.0, flows.1))
            .collect::<Result<_>>()?;
        let none = TunnelCounters::default();
        let (a_tunnels, b_tunnels) = (a.tunnels(), b.tunnels());
        let senders = lab.options.direction.senders();
        let mut tunnels = Vec::new();
        for index in 0..u32::from(lab.options.tunnels) {
            let of_a = a_tunnels.get(index as usize).unwrap_or(&none);
            let of_b = b_tunnels.get(index as usize).unwrap_or(&none);
            let address = |side| outside_address(side, Family::V4, index);
            for (way, &sender) in senders.iter().enumerate() {
                let meter = lab
                    .policer
                    .meter(address(sender), address(sender.other()), false)?;
                let mut drops = BTreeMap::new();
                add(&mut drops, "over_bit_ceiling", meter.over_bits_packets);
                add(
                    &mut drops,
                    "over_packet_ceiling",
                    meter.over_packets_packets,
                );
                let gateways = of_a.drops.iter().chain(&of_b.drops);
                for (reason, &count) in gateways.filter(|_| way == 0) {
                    add(&mut drops, reason, count);
                }
                tunnels.push(TunnelSample {
                    name: row_name(index, sender, senders.len()),
                    up: of_a.up && of_b.up,
                    passed: meter.passed_packets,
                    passed_bytes: meter.passed_bytes,
                    drops,
                });
            }
        }
        let mut other_drops = BTreeMap::new();
        for (gateway, status) in [("A", &a), ("B", &b)] {
            for (reason, count) in status.worker_drops() {
                add(&mut other_drops, &format!("{gateway}:{reason}"), count);
            }
            for (reason, count) in status.kernel_drops() {
                add(&mut other_drops, &format!("{gateway}:{reason}"), count);
            }
        }
        Ok(Self {
            at,
            tunnels,
            other_drops,
            arrived,
        })
    }
}

/// With traffic one way a tunnel's name, with traffic both ways also which.
fn row_name(tunnel: u32, sender: Side, ways: usize) -> String {
    match (ways, sender) {
        (1, _) => format!("t{tunnel}"),
        (_, Side::A) => format!("t{tunnel} out"),
        (_, Side::B) => format!("t{tunnel} in"),
    }
}

fn add(drops: &mut BTreeMap<String, u64>, reason: &str, count: u64) {
    if count > 0 {
        *drops.entry(reason.to_owned()).or_default() += count;
    }
}

/// A tunnel and direction between two looks.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(super) struct TunnelRate {
    pub(super) name: String,
    pub(super) up: bool,
    /// Bits of outer packets a second that passed.
    pub(super) bits_per_second: f64,
    /// Packets a second that passed.
    pub(super) packets_per_second: f64,
    /// Share of the ceiling in use: the larger of bits and packets; 0 without a ceiling.
    pub(super) share: f64,
    /// Drops by reason between the two looks.
    pub(super) drops: BTreeMap<String, u64>,
}

/// Everything between two looks.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(super) struct Rates {
    pub(super) seconds: f64,
    pub(super) tunnels: Vec<TunnelRate>,
    pub(super) other_drops: BTreeMap<String, u64>,
    /// Test packets a second that arrived, both ways together.
    pub(super) packets_per_second: f64,
    /// Bits of their IP packets a second.
    pub(super) bits_per_second: f64,
    /// Packets and bits a second that arrived, by sender.
    pub(super) ways: Vec<(f64, f64)>,
}

impl Rates {
    pub(super) fn between(before: &Sample, after: &Sample, cap: Cap) -> Self {
        let seconds = (after.at - before.at).as_secs_f64().max(1e-3);
        let per_second = |a: u64, b: u64| b.saturating_sub(a) as f64 / seconds;
        let tunnels = before
            .tunnels
            .iter()
            .zip(&after.tunnels)
            .map(|(a, b)| {
                let bits = 8.0 * per_second(a.passed_bytes, b.passed_bytes);
                let packets = per_second(a.passed, b.passed);
                let share = |rate: f64, cap: u64| if cap == 0 { 0.0 } else { rate / cap as f64 };
                TunnelRate {
                    name: b.name.clone(),
                    up: b.up,
                    bits_per_second: bits,
                    packets_per_second: packets,
                    share: share(bits, cap.bits_per_second)
                        .max(share(packets, cap.packets_per_second)),
                    drops: grown(&a.drops, &b.drops),
                }
            })
            .collect();
        let both = before.arrived.iter().zip(&after.arrived);
        let ways: Vec<(f64, f64)> = both
            .map(|(a, b)| {
                let packets = b.0.saturating_sub(a.0);
                // The sink counts frames; what tunnels carry is the IP packet.
                let bytes = b.1.saturating_sub(a.1) - ETHERNET * packets;
                (packets as f64 / seconds, 8.0 * bytes as f64 / seconds)
            })
            .collect();
        Self {
            seconds,
            tunnels,
            other_drops: grown(&before.other_drops, &after.other_drops),
            packets_per_second: ways.iter().map(|way| way.0).sum(),
            bits_per_second: ways.iter().map(|way| way.1).sum(),
            ways,
        }
    }
}

/// Bytes of an Ethernet header.
const ETHERNET: u64 = 14;

fn grown(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    after
        .iter()
        .map(|(reason, &n)| {
            (
                reason.clone(),
                n - before.get(reason).copied().unwrap_or(0).min(n),
            )
        })
        .filter(|&(_, n)| n > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rates_are_differences_over_time() {
        let at = Instant::now();
        let sample = |at, passed, dropped| Sample {
            at,
            tunnels: vec![TunnelSample {
                name: "t0".into(),
                up: true,
                passed,
                passed_bytes: passed * 1000,
                drops: BTreeMap::from([("over_bit_ceiling".into(), dropped)]),
            }],
            other_drops: BTreeMap::new(),
            arrived: vec![(passed, passed * 914); 2],
        };
        let cap = Cap {
            bits_per_second: 16_000,
            packets_per_second: 1000,
        };
        let before = sample(at, 10, 5);
        let rates = Rates::between(&before, &sample(at + Duration::from_secs(2), 12, 9), cap);
        assert!((rates.tunnels[0].bits_per_second - 8000.0).abs() < 1e-6);
        assert!((rates.tunnels[0].share - 0.5).abs() < 1e-6);
        assert_eq!(rates.tunnels[0].drops["over_bit_ceiling"], 4);
        assert!((rates.ways[1].0 - 1.0).abs() < 1e-6);
        assert!((rates.packets_per_second - 2.0).abs() < 1e-6);
        assert!((rates.bits_per_second - 14_400.0).abs() < 1e-6);
    }
}
