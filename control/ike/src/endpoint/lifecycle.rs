//! How IKE SAs begin to be used and how they end, and what follows for the connection.

use std::time::Instant;

use hawser_api::Spi;

use super::Endpoint;
use crate::{
    config::{ConnectionId, DpdAction, Startup},
    event::{Event, KeyLog, Path},
    fault::Fault,
    sa::{
        IkeSa, Phase, SaId,
        child::ChildStage,
        pending::{Pending, Task},
    },
    timer::{ChildTimer, ConnectionTimer, SaTimer, Timer},
};

/// Why a connection has no SA any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The peer deleted it.
    Deleted,
    /// The peer is dead.
    Dead,
    /// Its time is over.
    Expired,
    /// We, because it was asked for.
    Closed,
    /// The attempt was answered, and refused.
    Refused,
    /// The attempt was not answered.
    Unanswered,
}

impl Endpoint {
    /// An SA is proven and keyed: it becomes the connection's. Its children follow, and then
    /// [`Endpoint::resolve_rivals`].
    pub(crate) fn establish(&mut self, now: Instant, sa: &mut IkeSa) {
        sa.established = Some(now);
        sa.heard = now;
        self.cradle.remove(sa.id);
        self.timers.cancel(Timer::Sa(sa.id, SaTimer::Forget));
        self.arm_sa(now, sa);
        self.key_log(sa);
        let Some(connection) = self.connections.get_mut(&sa.connection) else {
            return;
        };
        if connection.attempt == Some(sa.id) {
            connection.attempt = None;
        }
        connection.sas.push(sa.id);
        connection.refusals = 0;
        connection.counters.established += 1;
        if connection.current.is_none() {
            connection.current = Some(sa.id);
        }
        let id = sa.connection;
        self.timers
            .cancel(Timer::Connection(id, ConnectionTimer::Initiate));
        self.touched.insert(id);
    }

    /// The timers of an SA in use.
    pub(crate) fn arm_sa(&mut self, now: Instant, sa: &mut IkeSa) {
        let Some(config) = self.connection(sa.connection) else {
            return;
        };
        let rekey = self.jittered(config.lifetime);
        let mut set = |timer, at| self.timers.set(Timer::Sa(sa.id, timer), at);
        set(SaTimer::Rekey, now + rekey);
        set(SaTimer::Expire, now + config.lifetime.hard);
        if let Some(after) = config.reauthenticate {
            // Of the first SA, not of each that it was rekeyed to.
            set(SaTimer::Reauthenticate, (sa.begun + after).max(now));
        }
        self.heard(now, sa);
        self.spoke(now, sa);
    }

    pub(crate) fn key_log(&mut self, sa: &mut IkeSa) {
        if !self.settings.key_log {
            return;
        }
        let (i, r) = (sa.initiator_spi, sa.responder_spi);
        if let Some(protection) = sa.protection() {
            let line = protection.keys.key_log_line(i, r);
            self.emit(Event::KeyLog(KeyLog(line)));
        }
    }

    /// An authentic sign of life on this SA.
    pub(crate) fn heard(&mut self, now: Instant, sa: &mut IkeSa) {
        sa.heard = now;
        if !sa.is_established() {
            return;
        }
        let Some(c) = self.connections.get(&sa.connection) else {
            return;
        };
        if c.config.dpd.action == DpdAction::None {
            self.timers.cancel(Timer::Sa(sa.id, SaTimer::Liveness));
        } else {
            let at = now + c.config.dpd.delay;
            self.timers.set(Timer::Sa(sa.id, SaTimer::Liveness), at);
        }
    }

    /// Other established SAs of the connection, when a new one has come.
    pub(crate) fn rivals(&self, sa: &IkeSa) -> Vec<SaId> {
        let Some(connection) = self.connections.get(&sa.connection) else {
            return Vec::new();
        };
        connection
            .sas
            .iter()
            .copied()
            .filter(|id| *id != sa.id)
            .filter(|id| self.sas.get(id).is_some_and(|s| s.is_established()))
            .collect()
    }

    /// Whether the peer, saying that `sa` is its only SA, speaks of `rival` too. Not if both began
    /// before the other was there: then both sides initiated at once.
    pub(crate) fn is_simultaneous(&self, sa: &IkeSa, rival: SaId) -> bool {
        self.sas
            .get(&rival)
            .and_then(|r| r.established)
            .is_some_and(|at| at >= sa.begun)
    }

