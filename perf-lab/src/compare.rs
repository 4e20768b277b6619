//! Hawser beside another gateway: same machine, same network, same traffic, in turns.
//!
//! Identical runs on a shared machine differ by a factor of two, so only runs next to each other
//! compare: each round measures one gateway and then the other, the order changing from round to
//! round, and what is reported is the ratio of the medians, with every single figure beside it.
//!
//! ```text
//!  siteA: generator (core 0) ──── gwA: the gateway (core 1) ──── out: interface statistics
//! ```
//!
//! The generator sends as fast as it can. The gateway encrypts with AES-128-GCM on one core; the
//! soft interrupts of its interfaces run where veth puts them: reception on the generator's core,
//! the far end of transmission on the gateway's. So the outside port does as little as a port can, for
//! all gateways alike: no XDP program, no forwarding, no GRO (which alone took a fifth of the time of
//! Hawser's core); what arrives there is counted by the kernel.
//!
//! Limits: encryption only. The other gateways choose no tunnel by flow: with several tunnels
//! DPDK's takes one by destination network and the flows are spread over those.

mod peers;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use peers::{folder, start_secgw, start_strongswan};
use serde::Serialize;

use crate::{
    config::{GatewaySpec, PairSpec, TunnelSpec, draw_keys},
    gateway::Gateway,
    interrupt,
    netns::Namespace,
    output::say,
    topology::{Family, SITE_INTERFACE, Side, Topology, TopologyConfig, outside_port},
    traffic::{
        Endpoints, FlowSpec, Sizes, flows,
        live::{LiveGenerator, LiveLoad},
    },
};

/// The generator's core.
const GENERATOR_CORE: usize = 0;
/// The gateway's core.
const GATEWAY_CORE: u16 = 1;
/// Time to reach a steady state before counting begins.
const WARM_UP: Duration = Duration::from_millis(700);
/// As fast as the generator can.
const FLAT_OUT: [u64; 1] = [0];
/// Packets a second offered to strongSwan in turn. The kernel in front of it spends its time on
/// packets that its TUN device then drops, so it may do best below the largest load; what counts
/// is the best.
const STRONGSWAN_LOADS: [u64; 4] = [30_000, 50_000, 80_000, 0];
/// Most tunnels: the third byte of the inner destination address tells them apart, and addresses with
/// 128 and more there lead to the first tunnel only.
pub const MAX_TUNNELS: u16 = 128;

/// Whom to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Peer {
    /// DPDK's ipsec-secgw with `net_af_xdp` and `crypto_aesni_gcm`.
    Secgw,
    /// strongSwan with kernel-libipsec: ESP in user space, in UDP.
    Strongswan,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secgw => "DPDK ipsec-secgw",
            Self::Strongswan => "strongSwan kernel-libipsec",
        })
    }
}

/// What to compare.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// With whom.
    pub peer: Peer,
    /// Inner packet lengths in bytes, each compared on its own.
    pub sizes: Vec<u16>,
    /// Tunnels.
    pub tunnels: u16,
    /// UDP flows.
    pub flows: u16,
    /// Rounds: measurements of each gateway and size.
    pub rounds: u16,
    /// Length of a measurement.
    pub seconds: u16,
    /// Where the figures go.
    pub json: Option<PathBuf>,
}

/// What was measured of one gateway at one size.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Encrypted packets a second, one a round.
    pub packets_per_second: Vec<f64>,
    /// Their median.
    pub median: f64,
    /// Bits of inner packets a second at the median.
    pub inner_bits_per_second: f64,
}

/// The comparison at one packet length.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Inner packet length in bytes.
    pub size: u16,
    /// Ours.
    pub hawser: Figures,
    /// The other.
    pub peer: Figures,
    /// Ours to theirs, medians.
    pub ratio: f64,
    /// Ours to theirs, round by round.
    pub ratios: Vec<f64>,
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// With whom.
    pub peer: Peer,
    /// Tunnels.
    pub tunnels: u16,
    /// UDP flows.
    pub flows: u16,
    /// Seconds of each measurement.
    pub seconds: u16,
    /// By packet length.
    pub comparisons: Vec<Comparison>,
}

