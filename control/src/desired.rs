//! What the data plane's tables should be: a pure function of the configuration and of what the
//! kernel says.

mod hindrance;
mod neighbours;
mod ports;
mod routes;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use hawser_api::{
    Encapsulation, GroupId, InboundSa, Member, NextHop, OutboundSa, PortId, Role, Selectors, Spi,
    TableId, Tunnel, TunnelId,
};
pub use hindrance::Hindrance;
use ipnet::IpNet;
pub use ports::{Port, Ports};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    config::{self, Config, MAIN_TABLE, Via},
    ids::{Ids, group_name},
    ike::Kept,
    netlink::{Mirror, Path, Reach},
};

/// The routes of one table.
pub type Routes = BTreeMap<IpNet, NextHop>;
/// A neighbour's place: interface, VLAN, address.
pub type NeighbourKey = (PortId, Option<u16>, IpAddr);

/// All tables of the data plane.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// Route table by interface and VLAN.
    pub attachments: BTreeMap<(PortId, Option<u16>), TableId>,
    /// Tunnels.
    pub tunnels: BTreeMap<TunnelId, Tunnel>,
    /// SAs.
    pub sas: Arc<SaSet>,
    /// Tunnels whose SAs of an earlier control stay.
    pub kept: BTreeSet<TunnelId>,
    /// Members by group.
    pub groups: BTreeMap<GroupId, Vec<Member>>,
    /// Routes by table; shared with the tables before where nothing changed.
    pub routes: BTreeMap<TableId, Arc<Routes>>,
    /// Ethernet addresses of neighbours.
    pub neighbours: BTreeMap<NeighbourKey, [u8; 6]>,
    /// Addresses by port.
    pub port_addresses: BTreeMap<PortId, Vec<IpAddr>>,
}

/// The SAs of all tunnels. Configured keys fill it now; a key exchange would change it later.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SaSet {
    /// One a tunnel.
    pub outbound: BTreeMap<TunnelId, OutboundSa>,
    /// By SPI.
    pub inbound: BTreeMap<Spi, InboundSa>,
}

impl SaSet {
    /// The SAs that the configuration holds.
    #[must_use]
    pub fn configured(config: &Config, ids: &Ids) -> Self {
        let mut set = Self::default();
        for tunnel in &config.tunnels {
            let (Some(id), Some(manual)) = (ids.tunnel(&tunnel.name), tunnel.manual()) else {
                continue;
            };
            set.outbound.insert(
                id,
                OutboundSa {
                    tunnel: id,
                    spi: manual.outbound.spi,
                    suite: manual.suite,
                    key: manual.outbound.key.clone(),
                    esn: manual.esn,
                    selectors: Selectors::default(),
                    transient: false,
                },
            );
            set.inbound.insert(
                manual.inbound.spi,
                InboundSa {
                    tunnel: id,
                    spi: manual.inbound.spi,
                    suite: manual.suite,
                    key: manual.inbound.key.clone(),
                    esn: manual.esn,
                    replay_window: manual.replay_window,
                    selectors: Selectors::default(),
                    transient: false,
                },
            );
        }
        set
    }
}

/// Where a tunnel's peer is, as a key exchange found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerPath {
    /// Our outside address.
    pub local: IpAddr,
    /// The peer's, or that of the NAT in front of it.
    pub remote: IpAddr,
    /// Plain, or in UDP because of a NAT.
    pub encapsulation: Encapsulation,
}

impl PeerPath {
    /// What the configuration says, unless a key exchange knows better.
    #[must_use]
    pub fn of(tunnel: &config::Tunnel, found: Option<&Self>) -> Self {
        found.copied().unwrap_or(Self {
            local: tunnel.local.value,
            remote: tunnel.remote.value,
            encapsulation: tunnel.encapsulation,
        })
    }
}

/// All that the tables follow from.
pub struct Inputs<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Numbers of its names.
    pub ids: &'a Ids,
    /// SAs.
    pub sas: &'a Arc<SaSet>,
    /// SAs of the control before us.
    pub kept: &'a Kept,
    /// Where the peers of key exchanges are.
    pub peers: &'a BTreeMap<TunnelId, PeerPath>,
    /// Ports of the running data plane.
    pub ports: &'a Ports,
    /// What the kernel knows.
    pub mirror: &'a Mirror,
    /// Routes to the peers, by remote and local address.
    pub paths: &'a HashMap<(IpAddr, IpAddr), Path>,
    /// Neighbours that packets were waiting for: interface, VLAN, address, and when last.
    pub wanted: &'a BTreeMap<(String, Option<u16>, IpAddr), Instant>,
}

