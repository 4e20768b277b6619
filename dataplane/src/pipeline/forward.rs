//! Routing: longest prefix match, next-hop group, tunnel or inside interface.

use std::net::IpAddr;

use hawser_api::{DropReason, GroupId, PortId, TableId, TunnelId};
use hawser_net::{
    Family, IpHeader,
    icmp::Problem,
    rewrite::{self, Ttl},
};
use hawser_xsk::Frame;

use super::{Lane, Origin, Output, Path, Waiting, inbound::clamp_mss, outbound::Staged};
use crate::tables::{ETHERNET, Hop, Tables, UNTAGGED, ethertype};

/// An 802.1Q tag, in bytes.
const VLAN_TAG: usize = 4;

/// A link-layer destination on an inside interface.
#[derive(Clone, Copy)]
struct Link {
    port: PortId,
    vlan: u16,
    mac: [u8; 6],
}

/// What goes along with a packet on its way: where it came from and the table it looks in.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) origin: Origin,
    pub(super) table: TableId,
}

impl Path {
    /// Routes a packet. The frame begins with the IP header that `ip` describes and ends with the
    /// packet.
    #[inline]
    pub(super) fn route(
        &mut self,
        tables: &Tables,
        frame: Frame,
        ip: &IpHeader,
        origin: Origin,
        table: TableId,
        out: &mut Output,
    ) {
        let way = Way { origin, table };
        let found = tables.route_table(table).and_then(|lpm| lpm.lookup(ip));
        let Some(&hop) = found.and_then(|hop| tables.hops.get(hop as usize)) else {
            self.complain(tables, &frame, ip, way, Problem::NoRoute);
            return self.refuse(frame, way, DropReason::NoRoute);
        };
        match hop {
            Hop::Group(id) => match self.choose(tables, id, ip) {
                Some(tunnel) => self.forward_to_tunnel(tables, frame, ip, way, tunnel, out),
                None => {
                    self.complain(tables, &frame, ip, way, Problem::HostUnreachable);
                    self.refuse(frame, way, DropReason::TunnelDown);
                }
            },
            Hop::Tunnel(id) => self.forward_to_tunnel(tables, frame, ip, way, id, out),
            Hop::Gateway {
                port,
                vlan,
                mac: Some(mac),
                ..
            } => {
                self.forward_inside(tables, frame, ip, way, Link { port, vlan, mac }, out);
            }
            Hop::Gateway {
                port,
                vlan,
                address,
                mac: None,
            } => {
                self.wait_for(frame, way, port, vlan, address, out);
            }
            Hop::OnLink { port, vlan } => {
                let address = ip.dst_addr();
                match tables.neighbours.get(&(port, vlan, address)) {
                    Some(&mac) => {
                        self.forward_inside(tables, frame, ip, way, Link { port, vlan, mac }, out);
                    }
                    None => self.wait_for(frame, way, port, vlan, address, out),
                }
            }
            Hop::Host if origin == Origin::Host => self.refuse(frame, way, DropReason::NoRoute),
            Hop::Host => {
                self.counters.to_host += 1;
                out.host.push(frame);
            }
            Hop::Blackhole => self.refuse(frame, way, DropReason::Blackhole),
        }
    }

    /// The tunnel of this flow.
    #[inline]
    fn choose(&self, tables: &Tables, group: GroupId, ip: &IpHeader) -> Option<TunnelId> {
        let group = tables.groups.get(group.index())?.as_deref()?;
        let member = group.member(group.bucket(self.hash.hash(ip)))?;
        Some(TunnelId(member.0))
    }

    #[inline]
    fn forward_to_tunnel(
        &mut self,
        tables: &Tables,
        mut frame: Frame,
        ip: &IpHeader,
        way: Way,
        id: TunnelId,
        out: &mut Output,
    ) {
        let Some(tunnel) = tables.tunnel(id) else {
            return self.refuse(frame, way, DropReason::TunnelDown);
        };
        let Some(sa) = tunnel.outbound.as_deref() else {
            return self.discard(frame, Some(id), DropReason::TunnelDown);
        };
        if tunnel.ethernet.is_none() {
            return self.wait_for(frame, way, tunnel.port, UNTAGGED, tunnel.next_hop, out);
        }
        if !sa.selectors.allows_outbound(ip) {
            return self.discard(frame, Some(id), DropReason::SelectorMismatchOut);
        }
        if way.origin.is_transit() && !decrement_ttl(&mut frame, ip.family) {
            self.complain(tables, &frame, ip, way, Problem::Expired);
            return self.discard(frame, Some(id), DropReason::TtlExpired);
        }
        if ip.tcp_syn {
            clamp_mss(&mut frame, ip, tunnel);
        }
        let mut df = ip.df;
        if df && tunnel.clear_inner_df {
            rewrite::clear_df(frame.bytes_mut());
            df = false;
        }
        if frame.len() > usize::from(tunnel.inside_mtu) {
            return self.too_big_for_tunnel(tables, frame, ip, way, tunnel, out);
        }
        let staged = Staged {
            frame,
            tunnel: id,
            family: ip.family,
            tos: ip.tos,
            df,
        };
        self.stage(tables, staged, out);
    }

