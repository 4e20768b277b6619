//! ESP from the network: finds its SA, checks all that can be checked before decryption, and adds
//! it to the decryption batch (RFC 4303, section 3.4).

use std::net::IpAddr;

use arrayvec::ArrayVec;
use hawser_aead::BATCH;
use hawser_api::{DropReason, Encapsulation, Event, Spi};
use hawser_net::{
    Fragment, IpHeader, Packet,
    mtu::ESP_TRAILER,
    parse,
    parse::{Esp, PlainEsp, find_esp, plain_esp},
};
use hawser_xsk::Frame;

use super::{
    EVENT_INTERVAL, Output, Path,
    inbound::{Arrived, Moved},
    reason, replay_reason,
};
use crate::tables::{Tables, Tunnel};

impl Path {
    /// Frames of a port that faces the peers only.
    #[inline]
    pub(super) fn receive_outside(
        &mut self,
        tables: &Tables,
        frames: impl Iterator<Item = Frame>,
        out: &mut Output,
    ) {
        if !tables.is_large() {
            return self.arrive_all(tables, frames, out);
        }
        let mut frames = frames.fuse();
        loop {
            let mut burst: ArrayVec<Frame, BATCH> = ArrayVec::new();
            burst.extend(frames.by_ref().take(BATCH));
            if burst.is_empty() {
                break;
            }
            self.warm_inbound(tables, &burst);
            self.arrive_all(tables, burst.drain(..), out);
        }
    }

    #[inline]
    fn arrive_all(
        &mut self,
        tables: &Tables,
        frames: impl Iterator<Item = Frame>,
        out: &mut Output,
    ) {
        for frame in frames {
            match plain_esp(frame.bytes()) {
                Some(plain) => self.arrive_plain(tables, frame, &plain, out),
                None => self.arrive_odd(tables, frame, out),
            }
        }
    }

    /// A usual ESP packet. What it shows to be unusual is looked at again, from the start.
    #[inline(always)]
    fn arrive_plain(&mut self, tables: &Tables, frame: Frame, plain: &PlainEsp, out: &mut Output) {
        let Some(entry) = tables.spis.get(Spi(plain.esp.spi)) else {
            return self.arrive_odd(tables, frame, out);
        };
        if entry.owner != self.id {
            self.counters.handed_off += 1;
            return out.workers[entry.owner.index()].push(frame);
        }
        match self.inbound.get(entry.slot as usize) {
            Some(Some(state)) if state.is_from_peer(plain) => {
                let (slot, esp, tos) = (entry.slot, &plain.esp, plain.tos);
                self.accept(tables, frame, (slot, esp, tos), None, out);
            }
            _ => self.arrive_odd(tables, frame, out),
        }
    }

    /// Any frame of a port that faces the peers only.
    #[inline(never)]
    fn arrive_odd(&mut self, tables: &Tables, frame: Frame, out: &mut Output) {
        match parse(frame.bytes()) {
            Ok(packet) => self.arrive(tables, frame, &packet, out),
            Err(error) => self.discard(frame, None, reason(error)),
        }
    }

    /// Any packet for one of our outside addresses.
    pub(super) fn arrive(
        &mut self,
        tables: &Tables,
        frame: Frame,
        packet: &Packet,
        out: &mut Output,
    ) {
        let Some(esp) = find_esp(frame.bytes(), packet) else {
            let reason = match packet.ip.fragment {
                Fragment::Whole => DropReason::EspMalformed,
                Fragment::First | Fragment::Later => DropReason::OuterFragment,
            };
            return self.discard(frame, None, reason);
        };
        let spi = Spi(esp.spi);
        let Some(entry) = tables.spis.get(spi) else {
            self.report_spi(spi, packet.ip.src_addr(), out);
            return self.discard(frame, None, DropReason::UnknownSpi);
        };
        if entry.owner != self.id {
            self.counters.handed_off += 1;
            return out.workers[entry.owner.index()].push(frame);
        }
        let sa = tables.inbound[entry.slot as usize].as_deref();
        let Some(tunnel) = sa.and_then(|sa| tables.tunnel(sa.tunnel)) else {
            return self.discard(frame, None, DropReason::UnknownSpi);
        };
        let moved = match check_outer(tunnel, &packet.ip, esp.udp) {
            Ok(Source::Known) => None,
            Ok(Source::Moved) => Some((packet.ip.src_addr(), source_port(&packet.ip))),
            Err(reason) => return self.discard(frame, Some(tunnel.id), reason),
        };
        self.accept(tables, frame, (entry.slot, &esp, packet.ip.tos), moved, out);
    }

