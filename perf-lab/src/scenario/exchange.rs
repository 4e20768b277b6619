//! Tunnels by IKEv2 between two gateways of ours.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hawser_aead::Suite;

use super::{Findings, Lab, pair_of};
use crate::{
    config::{IkeSpec, KeySource, PairSpec, TunnelSpec},
    interrupt,
    topology::{Family, SITE_INTERFACE, Side, TopologyConfig},
    traffic::{
        Endpoints, Sizes, flows,
        live::{LiveGenerator, LiveLoad, LiveSink},
    },
};

/// A lab whose tunnels have this key exchange.
fn lab(tunnels: Vec<TunnelSpec>, ike: IkeSpec) -> Result<Lab> {
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
    lab.must_work()?;
    let flows = 64;
    let sinks =
        [Side::A, Side::B].map(|side| LiveSink::attach(lab.site(side), SITE_INTERFACE, 2 * flows));
    let [sink_a, sink_b] = sinks;
    let (sink_a, sink_b) = (sink_a?, sink_b?);
    let load = |from: Side, first: u32| LiveLoad {
        flows: flows_of(from, first, flows),
        sizes: Sizes::fixed(600),
        packets_per_second: LOAD / 2,
        core: None,
        background: true,
    };
    let a = LiveGenerator::start(lab.site(Side::A), SITE_INTERFACE, &load(Side::A, 0))?;
    let b = LiveGenerator::start(lab.site(Side::B), SITE_INTERFACE, &load(Side::B, flows))?;
    interrupt::sleep(Duration::from_secs(seconds))?;
    let sent = [a.finish()?, b.finish()?];
    interrupt::sleep(Duration::from_millis(300))?;
    let reports = [sink_b.report(&sent[0])?, sink_a.report(&sent[1])?];
    // They take packets away from whoever else counts.
    drop((sink_a, sink_b));
    let mut rekeys = [0, 0];
    for (n, side) in [Side::A, Side::B].into_iter().enumerate() {
        let status = lab.gateway(side).status()?;
        rekeys[n] = status.rekeys();
        ensure!(status.is_up(), "a tunnel is down\n{}", lab.logs());
    }
    let lost: u64 = reports.iter().map(|r| r.total(|f| f.lost)).sum();
    let packets: u64 = reports.iter().map(|r| r.total(|f| f.received)).sum();
    findings.add(format!(
        "8 tunnels, {seconds} s, {packets} packets both ways, {} rekeys of child SAs: {lost} lost",
        rekeys[0].max(rekeys[1])
    ));
    ensure!(rekeys[0] >= 8, "only {rekeys:?} rekeys\n{}", lab.logs());
    ensure!(
        lost == 0,
        "{lost} packets lost: {reports:?}\n{}",
        lab.logs()
    );
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
