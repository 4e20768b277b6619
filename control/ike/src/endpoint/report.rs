//! Reports: state changes at the end of each call, and the status when asked.

use std::time::Instant;

use hawser_ike_crypto::{Role, name::describe};

use super::Endpoint;
use crate::{
    config::{ConnectionId, DpdAction},
    event::{Event, NatStatus, State},
    proposal,
    sa::{
        ChildSa, IkeSa,
        child::ChildStage,
        pending::{Pending, Task},
    },
    status::{ChildStatus, ConnectionStatus},
    timer::{ChildTimer, SaTimer, Timer},
};

impl Endpoint {
    /// At the end of a call: reports changed states, and fills the states into the log lines that
    /// the call made.
    pub(crate) fn settle(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        for id in touched {
            let states = self.states(id);
            let Some(c) = self.connections.get_mut(&id) else {
                continue;
            };
            if c.reported != states {
                c.reported = states;
                self.emit(Event::State {
                    connection: id,
                    ike: states.0,
                    child: states.1,
                });
            }
        }
        for i in self.settled_events..self.events.len() {
            self.fill(i);
        }
        self.settled_events = self.events.len();
    }

    fn fill(&mut self, index: usize) {
        let Some(Event::Log(entry)) = self.events.get(index) else {
            return;
        };
        let Some(c) = entry.connection.and_then(|id| self.connections.get(&id)) else {
            return;
        };
        let (ike, child) = c.reported;
        let dpd_enabled = c.config.dpd.action != DpdAction::None;
        let sa = c.current.or(c.attempt).and_then(|id| self.sas.get(&id));
        let (nat, remote) = sa.map_or((NatStatus::Unknown, None), |sa| {
            (sa.nat.status(), Some(sa.path.remote))
        });
        if let Some(Event::Log(entry)) = self.events.get_mut(index) {
            entry.ike = ike;
            entry.child = child;
            entry.dpd_enabled = dpd_enabled;
            entry.nat = nat;
            entry.remote = remote;
        }
    }

    /// AWS's words for both phases of a connection.
    fn states(&self, id: ConnectionId) -> (State, State) {
        let Some(c) = self.connections.get(&id) else {
            return (State::Down, State::Down);
        };
        let Some(sa) = c.current.and_then(|id| self.sas.get(&id)) else {
            let state = match c.attempt {
                Some(_) => State::Negotiating,
                None => State::Down,
            };
            return (state, state_without_sa(state));
        };
        let ike = match sa.window.pending() {
            Some(Pending::Rekey(_)) => State::Rekeying,
            _ => State::Established,
        };
        let worst = (0..c.config.children.len())
            .map(|n| child_state(sa, c.active.contains_key(&(n as u16)), n as u16))
            .min_by_key(|s| match s {
                State::Down => 0,
                State::Negotiating => 1,
                State::Rekeying => 2,
                State::Established => 3,
            });
        (ike, worst.unwrap_or(State::Down))
    }

    /// Tells the driver where ESP goes, if that is new.
    pub(crate) fn report_path(&mut self, sa: &IkeSa) {
        if sa.unchecked {
            return;
        }
        let encapsulated = sa.nat.encapsulated();
        let Some(c) = self.connections.get_mut(&sa.connection) else {
            return;
        };
        if c.reported_path == Some((sa.path, encapsulated)) {
            return;
        }
        c.reported_path = Some((sa.path, encapsulated));
        self.emit(Event::PathChanged {
            connection: sa.connection,
            path: sa.path,
            encapsulated,
        });
    }

    /// All connections.
    #[must_use]
    pub fn status(&self, now: Instant) -> Vec<ConnectionStatus> {
        self.connections
            .keys()
            .filter_map(|id| self.connection_status(now, *id))
            .collect()
    }