/// Compares, prints and writes the figures.
///
/// # Errors
/// Without root, when a gateway does not start, or when what leaves it is not ESP.
pub fn run(options: &CompareOptions) -> Result<Report> {
    check(options)?;
    if options.peer == Peer::Secgw {
        // Before the first measurement, not in it.
        crate::shell::run(&folder()?.join("build-secgw").display().to_string())?;
    }
    let mut report = Report {
        peer: options.peer,
        tunnels: options.tunnels,
        flows: options.flows,
        seconds: options.seconds,
        comparisons: Vec::new(),
    };
    say(format_args!(
        "Hawser and {}: AES-128-GCM, {} tunnel(s), {} flows, one core each in turn",
        options.peer, options.tunnels, options.flows
    ))?;
    for &size in &options.sizes {
        let mut rates = [Vec::new(), Vec::new()];
        for round in 0..options.rounds {
            for turn in 0..2 {
                let theirs = (round + turn) % 2 == 1;
                let rate = measure(options, size, theirs)?;
                rates[usize::from(theirs)].push(rate);
            }
            say(format_args!(
                "{size:>5} B  round {}: {:>7.1} kpps, {:>7.1} kpps of theirs",
                round + 1,
                rates[0][usize::from(round)] / 1e3,
                rates[1][usize::from(round)] / 1e3
            ))?;
        }
        let comparison = compare(size, &rates);
        say(&comparison)?;
        report.comparisons.push(comparison);
    }
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(report)
}

fn check(options: &CompareOptions) -> Result<()> {
    ensure!(options.rounds >= 1, "at least one round is needed");
    ensure!(options.seconds >= 1, "a measurement takes at least 1 s");
    ensure!(
        (1..=MAX_TUNNELS).contains(&options.tunnels),
        "between 1 and {MAX_TUNNELS} tunnels, not {}",
        options.tunnels
    );
    ensure!(
        options.flows >= options.tunnels,
        "{} flows cannot fill {} tunnels",
        options.flows,
        options.tunnels
    );
    ensure!(
        options.peer == Peer::Secgw || options.tunnels == 1,
        "strongSwan is compared with one tunnel"
    );
    for &size in &options.sizes {
        ensure!(
            (46..=1400).contains(&size),
            "inner packets of 46 to 1400 bytes, not {size}"
        );
    }
    ensure!(
        std::thread::available_parallelism()?.get() >= 2,
        "two cores are needed: one for the generator, one for the gateway"
    );
    Ok(())
}

fn compare(size: u16, rates: &[Vec<f64>; 2]) -> Comparison {
    let figures = |rates: &[f64]| {
        let median = median(rates);
        Figures {
            packets_per_second: rates.to_vec(),
            median,
            inner_bits_per_second: median * f64::from(size) * 8.0,
        }
    };
    let (hawser, peer) = (figures(&rates[0]), figures(&rates[1]));
    Comparison {
        size,
        ratio: hawser.median / peer.median,
        ratios: rates[0].iter().zip(&rates[1]).map(|(a, b)| a / b).collect(),
        hawser,
        peer,
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |figures: &Figures| {
            format!(
                "{:.1} kpps, {:.2} Gbps",
                figures.median / 1e3,
                figures.inner_bits_per_second / 1e9
            )
        };
        write!(
            f,
            "{:>5} B  medians: {}; theirs {}; ratio {:.2}",
            self.size,
            line(&self.hawser),
            line(&self.peer),
            self.ratio
        )
    }
}

/// Middle of the sorted values, or the mean of the two in the middle; 0 of none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// One measurement on a network of its own; packets a second that came out encrypted.
fn measure(options: &CompareOptions, size: u16, theirs: bool) -> Result<f64> {
    let topology = Topology::build(TopologyConfig {
        tunnels: options.tunnels.into(),
        ..TopologyConfig::default()
    })?;
    let rate = if theirs {
        let (running, offered): (_, &[u64]) = match options.peer {
            Peer::Secgw => (start_secgw(&topology, options.tunnels)?, &FLAT_OUT),
            Peer::Strongswan => (start_strongswan(&topology)?, &STRONGSWAN_LOADS),
        };
        let rate = load(&topology, options, size, offered)?;
        drop(running);
        rate
    } else {
        let gateway = start_hawser(&topology, options)?;
        let rate = load(&topology, options, size, &FLAT_OUT)?;
        gateway.stop()?;
        rate
    };
    ensure!(rate > 0.0, "nothing came out of the gateway");
    Ok(rate)
}

fn start_hawser(topology: &Topology, options: &CompareOptions) -> Result<Gateway> {
    let tunnel = TunnelSpec {
        // As strongSwan's: it has no other.
        udp: options.peer == Peer::Strongswan,
        ..TunnelSpec::default()
    };
    let spec = PairSpec {
        tunnels: vec![tunnel; options.tunnels.into()],
        a: GatewaySpec {
            cores: vec![GATEWAY_CORE],
            idle: "spin",
            ..GatewaySpec::default()
        },
        ..PairSpec::default()
    };
    let keys = draw_keys(&spec)?;
    Gateway::start(topology, Side::A, &spec, &keys)
}

