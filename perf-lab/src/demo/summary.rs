//! What a demonstration found, for people and as JSON.

use std::{fmt, path::PathBuf, time::Duration};

use serde::Serialize;
use serde_json::Value;

use super::{DemoOptions, Direction, sample::Rates};
use crate::{
    gateway::Status,
    policer::Cap,
    topology::Side,
    traffic::{FlowReport, LatencyReport, TrafficReport},
};

/// Bits a second in Gbps.
pub(super) fn gigabits(bits: f64) -> f64 {
    bits / 1e9
}

/// A ceiling in words.
pub(super) fn cap_text(cap: Cap) -> String {
    if cap == Cap::NONE {
        return "nothing".into();
    }
    let mut words = Vec::new();
    if cap.bits_per_second > 0 {
        words.push(format!("{} Gbps", gigabits(cap.bits_per_second as f64)));
    }
    if cap.packets_per_second > 0 {
        words.push(format!("{} packets/s", cap.packets_per_second));
    }
    words.join(" and ")
}

/// Which AES runs and how frames move.
pub(super) fn engine(status: &Status) -> String {
    let modes: Vec<String> = status
        .ports()
        .iter()
        .map(|p| {
            format!(
                "{} {}{}",
                p["interface"].as_str().unwrap_or("?"),
                p["mode"].as_str().unwrap_or("?"),
                if p["native_xdp"] == true {
                    ", native XDP"
                } else {
                    ""
                }
            )
        })
        .collect();
    format!("AES: {}; AF_XDP: {}", status.aead(), modes.join("; "))
}

/// One phase, and in it the traffic one way.
#[derive(Clone, Debug, Serialize)]
pub struct WaySummary {
    /// The site that sends: `A` or `B`.
    pub from: char,
    /// Packets a second that the generator sent.
    pub offered_packets_per_second: f64,
    /// Packets a second that arrived.
    pub packets_per_second: f64,
    /// Bits of inner IP packets a second that arrived.
    pub bits_per_second: f64,
    /// Flows that lost something.
    pub flows_with_loss: usize,
    /// Flows in which order was not kept.
    pub flows_reordered: usize,
    /// One-way latency, microseconds.
    pub latency: LatencyReport,
    /// All flows.
    pub traffic: TrafficReport,
}

impl WaySummary {
    pub(super) fn new(
        from: Side,
        offered: f64,
        (packets, bits): (f64, f64),
        traffic: TrafficReport,
    ) -> Self {
        let count =
            |column: fn(&FlowReport) -> u64| traffic.flows.iter().filter(|f| column(f) > 0).count();
        Self {
            from: from.letter(),
            offered_packets_per_second: offered,
            packets_per_second: packets,
            bits_per_second: bits,
            flows_with_loss: count(|f| f.lost),
            flows_reordered: count(|f| f.reordered),
            latency: traffic.latency,
            traffic,
        }
    }
}

/// One phase; figures are those of all its traffic.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseSummary {
    /// Its name.
    pub name: String,
    /// Packets a second that the generators sent.
    pub offered_packets_per_second: f64,
    /// Packets a second that arrived.
    pub packets_per_second: f64,
    /// Bits of inner IP packets a second that arrived.
    pub bits_per_second: f64,
    /// Packets sent over the whole phase.
    pub sent: u64,
    /// Of them lost.
    pub lost: u64,
    /// Duplicated.
    pub duplicates: u64,
    /// Reordered inside their flow.
    pub reordered: u64,
    /// The traffic of each way.
    pub ways: Vec<WaySummary>,
    /// What the tunnels carried.
    pub(super) rates: Rates,
    #[serde(skip)]
    cap: Option<Cap>,
}

impl PhaseSummary {
    pub(super) fn new(name: &str, rates: Rates, ways: Vec<WaySummary>) -> Self {
        let total =
            |column: fn(&FlowReport) -> u64| ways.iter().map(|w| w.traffic.total(column)).sum();
        Self {
            name: name.into(),
            offered_packets_per_second: ways.iter().map(|w| w.offered_packets_per_second).sum(),
            packets_per_second: rates.packets_per_second,
            bits_per_second: rates.bits_per_second,
            sent: total(|f| f.sent),
            lost: total(|f| f.lost),
            duplicates: total(|f| f.duplicates),
            reordered: total(|f| f.reordered),
            ways,
            rates,
            cap: None,
        }
    }

    /// The latency of the slower way.
    fn latency(&self) -> LatencyReport {
        let ways = self.ways.iter().map(|way| way.latency);
        ways.max_by(|a, b| a.p99.total_cmp(&b.p99))
            .unwrap_or_default()
    }

    pub(super) fn with_cap(mut self, cap: Cap) -> Self {
        self.cap = Some(cap);
        self
    }

    pub(super) fn cap(&self) -> Cap {
        self.cap.unwrap_or(Cap::NONE)
    }

