//! Tunnels by IKEv2 between two gateways of ours.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hawser_aead::Suite;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Findings, Lab, forged, pair_of};
use crate::{
    config::{IkeSpec, KeySource, PairSpec, TunnelSpec},
    gateway::Pair,
    interrupt,
    topology::{Family, SITE_INTERFACE, Side, Topology, TopologyConfig},
    traffic::{
        Endpoints, Sizes, flows,
        live::{LiveGenerator, LiveLoad, LiveSink},
        packet::{PacketPort, PacketSink, send_flows},
    },
};

/// A lab whose tunnels have this key exchange.
pub(super) fn lab(tunnels: Vec<TunnelSpec>, ike: IkeSpec) -> Result<Lab> {
    let config = TopologyConfig {
        tunnels: tunnels.len() as u32,
        ..TopologyConfig::default()
    };
    let spec = PairSpec {
        keys: KeySource::Ike(ike),
        ..pair_of(tunnels)
    };
    Lab::new(config, spec)
}

pub(super) fn basic(findings: &mut Findings) -> Result<()> {
    for (what, ike) in [
        ("one side starts", IkeSpec::default()),
        (
            "both sides start at once",
            IkeSpec {
                b: "startup_action = \"start\"".into(),
                ..IkeSpec::default()
            },
        ),
    ] {
        let mut tunnels = Vec::new();
        for suite in Suite::ALL {
            for outside in [Family::V4, Family::V6] {
                for udp in [false, true] {
                    tunnels.push(TunnelSpec {
                        suite,
                        outside,
                        udp,
                        esn: udp,
                        ..TunnelSpec::default()
                    });
                }
            }
        }
        let count = tunnels.len();
        let began = Instant::now();
        let lab = lab(tunnels, ike)?;
        findings.add(format!(
            "{count} tunnels of all suites, IPv4 and IPv6 outside, plain and in UDP, {what}: up \
             after {} ms",
            began.elapsed().as_millis()
        ));
        lab.must_work().with_context(|| lab.logs())?;
        lab.close()?;
    }
    Ok(())
}

/// Packets a second under which rekeys happen.
const LOAD: u64 = 40_000;

pub(super) fn rekey(findings: &mut Findings) -> Result<()> {
    let seconds = match std::env::var("HAWSER_LAB_SECONDS") {
        Ok(text) => text.parse().context("HAWSER_LAB_SECONDS is no number")?,
        Err(_) => 20,
    };
    let ike = IkeSpec {
        both: "phase2_lifetime = 8\nrekey_margin = 3\nrekey_fuzz = 60\nphase1_lifetime = 30\n\
               phase1_rekey_margin = 15\n"
            .into(),
        ..IkeSpec::default()
    };
    let lab = lab(vec![TunnelSpec::default(); 8], ike)?;
    under_load(findings, &lab, Duration::from_secs(seconds), LOAD, 8)?;
    lab.close()
}

/// How often the tunnels of [`thousand_rekeys`] rekey, seconds: all of them within the quarter of a
/// minute from 20 to 35 s of age.
const MANY_LIFETIME: &str = "phase2_lifetime = 60\nrekey_margin = 25\nrekey_fuzz = 60\n";
/// How long they are watched: longer than the last of them waits.
const MANY_WATCHED: Duration = Duration::from_secs(40);
/// Packets a second meanwhile.
const MANY_LOAD: u64 = 10_000;

pub(super) fn thousand_rekeys(findings: &mut Findings) -> Result<()> {
    let ike = IkeSpec {
        both: MANY_LIFETIME.into(),
        ..IkeSpec::default()
    };
    let lab = lab(vec![TunnelSpec::default(); MANY], ike)?;
    under_load(findings, &lab, MANY_WATCHED, MANY_LOAD, MANY as u64)?;
    lab.close()
}

