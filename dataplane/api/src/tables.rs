//! The tables that control keeps in the data plane: tunnels, SAs, groups, routes, neighbours.

use std::net::IpAddr;

use hawser_aead::Suite;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{GroupId, PortId, Secret, Spi, TableId, TunnelId, WorkerId};

/// One change of the tables; staged until the commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Update {
    /// Everything that is not put again in this transaction is removed by its commit. What is put
    /// again unchanged goes on as if it had never been touched: an SA of the same tunnel, SPI,
    /// suite and key keeps its sequence numbers, its replay window and its counters, a group its
    /// buckets. The first update of a control that takes over a running data plane, whose tables
    /// it does not know.
    ReplaceAll,
    /// Beside [`Update::ReplaceAll`]: the SAs that this tunnel has stay, although control does not
    /// know their keys. What is put in the same transaction comes on top.
    KeepSas(TunnelId),
    /// Adds an inside attachment or replaces the one of the same port and VLAN.
    PutAttachment(Attachment),
    /// Removes an inside attachment: its packets are not ours any more.
    RemoveAttachment {
        /// The interface.
        port: PortId,
        /// The 802.1Q VLAN, or none for untagged packets.
        vlan: Option<u16>,
    },
    /// Adds a tunnel or changes the one of that number; its SAs stay.
    PutTunnel(Tunnel),
    /// Removes a tunnel with its SAs; groups lose it as a member, which moves only its buckets.
    RemoveTunnel(TunnelId),
    /// Installs the tunnel's outbound SA; the one before is not used any more.
    PutOutboundSa(OutboundSa),
    /// Removes the tunnel's outbound SA: traffic moves to the other members of its groups.
    RemoveOutboundSa(TunnelId),
    /// Adds an inbound SA; a tunnel may have several during a rekey.
    PutInboundSa(InboundSa),
    /// Removes an inbound SA.
    RemoveInboundSa(Spi),
    /// Sets the members of a group. Only the buckets that must move do.
    PutGroup {
        /// Which group.
        id: GroupId,
        /// The tunnels with their weights; one without an outbound SA gets no traffic.
        members: Vec<Member>,
    },
    /// Removes a group; routes to it then drop as `tunnel_down`.
    RemoveGroup(GroupId),
    /// Adds or replaces routes.
    PutRoutes {
        /// Which route table.
        table: TableId,
        /// The routes.
        routes: Vec<Route>,
    },
    /// Removes routes; unknown ones are ignored.
    RemoveRoutes {
        /// Which route table.
        table: TableId,
        /// Their destinations.
        prefixes: Vec<IpNet>,
    },
    /// Adds or replaces neighbours.
    PutNeighbours(Vec<Neighbour>),
    /// Forgets neighbours, named by interface, VLAN and address; unknown ones are ignored.
    RemoveNeighbours(Vec<(PortId, Option<u16>, IpAddr)>),
    /// Sets the addresses of a port: the source of ICMP errors sent there.
    PutPortAddresses(PortId, Vec<IpAddr>),
}

/// An inside interface or VLAN, and the route table that its packets look in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The interface.
    pub port: PortId,
    /// The 802.1Q VLAN, or none for untagged packets.
    pub vlan: Option<u16>,
    /// The associated route table.
    pub table: TableId,
}

/// How ESP travels in the outer packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encapsulation {
    /// IP protocol 50 (RFC 4303).
    Plain,
    /// In UDP (RFC 3948).
    Udp {
        /// Our port, 4500.
        local_port: u16,
        /// The peer's port: 4500, or what a NAT made of it.
        remote_port: u16,
    },
}

/// The DSCP of the outer header (RFC 2983).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dscp {
    /// As in the inner header.
    Copy,
    /// Always this value, 0 to 63.
    Fixed(u8),
}

/// The DF bit of an IPv4 outer header (RFC 4301, section 8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OuterDf {
    /// As in the inner header; clear when that is IPv6.
    Copy,
    /// Always set.
    Set,
    /// Always clear.
    Clear,
}

/// What a tunnel may carry at most; 0 means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ceiling {
    /// Bits of inner packets per second.
    pub bits_per_second: u64,
    /// Packets per second.
    pub packets_per_second: u64,
}