    /// One connection.
    #[must_use]
    pub fn connection_status(&self, now: Instant, id: ConnectionId) -> Option<ConnectionStatus> {
        let c = self.connections.get(&id)?;
        let (ike, child) = self.states(id);
        let sa = c.current.and_then(|id| self.sas.get(&id));
        let left = |sa: &IkeSa, timer| {
            let at = self.timers.get(Timer::Sa(sa.id, timer))?;
            Some(at.saturating_duration_since(now))
        };
        Some(ConnectionStatus {
            id,
            name: c.config.name.clone(),
            ike,
            child,
            path: sa.map(|sa| sa.path),
            nat: sa.map_or(NatStatus::Unknown, |sa| sa.nat.status()),
            encapsulated: sa.is_some_and(|sa| sa.nat.encapsulated()),
            ike_suite: sa
                .and_then(|sa| sa.in_use())
                .map(|e| proposal::suite_words(e.keys.suite)),
            peer_identity: sa
                .and_then(|sa| sa.in_use())
                .map(|e| describe(&e.peer_identity)),
            spis: sa.map(|sa| (sa.initiator_spi.0, sa.responder_spi.0)),
            initiator: sa.map(|sa| sa.role == Role::Initiator),
            established_for: sa
                .and_then(|sa| sa.established)
                .map(|at| now.saturating_duration_since(at)),
            rekey_in: sa.and_then(|sa| left(sa, SaTimer::Rekey)),
            expires_in: sa.and_then(|sa| left(sa, SaTimer::Expire)),
            children: c
                .sas
                .iter()
                .filter_map(|id| self.sas.get(id))
                .flat_map(|sa| sa.children.iter().map(move |child| (sa, child)))
                .map(|(sa, child)| self.child_status(now, sa, child))
                .collect(),
            last_error: c.last_failure.clone(),
            counters: c.counters,
        })
    }

    fn child_status(&self, now: Instant, sa: &IkeSa, child: &ChildSa) -> ChildStatus {
        let c = self.connections.get(&sa.connection);
        let left = |timer| {
            let at = self.timers.get(Timer::Child(child.inbound, timer))?;
            Some(at.saturating_duration_since(now))
        };
        ChildStatus {
            child: child.config,
            name: c
                .and_then(|c| c.config.children.get(usize::from(child.config)))
                .map(|c| c.name.clone())
                .unwrap_or_default(),
            inbound: child.inbound,
            outbound: child.outbound,
            active: c.is_some_and(|c| c.active.get(&child.config) == Some(&child.inbound)),
            suite: child.suite,
            esn: child.esn,
            pfs: child.group,
            selectors: child.selectors.clone(),
            state: match child.stage {
                ChildStage::Live if super::schedule::is_rekeying(sa, child.inbound) => {
                    State::Rekeying
                }
                ChildStage::Live => State::Established,
                ChildStage::Replaced | ChildStage::Closing => State::Down,
            },
            rekey_in: left(ChildTimer::Rekey),
            expires_in: left(ChildTimer::Expire),
        }
    }

    /// Counts for one connection.
    pub(crate) fn count(
        &mut self,
        id: ConnectionId,
        add: impl FnOnce(&mut crate::status::ConnectionCounters),
    ) {
        if let Some(c) = self.connections.get_mut(&id) {
            add(&mut c.counters);
        }
    }
}

fn state_without_sa(ike: State) -> State {
    match ike {
        State::Negotiating => State::Negotiating,
        _ => State::Down,
    }
}

fn child_state(sa: &IkeSa, sending: bool, config: u16) -> State {
    let rekeying = sa
        .children
        .iter()
        .any(|c| c.config == config && super::schedule::is_rekeying(sa, c.inbound));
    let making = matches!(sa.window.pending(), Some(Pending::Child(p)) if p.child == config)
        || sa.tasks.contains(&Task::MakeChild(config))
        || sa.unproven && sa.children.iter().any(|c| c.config == config);
    match (sending, rekeying, making) {
        (true, true, _) => State::Rekeying,
        (true, false, _) => State::Established,
        (false, _, true) => State::Negotiating,
        (false, _, false) => State::Down,
    }
}
