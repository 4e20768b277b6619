//! What a router does for packets that cannot simply go on: fragments and ICMP errors.
//!
//! Off the fast path, but reachable by anyone who can send a packet: nothing here may panic, and
//! errors are limited in rate (RFC 1812, section 4.3.2.8).

use std::net::IpAddr;

use arrayvec::ArrayVec;
use hawser_api::{DropReason, PortId};
use hawser_net::{
    Family, IpHeader,
    fragment::Fragments,
    icmp::{self, Problem},
    parse_ip,
};
use hawser_xsk::Frame;

use super::{Origin, Output, Path, forward::Way, outbound::Inner};
use crate::tables::{Tables, Tunnel};

/// Most fragments of one packet: 65,535 bytes at the smallest inside MTU would be more, but a
/// frame holds 16 KiB, and no MTU is below 256.
const MAX_PIECES: usize = 64;

impl Path {
    /// A packet larger than the tunnel's MTU: fragments, or ICMP for the sender.
    pub(super) fn too_big_for_tunnel(
        &mut self,
        tables: &Tables,
        frame: Frame,
        way: Way,
        tunnel: &Tunnel,
        out: &mut Output,
    ) {
        let mtu = tunnel.inside_mtu;
        let Ok(ip) = parse_ip(frame.bytes()) else {
            return self.discard(frame, Some(tunnel.id), DropReason::InnerMalformed);
        };
        let Some(pieces) = self.cut(&frame, &ip, mtu) else {
            self.complain(tables, &frame, way, Problem::TooBig { mtu });
            return self.discard(frame, Some(tunnel.id), DropReason::PacketTooBig);
        };
        self.pool.give(frame);
        if pieces.is_empty() {
            self.counters
                .drop_in(tunnel.id, DropReason::FragmentationFailed);
        }
        for frame in pieces {
            let inner = Inner {
                family: ip.family,
                tos: ip.tos,
                df: false,
                transit: way.origin.is_transit(),
            };
            self.stage(tables, frame, tunnel.id, inner, out);
        }
    }

    /// Cuts a packet into fragments of at most `mtu` bytes. `None` if it must not be cut (IPv6, or
    /// DF); empty if it cannot be, or frames ran out: all of it is lost then, because a packet
    /// with one fragment missing is of no use to anybody.
    pub(super) fn cut(
        &mut self,
        frame: &Frame,
        ip: &IpHeader,
        mtu: u16,
    ) -> Option<ArrayVec<Frame, MAX_PIECES>> {
        if ip.family == Family::V6 || ip.df {
            return None;
        }
        let mut pieces = ArrayVec::new();
        let Ok(mut fragments) = Fragments::new(frame.bytes(), ip, mtu) else {
            return Some(pieces);
        };
        while let Some(len) = fragments.next_len() {
            let written = self.pool.take().and_then(|mut piece| {
                piece.reset();
                if !piece.grow_back(len) {
                    self.pool.give(piece);
                    return None;
                }
                fragments.write_next(piece.bytes_mut())?;
                Some(piece)
            });
            let stored = written.is_some_and(|piece| pieces.try_push(piece).is_ok());
            if !stored {
                self.pool.give_all(pieces.drain(..));
                return Some(pieces);
            }
        }
        Some(pieces)
    }

    /// Makes an ICMP error about a packet, if one may be sent. It leaves with this batch.
    #[cold]
    pub(super) fn complain(&mut self, tables: &Tables, frame: &Frame, way: Way, problem: Problem) {
        if way.origin == Origin::Own || !self.icmp.allow(self.now) {
            return;
        }
        // Packets on their way have passed the parser.
        let Ok(ip) = parse_ip(frame.bytes()) else {
            return;
        };
        let Some(from) = source(tables, way.origin, ip.family) else {
            return;
        };
        let Some(mut error) = self.pool.take() else {
            return;
        };
        error.reset();
        let room = match ip.family {
            Family::V4 => icmp::MAX_LEN4,
            Family::V6 => icmp::MAX_LEN6,
        };
        let written = error
            .grow_back(room.min(error.tailroom()))
            .then(|| icmp::build(problem, frame.bytes(), &ip, from, error.bytes_mut()));
        match written {
            Some(Ok(len)) => {
                error.truncate(len);
                self.own.push((error, way.table));
            }
            Some(Err(_)) | None => self.pool.give(error),
        }
    }

    /// Routes the ICMP errors of this batch.
    pub(super) fn send_own(&mut self, tables: &Tables, out: &mut Output) {
        while let Some((frame, table)) = self.own.pop() {
            self.counters.icmp_sent += 1;
            let way = Way {
                origin: Origin::Own,
                table,
            };
            match parse_ip(frame.bytes()) {
                Ok(ip) => self.route(tables, frame, &ip, way, out),
                Err(_) => self.discard(frame, None, DropReason::InnerMalformed),
            }
        }
        self.forward(tables, out);
    }
}

/// The address that speaks for us: of the port the packet came in by, else of any inside port.
fn source(tables: &Tables, origin: Origin, family: Family) -> Option<IpAddr> {
    let address = |id: usize| {
        let port = tables.ports.get(id)?;
        match family {
            Family::V4 => port.address_v4.map(IpAddr::V4),
            Family::V6 => port.address_v6.map(IpAddr::V6),
        }
    };
    let own = match origin {
        Origin::Port(PortId(id)) => address(usize::from(id)),
        Origin::Tunnel(_) | Origin::Host | Origin::Own => None,
    };
    own.or_else(|| {
        (0..tables.ports.len())
            .filter(|&id| tables.ports[id].inside)
            .find_map(address)
    })
}
