//! What the workers look things up in.
//!
//! [`Model`] is the manager's: it takes updates by transaction and compiles them into [`Tables`],
//! an immutable snapshot that all workers share by `Arc`. A worker swaps its snapshot between
//! batches, so nothing in the packet loop is behind a lock and every batch sees one consistent
//! state.

mod compile;
mod model;
mod replace;
mod spi;
mod steering;
mod validate;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use hawser_api::{Encapsulation, GroupId, PortId, TableId, TunnelId, WorkerId};
use hawser_net::{
    Family, ecmp::Group, ecn::OuterTos, encap::OuterTemplate, lpm::Lpm, mtu::EspLengths,
};

pub use compile::ethertype;
pub use model::Model;
pub use spi::{SpiEntry, SpiTable};
pub use steering::{Steering, Touched};

use crate::sa::{InboundSa, OutboundSa};

/// Ethernet header without VLAN tag, in bytes.
pub const ETHERNET: usize = 14;

/// The VLAN number that stands for "untagged" (IEEE 802.1Q: 0 is a priority tag, no VLAN).
pub const UNTAGGED: u16 = 0;

/// An immutable snapshot of all tables.
pub struct Tables {
    /// Commits so far.
    pub generation: u64,
    /// Ports by number.
    pub ports: Vec<Port>,
    /// Route tables by number.
    pub routes: Vec<Arc<Lpm>>,
    /// What route table entries point at.
    pub hops: Vec<Hop>,
    /// Groups by number.
    pub groups: Vec<Option<Arc<Group>>>,
    /// Tunnels by number.
    pub tunnels: Vec<Option<Arc<Tunnel>>>,
    /// Which packets need no look at their tunnel before they are grouped.
    pub usual: Usual,
    /// Inbound SAs by slot.
    pub inbound: Vec<Option<Arc<InboundSa>>>,
    /// SPI to slot and owner.
    pub spis: SpiTable,
    /// Our outside addresses.
    pub locals: HashSet<IpAddr, foldhash::fast::RandomState>,
    /// Link-layer addresses.
    pub neighbours: Arc<Neighbours>,
}

/// What is true of most tunnels, small enough for the nearest cache: a batch reads a byte of it for
/// each packet, and the tunnel itself only once for all its packets.
#[derive(Default)]
pub struct Usual {
    /// By tunnel: it can send, everything may be sent through it, and as it is.
    pub tunnels: Vec<bool>,
    /// No packet up to this length is too large for any of those, in bytes.
    pub mtu: u16,
}

/// A port as the packet path sees it.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Largest IP packet it sends.
    pub mtu: u32,
    /// Peers are behind it: ESP to our addresses is ours.
    pub outside: bool,
    /// The site is behind it: packets are routed.
    pub inside: bool,
    /// Route table of untagged packets, if they are attached.
    pub untagged: Option<TableId>,
    /// Route table by VLAN, sorted by VLAN.
    pub vlans: Vec<(u16, TableId)>,
    /// Source address of ICMPv4 errors.
    pub address_v4: Option<std::net::Ipv4Addr>,
    /// Source address of ICMPv6 errors.
    pub address_v6: Option<std::net::Ipv6Addr>,
}

impl Port {
    /// The route table that packets of this VLAN look in; none for a VLAN that is not ours.
    #[inline]
    #[must_use]
    pub fn table(&self, vlan: u16) -> Option<TableId> {
        if vlan == UNTAGGED {
            return self.untagged;
        }
        let at = self.vlans.binary_search_by_key(&vlan, |&(v, _)| v).ok()?;
        Some(self.vlans[at].1)
    }
}

/// Where a route leads, ready for the packet path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Over the tunnels of a group.
    Group(GroupId),
    /// Through one tunnel.
    Tunnel(TunnelId),
    /// Out of an inside interface, to a router whose link-layer address is known.
    Link(Link),
    /// Out of an inside interface, to a router whose link-layer address must be asked for.
    Gateway {
        /// The interface.
        port: PortId,
        /// The VLAN or [`UNTAGGED`].
        vlan: u16,
        /// The router.
        address: IpAddr,
    },
    /// Out of an inside interface, to the destination itself.
    OnLink {
        /// The interface.
        port: PortId,
        /// The VLAN or [`UNTAGGED`].
        vlan: u16,
    },
    /// To the host.
    Host,
    /// Nowhere.
    Blackhole,
}