    /// One SA per connection: decides between the new one and those that were there.
    /// `initial_contact`: the initiator of the new one, whichever side, says that it has no other.
    pub(crate) fn resolve_rivals(&mut self, now: Instant, sa: &mut IkeSa, initial_contact: bool) {
        let mut wins = true;
        for rival in self.rivals(sa) {
            if self.is_simultaneous(sa, rival) {
                wins &= self.break_tie(now, sa, rival);
            } else if initial_contact {
                // The peer does not know it any more, or will not when our answer arrives: what it
                // sends until then is still taken.
                self.with_sa(now, rival, |endpoint, rival| {
                    endpoint.leave(now, rival, true);
                    rival.phase = Phase::Dead;
                });
            } else if sa.is_initiator() {
                // Re-authentication, or the user's wish.
                self.with_sa(now, rival, |_, rival| rival.want(Task::CloseIke));
            } else {
                // The peer re-authenticates and will delete it, or has lost it without saying so.
                let at = now + self.settings.linger;
                self.timers.set(Timer::Sa(rival, SaTimer::Forget), at);
                self.with_sa(now, rival, |_, rival| rival.want(Task::Liveness));
            }
        }
        if wins && let Some(connection) = self.connections.get_mut(&sa.connection) {
            connection.current = Some(sa.id);
        }
    }

    /// Both sides initiated at once: as with rekeying (RFC 7296, section 2.8.1) the SA with the
    /// lowest nonce goes, closed by its initiator. Says whether `sa` stays.
    fn break_tie(&mut self, now: Instant, sa: &mut IkeSa, rival: SaId) -> bool {
        let Some(other) = self.sas.get(&rival) else {
            return true;
        };
        let stays = sa.lowest_nonce > other.lowest_nonce;
        let at = now + self.settings.linger;
        if stays {
            self.with_sa(now, rival, |endpoint, rival| {
                if rival.is_initiator() {
                    rival.want(Task::CloseIke);
                } else {
                    endpoint
                        .timers
                        .set(Timer::Sa(rival.id, SaTimer::Forget), at);
                }
            });
            self.send_with_children_of(now, sa);
        } else {
            if sa.is_initiator() {
                sa.want(Task::CloseIke);
            } else {
                self.timers.set(Timer::Sa(sa.id, SaTimer::Forget), at);
            }
            self.with_sa(now, rival, |endpoint, rival| {
                endpoint.send_with_children_of(now, rival);
            });
        }
        stays
    }

    fn send_with_children_of(&mut self, now: Instant, sa: &IkeSa) {
        let live: Vec<Spi> = sa
            .children
            .iter()
            .filter(|c| c.stage == ChildStage::Live)
            .map(|c| c.inbound)
            .collect();
        for spi in live {
            self.switch_to(now, sa, spi);
        }
    }

    /// Takes an SA out of use here, without a word to the peer.
    pub(crate) fn abandon(&mut self, now: Instant, sa: &mut IkeSa) {
        self.leave(now, sa, false);
        sa.phase = Phase::Dead;
    }

    /// The peer deleted the SA, or we refused it: copies of its last request are answered for a
    /// while.
    pub(crate) fn dismiss(&mut self, now: Instant, sa: &mut IkeSa) {
        self.leave(now, sa, true);
        sa.phase = match sa.phase.take() {
            Phase::Established(e) | Phase::Replaced(e) | Phase::Closing(e) => {
                Phase::Gone(Box::new(e.keys))
            }
            Phase::AwaitAuth(p) => Phase::Gone(Box::new(p.keys)),
            other => other,
        };
        let at = now + self.settings.linger;
        self.timers.set(Timer::Sa(sa.id, SaTimer::Forget), at);
    }

    /// Takes an SA out of use that will be deleted: its children go, another becomes current.
    pub(crate) fn retire(&mut self, now: Instant, sa: &mut IkeSa) {
        self.drop_children(now, sa, true);
        sa.tasks.clear();
        for timer in SaTimer::ALL {
            self.timers.cancel(Timer::Sa(sa.id, timer));
        }
        if let Some(connection) = self.connections.get_mut(&sa.connection)
            && connection.current == Some(sa.id)
        {
            connection.current = None;
        }
        self.elect(sa.connection);
        self.touched.insert(sa.connection);
    }

    /// Children, promises and timers of an SA that is not used any more.
    fn leave(&mut self, now: Instant, sa: &mut IkeSa, drain: bool) {
        self.drop_children(now, sa, drain);
        self.drop_pending(sa);
        if let Phase::AuthSent(p) = &sa.phase
            && let Some(spi) = p.child_spi
        {
            self.release_spi(spi);
        }
        sa.tasks.clear();
        self.cradle.remove(sa.id);
        for timer in SaTimer::ALL {
            self.timers.cancel(Timer::Sa(sa.id, timer));
        }
        if let Some(connection) = self.connections.get_mut(&sa.connection) {
            connection.forget(sa.id);
        }
        self.elect(sa.connection);
        self.touched.insert(sa.connection);
    }

    /// Forgets the outstanding request and what was promised for it.
    pub(crate) fn drop_pending(&mut self, sa: &mut IkeSa) {
        self.timers.cancel(Timer::Sa(sa.id, SaTimer::Retransmit));
        if let Some(outstanding) = sa.window.outstanding.take()
            && let Pending::Child(p) = outstanding.pending
        {
            self.release_spi(p.spi);
        }
    }

