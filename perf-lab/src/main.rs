//! `hawser-lab`: networks in namespaces, traffic, measurements; see the library.
#![forbid(unsafe_code)]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use hawser_aead::Suite;
use hawser_lab::{
    compare::{self, CompareOptions, Peer},
    config::{GatewaySpec, KeysBy, PairSpec, TunnelSpec},
    demo::{self, DemoOptions, Direction, Placement},
    gateway::Pair,
    interrupt, iperf,
    netns::{remove_stale, unavailable},
    output::{ReaderGone, complain, say},
    policer::Cap,
    scenario::{self, Scenario},
    topology::{Family, Side, Topology, TopologyConfig},
    traffic::Sizes,
};

/// Network labs for Hawser: two sites, two gateways, an outside network, all in network namespaces.
#[derive(Debug, Parser)]
#[command(name = "hawser-lab", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One tunnel at its ceiling, then all tunnels, with a live table.
    Demo(DemoArgs),
    /// Checks what gateways must do, on real packets with exact counters.
    Scenario {
        /// Names of scenarios, or `all`; without one they are listed.
        names: Vec<String>,
    },
    /// TCP between the sites, through the gateways, by iperf3.
    Iperf(IperfArgs),
    /// Hawser and another gateway in turns on the same network: encryption on one core.
    Compare(CompareArgs),
    /// Builds the network with running gateways and holds it until Ctrl-C.
    Up(UpArgs),
    /// Removes what labs that were killed left behind.
    Clean,
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// Tunnels between the gateways.
    #[arg(long, default_value_t = 8)]
    tunnels: u16,
    /// Length of each phase; its first second is not counted.
    #[arg(long, default_value_t = 6)]
    seconds: u16,
    /// Inner packet length in bytes, several with commas, or `imix`.
    #[arg(long, default_value = "1400")]
    size: Sizes,
    /// Which way traffic flows, seen from site A.
    #[arg(long, value_enum, default_value_t = Direction::Out)]
    direction: Direction,
    /// UDP flows, each way.
    #[arg(long, default_value_t = 128)]
    flows: u16,
    /// Ceiling of each tunnel: BITS[/PACKETS] a second such as `1.25G/140k`, or `none`.
    #[arg(long, default_value = "1.25G/140k", value_parser = parse_cap)]
    cap: Cap,
    /// ESP suite of all tunnels.
    #[arg(long, default_value = "aes128-gcm16", value_parser = parse_suite)]
    suite: Suite,
    /// Where the tunnels' keys come from.
    #[arg(long, default_value = "ike")]
    keys: KeysBy,
    /// Writes the figures to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Lines instead of a table that redraws itself.
    #[arg(long)]
    plain: bool,
    /// Cores of gateway A's workers.
    #[arg(long, value_delimiter = ',')]
    cores_a: Option<Vec<u16>>,
    /// Cores of gateway B's workers.
    #[arg(long, value_delimiter = ',')]
    cores_b: Option<Vec<u16>>,
    /// Core of the generator at site A.
    #[arg(long)]
    generator_core: Option<u16>,
    /// Queues of each interface.
    #[arg(long)]
    queues: Option<u16>,
    /// What idle workers do.
    #[arg(long, value_parser = ["adaptive", "spin", "poll"])]
    idle: Option<String>,
}

impl DemoArgs {
    fn options(self) -> DemoOptions {
        let default = Placement::default();
        let idle = match self.idle.as_deref() {
            Some("spin") => "spin",
            Some("poll") => "poll",
            Some(_) => "adaptive",
            None => default.idle,
        };
        DemoOptions {
            direction: self.direction,
            tunnels: self.tunnels,
            seconds: self.seconds,
            sizes: self.size,
            flows: self.flows,
            cap: self.cap,
            suite: self.suite,
            keys: self.keys,
            json: self.json,
            plain: self.plain,
            placement: Placement {
                a: self.cores_a.unwrap_or(default.a),
                b: self.cores_b.unwrap_or(default.b),
                generator: self.generator_core.unwrap_or(default.generator),
                generator_b: default.generator_b,
                queues: self.queues.unwrap_or(default.queues),
                idle,
            },
        }
    }
}

#[derive(Debug, Args)]
struct IperfArgs {
    /// Seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u16,
    /// Parallel connections.
    #[arg(long, default_value_t = 4)]
    streams: u16,
    /// Tunnels between the gateways.
    #[arg(long, default_value_t = 8)]
    tunnels: u16,
    /// IPv6 inside.
    #[arg(long)]
    v6: bool,
    /// MTU of all links.
    #[arg(long, default_value_t = 1500)]
    mtu: u16,
    /// Without gateways: what the network itself carries.
    #[arg(long)]
    plain: bool,
}

