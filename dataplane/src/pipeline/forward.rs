//! Routing: longest prefix match, next-hop group, tunnel or inside interface.

use std::net::IpAddr;

use hawser_aead::BATCH;
use hawser_api::{DropReason, GroupId, PortId, TableId, TunnelId};
use hawser_net::{Family, IpHeader, hash::FlowHash, icmp::Problem, parse_ip, rewrite};
use hawser_xsk::Frame;

use super::{
    Lane, Origin, Output, Path, Waiting,
    inbound::clamp_mss,
    outbound::{Inner, Staged},
};
use crate::tables::{ETHERNET, Hop, Tables, Tunnel, UNTAGGED, ethertype};

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

/// What routing needs of an IP packet whose frame begins with the IP header and ends with the
/// packet.
///
/// Only what every packet needs, so that a phase reads one cache line for it and none of the
/// frame: frames lie 2 KiB apart, so their first lines compete for a few sets of the L1 cache and
/// the batch's do not fit. What few packets need is parsed again.
#[derive(Clone, Copy)]
pub(super) struct Brief {
    way: Way,
    /// Hash of its flow.
    flow: u64,
    /// IPv4 destination; an IPv6 one is read from the frame.
    target: u32,
    family: Family,
    tos: u8,
    ttl: u8,
    df: bool,
    tcp_syn: bool,
}

impl Brief {
    #[inline(always)]
    fn new(ip: &IpHeader, way: Way, hash: &FlowHash) -> Self {
        Self {
            way,
            flow: hash.hash(ip),
            target: ip.dst4(),
            family: ip.family,
            tos: ip.tos,
            ttl: ip.ttl,
            df: ip.df,
            tcp_syn: ip.tcp_syn,
        }
    }

    /// Whether its time to live ends here.
    #[inline]
    fn expires(&self) -> bool {
        self.way.origin.is_transit() && self.ttl <= 1
    }
}

/// A batch to be routed. Frames apart from the rest: they are moved on, the rest is only read.
pub(super) struct Transit {
    frames: Vec<Frame>,
    briefs: Vec<Brief>,
}

impl Transit {
    pub(super) fn new() -> Self {
        Self {
            frames: Vec::with_capacity(BATCH),
            briefs: Vec::with_capacity(BATCH),
        }
    }
}

impl Path {
    /// Adds a packet with header `ip` to the batch to be routed.
    #[inline(always)]
    pub(super) fn route(
        &mut self,
        tables: &Tables,
        frame: Frame,
        ip: &IpHeader,
        way: Way,
        out: &mut Output,
    ) {
        if self.transit.frames.len() == BATCH {
            self.forward(tables, out);
        }
        self.transit.frames.push(frame);
        self.transit.briefs.push(Brief::new(ip, way, &self.hash));
    }

    /// Routes the batch.
    pub(super) fn forward(&mut self, tables: &Tables, out: &mut Output) {
        if self.transit.frames.is_empty() {
            return;
        }
        let mut frames = std::mem::take(&mut self.transit.frames);
        let mut briefs = std::mem::take(&mut self.transit.briefs);
        let hops = look_up(tables, &frames, &briefs);
        let tunnels = choose(tables, &briefs, &hops);
        let decisions = hops.iter().zip(&tunnels);
        for ((frame, brief), decision) in frames.drain(..).zip(&briefs).zip(decisions) {
            match decision {
                (_, Some(tunnel)) => self.forward_to_tunnel(tables, frame, brief, tunnel, out),
                (Some(hop), None) => self.elsewhere(tables, frame, brief, hop, out),
                (None, None) => {
                    self.complain(tables, &frame, brief.way, Problem::NoRoute);
                    self.refuse(frame, brief.way, DropReason::NoRoute);
                }
            }
        }
        briefs.clear();
        self.transit = Transit { frames, briefs };
    }