    /// Another established SA becomes the current one if there is none.
    fn elect(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        if connection.current.is_some() {
            return;
        }
        let next = connection
            .sas
            .iter()
            .rev()
            .copied()
            .find(|s| self.sas.get(s).is_some_and(|s| s.is_established()));
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.current = next;
        }
    }

    /// Our attempt came to nothing.
    pub(crate) fn attempt_failed(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        fault: &Fault,
        answered: bool,
    ) {
        let id = sa.connection;
        // An attempt beside a working SA (re-authentication, a hint, both sides at once) is
        // nobody's trouble yet.
        let beside = self
            .connections
            .get(&id)
            .is_some_and(|c| c.current.is_some());
        if !beside {
            self.fail(id, fault);
        }
        self.abandon(now, sa);
        let ending = if answered {
            Ending::Refused
        } else {
            Ending::Unanswered
        };
        self.ended(now, id, ending);
    }

    /// The peer does not answer any more.
    pub(crate) fn peer_dead(&mut self, now: Instant, sa: &mut IkeSa, fault: &Fault) {
        let id = sa.connection;
        self.fail(id, fault);
        if let Some(c) = self.connections.get_mut(&id) {
            c.counters.dpd_failed += 1;
        }
        self.abandon(now, sa);
        self.ended(now, id, Ending::Dead);
    }

    /// Decides whether a connection that has lost its SA is initiated again.
    pub(crate) fn ended(&mut self, now: Instant, id: ConnectionId, ending: Ending) {
        let restart_first = self.settings.restart_first;
        let restart_most = self.settings.restart_most;
        let Some(c) = self.connections.get_mut(&id) else {
            return;
        };
        if c.current.is_some() || c.attempt.is_some() || self.shutting_down {
            return;
        }
        if c.config.target().is_none() {
            return;
        }
        match ending {
            Ending::Dead => match c.config.dpd.action {
                DpdAction::Clear => c.wanted = false,
                DpdAction::Restart => c.wanted = true,
                DpdAction::None => {}
            },
            Ending::Deleted => c.wanted &= c.config.startup == Startup::Start,
            Ending::Closed | Ending::Expired | Ending::Refused | Ending::Unanswered => {}
        }
        if !c.wanted {
            return;
        }
        let pause = match ending {
            Ending::Refused => {
                let pause = restart_first * 2u32.saturating_pow(c.refusals.min(16));
                c.refusals = c.refusals.saturating_add(1);
                pause.min(restart_most)
            }
            // Give the peer time to finish what it deleted the SA for.
            Ending::Deleted => restart_first,
            _ => std::time::Duration::ZERO,
        };
        self.timers.set(
            Timer::Connection(id, ConnectionTimer::Initiate),
            now + pause,
        );
    }

    /// The peer moved, or an address of ours changed: the SA goes on there.
    pub(crate) fn move_path(&mut self, now: Instant, sa: &mut IkeSa, path: Path) {
        sa.path = path;
        self.log(
            sa.connection,
            format!("peer is at {} now, we are at {}", path.remote, path.local),
        );
        if sa.is_established() && !sa.children.is_empty() {
            self.report_path(sa);
        }
        self.spoke(now, sa);
    }

    /// The children of `old` go on under `new`, which is its successor.
    pub(crate) fn inherit(&mut self, old: &mut IkeSa, new: &mut IkeSa) {
        new.children.append(&mut old.children);
        for child in &new.children {
            self.inbound
                .insert(child.inbound, super::Inhabitant::Child(new.id));
        }
        for task in std::mem::take(&mut old.tasks) {
            match task {
                Task::RekeyIke | Task::Liveness => {}
                other => new.want(other),
            }
        }
        if let Some(connection) = self.connections.get_mut(&old.connection) {
            if connection.current == Some(old.id) {
                connection.current = Some(new.id);
            }
            if !connection.sas.contains(&new.id) {
                connection.sas.push(new.id);
            }
            connection.counters.ike_rekeys += 1;
        }
        self.touched.insert(old.connection);
    }

    /// The SA is succeeded: only its deletion is left. If the peer is to delete it and does not,
    /// we do.
    pub(crate) fn replace(&mut self, now: Instant, sa: &mut IkeSa) {
        sa.phase = match sa.phase.take() {
            Phase::Established(e) => Phase::Replaced(e),
            other => other,
        };
        for timer in [
            SaTimer::Rekey,
            SaTimer::Reauthenticate,
            SaTimer::Liveness,
            SaTimer::Expire,
        ] {
            self.timers.cancel(Timer::Sa(sa.id, timer));
        }
        let at = now + self.settings.linger;
        self.timers.set(Timer::Sa(sa.id, SaTimer::Forget), at);
    }

    /// A child is succeeded: whoever rekeyed deletes it. If that is the peer and it does not, we
    /// do after a while.
    pub(crate) fn child_replaced(&mut self, now: Instant, sa: &mut IkeSa, spi: Spi) {
        if let Some(child) = sa.child_mut(spi)
            && child.stage == ChildStage::Live
        {
            child.stage = ChildStage::Replaced;
        }
        self.timers.cancel(Timer::Child(spi, ChildTimer::Rekey));
        let at = now + self.settings.linger;
        self.timers.set(Timer::Child(spi, ChildTimer::Linger), at);
    }
}
