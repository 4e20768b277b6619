//! Out of the tunnel: one crypto batch, replay commit, inner checks (RFC 4303, section 3.4;
//! RFC 4301, section 5.2).

use std::net::IpAddr;

use hawser_aead::{BATCH, OpenBatch, Verdicts};
use hawser_api::{DropReason, Event, TunnelId};
use hawser_net::{
    Family,
    ecn::{self, Decapsulated},
    esp_trailer::{self, TrailerError},
    mss, parse_ip, parse_plain_ip, rewrite,
};
use hawser_xsk::Frame;

use super::{EVENT_INTERVAL, Origin, Output, Path, forward::Way, owned::Inside, replay_reason};
use crate::tables::{Tables, Tunnel};

/// An ESP packet that waits for decryption. The frame begins with the SPI and ends with the ICV.
pub(super) struct Arrived {
    pub(super) frame: Frame,
    pub(super) sequence: u64,
    /// The SA's.
    pub(super) slot: u32,
    /// Outer TOS or traffic class, for ECN.
    pub(super) tos: u8,
    /// Its number among the verdicts, once it is in the cipher's batch.
    pub(super) verdict: u8,
}

impl Arrived {
    /// No verdict: not authentic.
    pub(super) const UNJUDGED: u8 = u8::MAX;
}

/// Where an ESP packet came from that came from another address or port than its tunnel's. Kept
/// apart from the packet: large, and rare.
pub(super) struct Moved {
    /// The packet's place in the decryption batch.
    pub(super) at: usize,
    pub(super) address: IpAddr,
    pub(super) port: u16,
}

/// A decrypted packet whose trailer was right. The frame begins with what should be an IP header.
struct Opened {
    frame: Frame,
    /// By the trailer's next header.
    family: Family,
    outer_tos: u8,
}

impl Path {
    /// Decrypts all that has arrived and routes what is authentic.
    pub(super) fn open(&mut self, tables: &Tables, out: &mut Output) {
        if self.arrived.is_empty() {
            return;
        }
        let verdicts = self.decrypt(tables);
        let mut arrived = std::mem::take(&mut self.arrived);
        for (at, packet) in arrived.drain(..).enumerate() {
            self.commit(tables, at, packet, &verdicts, out);
        }
        self.arrived = arrived;
        self.moved.clear();
    }

    /// One crypto batch over all that has arrived, the packets of an SA side by side.
    #[inline(never)]
    fn decrypt(&mut self, tables: &Tables) -> Verdicts {
        let groups = &mut self.inbound_groups;
        let mut batch = OpenBatch::new();
        let mut arrived = self.arrived.iter_mut();
        let mut arrived: [_; BATCH] = std::array::from_fn(|_| arrived.next());
        for group in (0..).map_while(|n| groups.get(n)) {
            // The slot was full when the packets arrived, in this batch and with these tables.
            let Some(sa) = tables.inbound[group.key as usize].as_deref() else {
                continue;
            };
            for packet in groups.packets(group).filter_map(|at| arrived[at].take()) {
                packet.verdict = batch.len() as u8;
                batch.push(&sa.key, packet.sequence, packet.frame.bytes_mut());
            }
        }
        groups.clear();
        batch.open()
    }

    /// A packet that has been through the cipher: replay commit, and on.
    #[inline(always)]
    fn commit(
        &mut self,
        tables: &Tables,
        at: usize,
        packet: Arrived,
        verdicts: &Verdicts,
        out: &mut Output,
    ) {
        let Arrived {
            frame, slot, tos, ..
        } = packet;
        let Some(Some(state)) = self.inbound.get_mut(slot as usize) else {
            // Cannot be: it was there when the packet arrived.
            return self.discard(frame, None, DropReason::UnknownSpi);
        };
        let inside = state.inside;
        let tunnel = inside.tunnel;
        let refused = match verdicts.get(usize::from(packet.verdict)) {
            // Checked again, because an earlier packet of this batch may have had the same number.
            Some(authentic) => state.window.commit(authentic).err().map(replay_reason),
            None => Some(DropReason::AuthenticationFailed),
        };
        if let Some(reason) = refused {
            return self.discard(frame, Some(tunnel), reason);
        }
        if !self.moved.is_empty() {
            self.report_moved(tunnel, at, out);
        }
        self.decapsulate(tables, (slot, &inside), frame, tos, out);
    }

    /// Tells control where an authentic packet came from, if not too often.
    #[cold]
    fn report_moved(&mut self, tunnel: TunnelId, at: usize, out: &mut Output) {
        if self.now < self.told_moved + EVENT_INTERVAL {
            return;
        }
        if let Some(&Moved { address, port, .. }) = self.moved.iter().find(|moved| moved.at == at) {
            self.told_moved = self.now;
            out.events.push(Event::PeerMoved {
                tunnel,
                address,
                port,
            });
        }
    }

