//! Out of the tunnel: SPI, replay pre-check, one crypto batch, replay commit, inner checks
//! (RFC 4303, section 3.4; RFC 4301, section 5.2).

use std::net::IpAddr;

use hawser_aead::{BATCH, OpenBatch, Verdicts};
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

use super::{EVENT_INTERVAL, Origin, Output, Path, forward::Way, group::Group};
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
    /// There until the packet is opened.
    frame: Option<Frame>,
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
        let checked = tables
            .tunnel(tunnel)
            .map(|tunnel| check_outer(tunnel, &packet.ip, esp.udp));
        let source = match checked {
            Some(Ok(source)) => source,
            Some(Err(reason)) => return self.discard(frame, Some(tunnel), reason),
            None => return self.discard(frame, None, DropReason::UnknownSpi),
        };
        // Two bytes at least: the pad length and the next header.
        if sa.key.shape().ciphertext(esp.len).is_none_or(|len| len < 2) {
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
        let moved = source == Source::Moved;
        if moved {
            let at = self.arrived.len();
            let (address, port) = (packet.ip.src_addr(), source_port(&packet.ip));
            self.moved.push(Moved { at, address, port });
        }
        self.inbound_groups.add(entry.slot);
        self.arrived.push(Arrived {
            frame: Some(frame),
            sequence,
            tos: packet.ip.tos,
            moved,
        });
    }

    /// Decrypts all that has arrived and routes what is authentic.
    pub(super) fn open(&mut self, tables: &Tables, out: &mut Output) {
        if self.arrived.is_empty() {
            return;
        }
        let verdicts = self.decrypt(tables);
        let mut arrived = std::mem::take(&mut self.arrived);
        let mut judged = 0;
        for number in 0.. {
            let Some(group) = self.inbound_groups.get(number) else {
                break;
            };
            judged = self.commit(tables, group, &mut arrived, (&verdicts, judged), out);
        }
        arrived.clear();
        self.arrived = arrived;
        self.inbound_groups.clear();
        self.moved.clear();
    }

    /// One crypto batch over all that has arrived; the verdicts are in the order of the groups.
    fn decrypt(&mut self, tables: &Tables) -> Verdicts {
        let groups = &self.inbound_groups;
        let mut batch = OpenBatch::new();
        let mut arrived = self.arrived.iter_mut();
        let mut arrived: [_; BATCH] = std::array::from_fn(|_| arrived.next());
        for group in (0..).map_while(|n| groups.get(n)) {
            // The slot was full when the packets arrived, in this batch and with these tables.
            let Some(sa) = tables.inbound[group.key as usize].as_deref() else {
                continue;
            };
            for packet in groups.packets(group).filter_map(|at| arrived[at].take()) {
                if let Some(frame) = &mut packet.frame {
                    batch.push(&sa.key, packet.sequence, frame.bytes_mut());
                }
            }
        }
        batch.open()
    }

    /// The decrypted packets of one SA, whose verdicts begin at `judged`: replay commit, and on.
    /// Where the next SA's verdicts begin.
    #[inline]
    fn commit(
        &mut self,
        tables: &Tables,
        group: Group,
        arrived: &mut [Arrived],
        (verdicts, judged): (&Verdicts, usize),
        out: &mut Output,
    ) -> usize {
        let found = tables.inbound[group.key as usize].as_deref();
        let tunnel = found.and_then(|sa| tables.tunnel(sa.tunnel));
        let (Some(sa), Some(tunnel)) = (found, tunnel) else {
            // Cannot be: both were there when the packets arrived. All the same, none is lost
            // uncounted.
            let mut next = group.first();
            while let Some(at) = next {
                next = self.inbound_groups.after(at);
                if let Some(frame) = arrived[at].frame.take() {
                    self.discard(frame, None, DropReason::UnknownSpi);
                }
            }
            return judged + found.map_or(0, |_| group.count as usize);
        };
        let id = Some(sa.tunnel);
        let mut received = Received::default();
        let mut next = group.first();
        for verdict in judged.. {
            let Some(at) = next else {
                break;
            };
            next = self.inbound_groups.after(at);
            let packet = &mut arrived[at];
            let Some(frame) = packet.frame.take() else {
                continue;
            };
            let Some(authentic) = verdicts.get(verdict) else {
                self.discard(frame, id, DropReason::AuthenticationFailed);
                continue;
            };
            let Some(state) = &mut self.inbound[group.key as usize] else {
                self.discard(frame, id, DropReason::UnknownSpi);
                continue;
            };
            // Again, because an earlier packet of this batch may have had the same number.
            if let Err(error) = state.window.commit(authentic) {
                self.discard(frame, id, replay(error));
                continue;
            }
            received.heard = true;
            let tos = packet.tos;
            if packet.moved {
                self.report_moved(sa.tunnel, at, out);
            }
            if let Some(bytes) = self.decapsulate(tables, (sa, tunnel), frame, tos, out) {
                received.packets += 1;
                received.bytes += u64::from(bytes);
            }
        }
        let counters = &mut self.counters.tunnels[sa.tunnel.index()];
        counters.received += received.packets;
        counters.received_bytes += received.bytes;
        if received.heard {
            counters.last_received = self.now;
        }
        judged + group.count as usize
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

    /// An authentic packet: strips ESP, checks what was inside, and routes it. The inner packet's
    /// length, or none when it was dropped.
    #[inline]
    fn decapsulate(
        &mut self,
        tables: &Tables,
        (sa, tunnel): (&InboundSa, &Tunnel),
        mut frame: Frame,
        outer_tos: u8,
        out: &mut Output,
    ) -> Option<u32> {
        let (start, end) = (ESP_HEADER + sa.esp.iv, frame.len() - sa.esp.icv);
        let checked = frame.bytes().get(start..end).map(esp_trailer::parse);
        let trailer = match checked.unwrap_or(Err(TrailerError::PadLength)) {
            Ok(trailer) => trailer,
            Err(error) => {
                self.discard(frame, Some(sa.tunnel), trailer_reason(error));
                return None;
            }
        };
        frame.narrow(start, trailer.payload_len);
        let opened = Opened {
            frame,
            family: trailer.family,
            outer_tos,
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
    ) -> Option<u32> {
        match parse_ip(opened.frame.bytes()) {
            Ok(ip) => self.admit(tables, (sa, tunnel), opened, ip, out),
            Err(_) => {
                self.discard(opened.frame, Some(sa.tunnel), DropReason::InnerMalformed);
                None
            }
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
    ) -> Option<u32> {
        let Opened {
            mut frame,
            family,
            outer_tos,
        } = opened;
        let id = Some(sa.tunnel);
        if ip.family != family {
            self.discard(frame, id, DropReason::InnerMalformed);
            return None;
        }
        // What follows the packet is padding for traffic flow confidentiality (section 2.7).
        frame.truncate(ip.total_len as usize);
        if !sa.selectors.allows_inbound(&ip) {
            self.discard(frame, id, DropReason::SelectorMismatchIn);
            return None;
        }
        match ecn::decapsulate(ip.tos, outer_tos) {
            Decapsulated::Drop => {
                self.discard(frame, id, DropReason::EcnNotCapable);
                return None;
            }
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
        let way = Way {
            origin: Origin::Tunnel(sa.tunnel),
            table: tunnel.table,
        };
        self.route(tables, frame, &ip, way, out);
        Some(ip.total_len)
    }
}

/// What came out of one SA in a batch.
#[derive(Default)]
struct Received {
    packets: u64,
    bytes: u64,
    /// Something authentic came, of use or not: the peer lives.
    heard: bool,
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

/// Whether a packet is between the tunnel's addresses, and whether it comes from where the peer
/// was.
///
/// Both forms of ESP are accepted whatever the tunnel uses (RFC 7296, section 2.23). Inside UDP the
/// peer may move, as NATs make it; the integrity check decides whether it was the peer.
#[inline(always)]
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

/// Where an ESP packet came from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// From where the peer was.
    Known,
    /// In UDP from elsewhere.
    Moved,
}

#[inline(always)]
fn source_port(ip: &IpHeader) -> u16 {
    ip.ports().map_or(0, |(source, _)| source)
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
