//! From the tables that are installed to those that should be: the updates in between.
//!
//! All updates of one difference go into one transaction. Their order still matters where one
//! takes up what another leaves: an inbound SPI that moves to another tunnel is removed first,
//! and nothing is removed that something put before still needs.

use std::{collections::BTreeMap, sync::Arc};

use hawser_api::{Attachment, Neighbour, Route, TableId, Update, wire::ROUTES_PER_MESSAGE};
use ipnet::IpNet;

use crate::desired::{Desired, Routes};

/// Neighbours in one update; 40 octets each on the wire, so that any update fits a message.
const NEIGHBOURS_PER_UPDATE: usize = 1_000;

/// The updates that turn `old` into `new`.
#[must_use]
pub fn diff(old: &Desired, new: &Desired) -> Vec<Update> {
    let mut updates = Vec::new();
    let same_sas = Arc::ptr_eq(&old.sas, &new.sas);
    if !same_sas {
        for (spi, sa) in &old.sas.inbound {
            let moved = new
                .sas
                .inbound
                .get(spi)
                .is_none_or(|n| n.tunnel != sa.tunnel);
            // Those of a removed tunnel go with it, unless another one takes the SPI over.
            let tunnel_stays = new.tunnels.contains_key(&sa.tunnel);
            if moved && (tunnel_stays || new.sas.inbound.contains_key(spi)) {
                updates.push(Update::RemoveInboundSa(*spi));
            }
        }
    }
    for (&(port, vlan), &table) in changed(&old.attachments, &new.attachments) {
        updates.push(Update::PutAttachment(Attachment { port, vlan, table }));
    }
    for (_, tunnel) in changed(&old.tunnels, &new.tunnels) {
        updates.push(Update::PutTunnel(tunnel.clone()));
    }
    if !same_sas {
        for (_, sa) in changed(&old.sas.inbound, &new.sas.inbound) {
            updates.push(Update::PutInboundSa(sa.clone()));
        }
        for (_, sa) in changed(&old.sas.outbound, &new.sas.outbound) {
            updates.push(Update::PutOutboundSa(sa.clone()));
        }
    }
    for (&port, addresses) in changed(&old.port_addresses, &new.port_addresses) {
        updates.push(Update::PutPortAddresses(port, addresses.clone()));
    }
    let neighbours: Vec<Neighbour> = changed(&old.neighbours, &new.neighbours)
        .map(|(&(port, vlan, address), &mac)| Neighbour {
            port,
            vlan,
            address,
            mac,
        })
        .collect();
    updates.extend(
        neighbours
            .chunks(NEIGHBOURS_PER_UPDATE)
            .map(|n| Update::PutNeighbours(n.to_vec())),
    );
    for (&id, members) in changed(&old.groups, &new.groups) {
        updates.push(Update::PutGroup {
            id,
            members: members.clone(),
        });
    }
    let empty = Arc::new(Routes::new());
    for (&table, routes) in &new.routes {
        routes_diff(
            table,
            old.routes.get(&table).unwrap_or(&empty),
            routes,
            &mut updates,
        );
    }
    for (&table, routes) in &old.routes {
        if !new.routes.contains_key(&table) {
            routes_diff(table, routes, &empty, &mut updates);
        }
    }
    updates.extend(removed(&old.groups, &new.groups).map(|id| Update::RemoveGroup(*id)));
    if !same_sas {
        updates.extend(
            removed(&old.sas.outbound, &new.sas.outbound)
                .filter(|id| new.tunnels.contains_key(id))
                .map(|id| Update::RemoveOutboundSa(*id)),
        );
    }
    updates.extend(removed(&old.tunnels, &new.tunnels).map(|id| Update::RemoveTunnel(*id)));
    let neighbours: Vec<_> = removed(&old.neighbours, &new.neighbours).copied().collect();
    updates.extend(
        neighbours
            .chunks(NEIGHBOURS_PER_UPDATE)
            .map(|n| Update::RemoveNeighbours(n.to_vec())),
    );
    for port in removed(&old.port_addresses, &new.port_addresses) {
        updates.push(Update::PutPortAddresses(*port, Vec::new()));
    }
    for &(port, vlan) in removed(&old.attachments, &new.attachments) {
        updates.push(Update::RemoveAttachment { port, vlan });
    }
    updates
}