#[derive(Debug, Args)]
struct CompareArgs {
    /// Whom to compare with; DPDK's is built at the first use.
    #[arg(long, value_enum, default_value = "secgw")]
    peer: Peer,
    /// Inner packet lengths in bytes, each compared on its own.
    #[arg(long, value_delimiter = ',', default_value = "1400,64")]
    size: Vec<u16>,
    /// Tunnels.
    #[arg(long, default_value_t = 1)]
    tunnels: u16,
    /// UDP flows.
    #[arg(long, default_value_t = 64)]
    flows: u16,
    /// Measurements of each gateway and length.
    #[arg(long, default_value_t = 5)]
    rounds: u16,
    /// Length of a measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u16,
    /// Writes the figures to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl CompareArgs {
    fn options(self) -> CompareOptions {
        CompareOptions {
            peer: self.peer,
            sizes: self.size,
            tunnels: self.tunnels,
            flows: self.flows,
            rounds: self.rounds,
            seconds: self.seconds,
            json: self.json,
        }
    }
}

#[derive(Debug, Args)]
struct UpArgs {
    /// Tunnels between the gateways.
    #[arg(long, default_value_t = 2)]
    tunnels: u16,
    /// MTU of all links.
    #[arg(long, default_value_t = 1500)]
    mtu: u16,
    /// ESP suite of all tunnels.
    #[arg(long, default_value = "aes128-gcm16", value_parser = parse_suite)]
    suite: Suite,
    /// Where the tunnels' keys come from.
    #[arg(long, default_value = "ike")]
    keys: KeysBy,
}

fn parse_suite(text: &str) -> Result<Suite, String> {
    text.parse().map_err(|_| {
        let names: Vec<String> = Suite::ALL.iter().map(ToString::to_string).collect();
        format!("there is no such suite; there are {}", names.join(", "))
    })
}

fn parse_cap(text: &str) -> Result<Cap, String> {
    if text == "none" {
        return Ok(Cap::NONE);
    }
    let (bits, packets) = text.split_once('/').unwrap_or((text, "0"));
    Ok(Cap {
        bits_per_second: parse_number(bits)?,
        packets_per_second: parse_number(packets)?,
    })
}

/// A number with `k`, `M` or `G`.
fn parse_number(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 1e3),
        Some((at, 'm' | 'M')) => (&text[..at], 1e6),
        Some((at, 'g' | 'G')) => (&text[..at], 1e9),
        _ => (text, 1.0),
    };
    match digits.parse::<f64>() {
        Ok(n) if n >= 0.0 && n * factor < 1e15 => Ok((n * factor).round() as u64),
        _ => Err(format!(
            "`{text}` is no number such as 140000, 140k or 1.25G"
        )),
    }
}

/// As if SIGPIPE had ended it, which a shell shows as 128 and the signal's number: not all was done.
const READER_GONE: u8 = 128 + 13;

fn main() -> ExitCode {
    let Err(error) = run(Cli::parse()) else {
        return ExitCode::SUCCESS;
    };
    if error.is::<ReaderGone>() {
        return ExitCode::from(READER_GONE);
    }
    complain(format_args!("hawser-lab: {error:#}"));
    interrupt::exit_code().map_or(ExitCode::FAILURE, ExitCode::from)
}

fn run(cli: Cli) -> Result<()> {
    if let Some(reason) = unavailable() {
        bail!("{reason}");
    }
    interrupt::install()?;
    match cli.command {
        Command::Demo(args) => demo::run(args.options()).map(drop),
        Command::Scenario { names } => run_scenarios(&names),
        Command::Iperf(args) => run_iperf(&args),
        Command::Compare(args) => compare::run(&args.options()).map(drop),
        Command::Up(args) => run_up(&args),
        Command::Clean => {
            let removed = remove_stale()?;
            hawser_lab::config::remove_stale_folders();
            say(format_args!("removed {removed} namespaces"))?;
            Ok(())
        }
    }
}