/// Traffic both ways for a while, in which at least so many child SAs are rekeyed: no packet is lost
/// but for full rings.
fn under_load(
    findings: &mut Findings,
    lab: &Lab,
    time: Duration,
    packets_per_second: u64,
    rekeys_at_least: u64,
) -> Result<()> {
    lab.must_work()?;
    // Enough for each tunnel to have some.
    let flows = (8 * lab.pair.spec.tunnels.len() as u32).min(2000);
    let sinks =
        [Side::A, Side::B].map(|side| LiveSink::attach(lab.site(side), SITE_INTERFACE, 2 * flows));
    let [sink_a, sink_b] = sinks;
    let (sink_a, sink_b) = (sink_a?, sink_b?);
    let load = |from: Side, first: u32| LiveLoad {
        flows: flows_of(from, first, flows),
        sizes: Sizes::fixed(600),
        packets_per_second: packets_per_second / 2,
        core: None,
        background: true,
    };
    let a = LiveGenerator::start(lab.site(Side::A), SITE_INTERFACE, &load(Side::A, 0))?;
    let b = LiveGenerator::start(lab.site(Side::B), SITE_INTERFACE, &load(Side::B, flows))?;
    interrupt::sleep(time)?;
    let sent = [a.finish()?, b.finish()?];
    interrupt::sleep(Duration::from_millis(300))?;
    let reports = [sink_b.report(&sent[0])?, sink_a.report(&sent[1])?];
    // They take packets away from whoever else counts.
    drop((sink_a, sink_b));
    let mut rekeys = [0, 0];
    for (n, side) in [Side::A, Side::B].into_iter().enumerate() {
        let status = lab.gateway(side).status()?;
        rekeys[n] = status.rekeys();
        let left = status.rekeys_of_each().iter().filter(|n| **n == 0).count();
        ensure!(left == 0, "{left} tunnels were not rekeyed\n{}", lab.logs());
        ensure!(status.is_up(), "a tunnel is down\n{}", lab.logs());
    }
    let lost: u64 = reports.iter().map(|r| r.total(|f| f.lost)).sum();
    let packets: u64 = reports.iter().map(|r| r.total(|f| f.received)).sum();
    // A busy machine may not let the workers run for so long that their rings fill up. That is no
    // fault of a rekey, and is counted by the kernel; what the data plane itself drops is.
    let (mut dropped, mut starved) = (BTreeMap::new(), 0);
    for side in [Side::A, Side::B] {
        let status = lab.gateway(side).status()?;
        dropped.extend(status.drops());
        starved += status.kernel_drops().values().sum::<u64>();
    }
    findings.add(format!(
        "{} tunnels, {} s, {packets} packets both ways, {} rekeys of child SAs: {lost} lost, \
         {starved} of them in rings that were full; dropped by the data planes: {dropped:?}",
        lab.pair.spec.tunnels.len(),
        time.as_secs(),
        rekeys[0].max(rekeys[1])
    ));
    ensure!(
        rekeys[0] >= rekeys_at_least,
        "only {rekeys:?} rekeys\n{}",
        lab.logs()
    );
    ensure!(dropped.is_empty(), "dropped: {dropped:?}\n{}", lab.logs());
    ensure!(
        lost <= starved,
        "{} packets lost without a trace\n{}",
        lost - starved,
        lab.logs()
    );
    lab.must_work()
}

/// How many tunnels [`thousand`] brings up.
const MANY: usize = 1000;
/// How long that may take.
const MANY_WITHIN: Duration = Duration::from_secs(20);

