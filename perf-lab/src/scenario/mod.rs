//! Scenarios: what a gateway must do, checked on real packets with exact counters.
//!
//! Each builds its own network, runs two gateways in it, and fails with what it saw when something
//! is not as it must be. What it found along the way (times, rates) goes into its [`Findings`].

mod basic;
mod exchange;
mod exchange_reload;
mod failure;
mod forged;
mod malformed;
mod reload;
mod roaming;
mod router;
mod scale;
mod strongswan;

use std::{fmt, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    config::{GatewaySpec, KeySource, PairSpec, TunnelSpec},
    gateway::{Gateway, Pair},
    interrupt,
    netns::Namespace,
    topology::{Family, SITE_INTERFACE, Side, Topology, TopologyConfig},
    traffic::{
        Endpoints, FlowSpec, Sizes, TrafficReport, flows,
        packet::{PacketPort, PacketSink, send_flows},
    },
};

/// A scenario.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    run: fn(&mut Findings) -> Result<()>,
}

/// All of them.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "basic",
        about: "every suite, ESN on and off, IPv4 and IPv6 inside and outside, plain and in UDP",
        run: basic::every_kind_of_tunnel,
    },
    Scenario {
        name: "malformed-outside",
        about: "garbage, cut, replayed, flipped and misaddressed ESP: exact counters, no harm",
        run: malformed::outside,
    },
    Scenario {
        name: "malformed-inside",
        about: "broken IP packets from a site: exact counters, no harm",
        run: malformed::inside,
    },
    Scenario {
        name: "dataplane-killed",
        about: "kill -9 of a data plane: it comes back by itself, and traffic with it",
        run: failure::dataplane_killed,
    },
    Scenario {
        name: "control-killed",
        about: "kill -9 of a control process: traffic goes on, a new one takes over",
        run: failure::control_killed,
    },
    Scenario {
        name: "interface-lost",
        about: "an interface goes down, is deleted and comes back",
        run: failure::interface_lost,
    },
    Scenario {
        name: "overload",
        about: "full rings and no free frames: afterwards all is as before",
        run: failure::overload,
    },
    Scenario {
        name: "path-mtu",
        about: "too large packets: ICMP to the sender, fragmentation before encryption",
        run: router::path_mtu,
    },
    Scenario {
        name: "hop-limit",
        about: "TTL and hop limit go down at each gateway; who uses them up is told",
        run: router::hop_limit,
    },
    Scenario {
        name: "mss",
        about: "TCP learns a segment size that fits the tunnel, and gets through",
        run: router::mss,
    },
    Scenario {
        name: "jumbo",
        about: "packets of 8,900 bytes whole",
        run: router::jumbo,
    },
    Scenario {
        name: "vlan",
        about: "tagged packets in and out",
        run: router::vlan,
    },
    Scenario {
        name: "reload",
        about: "a bad configuration is refused, a good one applied, both without loss",
        run: reload::reload,
    },
    Scenario {
        name: "resilience",
        about: "removing one of eight tunnels moves only its own flows",
        run: reload::resilience,
    },
    Scenario {
        name: "hand-over",
        about: "tunnels change from worker to worker under traffic: nothing lost, nothing twice",
        run: reload::hand_over,
    },
    Scenario {
        name: "ike-basic",
        about: "tunnels by IKEv2 between two gateways, and traffic through every kind of them",
        run: exchange::basic,
    },
    Scenario {
        name: "ike-rekey",
        about: "both sides rekey every few seconds under load: nothing is lost",
        run: exchange::rekey,
    },
    Scenario {
        name: "ike-1000",
        about: "1,000 tunnels by IKEv2: time and rate, with a progress display",
        run: exchange::thousand,
    },
    Scenario {
        name: "ike-1000-rekey",
        about: "1,000 tunnels rekey within a quarter of a minute under traffic: nothing is lost",
        run: exchange::thousand_rekeys,
    },
    Scenario {
        name: "ike-mobike",
        about: "a gateway's outside address changes under traffic: its tunnels go along",
        run: roaming::mobike,
    },
    Scenario {
        name: "ike-any",
        about: "a responder accepts peers from anywhere and tells them apart by their names",
        run: roaming::any,
    },
    Scenario {
        name: "ike-flood",
        about: "50,000 forged IKE_SA_INIT a second: tunnels stand, an honest peer gets in",
        run: exchange::flood,
    },
    Scenario {
        name: "ike-restart",
        about: "a gateway loses its power: its tunnels are back within 3 s of its return",
        run: exchange::restart,
    },
    Scenario {
        name: "ike-control-killed",
        about: "control is killed: packets flow on, the next one makes new SAs",
        run: exchange::control_killed,
    },
    Scenario {
        name: "ike-reload",
        about: "broken key exchange sections are refused with line, reason and remedy; tunnels stay",
        run: exchange_reload::reload,
    },
    Scenario {
        name: "strongswan",
        about: "a tunnel with strongSwan, started from either side, traffic both ways",
        run: |findings| strongswan::here(findings, strongswan::basic),
    },
    Scenario {
        name: "strongswan-proposals",
        about: "ciphers, hashes and groups with strongSwan",
        run: |findings| strongswan::here(findings, strongswan::proposals),
    },
    Scenario {
        name: "strongswan-rekeys",
        about: "rekeys by us, by strongSwan and by both at once, under traffic: nothing is lost",
        run: |findings| strongswan::here(findings, strongswan::rekeys),
    },
    Scenario {
        name: "strongswan-collisions",
        about: "both rekey at the same time, children and IKE SAs: one of each is left",
        run: |findings| strongswan::with_losses(findings, strongswan::collisions),
    },
    Scenario {
        name: "strongswan-options",
        about: "fragments, INVALID_KE_PAYLOAD, childless, names, with strongSwan",
        run: |findings| strongswan::here(findings, strongswan::options),
    },
    Scenario {
        name: "strongswan-certificates",
        about: "RSA, RSA-PSS and ECDSA with authorities in between, in fragments both ways",
        run: |findings| strongswan::here(findings, strongswan::certificates),
    },
    Scenario {
        name: "strongswan-refusals",
        about: "what does not fit is refused, with a sentence that says what and where",
        run: |findings| strongswan::here(findings, strongswan::refusals),
    },
    Scenario {
        name: "strongswan-refused-certificates",
        about: "expired certificates and foreign authorities at either end, with a sentence for each",
        run: |findings| strongswan::here(findings, strongswan::refused_certificates),
    },
    Scenario {
        name: "strongswan-cookies",
        about: "cookies demanded by strongSwan and by us",
        run: |findings| strongswan::here(findings, strongswan::cookies),
    },
    Scenario {
        name: "strongswan-death",
        about: "strongSwan is killed and started again: noticed in time, up again",
        run: |findings| strongswan::here(findings, strongswan::death),
    },
    Scenario {
        name: "strongswan-at-once",
        about: "we and strongSwan start the tunnel at once: one is left, nothing is lost",
        run: |findings| strongswan::here(findings, strongswan::at_once),
    },
    Scenario {
        name: "strongswan-mobike",
        about: "strongSwan's outside address changes under traffic: our side follows",
        run: |findings| strongswan::here(findings, strongswan::mobike),
    },
    Scenario {
        name: "strongswan-nat-we",
        about: "we are behind a NAT: ESP in UDP, keepalives, another mapping",
        run: |findings| strongswan::behind_nat(findings, strongswan::hidden_we),
    },
    Scenario {
        name: "strongswan-nat-peer",
        about: "strongSwan is behind a NAT: ESP in UDP, and we follow it to another mapping",
        run: |findings| strongswan::behind_nat(findings, strongswan::hidden_strongswan),
    },
    Scenario {
        name: "strongswan-decoded",
        about: "tshark decrypts IKE and ESP of a capture with the keys that we logged",
        run: |findings| strongswan::captured(findings, strongswan::decoded),
    },
    Scenario {
        name: "strongswan-64",
        about: "64 tunnels with strongSwan, and traffic through every one",
        run: |findings| strongswan::here(findings, strongswan::many),
    },
    Scenario {
        name: "scale",
        about: "10,000 SAs and 1,000,000 routes: time and memory",
        run: scale::scale,
    },
];