fn run_scenarios(names: &[String]) -> Result<()> {
    if names.is_empty() {
        for scenario in scenario::ALL {
            say(format_args!("{:<20} {}", scenario.name, scenario.about))?;
        }
        return Ok(());
    }
    let mut wanted = Vec::new();
    for name in names {
        match Scenario::named(name) {
            Some(scenario) => wanted.push(scenario),
            None if name == "all" => wanted.extend(scenario::ALL),
            None => bail!("there is no scenario `{name}`; `hawser-lab scenario` lists them"),
        }
    }
    let mut failed = Vec::new();
    for scenario in wanted {
        let began = std::time::Instant::now();
        match scenario.run() {
            Ok(findings) => {
                say(format_args!(
                    "ok    {} ({:.1} s)\n{findings}",
                    scenario.name,
                    began.elapsed().as_secs_f64()
                ))?;
            }
            Err(error) => {
                interrupt::check()?;
                say(format_args!("FAIL  {}\n    {error:#}\n", scenario.name))?;
                failed.push(format!(
                    "{}: {}",
                    scenario.name,
                    beginning(&format!("{error:#}"))
                ));
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    // Again, because between here and there may be hundreds of lines.
    bail!("{} failed\n{}", failed.len(), failed.join("\n"))
}

/// What went wrong, without the logs that follow it.
fn beginning(error: &str) -> String {
    const LINES: usize = 3;
    let lines: Vec<&str> = error.lines().take(LINES).map(str::trim).collect();
    lines.join(" ")
}

fn default_pair(tunnels: u16, suite: Suite, keys: KeysBy) -> PairSpec {
    let placement = Placement::default();
    let gateway = |cores: &[u16]| GatewaySpec {
        cores: cores.to_vec(),
        ..GatewaySpec::default()
    };
    PairSpec {
        tunnels: vec![
            TunnelSpec {
                suite,
                ..TunnelSpec::default()
            };
            tunnels.into()
        ],
        a: gateway(&placement.a),
        b: gateway(&placement.b),
        keys: keys.source(),
    }
}

fn run_iperf(args: &IperfArgs) -> Result<()> {
    let topology = Topology::build(TopologyConfig {
        inside_mtu: args.mtu,
        outside_mtu: args.mtu,
        tunnels: args.tunnels.into(),
        plain: args.plain,
        ..TopologyConfig::default()
    })?;
    let pair = match args.plain {
        true => None,
        false => Some(Pair::start(
            &topology,
            default_pair(args.tunnels, Suite::Aes128Gcm16, KeysBy::Manual),
        )?),
    };
    let family = if args.v6 { Family::V6 } else { Family::V4 };
    let result = iperf::run(&topology, Side::A, family, args.streams, args.seconds, &[])?;
    say(format_args!(
        "{:.3} Gbps of TCP payload over {} connections, {} segments sent again, MSS {}",
        result.bits_per_second / 1e9,
        result.streams,
        result.retransmits,
        result.mss
    ))?;
    pair.map_or(Ok(()), Pair::stop)
}

fn run_up(args: &UpArgs) -> Result<()> {
    let topology = Topology::build(TopologyConfig {
        inside_mtu: args.mtu,
        outside_mtu: args.mtu,
        tunnels: args.tunnels.into(),
        ..TopologyConfig::default()
    })?;
    let pair = Pair::start(&topology, default_pair(args.tunnels, args.suite, args.keys))?;
    for side in [Side::A, Side::B] {
        let gateway = if side == Side::A { &pair.a } else { &pair.b };
        say(format_args!(
            "site {0}: ip netns exec {1} …; gateway {0}: ip netns exec {2} …, files in {3}",
            side.letter(),
            topology.site(side).name(),
            topology.gateway(side).name(),
            gateway.directory().path().display()
        ))?;
    }
    say(format_args!(
        "outside: ip netns exec {} …; Ctrl-C ends all",
        topology.outside().name()
    ))?;
    while interrupt::sleep(Duration::from_secs(1)).is_ok() {}
    pair.stop()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_failure_is_told_without_its_logs() {
        let error =
            "scenario x:     20 of 30 came back\n: too few\n-- our log:\nINFO up\nINFO down\n";
        assert_eq!(
            beginning(error),
            "scenario x:     20 of 30 came back : too few -- our log:"
        );
        assert_eq!(beginning("gone"), "gone");
    }

    #[test]
    fn ceilings_are_read() {
        assert_eq!(parse_cap("1.25G/140k").unwrap(), Cap::AWS);
        assert_eq!(parse_cap("none").unwrap(), Cap::NONE);
        let bits_only = Cap {
            bits_per_second: 500_000_000,
            packets_per_second: 0,
        };
        assert_eq!(parse_cap("500M").unwrap(), bits_only);
        for wrong in ["", "x", "-1", "1.25Gbps", "1/x", "é"] {
            assert!(parse_cap(wrong).is_err(), "{wrong}");
        }
    }
}
