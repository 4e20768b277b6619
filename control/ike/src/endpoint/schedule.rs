//! Time passing, and what the driver asks for.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use hawser_api::Spi;

use super::{Ending, Endpoint, Inhabitant};
use crate::{
    config::ConnectionId,
    event::{Path, RekeyReason},
    fault::Fault,
    sa::{
        IkeSa, Phase, SaId,
        child::ChildStage,
        pending::{Pending, Task},
    },
    timer::{ChildTimer, ConnectionTimer, SaTimer, Timer},
};

/// An SA that is asked to close but cannot send its DELETE, because an earlier request is not
/// answered, is abandoned after this many times the retransmission's longest pause.
const CLOSE_PATIENCE: u32 = 5;

impl Endpoint {
    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.take_due(now) {
            match timer {
                Timer::Sa(id, timer) => self.with_sa(now, id, |endpoint, sa| {
                    endpoint.on_sa_timer(now, sa, timer);
                }),
                Timer::Child(spi, timer) => self.on_child_timer(now, spi, timer),
                Timer::Connection(id, timer) => self.on_connection_timer(now, id, timer),
            }
        }
        self.settle();
    }

    fn on_sa_timer(&mut self, now: Instant, sa: &mut IkeSa, timer: SaTimer) {
        match timer {
            SaTimer::Retransmit => self.on_retransmit(now, sa),
            SaTimer::Forget => self.on_forget(now, sa),
            SaTimer::Liveness => self.on_quiet(now, sa),
            SaTimer::Rekey => sa.want(Task::RekeyIke),
            SaTimer::Reauthenticate => self.start_reauthentication(now, sa),
            SaTimer::Expire => self.on_expired(now, sa),
            SaTimer::Keepalive => self.on_keepalive(now, sa),
        }
    }

    fn on_child_timer(&mut self, now: Instant, spi: Spi, timer: ChildTimer) {
        if timer == ChildTimer::Drain {
            self.on_drained(spi);
            return;
        }
        let Some(Inhabitant::Child(id)) = self.inbound.get(&spi).copied() else {
            return;
        };
        self.with_sa(now, id, |endpoint, sa| match timer {
            ChildTimer::Rekey => endpoint.want_child_rekey(sa, spi),
            ChildTimer::Expire => endpoint.on_child_expired(sa, spi),
            ChildTimer::Switch => endpoint.on_switch_due(now, sa, spi),
            ChildTimer::Linger => {
                if let Some(child) = sa.child_mut(spi) {
                    child.stage = ChildStage::Closing;
                    sa.want(Task::CloseChild(spi));
                }
            }
            ChildTimer::Drain => {}
        });
    }

    fn on_connection_timer(&mut self, now: Instant, id: ConnectionId, timer: ConnectionTimer) {
        match timer {
            ConnectionTimer::Initiate => {
                let due = self
                    .connections
                    .get(&id)
                    .is_some_and(|c| c.wanted && c.current.is_none());
                if due {
                    self.start_attempt(now, id);
                }
            }
            ConnectionTimer::Children => self.make_missing_children(now, id),
        }
    }

    /// A half-open, refused, replaced or redundant SA has had its time.
    fn on_forget(&mut self, now: Instant, sa: &mut IkeSa) {
        match sa.phase {
            Phase::Established(_) | Phase::Replaced(_) => {
                if sa.window.is_free() {
                    self.begin_close_ike(now, sa);
                } else {
                    self.abandon(now, sa);
                }
            }
            _ => self.abandon(now, sa),
        }
    }

    fn on_expired(&mut self, now: Instant, sa: &mut IkeSa) {
        if !sa.is_established() {
            return;
        }
        let id = sa.connection;
        self.fail(id, &Fault::Expired("the IKE SA"));
        if sa.window.is_free() {
            self.begin_close_ike(now, sa);
        } else {
            self.abandon(now, sa);
        }
        self.ended(now, id, Ending::Expired);
    }

    /// The peer's DELETE of the old child did not come, or is not needed.
    fn on_switch_due(&mut self, now: Instant, sa: &mut IkeSa, spi: Spi) {
        if sa.child(spi).is_some_and(|c| c.stage == ChildStage::Live) {
            self.switch_to(now, sa, spi);
        }
    }

    fn on_quiet(&mut self, now: Instant, sa: &mut IkeSa) {
        if !sa.is_established() {
            return;
        }
        // Any request under way asks the same question.
        if sa.window.is_free() {
            sa.want(Task::Liveness);
        } else {
            self.heard_again(now, sa);
        }
    }

    /// Asks again later, without having heard anything.
    fn heard_again(&mut self, now: Instant, sa: &mut IkeSa) {
        if let Some(c) = self.connections.get(&sa.connection) {
            let at = now + c.config.dpd.delay;
            self.timers.set(Timer::Sa(sa.id, SaTimer::Liveness), at);
        }
    }

    fn on_keepalive(&mut self, now: Instant, sa: &mut IkeSa) {
        if !sa.is_established() {
            return;
        }
        let quiet = now.saturating_duration_since(sa.spoke);
        if quiet >= self.settings.keepalive {
            self.transmit_keepalive(sa.path);
            self.spoke(now, sa);
        } else {
            let at = sa.spoke + self.settings.keepalive;
            self.timers.set(Timer::Sa(sa.id, SaTimer::Keepalive), at);
        }
    }

    /// Brings a connection up: at the operator's wish, or because there is traffic for it.
    pub fn initiate(&mut self, now: Instant, connection: ConnectionId) {
        if let Some(c) = self.connections.get_mut(&connection) {
            c.wanted = true;
            if c.current.is_none() {
                self.start_attempt(now, connection);
            }
        }
        self.settle();
    }

    /// Rekeys the child with this inbound or outbound SPI before its limit is reached.
    pub fn rekey_child(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        spi: Spi,
        why: RekeyReason,
    ) {
        let sas = self
            .connections
            .get(&connection)
            .map(|c| c.sas.clone())
            .unwrap_or_default();
        for id in sas {
            self.with_sa(now, id, |endpoint, sa| {
                let child = sa
                    .children
                    .iter()
                    .find(|c| c.inbound == spi || c.outbound == spi)
                    .filter(|c| c.stage == ChildStage::Live)
                    .map(|c| c.inbound);
                if let Some(inbound) = child
                    && !sa.tasks.contains(&Task::RekeyChild(inbound))
                    && !is_rekeying(sa, inbound)
                {
                    endpoint.log(
                        sa.connection,
                        format!("child SA {:#010x} is rekeyed for {why}", spi.0),
                    );
                    endpoint.want_child_rekey(sa, inbound);
                }
            });
        }
        self.settle();
    }

    /// Rekeys the IKE SA of a connection.
    pub fn rekey_ike(&mut self, now: Instant, connection: ConnectionId) {
        self.want_on_current(now, connection, Task::RekeyIke);
        self.settle();
    }

    /// Authentic ESP of the peer was seen at `last_received`: it lives, and need not be asked.
    pub fn activity(&mut self, _now: Instant, connection: ConnectionId, last_received: Instant) {
        let Some(c) = self.connections.get(&connection) else {
            return;
        };
        let delay = c.config.dpd.delay;
        if let Some(sa) = c.current.and_then(|id| self.sas.get_mut(&id))
            && last_received > sa.heard
        {
            sa.heard = last_received;
            let timer = Timer::Sa(sa.id, SaTimer::Liveness);
            if self.timers.get(timer).is_some() {
                self.timers.set(timer, last_received + delay);
            }
        }
    }

    /// ESP was sent at `last_sent`: the NAT's mapping is fresh.
    pub fn sent(&mut self, _now: Instant, connection: ConnectionId, last_sent: Instant) {
        let current = self.connections.get(&connection).and_then(|c| c.current);
        if let Some(sa) = current.and_then(|id| self.sas.get_mut(&id)) {
            sa.spoke = sa.spoke.max(last_sent);
        }
    }

    /// Authentic ESP in UDP comes from a new address of the peer (its NAT's mapping changed).
    pub fn peer_moved(&mut self, now: Instant, connection: ConnectionId, remote: SocketAddr) {
        let current = self.connections.get(&connection).and_then(|c| c.current);
        if let Some(id) = current {
            self.with_sa(now, id, |endpoint, sa| {
                let may_move = sa.nat.encapsulated() && (sa.nat.remote || sa.nat.forced);
                if may_move && sa.path.remote != remote && sa.is_established() {
                    let path = Path { remote, ..sa.path };
                    endpoint.move_path(now, sa, path);
                }
            });
        }
        self.settle();
    }

    /// We are to speak from another address. The SA moves there by MOBIKE (RFC 4555); without it,
    /// or as the responder, it is found dead, and the next one is made from there.
    pub fn local_address(&mut self, now: Instant, connection: ConnectionId, local: IpAddr) {
        let Some(c) = self.connections.get_mut(&connection) else {
            return;
        };
        c.moved = Some(local).filter(|local| *local != c.config.local);
        let (current, attempt) = (c.current, c.attempt);
        let stale = attempt.and_then(|id| self.sas.get(&id));
        if let Some(stale) = stale.filter(|sa| sa.path.local.ip() != local) {
            let id = stale.id;
            self.with_sa(now, id, |endpoint, sa| endpoint.abandon(now, sa));
            self.start_attempt(now, connection);
        }
        if let Some(id) = current {
            self.with_sa(now, id, |endpoint, sa| {
                endpoint.change_local(now, sa, local);
            });
        }
        self.settle();
    }

    /// Closes a connection; it stays down until it is initiated by either side.
    pub fn close(&mut self, now: Instant, connection: ConnectionId) {
        self.close_all(now, connection);
        self.settle();
    }

    /// Closes everything. Drive the endpoint until [`Endpoint::is_idle`].
    pub fn shutdown(&mut self, now: Instant) {
        self.shutting_down = true;
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in ids {
            self.close_all(now, id);
        }
        self.settle();
    }

    pub(crate) fn close_all(&mut self, now: Instant, id: ConnectionId) {
        let Some(c) = self.connections.get_mut(&id) else {
            return;
        };
        c.wanted = false;
        let attempt: Option<SaId> = c.attempt.take();
        let sas = c.sas.clone();
        for timer in ConnectionTimer::ALL {
            self.timers.cancel(Timer::Connection(id, timer));
        }
        if let Some(attempt) = attempt {
            self.with_sa(now, attempt, |endpoint, sa| endpoint.abandon(now, sa));
        }
        let at = now + self.settings.retransmit.most * CLOSE_PATIENCE;
        for sa in sas {
            self.with_sa(now, sa, |endpoint, sa| {
                endpoint.timers.set(Timer::Sa(sa.id, SaTimer::Forget), at);
                sa.want(Task::CloseIke);
            });
        }
        self.touched.insert(id);
    }
}

/// Whether our rekeying of this child is under way.
pub(crate) fn is_rekeying(sa: &IkeSa, spi: Spi) -> bool {
    matches!(sa.window.pending(), Some(Pending::Child(p)) if p.replaces == Some(spi))
}
