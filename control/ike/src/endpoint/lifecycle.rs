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

/// What becomes of an SA when another one of its connection comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rivalry {
    /// Made at once with it: it stays, and the other one goes.
    Wins,
    /// Made at once with it: it goes.
    Loses,
    /// It was there before.
    Older,
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
        self.yield_attempt(now, sa);
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

    /// The peer shows that it has our answer to IKE_AUTH, by any message that it could not have
    /// sent without. Only now the SA counts: before, the peer may not receive on it, and knows
    /// nothing that could have both sides decide alike between it and others.
    pub(crate) fn prove(&mut self, now: Instant, sa: &mut IkeSa) {
        if sa.is_established() && std::mem::take(&mut sa.unproven) {
            self.touched.insert(sa.connection);
            self.resolve_rivals(now, sa, sa.initial_contact);
        }
    }

    /// Other SAs of the connection that both sides have.
    fn rivals(&self, sa: &IkeSa) -> Vec<SaId> {
        let Some(connection) = self.connections.get(&sa.connection) else {
            return Vec::new();
        };
        let counts = |s: &IkeSa| s.is_established() && !s.unproven;
        connection
            .sas
            .iter()
            .copied()
            .filter(|id| *id != sa.id)
            .filter(|id| self.sas.get(id).is_some_and(|s| counts(s)))
            .collect()
    }

    /// Whether both sides initiated at once: each SA began before the other one was there. Both
    /// sides say the same of it. For a side sends IKE_AUTH only if it has no other SA
    /// ([`Endpoint::yield_attempt`]); if both sent theirs before they got the other's, then each
    /// had answered the other's IKE_SA_INIT before it had an SA.
    fn is_simultaneous(&self, sa: &IkeSa, rival: &IkeSa) -> bool {
        let before = |a: &IkeSa, b: &IkeSa| b.established.is_none_or(|at| a.begun <= at);
        before(sa, rival) && before(rival, sa)
    }

    /// What becomes of an SA of the connection now that `sa` counts.
    fn rivalry(&self, sa: &IkeSa, rival: SaId) -> Rivalry {
        match self.sas.get(&rival) {
            Some(rival) if self.is_simultaneous(sa, rival) => {
                if claim(rival) >= claim(sa) {
                    Rivalry::Wins
                } else {
                    Rivalry::Loses
                }
            }
            _ => Rivalry::Older,
        }
    }

    /// One SA per connection: decides between one that counts from now on and those that did.
    /// `initial_contact`: the initiator of the new one, whichever side, says that it has no other.
    pub(crate) fn resolve_rivals(&mut self, now: Instant, sa: &mut IkeSa, initial_contact: bool) {
        let rivals: Vec<(SaId, Rivalry)> = self
            .rivals(sa)
            .into_iter()
            .map(|rival| (rival, self.rivalry(sa, rival)))
            .collect();
        let winner = rivals.iter().find(|(_, r)| *r == Rivalry::Wins);
        let winner = winner.map(|(rival, _)| *rival);
        if let Some(connection) = self.connections.get_mut(&sa.connection) {
            connection.current = Some(winner.unwrap_or(sa.id));
        }
        // First what is sent with, then what goes.
        match winner {
            Some(winner) => self.with_sa(now, winner, |endpoint, winner| {
                endpoint.send_with_children_of(now, winner);
            }),
            None => self.send_with_children_of(now, sa),
        }
        for (rival, rivalry) in rivals {
            match rivalry {
                Rivalry::Wins => self.let_go(now, sa),
                Rivalry::Loses => {
                    self.with_sa(now, rival, |endpoint, rival| endpoint.let_go(now, rival));
                }
                // The peer does not know it any more. What is still under way is taken.
                Rivalry::Older if initial_contact => {
                    self.with_sa(now, rival, |endpoint, rival| {
                        endpoint.leave(now, rival, true);
                        rival.phase = Phase::Dead;
                    });
                }
                // Re-authentication, or the user's wish.
                Rivalry::Older if sa.is_initiator() => {
                    self.with_sa(now, rival, |_, rival| rival.want(Task::CloseIke));
                }
                // The peer re-authenticates and will delete it, or has lost it without saying so.
                Rivalry::Older => {
                    let at = now + self.settings.linger;
                    self.timers.set(Timer::Sa(rival, SaTimer::Forget), at);
                    self.with_sa(now, rival, |_, rival| rival.want(Task::Liveness));
                }
            }
        }
    }

    /// Of two SAs that were made at once, the one that goes is closed by its initiator.
    fn let_go(&mut self, now: Instant, sa: &mut IkeSa) {
        if sa.is_initiator() {
            sa.want(Task::CloseIke);
        } else {
            let at = now + self.settings.linger;
            self.timers.set(Timer::Sa(sa.id, SaTimer::Forget), at);
        }
    }

    /// The peer's SA is there before our attempt came to IKE_AUTH: the attempt is needless. What
    /// the peer would think of a second SA with INITIAL_CONTACT need not be known then.
    fn yield_attempt(&mut self, now: Instant, sa: &IkeSa) {
        let connection = self.connections.get(&sa.connection);
        let Some(attempt) = connection.and_then(|c| c.attempt) else {
            return;
        };
        self.with_sa(now, attempt, |endpoint, attempt| {
            if matches!(attempt.phase, Phase::InitSent(_)) {
                let connection = attempt.connection;
                endpoint.log(connection, "the peer was first: our attempt ends".into());
                endpoint.abandon(now, attempt);
            }
        });
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
        if old.unchecked {
            // The answer to a check on the old SA says nothing on the new one.
            new.want(Task::CheckAddress);
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

/// Of two SAs made at once the one with the greater claim stays. One with INITIAL_CONTACT, because
/// the other side may have taken its rival away for it; ours of two, because a peer that decides
/// nothing did so with its own. Two sides like us never both say it: whoever sends IKE_AUTH last has
/// the other's IKE_SA_INIT by then. If neither says it, as with rekeying, the one without the lowest
/// nonce (RFC 7296, section 2.8.1).
fn claim(sa: &IkeSa) -> (bool, bool, &[u8]) {
    let said = sa.initial_contact;
    (said && sa.began_first, said, &sa.lowest_nonce)
}
