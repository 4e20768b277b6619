//! Changing the configuration under traffic.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{Findings, Lab};
use crate::{
    config::{self, TunnelSpec},
    interrupt,
    topology::{Family, SITE_INTERFACE, Side, TopologyConfig},
    traffic::{
        Endpoints, Sizes, Stamp, flows, frame,
        packet::{PacketPort, PacketSink, now, send_flows},
    },
};

/// Runs `change` under steady traffic both of whose ends lose nothing.
pub(super) fn without_loss(lab: &Lab, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let sink = PacketSink::start(lab.site(Side::B), SITE_INTERFACE)?;
    let port = PacketPort::open(lab.site(Side::A), SITE_INTERFACE)?;
    let flows = flows(Side::A, Family::V4, Endpoints::Spread, 0, 32);
    let time = Duration::from_millis(2500);
    let traffic = thread::spawn(move || send_flows(&port, &flows, &Sizes::fixed(600), 1000, time));
    interrupt::sleep(Duration::from_millis(500))?;
    let changed = change();
    let sent = traffic
        .join()
        .map_err(|_| anyhow::anyhow!("the traffic panicked"))??;
    changed?;
    sink.finish(&sent)?.must_be_perfect()
}

pub(super) fn reload(findings: &mut Findings) -> Result<()> {
    let lab = Lab::simple(4)?;
    lab.must_work()?;
    let gateway = lab.gateway(Side::A);
    let file = gateway.directory().path().join("hawser.toml");
    let good = fs::read_to_string(&file)?;
    for (what, bad) in [
        ("an unknown key", good.replace("remote =", "remot =")),
        ("no TOML at all", format!("{good}\n[[")),
        (
            "an interface that is not there",
            good.replace("\"in0\"", "\"in7\""),
        ),
        (
            "a bad address",
            good.replace("local = \"198.18.0.1\"", "local = \"198.18.0.256\""),
        ),
    ] {
        ensure!(bad != good, "{what} changes nothing");
        without_loss(&lab, || {
            gateway.directory().write("hawser.toml", &bad)?;
            let error = gateway.command("reload", &[]).err();
            let error = error.with_context(|| format!("{what} was not refused"))?;
            findings.add(format!(
                "refused: {what}: {}",
                first_reason(&format!("{error:#}"))
            ));
            Ok(())
        })
        .with_context(|| format!("with {what}\n{}", lab.logs()))?;
    }
    let changed = good.replace("replay_window = 1024", "replay_window = 1024\nweight = 3");
    without_loss(&lab, || {
        gateway.directory().write("hawser.toml", &changed)?;
        gateway.command("reload", &[]).map(drop)
    })
    .with_context(|| format!("with a good change\n{}", lab.logs()))?;
    let status = gateway.status()?;
    let reloads = status.0["gateway"]["reloads"].as_u64();
    ensure!(
        reloads == Some(1),
        "one good reload, but status counts {reloads:?}"
    );
    findings.add("a good change: taken up, nothing lost");
    lab.must_work()?;
    lab.close()
}

/// Two workers at gateway B, and tunnels that change hands under traffic.
pub(super) fn hand_over(findings: &mut Findings) -> Result<()> {
    const TUNNELS: u16 = 4;
    let mut spec = super::pair_of(vec![TunnelSpec::default(); TUNNELS.into()]);
    spec.b.cores = vec![0, 1];
    let config = TopologyConfig {
        tunnels: TUNNELS.into(),
        queues: 2,
        ..TopologyConfig::default()
    };
    let lab = Lab::new(config, spec)?;
    lab.must_work()?;
    let gateway = lab.gateway(Side::B);
    let file = gateway.directory().path().join("hawser.toml");
    let free = fs::read_to_string(&file)?;
    for worker in [0, 1, 0] {
        let pinned = free.replace("replay_window = 1024", &pin(worker));
        ensure!(pinned != free, "there is nowhere to pin a tunnel");
        // A tunnel a second changes hands, so the last ones do it later than the traffic ends.
        without_loss(&lab, || {
            gateway.directory().write("hawser.toml", &pinned)?;
            gateway.command("reload", &[]).map(drop)
        })
        .with_context(|| format!("on the way to worker {worker}\n{}", lab.logs()))?;
        let moved = interrupt::wait_for(Duration::from_secs(10), || {
            Ok(gateway.status()?.owners() == vec![Some(worker); TUNNELS.into()])
        })?;
        ensure!(
            moved,
            "not all tunnels are with worker {worker}\n{}",
            lab.logs()
        );
        let drops = gateway.status()?.drops();
        ensure!(drops.is_empty(), "dropped: {drops:?}");
        lab.must_work()?;
        findings.add(format!(
            "all tunnels to worker {worker}: nothing lost, nothing twice"
        ));
    }
    lab.close()
}

fn pin(worker: u64) -> String {
    format!("replay_window = 1024\nowner = {worker}")
}

/// The line that says what is wrong.
fn first_reason(text: &str) -> &str {
    text.lines()
        .find_map(|line| line.split_once("error: ").map(|(_, why)| why))
        .unwrap_or(text)
}

/// Tunnels, and which of them goes.
const TUNNELS: u16 = 8;
const REMOVED: usize = 3;
/// Flows that are looked at.
const FLOWS: u16 = 64;

