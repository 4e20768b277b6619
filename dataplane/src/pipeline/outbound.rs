//! Into the tunnel: sequence numbers, headers, one crypto batch (RFC 4303, section 3.3).

use arrayvec::ArrayVec;
use hawser_aead::{BATCH, SealBatch, SealingKey, Sequence};
use hawser_api::{DropReason, OuterDf, TunnelId};
use hawser_net::{Family, ecn, esp_trailer};
use hawser_xsk::Frame;

use super::{Output, Path, group::Groups};
use crate::tables::{ETHERNET, Tables, Tunnel};

/// An IP packet that will go through a tunnel. The frame begins with the IP header and ends with
/// the packet.
pub(super) struct Staged {
    pub(super) frame: Frame,
    pub(super) tunnel: TunnelId,
    pub(super) family: Family,
    pub(super) tos: u8,
    pub(super) df: bool,
}

/// A packet whose headers stand, ready to be sealed.
struct Ready<'a> {
    key: &'a SealingKey,
    sequence: Sequence,
    esp: &'a mut [u8],
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
        // One atomic add per SA and batch (RFC 4303, section 3.3.3).
        let mut blocks: ArrayVec<_, BATCH> = groups
            .groups
            .iter()
            .map(|&(id, n)| {
                let tunnel = tables.tunnel(TunnelId(id))?;
                let sa = tunnel.outbound.as_deref()?;
                Some((tunnel, sa.key.reserve(n)?))
            })
            .collect();

        let mut ready: [Option<Ready<'_>>; BATCH] = [const { None }; BATCH];
        let mut failed: ArrayVec<(u8, DropReason), BATCH> = ArrayVec::new();
        for (i, staged) in self.staged.iter_mut().enumerate() {
            let Some((tunnel, block)) = &mut blocks[usize::from(groups.of[i])] else {
                failed.push((i as u8, DropReason::SequenceExhausted));
                continue;
            };
            let sequence = block.next();
            let counters = &mut self.counters.tunnels[staged.tunnel.index()];
            let len = staged.frame.len() as u64;
            let identification = self.identification;
            self.identification = identification.wrapping_add(1);
            match (
                headers(staged, tunnel, identification),
                sequence,
                tunnel.outbound.as_deref(),
            ) {
                (Some(esp), Some(sequence), Some(sa)) => {
                    counters.sent += 1;
                    counters.sent_bytes += len;
                    ready[usize::from(groups.place[i])] = Some(Ready {
                        key: &sa.key,
                        sequence,
                        esp,
                    });
                }
                _ => failed.push((i as u8, DropReason::FrameTooSmall)),
            }
        }

        let mut batch = SealBatch::new();
        for Ready { key, sequence, esp } in ready.iter_mut().filter_map(Option::take) {
            batch.push(key, sequence, esp);
        }
        batch.seal();

        let mut failed = failed.into_iter().peekable();
        for (i, mut staged) in self.staged.drain(..).enumerate() {
            if let Some((_, reason)) = failed.next_if(|&(at, _)| usize::from(at) == i) {
                self.counters.drop_in(staged.tunnel, reason);
                self.pool.give(staged.frame);
                continue;
            }
            if let Some((tunnel, _)) = &blocks[usize::from(groups.of[i])] {
                tunnel
                    .template
                    .finish(&mut staged.frame.bytes_mut()[ETHERNET..]);
                out.ports[tunnel.port.index()].push(staged.tunnel.0, staged.frame);
            }
        }
    }
}

/// Puts all headers in front of the packet and the trailer behind it; the result is the ESP packet,
/// from the SPI to the ICV. `None` if the frame has no room: it is then unchanged.
#[inline]
fn headers<'f>(
    staged: &'f mut Staged,
    tunnel: &Tunnel,
    identification: u16,
) -> Option<&'f mut [u8]> {
    let suite = tunnel.outbound.as_deref()?.key.suite();
    let ethernet = tunnel.ethernet.as_ref()?;
    let frame = &mut staged.frame;
    let inner = frame.len();
    let front = ETHERNET + tunnel.template.len() + suite.iv_len();
    let trailer = esp_trailer::len(inner, suite.block_len());
    if frame.headroom() < front || !frame.grow_back(trailer + suite.icv_len()) {
        return None;
    }
    if !frame.grow_front(front) {
        return None;
    }
    let bytes = frame.bytes_mut();
    let end = front + inner;
    esp_trailer::write(
        &mut bytes[end..],
        trailer,
        esp_trailer::next_header(staged.family),
    );
    bytes[..ETHERNET].copy_from_slice(ethernet);
    let df = match tunnel.outer_df {
        OuterDf::Copy => staged.df,
        OuterDf::Set => true,
        OuterDf::Clear => false,
    };
    let tos = ecn::encapsulate(staged.tos, tunnel.dscp);
    tunnel
        .template
        .stamp(&mut bytes[ETHERNET..], tos, df, identification);
    Some(&mut bytes[ETHERNET + tunnel.template.esp_offset()..])
}
