//! Many tunnels with one strongSwan, each with networks of its own, and traffic through every one.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, Result, ensure};

use super::Case;
use crate::{
    scenario::Findings,
    strongswan::network,
    topology::{Family, SITE_INTERFACE, Side},
    traffic::{
        Endpoints, FlowSpec, Sizes, flows,
        packet::{PacketPort, PacketSink, send_flows},
    },
};

const TUNNELS: u32 = 64;

/// The host of a site that is reached by a tunnel.
fn host(side: Side, tunnel: u32) -> Result<IpAddr> {
    let network = network(side, tunnel);
    let (address, _) = network.split_once('/').context("no network")?;
    // The first tunnel has the whole site; there is a host above the others' networks that only it
    // leads to.
    let last = if tunnel == 0 { "0.0" } else { "0" };
    let end = if tunnel == 0 { "254.2" } else { "2" };
    let start = address.strip_suffix(last).context("no network")?;
    Ok(format!("{start}{end}").parse()?)
}

/// A flow through each tunnel.
fn through_all(from: Side) -> Result<Vec<FlowSpec>> {
    let plain = flows(from, Family::V4, Endpoints::Spread, 0, TUNNELS as u16);
    let each = plain.into_iter().zip(0..);
    each.map(|(flow, tunnel)| {
        Ok(FlowSpec {
            source: host(from, tunnel)?,
            destination: host(from.other(), tunnel)?,
            ..flow
        })
    })
    .collect()
}

pub(in crate::scenario) fn many(findings: &mut Findings) -> Result<()> {
    let mut case = Case::new("64 tunnels", true);
    case.tunnels = TUNNELS;
    for tunnel in 1..TUNNELS {
        case.end += &format!(
            "[[route]]\nto = \"{}\"\nvia = \"lab/t{tunnel}\"\n",
            network(Side::B, tunnel)
        );
    }
    let (lab, time) = case.up()?;
    ensure!(
        lab.swan.installed()? == TUNNELS as usize,
        "{}",
        lab.swan.log()
    );
    for side in [Side::A, Side::B] {
        let hosts: Vec<IpAddr> = (0..TUNNELS).map(|t| host(side, t)).collect::<Result<_>>()?;
        lab.topology.add_hosts(side, hosts.into_iter())?;
    }
    let mut packets = 0;
    for from in [Side::A, Side::B] {
        let sink = PacketSink::start(lab.topology.site(from.other()), SITE_INTERFACE)?;
        let port = PacketPort::open(lab.topology.site(from), SITE_INTERFACE)?;
        let time = Duration::from_secs(1);
        let sent = send_flows(&port, &through_all(from)?, &Sizes::fixed(600), 3200, time)?;
        let report = sink.finish(&sent)?;
        let bad = report.total(|f| f.lost + f.duplicates);
        ensure!(
            bad == 0,
            "from site {}: {report:?}\n{}\n{}",
            from.letter(),
            lab.swan.log(),
            lab.hawser.log()
        );
        packets += report.total(|f| f.received);
    }
    let status = lab.hawser.status()?;
    let idle: Vec<String> = status
        .tunnels()
        .into_iter()
        .filter(|t| t.sent < 10 || t.received < 10)
        .map(|t| t.name)
        .collect();
    ensure!(idle.is_empty(), "no traffic in {idle:?}");
    findings.add(format!(
        "{TUNNELS} tunnels up after {} ms, {packets} packets both ways through all of them",
        time.as_millis()
    ));
    lab.close()
}
