//! From the model to the snapshot: everything a packet needs, worked out beforehand.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use hawser_api::{Dscp, Encapsulation, NextHop, OuterDf, PortId, TunnelId, WorkerId};
use hawser_net::{
    Family, Prefix,
    ecn::{OuterDscp, OuterTos},
    encap::OuterTemplate,
    lpm::Lpm,
    mtu,
};
use ipnet::IpNet;

use super::{
    ETHERNET, Egress, Ends, Hop, Link, Model, SpiEntry, SpiTable, Tables, Tunnel, UNTAGGED, Usual,
};
use crate::sa::esp_lengths;

/// The longest prefix match of a route table. Canonical prefixes only: the validation sees to it.
pub(super) fn routes<S>(routes: &HashMap<IpNet, u32, S>) -> Lpm {
    Lpm::build(
        routes
            .iter()
            .filter_map(|(net, &hop)| Some((Prefix::new(net.addr(), net.prefix_len()).ok()?, hop))),
    )
}

pub(super) fn tables(model: &Model, generation: u64, slots: u32) -> Tables {
    let mut inbound = vec![None; slots as usize];
    for sa in model.inbound.values() {
        inbound[sa.slot as usize] = Some(Arc::clone(sa));
    }
    let spis = model.inbound.iter().map(|(&spi, sa)| {
        (
            spi,
            SpiEntry {
                slot: sa.slot,
                owner: model.owner_of(sa.tunnel).unwrap_or(WorkerId(0)),
            },
        )
    });
    let tunnels = dense(
        model
            .tunnels
            .keys()
            .filter_map(|&id| Some((id.index(), Arc::new(tunnel(model, id)?)))),
    );
    Tables {
        generation,
        ports: model.ports.clone(),
        routes: dense(model.tables.iter().map(|(id, table)| {
            (
                id.index(),
                table
                    .compiled
                    .clone()
                    .unwrap_or_else(|| Arc::new(Lpm::build([]))),
            )
        }))
        .into_iter()
        .map(|table| table.unwrap_or_else(|| Arc::new(Lpm::build([]))))
        .collect(),
        hops: model.hops.iter().map(|&hop| resolve(model, hop)).collect(),
        groups: dense(
            model
                .groups
                .iter()
                .filter_map(|(id, group)| Some((id.index(), group.buckets.clone()?))),
        ),
        usual: usual(&tunnels),
        tunnels,
        inbound,
        spis: SpiTable::build(spis),
        locals: model.tunnels.values().map(|tunnel| tunnel.local).collect(),
        neighbours: Arc::clone(&model.neighbours),
    }
}

fn usual(tunnels: &[Option<Arc<Tunnel>>]) -> Usual {
    let is_usual = |tunnel: &Tunnel| {
        let open = |egress: &Egress| {
            let selectors = &egress.sa.selectors;
            selectors.is_open(Family::V4) && selectors.is_open(Family::V6)
        };
        tunnel.egress.as_ref().is_some_and(open) && !tunnel.clear_inner_df
    };
    let tunnels = || tunnels.iter().map(|tunnel| tunnel.as_deref());
    Usual {
        tunnels: tunnels().map(|t| t.is_some_and(is_usual)).collect(),
        mtu: tunnels()
            .flatten()
            .filter(|tunnel| is_usual(tunnel))
            .map(|tunnel| tunnel.inside_mtu)
            .min()
            .unwrap_or(0),
    }
}

fn dense<T: Clone>(entries: impl Iterator<Item = (usize, T)>) -> Vec<Option<T>> {
    let mut table = Vec::new();
    for (at, entry) in entries {
        if table.len() <= at {
            table.resize(at + 1, None);
        }
        table[at] = Some(entry);
    }
    table
}

fn resolve(model: &Model, hop: NextHop) -> Hop {
    match hop {
        NextHop::Group(id) => Hop::Group(id),
        NextHop::Tunnel(id) => Hop::Tunnel(id),
        NextHop::Inside {
            port,
            vlan,
            gateway: None,
        } => Hop::OnLink {
            port,
            vlan: vlan.unwrap_or(UNTAGGED),
        },
        NextHop::Inside {
            port,
            vlan,
            gateway: Some(address),
        } => {
            let vlan = vlan.unwrap_or(UNTAGGED);
            match model.neighbours.get(&(port, vlan, address)) {
                Some(&mac) => Hop::Link(Link::new(port, &model.ports[port.index()], vlan, mac)),
                None => Hop::Gateway {
                    port,
                    vlan,
                    address,
                },
            }
        }
        NextHop::Host => Hop::Host,
        NextHop::Blackhole => Hop::Blackhole,
    }
}

/// `None` when the addresses are of different families, which the validation has refused.
pub(super) fn tunnel(model: &Model, id: TunnelId) -> Option<Tunnel> {
    let config = model.tunnels.get(&id)?;
    let outbound = model.outbound.get(&id).cloned();
    let udp = match config.encapsulation {
        Encapsulation::Plain => None,
        Encapsulation::Udp {
            local_port,
            remote_port,
        } => Some((local_port, remote_port)),
    };
    let ethernet = ethernet(model, config.port, config.next_hop, config.local);
    let template = |spi| {
        let link = ethernet.unwrap_or_default();
        OuterTemplate::new(link, config.local, config.remote, udp, spi)
    };
    let port_mtu = model.ports[config.port.index()].mtu;
    let outside_mtu = config
        .outside_mtu
        .min(port_mtu.try_into().unwrap_or(u16::MAX));
    let mut inside_mtu = 0;
    let mut egress = None;
    if let Some(sa) = &outbound {
        let template = template(sa.spi.0).ok()?;
        let esp = esp_lengths(sa.key.suite());
        inside_mtu =
            mtu::inside_mtu(outside_mtu, template.family(), template.udp(), esp).unwrap_or(0);
        egress = ethernet.map(|_| Egress {
            front: template.len() + esp.iv,
            template,
            esp,
            tos: OuterTos::new(match config.dscp {
                Dscp::Copy => OuterDscp::Copy,
                Dscp::Fixed(value) => OuterDscp::Fixed(value),
            }),
            copy_df: config.outer_df == OuterDf::Copy,
            set_df: config.outer_df == OuterDf::Set,
            sa: Arc::clone(sa),
        });
    }
    let mss = |family| match config.tcp_mss {
        _ if inside_mtu == 0 => 0,
        Some(fixed) => fixed,
        None => mtu::tcp_mss(inside_mtu, family),
    };
    Some(Tunnel {
        id,
        port: config.port,
        next_hop: config.next_hop,
        egress,
        has_outbound: outbound.is_some(),
        inside_mtu,
        mss_v4: mss(Family::V4),
        mss_v6: mss(Family::V6),
        clear_inner_df: config.clear_inner_df,
        ends: Ends::new(config.local, config.remote),
        encapsulation: config.encapsulation,
        table: config.table,
    })
}

fn ethernet(
    model: &Model,
    port: PortId,
    next_hop: IpAddr,
    local: IpAddr,
) -> Option<[u8; ETHERNET]> {
    let mac = model.neighbours.get(&(port, UNTAGGED, next_hop))?;
    let mut header = [0; ETHERNET];
    header[..6].copy_from_slice(mac);
    header[6..12].copy_from_slice(&model.ports[port.index()].mac);
    header[12..].copy_from_slice(&ethertype(local.is_ipv4()));
    Some(header)
}

/// The Ethernet type of IPv4 or IPv6, as on the wire.
#[must_use]
pub fn ethertype(ipv4: bool) -> [u8; 2] {
    if ipv4 { [0x08, 0x00] } else { [0x86, 0xdd] }
}
