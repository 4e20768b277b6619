//! The demonstration: a pair of gateways, N tunnels with a ceiling each; first one tunnel, then all
//! of them, then traffic below the ceilings that must arrive whole and in order.
//!
//! Where the time goes on a machine of two cores, and why the placement is as it is: a packet is
//! made, taken in by gateway A, encrypted, sent, policed, taken in by gateway B, decrypted, sent and
//! counted. On veth every send runs the receiver's soft interrupt on the sender's core. So the core
//! of gateway A's worker also carries the policer and gateway B's receive copy; the core of gateway
//! B's worker carries the sink and, as it has less to do, the generator with gateway A's receive
//! copy. The generator runs at the lowest priority: it takes what gateway B leaves.

mod phase;
mod sample;
mod summary;
mod table;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use hawser_aead::Suite;

pub use summary::{PhaseSummary, Summary};

use crate::{
    config::{GatewaySpec, KeysBy, PairSpec, TunnelSpec},
    gateway::Pair,
    interrupt,
    output::say,
    policer::{Cap, Policer},
    topology::{SITE_INTERFACE, Side, Topology, TopologyConfig},
    traffic::{Sizes, live::LiveSink},
};

/// Which way traffic flows, seen from site A.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From site A to site B.
    #[default]
    Out,
    /// From site B to site A.
    In,
    /// Both at once, each with the whole load.
    Both,
}

impl Direction {
    /// The sites that send.
    #[must_use]
    pub fn senders(self) -> &'static [Side] {
        match self {
            Self::Out => &[Side::A],
            Self::In => &[Side::B],
            Self::Both => &[Side::A, Side::B],
        }
    }
}

/// What to demonstrate.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Which way traffic flows.
    pub direction: Direction,
    /// Tunnels of the pair.
    pub tunnels: u16,
    /// Length of each phase, seconds.
    pub seconds: u16,
    /// Lengths of the inner packets.
    pub sizes: Sizes,
    /// UDP flows.
    pub flows: u16,
    /// Ceiling of each tunnel and direction.
    pub cap: Cap,
    /// Cipher of all tunnels.
    pub suite: Suite,
    /// Where the tunnels' keys come from.
    pub keys: KeysBy,
    /// Where to write the summary as JSON.
    pub json: Option<PathBuf>,
    /// Lines instead of a table that redraws itself.
    pub plain: bool,
    /// Which cores do what.
    pub placement: Placement,
}

/// Which cores do what.
#[derive(Clone, Debug)]
pub struct Placement {
    /// Workers of gateway A.
    pub a: Vec<u16>,
    /// Workers of gateway B.
    pub b: Vec<u16>,
    /// The generator at site A.
    pub generator: u16,
    /// The generator at site B.
    pub generator_b: u16,
    /// Queues of each interface.
    pub queues: u16,
    /// What idle workers do.
    pub idle: &'static str,
}

impl Placement {
    /// The best found for this number of cores.
    #[must_use]
    pub fn for_cores(cores: usize) -> Self {
        let core = |n: usize| (n % cores.max(1)) as u16;
        // Where the generator has to share a worker's core, a worker that sleeps at once leaves more
        // to it: on two cores 3.66 instead of 3.00 Gbps over all tunnels.
        let idle = if cores < 3 { "poll" } else { "adaptive" };
        Self {
            a: vec![core(1)],
            b: vec![core(2)],
            generator: 0,
            generator_b: core(3),
            queues: 1,
            idle,
        }
    }

    fn describe(&self) -> String {
        format!(
            "gateway A on core {:?}, gateway B on core {:?}, generators on core {} (A) and {} (B); {} \
             queue(s), idle: {}",
            self.a, self.b, self.generator, self.generator_b, self.queues, self.idle
        )
    }

    fn generator(&self, sender: Side) -> u16 {
        match sender {
            Side::A => self.generator,
            Side::B => self.generator_b,
        }
    }
}

impl Default for Placement {
    fn default() -> Self {
        Self::for_cores(std::thread::available_parallelism().map_or(1, usize::from))
    }
}

/// All that runs during a demonstration.
struct Lab {
    // Order matters: programs and processes go before the network that they are in.
    /// One for each site that sends, at the other one; in the order of [`Direction::senders`].
    sinks: Vec<LiveSink>,
    policer: Policer,
    pair: Pair,
    topology: Topology,
    options: DemoOptions,
}

/// Phases have flows of their own, so that each has its own counters in the sink.
const PHASES: u32 = 4;