    #[inline]
    fn forward_inside(
        &mut self,
        tables: &Tables,
        mut frame: Frame,
        ip: &IpHeader,
        way: Way,
        link: Link,
        out: &mut Output,
    ) {
        if way.origin.is_transit() && !decrement_ttl(&mut frame, ip.family) {
            self.complain(tables, &frame, ip, way, Problem::Expired);
            return self.refuse(frame, way, DropReason::TtlExpired);
        }
        let mtu = tables.ports[link.port.index()].mtu;
        if frame.len() > mtu as usize {
            let mtu = mtu.try_into().unwrap_or(u16::MAX);
            let pieces = self.cut(&frame, ip, mtu);
            return match pieces {
                Some(pieces) => {
                    self.pool.give(frame);
                    for piece in pieces {
                        self.link(tables, piece, ip, way, link, out);
                    }
                }
                None => {
                    self.complain(tables, &frame, ip, way, Problem::TooBig { mtu });
                    self.refuse(frame, way, DropReason::PacketTooBig);
                }
            };
        }
        self.link(tables, frame, ip, way, link, out);
    }

    /// Writes the Ethernet header and sends.
    #[inline]
    fn link(
        &mut self,
        tables: &Tables,
        mut frame: Frame,
        ip: &IpHeader,
        way: Way,
        link: Link,
        out: &mut Output,
    ) {
        let tagged = link.vlan != UNTAGGED;
        let length = if tagged {
            ETHERNET + VLAN_TAG
        } else {
            ETHERNET
        };
        if !frame.grow_front(length) {
            return self.refuse(frame, way, DropReason::FrameTooSmall);
        }
        let header = &mut frame.bytes_mut()[..length];
        header[..6].copy_from_slice(&link.mac);
        header[6..12].copy_from_slice(&tables.ports[link.port.index()].mac);
        if tagged {
            header[12..14].copy_from_slice(&[0x81, 0x00]);
            header[14..16].copy_from_slice(&link.vlan.to_be_bytes());
        }
        header[length - 2..].copy_from_slice(&ethertype(ip.family == Family::V4));
        let lane = &mut out.ports[link.port.index()];
        // Flows spread over our transmit queues and so over the receiver's; one needs no hash.
        let spread = if lane.queues.len() > 1 {
            self.hash.hash(ip) as u32
        } else {
            0
        };
        lane.push(spread, frame);
    }

    fn wait_for(
        &mut self,
        frame: Frame,
        way: Way,
        port: PortId,
        vlan: u16,
        address: IpAddr,
        out: &mut Output,
    ) {
        let Way { origin, table } = way;
        self.wait(
            Waiting {
                frame,
                origin,
                table,
                port,
                vlan,
                address,
            },
            out,
        );
    }

    /// Drops a packet, counting it at the tunnel that it came from, if any.
    pub(super) fn refuse(&mut self, frame: Frame, way: Way, reason: DropReason) {
        let tunnel = match way.origin {
            Origin::Tunnel(tunnel) => Some(tunnel),
            Origin::Port(_) | Origin::Host | Origin::Own => None,
        };
        self.discard(frame, tunnel, reason);
    }
}

/// Whether the packet may go on.
#[inline]
fn decrement_ttl(frame: &mut Frame, family: Family) -> bool {
    let ttl = match family {
        Family::V4 => rewrite::decrement_ttl4(frame.bytes_mut()),
        Family::V6 => rewrite::decrement_ttl6(frame.bytes_mut()),
    };
    matches!(ttl, Ttl::Alive)
}

impl Lane {
    /// Adds a frame; the same `spread` always takes the same queue.
    #[inline]
    pub(super) fn push(&mut self, spread: u32, frame: Frame) {
        let n = self.queues.len();
        let queue = if n > 1 { spread as usize % n } else { 0 };
        // A port without a queue of ours cannot be: the set-up gives every worker one.
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.push(frame);
        }
    }
}