/// The updates that install `new` in a data plane whose tables are unknown or empty.
#[must_use]
pub fn install(new: &Desired) -> Vec<Update> {
    let mut updates = vec![Update::ReplaceAll];
    updates.extend(new.kept.iter().map(|id| Update::KeepSas(*id)));
    updates.extend(diff(&Desired::default(), new));
    updates
}

fn changed<'n, K: Ord, V: PartialEq>(
    old: &BTreeMap<K, V>,
    new: &'n BTreeMap<K, V>,
) -> impl Iterator<Item = (&'n K, &'n V)> {
    new.iter()
        .filter(move |(key, value)| old.get(key) != Some(value))
}

fn removed<'o, K: Ord, V>(
    old: &'o BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> impl Iterator<Item = &'o K> {
    old.keys().filter(move |key| !new.contains_key(key))
}

fn routes_diff(table: TableId, old: &Arc<Routes>, new: &Arc<Routes>, updates: &mut Vec<Update>) {
    if Arc::ptr_eq(old, new) {
        return;
    }
    let put: Vec<Route> = changed(old, new)
        .map(|(&prefix, &next_hop)| Route { prefix, next_hop })
        .collect();
    for routes in put.chunks(ROUTES_PER_MESSAGE) {
        updates.push(Update::PutRoutes {
            table,
            routes: routes.to_vec(),
        });
    }
    let gone: Vec<IpNet> = removed(old, new).copied().collect();
    for prefixes in gone.chunks(ROUTES_PER_MESSAGE) {
        updates.push(Update::RemoveRoutes {
            table,
            prefixes: prefixes.to_vec(),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use hawser_aead::Suite;
    use hawser_api::{
        Ceiling, Dscp, Encapsulation, GroupId, InboundSa, Member, NextHop, OutboundSa, OuterDf,
        PortId, Secret, Selectors, Spi, Tunnel, TunnelId,
    };
    use proptest::{collection::btree_map, prelude::*};

    use super::*;
    use crate::desired::SaSet;

    /// What the data plane does with updates, and what it refuses.
    fn apply(tables: &mut Desired, updates: Vec<Update>) {
        let mut sas = (*tables.sas).clone();
        for update in updates {
            match update {
                Update::ReplaceAll => {
                    *tables = Desired::default();
                    sas = SaSet::default();
                }
                // What is kept is nothing that control knows of.
                Update::KeepSas(_) => {}
                Update::PutAttachment(a) => {
                    tables.attachments.insert((a.port, a.vlan), a.table);
                }
                Update::RemoveAttachment { port, vlan } => {
                    assert!(tables.attachments.remove(&(port, vlan)).is_some());
                }
                Update::PutTunnel(tunnel) => {
                    tables.tunnels.insert(tunnel.id, tunnel);
                }
                Update::RemoveTunnel(id) => {
                    assert!(tables.tunnels.remove(&id).is_some());
                    sas.outbound.remove(&id);
                    sas.inbound.retain(|_, sa| sa.tunnel != id);
                    for members in tables.groups.values_mut() {
                        members.retain(|m| m.tunnel != id);
                    }
                }
                Update::PutOutboundSa(sa) => {
                    assert!(tables.tunnels.contains_key(&sa.tunnel), "SA of no tunnel");
                    sas.outbound.insert(sa.tunnel, sa);
                }
                Update::RemoveOutboundSa(id) => assert!(sas.outbound.remove(&id).is_some()),
                Update::PutInboundSa(sa) => {
                    assert!(tables.tunnels.contains_key(&sa.tunnel), "SA of no tunnel");
                    if let Some(old) = sas.inbound.insert(sa.spi, sa.clone()) {
                        assert_eq!(old.tunnel, sa.tunnel, "the SPI is another tunnel's");
                    }
                }
                Update::RemoveInboundSa(spi) => assert!(sas.inbound.remove(&spi).is_some()),
                Update::PutGroup { id, members } => {
                    let known = |m: &Member| tables.tunnels.contains_key(&m.tunnel);
                    assert!(members.iter().all(known), "a member that is no tunnel");
                    tables.groups.insert(id, members);
                }
                Update::RemoveGroup(id) => assert!(tables.groups.remove(&id).is_some()),
                Update::PutRoutes { table, routes } => {
                    assert!(routes.len() <= ROUTES_PER_MESSAGE);
                    let table = Arc::make_mut(tables.routes.entry(table).or_default());
                    for route in routes {
                        let known = match route.next_hop {
                            NextHop::Group(id) => tables.groups.contains_key(&id),
                            NextHop::Tunnel(id) => tables.tunnels.contains_key(&id),
                            _ => true,
                        };
                        assert!(known, "a route to nothing: {route:?}");
                        table.insert(route.prefix, route.next_hop);
                    }
                }
                Update::RemoveRoutes { table, prefixes } => {
                    let table = Arc::make_mut(tables.routes.get_mut(&table).unwrap());
                    for prefix in prefixes {
                        assert!(table.remove(&prefix).is_some());
                    }
                }
                Update::PutNeighbours(neighbours) => {
                    for n in neighbours {
                        tables.neighbours.insert((n.port, n.vlan, n.address), n.mac);
                    }
                }
                Update::RemoveNeighbours(keys) => {
                    for key in keys {
                        assert!(tables.neighbours.remove(&key).is_some());
                    }
                }
                Update::PutPortAddresses(port, addresses) => {
                    tables.port_addresses.insert(port, addresses);
                }
            }
        }
        tables.sas = Arc::new(sas);
    }

    /// Without what means the same as nothing.
    fn normal(mut tables: Desired) -> Desired {
        // No table of the data plane.
        tables.kept.clear();
        tables.routes.retain(|_, routes| !routes.is_empty());
        tables
            .port_addresses
            .retain(|_, addresses| !addresses.is_empty());
        tables
    }

    fn address(n: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, n).into()
    }

    fn tunnel(id: u32, variant: u8) -> Tunnel {
        Tunnel {
            id: TunnelId(id),
            name: format!("t{id}"),
            local: address(1),
            remote: address(variant),
            encapsulation: Encapsulation::Plain,
            port: PortId(0),
            next_hop: address(2),
            outside_mtu: 1500,
            dscp: Dscp::Copy,
            outer_df: OuterDf::Copy,
            clear_inner_df: false,
            tcp_mss: None,
            table: TableId::MAIN,
            owner: None,
            ceiling: Ceiling::default(),
        }
    }

    fn key(seed: u8) -> Secret {
        Secret::new(vec![seed; 20])
    }

    /// Small numbers, so that two of them share much. References point at what exists, as in
    /// tables that come from a configuration.
    fn tables() -> impl Strategy<Value = Desired> {
        let tunnels = btree_map(0_u32..6, 0_u8..3, 0..6);
        let outbound = btree_map(0_u32..6, 0_u8..3, 0..6);
        let inbound = btree_map(256_u32..262, (0_u32..6, 0_u8..3), 0..6);
        let groups = btree_map(0_u32..3, btree_map(0_u32..6, 0_u32..3, 0..4), 0..3);
        let routes = btree_map(0_u16..3, btree_map(0_u8..30, 0_u32..12, 0..20), 0..3);
        let neighbours = btree_map((0_u16..2, 0_u8..8), any::<u8>(), 0..10);
        let attachments = btree_map((0_u16..2, 0_u16..3), 0_u16..3, 0..4);
        (
            tunnels,
            outbound,
            inbound,
            groups,
            routes,
            neighbours,
            attachments,
        )
            .prop_map(
                |(tunnels, outbound, inbound, groups, routes, neighbours, attachments)| {
                    let exists = |id: &u32| tunnels.contains_key(id);
                    let sas = SaSet {
                        outbound: outbound
                            .iter()
                            .filter(|(id, _)| exists(id))
                            .map(|(id, seed)| (TunnelId(*id), outbound_sa(*id, *seed)))
                            .collect(),
                        inbound: inbound
                            .iter()
                            .filter(|(_, (id, _))| exists(id))
                            .map(|(spi, (id, seed))| (Spi(*spi), inbound_sa(*spi, *id, *seed)))
                            .collect(),
                    };
                    let members = |m: &std::collections::BTreeMap<u32, u32>| {
                        m.iter()
                            .filter(|(id, _)| exists(id))
                            .map(|(id, weight)| Member {
                                tunnel: TunnelId(*id),
                                weight: *weight,
                            })
                            .collect::<Vec<_>>()
                    };
                    let hop = |n: u32| match n {
                        0..6 if exists(&n) => NextHop::Tunnel(TunnelId(n)),
                        6..9 if groups.contains_key(&(n - 6)) => NextHop::Group(GroupId(n - 6)),
                        9 => NextHop::Host,
                        _ => NextHop::Blackhole,
                    };
                    let net = |n: u8| IpNet::new(address(n * 8), 29).unwrap();
                    Desired {
                        sas: Arc::new(sas),
                        kept: [TunnelId(0)].into(),
                        groups: groups
                            .iter()
                            .map(|(id, m)| (GroupId(*id), members(m)))
                            .collect(),
                        routes: routes
                            .iter()
                            .map(|(table, routes)| {
                                let routes = routes.iter().map(|(n, h)| (net(*n), hop(*h)));
                                (TableId(*table), Arc::new(routes.collect()))
                            })
                            .collect(),
                        neighbours: neighbours
                            .into_iter()
                            .map(|((port, n), mac)| {
                                ((PortId(port), None, address(n)), [2, 0, 0, 0, 0, mac])
                            })
                            .collect(),
                        attachments: attachments
                            .into_iter()
                            .map(|((port, vlan), table)| {
                                ((PortId(port), (vlan > 0).then_some(vlan)), TableId(table))
                            })
                            .collect(),
                        port_addresses: [(PortId(0), vec![address(1)])].into(),
                        tunnels: tunnels
                            .iter()
                            .map(|(id, variant)| (TunnelId(*id), tunnel(*id, *variant)))
                            .collect(),
                    }
                },
            )
    }

    fn outbound_sa(id: u32, seed: u8) -> OutboundSa {
        OutboundSa {
            tunnel: TunnelId(id),
            spi: Spi(1000 + id),
            suite: Suite::Aes128Gcm16,
            key: key(seed),
            esn: false,
            selectors: Selectors::default(),
            transient: false,
        }
    }

    fn inbound_sa(spi: u32, id: u32, seed: u8) -> InboundSa {
        InboundSa {
            tunnel: TunnelId(id),
            spi: Spi(spi),
            suite: Suite::Aes128Gcm16,
            key: key(seed),
            esn: false,
            replay_window: 1024,
            selectors: Selectors::default(),
            transient: false,
        }
    }

    proptest! {
        #[test]
        fn applied_differences_give_the_new_tables(old in tables(), new in tables()) {
            let mut model = old.clone();
            apply(&mut model, diff(&old, &new));
            prop_assert_eq!(normal(model), normal(new.clone()));
            prop_assert_eq!(diff(&new, &new), Vec::new());
        }

        #[test]
        fn an_unknown_data_plane_ends_with_the_new_tables(old in tables(), new in tables()) {
            let mut model = old;
            apply(&mut model, install(&new));
            prop_assert_eq!(normal(model), normal(new));
        }
    }

    #[test]
    fn unchanged_sas_are_not_sent_again() {
        let mut old = Desired::default();
        old.tunnels.insert(TunnelId(0), tunnel(0, 1));
        let mut sas = SaSet::default();
        sas.outbound.insert(TunnelId(0), outbound_sa(0, 1));
        old.sas = Arc::new(sas.clone());
        let mut new = old.clone();
        new.sas = Arc::new(sas);
        new.tunnels.insert(TunnelId(0), tunnel(0, 2));
        assert_eq!(diff(&old, &new), [Update::PutTunnel(tunnel(0, 2))]);
    }

    #[test]
    fn many_routes_are_cut_into_messages() {
        let mut new = Desired::default();
        let net = |n: u32| IpNet::new(Ipv4Addr::from(n << 8).into(), 24).unwrap();
        let routes: Routes = (0..5_001).map(|n| (net(n), NextHop::Host)).collect();
        new.routes.insert(TableId::MAIN, Arc::new(routes));
        let sizes: Vec<usize> = diff(&Desired::default(), &new)
            .iter()
            .map(|u| match u {
                Update::PutRoutes { routes, .. } => routes.len(),
                other => panic!("unexpected {other:?}"),
            })
            .collect();
        assert_eq!(sizes, [2000, 2000, 1001]);
    }
}
