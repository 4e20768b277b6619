//! Every kind of tunnel carries traffic both ways without loss.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use hawser_aead::Suite;

use super::{Findings, Lab, pair_of};
use crate::{
    config::{TunnelSpec, tunnel_name},
    topology::{Family, Side, TopologyConfig},
    traffic::{Endpoints, FlowSpec, Sizes, flows},
};

/// Packets of each tunnel, family and direction.
const PACKETS: u32 = 24;

pub(super) fn every_kind_of_tunnel(findings: &mut Findings) -> Result<()> {
    let mut tunnels = Vec::new();
    for outside in [Family::V4, Family::V6] {
        for udp in [false, true] {
            for suite in Suite::ALL {
                for esn in [false, true] {
                    let spec = TunnelSpec::default();
                    tunnels.push(TunnelSpec {
                        outside,
                        udp,
                        suite,
                        esn,
                        ..spec
                    });
                }
            }
        }
    }
    let count = tunnels.len();
    let mut spec = pair_of(tunnels.clone());
    for (side, gateway) in [(Side::A, &mut spec.a), (Side::B, &mut spec.b)] {
        for index in 0..count {
            let [v4, v6] =
                [Family::V4, Family::V6].map(|family| network_of(side.other(), family, index));
            gateway.end += &format!(
                "\n[[route]]\nto = [\"{v4}\", \"{v6}\"]\nvia = \"{}\"\n",
                tunnel_name(index)
            );
        }
    }
    let config = TopologyConfig {
        tunnels: count as u32,
        ..TopologyConfig::default()
    };
    // The hosts of all tunnels are one host to the gateways, so neighbours must be there before.
    let topology = crate::topology::Topology::build(config)?;
    for side in [Side::A, Side::B] {
        for family in [Family::V4, Family::V6] {
            topology.add_hosts(side, (0..count).map(|index| host_of(side, family, index)))?;
        }
    }
    let lab = Lab {
        pair: crate::gateway::Pair::start(&topology, spec)?,
        topology,
    };
    for from in [Side::A, Side::B] {
        for family in [Family::V4, Family::V6] {
            let template = flows(from, family, Endpoints::Spread, 0, 1)[0];
            let flows: Vec<FlowSpec> = (0..count)
                .map(|index| FlowSpec {
                    number: index as u16,
                    destination: host_of(from.other(), family, index),
                    ..template
                })
                .collect();
            let total = PACKETS * count as u32;
            let time = Duration::from_millis(500);
            let sizes = Sizes::imix_within(1350);
            let report = lab.exchange(from, &flows, &sizes, total * 2, time)?;
            for flow in report
                .flows
                .iter()
                .filter(|f| f.lost + f.duplicates + f.reordered > 0)
            {
                let tunnel = &tunnels[usize::from(flow.flow)];
                findings.add(format!(
                    "{family:?} from {}: {tunnel:?}: {flow:?}",
                    from.letter()
                ));
            }
            report
                .must_be_perfect()
                .with_context(|| format!("{family:?} inside, from {}", from.letter()))?;
        }
    }
    exact_counters(&lab, count)?;
    findings.add(format!(
        "{count} kinds of tunnel, IPv4 and IPv6 inside, both ways: nothing lost"
    ));
    lab.close()
}

/// Each tunnel sent and received exactly its own packets.
fn exact_counters(lab: &Lab, count: usize) -> Result<()> {
    for side in [Side::A, Side::B] {
        let status = lab.gateway(side).status()?;
        let drops = status.drops();
        ensure!(
            drops.is_empty(),
            "gateway {} dropped {drops:?}",
            side.letter()
        );
        let tunnels = status.tunnels();
        ensure!(
            tunnels.len() == count,
            "{} tunnels in status",
            tunnels.len()
        );
        let expected = 2 * u64::from(PACKETS);
        for tunnel in tunnels {
            ensure!(
                tunnel.sent == expected && tunnel.received == expected,
                "gateway {}: expected {expected} packets each way: {tunnel:?}",
                side.letter()
            );
        }
    }
    Ok(())
}

/// The network behind one tunnel.
fn network_of(side: Side, family: Family, index: usize) -> String {
    match (family, host_of(side, family, index)) {
        (Family::V4, host) => format!("{host}/32"),
        (Family::V6, host) => format!("{host}/128"),
    }
}

/// The host behind one tunnel.
fn host_of(side: Side, family: Family, index: usize) -> IpAddr {
    crate::topology::inside(side, family, 100, index as u8 + 1)
}
