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
