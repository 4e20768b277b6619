//! Key exchanges with peers whose address changes, or is not known before.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{Findings, Lab, pair_of};
use crate::{
    config::{IkeSpec, KeySource, PairSpec, TunnelSpec},
    gateway::Status,
    interrupt,
    topology::{
        Family, OUTSIDE_INTERFACE, SITE_INTERFACE, Side, TopologyConfig, mac_text, outside_address,
        outside_mac,
    },
    traffic::{
        Endpoints, Sizes, TrafficReport, flows,
        packet::{PacketPort, PacketSink, send_flows},
    },
};

const TUNNELS: u32 = 4;

/// Where gateway A goes: in the outside network, and no tunnel's.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 18, 200, 1);

/// Packets a second in each direction while gateway A moves.
const RATE: u32 = 2000;
/// For how long.
const TIME: Duration = Duration::from_secs(5);
/// How long traffic may stand still for a move: netlink, two round trips, three transactions, on a
/// machine that does other things too.
const GAP: Duration = Duration::from_secs(1);

fn lab(ike: IkeSpec) -> Result<Lab> {
    let config = TopologyConfig {
        tunnels: TUNNELS,
        ..TopologyConfig::default()
    };
    let spec = PairSpec {
        keys: KeySource::Ike(ike),
        ..pair_of(vec![TunnelSpec::default(); TUNNELS as usize])
    };
    Lab::new(config, spec)
}

/// Gateway A has these outside IPv4 addresses instead of those before.
fn move_a(lab: &Lab, addresses: &[IpAddr]) -> Result<()> {
    let a = lab.topology.gateway(Side::A);
    a.exec(&format!("ip -4 addr flush dev {OUTSIDE_INTERFACE}"))?;
    let lines: String = addresses
        .iter()
        .map(|address| format!("addr add {address}/15 dev {OUTSIDE_INTERFACE}\n"))
        .collect();
    a.ip_batch(&lines)
}

/// Traffic both ways while `change` happens. Says for each direction, A's first, what became of it
/// and for how long nothing arrived.
fn meanwhile(
    lab: &Lab,
    change: impl FnOnce() -> Result<()>,
) -> Result<[(TrafficReport, Duration); 2]> {
    let sinks = [Side::B, Side::A].map(|to| PacketSink::start(lab.site(to), SITE_INTERFACE));
    let senders = [Side::A, Side::B].map(|from| {
        let port = PacketPort::open(lab.site(from), SITE_INTERFACE)?;
        let first = if from == Side::A { 0 } else { 64 };
        let flows = flows(from, Family::V4, Endpoints::Spread, first, 16);
        Ok(thread::spawn(move || {
            send_flows(&port, &flows, &Sizes::fixed(600), RATE, TIME)
        }))
    });
    interrupt::sleep(Duration::from_secs(1))?;
    let changed = change();
    let mut reports = Vec::new();
    for (sender, sink) in senders.into_iter().zip(sinks) {
        let sender: Result<_> = sender;
        let sent = sender?
            .join()
            .map_err(|_| anyhow::anyhow!("the traffic panicked"))??;
        reports.push(sink?.finish_with_gap(&sent)?);
    }
    changed?;
    reports
        .try_into()
        .map_err(|_| anyhow::anyhow!("two directions"))
}

