//! Routing: longest prefix match, next-hop group, tunnel or inside interface.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use hawser_aead::BATCH;
use hawser_api::{DropReason, PortId, TableId, TunnelId};
use hawser_net::{
    Family, IpHeader, ecmp::Group, hash::FlowHash, icmp::Problem, lpm::NO_ROUTE, parse_ip, rewrite,
};
use hawser_xsk::Frame;

use super::{Lane, Origin, Output, Path, Waiting, inbound::clamp_mss, outbound::Inner};
use crate::tables::{ETHERNET, Hop, Link, Tables, Tunnel, UNTAGGED, ethertype};

/// An 802.1Q tag, in bytes.
const VLAN_TAG: usize = 4;

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
/// frame. What few packets need is parsed again.
#[derive(Clone, Copy)]
pub(super) struct Brief {
    way: Way,
    /// Hash of its flow.
    flow: u64,
    /// IPv4 destination; an IPv6 one is read from the frame.
    target: u32,
    /// What an outer header takes from it.
    inner: Inner,
    ttl: u8,
    tcp_syn: bool,
}

impl Brief {
    #[inline(always)]
    fn new(ip: &IpHeader, way: Way, hash: &FlowHash) -> Self {
        Self {
            way,
            flow: hash.hash(ip),
            target: ip.dst4(),
            inner: Inner {
                family: ip.family,
                tos: ip.tos,
                df: ip.df,
                transit: way.origin.is_transit(),
            },
            ttl: ip.ttl,
            tcp_syn: ip.tcp_syn,
        }
    }

    /// Whether a packet of `len` bytes can go into the tunnel without another look at either.
    #[inline]
    fn is_usual(&self, tables: &Tables, tunnel: TunnelId, len: usize) -> bool {
        self.ttl > 1
            && !self.tcp_syn
            && len <= usize::from(tables.usual.mtu)
            && tables.usual.tunnels.get(tunnel.index()) == Some(&true)
    }

    /// Whether its time to live ends here.
    #[inline]
    fn expires(&self) -> bool {
        self.inner.transit && self.ttl <= 1
    }
}

/// A packet to be routed.
pub(super) struct Transit {
    /// There until the packet is routed.
    frame: Option<Frame>,
    brief: Brief,
}

