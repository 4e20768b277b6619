//! What the kernel knows of links, addresses and neighbours, kept up to date by its messages.
//!
//! A pure model: messages in, changes out.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;
use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address; absent on interfaces that are not Ethernet.
    pub mac: Option<[u8; 6]>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// It is administratively up: sockets can be opened on it.
    pub enabled: bool,
    /// It is up and has a carrier.
    pub up: bool,
    /// For a VLAN interface: the index of the interface below and the VLAN.
    pub vlan: Option<(u32, u16)>,
    /// Receive queues that it was made with; fewer may be in use.
    pub rx_queues_at_most: u32,
}

/// What the kernel knows of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourEntry {
    /// Its Ethernet address, when known.
    pub mac: Option<[u8; 6]>,
    /// How sure the kernel is.
    pub reach: Reach,
}

/// How sure the kernel is of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Answered lately, is being asked again, or was set by hand.
    Good,
    /// Not confirmed lately: its address is good, but should be asked for again.
    Stale,
    /// Asked, not answered yet.
    Incomplete,
    /// Asked and not answered.
    Failed,
}

impl NeighbourEntry {
    /// The address, as long as the kernel itself would use it.
    #[must_use]
    pub fn usable(&self) -> Option<[u8; 6]> {
        self.mac
            .filter(|_| matches!(self.reach, Reach::Good | Reach::Stale))
    }
}

/// What messages changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Links came, went or changed.
    pub links: bool,
    /// Addresses came or went.
    pub addresses: bool,
    /// Neighbours came, went or changed.
    pub neighbours: bool,
    /// Routes may lead elsewhere.
    pub routes: bool,
}

impl Changes {
    /// All of it: after messages were lost.
    pub const ALL: Self = Self {
        links: true,
        addresses: true,
        neighbours: true,
        routes: true,
    };

    /// Whether anything changed.
    #[must_use]
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// Adds what other messages changed.
    pub fn merge(&mut self, other: Self) {
        self.links |= other.links;
        self.addresses |= other.addresses;
        self.neighbours |= other.neighbours;
        self.routes |= other.routes;
    }
}

/// The mirror.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    /// Links by index.
    pub links: BTreeMap<u32, Link>,
    /// Addresses with their networks, by link.
    pub addresses: BTreeMap<u32, Vec<IpNet>>,
    /// Neighbours by link and address.
    pub neighbours: HashMap<(u32, IpAddr), NeighbourEntry>,
}

impl Mirror {
    /// The link of this name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|l| l.name == name)
    }

    /// The VLAN interface on top of a link, if the kernel has one.
    #[must_use]
    pub fn vlan(&self, parent: u32, id: u16) -> Option<&Link> {
        self.links.values().find(|l| l.vlan == Some((parent, id)))
    }

    /// Addresses of a link.
    #[must_use]
    pub fn addresses_of(&self, index: u32) -> &[IpNet] {
        self.addresses.get(&index).map_or(&[], Vec::as_slice)
    }

    /// All addresses of the host.
    #[must_use]
    pub fn all_addresses(&self) -> HashSet<IpAddr> {
        self.addresses.values().flatten().map(IpNet::addr).collect()
    }

    /// Whether the host has this address on any link.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses
            .values()
            .flatten()
            .any(|net| net.addr() == address)
    }

    /// Takes in a message.
    pub fn apply(&mut self, message: RouteNetlinkMessage) -> Changes {
        let mut changes = Changes::default();
        match message {
            RouteNetlinkMessage::NewLink(message) => changes.links = self.new_link(&message),
            RouteNetlinkMessage::DelLink(message) => {
                let index = message.header.index;
                changes.links = self.links.remove(&index).is_some();
                changes.addresses = self.addresses.remove(&index).is_some();
                let before = self.neighbours.len();
                self.neighbours.retain(|(link, _), _| *link != index);
                changes.neighbours = self.neighbours.len() != before;
            }
            RouteNetlinkMessage::NewAddress(message) => {
                if let Some(net) = address_of(&message) {
                    let list = self.addresses.entry(message.header.index).or_default();
                    if !list.contains(&net) {
                        list.push(net);
                        list.sort();
                        changes.addresses = true;
                    }
                }
            }
            RouteNetlinkMessage::DelAddress(message) => {
                if let Some(net) = address_of(&message)
                    && let Some(list) = self.addresses.get_mut(&message.header.index)
                {
                    let before = list.len();
                    list.retain(|n| *n != net);
                    changes.addresses = list.len() != before;
                }
            }
            RouteNetlinkMessage::NewNeighbour(message) => {
                if let Some((key, entry)) = neighbour_of(&message) {
                    changes.neighbours = self.neighbours.insert(key, entry) != Some(entry);
                }
            }
            RouteNetlinkMessage::DelNeighbour(message) => {
                if let Some((key, _)) = neighbour_of(&message) {
                    changes.neighbours = self.neighbours.remove(&key).is_some();
                }
            }
            RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_) => {
                changes.routes = true;
            }
            _ => {}
        }
        // A link that goes down or an address that goes takes routes along, not always with a
        // message of their own.
        changes.routes |= changes.links || changes.addresses;
        changes
    }

    fn new_link(&mut self, message: &LinkMessage) -> bool {
        let index = message.header.index;
        // Some messages (of bridges) carry a part only: keep the rest.
        let mut link = self.links.get(&index).cloned().unwrap_or(Link {
            index,
            name: String::new(),
            mac: None,
            mtu: 0,
            enabled: false,
            up: false,
            vlan: None,
            rx_queues_at_most: 1,
        });
        link.enabled = message.header.flags.contains(LinkFlags::Up);
        link.up = message
            .header
            .flags
            .contains(LinkFlags::Up | LinkFlags::LowerUp);
        let (mut parent, mut vlan) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(octets) => link.mac = octets.as_slice().try_into().ok(),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::NumRxQueues(n) => link.rx_queues_at_most = *n,
                LinkAttribute::Link(index) => parent = Some(*index),
                LinkAttribute::LinkInfo(infos) => vlan = vlan.or(vlan_id(infos)),
                _ => {}
            }
        }
        link.vlan = parent.zip(vlan).or(link.vlan);
        // A name is free again before we hear of the removal of the link that had it.
        let before = self.links.len();
        self.links
            .retain(|other, l| *other == index || l.name != link.name);
        let changed = self.links.get(&index) != Some(&link) || self.links.len() != before;
        self.links.insert(index, link);
        changed
    }
}