/// The way out of an inside interface to one neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The interface.
    pub port: PortId,
    /// The VLAN or [`UNTAGGED`].
    pub vlan: u16,
    /// Largest IP packet that the interface sends, in bytes.
    pub mtu: u32,
    /// The neighbour's address and ours, as an Ethernet header has them.
    pub addresses: [u8; 12],
}

impl Link {
    /// To the neighbour `mac` on `port`, which is `number`.
    #[must_use]
    pub fn new(number: PortId, port: &Port, vlan: u16, mac: [u8; 6]) -> Self {
        let mut addresses = [0; 12];
        addresses[..6].copy_from_slice(&mac);
        addresses[6..].copy_from_slice(&port.mac);
        Self {
            port: number,
            vlan,
            mtu: port.mtu,
            addresses,
        }
    }
}

/// Link-layer addresses by interface, VLAN and address.
pub type Neighbours = HashMap<(PortId, u16, IpAddr), [u8; 6], foldhash::fast::RandomState>;

/// A tunnel as the packet path sees it.
pub struct Tunnel {
    /// Its number.
    pub id: TunnelId,
    /// The outside interface.
    pub port: PortId,
    /// The neighbour on that interface, for asking after its link-layer address.
    pub next_hop: IpAddr,
    /// How packets are sent, once there are an outbound SA and the next hop's link-layer address.
    pub egress: Option<Egress>,
    /// Whether there is an outbound SA.
    pub has_outbound: bool,
    /// Largest inner packet without fragmentation, in bytes; 0 without an outbound SA.
    pub inside_mtu: u16,
    /// TCP MSS for IPv4 SYN packets; 0 leaves them alone.
    pub mss_v4: u16,
    /// TCP MSS for IPv6 SYN packets; 0 leaves them alone.
    pub mss_v6: u16,
    /// Ignore and clear DF of inner packets.
    pub clear_inner_df: bool,
    /// The outside addresses.
    pub ends: Ends,
    /// Plain or in UDP.
    pub encapsulation: Encapsulation,
    /// The route table of packets that come out.
    pub table: TableId,
}

/// Outside addresses of a tunnel, as the parser gives those of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Ours; IPv4 in the low 32 bits.
    pub local: u128,
    /// The peer's.
    pub remote: u128,
    /// Their family.
    pub family: Family,
}

impl Ends {
    /// Those of a tunnel.
    #[must_use]
    pub fn new(local: IpAddr, remote: IpAddr) -> Self {
        let bits = |address| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        Self {
            local: bits(local),
            remote: bits(remote),
            family: match local {
                IpAddr::V4(_) => Family::V4,
                IpAddr::V6(_) => Family::V6,
            },
        }
    }
}

/// What every packet into a tunnel needs, in few cache lines.
pub struct Egress {
    /// Ethernet, outer IP, UDP and ESP headers.
    pub template: OuterTemplate,
    /// The cipher's lengths.
    pub esp: EspLengths,
    /// Bytes in front of the inner packet: all headers and the IV.
    pub front: usize,
    /// DSCP and ECN of the outer header.
    pub tos: OuterTos,
    /// DF of the outer header: that of the inner one.
    pub copy_df: bool,
    /// DF of the outer header: always.
    pub set_df: bool,
    /// The SA.
    pub sa: Arc<OutboundSa>,
}

/// From how many tunnels on their SAs' keys and tables do not stay in a core's own caches.
///
/// Unit: tunnels, each with 1.4 KiB of key tables a direction. Below, to ask for all of a key's
/// cache lines costs more than it saves; above, a batch waits for them.
const MANY: usize = 256;

impl Tables {
    /// Which worker owns the replay window of an SA of these tables.
    #[must_use]
    pub fn owner(&self, sa: &InboundSa) -> Option<WorkerId> {
        self.spis.get(sa.spi).map(|entry| entry.owner)
    }

    /// Whether what a batch needs will mostly have to come from far away, so that it pays to ask
    /// for it in advance.
    #[inline]
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.tunnels.len() > MANY
    }

    /// The route table, or the empty one for a number that has none.
    #[inline]
    #[must_use]
    pub fn route_table(&self, table: TableId) -> Option<&Lpm> {
        self.routes.get(table.index()).map(|lpm| &**lpm)
    }

    /// The tunnel of that number.
    #[inline]
    #[must_use]
    pub fn tunnel(&self, id: TunnelId) -> Option<&Tunnel> {
        self.tunnels.get(id.index())?.as_deref()
    }
}
