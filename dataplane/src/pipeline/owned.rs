//! The inbound SAs that a worker owns: their replay windows, and what a packet of theirs is met
//! with before it is decrypted.
//!
//! A window has one writer, the owning worker, and is in one place only; when tables give an SA to
//! another worker, its window goes there as [`Windows`].

use hawser_aead::Shape;
use hawser_api::{Encapsulation, TableId, TunnelId};
use hawser_net::{
    Family,
    mtu::ESP_HEADER,
    parse::{PlainEsp, outer_addresses},
    replay::ReplayWindow,
};

use super::Path;
use crate::{
    sa::InboundSa,
    tables::{Tables, Tunnel},
};

/// What a worker has of an inbound SA: two cache lines, and all that a packet needs beside the key.
#[repr(align(64))]
pub(super) struct InboundState {
    pub(super) window: ReplayWindow,
    pub(super) generation: u64,
    /// From the peer to us; none if the tunnel runs over IPv6.
    addresses: Option<u64>,
    /// Where in UDP the peer sends from, if that is known.
    udp_port: Option<u16>,
    /// Which lengths are right.
    pub(super) shape: Shape,
    /// For decrypted packets.
    pub(super) inside: Inside,
}

/// What a decrypted packet of an SA is met with.
#[derive(Clone, Copy)]
pub(super) struct Inside {
    pub(super) tunnel: TunnelId,
    /// Where it looks for its way.
    pub(super) table: TableId,
    /// Bytes before the payload, from the SPI on.
    pub(super) start: u8,
    /// Bytes of the ICV behind the trailer.
    pub(super) icv: u8,
    /// Whether all IPv4 packets may pass.
    pub(super) open_v4: bool,
}

const _: () = assert!(size_of::<Option<InboundState>>() == 128);

impl InboundState {
    /// The size was checked with the update; `None` drops the SA's packets as unknown.
    fn new(sa: &InboundSa, tunnel: &Tunnel) -> Option<Self> {
        let window = ReplayWindow::resume(sa.replay_window, sa.esn, sa.seen).ok()?;
        let mut state = Self {
            window,
            generation: sa.generation,
            addresses: None,
            udp_port: None,
            shape: sa.key.shape(),
            inside: Inside {
                tunnel: sa.tunnel,
                table: tunnel.table,
                start: (ESP_HEADER + sa.esp.iv) as u8,
                icv: sa.esp.icv as u8,
                open_v4: sa.selectors.is_open(Family::V4),
            },
        };
        state.follow(tunnel);
        Some(state)
    }

    /// Takes over what the tables say of the tunnel now.
    fn follow(&mut self, tunnel: &Tunnel) {
        let ends = &tunnel.ends;
        let bytes = |address: u128| (address as u32).to_be_bytes();
        self.addresses = (ends.family == Family::V4)
            .then(|| outer_addresses(bytes(ends.remote), bytes(ends.local)));
        self.udp_port = match tunnel.encapsulation {
            Encapsulation::Udp { remote_port, .. } => Some(remote_port),
            Encapsulation::Plain => None,
        };
        self.inside.table = tunnel.table;
    }

    /// The SA's tunnel.
    #[inline]
    pub(super) fn tunnel(&self) -> TunnelId {
        self.inside.tunnel
    }

    /// Whether the packet comes from where the peer was, without doubt.
    #[inline(always)]
    pub(super) fn is_from_peer(&self, plain: &PlainEsp) -> bool {
        Some(plain.addresses) == self.addresses
            && (plain.port.is_none() || plain.port == self.udp_port)
    }
}

/// Replay windows on their way from one worker to another. Each is in one place only.
pub struct Windows(Vec<(usize, InboundState)>);

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
            let sa = tables.inbound.get(slot).and_then(Option::as_deref);
            let mine = sa.filter(|sa| tables.owner(sa) == Some(self.id));
            let mine = mine.and_then(|sa| Some((sa, tables.tunnel(sa.tunnel)?)));
            let wanted = mine.map(|(sa, _)| sa.generation);
            let mut back = None;
            while let Some((_, state)) = before.next_if(|(at, _)| *at == slot) {
                back = back.or(Some(state).filter(|state| Some(state.generation) == wanted));
            }
            if state.as_ref().map(|state| state.generation) != wanted {
                self.retired.extend(state.take().map(|state| (slot, state)));
                *state =
                    back.or_else(|| mine.and_then(|(sa, tunnel)| InboundState::new(sa, tunnel)));
            }
            if let (Some(state), Some((_, tunnel))) = (state, mine) {
                state.follow(tunnel);
            }
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
}
