//! Hawser and strongSwan: each starts, each rekeys, and each decrypts what the other one sends.

mod at_once;
mod certificates;
mod collisions;
mod death;
mod decoded;
mod many;
mod mobile;
mod nat;
mod refusals;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{Findings, SHORT, pair_of};
use crate::{
    config::{self, Directory, IkeSpec, KeySource, PairSpec, TunnelSpec},
    gateway::Gateway,
    interrupt,
    nat::{Nat, router_address},
    netns::unique_prefix,
    shell,
    strongswan::{self, Connection, StrongSwan},
    topology::{Family, SITE_INTERFACE, Side, Topology, TopologyConfig},
    traffic::{
        Endpoints, Sizes, TrafficReport, flows,
        packet::{PacketPort, PacketSink, send_flows},
    },
};

/// How long a tunnel may take to stand, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);

/// Gateway A is ours, gateway B is strongSwan.
struct Lab {
    // Order matters: the gateways go before the network that they are in.
    hawser: Gateway,
    swan: StrongSwan,
    nat: Option<Nat>,
    topology: Topology,
}

/// What the two are told.
struct Case {
    what: String,
    /// Lines of our `[connection.ike]`.
    ike: String,
    swan: Connection,
    /// More of strongswan.conf.
    charon: String,
    we_start: bool,
    tunnels: u32,
    /// Files for strongSwan's folder, with certificates: where from, and where to.
    files: Vec<(PathBuf, &'static str)>,
    /// strongSwan has this key instead of ours, as hexadecimal digits.
    other_secret: Option<String>,
    /// Who is behind a NAT.
    hidden: Option<Side>,
    /// More of our `hawser.toml`.
    end: String,
}

impl Case {
    fn new(what: &str, we_start: bool) -> Self {
        Self {
            what: what.into(),
            ike: String::new(),
            swan: Connection::new(0),
            charon: String::new(),
            we_start,
            tunnels: 1,
            files: Vec::new(),
            other_secret: None,
            hidden: None,
            end: String::new(),
        }
    }

    /// `what`, and who starts.
    fn name(&self) -> String {
        let who = if self.we_start {
            "we start"
        } else {
            "strongSwan starts"
        };
        format!("{}, {who}", self.what)
    }

    fn proposals(mut self, ours: [&str; 2], theirs: [&str; 2]) -> Self {
        self.ike += &format!(
            "proposals = \"{}\"\nesp_proposals = \"{}\"\n",
            ours[0], ours[1]
        );
        self.swan.proposals = theirs[0].into();
        self.swan.esp_proposals = theirs[1].into();
        self
    }

    fn begin(&self) -> Result<Lab> {
        let topology = Topology::build(TopologyConfig {
            tunnels: self.tunnels,
            ..TopologyConfig::default()
        })?;
        let ports = nat::PORTS;
        let nat = self
            .hidden
            .map(|hidden| Nat::start(&topology, hidden, ports));
        let nat = nat.transpose()?;
        let secret = config::draw_secret()?;
        let digits = secret
            .split("hex = \"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .context("the secrets file has no key")?;
        let connections: Vec<Connection> = (0..self.tunnels)
            .map(|index| {
                let mut connection = self.swan.clone();
                connection.index = index;
                if self.hidden == Some(Side::A) {
                    connection.remote = Some(router_address(Side::B).into());
                }
                connection
            })
            .collect();
        let swan = StrongSwan::start(
            topology.gateway(Side::B),
            Side::B,
            &connections,
            self.other_secret.as_deref().unwrap_or(digits),
            (&self.charon, ""),
        )?;
        for (from, to) in &self.files {
            fs::copy(from, swan.folder().join("swanctl").join(to))?;
        }
        swan.load().with_context(|| swan.log())?;
        let startup = if self.we_start { "start" } else { "add" };
        let mut tunnel = TunnelSpec::default();
        if self.hidden == Some(Side::B) {
            tunnel.remote = Some(router_address(Side::A).parse()?);
        }
        let mut spec = PairSpec {
            keys: KeySource::Ike(IkeSpec {
                both: format!("{}startup_action = \"{startup}\"\n", self.ike),
                a: String::new(),
                b: String::new(),
                pfs: None,
                esp: false,
                ..IkeSpec::default()
            }),
            ..pair_of(vec![tunnel; self.tunnels as usize])
        };
        spec.a.end.clone_from(&self.end);
        let directory = Directory::create(&format!("{}-A", unique_prefix()))?;
        Gateway::write_files(&directory, Side::A, &spec, &[])?;
        directory.write("secrets.toml", &secret)?;
        let hawser = Gateway::begin(topology.gateway(Side::A), Side::A, directory)?;
        Ok(Lab {
            hawser,
            swan,
            nat,
            topology,
        })
    }

    /// Starts both and waits for the tunnels.
    fn up(&self) -> Result<(Lab, Duration)> {
        let lab = self.begin()?;
        let began = Instant::now();
        let lab = self.wait(lab)?;
        Ok((lab, began.elapsed()))
    }

    /// Waits for the tunnels of a lab that has begun, and starts them if strongSwan is to.
    fn wait(&self, mut lab: Lab) -> Result<Lab> {
        if !self.we_start {
            lab.hawser_runs()?;
            for index in 0..self.tunnels {
                lab.swan.initiate(index).with_context(|| lab.hawser.log())?;
            }
        }
        lab.hawser
            .wait_until_up(PATIENCE)
            .with_context(|| lab.swan.log())?;
        Ok(lab)
    }
}

impl Lab {
    /// Our data plane has its tables, though no tunnel is up yet.
    fn hawser_runs(&self) -> Result<()> {
        let runs = interrupt::wait_for(PATIENCE, || {
            let status = self.hawser.status();
            Ok(status.is_ok_and(|s| s.0["dataplane"]["state"] == "running"))
        })?;
        ensure!(runs, "our gateway does not run\n{}", self.hawser.log());
        Ok(())
    }

