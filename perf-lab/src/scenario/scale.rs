//! Large tables: how long they take to load, what they cost.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{Findings, Lab, SHORT, pair_of};
use crate::{
    config::TunnelSpec,
    gateway::Pair,
    topology::{Family, Side, Topology, TopologyConfig},
    traffic::{Endpoints, Sizes, flows},
};

/// Tunnels: two SAs each.
const TUNNELS: u32 = 5_000;
/// Routes besides those of the sites.
const ROUTES: u32 = 1_000_000;
/// Bounds for "in seconds", generous for a shared machine.
const START_WITHIN: Duration = Duration::from_secs(60);
/// Resident memory of a data plane with these tables, bytes.
const MEMORY: u64 = 2 << 30;

pub(super) fn scale(findings: &mut Findings) -> Result<()> {
    load(findings, TUNNELS, 0)?;
    load(findings, 8, ROUTES)?;
    load(findings, TUNNELS, ROUTES)
}

/// Starts a pair with tables of this size and sends traffic through it.
fn load(findings: &mut Findings, tunnels: u32, routes: u32) -> Result<()> {
    let topology = Topology::build(TopologyConfig {
        tunnels,
        ..TopologyConfig::default()
    })?;
    let mut spec = pair_of(vec![TunnelSpec::default(); tunnels as usize]);
    let file = crate::config::Directory::create(&format!("{}-R", crate::netns::unique_prefix()))?;
    if routes > 0 {
        let mut text = String::with_capacity(16 * routes as usize);
        for index in 0..routes {
            let _ = writeln!(text, "{}", prefix(index));
        }
        let path = file.write("routes", &text)?;
        spec.a.end = format!(
            "\n[[route]]\nfile = \"{}\"\nvia = \"lab\"\n",
            path.display()
        );
    }
    let lab = Lab {
        pair: Pair::start(&topology, spec)?,
        topology,
    };
    let status = lab.gateway(Side::A).status()?;
    let started = lab.gateway(Side::A).started_in;
    findings.add(format!(
        "{} SAs and {routes} routes: up after {} ms, data plane set up in {} ms, memory {} MiB",
        2 * tunnels,
        started.as_millis(),
        status.0["dataplane"]["setup_micros"].as_u64().unwrap_or(0) / 1000,
        status.memory_bytes() >> 20
    ));
    ensure!(started < START_WITHIN, "it took {started:?} to start");
    ensure!(
        status.memory_bytes() < MEMORY,
        "{} bytes of memory",
        status.memory_bytes()
    );
    let loaded = status.0["routes"]["main"].as_u64().unwrap_or(0);
    ensure!(
        loaded >= u64::from(routes),
        "only {loaded} routes are there"
    );
    for family in [Family::V4, Family::V6] {
        let flows = flows(Side::A, family, Endpoints::Spread, 0, 512);
        let report = lab.exchange(Side::A, &flows, &Sizes::fixed(600), 5000, SHORT * 2)?;
        report.must_be_perfect().with_context(|| {
            let [a, b] = [Side::A, Side::B].map(|s| lab.gateway(s).status().map(|s| s.drops()));
            format!("dropped at A {a:?}, at B {b:?}\n{}", lab.logs())
        })?;
    }
    lab.close()
}

/// Distinct /24s outside of the sites' and the outside network's addresses: 16.0.0.0 onwards, with
/// every sixteenth a /28 more, as real tables have prefixes of several lengths.
fn prefix(index: u32) -> String {
    let [_, a, b, c] = index.to_be_bytes();
    let first = 16 + a;
    if index % 16 == 15 {
        format!("{first}.{b}.{c}.16/28")
    } else {
        format!("{first}.{b}.{c}.0/24")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn prefixes_are_distinct() {
        let all: HashSet<String> = (0..ROUTES).map(prefix).collect();
        assert_eq!(all.len(), ROUTES as usize);
    }
}