/// Where a packet's route leads.
#[derive(Clone, Copy)]
enum Target<'t> {
    /// Into this tunnel, which may not be there.
    Tunnel(TunnelId),
    /// To this neighbour on an inside interface.
    Link(&'t Link),
    /// Somewhere else: the number of the hop.
    Hop(u32),
    /// No route.
    Nowhere,
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
        if self.transit.is_full() {
            self.forward(tables, out);
        }
        self.transit.push(Transit {
            frame: Some(frame),
            brief: Brief::new(ip, way, &self.hash),
        });
    }

    /// Routes the batch.
    #[inline(never)]
    pub(super) fn forward(&mut self, tables: &Tables, out: &mut Output) {
        let targets = look_up(tables, &self.transit);
        for (at, target) in targets.iter().enumerate() {
            let Transit { frame, brief } = &mut self.transit[at];
            let Some(frame) = frame.take() else {
                continue;
            };
            match *target {
                Target::Tunnel(id) if brief.is_usual(tables, id, frame.len()) => {
                    let inner = brief.inner;
                    self.stage(tables, frame, id, inner, out);
                }
                Target::Link(link) => {
                    let brief = *brief;
                    self.forward_inside(tables, frame, &brief, link, out);
                }
                _ => {
                    let brief = *brief;
                    self.forward_to(tables, frame, &brief, *target, out);
                }
            }
        }
        self.transit.clear();
    }

    /// One packet to where its route leads.
    #[inline(never)]
    fn forward_to(
        &mut self,
        tables: &Tables,
        frame: Frame,
        brief: &Brief,
        target: Target<'_>,
        out: &mut Output,
    ) {
        match target {
            Target::Hop(hop) => {
                self.elsewhere(tables, frame, brief, &tables.hops[hop as usize], out);
            }
            Target::Link(link) => self.forward_odd(tables, frame, brief, link, out),
            Target::Tunnel(id) => match tables.tunnel(id) {
                Some(tunnel) => self.forward_to_tunnel(tables, frame, brief, tunnel, out),
                None => self.refuse(frame, brief.way, DropReason::TunnelDown),
            },
            Target::Nowhere => {
                self.complain(tables, &frame, brief.way, Problem::NoRoute);
                self.refuse(frame, brief.way, DropReason::NoRoute);
            }
        }
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
            Hop::Link(link) => self.forward_odd(tables, frame, brief, &link, out),
            Hop::Gateway {
                port,
                vlan,
                address,
            } => self.wait_for(frame, way, port, vlan, address, out),
            Hop::OnLink { port, vlan } => {
                let address = destination(&frame, brief);
                match tables.neighbours.get(&(port, vlan, address)) {
                    Some(&mac) => {
                        let link = Link::new(port, &tables.ports[port.index()], vlan, mac);
                        self.forward_odd(tables, frame, brief, &link, out);
                    }
                    None => self.wait_for(frame, way, port, vlan, address, out),
                }
            }
            Hop::Group(_) => {
                self.complain(tables, &frame, way, Problem::HostUnreachable);
                self.refuse(frame, way, DropReason::TunnelDown);
            }
            // Cannot be: these were found out with the look-up.
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

    /// A packet into a tunnel, with everything that may be unusual about the two.
    #[inline(never)]
    fn forward_to_tunnel(
        &mut self,
        tables: &Tables,
        mut frame: Frame,
        brief: &Brief,
        tunnel: &Tunnel,
        out: &mut Output,
    ) {
        let Brief { way, inner, .. } = *brief;
        let (id, family) = (tunnel.id, inner.family);
        let Some(egress) = &tunnel.egress else {
            if !tunnel.has_outbound {
                return self.discard(frame, Some(id), DropReason::TunnelDown);
            }
            return self.wait_for(frame, way, tunnel.port, UNTAGGED, tunnel.next_hop, out);
        };
        let selectors = &egress.sa.selectors;
        let allowed = selectors.is_open(family)
            || parse_ip(frame.bytes()).is_ok_and(|ip| selectors.allows_outbound(&ip));
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
        let mut df = inner.df;
        // IPv6 has no flag to clear.
        if df && tunnel.clear_inner_df && family == Family::V4 {
            rewrite::clear_df(frame.bytes_mut());
            df = false;
        }
        if frame.len() > usize::from(tunnel.inside_mtu) {
            return self.too_big_for_tunnel(tables, frame, way, tunnel, out);
        }
        let inner = Inner { df, ..inner };
        self.stage(tables, frame, id, inner, out);
    }

    /// [`Path::forward_inside`], apart from the packet loop.
    #[inline(never)]
    fn forward_odd(
        &mut self,
        tables: &Tables,
        frame: Frame,
        brief: &Brief,
        link: &Link,
        out: &mut Output,
    ) {
        self.forward_inside(tables, frame, brief, link, out);
    }

    /// A packet out of an inside interface.
    #[inline(always)]
    fn forward_inside(
        &mut self,
        tables: &Tables,
        mut frame: Frame,
        brief: &Brief,
        link: &Link,
        out: &mut Output,
    ) {
        let Brief { way, inner, .. } = *brief;
        if brief.expires() {
            self.complain(tables, &frame, way, Problem::Expired);
            return self.refuse(frame, way, DropReason::TtlExpired);
        }
        if frame.len() > link.mtu as usize {
            return self.too_big_for_link(tables, frame, brief, link, out);
        }
        if inner.transit {
            decrement_ttl(&mut frame, inner.family);
        }
        self.link(frame, brief, link, out);
    }

    /// A packet larger than an inside interface takes: fragments, or ICMP for the sender.
    #[cold]
    fn too_big_for_link(
        &mut self,
        tables: &Tables,
        frame: Frame,
        brief: &Brief,
        link: &Link,
        out: &mut Output,
    ) {
        let mtu = link.mtu.try_into().unwrap_or(u16::MAX);
        let Ok(ip) = parse_ip(frame.bytes()) else {
            return self.refuse(frame, brief.way, DropReason::InnerMalformed);
        };
        let Some(pieces) = self.cut(&frame, &ip, mtu) else {
            self.complain(tables, &frame, brief.way, Problem::TooBig { mtu });
            return self.refuse(frame, brief.way, DropReason::PacketTooBig);
        };
        self.pool.give(frame);
        for mut piece in pieces {
            if brief.inner.transit {
                decrement_ttl(&mut piece, brief.inner.family);
            }
            self.link(piece, brief, link, out);
        }
    }

    /// Writes the Ethernet header and sends.
    #[inline(always)]
    fn link(&mut self, mut frame: Frame, brief: &Brief, link: &Link, out: &mut Output) {
        let kind = ethertype(brief.inner.family == Family::V4);
        let written = if link.vlan == UNTAGGED {
            let written = frame.grow_front(ETHERNET);
            if written && let Some(header) = frame.bytes_mut().first_chunk_mut::<ETHERNET>() {
                header[..12].copy_from_slice(&link.addresses);
                header[12..].copy_from_slice(&kind);
            }
            written
        } else {
            tag(&mut frame, link, kind)
        };
        if !written {
            return self.refuse(frame, brief.way, DropReason::FrameTooSmall);
        }
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

/// Puts an Ethernet header with an 802.1Q tag in front of a packet; false if there is no room.
fn tag(frame: &mut Frame, link: &Link, kind: [u8; 2]) -> bool {
    if !frame.grow_front(ETHERNET + VLAN_TAG) {
        return false;
    }
    let header = &mut frame.bytes_mut()[..ETHERNET + VLAN_TAG];
    header[..12].copy_from_slice(&link.addresses);
    header[12..14].copy_from_slice(&[0x81, 0x00]);
    header[14..16].copy_from_slice(&link.vlan.to_be_bytes());
    header[16..].copy_from_slice(&kind);
    true
}

/// Where the batch's routes lead.
#[inline(never)]
fn look_up<'t>(tables: &'t Tables, transit: &[Transit]) -> ArrayVec<Target<'t>, BATCH> {
    let found = match_prefixes(tables, transit);
    // Most batches go to one group. Remembered, it is known before the look-up's result is, and
    // the processor fetches buckets while it still waits for prefixes.
    let mut last = (NO_ROUTE, Lead::To(Target::Nowhere));
    let target = |(packet, &number): (&Transit, &u32)| {
        if number != last.0 {
            last = (number, lead(tables, number));
        }
        match last.1 {
            Lead::Over(group) => group
                .member(group.bucket(packet.brief.flow))
                .map_or(Target::Hop(number), |member| {
                    Target::Tunnel(TunnelId(member.0))
                }),
            Lead::To(target) => target,
        }
    };
    transit.iter().zip(&found).map(target).collect()
}

