//! What happens when something breaks.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Findings, Lab, pair_of};
use crate::{
    config::TunnelSpec,
    gateway::Pair,
    interrupt,
    topology::{Family, INSIDE_INTERFACE, SITE_INTERFACE, Side, Topology, TopologyConfig},
    traffic::{
        Endpoints, Sizes, TrafficReport, flows,
        live::{LiveGenerator, LiveLoad},
        packet::{PacketPort, PacketSink, send_flows},
    },
};

/// How long anything may take to come back.
const RECOVERY: Duration = Duration::from_secs(15);
/// Packets a second while something breaks: a millisecond apart, so that the longest gap between
/// arrivals is the outage.
const RATE: u32 = 1000;

/// Steady traffic from A to B for `time`, with `event` happening half a second in; what arrived and
/// the longest time in which nothing did.
fn during(
    lab: &mut Lab,
    time: Duration,
    event: impl FnOnce(&mut Lab) -> Result<()>,
) -> Result<(TrafficReport, Duration)> {
    let sink = PacketSink::start(lab.site(Side::B), SITE_INTERFACE)?;
    let port = PacketPort::open(lab.site(Side::A), SITE_INTERFACE)?;
    let flows = flows(Side::A, Family::V4, Endpoints::Spread, 0, 16);
    let traffic = thread::spawn(move || send_flows(&port, &flows, &Sizes::fixed(600), RATE, time));
    interrupt::sleep(Duration::from_millis(500))?;
    event(lab)?;
    let sent = traffic
        .join()
        .map_err(|_| anyhow::anyhow!("the traffic panicked"))??;
    sink.finish_with_gap(&sent)
}

/// The data plane of a gateway, killed; waits until another one runs.
fn kill_dataplane(lab: &Lab, side: Side) -> Result<Duration> {
    let before = lab.gateway(side).status()?;
    let pid = before
        .dataplane_pid()
        .context("status shows no data plane")?;
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL)?;
    let killed = Instant::now();
    let back = interrupt::wait_for(RECOVERY, || {
        let status = lab.gateway(side).status();
        Ok(status.is_ok_and(|s| s.is_up() && s.dataplane_pid().is_some_and(|p| p != pid)))
    })?;
    ensure!(back, "the data plane does not come back\n{}", lab.logs());
    let restarts = lab.gateway(side).status()?.restarts();
    ensure!(
        restarts == before.restarts() + 1,
        "{restarts} restarts counted"
    );
    Ok(killed.elapsed())
}

pub(super) fn dataplane_killed(findings: &mut Findings) -> Result<()> {
    let mut lab = Lab::simple(4)?;
    lab.must_work()?;
    for side in [Side::A, Side::B] {
        let mut back = Duration::ZERO;
        let (report, outage) = during(&mut lab, Duration::from_secs(4), |lab| {
            back = kill_dataplane(lab, side)?;
            Ok(())
        })?;
        ensure!(
            report.total(|f| f.lost) > 0,
            "killing it lost nothing: was it the right process?"
        );
        ensure!(
            report.total(|f| f.duplicates + f.reordered) == 0,
            "packets came twice or out of order: {report:?}"
        );
        findings.add(format!(
            "data plane of gateway {} killed: up again after {} ms, no packet for {} ms",
            side.letter(),
            back.as_millis(),
            outage.as_millis()
        ));
        // The sequence numbers go on: nothing after the restart is a replay to the other side.
        lab.must_work()
            .with_context(|| format!("after the restart\n{}", lab.logs()))?;
    }
    lab.close()
}

pub(super) fn control_killed(findings: &mut Findings) -> Result<()> {
    let mut lab = Lab::simple(4)?;
    lab.must_work()?;
    let pid = lab
        .gateway(Side::A)
        .status()?
        .dataplane_pid()
        .context("no data plane in status")?;
    let (report, _) = during(&mut lab, Duration::from_secs(4), |lab| {
        lab.pair.a.process().signal(Signal::SIGKILL)?;
        interrupt::sleep(Duration::from_secs(1))?;
        ensure!(
            Path::new("/proc").join(pid.to_string()).exists(),
            "the data plane went with its control"
        );
        lab.pair.a.restart(&lab.topology)
    })?;
    report.must_be_perfect().context("while control was away")?;
    let status = lab.gateway(Side::A).status()?;
    ensure!(
        status.dataplane_pid() == Some(pid),
        "the new control started another data plane\n{}",
        lab.logs()
    );
    findings.add("control killed and started again: no packet lost, the data plane taken over");
    lab.must_work()?;
    lab.close()
}