/// Runs the demonstration and prints what it sees.
///
/// # Errors
/// When the lab cannot be built, a gateway fails, or the user interrupts.
pub fn run(options: DemoOptions) -> Result<Summary> {
    ensure!(options.tunnels >= 1, "at least one tunnel");
    ensure!(
        options.flows >= 1 && options.flows <= 4096,
        "between 1 and 4096 flows"
    );
    ensure!(
        options.seconds >= 2,
        "a phase takes at least 2 seconds: the first is not counted"
    );
    let ways = options.direction.senders().len();
    let mut view = table::View::new(options.plain, usize::from(options.tunnels) * ways);
    view.say(&format!(
        "Hawser: {} ESP tunnels ({}, {}) between two gateways, each capped at {}",
        options.tunnels,
        options.suite,
        options.keys.describe(),
        summary::cap_text(options.cap),
    ))?;
    let busy = others_take()?;
    if busy > 0.2 {
        view.say(&format!(
            "note: other programs take {:.0} % of the processors; figures will be smaller for it",
            100.0 * busy
        ))?;
    }
    let mut lab = Lab::build(options)?;
    let status = lab.pair.a.status()?;
    view.say(&format!(
        "{}\n{}",
        summary::engine(&status),
        lab.options.placement.describe()
    ))?;
    let mut summary = Summary::new(&lab.options, &status, lab.pair.a.started_in);

    let one = phase::overload(&mut lab, &mut view, phase::Spread::OneTunnel, 0)?;
    let all = phase::overload(&mut lab, &mut view, phase::Spread::AllTunnels, 1)?;
    let calm_one = phase::below_ceiling(&mut lab, &mut view, phase::Spread::OneTunnel, 2, &one)?;
    let calm_all = phase::below_ceiling(&mut lab, &mut view, phase::Spread::AllTunnels, 3, &all)?;
    summary.add(vec![one, all, calm_one, calm_all]);

    summary.read_end(&lab.pair.a.status()?, &lab.pair.b.status()?);
    lab.close()?;
    view.finish();
    // The file first: it is there for whoever asked for it, also when nobody reads on.
    if let Some(path) = &summary.options_json {
        let text = serde_json::to_string_pretty(&summary)?;
        std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    }
    say(&summary)?;
    if let Some(path) = &summary.options_json {
        say(format_args!("Figures: {}", path.display()))?;
    }
    Ok(summary)
}

/// The share of all processors that is in use before the lab does anything, from half a second of
/// `/proc/stat`.
fn others_take() -> Result<f64> {
    let before = processor_times(&std::fs::read_to_string("/proc/stat")?);
    interrupt::sleep(std::time::Duration::from_millis(500))?;
    let after = processor_times(&std::fs::read_to_string("/proc/stat")?);
    let [all, idle] = [0, 1].map(|i| after[i].saturating_sub(before[i]) as f64);
    Ok(if all > 0.0 { (all - idle) / all } else { 0.0 })
}

/// All time and idle time of the first line of `/proc/stat` (proc(5)): idle and iowait are its
/// fourth and fifth figures, guest times after the eighth are in the first two already.
fn processor_times(stat: &str) -> [u64; 2] {
    let line = stat.lines().next().unwrap_or_default();
    let times: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|n| n.parse().ok())
        .collect();
    [times.iter().sum(), times.iter().skip(3).take(2).sum()]
}

impl Lab {
    fn build(options: DemoOptions) -> Result<Self> {
        let placement = &options.placement;
        let topology = Topology::build(TopologyConfig {
            queues: placement.queues,
            inside_mtu: options.sizes.largest().max(1500),
            tunnels: options.tunnels.into(),
            // Room for ESP and the outer header, so that the path and not fragmentation is seen.
            outside_mtu: options.sizes.largest().max(1400) + 100,
            ..TopologyConfig::default()
        })?;
        let policer = Policer::attach(&topology, options.cap)?;
        let capacity = PHASES * u32::from(options.flows);
        let sinks = options.direction.senders().iter();
        let sinks = sinks
            .map(|sender| LiveSink::attach(topology.site(sender.other()), SITE_INTERFACE, capacity))
            .collect::<Result<_>>()?;
        let gateway = |cores: &[u16]| GatewaySpec {
            cores: cores.to_vec(),
            idle: placement.idle,
            ..GatewaySpec::default()
        };
        let tunnel = TunnelSpec {
            suite: options.suite,
            ..TunnelSpec::default()
        };
        let spec = PairSpec {
            tunnels: vec![tunnel; options.tunnels.into()],
            a: gateway(&placement.a),
            b: gateway(&placement.b),
            keys: options.keys.source(),
        };
        let pair = Pair::start(&topology, spec)?;
        Ok(Self {
            sinks,
            policer,
            pair,
            topology,
            options,
        })
    }

    fn close(self) -> Result<()> {
        let Self {
            sinks,
            policer,
            pair,
            topology,
            options: _,
        } = self;
        pair.stop()?;
        drop((sinks, policer, topology));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_times_are_read() {
        let stat = "cpu  10 1 20 300 40 0 5 6 7 8\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(processor_times(stat), [382, 340]);
        assert_eq!(processor_times(""), [0, 0]);
    }

    #[test]
    fn every_machine_has_a_placement() {
        for cores in 1..=8 {
            let placement = Placement::for_cores(cores);
            let used = placement
                .a
                .iter()
                .chain(&placement.b)
                .chain([&placement.generator, &placement.generator_b]);
            assert!(
                used.into_iter().all(|&core| usize::from(core) < cores),
                "{cores}"
            );
        }
        assert_eq!(Placement::for_cores(2).a, [1]);
        assert_eq!(Placement::for_cores(2).b, [0]);
        // Each generator beside the gateway that it does not feed.
        assert_eq!(Placement::for_cores(2).generator, 0);
        assert_eq!(Placement::for_cores(2).generator_b, 1);
    }
}
