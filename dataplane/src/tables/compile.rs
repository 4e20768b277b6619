//! From the model to the snapshot: everything a packet needs, worked out beforehand.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use hawser_aead::Suite;
use hawser_api::{Dscp, Encapsulation, NextHop, PortId, TunnelId, WorkerId};
use hawser_net::{
    Family, Prefix,
    ecn::OuterDscp,
    encap::OuterTemplate,
    lpm::Lpm,
    mtu::{self, EspLengths},
};
use ipnet::IpNet;

use super::{ETHERNET, Hop, Model, Neighbours, SpiEntry, SpiTable, Tables, Tunnel, UNTAGGED};
use crate::sa::OutboundSa;

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
        hops: model
            .hops
            .iter()
            .map(|&hop| resolve(hop, &model.neighbours))
            .collect(),
        groups: dense(
            model
                .groups
                .iter()
                .filter_map(|(id, group)| Some((id.index(), group.buckets.clone()?))),
        ),
        tunnels: dense(
            model
                .tunnels
                .keys()
                .filter_map(|&id| Some((id.index(), Arc::new(tunnel(model, id)?)))),
        ),
        inbound,
        spis: SpiTable::build(spis),
        locals: model.tunnels.values().map(|tunnel| tunnel.local).collect(),
        neighbours: Arc::clone(&model.neighbours),
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

fn resolve(hop: NextHop, neighbours: &Neighbours) -> Hop {
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
            let mac = neighbours.get(&(port, vlan, address)).copied();
            Hop::Gateway {
                port,
                vlan,
                address,
                mac,
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
    let spi = outbound.as_ref().map_or(0, |sa| sa.spi.0);
    let template = OuterTemplate::new(config.local, config.remote, udp, spi).ok()?;
    let port_mtu = model.ports[config.port.index()].mtu;
    let outside_mtu = config
        .outside_mtu
        .min(port_mtu.try_into().unwrap_or(u16::MAX));
    let inside_mtu = outbound
        .as_ref()
        .map_or(0, |sa| inside_mtu(outside_mtu, &template, sa));
    let mss = |family| match config.tcp_mss {
        _ if inside_mtu == 0 => 0,
        Some(fixed) => fixed,
        None => mtu::tcp_mss(inside_mtu, family),
    };
    Some(Tunnel {
        id,
        port: config.port,
        next_hop: config.next_hop,
        ethernet: ethernet(model, config.port, config.next_hop, config.local),
        template,
        outbound,
        inside_mtu,
        mss_v4: mss(Family::V4),
        mss_v6: mss(Family::V6),
        clear_inner_df: config.clear_inner_df,
        dscp: match config.dscp {
            Dscp::Copy => OuterDscp::Copy,
            Dscp::Fixed(value) => OuterDscp::Fixed(value),
        },
        outer_df: config.outer_df,
        local: config.local,
        remote: config.remote,
        encapsulation: config.encapsulation,
        table: config.table,
    })
}

fn inside_mtu(outside_mtu: u16, template: &OuterTemplate, sa: &OutboundSa) -> u16 {
    let lengths = esp_lengths(sa.key.suite());
    mtu::inside_mtu(outside_mtu, template.family(), template.udp(), lengths).unwrap_or(0)
}

/// A suite's lengths as the MTU arithmetic wants them.
#[must_use]
pub fn esp_lengths(suite: Suite) -> EspLengths {
    EspLengths {
        iv: suite.iv_len(),
        icv: suite.icv_len(),
        block: suite.block_len(),
    }
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
