//! Route tables: inside links, inside networks of tunnels, the configured routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hawser_api::{NextHop, TableId};
use ipnet::IpNet;

use super::{Desired, Inputs, Routes, is_link_local};
use crate::{config::Via, ids::group_name};

impl Inputs<'_> {
    pub(super) fn routes(&self, before: Option<&Desired>) -> BTreeMap<TableId, Arc<Routes>> {
        let mut tables: BTreeMap<TableId, Routes> = BTreeMap::new();
        let mut add = |table: TableId, net: IpNet, next_hop: NextHop| {
            tables.entry(table).or_default().insert(net, next_hop);
        };
        let own = if self.config.gateway.tun.is_some() {
            NextHop::Host
        } else {
            NextHop::Blackhole
        };
        // Inside links: their networks, and our own addresses on them.
        for (port, vlan, table) in self.each_attachment() {
            let Some(ifindex) = self.kernel_interface(port, vlan) else {
                continue;
            };
            for net in routable(self.mirror.addresses_of(ifindex)) {
                if net.prefix_len() < net.max_prefix_len() {
                    let next_hop = NextHop::Inside {
                        port: port.id,
                        vlan,
                        gateway: None,
                    };
                    add(table, net.trunc(), next_hop);
                }
                add(table, IpNet::from(net.addr()), own);
            }
        }
        // Inside networks of tunnels: the peer's address through the tunnel, ours to the host.
        // The host's own packets look in `main`, so they are there in any case.
        for tunnel in &self.config.tunnels {
            let Some(id) = self.ids.tunnel(&tunnel.name) else {
                continue;
            };
            let table = self.ids.table(&tunnel.route_table).unwrap_or(TableId::MAIN);
            for table in BTreeSet::from([table, TableId::MAIN]) {
                for inside in &tunnel.inside {
                    let net = inside.value;
                    if net.prefix_len() < net.max_prefix_len() {
                        add(table, net.trunc(), NextHop::Tunnel(id));
                    }
                    add(table, IpNet::from(net.addr()), own);
                }
            }
        }
        for route in &self.config.routes {
            let (Some(table), Some(next_hop)) =
                (self.ids.table(&route.table), self.next_hop(&route.via))
            else {
                continue;
            };
            for net in &route.to {
                add(table, *net, next_hop);
            }
        }
        let share = |(table, routes)| {
            let same = before
                .and_then(|b| b.routes.get(&table))
                .filter(|old| ***old == routes)
                .map(Arc::clone);
            (table, same.unwrap_or_else(|| Arc::new(routes)))
        };
        tables.into_iter().map(share).collect()
    }

    fn next_hop(&self, via: &Via) -> Option<NextHop> {
        Some(match via {
            Via::Tunnels(names) => match names.as_slice() {
                [one] => NextHop::Tunnel(self.ids.tunnel(one)?),
                _ => NextHop::Group(self.ids.group(&group_name(self.config, names))?),
            },
            Via::Inside {
                interface,
                vlan,
                gateway,
            } => NextHop::Inside {
                port: self.ports.named(interface)?.id,
                vlan: *vlan,
                gateway: *gateway,
            },
            Via::Host => NextHop::Host,
            Via::Blackhole => NextHop::Blackhole,
        })
    }
}

/// The same link-local network is on every link, so it cannot be routed to one.
fn routable(nets: &[IpNet]) -> impl Iterator<Item = &IpNet> {
    nets.iter().filter(|net| !is_link_local(net.addr()))
}