impl Inputs<'_> {
    /// The tables, and for each tunnel that cannot send, why. Routes are taken over from `before`
    /// when `same_routes` says that nothing they follow from has changed.
    #[must_use]
    pub fn tables(
        &self,
        before: Option<&Desired>,
        same_routes: bool,
    ) -> (Desired, BTreeMap<TunnelId, Hindrance>) {
        let mut tunnels = BTreeMap::new();
        let mut hindrances = BTreeMap::new();
        for tunnel in &self.config.tunnels {
            let Some(id) = self.ids.tunnel(&tunnel.name) else {
                continue;
            };
            let (placed, hindrance) = self.place(id, tunnel);
            tunnels.extend(placed.map(|t| (id, t)));
            hindrances.extend(hindrance.map(|h| (id, h)));
        }
        let routes = match before {
            Some(before) if same_routes => before.routes.clone(),
            _ => self.routes(before),
        };
        let desired = Desired {
            attachments: self.attachments(),
            groups: self.groups(&hindrances),
            neighbours: self.neighbours(&tunnels),
            port_addresses: self.port_addresses(),
            sas: self.installable(&tunnels),
            kept: self.kept.tunnels(),
            tunnels,
            routes,
        };
        (desired, hindrances)
    }

    /// The kernel's interface of an attachment: the port itself, or the VLAN interface on it.
    fn kernel_interface(&self, port: &Port, vlan: Option<u16>) -> Option<u32> {
        match vlan {
            None => Some(port.ifindex),
            Some(id) => self.mirror.vlan(port.ifindex, id).map(|l| l.index),
        }
    }

    fn attachments(&self) -> BTreeMap<(PortId, Option<u16>), TableId> {
        self.each_attachment()
            .map(|(port, vlan, table)| ((port.id, vlan), table))
            .collect()
    }

    fn each_attachment(&self) -> impl Iterator<Item = (&Port, Option<u16>, TableId)> {
        self.config.interfaces.iter().flat_map(move |interface| {
            let port = self.ports.named(&interface.name.value);
            let untagged = interface.untagged.iter().map(|table| (None, table));
            let tagged = interface
                .vlans
                .iter()
                .map(|v| (Some(v.id.value), &v.route_table));
            untagged
                .chain(tagged)
                .filter_map(move |(vlan, table)| Some((port?, vlan, self.ids.table(table)?)))
        })
    }

    /// Where a tunnel's packets leave, and what is in the way.
    fn place(&self, id: TunnelId, tunnel: &config::Tunnel) -> (Option<Tunnel>, Option<Hindrance>) {
        let peer = PeerPath::of(tunnel, self.peers.get(&id));
        let remote = peer.remote;
        if remote.is_unspecified() {
            return (None, Some(Hindrance::NoPeer));
        }
        let path = self.paths.get(&(remote, peer.local));
        let (port, next_hop, route_mtu, mut hindrance) = match (&tunnel.interface, path) {
            (Some(interface), _) => {
                let next_hop = tunnel.next_hop.as_ref().map_or(remote, |n| n.value);
                let port = self.ports.named(&interface.value);
                let gone = || Hindrance::InterfaceGone(interface.value.clone());
                (port, next_hop, None, port.is_none().then(gone))
            }
            (None, Some(path)) => {
                let port = self
                    .ports
                    .at(path.ifindex)
                    .filter(|p| p.role != Role::Inside);
                let wrong =
                    || {
                        let link = self.mirror.links.get(&path.ifindex);
                        Hindrance::WrongInterface(link.map_or_else(
                            || format!("interface {}", path.ifindex),
                            |l| l.name.clone(),
                        ))
                    };
                (
                    port,
                    path.gateway.unwrap_or(remote),
                    path.mtu,
                    port.is_none().then(wrong),
                )
            }
            (None, None) => (None, remote, None, Some(self.why_no_route())),
        };
        // Without a way out the tunnel can still receive: its SAs stay and keep counting.
        let outside = || self.ports.iter().find(|p| p.role != Role::Inside);
        let Some(port) = port.or_else(outside) else {
            return (None, hindrance);
        };
        let link = self.mirror.links.get(&port.ifindex);
        hindrance = hindrance.or_else(|| match link {
            None => Some(Hindrance::InterfaceGone(port.name.clone())),
            Some(link) if !link.up => Some(Hindrance::LinkDown(port.name.clone())),
            Some(_) => self.unresolved(port, next_hop),
        });
        let sends = self.sas.outbound.contains_key(&id) || self.kept.sends(id);
        if hindrance.is_none() && !sends {
            hindrance = Some(match tunnel.ike() {
                Some(_) => Hindrance::NoExchange,
                None => Hindrance::NoSa,
            });
        }
        // A link that grew takes no larger packets before the frames are larger too.
        let link_mtu = link.map_or(port.mtu, |l| l.mtu.min(port.mtu));
        let mtu = [
            tunnel.outside_mtu.as_ref().map(|m| u32::from(m.value)),
            route_mtu,
        ]
        .into_iter()
        .flatten()
        .fold(link_mtu, u32::min);
        let placed = Tunnel {
            id,
            name: tunnel.name.clone(),
            local: peer.local,
            remote,
            encapsulation: peer.encapsulation,
            port: port.id,
            next_hop,
            outside_mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
            dscp: tunnel.dscp,
            outer_df: tunnel.df,
            clear_inner_df: tunnel.ignore_df,
            tcp_mss: tunnel.tcp_mss,
            table: self.ids.table(&tunnel.route_table).unwrap_or(TableId::MAIN),
            owner: tunnel.owner.as_ref().map(|o| hawser_api::WorkerId(o.value)),
            ceiling: tunnel.ceiling,
        };
        (Some(placed), hindrance)
    }

    /// No route is most often the consequence of an interface that is down or gone.
    fn why_no_route(&self) -> Hindrance {
        let outside = self
            .config
            .interfaces
            .iter()
            .filter(|i| i.role != Role::Inside);
        for interface in outside {
            let name = &interface.name.value;
            match self.mirror.link(name) {
                None => return Hindrance::InterfaceGone(name.clone()),
                Some(link) if !link.up => return Hindrance::LinkDown(name.clone()),
                Some(_) => {}
            }
        }
        Hindrance::NoRoute
    }

    fn unresolved(&self, port: &Port, next_hop: IpAddr) -> Option<Hindrance> {
        let by_hand = self
            .config
            .neighbours
            .iter()
            .any(|n| n.interface == port.name && n.vlan.is_none() && n.address == next_hop);
        if by_hand {
            return None;
        }
        match self.mirror.neighbours.get(&(port.ifindex, next_hop)) {
            Some(entry) if entry.usable().is_some() => None,
            Some(entry) if entry.reach == Reach::Failed => Some(Hindrance::NoNeighbour(next_hop)),
            _ => Some(Hindrance::Resolving(next_hop)),
        }
    }

    /// SAs of tunnels that could not be placed cannot be installed.
    fn installable(&self, tunnels: &BTreeMap<TunnelId, Tunnel>) -> Arc<SaSet> {
        let all = self
            .sas
            .outbound
            .keys()
            .chain(self.sas.inbound.values().map(|sa| &sa.tunnel));
        if all.into_iter().all(|id| tunnels.contains_key(id)) {
            return Arc::clone(self.sas);
        }
        let mut set = (**self.sas).clone();
        set.outbound.retain(|id, _| tunnels.contains_key(id));
        set.inbound.retain(|_, sa| tunnels.contains_key(&sa.tunnel));
        Arc::new(set)
    }

    fn groups(&self, hindrances: &BTreeMap<TunnelId, Hindrance>) -> BTreeMap<GroupId, Vec<Member>> {
        let by_name: HashMap<&str, &config::Tunnel> = self
            .config
            .tunnels
            .iter()
            .map(|t| (t.name.as_str(), t))
            .collect();
        let mut groups = BTreeMap::new();
        for route in &self.config.routes {
            let Via::Tunnels(names) = &route.via else {
                continue;
            };
            if names.len() == 1 {
                continue;
            }
            let Some(id) = self.ids.group(&group_name(self.config, names)) else {
                continue;
            };
            if groups.contains_key(&id) {
                continue;
            }
            let mut members: Vec<(Member, bool)> = names
                .iter()
                .filter_map(|name| {
                    let tunnel = self.ids.tunnel(name)?;
                    let weight = by_name.get(name.as_str())?.weight;
                    Some((Member { tunnel, weight }, !hindrances.contains_key(&tunnel)))
                })
                .collect();
            // Flows go to the tunnels that can send. If none can, they keep their places, and
            // their drops say why.
            if members.iter().any(|(_, usable)| *usable) {
                for (member, usable) in &mut members {
                    member.weight *= u32::from(*usable);
                }
            }
            members.sort_by_key(|(m, _)| m.tunnel);
            groups.insert(id, members.into_iter().map(|(m, _)| m).collect());
        }
        groups
    }

    fn port_addresses(&self) -> BTreeMap<PortId, Vec<IpAddr>> {
        self.ports
            .iter()
            .map(|port| {
                let vlans = self
                    .mirror
                    .links
                    .values()
                    .filter(|l| l.vlan.is_some_and(|(parent, _)| parent == port.ifindex))
                    .map(|l| l.index);
                let mut addresses: Vec<IpAddr> = std::iter::once(port.ifindex)
                    .chain(vlans)
                    .flat_map(|index| self.mirror.addresses_of(index))
                    .map(IpNet::addr)
                    .collect();
                // An ICMP error from a link-local address is of no use beyond the link.
                addresses.sort_by_key(|a| is_link_local(*a));
                (port.id, addresses)
            })
            .collect()
    }

    /// Addresses of the TUN device, and routes of the host into it.
    #[must_use]
    pub fn tun(config: &Config) -> (BTreeSet<IpNet>, BTreeSet<IpNet>) {
        let addresses = config
            .tunnels
            .iter()
            .flat_map(|t| &t.inside)
            .map(|a| a.value)
            .collect();
        let routes = config
            .routes
            .iter()
            .filter(|r| r.host_route && r.table == MAIN_TABLE)
            .flat_map(|r| r.to.iter().copied())
            .collect();
        (addresses, routes)
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests;
