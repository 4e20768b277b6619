//! Asks the processor for what a batch will need, where the tables are too large for its caches.
//!
//! With thousands of SAs in use nearly every packet needs a handful of cache lines from far away,
//! one found by the other: without help a packet waits for them one after the other. Here a whole
//! batch asks for its lines level by level, so that the waits of its packets overlap. Nothing is
//! decided: a wrong guess costs a cache line.

use arrayvec::ArrayVec;
use hawser_aead::{BATCH, prefetch, prefetch_all};
use hawser_api::Spi;
use hawser_net::protocol;
use hawser_xsk::Frame;

use super::{Path, group::Groups, outbound::egress};
use crate::tables::Tables;

impl Path {
    /// For ESP packets that have come in.
    #[inline(never)]
    pub(super) fn warm_inbound(&self, tables: &Tables, frames: &[Frame]) {
        let mut spis: ArrayVec<(Spi, usize), BATCH> = ArrayVec::new();
        for frame in frames {
            if let Some(spi) = guess_spi(frame.bytes())
                && spis.try_push((spi, frame.len())).is_ok()
            {
                tables.spis.prefetch(spi);
            }
        }
        let mut slots: ArrayVec<(usize, usize), BATCH> = ArrayVec::new();
        for (spi, len) in spis {
            if let Some(entry) = tables.spis.get(spi)
                && entry.owner == self.id
            {
                let slot = entry.slot as usize;
                slots.push((slot, len));
                prefetch(&tables.inbound[slot]);
                prefetch_all(&self.inbound[slot]);
            }
        }
        for &(slot, _) in &slots {
            if let (Some(sa), Some(state)) = (&tables.inbound[slot], &self.inbound[slot]) {
                prefetch(&sa.key);
                prefetch(&self.counters.tunnels[state.tunnel().index()]);
                state.window.prefetch();
            }
        }
        for (slot, len) in slots {
            if let Some(sa) = &tables.inbound[slot] {
                sa.key.prefetch_tables(len);
            }
        }
    }

    /// For packets that are about to be encrypted.
    #[inline(never)]
    pub(super) fn warm_outbound(&self, tables: &Tables, groups: &Groups) {
        let groups = || (0..).map_while(|n| groups.get(n));
        for group in groups() {
            if let Some(Some(tunnel)) = tables.tunnels.get(group.key as usize) {
                prefetch_all(&tunnel.egress);
            }
        }
        for group in groups() {
            if let Some((_, egress)) = egress(tables, group.key) {
                egress.sa.key.prefetch();
                prefetch(&self.counters.tunnels[group.key as usize]);
            }
        }
        for group in groups() {
            if let Some((_, egress)) = egress(tables, group.key) {
                let first = group.first().map_or(0, |at| self.staged[at].len());
                egress.sa.key.prefetch_tables(first);
            }
        }
    }
}

/// The SPI of an untagged frame without IP options that holds ESP, if it is one.
#[inline]
fn guess_spi(frame: &[u8]) -> Option<Spi> {
    const ETHERNET: usize = 14;
    const UDP: usize = 8;
    let (header, next) = match frame.get(12..14)? {
        [0x08, 0x00] => (20, frame.get(ETHERNET + 9)?),
        [0x86, 0xdd] => (40, frame.get(ETHERNET + 6)?),
        _ => return None,
    };
    let at = match *next {
        protocol::ESP => ETHERNET + header,
        protocol::UDP => ETHERNET + header + UDP,
        _ => return None,
    };
    let spi = frame.get(at..)?.first_chunk()?;
    Some(Spi(u32::from_be_bytes(*spi)))
}
