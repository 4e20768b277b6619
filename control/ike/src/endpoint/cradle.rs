//! Half-open SAs: found by what a copy of their IKE_SA_INIT shows, and limited.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use hawser_ike_wire::IkeSpi;

use crate::sa::SaId;

#[derive(Default)]
pub(crate) struct Cradle {
    by_peer: HashMap<(SocketAddr, IkeSpi), SaId>,
    peers: HashMap<SaId, (SocketAddr, IkeSpi)>,
    per_source: HashMap<IpAddr, usize>,
}

impl Cradle {
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(crate) fn of_source(&self, source: IpAddr) -> usize {
        self.per_source.get(&source).copied().unwrap_or(0)
    }

    pub(crate) fn find(&self, peer: SocketAddr, spi: IkeSpi) -> Option<SaId> {
        self.by_peer.get(&(peer, spi)).copied()
    }

    pub(crate) fn insert(&mut self, id: SaId, peer: SocketAddr, spi: IkeSpi) {
        self.by_peer.insert((peer, spi), id);
        self.peers.insert(id, (peer, spi));
        *self.per_source.entry(peer.ip()).or_default() += 1;
    }

    pub(crate) fn remove(&mut self, id: SaId) {
        let Some(key) = self.peers.remove(&id) else {
            return;
        };
        self.by_peer.remove(&key);
        if let Some(count) = self.per_source.get_mut(&key.0.ip()) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&key.0.ip());
            }
        }
    }
}

/// Key exchanges in this second with senders that have not shown that they receive. Requests that
/// fail leave nothing half-open, but have cost as much as those that succeed.
#[derive(Default)]
pub(crate) struct Unproven {
    second: Option<Instant>,
    taken: usize,
}

impl Unproven {
    /// Whether one more is within `most` of this second.
    pub(crate) fn take(&mut self, now: Instant, most: usize) -> bool {
        let over = |s: Instant| now.saturating_duration_since(s) >= Duration::from_secs(1);
        if self.second.is_none_or(over) {
            self.second = Some(now);
            self.taken = 0;
        }
        let within = self.taken < most;
        self.taken += usize::from(within);
        within
    }
}