pub(super) fn interface_lost(findings: &mut Findings) -> Result<()> {
    let mut lab = Lab::simple(2)?;
    lab.must_work()?;
    for (what, lose, mend) in [
        (
            "down",
            set_down as fn(&Topology) -> Result<()>,
            set_up as fn(&Topology) -> Result<()>,
        ),
        (
            "deleted",
            |t| t.cut_inside(Side::B),
            |t| t.mend_inside(Side::B),
        ),
    ] {
        let mut back = Duration::ZERO;
        during(&mut lab, Duration::from_secs(1), |lab| lose(&lab.topology))?;
        ensure!(
            lab.pair.b.process().ended()?.is_none(),
            "the gateway ended when its interface was {what}\n{}",
            lab.logs()
        );
        mend(&lab.topology)?;
        back += lab.recovers_within(RECOVERY)?;
        findings.add(format!(
            "{INSIDE_INTERFACE} of gateway B {what} and back: traffic after {} ms",
            back.as_millis()
        ));
        lab.must_work()
            .with_context(|| format!("after it was {what}\n{}", lab.logs()))?;
    }
    lab.close()
}

fn set_down(topology: &Topology) -> Result<()> {
    topology
        .gateway(Side::B)
        .ip(&format!("link set {INSIDE_INTERFACE} down"))
        .map(drop)
}

fn set_up(topology: &Topology) -> Result<()> {
    topology
        .gateway(Side::B)
        .ip(&format!("link set {INSIDE_INTERFACE} up"))?;
    // IPv6 addresses and neighbours go with the link.
    topology.address_inside(Side::B)
}

/// As few frames and as small rings as the configuration allows.
const SCARCE: &str = "frames_per_worker = 512\nring_size = 64\n";

pub(super) fn overload(findings: &mut Findings) -> Result<()> {
    for (what, more) in [
        ("default rings", ""),
        ("scarce frames and small rings", SCARCE),
    ] {
        let topology = Topology::build(TopologyConfig {
            tunnels: 4,
            ..TopologyConfig::default()
        })?;
        let mut spec = pair_of(vec![TunnelSpec::default(); 4]);
        spec.a.more = more.into();
        spec.b.more = more.into();
        let lab = Lab {
            pair: Pair::start(&topology, spec)?,
            topology,
        };
        lab.must_work()?;
        let load = LiveLoad {
            flows: flows(Side::A, Family::V4, Endpoints::Spread, 0, 64),
            sizes: Sizes::fixed(100),
            packets_per_second: 0,
            core: None,
            background: false,
        };
        let generator = LiveGenerator::start(lab.site(Side::A), SITE_INTERFACE, &load)?;
        interrupt::sleep(Duration::from_secs(2))?;
        let sent: u64 = generator.finish()?.packets.values().sum();
        interrupt::sleep(Duration::from_millis(300))?;
        let (a, b) = (
            lab.gateway(Side::A).status()?,
            lab.gateway(Side::B).status()?,
        );
        let delivered: u64 = b.tunnels().iter().map(|t| t.received).sum();
        ensure!(
            delivered > 0,
            "overload brought everything to a halt\n{}",
            lab.logs()
        );
        ensure!(delivered < sent, "{sent} packets were no overload");
        findings.add(format!(
            "{what}: {delivered} of {sent} packets; dropped at A {:?} and before it {:?}, at B {:?} \
             and before it {:?}",
            a.drops(),
            a.kernel_drops(),
            b.drops(),
            b.kernel_drops()
        ));
        for side in [Side::A, Side::B] {
            let restarts = lab.gateway(side).status()?.restarts();
            ensure!(
                restarts == 0,
                "gateway {} had to restart\n{}",
                side.letter(),
                lab.logs()
            );
        }
        // No frame got lost for good: everything passes again.
        lab.must_work()
            .with_context(|| format!("after the overload, with {what}"))?;
        lab.close()?;
    }
    Ok(())
}
