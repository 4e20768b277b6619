//! strongSwan's outside address changes: our side follows.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{Case, Lab};
use crate::{
    interrupt,
    scenario::{Findings, SHORT},
    topology::{
        Family, OUTSIDE_INTERFACE, SITE_INTERFACE, Side, mac_text, outside_address, outside_mac,
    },
    traffic::{
        Endpoints, Sizes, flows,
        packet::{PacketPort, PacketSink, send_flows},
    },
};

/// Where strongSwan goes: in the outside network, and no tunnel's.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 19, 200, 1);
/// Packets a second in each direction meanwhile.
const RATE: u32 = 1000;
/// For how long.
const TIME: Duration = Duration::from_secs(8);
/// How long traffic may stand still: strongSwan waits a while before it looks for another path, and
/// sends its requests again after a second.
const GAP: Duration = Duration::from_secs(4);

pub(in crate::scenario) fn mobike(findings: &mut Findings) -> Result<()> {
    let (lab, _) = Case::new("it moves", false).up()?;
    lab.must_work(SHORT)?;
    lab.topology.gateway(Side::A).ip(&format!(
        "neigh replace {ELSEWHERE} lladdr {} nud permanent dev {OUTSIDE_INTERFACE}",
        mac_text(outside_mac(Side::B))
    ))?;
    let sinks =
        [Side::B, Side::A].map(|to| PacketSink::start(lab.topology.site(to), SITE_INTERFACE));
    let senders = [Side::A, Side::B].map(|from| -> Result<_> {
        let port = PacketPort::open(lab.topology.site(from), SITE_INTERFACE)?;
        let first = if from == Side::A { 0 } else { 64 };
        let flows = flows(from, Family::V4, Endpoints::Spread, first, 8);
        Ok(thread::spawn(move || {
            send_flows(&port, &flows, &Sizes::fixed(600), RATE, TIME)
        }))
    });
    interrupt::sleep(Duration::from_secs(1))?;
    let moved = leave(&lab);
    for ((what, sender), sink) in ["ours", "strongSwan's"].iter().zip(senders).zip(sinks) {
        let sent = sender?
            .join()
            .map_err(|_| anyhow::anyhow!("the traffic panicked"))??;
        let (report, gap) = sink?.finish_with_gap(&sent)?;
        let lost = report.total(|f| f.lost);
        findings.add(format!(
            "strongSwan moves to another address: {lost} of {} of {what} packets lost, longest \
             pause {} ms",
            report.total(|f| f.sent),
            gap.as_millis()
        ));
        ensure!(gap < GAP, "{what} stood still for {gap:?}\n{}", logs(&lab));
        let in_gap = (gap.as_secs_f64() + 0.3) * f64::from(RATE);
        ensure!(
            lost as f64 <= in_gap,
            "{lost} of {what} packets lost, {in_gap:.0} in the pause\n{}",
            logs(&lab)
        );
    }
    moved?;
    let status = lab.hawser.status()?;
    let remote = status.0["tunnels"][0]["ike"]["remote"].as_str();
    let remote: SocketAddr = remote.context("no peer")?.parse()?;
    ensure!(
        remote.ip() == IpAddr::from(ELSEWHERE),
        "the peer is at {remote}\n{}",
        logs(&lab)
    );
    lab.must_work(SHORT)?;
    lab.close()
}

fn leave(lab: &Lab) -> Result<()> {
    let b = lab.topology.gateway(Side::B);
    let old = outside_address(Side::B, Family::V4, 0);
    // The new one stays when the first address of the network goes.
    b.sysctl(&format!(
        "net.ipv4.conf.{OUTSIDE_INTERFACE}.promote_secondaries=1"
    ))?;
    b.ip_batch(&format!(
        "addr add {ELSEWHERE}/15 dev {OUTSIDE_INTERFACE}\n\
         addr del {old}/15 dev {OUTSIDE_INTERFACE}\n"
    ))
}

fn logs(lab: &Lab) -> String {
    format!("{}\n-- our log:\n{}", lab.swan.log(), lab.hawser.log())
}
