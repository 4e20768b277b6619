//! SAs as the data plane takes them, and the changes that a key exchange makes to them.

use std::collections::BTreeSet;

use hawser_api::{InboundSa, OutboundSa, Spi, TunnelId, Update};
use hawser_ike::{Inbound, Outbound};

use super::connections::tunnel_of;
use crate::desired::SaSet;

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum SaChange {
    /// Receive with this one too.
    AddInbound(InboundSa),
    /// Send with this one instead.
    SetOutbound(OutboundSa),
    /// Receive with it no longer.
    RemoveInbound(Spi),
    /// Send no longer.
    RemoveOutbound(TunnelId),
}

impl SaChange {
    /// From the endpoint's word.
    #[must_use]
    pub fn inbound(sa: Inbound) -> Self {
        Self::AddInbound(InboundSa {
            tunnel: tunnel_of(sa.connection),
            spi: sa.spi,
            suite: sa.suite,
            key: sa.key,
            esn: sa.esn,
            replay_window: sa.replay_window,
            selectors: sa.selectors,
            transient: true,
        })
    }

    /// From the endpoint's word.
    #[must_use]
    pub fn outbound(sa: Outbound) -> Self {
        Self::SetOutbound(OutboundSa {
            tunnel: tunnel_of(sa.connection),
            spi: sa.spi,
            suite: sa.suite,
            key: sa.key,
            esn: sa.esn,
            selectors: sa.selectors,
            transient: true,
        })
    }

    /// Whether the tunnel begins or ceases to be able to send: its groups change with it.
    #[must_use]
    pub fn moves_flows(&self, before: &SaSet) -> bool {
        match self {
            Self::SetOutbound(sa) => !before.outbound.contains_key(&sa.tunnel),
            Self::RemoveOutbound(tunnel) => before.outbound.contains_key(tunnel),
            Self::AddInbound(_) | Self::RemoveInbound(_) => false,
        }
    }

    /// The tunnel of an SA that is new.
    #[must_use]
    pub fn wants(&self) -> Option<TunnelId> {
        match self {
            Self::AddInbound(sa) => Some(sa.tunnel),
            Self::SetOutbound(sa) => Some(sa.tunnel),
            Self::RemoveInbound(_) | Self::RemoveOutbound(_) => None,
        }
    }

    /// Makes the change. Says the update that it takes, if it changes anything.
    pub fn apply(self, set: &mut SaSet) -> Option<Update> {
        match self {
            Self::AddInbound(sa) => {
                let same = set.inbound.get(&sa.spi) == Some(&sa);
                set.inbound.insert(sa.spi, sa.clone());
                (!same).then_some(Update::PutInboundSa(sa))
            }
            Self::SetOutbound(sa) => {
                let same = set.outbound.get(&sa.tunnel) == Some(&sa);
                set.outbound.insert(sa.tunnel, sa.clone());
                (!same).then_some(Update::PutOutboundSa(sa))
            }
            Self::RemoveInbound(spi) => {
                let there = set.inbound.remove(&spi);
                there.map(|_| Update::RemoveInboundSa(spi))
            }
            Self::RemoveOutbound(tunnel) => {
                let there = set.outbound.remove(&tunnel);
                there.map(|_| Update::RemoveOutboundSa(tunnel))
            }
        }
    }
}

/// Takes the SAs of these tunnels from one set into another.
pub fn keep(from: &SaSet, tunnels: &BTreeSet<TunnelId>, into: &mut SaSet) {
    for (tunnel, sa) in &from.outbound {
        if tunnels.contains(tunnel) {
            into.outbound.insert(*tunnel, sa.clone());
        }
    }
    for (spi, sa) in &from.inbound {
        if tunnels.contains(&sa.tunnel) {
            into.inbound.insert(*spi, sa.clone());
        }
    }
}