    /// In one line.
    pub(super) fn line(&self) -> String {
        let latency = self.latency();
        let ways = match self.ways.as_slice() {
            [_] => String::new(),
            ways => {
                let way = |w: &WaySummary| {
                    let gigabits = gigabits(w.bits_per_second);
                    format!("from {} {gigabits:.3} Gbps", w.from)
                };
                format!(" [{}]", ways.iter().map(way).collect::<Vec<_>>().join(", "))
            }
        };
        format!(
            "{:.3} Gbps ({:.1} kpps) of {:.1} kpps offered; lost {} of {} ({:.3} %), duplicated {}, \
             reordered {}; latency µs p50 {:.0} p99 {:.0}{ways}",
            gigabits(self.bits_per_second),
            self.packets_per_second / 1e3,
            self.offered_packets_per_second / 1e3,
            self.lost,
            self.sent,
            100.0 * self.lost as f64 / (self.sent as f64).max(1.0),
            self.duplicates,
            self.reordered,
            latency.p50,
            latency.p99,
        )
    }
}

/// The whole demonstration.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Which way traffic flowed.
    pub direction: Direction,
    /// Tunnels.
    pub tunnels: u16,
    /// Cipher.
    pub suite: String,
    /// Packet lengths.
    pub size: String,
    /// Flows a phase.
    pub flows: u16,
    /// Ceiling of a tunnel, bits a second.
    pub cap_bits_per_second: u64,
    /// Ceiling of a tunnel, packets a second.
    pub cap_packets_per_second: u64,
    /// Which AES runs.
    pub aead: String,
    /// How the interfaces are served.
    pub ports: Vec<Value>,
    /// Cores: gateway A's workers, gateway B's workers, the generators that ran.
    pub cores: (Vec<u16>, Vec<u16>, Vec<u16>),
    /// From the start of gateway A's process to committed tables, milliseconds.
    pub start_millis: u128,
    /// The phases.
    pub phases: Vec<PhaseSummary>,
    /// What all tunnels carried over what one carried.
    pub factor: f64,
    /// Workers of both gateways at the end.
    pub workers: [Vec<Value>; 2],
    /// Resident memory of both data planes at the end, bytes.
    pub memory_bytes: [u64; 2],
    #[serde(skip)]
    pub(super) options_json: Option<PathBuf>,
}

impl Summary {
    pub(super) fn new(options: &DemoOptions, status: &Status, started_in: Duration) -> Self {
        Self {
            direction: options.direction,
            tunnels: options.tunnels,
            suite: options.suite.to_string(),
            size: options.sizes.to_string(),
            flows: options.flows,
            cap_bits_per_second: options.cap.bits_per_second,
            cap_packets_per_second: options.cap.packets_per_second,
            aead: status.aead().into(),
            ports: status.ports().to_vec(),
            cores: (
                options.placement.a.clone(),
                options.placement.b.clone(),
                options
                    .direction
                    .senders()
                    .iter()
                    .map(|&sender| options.placement.generator(sender))
                    .collect(),
            ),
            start_millis: started_in.as_millis(),
            phases: Vec::new(),
            factor: 0.0,
            workers: [Vec::new(), Vec::new()],
            memory_bytes: [0; 2],
            options_json: options.json.clone(),
        }
    }

    pub(super) fn add(&mut self, phases: Vec<PhaseSummary>) {
        if let [one, all, ..] = phases.as_slice()
            && one.bits_per_second > 0.0
        {
            self.factor = all.bits_per_second / one.bits_per_second;
        }
        self.phases = phases;
    }

    pub(super) fn read_end(&mut self, a: &Status, b: &Status) {
        for (index, status) in [a, b].into_iter().enumerate() {
            self.workers[index] = status.workers().to_vec();
            self.memory_bytes[index] = status.memory_bytes();
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nSummary: {} tunnels, {}, {} B, {} flows; AES {}",
            self.tunnels, self.suite, self.size, self.flows, self.aead
        )?;
        writeln!(
            f,
            "{:<36} {:>7} {:>8} {:>8} {:>9} {:>6} {:>8} {:>9} {:>9}",
            "phase", "Gbps", "kpps", "loss %", "reordered", "dupl.", "p50 µs", "p99 µs", "p99.9 µs"
        )?;
        for phase in &self.phases {
            let latency = phase.latency();
            writeln!(
                f,
                "{:<36} {:>7.3} {:>8.1} {:>8.3} {:>9} {:>6} {:>8.0} {:>9.0} {:>9.0}",
                phase.name,
                gigabits(phase.bits_per_second),
                phase.packets_per_second / 1e3,
                100.0 * phase.lost as f64 / (phase.sent as f64).max(1.0),
                phase.reordered,
                phase.duplicates,
                latency.p50,
                latency.p99,
                latency.p999,
            )?;
            for way in phase.ways.iter().filter(|_| phase.ways.len() > 1) {
                writeln!(
                    f,
                    "{:<36} {:>7.3} {:>8.1} {:>8.3}",
                    format!("  from {}", way.from),
                    gigabits(way.bits_per_second),
                    way.packets_per_second / 1e3,
                    100.0 * way.traffic.total(|f| f.lost) as f64
                        / (way.traffic.total(|f| f.sent) as f64).max(1.0),
                )?;
            }
        }
        let (a, b, generators) = &self.cores;
        writeln!(
            f,
            "cores: gateway A {a:?}, gateway B {b:?}, generator {generators:?}; started in {} ms; \
             data plane memory {:.0} and {:.0} MiB",
            self.start_millis,
            self.memory_bytes[0] as f64 / 1_048_576.0,
            self.memory_bytes[1] as f64 / 1_048_576.0,
        )?;
        write!(
            f,
            "All tunnels together carry {:.2} times what one carries.",
            self.factor
        )
    }
}
