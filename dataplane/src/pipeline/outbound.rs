//! Into the tunnel: sequence numbers, headers, one crypto batch (RFC 4303, section 3.3).

use hawser_aead::{BATCH, SealBatch};
use hawser_api::{DropReason, PortId, TunnelId};
use hawser_net::{Family, esp_trailer};
use hawser_xsk::Frame;

use super::{Output, Path, forward::decrement_ttl};
use crate::tables::{Egress, Tables};

/// An IP packet that will go through a tunnel. The frame begins with the IP header and ends with
/// the packet.
pub(super) struct Staged {
    /// There until the packet is sent or dropped.
    frame: Option<Frame>,
    tunnel: TunnelId,
    inner: Inner,
    /// Where it leaves, once it has its headers.
    port: PortId,
    fate: Fate,
}

impl Staged {
    /// No packet.
    pub(super) const NONE: Self = Self {
        frame: None,
        tunnel: TunnelId(0),
        inner: Inner {
            family: Family::V4,
            tos: 0,
            df: false,
            transit: false,
        },
        port: PortId(0),
        fate: Fate::Sent,
    };

    /// Length of the packet in bytes.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.frame.as_ref().map_or(0, Frame::len)
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy)]
enum Fate {
    Sent,
    /// Sent when the checksum over its ciphertext stands.
    Summed,
    Dropped(DropReason),
}

/// What the outer header takes from the inner one.
#[derive(Clone, Copy)]
pub(super) struct Inner {
    pub(super) family: Family,
    pub(super) tos: u8,
    pub(super) df: bool,
    /// Passes through, so that its TTL is to be decremented; it is above one.
    pub(super) transit: bool,
}

impl Path {
    /// Adds a packet to the encryption batch. The caller has checked tunnel, SA, neighbour, size.
    #[inline(always)]
    pub(super) fn stage(
        &mut self,
        tables: &Tables,
        frame: Frame,
        tunnel: TunnelId,
        inner: Inner,
        out: &mut Output,
    ) {
        if self.outbound_groups.len() == BATCH {
            self.encapsulate(tables, out);
        }
        let at = self.outbound_groups.add(tunnel.0);
        self.staged[at] = Staged {
            frame: Some(frame),
            tunnel,
            inner,
            ..Staged::NONE
        };
    }

    /// Encrypts and sends all that is staged.
    pub(super) fn encapsulate(&mut self, tables: &Tables, out: &mut Output) {
        if self.outbound_groups.len() == 0 {
            return;
        }
        if tables.is_large() {
            self.warm_outbound(tables, &self.outbound_groups);
        }
        self.seal(tables);
        self.send(tables, out);
        self.outbound_groups.clear();
    }

    /// Sequence numbers, headers, trailers, cipher.
    #[inline]
    fn seal(&mut self, tables: &Tables) {
        let mut batch = SealBatch::new();
        let mut staged = self.staged.each_mut().map(Some);
        let mut identification = self.identification;
        let groups = &self.outbound_groups;
        for group in (0..).map_while(|n| groups.get(n)) {
            let mut packets = groups.packets(group).filter_map(|at| staged[at].take());
            // One atomic add per SA and batch (RFC 4303, section 3.3.3).
            let block = egress(tables, group.key).and_then(|(port, egress)| {
                Some((port, egress, egress.sa.key.reserve(group.count)?))
            });
            let Some((port, egress, mut sequences)) = block else {
                packets.for_each(|packet| {
                    packet.fate = Fate::Dropped(DropReason::SequenceExhausted);
                });
                continue;
            };
            let fate = match egress.template.has_checksum() {
                true => Fate::Summed,
                false => Fate::Sent,
            };
            let (before, mut bytes) = (batch.len(), 0);
            while let Some(packet) = packets.next()
                && let Some(frame) = &mut packet.frame
                && let Some(sequence) = sequences.next()
            {
                let len = frame.len() as u64;
                identification = identification.wrapping_add(1);
                packet.port = port;
                packet.fate = fate;
                match headers(frame, packet.inner, egress, identification) {
                    Some(esp) => {
                        bytes += len;
                        batch.push(&egress.sa.key, sequence, esp);
                    }
                    None => packet.fate = Fate::Dropped(DropReason::FrameTooSmall),
                }
            }
            let counters = &mut self.counters.tunnels[group.key as usize];
            counters.sent += (batch.len() - before) as u64;
            counters.sent_bytes += bytes;
        }
        batch.seal();
        self.identification = identification;
    }

    /// Sends the sealed batch.
    #[inline]
    fn send(&mut self, tables: &Tables, out: &mut Output) {
        for packet in &mut self.staged[..self.outbound_groups.len()] {
            let Some(mut frame) = packet.frame.take() else {
                continue;
            };
            match packet.fate {
                Fate::Sent => {}
                Fate::Summed => {
                    if let Some((_, egress)) = egress(tables, packet.tunnel.0) {
                        egress.template.finish(frame.bytes_mut());
                    }
                }
                Fate::Dropped(reason) => {
                    self.counters.drop_in(packet.tunnel, reason);
                    self.pool.give(frame);
                    continue;
                }
            }
            out.ports[packet.port.index()].push(packet.tunnel.0, frame);
        }
    }
}

/// How a tunnel sends. It was there when its packets were staged, in this batch and with these
/// tables.
#[inline]
pub(super) fn egress(tables: &Tables, tunnel: u32) -> Option<(PortId, &Egress)> {
    let tunnel = tables.tunnel(TunnelId(tunnel))?;
    Some((tunnel.port, tunnel.egress.as_ref()?))
}

/// Puts all headers in front of the packet and the trailer behind it; the result is the ESP packet,
/// from the SPI to the ICV. `None` if the frame has no room.
///
/// The inner TTL is decremented here, where the header is in the cache anyway.
#[inline]
fn headers<'f>(
    frame: &'f mut Frame,
    inner: Inner,
    egress: &Egress,
    identification: u16,
) -> Option<&'f mut [u8]> {
    if inner.transit {
        decrement_ttl(frame, inner.family);
    }
    let len = frame.len();
    let front = egress.front;
    let trailer = esp_trailer::len(len, egress.esp.block);
    if !frame.grow(front, trailer + egress.esp.icv) {
        return None;
    }
    let bytes = frame.bytes_mut();
    esp_trailer::write(
        &mut bytes[front + len..],
        trailer,
        esp_trailer::next_header(inner.family),
    );
    let df = inner.df & egress.copy_df | egress.set_df;
    let tos = egress.tos.of(inner.tos);
    egress.template.stamp(bytes, tos, df, identification);
    Some(&mut bytes[egress.template.esp_offset()..])
}