/// What a scenario found, a line each.
#[derive(Clone, Debug, Default)]
pub struct Findings(Vec<String>);

impl Findings {
    fn add(&mut self, line: impl Into<String>) {
        self.0.push(line.into());
    }

    /// The lines.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

impl Scenario {
    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|s| s.name == name)
    }

    /// Runs it.
    ///
    /// # Errors
    /// With what was not as it must be.
    pub fn run(&self) -> Result<Findings> {
        let mut findings = Findings::default();
        (self.run)(&mut findings).with_context(|| format!("scenario {}: {findings}", self.name))?;
        Ok(findings)
    }
}

/// A network with two gateways.
struct Lab {
    // Order matters: the gateways go before the network that they are in.
    pair: Pair,
    topology: Topology,
}

impl Lab {
    fn new(config: TopologyConfig, spec: PairSpec) -> Result<Self> {
        let topology = Topology::build(config)?;
        let pair = Pair::start(&topology, spec)?;
        Ok(Self { pair, topology })
    }

    /// `tunnels` default tunnels over default links.
    fn simple(tunnels: u16) -> Result<Self> {
        let config = TopologyConfig {
            tunnels: tunnels.into(),
            ..TopologyConfig::default()
        };
        Self::new(config, pair_of(vec![TunnelSpec::default(); tunnels.into()]))
    }

