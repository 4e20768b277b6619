//! A NAT between us and strongSwan (RFC 3948; RFC 7296, section 2.23).
//!
//! strongSwan's ESP in user space makes every peer believe in a NAT, so ports and packets are looked
//! at here, not only what the status says. Who is hidden starts the tunnel; the other one sees an
//! address and ports that nobody configured.

use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};

use super::{Case, Lab, PATIENCE};
use crate::{
    interrupt,
    nat::router_address,
    scenario::{Findings, SHORT},
    topology::{Family, SITE_INTERFACE, Side},
    traffic::{
        Endpoints, Sizes, TrafficReport, flows,
        packet::{PacketPort, PacketSink, send_flows},
    },
};

/// The router's ports at first, and those after it has forgotten its mappings.
pub(super) const PORTS: RangeInclusive<u16> = 20_000..=20_999;
const OTHER_PORTS: RangeInclusive<u16> = 30_000..=30_999;
const THIRD_PORTS: RangeInclusive<u16> = 40_000..=40_999;

/// How long the router remembers a mapping without a packet. Unit: seconds.
const MEMORY: u64 = 5;
/// Interval of keepalives, below that. Unit: seconds.
const KEEPALIVE: u64 = 2;

/// We are behind the NAT. strongSwan follows no ESP, and with MOBIKE no IKE message but
/// UPDATE_SA_ADDRESSES (RFC 4555, section 3.8): our liveness check finds the new port.
pub(in crate::scenario) fn hidden_we(findings: &mut Findings) -> Result<()> {
    let mut case = Case::new("we are behind the NAT", true);
    case.hidden = Some(Side::A);
    case.ike = "dpd_delay = 1\ndpd_timeout = 10\n".into();
    let lab = stands(findings, &case)?;
    moves(findings, &lab, Side::A, Duration::from_secs(4))?;
    rekeys(&lab)?;
    lab.close()?;

    let mut case = Case::new("we are behind the NAT, without MOBIKE", true);
    case.hidden = Some(Side::A);
    case.ike = "dpd_delay = 1\ndpd_timeout = 10\nmobike = false\n".into();
    let lab = stands(findings, &case)?;
    moves(findings, &lab, Side::A, Duration::from_secs(4))?;
    lab.close()?;

    let mut case = Case::new("we keep the mapping", true);
    case.hidden = Some(Side::A);
    case.ike = "dpd_action = \"none\"\n".into();
    case.end = format!("[ike]\nnat_keepalive = {KEEPALIVE}\n");
    keeps_the_mapping(findings, &case)
}

/// strongSwan is behind the NAT. We learn its new port from whatever it sends first: ESP or IKE.
pub(in crate::scenario) fn hidden_strongswan(findings: &mut Findings) -> Result<()> {
    let mut case = Case::new("strongSwan is behind the NAT", false);
    case.hidden = Some(Side::B);
    case.ike = "remote_id = \"198.19.0.1\"\ndpd_action = \"none\"\n".into();
    case.swan.dpd = 1;
    let lab = stands(findings, &case)?;
    moves(findings, &lab, Side::B, Duration::from_secs(1))?;

    // Without traffic: strongSwan's liveness check shows it the new port, and by MOBIKE it tells us.
    // It compares with the check before, so there must have been one.
    interrupt::sleep(Duration::from_millis(2500))?;
    lab.nat()?.forget(THIRD_PORTS)?;
    let forgot = Instant::now();
    let followed = interrupt::wait_for(PATIENCE, || {
        Ok(THIRD_PORTS.contains(&remote_of(&lab)?.port()))
    })?;
    ensure!(
        followed,
        "we do not follow IKE\n{}\n{}",
        lab.swan.log(),
        lab.hawser.log()
    );
    findings.add(format!(
        "mapping forgotten in silence: followed by MOBIKE after {:.1} s",
        forgot.elapsed().as_secs_f64()
    ));
    lab.must_work(SHORT)?;
    rekeys(&lab)?;
    lab.close()?;

    let mut case = Case::new("strongSwan keeps the mapping", false);
    case.hidden = Some(Side::B);
    case.ike = "remote_id = \"198.19.0.1\"\ndpd_action = \"none\"\n".into();
    case.charon = format!("keep_alive = {KEEPALIVE}s\n");
    keeps_the_mapping(findings, &case)
}

/// The tunnel comes up through the NAT, ESP goes in UDP, and both see what they should.
fn stands(findings: &mut Findings, case: &Case) -> Result<Lab> {
    let (lab, time) = case.up()?;
    let packets = lab.must_work(SHORT)?;
    let [plain, udp] = lab.nat()?.esp()?;
    ensure!(plain == 0, "{plain} packets of plain ESP came to a NAT");
    ensure!(udp >= packets, "{udp} ESP packets for {packets} packets");
    let status = lab.hawser.status()?;
    let ike = &status.0["tunnels"][0]["ike"];
    ensure!(ike["encapsulated"] == true, "{ike}");
    match case.hidden {
        Some(Side::A) => {
            // strongSwan always looks as if it were behind a NAT too.
            ensure!(ike["nat"] == "both", "{ike}");
            ensure!(remote_of(&lab)? == SocketAddr::from(([198, 19, 0, 1], 4500)));
            let seen = lab.swan.swanctl(&["--list-sas"])?;
            let port = seen
                .split(&format!("{}[", router_address(Side::B)))
                .nth(1)
                .and_then(|rest| rest.split(']').next()?.parse().ok());
            ensure!(port.is_some_and(|p| PORTS.contains(&p)), "{seen}");
        }
        _ => {
            ensure!(ike["nat"] == "remote", "{ike}");
            let remote = remote_of(&lab)?;
            ensure!(remote.ip().to_string() == router_address(Side::A), "{ike}");
            ensure!(PORTS.contains(&remote.port()), "{ike}");
        }
    }
    findings.add(format!(
        "{}: up after {} ms, {packets} packets both ways in {udp} UDP packets, peer at {}",
        case.name(),
        time.as_millis(),
        remote_of(&lab)?
    ));
    Ok(lab)
}