pub(super) fn thousand(findings: &mut Findings) -> Result<()> {
    let config = TopologyConfig {
        tunnels: MANY as u32,
        ..TopologyConfig::default()
    };
    let spec = PairSpec {
        keys: KeySource::Ike(IkeSpec::default()),
        ..pair_of(vec![TunnelSpec::default(); MANY])
    };
    let topology = Topology::build(config)?;
    let mut lab = Lab {
        pair: Pair::begin(&topology, spec)?,
        topology,
    };
    let bar = indicatif::ProgressBar::new(MANY as u64).with_style(
        indicatif::ProgressStyle::with_template(
            "tunnels [{bar:40}] {pos}/{len}  {per_sec}  {elapsed}",
        )?,
    );
    let mut began = None;
    let mut established = [0; 2];
    let limit = Instant::now() + Duration::from_secs(120);
    while established != [MANY as u64; 2] {
        ensure!(
            Instant::now() < limit,
            "{established:?} tunnels\n{}",
            lab.logs()
        );
        interrupt::sleep(Duration::from_millis(100))?;
        for (n, side) in [Side::A, Side::B].into_iter().enumerate() {
            // Before it listens there is nothing to ask.
            if let Ok(status) = lab.gateway(side).status() {
                established[n] = status.0["ike"]["established"].as_u64().unwrap_or(0);
                if status.0["dataplane"]["state"] == "running" {
                    began.get_or_insert_with(Instant::now);
                }
            }
        }
        bar.set_position(established[0].min(established[1]));
    }
    bar.finish_and_clear();
    let took = began.map_or(Duration::ZERO, |at| at.elapsed());
    let mut seconds = 0.0;
    for side in [Side::A, Side::B] {
        lab.pair
            .gateway(side)
            .wait_until_up(Duration::from_secs(20))?;
        seconds += processor_seconds(lab.pair.gateway(side).process().pid())?;
    }
    findings.add(format!(
        "{MANY} tunnels up at both ends {:.1} s after the first data plane ran; the two control \
         processes took {seconds:.1} s of processor: {:.0} tunnel ends a second and core",
        took.as_secs_f64(),
        2.0 * MANY as f64 / seconds
    ));
    ensure!(took <= MANY_WITHIN, "{took:?} is too long");
    lab.must_work()?;
    lab.close()
}

/// Processor time of a process until now: user and system (proc(5), fields 14 and 15 of stat).
fn processor_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|n| n.parse::<f64>().ok())
        .sum();
    // USER_HZ is 100 on every architecture that Linux runs on today.
    Ok(ticks / 100.0)
}

/// Resident memory of a process, octets.
fn resident(pid: u32) -> Result<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: u64 = statm
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .context("no statm")?;
    Ok(pages * 4096)
}

/// Requests a second.
const FLOOD: u32 = 50_000;

pub(super) fn flood(findings: &mut Findings) -> Result<()> {
    let mut lab = lab(
        vec![TunnelSpec::default(); 4],
        IkeSpec {
            // The last tunnel waits at both ends until the flood runs.
            a: "startup_action = \"start\"".into(),
            ..IkeSpec::default()
        },
    )?;
    lab.must_work()?;
    let pid = lab.pair.b.process().pid();
    let before = resident(pid)?;
    let flood = forged::Flood::start(&lab.topology, Side::B, FLOOD)?;
    interrupt::sleep(Duration::from_secs(2))?;
    let flows = flows(Side::A, Family::V4, Endpoints::Spread, 0, 16);
    let report = lab.exchange(
        Side::A,
        &flows,
        &Sizes::fixed(600),
        2000,
        Duration::from_secs(4),
    )?;
    // An honest newcomer: gateway A begins anew, without memory of its tunnels.
    kill_whole(&mut lab, Side::A)?;
    let began = Instant::now();
    lab.pair.a.restart(&lab.topology)?;
    let honest = began.elapsed();
    let after = resident(pid)?;
    let status = lab.gateway(Side::B).status()?;
    let (sent, rate) = flood.finish()?;
    findings.add(format!(
        "{sent} forged requests, {rate} a second: {} of {} packets lost meanwhile; an honest peer \
         with 4 tunnels up after {:.1} s; memory of control {} MiB before, {} MiB after; {}",
        report.total(|f| f.lost),
        report.total(|f| f.sent),
        honest.as_secs_f64(),
        before >> 20,
        after >> 20,
        status.0["ike"]
    ));
    let seen = status.0["ike"]["counts"]["received"].as_u64().unwrap_or(0);
    ensure!(seen > sent / 10, "only {seen} of {sent} requests were seen");
    ensure!(report.total(|f| f.lost) == 0, "{report:?}\n{}", lab.logs());
    ensure!(
        honest < Duration::from_secs(5),
        "{honest:?} is too long\n{}",
        lab.logs()
    );
    ensure!(
        after < before + (64 << 20),
        "memory grew from {before} to {after}"
    );
    lab.must_work()?;
    lab.close()
}