/// A tunnel without its SAs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// Its number, which statistics use too.
    pub id: TunnelId,
    /// Its name, for logs.
    pub name: String,
    /// Our outside address.
    pub local: IpAddr,
    /// The peer's outside address, of the same family.
    pub remote: IpAddr,
    /// Plain or in UDP.
    pub encapsulation: Encapsulation,
    /// The outside interface.
    pub port: PortId,
    /// The neighbour on that interface that packets to the peer are handed to.
    pub next_hop: IpAddr,
    /// Largest outer packet in bytes, IP header included.
    pub outside_mtu: u16,
    /// DSCP of the outer header.
    pub dscp: Dscp,
    /// DF of the outer header.
    pub outer_df: OuterDf,
    /// Ignore and clear the inner packet's DF, so that what is too large is fragmented before
    /// encryption instead of answered with ICMP.
    pub clear_inner_df: bool,
    /// TCP MSS written into SYN packets both ways; `None` computes it from the MTU, `Some(0)`
    /// leaves SYN packets alone.
    pub tcp_mss: Option<u16>,
    /// The route table that packets coming out of this tunnel look in.
    pub table: TableId,
    /// The worker that decrypts this tunnel; `None` lets the data plane choose.
    pub owner: Option<WorkerId>,
    /// What the far end lets through.
    pub ceiling: Ceiling,
}

/// One side of the traffic that an SA carries (RFC 7296, section 3.13.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficSelector {
    /// First and last address, of one family.
    pub addresses: (IpAddr, IpAddr),
    /// IP protocol, 0 for any.
    pub protocol: u8,
    /// First and last port as on the wire: (0, 65535) for any, (65535, 0) for opaque.
    pub ports: (u16, u16),
}

/// The traffic selectors of an SA: a packet matches when one of each side does. An empty side
/// means everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selectors {
    /// Our site's side.
    pub local: Vec<TrafficSelector>,
    /// The peer's side.
    pub remote: Vec<TrafficSelector>,
}

/// An SA for sending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboundSa {
    /// The tunnel it belongs to.
    pub tunnel: TunnelId,
    /// The SPI that the peer chose.
    pub spi: Spi,
    /// Cipher and integrity.
    pub suite: Suite,
    /// Key material in the order of RFC 7296, section 2.17: cipher key, salt, integrity key.
    pub key: Secret,
    /// Extended sequence numbers (RFC 4303, section 2.2.1).
    pub esn: bool,
    /// What may be sent.
    pub selectors: Selectors,
    /// The key was made by a key exchange: once this SA is removed or replaced it never comes
    /// back, so nothing of it need be remembered.
    pub transient: bool,
}

/// An SA for receiving.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundSa {
    /// The tunnel it belongs to.
    pub tunnel: TunnelId,
    /// The SPI that we chose: unique over the whole data plane.
    pub spi: Spi,
    /// Cipher and integrity.
    pub suite: Suite,
    /// Key material as for [`OutboundSa::key`].
    pub key: Secret,
    /// Extended sequence numbers.
    pub esn: bool,
    /// Replay window in packets, 64 to 4096.
    pub replay_window: u32,
    /// What may arrive.
    pub selectors: Selectors,
    /// As [`OutboundSa::transient`].
    pub transient: bool,
}

/// A member of a next-hop group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The tunnel.
    pub tunnel: TunnelId,
    /// Its share of the flows relative to the others; 0 takes none.
    pub weight: u32,
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination.
    pub prefix: IpNet,
    /// Where packets go.
    pub next_hop: NextHop,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NextHop {
    /// Over the tunnels of a group.
    Group(GroupId),
    /// Through one tunnel.
    Tunnel(TunnelId),
    /// Out of an inside interface.
    Inside {
        /// The interface.
        port: PortId,
        /// The VLAN, or none for untagged.
        vlan: Option<u16>,
        /// The router there; `None` when the destination itself is on the link.
        gateway: Option<IpAddr>,
    },
    /// To the host's own network stack, through the TUN device.
    Host,
    /// Nowhere.
    Blackhole,
}

/// The link-layer address of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// The interface.
    pub port: PortId,
    /// The VLAN, or none for untagged.
    pub vlan: Option<u16>,
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: [u8; 6],
}