    /// A packet whose route leads not into a tunnel, or into one that is not there.
    #[inline]
    fn elsewhere(
        &mut self,
        tables: &Tables,
        frame: Frame,
        brief: &Brief,
        hop: &Hop,
        out: &mut Output,
    ) {
        let way = brief.way;
        match *hop {
            Hop::Gateway {
                port,
                vlan,
                mac: Some(mac),
                ..
            } => self.forward_inside(tables, frame, brief, Link { port, vlan, mac }, out),
            Hop::Gateway {
                port,
                vlan,
                address,
                mac: None,
            } => self.wait_for(frame, way, port, vlan, address, out),
            Hop::OnLink { port, vlan } => {
                let address = destination(&frame, brief);
                match tables.neighbours.get(&(port, vlan, address)) {
                    Some(&mac) => {
                        self.forward_inside(tables, frame, brief, Link { port, vlan, mac }, out);
                    }
                    None => self.wait_for(frame, way, port, vlan, address, out),
                }
            }
            Hop::Group(_) => {
                self.complain(tables, &frame, way, Problem::HostUnreachable);
                self.refuse(frame, way, DropReason::TunnelDown);
            }
            Hop::Tunnel(_) => self.refuse(frame, way, DropReason::TunnelDown),
            Hop::Host if way.origin == Origin::Host => {
                self.refuse(frame, way, DropReason::NoRoute);
            }
            Hop::Host => {
                self.counters.to_host += 1;
                out.host.push(frame);
            }
            Hop::Blackhole => self.refuse(frame, way, DropReason::Blackhole),
        }
    }

    #[inline]
    fn forward_to_tunnel(
        &mut self,
        tables: &Tables,
        mut frame: Frame,
        brief: &Brief,
        tunnel: &Tunnel,
        out: &mut Output,
    ) {
        let Brief { way, family, .. } = *brief;
        let id = tunnel.id;
        let Some(sa) = tunnel.outbound.as_deref() else {
            return self.discard(frame, Some(id), DropReason::TunnelDown);
        };
        if tunnel.ethernet.is_none() {
            return self.wait_for(frame, way, tunnel.port, UNTAGGED, tunnel.next_hop, out);
        }
        let allowed = sa.selectors.is_open(family)
            || parse_ip(frame.bytes()).is_ok_and(|ip| sa.selectors.allows_outbound(&ip));
        if !allowed {
            return self.discard(frame, Some(id), DropReason::SelectorMismatchOut);
        }
        if brief.expires() {
            self.complain(tables, &frame, way, Problem::Expired);
            return self.discard(frame, Some(id), DropReason::TtlExpired);
        }
        if brief.tcp_syn
            && let Ok(ip) = parse_ip(frame.bytes())
        {
            clamp_mss(&mut frame, &ip, tunnel);
        }
        let mut df = brief.df;
        // IPv6 has no flag to clear.
        if df && tunnel.clear_inner_df && family == Family::V4 {
            rewrite::clear_df(frame.bytes_mut());
            df = false;
        }
        if frame.len() > usize::from(tunnel.inside_mtu) {
            return self.too_big_for_tunnel(tables, frame, way, tunnel, out);
        }
        let staged = Staged {
            frame,
            tunnel: id,
            inner: Inner {
                family,
                tos: brief.tos,
                df,
                transit: way.origin.is_transit(),
            },
            fate: None,
        };
        self.stage(tables, staged, out);
    }

    #[inline]
    fn forward_inside(
        &mut self,
        tables: &Tables,
        mut frame: Frame,
        brief: &Brief,
        link: Link,
        out: &mut Output,
    ) {
        let Brief { way, family, .. } = *brief;
        if brief.expires() {
            self.complain(tables, &frame, way, Problem::Expired);
            return self.refuse(frame, way, DropReason::TtlExpired);
        }
        let mtu = tables.ports[link.port.index()].mtu;
        if frame.len() > mtu as usize {
            return self.too_big_for_link(tables, frame, brief, link, out);
        }
        if way.origin.is_transit() {
            decrement_ttl(&mut frame, family);
        }
        self.link(tables, frame, brief, link, out);
    }