    fn gateway(&self, side: Side) -> &Gateway {
        match side {
            Side::A => &self.pair.a,
            Side::B => &self.pair.b,
        }
    }

    fn site(&self, side: Side) -> &Namespace {
        self.topology.site(side)
    }

    /// Sends flows from one site and counts them at the other.
    fn exchange(
        &self,
        from: Side,
        flows: &[FlowSpec],
        sizes: &Sizes,
        rate: u32,
        time: Duration,
    ) -> Result<TrafficReport> {
        let sink = PacketSink::start(self.site(from.other()), SITE_INTERFACE)?;
        let port = PacketPort::open(self.site(from), SITE_INTERFACE)?;
        let sent = send_flows(&port, flows, sizes, rate, time)?;
        sink.finish(&sent)
    }

    /// Some packets of both families in both directions, all of which must arrive once, in order.
    fn must_work(&self) -> Result<()> {
        for from in [Side::A, Side::B] {
            for family in [Family::V4, Family::V6] {
                let flows = flows(from, family, Endpoints::Spread, 0, 16);
                self.exchange(from, &flows, &Sizes::imix_within(1300), 2000, SHORT)?
                    .must_be_perfect()
                    .with_context(|| format!("{family:?} from site {}", from.letter()))?;
            }
        }
        Ok(())
    }

    /// Waits until traffic passes from A to B again, and says how long that took.
    fn recovers_within(&self, limit: Duration) -> Result<Duration> {
        let began = std::time::Instant::now();
        let flows = flows(Side::A, Family::V4, Endpoints::Spread, 0, 4);
        let passed = interrupt::wait_for(limit, || {
            let burst = Duration::from_millis(20);
            let report = self.exchange(Side::A, &flows, &Sizes::fixed(200), 200, burst);
            // While an interface is away, sending fails.
            Ok(report.is_ok_and(|r| r.total(|f| f.lost) == 0))
        })?;
        ensure!(passed, "no traffic passes after {limit:?}\n{}", self.logs());
        Ok(began.elapsed())
    }

    fn logs(&self) -> String {
        [Side::A, Side::B]
            .map(|side| {
                let log = self.gateway(side).log();
                let lines: Vec<&str> = log.lines().collect();
                let last = lines[lines.len().saturating_sub(15)..].join("\n");
                format!("-- log of gateway {}:\n{last}", side.letter())
            })
            .join("\n")
    }

    /// Ends the gateways in good order.
    fn close(self) -> Result<()> {
        self.pair.stop()
    }
}

/// How long quick traffic runs.
const SHORT: Duration = Duration::from_millis(200);

/// A pair with these tunnels and a worker each.
fn pair_of(tunnels: Vec<TunnelSpec>) -> PairSpec {
    let gateway = |core| GatewaySpec {
        cores: vec![core],
        ..GatewaySpec::default()
    };
    let last = std::thread::available_parallelism().map_or(1, usize::from) as u16 - 1;
    PairSpec {
        tunnels,
        a: gateway(last),
        b: gateway(0),
        keys: KeySource::Manual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for scenario in ALL {
            let found = Scenario::named(scenario.name).unwrap();
            assert_eq!(found.about, scenario.about);
        }
        assert!(Scenario::named("no such").is_none());
    }
}
