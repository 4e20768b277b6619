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

use hawser_api::{Encapsulation, GroupId, OuterDf, PortId, TableId, TunnelId, WorkerId};
use hawser_net::{ecmp::Group, ecn::OuterDscp, encap::OuterTemplate, lpm::Lpm};

pub use compile::{esp_lengths, ethertype};
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
    /// Inbound SAs by slot.
    pub inbound: Vec<Option<Arc<InboundSa>>>,
    /// SPI to slot and owner.
    pub spis: SpiTable,
    /// Our outside addresses.
    pub locals: HashSet<IpAddr, foldhash::fast::RandomState>,
    /// Link-layer addresses.
    pub neighbours: Arc<Neighbours>,
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
    /// Out of an inside interface, to a router whose address is resolved here.
    Gateway {
        /// The interface.
        port: PortId,
        /// The VLAN or [`UNTAGGED`].
        vlan: u16,
        /// The router, for asking after its link-layer address.
        address: IpAddr,
        /// Its link-layer address, if known.
        mac: Option<[u8; 6]>,
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
    /// Ethernet header to the next hop, if its link-layer address is known.
    pub ethernet: Option<[u8; ETHERNET]>,
    /// Outer IP, UDP and ESP headers.
    pub template: OuterTemplate,
    /// The outbound SA.
    pub outbound: Option<Arc<OutboundSa>>,
    /// Largest inner packet without fragmentation, in bytes; 0 without an outbound SA.
    pub inside_mtu: u16,
    /// TCP MSS for IPv4 SYN packets; 0 leaves them alone.
    pub mss_v4: u16,
    /// TCP MSS for IPv6 SYN packets; 0 leaves them alone.
    pub mss_v6: u16,
    /// Ignore and clear DF of inner packets.
    pub clear_inner_df: bool,
    /// DSCP of the outer header.
    pub dscp: OuterDscp,
    /// DF of the outer header.
    pub outer_df: OuterDf,
    /// Our outside address.
    pub local: IpAddr,
    /// The peer's outside address.
    pub remote: IpAddr,
    /// Plain or in UDP.
    pub encapsulation: Encapsulation,
    /// The route table of packets that come out.
    pub table: TableId,
}

impl Tables {
    /// Which worker owns the replay window of an SA of these tables.
    #[must_use]
    pub fn owner(&self, sa: &InboundSa) -> Option<WorkerId> {
        self.spis.get(sa.spi).map(|entry| entry.owner)
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