pub(super) fn resilience(findings: &mut Findings) -> Result<()> {
    let lab = Lab::simple(TUNNELS)?;
    lab.must_work()?;
    let before = tunnels_of_flows(&lab)?;
    let mut share: BTreeMap<&str, u32> = BTreeMap::new();
    for tunnel in before.values() {
        *share.entry(tunnel).or_default() += 1;
    }
    ensure!(
        share.len() == usize::from(TUNNELS),
        "{FLOWS} flows use only {share:?}"
    );
    let gateway = lab.gateway(Side::A);
    let file = gateway.directory().path().join("hawser.toml");
    let all = fs::read_to_string(&file)?;
    let fewer = without_tunnel(&all, REMOVED).context("the tunnel to remove was not found")?;
    gateway.directory().write("hawser.toml", &fewer)?;
    gateway.command("reload", &[])?;
    settled(&lab, usize::from(TUNNELS) - 1)?;
    let after = tunnels_of_flows(&lab)?;
    let removed = config::tunnel_name(REMOVED);
    let mut moved = 0;
    for (flow, tunnel) in &before {
        let now = &after[flow];
        ensure!(*now != removed, "flow {flow} still uses {removed}");
        if *tunnel == removed {
            moved += 1;
        } else {
            ensure!(
                now == tunnel,
                "flow {flow} moved from {tunnel} to {now} without need"
            );
        }
    }
    findings.add(format!("flows by tunnel: {share:?}"));
    findings.add(format!(
        "{removed} taken out: its {moved} flows moved, the other {} stayed",
        FLOWS - moved
    ));
    // And back: only the share of the one that returns moves.
    gateway.directory().write("hawser.toml", &all)?;
    gateway.command("reload", &[])?;
    settled(&lab, usize::from(TUNNELS))?;
    let again = tunnels_of_flows(&lab)?;
    for (flow, tunnel) in &after {
        let now = &again[flow];
        ensure!(
            now == tunnel || *now == removed,
            "flow {flow} moved from {tunnel} to {now}"
        );
    }
    let returned = again.values().filter(|t| **t == removed).count();
    ensure!(returned > 0, "nothing uses {removed} again");
    findings.add(format!("{removed} put back: {returned} flows use it"));
    lab.must_work()?;
    lab.close()
}

/// Waits until gateway A has so many tunnels, all up, and its workers use them.
fn settled(lab: &Lab, tunnels: usize) -> Result<()> {
    let there = interrupt::wait_for(Duration::from_secs(10), || {
        let status = lab.gateway(Side::A).status()?;
        Ok(status.is_up() && status.tunnels().len() == tunnels)
    })?;
    ensure!(there, "not {tunnels} tunnels up\n{}", lab.logs());
    // Workers take new tables in their housekeeping.
    interrupt::sleep(Duration::from_millis(300))
}

/// The configuration without the section of a tunnel.
fn without_tunnel(text: &str, tunnel: usize) -> Option<String> {
    const SECTION: &str = "[[connection.tunnel]]\n";
    let start = text.find(&format!("{SECTION}name = \"t{tunnel}\"\n"))?;
    let end = start + SECTION.len() + text[start + SECTION.len()..].find("\n[[")? + 1;
    Some(format!("{}{}", &text[..start], &text[end..]))
}

/// Which tunnel of gateway A each flow uses, seen from the tunnels' counters.
fn tunnels_of_flows(lab: &Lab) -> Result<BTreeMap<u16, String>> {
    /// Sent in a row, so that packets of others do not matter.
    const PACKETS: u64 = 5;
    let port = PacketPort::open(lab.site(Side::A), SITE_INTERFACE)?;
    let counters = || -> Result<Vec<(String, u64)>> {
        let status = lab.gateway(Side::A).status()?;
        Ok(status
            .tunnels()
            .into_iter()
            .map(|t| (t.name, t.sent))
            .collect())
    };
    let mut found = BTreeMap::new();
    let mut before = counters()?;
    for flow in flows(Side::A, Family::V4, Endpoints::Spread, 0, FLOWS) {
        for sequence in 0..PACKETS {
            let stamp = Stamp {
                flow: flow.number,
                sequence,
                time: now()?,
            };
            port.send(&frame(&flow, stamp, 200)?)?;
        }
        let mut after = Vec::new();
        let total = |list: &[(String, u64)]| list.iter().map(|(_, n)| n).sum::<u64>();
        let counted = interrupt::wait_for(Duration::from_secs(2), || {
            after = counters()?;
            Ok(total(&after) >= total(&before) + PACKETS)
        })?;
        ensure!(
            counted,
            "the packets of flow {} were not counted",
            flow.number
        );
        let used: Vec<_> = before
            .iter()
            .zip(&after)
            .filter(|(a, b)| a.1 != b.1)
            .map(|(_, b)| b.0.clone())
            .collect();
        ensure!(used.len() == 1, "flow {} used {used:?}", flow.number);
        found.extend(used.into_iter().map(|name| (flow.number, name)));
        before = after;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_section_of_the_tunnel_goes() {
        let section = |n: usize| format!("[[connection.tunnel]]\nname = \"t{n}\"\nx = 1\n\n");
        let text: String = (0..3).map(section).collect::<String>() + "[[route]]\n";
        let expected = section(0) + &section(2) + "[[route]]\n";
        assert_eq!(without_tunnel(&text, 1).unwrap(), expected);
        assert!(without_tunnel(&text, 7).is_none());
    }

    #[test]
    fn the_reason_is_found() {
        let text = "`x` failed: error: unknown key `remot`\n --> a.toml:2:1";
        assert_eq!(first_reason(text), "unknown key `remot`");
        assert_eq!(first_reason("other"), "other");
    }
}
