//! SAs that outlived the control that made them.
//!
//! When control is killed, the data plane goes on with its SAs, but their IKE SA is lost with the
//! process. The next control leaves them where they are, so that packets flow on, and makes new
//! ones; the peer learns from INITIAL_CONTACT that the old ones are gone. Only then they are
//! removed here.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hawser_api::{Spi, Stats, TunnelId};
use tokio::time::Instant;

/// How long old SAs receive after new ones send, for packets on their way.
const DRAIN: Duration = Duration::from_secs(5);

/// What is left of a tunnel's SAs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Old {
    inbound: BTreeSet<Spi>,
    /// It still sends with its old SA.
    sends: bool,
    /// When all of it goes.
    until: Instant,
}

/// Old SAs by tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept(BTreeMap<TunnelId, Old>);

impl Kept {
    /// The SAs that a data plane has, of tunnels with a lifetime: those with a key exchange.
    #[must_use]
    pub fn found(stats: &Stats, lifetime: impl Fn(TunnelId) -> Option<Duration>) -> Self {
        let now = Instant::now();
        let old = |tunnel: &hawser_api::TunnelStats| {
            let until = now + lifetime(tunnel.id)?;
            let inbound: BTreeSet<Spi> = tunnel.inbound.iter().map(|sa| sa.spi).collect();
            let sends = tunnel.outbound.is_some();
            let any = sends || !inbound.is_empty();
            let old = Old {
                inbound,
                sends,
                until,
            };
            any.then_some((tunnel.id, old))
        };
        Self(stats.tunnels.iter().filter_map(old).collect())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tunnels.
    #[must_use]
    pub fn tunnels(&self) -> BTreeSet<TunnelId> {
        self.0.keys().copied().collect()
    }

    /// Whether the tunnel sends with an old SA.
    #[must_use]
    pub fn sends(&self, tunnel: TunnelId) -> bool {
        self.0.get(&tunnel).is_some_and(|old| old.sends)
    }

    /// Inbound SPIs that are taken.
    #[must_use]
    pub fn spis(&self) -> BTreeSet<Spi> {
        self.0
            .values()
            .flat_map(|old| &old.inbound)
            .copied()
            .collect()
    }

    /// A tunnel sends with a new SA: what it had goes after a while.
    pub fn replaced(&mut self, tunnel: TunnelId) {
        if let Some(old) = self.0.get_mut(&tunnel) {
            old.sends = false;
            old.until = old.until.min(Instant::now() + DRAIN);
        }
    }

    /// What it is time to remove: outbound SAs by tunnel and inbound ones by SPI.
    pub fn expired(&mut self) -> (Vec<TunnelId>, Vec<Spi>) {
        let now = Instant::now();
        let (mut outbound, mut inbound) = (Vec::new(), Vec::new());
        self.0.retain(|tunnel, old| {
            let stays = old.until > now;
            if !stays {
                outbound.extend(old.sends.then_some(*tunnel));
                inbound.extend(&old.inbound);
            }
            stays
        });
        (outbound, inbound)
    }

    /// Forgets the tunnels that are not in this set, and says their inbound SPIs.
    pub fn retain(&mut self, tunnels: &BTreeSet<TunnelId>) {
        self.0.retain(|tunnel, _| tunnels.contains(tunnel));
    }

    /// The data plane is another one: nothing is left.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