/// What a new mapping under traffic cost.
struct Again {
    /// Towards the hidden side.
    inwards: TrafficReport,
    /// From the hidden side.
    outwards: TrafficReport,
    /// The longest pause inwards.
    pause: Duration,
    /// Packets for a mapping that was gone.
    strays: u64,
}

impl Again {
    fn in_words(&self) -> String {
        format!(
            "inwards {} of {} packets lost (pause {} ms), outwards {} of {}; {} packets for the old \
             mapping",
            self.inwards.total(|f| f.lost),
            self.inwards.total(|f| f.sent),
            self.pause.as_millis(),
            self.outwards.total(|f| f.lost),
            self.outwards.total(|f| f.sent),
            self.strays,
        )
    }
}

/// The router forgets its mappings in the middle of traffic in both directions. What is sent to the
/// hidden side must arrive again within `limit`.
fn moves(findings: &mut Findings, lab: &Lab, hidden: Side, limit: Duration) -> Result<()> {
    let time = Duration::from_secs(4);
    let begin = |from: Side, first: u16| -> Result<_> {
        let flows = flows(from, Family::V4, Endpoints::Spread, first, 8);
        let sink = PacketSink::start(lab.topology.site(from.other()), SITE_INTERFACE)?;
        let port = PacketPort::open(lab.topology.site(from), SITE_INTERFACE)?;
        let sender =
            thread::spawn(move || send_flows(&port, &flows, &Sizes::fixed(600), 500, time));
        Ok((sink, sender))
    };
    let outwards = begin(hidden, 0)?;
    let inwards = begin(hidden.other(), 8)?;
    interrupt::sleep(Duration::from_secs(1))?;
    let strays = lab.nat()?.strays()?;
    lab.nat()?.forget(OTHER_PORTS)?;
    let finish = |(sink, sender): (PacketSink, thread::JoinHandle<Result<_>>)| -> Result<_> {
        let sent = sender.join().map_err(|_| anyhow!("a sender panicked"))??;
        sink.finish_with_gap(&sent)
    };
    let (outwards, _) = finish(outwards)?;
    let (inwards, pause) = finish(inwards)?;
    let again = Again {
        inwards,
        outwards,
        pause,
        strays: lab.nat()?.strays()? - strays,
    };
    let words = again.in_words();
    findings.add(format!("mapping forgotten under traffic: {words}"));
    let logs = || format!("{words}\n{}\n{}", lab.swan.log(), lab.hawser.log());
    // Packets of the hidden side make the new mapping themselves.
    let gone = again.outwards.total(|f| f.lost + f.duplicates);
    ensure!(gone == 0, "outwards: {}", logs());
    if hidden == Side::A {
        // strongSwan learns it only when we ask. We follow before the next packet, at best.
        ensure!(again.strays > 0, "nothing was sent to the old mapping");
    }
    ensure!(
        again.pause < limit,
        "{:?} is too long: {}",
        again.pause,
        logs()
    );
    if hidden == Side::B {
        let remote = remote_of(lab)?;
        ensure!(OTHER_PORTS.contains(&remote.port()), "peer at {remote}");
    }
    lab.must_work(SHORT).map(drop)
}

/// Both kinds of rekeying go on at the new place.
fn rekeys(lab: &Lab) -> Result<()> {
    lab.rekeys("--child", "child_rekeys")?;
    lab.rekeys("--ike", "ike_rekeys")
}

/// The router forgets what is silent. The hidden side speaks often enough, so that the other one
/// still reaches it.
fn keeps_the_mapping(findings: &mut Findings, case: &Case) -> Result<()> {
    let hidden = case.hidden.context("nobody is hidden")?;
    let (lab, _) = case.up()?;
    let router = lab.topology.outside();
    for kind in ["udp_timeout", "udp_timeout_stream"] {
        router.sysctl(&format!("net.netfilter.nf_conntrack_{kind}={MEMORY}"))?;
    }
    lab.must_work(SHORT)?;
    let before = lab.nat()?.keepalives()?;
    let time = Duration::from_secs(2 * MEMORY + 2);
    interrupt::sleep(time)?;
    let sent = lab.nat()?.keepalives()? - before;
    let report = lab.exchange(hidden.other(), 1000, SHORT)?;
    findings.add(format!(
        "{}: {sent} keepalives in {} s; then {} of {} packets lost towards the hidden side",
        case.name(),
        time.as_secs(),
        report.total(|f| f.lost),
        report.total(|f| f.sent)
    ));
    let most = time.as_secs() / KEEPALIVE;
    ensure!((3..=most + 1).contains(&sent), "{sent} keepalives");
    ensure!(report.total(|f| f.lost) == 0, "{report:?}");
    // A keepalive is no packet of a tunnel, and no message.
    let status = lab.hawser.status()?;
    ensure!(status.drops().is_empty(), "{:?}", status.drops());
    ensure!(
        status.0["ike"]["counts"]["malformed"].is_null(),
        "{}",
        status.0["ike"]
    );
    lab.close()
}

/// Where we see the peer.
fn remote_of(lab: &Lab) -> Result<SocketAddr> {
    let status = lab.hawser.status()?;
    let remote = &status.0["tunnels"][0]["ike"]["remote"];
    let remote = remote.as_str().context("no peer")?;
    Ok(remote.parse()?)
}