    /// Adds a packet to the decryption batch, if its length and sequence number may be right.
    /// `moved` says where it came from, if not from where the peer was.
    #[inline(always)]
    fn accept(
        &mut self,
        tables: &Tables,
        mut frame: Frame,
        (slot, esp, tos): (u32, &Esp, u8),
        moved: Option<(IpAddr, u16)>,
        out: &mut Output,
    ) {
        let state = self.inbound.get(slot as usize);
        let Some(state) = state.and_then(Option::as_ref) else {
            return self.discard(frame, None, DropReason::UnknownSpi);
        };
        let sequence = state.window.infer(esp.sequence);
        let ciphertext = state.shape.ciphertext(esp.len);
        let refused = match state.window.check(sequence) {
            _ if ciphertext.is_none_or(|len| len < ESP_TRAILER) => Some(DropReason::EspMalformed),
            Ok(()) => None,
            Err(error) => Some(replay_reason(error)),
        };
        if let Some(reason) = refused {
            return self.refuse_esp(tables, frame, slot, reason);
        }
        frame.narrow(esp.offset, esp.len);
        if self.arrived.len() == BATCH {
            self.open(tables, out);
        }
        if let Some((address, port)) = moved {
            let at = self.arrived.len();
            self.moved.push(Moved { at, address, port });
        }
        self.inbound_groups.add(slot);
        self.arrived.push(Arrived {
            frame,
            sequence,
            slot,
            tos,
            verdict: Arrived::UNJUDGED,
        });
    }

    /// Drops a packet, counting it at its SA's tunnel.
    #[cold]
    fn refuse_esp(&mut self, tables: &Tables, frame: Frame, slot: u32, reason: DropReason) {
        let sa = tables.inbound.get(slot as usize);
        let tunnel = sa.and_then(Option::as_deref).map(|sa| sa.tunnel);
        self.discard(frame, tunnel, reason);
    }

    /// Tells control of a packet for an SA that is not there, if not too often.
    #[cold]
    fn report_spi(&mut self, spi: Spi, source: IpAddr, out: &mut Output) {
        if self.now >= self.told_spi + EVENT_INTERVAL {
            self.told_spi = self.now;
            out.events.push(Event::UnknownSpi { spi, source });
        }
    }
}

/// Where an ESP packet came from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// From where the peer was.
    Known,
    /// In UDP from elsewhere.
    Moved,
}

/// Whether a packet is between the tunnel's addresses, and whether it comes from where the peer
/// was.
///
/// Both forms of ESP are accepted whatever the tunnel uses (RFC 7296, section 2.23). Inside UDP the
/// peer may move, as NATs make it; the integrity check decides whether it was the peer.
fn check_outer(tunnel: &Tunnel, ip: &IpHeader, udp: bool) -> Result<Source, DropReason> {
    let ends = &tunnel.ends;
    if ip.family != ends.family || ip.dst != ends.local {
        return Err(DropReason::WrongOuterAddress);
    }
    let known_address = ip.src == ends.remote;
    if !udp {
        return if known_address {
            Ok(Source::Known)
        } else {
            Err(DropReason::WrongOuterAddress)
        };
    }
    let known_port = match tunnel.encapsulation {
        Encapsulation::Udp { remote_port, .. } => source_port(ip) == remote_port,
        Encapsulation::Plain => true,
    };
    Ok(if known_address && known_port {
        Source::Known
    } else {
        Source::Moved
    })
}

fn source_port(ip: &IpHeader) -> u16 {
    ip.ports().map_or(0, |(source, _)| source)
}