fn vlan_id(infos: &[LinkInfo]) -> Option<u16> {
    infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(vlan)) => vlan.iter().find_map(|v| match v {
            InfoVlan::Id(id) => Some(*id),
            _ => None,
        }),
        _ => None,
    })
}

fn address_of(message: &AddressMessage) -> Option<IpNet> {
    // On a point-to-point link IFA_ADDRESS is the other end and IFA_LOCAL ours.
    let mut ours = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => ours = Some(*address),
            AddressAttribute::Address(address) => ours = ours.or(Some(*address)),
            _ => {}
        }
    }
    IpNet::new(ours?, message.header.prefix_len).ok()
}

fn neighbour_of(message: &NeighbourMessage) -> Option<((u32, IpAddr), NeighbourEntry)> {
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                address = Some(IpAddr::from(*v4));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                address = Some(IpAddr::from(*v6));
            }
            NeighbourAttribute::LinkLayerAddress(octets) => {
                mac = octets.as_slice().try_into().ok();
            }
            _ => {}
        }
    }
    let reach = match message.header.state {
        NeighbourState::Reachable
        | NeighbourState::Delay
        | NeighbourState::Probe
        | NeighbourState::Permanent
        | NeighbourState::Noarp => Reach::Good,
        NeighbourState::Stale => Reach::Stale,
        NeighbourState::Failed => Reach::Failed,
        _ => Reach::Incomplete,
    };
    Some((
        (message.header.ifindex, address?),
        NeighbourEntry { mac, reach },
    ))
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::AddressFamily;

    use super::*;

    fn link(index: u32, name: &str, up: bool) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        if up {
            message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
        }
        message.attributes = vec![
            LinkAttribute::IfName(name.into()),
            LinkAttribute::Mtu(1500),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
            LinkAttribute::NumRxQueues(4),
        ];
        message
    }

    fn neighbour(index: u32, state: NeighbourState, mac: bool) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = index;
        message.header.state = state;
        message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(
            [10, 0, 0, 1].into(),
        ))];
        if mac {
            message
                .attributes
                .push(NeighbourAttribute::LinkLayerAddress(vec![2; 6]));
        }
        message
    }

    #[test]
    fn links_come_change_and_go_with_what_hangs_on_them() {
        let mut mirror = Mirror::default();
        let new = |m| RouteNetlinkMessage::NewLink(m);
        assert!(mirror.apply(new(link(3, "eth0", true))).links);
        assert!(!mirror.apply(new(link(3, "eth0", true))).any());
        let down = mirror.apply(new(link(3, "eth0", false)));
        assert!(down.links && down.routes);
        mirror.apply(RouteNetlinkMessage::NewNeighbour(neighbour(
            3,
            NeighbourState::Reachable,
            true,
        )));
        assert_eq!(
            mirror.link("eth0").map(|l| (l.index, l.mtu, l.up)),
            Some((3, 1500, false))
        );
        let gone = mirror.apply(RouteNetlinkMessage::DelLink(link(3, "eth0", false)));
        assert!(gone.links && gone.neighbours);
        assert!(mirror.neighbours.is_empty());
    }

    #[test]
    fn a_link_that_takes_a_name_over_replaces_the_one_before() {
        let mut mirror = Mirror::default();
        mirror.apply(RouteNetlinkMessage::NewLink(link(3, "tun0", true)));
        assert!(
            mirror
                .apply(RouteNetlinkMessage::NewLink(link(7, "tun0", true)))
                .links
        );
        assert_eq!(mirror.link("tun0").map(|l| l.index), Some(7));
        // The late news of the old one's end does not touch the new one.
        mirror.apply(RouteNetlinkMessage::DelLink(link(3, "tun0", false)));
        assert_eq!(mirror.link("tun0").map(|l| l.index), Some(7));
    }

    #[test]
    fn only_what_the_kernel_would_use_is_usable() {
        let mut mirror = Mirror::default();
        let key = (3, IpAddr::from([10, 0, 0, 1]));
        let cases = [
            (NeighbourState::Incomplete, false, None),
            (NeighbourState::Reachable, true, Some([2; 6])),
            (NeighbourState::Stale, true, Some([2; 6])),
            (NeighbourState::Probe, true, Some([2; 6])),
            // The kernel keeps the old address in a failed entry.
            (NeighbourState::Failed, true, None),
            (NeighbourState::Permanent, true, Some([2; 6])),
        ];
        for (state, mac, expected) in cases {
            mirror.apply(RouteNetlinkMessage::NewNeighbour(neighbour(3, state, mac)));
            assert_eq!(mirror.neighbours[&key].usable(), expected, "{state:?}");
        }
    }
}
