//! Timers: a fixed table of what can be waited for, in one ordered set.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use hawser_api::Spi;

use crate::{config::ConnectionId, sa::SaId};

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Timer {
    Sa(SaId, SaTimer),
    /// By the SPI that we chose.
    Child(Spi, ChildTimer),
    Connection(ConnectionId, ConnectionTimer),
}

/// Timers of an IKE SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SaTimer {
    /// The outstanding request is sent again or given up.
    Retransmit,
    /// A half-open, replaced or redundant SA is forgotten.
    Forget,
    /// The peer is asked whether it lives.
    Liveness,
    Rekey,
    Reauthenticate,
    /// The hard lifetime ends.
    Expire,
    /// A NAT keepalive is due.
    Keepalive,
}

impl SaTimer {
    pub(crate) const ALL: [SaTimer; 7] = [
        SaTimer::Retransmit,
        SaTimer::Forget,
        SaTimer::Liveness,
        SaTimer::Rekey,
        SaTimer::Reauthenticate,
        SaTimer::Expire,
        SaTimer::Keepalive,
    ];
}

/// Timers of a child SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ChildTimer {
    Rekey,
    /// The hard lifetime ends.
    Expire,
    /// We send with it from now on although the peer has not deleted its predecessor.
    Switch,
    /// The peer should have deleted it.
    Linger,
    /// The inbound SA of a deleted child goes.
    Drain,
}

impl ChildTimer {
    /// All but the one that outlives the child.
    pub(crate) const LIVING: [ChildTimer; 4] = [
        ChildTimer::Rekey,
        ChildTimer::Expire,
        ChildTimer::Switch,
        ChildTimer::Linger,
    ];
}

/// Timers of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ConnectionTimer {
    /// It is initiated.
    Initiate,
    /// Children that are missing are made.
    Children,
}

impl ConnectionTimer {
    pub(crate) const ALL: [ConnectionTimer; 2] =
        [ConnectionTimer::Initiate, ConnectionTimer::Children];
}

/// The timers that run. Setting, cancelling and taking cost the logarithm of their number.
#[derive(Default)]
pub(crate) struct Timers {
    due: HashMap<Timer, Instant>,
    order: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    /// Sets a timer, in place of its earlier setting.
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(before) = self.due.insert(timer, at) {
            self.order.remove(&(before, timer));
        }
        self.order.insert((at, timer));
    }

    pub(crate) fn cancel(&mut self, timer: Timer) {
        if let Some(at) = self.due.remove(&timer) {
            self.order.remove(&(at, timer));
        }
    }

    pub(crate) fn get(&self, timer: Timer) -> Option<Instant> {
        self.due.get(&timer).copied()
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes the earliest timer that is due.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let (at, timer) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.order.pop_first();
        self.due.remove(&timer);
        Some(timer)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn timers_come_in_order_and_once() {
        let t0 = Instant::now();
        let id = |n| Timer::Connection(ConnectionId(n), ConnectionTimer::Initiate);
        let mut timers = Timers::default();
        timers.set(id(1), t0 + Duration::from_secs(3));
        timers.set(id(2), t0 + Duration::from_secs(2));
        timers.set(id(3), t0 + Duration::from_secs(9));
        timers.set(id(3), t0 + Duration::from_secs(1));
        timers.set(id(4), t0);
        timers.cancel(id(4));
        assert_eq!(timers.len(), 3);
        assert_eq!(timers.take_due(t0), None);
        let later = t0 + Duration::from_secs(10);
        let taken: Vec<_> = std::iter::from_fn(|| timers.take_due(later)).collect();
        assert_eq!(taken, [id(3), id(2), id(1)]);
        assert_eq!(timers.next(), None);
    }
}