pub(super) fn mobike(findings: &mut Findings) -> Result<()> {
    let lab = lab(IkeSpec::default())?;
    lab.must_work()?;
    // The kernel of B knows where the new address is, as it knows the others.
    lab.topology.gateway(Side::B).ip(&format!(
        "neigh replace {ELSEWHERE} lladdr {} nud permanent dev {OUTSIDE_INTERFACE}",
        mac_text(outside_mac(Side::A))
    ))?;
    let home: Vec<IpAddr> = (0..TUNNELS)
        .map(|tunnel| outside_address(Side::A, Family::V4, tunnel))
        .collect();
    let before = lab.gateway(Side::B).status()?;
    for (what, addresses) in [
        ("to another address", vec![ELSEWHERE.into()]),
        ("back", home),
    ] {
        let reports = meanwhile(&lab, || move_a(&lab, &addresses))?;
        for (direction, (report, gap)) in ["A to B", "B to A"].iter().zip(&reports) {
            let (lost, sent) = (report.total(|f| f.lost), report.total(|f| f.sent));
            findings.add(format!(
                "gateway A moves {what}, {direction}: {lost} of {sent} packets lost, longest pause \
                 {} ms",
                gap.as_millis()
            ));
            ensure!(
                *gap < GAP,
                "{direction} stood still for {gap:?}\n{}",
                lab.logs()
            );
            // All of it while nothing arrived: tunnels move together, within some milliseconds.
            let in_gap = (gap.as_secs_f64() + 0.3) * f64::from(RATE);
            ensure!(
                lost as f64 <= in_gap,
                "{lost} packets lost, {in_gap:.0} in the pause\n{}",
                lab.logs()
            );
        }
        lab.must_work().with_context(|| lab.logs())?;
        for peer in peers(&lab.gateway(Side::B).status()?) {
            ensure!(
                peer.is_some_and(|peer| addresses.contains(&peer)),
                "a tunnel is with {peer:?}\n{}",
                lab.logs()
            );
        }
    }
    let after = lab.gateway(Side::B).status()?;
    ensure!(
        established(&before) == established(&after),
        "SAs were made anew\n{}",
        lab.logs()
    );
    lab.close()
}

/// How often each tunnel's IKE SA was made.
fn established(status: &Status) -> Vec<Option<u64>> {
    let tunnels = status.0["tunnels"].as_array();
    let tunnels = tunnels.map_or(&[][..], Vec::as_slice);
    tunnels
        .iter()
        .map(|t| t["ike"]["counts"]["established"].as_u64())
        .collect()
}

/// Where each tunnel's peer is.
fn peers(status: &Status) -> Vec<Option<IpAddr>> {
    let tunnels = status.0["tunnels"].as_array();
    let tunnels = tunnels.map_or(&[][..], Vec::as_slice);
    let address = |text: &str| Some(text.parse::<SocketAddr>().ok()?.ip());
    tunnels
        .iter()
        .map(|t| t["ike"]["remote"].as_str().and_then(address))
        .collect()
}

pub(super) fn any(findings: &mut Findings) -> Result<()> {
    let mut lab = lab(IkeSpec {
        any: true,
        ..IkeSpec::default()
    })?;
    lab.must_work().with_context(|| lab.logs())?;
    let mut status = lab.gateway(Side::B).status()?;
    for tunnel in status.tunnels() {
        ensure!(
            tunnel.sent > 0 && tunnel.received > 0,
            "no traffic through {}: {tunnel:?}\n{}",
            tunnel.name,
            lab.logs()
        );
    }
    let expected: Vec<Option<IpAddr>> = (0..TUNNELS)
        .map(|tunnel| Some(outside_address(Side::A, Family::V4, tunnel)))
        .collect();
    let found = peers(&status);
    ensure!(found == expected, "{found:?} instead of {expected:?}");
    let remotes = |status: &Status| -> Vec<String> {
        let tunnels = status.0["tunnels"].as_array().into_iter().flatten();
        tunnels
            .map(|t| t["remote"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let known: Vec<String> = expected.iter().flatten().map(ToString::to_string).collect();
    let shown = remotes(&status);
    ensure!(shown == known, "{shown:?} instead of {known:?}");
    // Once the peers have said good-bye, others may call.
    ensure!(lab.pair.a.process().stop(), "gateway A did not end");
    let left = interrupt::wait_for(Duration::from_secs(5), || {
        status = lab.gateway(Side::B).status()?;
        Ok(remotes(&status).iter().all(|remote| remote == "any"))
    })?;
    ensure!(left, "{:?} after their end", remotes(&status));
    findings.add(format!(
        "{TUNNELS} initiators with addresses that the responder did not know, told apart by their \
         names: traffic through each"
    ));
    lab.close()
}