/// Control and data plane at once, as when the machine loses its power.
fn kill_whole(lab: &mut Lab, side: Side) -> Result<()> {
    let pid = lab
        .gateway(side)
        .status()?
        .dataplane_pid()
        .context("no data plane")?;
    let control = lab.pair.gateway(side).process();
    control.signal(Signal::SIGKILL)?;
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL)?;
    // The lock on its folder is free when it is gone.
    interrupt::wait_for(Duration::from_secs(5), || Ok(control.ended()?.is_some()))?;
    Ok(())
}

pub(super) fn restart(findings: &mut Findings) -> Result<()> {
    for (what, more) in [
        ("the side that starts", [Side::A, Side::A]),
        ("the side that waits", [Side::B, Side::B]),
    ] {
        let side = more[0];
        let mut lab = lab(
            vec![TunnelSpec::default(); 8],
            IkeSpec {
                both: "dpd_delay = 1\ndpd_timeout = 4\n".into(),
                ..IkeSpec::default()
            },
        )?;
        lab.must_work()?;
        kill_whole(&mut lab, side)?;
        interrupt::sleep(Duration::from_secs(1))?;
        let began = Instant::now();
        let Lab { pair, topology } = &mut lab;
        pair.gateway(side).restart(topology)?;
        let back = began.elapsed();
        findings.add(format!(
            "{what} killed as a whole and started again after 1 s: 8 tunnels up {:.1} s later",
            back.as_secs_f64()
        ));
        ensure!(
            back < Duration::from_secs(3),
            "{back:?} is too long\n{}",
            lab.logs()
        );
        lab.must_work().with_context(|| lab.logs())?;
        lab.close()?;
    }
    Ok(())
}

pub(super) fn control_killed(findings: &mut Findings) -> Result<()> {
    let mut lab = lab(vec![TunnelSpec::default(); 4], IkeSpec::default())?;
    lab.must_work()?;
    let sink = PacketSink::start(lab.site(Side::B), SITE_INTERFACE)?;
    let port = PacketPort::open(lab.site(Side::A), SITE_INTERFACE)?;
    let flows = flows(Side::A, Family::V4, Endpoints::Spread, 0, 16);
    let traffic = std::thread::spawn(move || {
        send_flows(
            &port,
            &flows,
            &Sizes::fixed(600),
            2000,
            Duration::from_secs(6),
        )
    });
    interrupt::sleep(Duration::from_millis(500))?;
    lab.pair.a.process().signal(Signal::SIGKILL)?;
    interrupt::sleep(Duration::from_secs(1))?;
    let Lab { pair, topology } = &mut lab;
    pair.a.restart(topology)?;
    // New SAs, not the old ones.
    let renewed = interrupt::wait_for(Duration::from_secs(10), || {
        let status = lab.gateway(Side::A).status()?;
        Ok(status.0["ike"]["established"] == 4)
    })?;
    ensure!(renewed, "no new SAs\n{}", lab.logs());
    let sent = traffic
        .join()
        .map_err(|_| anyhow::anyhow!("the traffic panicked"))??;
    let (report, gap) = sink.finish_with_gap(&sent)?;
    findings.add(format!(
        "control killed for a second and started again: {} of {} packets lost, longest pause {} ms",
        report.total(|f| f.lost),
        report.total(|f| f.sent),
        gap.as_millis()
    ));
    lab.must_work()?;
    lab.close()
}

fn flows_of(from: Side, first: u32, count: u32) -> Vec<crate::traffic::FlowSpec> {
    flows(
        from,
        Family::V4,
        Endpoints::Spread,
        first as u16,
        count as u16,
    )
}