    /// The router between the two.
    fn nat(&self) -> Result<&Nat> {
        self.nat.as_ref().context("there is no NAT")
    }

    fn exchange(&self, from: Side, rate: u32, time: Duration) -> Result<TrafficReport> {
        let flows = flows(from, Family::V4, Endpoints::Spread, 0, 8);
        let sink = PacketSink::start(self.topology.site(from.other()), SITE_INTERFACE)?;
        let port = PacketPort::open(self.topology.site(from), SITE_INTERFACE)?;
        let sent = send_flows(&port, &flows, &Sizes::imix_within(1300), rate, time)?;
        sink.finish(&sent)
    }

    /// Traffic in both directions, all of which must arrive once.
    fn must_work(&self, time: Duration) -> Result<u64> {
        let mut packets = 0;
        for from in [Side::A, Side::B] {
            let report = self.exchange(from, 1000, time)?;
            // Its threads may send packets of one flow in another order.
            let bad = report.total(|f| f.lost + f.duplicates);
            ensure!(
                bad == 0,
                "from site {}: {report:?}\n{}\n-- our log:\n{}",
                from.letter(),
                self.swan.log(),
                self.hawser.log()
            );
            packets += report.total(|f| f.received);
        }
        Ok(packets)
    }

    /// strongSwan rekeys, and traffic goes on.
    fn rekeys(&self, option: &str, kind: &str) -> Result<()> {
        let made = || -> Result<u64> {
            let status = self.hawser.status()?;
            let count = &status.0["tunnels"][0]["ike"]["counts"][kind];
            Ok(count.as_u64().unwrap_or(0))
        };
        let before = made()?;
        self.swan.swanctl(&["--rekey", option, "t0"])?;
        let done = interrupt::wait_for(PATIENCE, || Ok(made()? > before))?;
        let logs = || format!("{}\n{}", self.swan.log(), self.hawser.log());
        ensure!(done, "no {kind}\n{}", logs());
        self.must_work(SHORT).map(drop).context(kind.to_owned())
    }

