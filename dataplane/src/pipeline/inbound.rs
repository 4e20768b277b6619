//! Out of the tunnel: SPI, replay pre-check, one crypto batch, replay commit, inner checks
//! (RFC 4303, section 3.4; RFC 4301, section 5.2).

use std::net::IpAddr;

use hawser_aead::{BATCH, OpenBatch, Suite};
use hawser_api::{DropReason, Encapsulation, Event, Spi, TunnelId};
use hawser_net::{
    Family, Fragment, IpHeader, Packet,
    ecn::{self, Decapsulated},
    encap::{UdpEncapsulated, udp_encapsulated},
    esp_trailer::{self, TrailerError},
    mss, parse_ip, parse_plain_ip, protocol,
    replay::{ReplayError, ReplayWindow},
    rewrite,
};
use hawser_xsk::Frame;

use super::{EVENT_INTERVAL, Origin, Output, Path, forward::Way, group::Groups};
use crate::{
    sa::InboundSa,
    tables::{Tables, Tunnel},
};

/// SPI and sequence number.
const ESP_HEADER: usize = 8;

/// What changes with every packet of an inbound SA. It has one writer: the owning worker.
pub(super) struct InboundState {
    pub(super) generation: u64,
    pub(super) window: ReplayWindow,
}

impl InboundState {
    /// The size was checked with the update; `None` drops the SA's packets as unknown.
    fn new(sa: &InboundSa) -> Option<Self> {
        let window = ReplayWindow::resume(sa.replay_window, sa.esn, sa.seen).ok()?;
        Some(Self {
            generation: sa.generation,
            window,
        })
    }
}

/// Replay windows on their way from one worker to another. Each is in one place only.
pub struct Windows(Vec<(usize, InboundState)>);

/// An ESP packet that waits for decryption. The frame begins with the SPI and ends with the ICV.
pub(super) struct Arrived {
    frame: Frame,
    slot: u32,
    sequence: u64,
    /// Outer TOS or traffic class, for ECN.
    tos: u8,
    /// Came in UDP from another address or port than the tunnel's: it is in the list of those.
    moved: bool,
}

/// Where an ESP packet came from that came from another address or port than its tunnel's. Kept
/// apart from the packet: large, and rare.
pub(super) struct Moved {
    /// The packet's place in the decryption batch.
    at: usize,
    address: IpAddr,
    port: u16,
}

/// A decrypted packet whose trailer was right. The frame begins with what should be an IP header.
struct Opened {
    frame: Frame,
    /// By the trailer's next header.
    family: Family,
    outer_tos: u8,
    way: Way,
}

impl Path {
    /// Makes replay windows for new SAs and retires those of SAs that are gone or another's. What was
    /// retired, or handed over by another worker, comes back if the SA is this worker's at the very
    /// next change; a window made anew would let in again what it has seen.
    pub(super) fn adopt(&mut self, tables: &Tables) {
        // Sorted by slot, as what is retired here will be.
        let mut before = std::mem::take(&mut self.retired).into_iter().peekable();
        let slots = self.inbound.len().max(tables.inbound.len());
        self.inbound.resize_with(slots, || None);
        for (slot, state) in self.inbound.iter_mut().enumerate() {
            let sa = tables.inbound.get(slot).and_then(Option::as_ref);
            let mine = sa.filter(|sa| tables.owner(sa) == Some(self.id));
            let wanted = mine.map(|sa| sa.generation);
            let mut back = None;
            while let Some((_, state)) = before.next_if(|(at, _)| *at == slot) {
                back = back.or(Some(state).filter(|state| Some(state.generation) == wanted));
            }
            if state.as_ref().map(|state| state.generation) == wanted {
                continue;
            }
            self.retired.extend(state.take().map(|state| (slot, state)));
            *state = back.or_else(|| InboundState::new(mine?));
        }
        self.inbound.truncate(tables.inbound.len());
    }

    /// Takes the windows out that the last change of tables gave to another worker.
    pub(super) fn leave(&mut self, tables: &Tables) -> Windows {
        let lives_on = |(slot, state): &mut (usize, InboundState)| {
            let sa = tables.inbound.get(*slot).and_then(Option::as_ref);
            sa.is_some_and(|sa| sa.generation == state.generation)
        };
        Windows(self.retired.extract_if(.., lives_on).collect())
    }

    /// Keeps windows for [`Path::adopt`].
    pub(super) fn expect(&mut self, windows: Windows) {
        self.retired.extend(windows.0);
        self.retired.sort_by_key(|(slot, _)| *slot);
    }