    /// An authentic packet: strips ESP, checks what was inside, and routes it.
    #[inline(always)]
    fn decapsulate(
        &mut self,
        tables: &Tables,
        (slot, inside): (u32, &Inside),
        mut frame: Frame,
        outer_tos: u8,
        out: &mut Output,
    ) {
        let tunnel = inside.tunnel;
        let start = usize::from(inside.start);
        let end = frame.len().wrapping_sub(usize::from(inside.icv));
        let payload = frame.bytes().get(start..end);
        let trailer = payload.map_or(Err(TrailerError::PadLength), esp_trailer::parse);
        let trailer = match trailer {
            Ok(trailer) => trailer,
            Err(error) => {
                self.hear(tunnel);
                return self.discard(frame, Some(tunnel), trailer_reason(error));
            }
        };
        let inner = &frame.bytes()[start..start + trailer.payload_len];
        match parse_plain_ip(inner) {
            // What asks for no look at the SA's selectors and for no change.
            Some(ip)
                if trailer.family == Family::V4
                    && inside.open_v4
                    && ecn::is_kept(ip.tos, outer_tos)
                    && !ip.tcp_syn =>
            {
                frame.narrow(start, ip.total_len as usize);
                self.count_received(tunnel, ip.total_len);
                let way = Way {
                    origin: Origin::Tunnel(tunnel),
                    table: inside.table,
                };
                self.route(tables, frame, &ip, way, out);
            }
            _ => {
                self.hear(tunnel);
                frame.narrow(start, trailer.payload_len);
                let opened = Opened {
                    frame,
                    family: trailer.family,
                    outer_tos,
                };
                self.admit(tables, slot, opened, out);
            }
        }
    }

    /// Checks any inner packet against what the tunnel may carry (RFC 4301, section 5.2) and
    /// routes it.
    #[inline(never)]
    fn admit(&mut self, tables: &Tables, slot: u32, opened: Opened, out: &mut Output) {
        let Opened {
            mut frame,
            family,
            outer_tos,
        } = opened;
        let sa = tables.inbound.get(slot as usize).and_then(Option::as_deref);
        let Some((sa, tunnel)) = sa.and_then(|sa| Some((sa, tables.tunnel(sa.tunnel)?))) else {
            // Cannot be: both were there when the packet arrived.
            return self.discard(frame, None, DropReason::UnknownSpi);
        };
        let id = Some(sa.tunnel);
        let mut ip = match parse_ip(frame.bytes()) {
            Ok(ip) if ip.family == family => ip,
            Ok(_) | Err(_) => return self.discard(frame, id, DropReason::InnerMalformed),
        };
        // What follows the packet is padding for traffic flow confidentiality (section 2.7).
        frame.truncate(ip.total_len as usize);
        if !sa.selectors.allows_inbound(&ip) {
            return self.discard(frame, id, DropReason::SelectorMismatchIn);
        }
        match ecn::decapsulate(ip.tos, outer_tos) {
            Decapsulated::Drop => return self.discard(frame, id, DropReason::EcnNotCapable),
            Decapsulated::Keep(tos) if tos != ip.tos => {
                match ip.family {
                    Family::V4 => rewrite::set_tos4(frame.bytes_mut(), tos),
                    Family::V6 => rewrite::set_tos6(frame.bytes_mut(), tos),
                }
                ip.tos = tos;
            }
            Decapsulated::Keep(_) => {}
        }
        if ip.tcp_syn {
            clamp_mss(&mut frame, &ip, tunnel);
        }
        self.count_received(sa.tunnel, ip.total_len);
        let way = Way {
            origin: Origin::Tunnel(sa.tunnel),
            table: tunnel.table,
        };
        self.route(tables, frame, &ip, way, out);
    }

    /// Something authentic came, of use or not: the peer lives.
    fn hear(&mut self, tunnel: TunnelId) {
        if let Some(counters) = self.counters.tunnels.get_mut(tunnel.index()) {
            counters.last_received = self.now;
        }
    }

    /// An inner packet of `len` bytes came out of the tunnel.
    #[inline(always)]
    fn count_received(&mut self, tunnel: TunnelId, len: u32) {
        if let Some(counters) = self.counters.tunnels.get_mut(tunnel.index()) {
            counters.last_received = self.now;
            counters.received += 1;
            counters.received_bytes += u64::from(len);
        }
    }
}

/// Lowers the MSS of a SYN packet so that what it asks for fits the tunnel.
pub(super) fn clamp_mss(frame: &mut Frame, ip: &hawser_net::IpHeader, tunnel: &Tunnel) {
    let maximum = match ip.family {
        Family::V4 => tunnel.mss_v4,
        Family::V6 => tunnel.mss_v6,
    };
    if maximum > 0 {
        mss::clamp(&mut frame.bytes_mut()[usize::from(ip.l4_offset)..], maximum);
    }
}

fn trailer_reason(error: TrailerError) -> DropReason {
    match error {
        TrailerError::PadLength | TrailerError::PadBytes => DropReason::BadPadding,
        TrailerError::Dummy => DropReason::DummyPacket,
        TrailerError::NextHeader(_) => DropReason::BadNextHeader,
    }
}
