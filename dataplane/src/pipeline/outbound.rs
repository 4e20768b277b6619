//! Into the tunnel: sequence numbers, headers, one crypto batch (RFC 4303, section 3.3).

use hawser_aead::{BATCH, SealBatch, SequenceBlock};
use hawser_api::{DropReason, OuterDf, TunnelId};
use hawser_net::{Family, ecn, esp_trailer};
use hawser_xsk::Frame;

use super::{Output, Path, forward::decrement_ttl, group::Groups};
use crate::{
    counters::TunnelCounters,
    sa::OutboundSa,
    tables::{ETHERNET, Tables, Tunnel},
};

/// An IP packet that will go through a tunnel. The frame begins with the IP header and ends with
/// the packet.
pub(super) struct Staged {
    pub(super) frame: Frame,
    pub(super) tunnel: TunnelId,
    pub(super) inner: Inner,
    /// Why it will not be sent, once that is known. Not written otherwise: a narrow store here would
    /// stall the wider loads of what lies beside it.
    pub(super) fate: Option<DropReason>,
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
    #[inline]
    pub(super) fn stage(&mut self, tables: &Tables, staged: Staged, out: &mut Output) {
        if self.staged.len() == BATCH {
            self.encapsulate(tables, out);
        }
        self.staged.push(staged);
    }

    /// Encrypts and sends all that is staged.
    pub(super) fn encapsulate(&mut self, tables: &Tables, out: &mut Output) {
        if self.staged.is_empty() {
            return;
        }
        let groups = Groups::new(self.staged.iter().map(|staged| staged.tunnel.0));
        let mut batch = SealBatch::new();
        let mut grouped = groups.arrange(&mut self.staged);
        let mut grouped = grouped.iter_mut().filter_map(Option::take);
        for &(id, n) in &groups.groups {
            let packets = grouped.by_ref().take(n as usize);
            let counters = &mut self.counters.tunnels[id as usize];
            // One atomic add per SA and batch (RFC 4303, section 3.3.3).
            let block = tables.tunnel(TunnelId(id)).and_then(|tunnel| {
                let sa = tunnel.outbound.as_deref()?;
                Some((tunnel, sa, sa.key.reserve(n)?))
            });
            match block {
                Some(block) => prepare(
                    packets,
                    block,
                    counters,
                    &mut self.identification,
                    &mut batch,
                ),
                None => {
                    packets.for_each(|packet| packet.fate = Some(DropReason::SequenceExhausted))
                }
            }
        }
        batch.seal();
        self.send(tables, out);
    }

    /// Sends the sealed batch.
    fn send(&mut self, tables: &Tables, out: &mut Output) {
        for mut staged in self.staged.drain(..) {
            match (staged.fate, tables.tunnel(staged.tunnel)) {
                (None, Some(tunnel)) => {
                    tunnel
                        .template
                        .finish(&mut staged.frame.bytes_mut()[ETHERNET..]);
                    out.ports[tunnel.port.index()].push(staged.tunnel.0, staged.frame);
                }
                (fate, _) => {
                    let reason = fate.unwrap_or(DropReason::TunnelDown);
                    self.counters.drop_in(staged.tunnel, reason);
                    self.pool.give(staged.frame);
                }
            }
        }
    }
}

/// Gives the packets of one tunnel their headers and adds them to the batch.
#[inline]
fn prepare<'t: 'f, 'f>(
    packets: impl Iterator<Item = &'f mut Staged>,
    (tunnel, sa, sequences): (&'t Tunnel, &'t OutboundSa, SequenceBlock),
    counters: &mut TunnelCounters,
    identification: &mut u16,
    batch: &mut SealBatch<'f>,
) {
    for (packet, sequence) in packets.zip(sequences) {
        let len = packet.frame.len() as u64;
        *identification = identification.wrapping_add(1);
        let Staged {
            frame, inner, fate, ..
        } = packet;
        match headers(frame, *inner, tunnel, sa, *identification) {
            Some(esp) => {
                counters.sent += 1;
                counters.sent_bytes += len;
                batch.push(&sa.key, sequence, esp);
            }
            None => *fate = Some(DropReason::FrameTooSmall),
        }
    }
}

/// Puts all headers in front of the packet and the trailer behind it; the result is the ESP packet,
/// from the SPI to the ICV. `None` if the frame has no room.
///
/// The inner TTL is decremented here, where the header is in the cache anyway.
#[inline]
fn headers<'f>(
    frame: &'f mut Frame,
    inner: Inner,
    tunnel: &Tunnel,
    sa: &OutboundSa,
    identification: u16,
) -> Option<&'f mut [u8]> {
    let suite = sa.key.suite();
    let ethernet = tunnel.ethernet.as_ref()?;
    if inner.transit {
        decrement_ttl(frame, inner.family);
    }
    let len = frame.len();
    let front = ETHERNET + tunnel.template.len() + suite.iv_len();
    let trailer = esp_trailer::len(len, suite.block_len());
    if frame.headroom() < front || !frame.grow_back(trailer + suite.icv_len()) {
        return None;
    }
    if !frame.grow_front(front) {
        return None;
    }
    let bytes = frame.bytes_mut();
    let end = front + len;
    esp_trailer::write(
        &mut bytes[end..],
        trailer,
        esp_trailer::next_header(inner.family),
    );
    bytes[..ETHERNET].copy_from_slice(ethernet);
    let df = match tunnel.outer_df {
        OuterDf::Copy => inner.df,
        OuterDf::Set => true,
        OuterDf::Clear => false,
    };
    let tos = ecn::encapsulate(inner.tos, tunnel.dscp);
    tunnel
        .template
        .stamp(&mut bytes[ETHERNET..], tos, df, identification);
    Some(&mut bytes[ETHERNET + tunnel.template.esp_offset()..])
}