    /// An ESP packet from the network: finds its SA, checks all that can be checked before
    /// decryption, and adds it to the batch.
    #[inline(always)]
    pub(super) fn arrive(
        &mut self,
        tables: &Tables,
        mut frame: Frame,
        packet: &Packet,
        out: &mut Output,
    ) {
        let Some(esp) = locate(frame.bytes(), packet) else {
            let reason = match packet.ip.fragment {
                Fragment::Whole => DropReason::EspMalformed,
                Fragment::First | Fragment::Later => DropReason::OuterFragment,
            };
            return self.discard(frame, None, reason);
        };
        let bytes = &frame.bytes()[esp.offset..esp.offset + esp.len];
        let Some(&[s0, s1, s2, s3, q0, q1, q2, q3]) = bytes.first_chunk::<ESP_HEADER>() else {
            return self.discard(frame, None, DropReason::EspMalformed);
        };
        let spi = Spi(u32::from_be_bytes([s0, s1, s2, s3]));
        let low = u32::from_be_bytes([q0, q1, q2, q3]);
        let Some(entry) = tables.spis.get(spi) else {
            if self.now >= self.told_spi + EVENT_INTERVAL {
                self.told_spi = self.now;
                out.events.push(Event::UnknownSpi {
                    spi,
                    source: packet.ip.src_addr(),
                });
            }
            return self.discard(frame, None, DropReason::UnknownSpi);
        };
        if entry.owner != self.id {
            self.counters.handed_off += 1;
            return out.workers[entry.owner.index()].push(frame);
        }
        let found = tables.inbound[entry.slot as usize].as_deref();
        let state = self.inbound[entry.slot as usize].as_ref();
        let (Some(sa), Some(state)) = (found, state) else {
            return self.discard(frame, None, DropReason::UnknownSpi);
        };
        let tunnel = sa.tunnel;
        let moved_from = match tables.tunnel(tunnel).map(|t| check_outer(t, packet, &esp)) {
            Some(Ok(moved_from)) => moved_from,
            Some(Err(reason)) => return self.discard(frame, Some(tunnel), reason),
            None => return self.discard(frame, None, DropReason::UnknownSpi),
        };
        if !well_formed(sa.suite(), esp.len) {
            return self.discard(frame, Some(tunnel), DropReason::EspMalformed);
        }
        let sequence = state.window.infer(low);
        if let Err(error) = state.window.check(sequence) {
            return self.discard(frame, Some(tunnel), replay(error));
        }
        frame.narrow(esp.offset, esp.len);
        if self.arrived.len() == BATCH {
            self.open(tables, out);
        }
        if let Some((address, port)) = moved_from {
            let at = self.arrived.len();
            self.moved.push(Moved { at, address, port });
        }
        self.arrived.push(Arrived {
            frame,
            slot: entry.slot,
            sequence,
            tos: packet.ip.tos,
            moved: moved_from.is_some(),
        });
    }