/// What a hop is for all of a batch's packets that go there.
#[derive(Clone, Copy)]
enum Lead<'t> {
    /// Each packet's flow decides.
    Over(&'t Group),
    /// The same for all.
    To(Target<'t>),
}

fn lead(tables: &Tables, number: u32) -> Lead<'_> {
    match tables.hops.get(number as usize) {
        Some(Hop::Group(id)) => match tables.groups.get(id.index()) {
            Some(Some(group)) => Lead::Over(group),
            _ => Lead::To(Target::Hop(number)),
        },
        Some(Hop::Tunnel(id)) => Lead::To(Target::Tunnel(*id)),
        Some(Hop::Link(link)) => Lead::To(Target::Link(link)),
        Some(_) => Lead::To(Target::Hop(number)),
        None => Lead::To(Target::Nowhere),
    }
}

/// The number of each packet's hop, or [`NO_ROUTE`].
#[inline]
fn match_prefixes(tables: &Tables, transit: &[Transit]) -> [u32; BATCH] {
    let mut found = [NO_ROUTE; BATCH];
    let Some(first) = transit.first() else {
        return found;
    };
    let table = first.brief.way.table;
    let mut addresses = [0; BATCH];
    let mut alike = true;
    for (packet, address) in transit.iter().zip(&mut addresses) {
        let brief = &packet.brief;
        *address = brief.target;
        alike &= brief.way.table == table && brief.inner.family == Family::V4;
    }
    if alike {
        if let Some(routes) = tables.route_table(table) {
            let n = transit.len().min(BATCH);
            routes.v4.lookup_batch(&addresses[..n], &mut found[..n]);
        }
        return found;
    }
    for (packet, found) in transit.iter().zip(&mut found) {
        let brief = &packet.brief;
        *found = tables
            .route_table(brief.way.table)
            .and_then(|routes| match brief.inner.family {
                Family::V4 => routes.v4.lookup(brief.target),
                Family::V6 => routes.v6.lookup(packet.frame.as_ref().map_or(0, target6)),
            })
            .unwrap_or(NO_ROUTE);
    }
    found
}

/// Where a packet goes, in the standard library's type.
fn destination(frame: &Frame, brief: &Brief) -> IpAddr {
    match brief.inner.family {
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
    #[inline(always)]
    pub(super) fn push(&mut self, spread: u32, frame: Frame) {
        match &mut self.queues[..] {
            // Cannot be: the set-up gives every worker one.
            [] => {}
            [only] => only.push(frame),
            queues => queues[spread as usize % queues.len()].push(frame),
        }
    }
}