    fn close(self) -> Result<()> {
        self.hawser.stop()
    }
}

pub(super) use at_once::at_once;
pub(super) use certificates::certificates;
pub(super) use collisions::collisions;
pub(super) use death::{cookies, death};
pub(super) use decoded::decoded;
pub(super) use many::many;
pub(super) use mobile::mobike;
pub(super) use nat::{hidden_strongswan, hidden_we};
pub(super) use refusals::{refusals, refused_certificates};

/// Runs a scenario where strongSwan is, and says so where it is not.
pub(super) fn here(
    findings: &mut Findings,
    scenario: fn(&mut Findings) -> Result<()>,
) -> Result<()> {
    let openssl = || (!shell::has("openssl")).then(|| "needs `openssl`".to_owned());
    match strongswan::unavailable().or_else(openssl) {
        Some(why) => {
            findings.add(format!("SKIPPED: {why}"));
            Ok(())
        }
        None => scenario(findings),
    }
}

/// The same for one that needs something else besides.
fn with(
    findings: &mut Findings,
    missing: Option<String>,
    scenario: fn(&mut Findings) -> Result<()>,
) -> Result<()> {
    match missing {
        Some(why) => {
            findings.add(format!("SKIPPED: {why}"));
            Ok(())
        }
        None => here(findings, scenario),
    }
}

/// A scenario with a NAT.
pub(super) fn behind_nat(
    findings: &mut Findings,
    scenario: fn(&mut Findings) -> Result<()>,
) -> Result<()> {
    with(findings, crate::nat::unavailable(), scenario)
}

/// A scenario in which messages are lost on purpose.
pub(super) fn with_losses(
    findings: &mut Findings,
    scenario: fn(&mut Findings) -> Result<()>,
) -> Result<()> {
    with(findings, collisions::unavailable(), scenario)
}

/// A scenario with tshark.
pub(super) fn captured(
    findings: &mut Findings,
    scenario: fn(&mut Findings) -> Result<()>,
) -> Result<()> {
    with(findings, decoded::unavailable(), scenario)
}

pub(super) fn basic(findings: &mut Findings) -> Result<()> {
    for we_start in [true, false] {
        let what = if we_start {
            "we start"
        } else {
            "strongSwan starts"
        };
        let (lab, time) = Case::new(what, we_start).up()?;
        let packets = lab.must_work(SHORT)?;
        findings.add(format!(
            "{what}: up after {} ms, {packets} packets both ways",
            time.as_millis()
        ));
        lab.close()?;
    }
    Ok(())
}

/// Ours, and the same in strongSwan's words.
const PROPOSALS: [([&str; 2], [&str; 2]); 14] = [
    (
        ["aes128-gcm16/sha2-256/group19", "aes128-gcm16/group19"],
        ["aes128gcm16-prfsha256-ecp256", "aes128gcm16-ecp256"],
    ),
    (
        ["aes256-gcm16/sha2-512/group31", "aes256-gcm16"],
        ["aes256gcm16-prfsha512-x25519", "aes256gcm16"],
    ),
    (
        ["aes256-gcm16/sha2-384/group21", "aes128-gcm16/group21"],
        ["aes256gcm16-prfsha384-ecp521", "aes128gcm16-ecp521"],
    ),
    (
        ["aes128-cbc/sha1/group2", "aes128-cbc/sha1/group2"],
        ["aes128-sha1-modp1024", "aes128-sha1-modp1024"],
    ),
    (
        ["aes256-cbc/sha1/group5", "aes256-cbc/sha1/group5"],
        ["aes256-sha1-modp1536", "aes256-sha1-modp1536"],
    ),
    (
        ["aes128-cbc/sha2-256/group14", "aes128-cbc/sha2-256/group14"],
        ["aes128-sha256-modp2048", "aes128-sha256-modp2048"],
    ),
    (
        ["aes256-cbc/sha2-384/group15", "aes256-cbc/sha2-384/group15"],
        ["aes256-sha384-modp3072", "aes256-sha384-modp3072"],
    ),
    (
        ["aes256-cbc/sha2-512/group16", "aes256-cbc/sha2-512/group16"],
        ["aes256-sha512-modp4096", "aes256-sha512-modp4096"],
    ),
    (
        [
            "aes256-gcm16/sha2-256/group22",
            "aes128-cbc/sha2-384/group22",
        ],
        [
            "aes256gcm16-prfsha256-modp1024s160",
            "aes128-sha384-modp1024s160",
        ],
    ),
    (
        [
            "aes256-gcm16/sha2-256/group23",
            "aes128-cbc/sha2-512/group23",
        ],
        [
            "aes256gcm16-prfsha256-modp2048s224",
            "aes128-sha512-modp2048s224",
        ],
    ),
    (
        [
            "aes256-gcm16/sha2-256/group24",
            "aes256-cbc/sha2-256/group24",
        ],
        [
            "aes256gcm16-prfsha256-modp2048s256",
            "aes256-sha256-modp2048s256",
        ],
    ),
    (
        ["aes256-gcm16/sha2-256/group17", "aes256-gcm16"],
        ["aes256gcm16-prfsha256-modp6144", "aes256gcm16"],
    ),
    (
        ["aes256-gcm16/sha2-512/group18", "aes256-gcm16"],
        ["aes256gcm16-prfsha512-modp8192", "aes256gcm16"],
    ),
    (
        ["aes256-gcm16/sha2-384/group20", "aes256-gcm16/group20"],
        ["aes256gcm16-prfsha384-ecp384", "aes256gcm16-ecp384"],
    ),
];

pub(super) fn proposals(findings: &mut Findings) -> Result<()> {
    for (n, (ours, theirs)) in PROPOSALS.into_iter().enumerate() {
        let case = Case::new(ours[0], n % 2 == 0).proposals(ours, theirs);
        let what = format!("IKE {}, ESP {}", ours[0], ours[1]);
        let (lab, time) = case.up().with_context(|| what.clone())?;
        lab.must_work(SHORT).with_context(|| what.clone())?;
        // The first child has its keys from the IKE SA; only now the group of ESP is used.
        lab.rekeys("--child", "child_rekeys")
            .with_context(|| what.clone())?;
        let status = lab.hawser.status()?;
        let ike = &status.0["tunnels"][0]["ike"];
        let mut children = ike["children"].as_array().into_iter().flatten();
        let pfs = children.any(|c| c["active"] == true && c["pfs"].is_string());
        ensure!(pfs == ours[1].contains("group"), "{what}: {ike}");
        findings.add(format!(
            "{what}: {} ms; negotiated {} and {}",
            time.as_millis(),
            ike["suite"].as_str().unwrap_or("nothing"),
            status.0["tunnels"][0]["suite"]
                .as_str()
                .unwrap_or("nothing"),
        ));
        lab.close()?;
    }
    Ok(())
}

pub(super) fn rekeys(findings: &mut Findings) -> Result<()> {
    for (what, ike, connection, child) in [
        (
            "we rekey children and IKE",
            "phase2_lifetime = 6\nrekey_margin = 3\nphase1_lifetime = 14\nphase1_rekey_margin = 7\n",
            "rekey_time = 0",
            "rekey_time = 0",
        ),
        (
            "strongSwan rekeys children and IKE",
            "",
            "rekey_time = 6s\nover_time = 20s\nrand_time = 1s",
            "rekey_time = 3s\nlife_time = 20s\nrand_time = 1s",
        ),
        (
            "both rekey at the same time",
            "phase2_lifetime = 6\nrekey_margin = 3\nrekey_fuzz = 0\nphase1_lifetime = 14\n\
             phase1_rekey_margin = 7\n",
            "rekey_time = 7s\nover_time = 20s\nrand_time = 0s",
            "rekey_time = 3s\nlife_time = 20s\nrand_time = 0s",
        ),
    ] {
        let mut case = Case::new(what, true);
        case.ike += ike;
        case.swan.more = connection.into();
        case.swan.child = child.into();
        let (lab, _) = case.up().with_context(|| what)?;
        let packets = lab
            .must_work(Duration::from_secs(12))
            .with_context(|| what)?;
        let status = lab.hawser.status()?;
        let counts = &status.0["tunnels"][0]["ike"]["counts"];
        let of = |name: &str| counts[name].as_u64().unwrap_or(0);
        findings.add(format!(
            "{what}: {} child and {} IKE rekeys, {packets} packets, none lost",
            of("child_rekeys"),
            of("ike_rekeys"),
        ));
        ensure!(of("child_rekeys") >= 4 && of("ike_rekeys") >= 1, "{counts}");
        lab.close()?;
    }
    Ok(())
}

pub(super) fn options(findings: &mut Findings) -> Result<()> {
    for we_start in [true, false] {
        let mut fragments = Case::new("fragments of 576 octets", we_start);
        fragments.ike = "fragment_size = 576\n".into();
        fragments.charon = "fragment_size = 576\n".into();
        let mut wrong_group = Case::new("INVALID_KE_PAYLOAD", we_start);
        wrong_group.ike = "proposals = \"aes256-gcm16/sha2-384/group19+group20\"\n".into();
        if !we_start {
            wrong_group.ike = "proposals = \"aes256-gcm16/sha2-384/group20\"\n".into();
            wrong_group.swan.proposals = "aes256gcm16-prfsha384-x25519-ecp384".into();
        }
        let mut childless = Case::new("childless", we_start);
        childless.ike = "childless = true\n".into();
        childless.swan.more = "childless = allow".into();
        let mut names = Case::new("names as identities", we_start);
        names.ike = "local_id = \"a.example.net\"\nremote_id = \"ops@example.net\"\n".into();
        names.swan.own = "id = ops@example.net".into();
        names.swan.peer = "id = a.example.net".into();
        for case in [fragments, wrong_group, childless, names] {
            let what = format!(
                "{}, {}",
                case.what,
                if we_start {
                    "we start"
                } else {
                    "strongSwan starts"
                }
            );
            let (lab, time) = case.up().with_context(|| what.clone())?;
            lab.must_work(SHORT).with_context(|| what.clone())?;
            findings.add(format!("{what}: up after {} ms", time.as_millis()));
            lab.close()?;
        }
    }
    Ok(())
}