    /// Decrypts all that has arrived and routes what is authentic.
    pub(super) fn open(&mut self, tables: &Tables, out: &mut Output) {
        if self.arrived.is_empty() {
            return;
        }
        let groups = Groups::new(self.arrived.iter().map(|arrived| arrived.slot));
        let mut batch = OpenBatch::new();
        for packet in groups.arrange(&mut self.arrived).into_iter().flatten() {
            // The slot was full when the packet arrived, in this batch and with these tables.
            if let Some(sa) = tables.inbound[packet.slot as usize].as_deref() {
                batch.push(&sa.key, packet.sequence, packet.frame.bytes_mut());
            }
        }
        let verdicts = batch.open();

        let mut arrived = std::mem::take(&mut self.arrived);
        for (i, packet) in arrived.drain(..).enumerate() {
            let slot = packet.slot as usize;
            let (Some(sa), Some(state)) =
                (tables.inbound[slot].as_deref(), &mut self.inbound[slot])
            else {
                self.discard(packet.frame, None, DropReason::UnknownSpi);
                continue;
            };
            let Some(authentic) = verdicts.get(usize::from(groups.place[i])) else {
                self.discard(
                    packet.frame,
                    Some(sa.tunnel),
                    DropReason::AuthenticationFailed,
                );
                continue;
            };
            // Again, because an earlier packet of this batch may have had the same number.
            if let Err(error) = state.window.commit(authentic) {
                self.discard(packet.frame, Some(sa.tunnel), replay(error));
                continue;
            }
            if packet.moved {
                self.report_moved(sa.tunnel, i, out);
            }
            if let Some(tunnel) = tables.tunnel(sa.tunnel) {
                self.decapsulate(tables, sa, tunnel, packet, out);
            }
        }
        self.arrived = arrived;
        self.moved.clear();
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
    #[inline]
    fn decapsulate(
        &mut self,
        tables: &Tables,
        sa: &InboundSa,
        tunnel: &Tunnel,
        packet: Arrived,
        out: &mut Output,
    ) {
        let Arrived { mut frame, tos, .. } = packet;
        self.counters.tunnels[sa.tunnel.index()].last_received = self.now;
        let suite = sa.suite();
        let (start, end) = (ESP_HEADER + suite.iv_len(), frame.len() - suite.icv_len());
        let checked = frame.bytes().get(start..end).map(esp_trailer::parse);
        let trailer = match checked.unwrap_or(Err(TrailerError::PadLength)) {
            Ok(trailer) => trailer,
            Err(error) => return self.discard(frame, Some(sa.tunnel), trailer_reason(error)),
        };
        frame.narrow(start, trailer.payload_len);
        let way = Way {
            origin: Origin::Tunnel(sa.tunnel),
            table: tunnel.table,
        };
        let opened = Opened {
            frame,
            family: trailer.family,
            outer_tos: tos,
            way,
        };
        match parse_plain_ip(opened.frame.bytes()) {
            Some(ip) => self.admit(tables, (sa, tunnel), opened, ip, out),
            None => self.admit_odd(tables, (sa, tunnel), opened, out),
        }
    }

    /// Apart, so that the usual packet's fields stay in registers.
    #[inline(never)]
    fn admit_odd(
        &mut self,
        tables: &Tables,
        (sa, tunnel): (&InboundSa, &Tunnel),
        opened: Opened,
        out: &mut Output,
    ) {
        match parse_ip(opened.frame.bytes()) {
            Ok(ip) => self.admit(tables, (sa, tunnel), opened, ip, out),
            Err(_) => self.discard(opened.frame, Some(sa.tunnel), DropReason::InnerMalformed),
        }
    }

    /// Checks the inner packet against what the tunnel may carry (RFC 4301, section 5.2) and
    /// routes it.
    #[inline(always)]
    fn admit(
        &mut self,
        tables: &Tables,
        (sa, tunnel): (&InboundSa, &Tunnel),
        opened: Opened,
        mut ip: IpHeader,
        out: &mut Output,
    ) {
        let Opened {
            mut frame,
            family,
            outer_tos,
            way,
        } = opened;
        let id = Some(sa.tunnel);
        if ip.family != family {
            return self.discard(frame, id, DropReason::InnerMalformed);
        }
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
        let counters = &mut self.counters.tunnels[sa.tunnel.index()];
        counters.received += 1;
        counters.received_bytes += u64::from(ip.total_len);
        self.route(tables, frame, &ip, way, out);
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

/// Where the ESP packet is in the frame.
struct Located {
    offset: usize,
    len: usize,
    udp: bool,
}

/// `None` when there is none: a fragment, or UDP that is not ESP.
#[inline]
fn locate(frame: &[u8], packet: &Packet) -> Option<Located> {
    if packet.ip.fragment != Fragment::Whole {
        return None;
    }
    let l3 = usize::from(packet.l3_offset);
    let start = l3 + usize::from(packet.ip.l4_offset);
    let end = l3 + packet.ip.total_len as usize;
    match packet.ip.protocol {
        protocol::ESP => Some(Located {
            offset: start,
            len: end - start,
            udp: false,
        }),
        protocol::UDP => match udp_encapsulated(&frame[start..end]) {
            UdpEncapsulated::Esp { offset, len } => Some(Located {
                offset: start + offset,
                len,
                udp: true,
            }),
            UdpEncapsulated::Ike | UdpEncapsulated::KeepAlive | UdpEncapsulated::Malformed => None,
        },
        _ => None,
    }
}

/// Both forms of ESP are accepted whatever the tunnel uses (RFC 7296, section 2.23). Inside UDP the
/// peer may move, as NATs make it; the integrity check decides whether it was the peer.
#[inline]
fn check_outer(
    tunnel: &Tunnel,
    packet: &Packet,
    esp: &Located,
) -> Result<Option<(IpAddr, u16)>, DropReason> {
    let (source, target) = (packet.ip.src_addr(), packet.ip.dst_addr());
    if target != tunnel.local {
        return Err(DropReason::WrongOuterAddress);
    }
    if !esp.udp {
        return if source == tunnel.remote {
            Ok(None)
        } else {
            Err(DropReason::WrongOuterAddress)
        };
    }
    let port = packet.ip.ports().map_or(0, |(source, _)| source);
    let known = match tunnel.encapsulation {
        Encapsulation::Udp { remote_port, .. } => (tunnel.remote, remote_port),
        Encapsulation::Plain => (tunnel.remote, port),
    };
    Ok(Some((source, port)).filter(|&from| from != known))
}

/// Whether an ESP packet of this length can hold the pad length and next header, in whole blocks.
#[inline]
fn well_formed(suite: Suite, len: usize) -> bool {
    len.checked_sub(suite.overhead())
        .is_some_and(|text| text >= 2 && (suite.is_gcm() || text % suite.block_len() == 0))
}

fn trailer_reason(error: TrailerError) -> DropReason {
    match error {
        TrailerError::PadLength | TrailerError::PadBytes => DropReason::BadPadding,
        TrailerError::Dummy => DropReason::DummyPacket,
        TrailerError::NextHeader(_) => DropReason::BadNextHeader,
    }
}

fn replay(error: ReplayError) -> DropReason {
    match error {
        ReplayError::TooOld => DropReason::ReplayOld,
        ReplayError::Duplicate => DropReason::ReplayDuplicate,
        ReplayError::Zero | ReplayError::Overflow => DropReason::BadSequence,
    }
}