    /// A packet larger than an inside interface takes: fragments, or ICMP for the sender.
    #[cold]
    fn too_big_for_link(
        &mut self,
        tables: &Tables,
        frame: Frame,
        brief: &Brief,
        link: Link,
        out: &mut Output,
    ) {
        let mtu = tables.ports[link.port.index()].mtu;
        let mtu = mtu.try_into().unwrap_or(u16::MAX);
        let Ok(ip) = parse_ip(frame.bytes()) else {
            return self.refuse(frame, brief.way, DropReason::InnerMalformed);
        };
        let Some(pieces) = self.cut(&frame, &ip, mtu) else {
            self.complain(tables, &frame, brief.way, Problem::TooBig { mtu });
            return self.refuse(frame, brief.way, DropReason::PacketTooBig);
        };
        self.pool.give(frame);
        for mut piece in pieces {
            if brief.way.origin.is_transit() {
                decrement_ttl(&mut piece, brief.family);
            }
            self.link(tables, piece, brief, link, out);
        }
    }

    /// Writes the Ethernet header and sends.
    #[inline]
    fn link(
        &mut self,
        tables: &Tables,
        mut frame: Frame,
        brief: &Brief,
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
            return self.refuse(frame, brief.way, DropReason::FrameTooSmall);
        }
        let header = &mut frame.bytes_mut()[..length];
        header[..6].copy_from_slice(&link.mac);
        header[6..12].copy_from_slice(&tables.ports[link.port.index()].mac);
        if tagged {
            header[12..14].copy_from_slice(&[0x81, 0x00]);
            header[14..16].copy_from_slice(&link.vlan.to_be_bytes());
        }
        header[length - 2..].copy_from_slice(&ethertype(brief.family == Family::V4));
        // Flows spread over our transmit queues and so over the receiver's.
        out.ports[link.port.index()].push(brief.flow as u32, frame);
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

/// Where each packet's route leads.
#[inline(never)]
fn look_up<'t>(tables: &'t Tables, frames: &[Frame], briefs: &[Brief]) -> [Option<&'t Hop>; BATCH] {
    let mut hops = [None; BATCH];
    for ((frame, brief), hop) in frames.iter().zip(briefs).zip(&mut hops) {
        *hop = tables.route_table(brief.way.table).and_then(|routes| {
            let found = match brief.family {
                Family::V4 => routes.v4.lookup(brief.target),
                Family::V6 => routes.v6.lookup(target6(frame)),
            };
            tables.hops.get(found? as usize)
        });
    }
    hops
}

/// The tunnel of each packet that goes into one.
#[inline(never)]
fn choose<'t>(
    tables: &'t Tables,
    briefs: &[Brief],
    hops: &[Option<&Hop>; BATCH],
) -> [Option<&'t Tunnel>; BATCH] {
    let mut tunnels = [None; BATCH];
    for ((brief, hop), tunnel) in briefs.iter().zip(hops).zip(&mut tunnels) {
        *tunnel = match hop {
            Some(Hop::Group(id)) => member(tables, *id, brief.flow),
            Some(Hop::Tunnel(id)) => tables.tunnel(*id),
            _ => None,
        };
    }
    tunnels
}

/// The group's tunnel for a flow.
#[inline]
fn member(tables: &Tables, group: GroupId, flow: u64) -> Option<&Tunnel> {
    let group = tables.groups.get(group.index())?.as_deref()?;
    let member = group.member(group.bucket(flow))?;
    tables.tunnel(TunnelId(member.0))
}

/// Where a packet goes, in the standard library's type.
fn destination(frame: &Frame, brief: &Brief) -> IpAddr {
    match brief.family {
        Family::V4 => IpAddr::V4(brief.target.into()),
        Family::V6 => IpAddr::V6(target6(frame).into()),
    }
}

/// The destination in an IPv6 header that passed the parser.
#[inline]
fn target6(frame: &Frame) -> u128 {
    let address = frame.bytes().get(24..).and_then(<[u8]>::first_chunk);
    address.map_or(0, |address| u128::from_be_bytes(*address))
}

/// Takes one from a TTL or hop limit that is above one.
#[inline]
pub(super) fn decrement_ttl(frame: &mut Frame, family: Family) {
    match family {
        Family::V4 => rewrite::decrement_ttl4(frame.bytes_mut()),
        Family::V6 => rewrite::decrement_ttl6(frame.bytes_mut()),
    };
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
