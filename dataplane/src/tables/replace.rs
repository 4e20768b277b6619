//! Taking over: what a control that does not know the running tables leaves out, goes.
//!
//! [`Update::ReplaceAll`] is turned into the removals that make the rest of the transaction the
//! whole state, so that what is in both is never touched and keeps its counters, sequence numbers
//! and replay windows.

use std::collections::{HashMap, HashSet};

use hawser_api::{NextHop, TableId, Update};
use ipnet::IpNet;

use super::{Model, UNTAGGED};

/// The updates with every [`Update::ReplaceAll`] replaced by removals.
pub(super) fn expand(model: &Model, updates: Vec<Update>) -> Vec<Update> {
    let Some(at) = updates
        .iter()
        .rposition(|u| matches!(u, Update::ReplaceAll))
    else {
        return updates;
    };
    // What came before it is replaced as well, and was never applied.
    let rest = updates[at + 1..].to_vec();
    let mut all = removals(model, &rest);
    all.extend(rest);
    all
}

fn removals(model: &Model, wanted: &[Update]) -> Vec<Update> {
    let mut tunnels = HashSet::new();
    let mut kept = HashSet::new();
    let mut outbound = HashSet::new();
    let mut inbound = HashSet::new();
    let mut groups = HashSet::new();
    let mut attachments = HashSet::new();
    let mut neighbours = HashSet::new();
    let mut routes: HashMap<TableId, HashMap<IpNet, NextHop>> = HashMap::new();
    for update in wanted {
        match update {
            Update::PutTunnel(tunnel) => {
                tunnels.insert(tunnel.id);
            }
            Update::KeepSas(tunnel) => {
                kept.insert(*tunnel);
            }
            Update::PutOutboundSa(sa) => {
                outbound.insert(sa.tunnel);
            }
            Update::PutInboundSa(sa) => {
                inbound.insert(sa.spi);
            }
            Update::PutGroup { id, .. } => {
                groups.insert(*id);
            }
            Update::PutAttachment(a) => {
                attachments.insert((a.port, a.vlan.unwrap_or(UNTAGGED)));
            }
            Update::PutNeighbours(list) => {
                neighbours.extend(
                    list.iter()
                        .map(|n| (n.port, n.vlan.unwrap_or(UNTAGGED), n.address)),
                );
            }
            Update::PutRoutes {
                table,
                routes: list,
            } => {
                routes
                    .entry(*table)
                    .or_default()
                    .extend(list.iter().map(|route| (route.prefix, route.next_hop)));
            }
            _ => {}
        }
    }

    let vlan = |vlan: u16| Some(vlan).filter(|&vlan| vlan != UNTAGGED);
    let mut gone = Vec::new();
    for (&table, state) in &model.tables {
        let wanted = routes.get(&table);
        let prefixes: Vec<_> = state
            .routes
            .keys()
            .filter(|prefix| !wanted.is_some_and(|wanted| wanted.contains_key(prefix)))
            .copied()
            .collect();
        gone.push(Update::RemoveRoutes { table, prefixes });
    }
    let old = model.groups.keys().filter(|id| !groups.contains(id));
    gone.extend(old.map(|&id| Update::RemoveGroup(id)));
    let old = model
        .inbound
        .values()
        .filter(|sa| !inbound.contains(&sa.spi) && !kept.contains(&sa.tunnel));
    gone.extend(old.map(|sa| Update::RemoveInboundSa(sa.spi)));
    let old = model
        .outbound
        .keys()
        .filter(|id| !outbound.contains(id) && !kept.contains(id));
    gone.extend(old.map(|&id| Update::RemoveOutboundSa(id)));
    let old = model.tunnels.keys().filter(|id| !tunnels.contains(id));
    gone.extend(old.map(|&id| Update::RemoveTunnel(id)));
    let old: Vec<_> = model
        .neighbours
        .keys()
        .filter(|key| !neighbours.contains(*key))
        .map(|&(port, v, address)| (port, vlan(v), address))
        .collect();
    gone.push(Update::RemoveNeighbours(old));
    let old = model.attachments().filter(|key| !attachments.contains(key));
    gone.extend(old.map(|(port, v)| Update::RemoveAttachment {
        port,
        vlan: vlan(v),
    }));
    gone
}