/// Sends and counts what leaves the gateway: packets a second, the best of the `offered` loads.
fn load(topology: &Topology, options: &CompareOptions, size: u16, offered: &[u64]) -> Result<f64> {
    let port = outside_port(Side::A);
    // Nothing beyond the port: forwarding to gateway B would cost the gateway's core.
    topology
        .outside()
        .ip(&format!("link set {port} nomaster"))?;
    // Nor does it look for packets to join, which is an end host's business.
    topology
        .outside()
        .exec(&format!("ethtool -K {port} gro off"))?;
    let mut generator = LiveGenerator::start(
        topology.site(Side::A),
        SITE_INTERFACE,
        &LiveLoad {
            flows: spread(options),
            sizes: Sizes::fixed(size),
            packets_per_second: offered.first().copied().unwrap_or(0),
            core: Some(GENERATOR_CORE),
            background: false,
        },
    )?;
    let mut best = 0.0_f64;
    for &rate in offered {
        generator.set_rate(rate)?;
        interrupt::sleep(WARM_UP)?;
        let rate = count(topology, options, size)?;
        best = best.max(rate);
    }
    generator.finish()?;
    Ok(best)
}

/// Packets a second at the outside port over the time of a measurement.
fn count(topology: &Topology, options: &CompareOptions, size: u16) -> Result<f64> {
    let port = outside_port(Side::A);
    let before = counted(topology.outside(), port)?;
    let began = Instant::now();
    interrupt::sleep(Duration::from_secs(options.seconds.into()))?;
    let after = counted(topology.outside(), port)?;
    let seconds = began.elapsed().as_secs_f64();

    let packets = (after.0 - before.0) as f64;
    let bytes = (after.1 - before.1) as f64;
    // Outer IP header, SPI, sequence number, IV, trailer and ICV at the least: what leaves the gateway
    // smaller than that is not encrypted. Whether the Ethernet header is counted depends on the
    // features of the link.
    let least = f64::from(size) + 20.0 + 8.0 + 8.0 + 2.0 + 16.0;
    ensure!(
        packets == 0.0 || bytes / packets >= least,
        "packets of {:.0} bytes left the gateway, but {least:.0} is the least that ESP makes",
        bytes / packets
    );
    Ok(packets / seconds)
}

/// Flows to as many destination networks as there are tunnels.
fn spread(options: &CompareOptions) -> Vec<FlowSpec> {
    let mut flows = flows(Side::A, Family::V4, Endpoints::Spread, 0, options.flows);
    for (n, flow) in flows.iter_mut().enumerate() {
        if let IpAddr::V4(address) = flow.destination {
            let [a, b, _, d] = address.octets();
            let network = (n % usize::from(options.tunnels)) as u8;
            flow.destination = Ipv4Addr::new(a, b, network, d).into();
        }
    }
    flows
}

/// Packets and bytes that arrived at an interface.
fn counted(namespace: &Namespace, interface: &str) -> Result<(u64, u64)> {
    let text = namespace.ip(&format!("-j -s link show {interface}"))?;
    let links: serde_json::Value =
        serde_json::from_str(&text).context("`ip -j` printed no JSON")?;
    let received = &links[0]["stats64"]["rx"];
    let number = |name: &str| {
        received[name]
            .as_u64()
            .with_context(|| format!("no {name} in the statistics of {interface}"))
    };
    Ok((number("packets")?, number("bytes")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> CompareOptions {
        CompareOptions {
            peer: Peer::Secgw,
            sizes: vec![1400],
            tunnels: 8,
            flows: 64,
            rounds: 1,
            seconds: 1,
            json: None,
        }
    }

    #[test]
    fn medians_and_ratios() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        let comparison = compare(1000, &[vec![300.0, 200.0, 100.0], vec![100.0, 50.0, 100.0]]);
        assert_eq!(comparison.ratio, 2.0);
        assert_eq!(comparison.ratios, [3.0, 4.0, 1.0]);
        assert_eq!(comparison.hawser.inner_bits_per_second, 1_600_000.0);
    }

    #[test]
    fn flows_reach_every_tunnel_and_stay_in_the_site() {
        let flows = spread(&options());
        let networks: std::collections::BTreeSet<u8> = flows
            .iter()
            .map(|flow| match flow.destination {
                IpAddr::V4(address) => {
                    assert_eq!(address.octets()[..2], [10, 2]);
                    address.octets()[2]
                }
                IpAddr::V6(_) => panic!("an IPv4 flow"),
            })
            .collect();
        assert_eq!(networks, (0..8).collect());
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(
            check(&options()).is_ok() || std::thread::available_parallelism().unwrap().get() < 2
        );
        for change in [
            |o: &mut CompareOptions| o.rounds = 0,
            |o: &mut CompareOptions| o.seconds = 0,
            |o: &mut CompareOptions| o.tunnels = MAX_TUNNELS + 1,
            |o: &mut CompareOptions| o.flows = 7,
            |o: &mut CompareOptions| o.sizes = vec![1450],
            |o: &mut CompareOptions| o.peer = Peer::Strongswan,
        ] {
            let mut options = options();
            change(&mut options);
            assert!(check(&options).is_err(), "{options:?}");
        }
    }
}
