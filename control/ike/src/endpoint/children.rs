//! Child SAs in the data plane: installing, switching over, removing.
//!
//! Make before break: a new inbound SA is added before the message goes out that lets the peer use
//! it; an old inbound SA stays for the drain time after its deletion. Which child is sent with is
//! noted per configured child in `ConnectionState::active`.

use std::time::Instant;

use hawser_api::{Secret, Selectors, Spi};
use hawser_ike_crypto::{ChildKeys, Nonces, Role};

use super::{Endpoint, Inhabitant};
use crate::{
    config::{ConnectionId, Lifetime},
    event::{Event, Inbound, Outbound},
    fault::Fault,
    proposal::{self, select::ChildSuite},
    sa::{ChildSa, IkeSa, child::ChildStage},
    timer::{ChildTimer, Timer},
};

/// When a new child is sent with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    /// At once: the peer has its inbound SA.
    Now,
    /// When its predecessor is deleted, or after a while: the peer's inbound SA is there when our
    /// answer has arrived. At once if there is none to send with.
    Later,
    /// When the peer has shown that it has our answer to IKE_AUTH ([`Endpoint::prove`]): it came
    /// with an IKE SA that the peer began.
    Proven,
    /// It will be deleted again.
    Never,
}

/// All that a new child is made of.
pub(crate) struct NewChild<'a> {
    pub(crate) config: u16,
    pub(crate) inbound: Spi,
    pub(crate) outbound: Spi,
    pub(crate) suite: ChildSuite,
    pub(crate) selectors: Selectors,
    /// Of its own key exchange.
    pub(crate) secret: Option<&'a hawser_ike_crypto::Secret>,
    pub(crate) nonces: Nonces<'a>,
    /// Our part in the exchange that makes it.
    pub(crate) role: Role,
    pub(crate) switch: Switch,
}

impl Endpoint {
    /// Installs a new child. Fails only if the SA has no keys, or no cipher fits.
    pub(crate) fn install_child(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        new: NewChild<'_>,
    ) -> Result<(), Fault> {
        let cipher = new.suite.cipher;
        let internal = |what: &str| Fault::Internal(what.into());
        let suite = proposal::suite(cipher.encr(), cipher.integ())
            .ok_or_else(|| internal("no such cipher"))?;
        let config = self
            .connection(sa.connection)
            .ok_or_else(|| internal("no such connection"))?;
        let settings = config
            .children
            .get(usize::from(new.config))
            .ok_or_else(|| internal("no such child"))?;
        let keys: ChildKeys = match sa.protection() {
            Some(protection) => protection.keys.child(cipher, new.secret, new.nonces),
            None => return Err(internal("there are no keys yet")),
        };
        let (ours, theirs) = match new.role {
            Role::Initiator => (keys.initiator_to_responder, keys.responder_to_initiator),
            Role::Responder => (keys.responder_to_initiator, keys.initiator_to_responder),
        };
        self.report_path(sa);
        self.emit(Event::InboundAdd(Inbound {
            connection: sa.connection,
            child: new.config,
            spi: new.inbound,
            suite,
            key: Secret::new(theirs.expose().to_vec()),
            esn: new.suite.esn,
            replay_window: settings.replay_window,
            selectors: new.selectors.clone(),
            hard_limit: settings.lifetime.hard,
        }));
        self.inbound.insert(new.inbound, Inhabitant::Child(sa.id));
        sa.children.push(ChildSa {
            config: new.config,
            inbound: new.inbound,
            outbound: new.outbound,
            suite,
            group: new.suite.group,
            esn: new.suite.esn,
            selectors: new.selectors,
            outbound_key: Secret::new(ours.expose().to_vec()),
            born: now,
            stage: ChildStage::Live,
        });
        self.arm_child(now, new.inbound, settings.lifetime);
        let sending = self
            .connections
            .get(&sa.connection)
            .is_some_and(|c| c.active.contains_key(&new.config));
        match new.switch {
            Switch::Now => self.switch_to(now, sa, new.inbound),
            Switch::Later if !sending => self.switch_to(now, sa, new.inbound),
            Switch::Later => {
                let timer = Timer::Child(new.inbound, ChildTimer::Switch);
                self.timers.set(timer, now + self.settings.outbound_switch);
            }
            Switch::Proven | Switch::Never => {}
        }
        Ok(())
    }

    fn arm_child(&mut self, now: Instant, spi: Spi, lifetime: Lifetime) {
        let early = self.jittered(lifetime);
        self.timers
            .set(Timer::Child(spi, ChildTimer::Rekey), now + early);
        self.timers
            .set(Timer::Child(spi, ChildTimer::Expire), now + lifetime.hard);
    }

    /// The time until rekeying, less a random share of the jitter.
    pub(crate) fn jittered(&mut self, lifetime: Lifetime) -> std::time::Duration {
        let most = lifetime.rekey_after * u32::from(lifetime.jitter_percent) / 100;
        let share = f64::from(self.random_u32()) / f64::from(u32::MAX);
        lifetime.rekey_after - most.mul_f64(share)
    }

    /// Sends with this child of `sa` from now on.
    pub(crate) fn switch_to(&mut self, now: Instant, sa: &IkeSa, inbound: Spi) {
        self.timers
            .cancel(Timer::Child(inbound, ChildTimer::Switch));
        let Some(child) = sa.child(inbound) else {
            return;
        };
        let Some(connection) = self.connections.get_mut(&sa.connection) else {
            return;
        };
        if connection.active.insert(child.config, inbound) == Some(inbound) {
            return;
        }
        let hard = connection
            .config
            .children
            .get(usize::from(child.config))
            .map_or_else(Default::default, |c| c.lifetime.hard);
        let age = now.saturating_duration_since(child.born);
        let event = Event::OutboundSet(Outbound {
            connection: sa.connection,
            child: child.config,
            spi: child.outbound,
            suite: child.suite,
            key: child.outbound_key.clone(),
            esn: child.esn,
            selectors: child.selectors.clone(),
            hard_limit: hard.saturating_sub(age),
        });
        self.touched.insert(sa.connection);
        self.emit(event);
    }

    /// A request came again: the peer does not have our answer, so it does not know what that made,
    /// and cannot delete what that replaced.
    pub(crate) fn postpone_switches(&mut self, now: Instant, sa: &IkeSa) {
        let pauses = [
            (ChildTimer::Switch, self.settings.outbound_switch),
            (ChildTimer::Linger, self.settings.linger),
        ];
        for child in &sa.children {
            for (timer, pause) in pauses {
                let timer = Timer::Child(child.inbound, timer);
                if self.timers.get(timer).is_some() {
                    self.timers.set(timer, now + pause);
                }
            }
        }
    }

    /// Removes a child that either side deleted. With `drain`, packets under way are still taken
    /// for a while.
    pub(crate) fn drop_child(&mut self, now: Instant, sa: &mut IkeSa, inbound: Spi, drain: bool) {
        let Some(position) = sa.children.iter().position(|c| c.inbound == inbound) else {
            return;
        };
        let child = sa.children.remove(position);
        for timer in ChildTimer::LIVING {
            self.timers.cancel(Timer::Child(inbound, timer));
        }
        self.replace_active(now, sa, child.config, inbound);
        if drain {
            self.inbound
                .insert(inbound, Inhabitant::Draining(sa.connection, child.config));
            self.timers.set(
                Timer::Child(inbound, ChildTimer::Drain),
                now + self.settings.drain,
            );
        } else {
            self.remove_inbound(sa.connection, child.config, inbound);
        }
    }

    /// The drain time is over.
    pub(crate) fn on_drained(&mut self, spi: Spi) {
        if let Some(Inhabitant::Draining(connection, child)) = self.inbound.get(&spi).copied() {
            self.remove_inbound(connection, child, spi);
        }
    }

    fn remove_inbound(&mut self, connection: ConnectionId, child: u16, spi: Spi) {
        self.inbound.remove(&spi);
        self.touched.insert(connection);
        self.emit(Event::InboundRemove {
            connection,
            child,
            spi,
        });
    }

    /// A child that is about to be deleted is not sent with any more.
    pub(crate) fn stop_sending(&mut self, now: Instant, sa: &IkeSa, inbound: Spi) {
        if let Some(config) = sa.child(inbound).map(|c| c.config) {
            self.replace_active(now, sa, config, inbound);
        }
    }

    /// If the child that went was sent with, sends with the newest other one, or not at all.
    fn replace_active(&mut self, now: Instant, sa: &IkeSa, config: u16, gone: Spi) {
        let Some(connection) = self.connections.get_mut(&sa.connection) else {
            return;
        };
        if connection.active.get(&config) != Some(&gone) {
            return;
        }
        connection.active.remove(&config);
        // A peer that deletes what we send with has something else. Most likely that is what it
        // asked for, even if it has not shown that yet; but what it has shown comes first.
        let mut others: Vec<_> = connection.sas.clone();
        others.sort_by_key(|id| self.sas.get(id).is_some_and(|sa| sa.unproven));
        if let Some(next) = newest(sa, config) {
            self.switch_to(now, sa, next);
            return;
        }
        for other in others {
            let Some(other) = self.sas.remove(&other) else {
                continue;
            };
            let next = newest(&other, config);
            if let Some(next) = next {
                self.switch_to(now, &other, next);
            }
            self.sas.insert(other.id, other);
            if next.is_some() {
                return;
            }
        }
        self.touched.insert(sa.connection);
        self.emit(Event::OutboundRemove {
            connection: sa.connection,
            child: config,
        });
    }

    /// Takes all children down, those of the peer's too that drain already.
    pub(crate) fn drop_children(&mut self, now: Instant, sa: &mut IkeSa, drain: bool) {
        // The ones not sent with first, so that sending does not move through them all.
        let active: Vec<Spi> = self
            .connections
            .get(&sa.connection)
            .map(|c| c.active.values().copied().collect())
            .unwrap_or_default();
        let mut spis: Vec<Spi> = sa.children.iter().map(|c| c.inbound).collect();
        spis.sort_by_key(|s| active.contains(s));
        for spi in spis {
            self.drop_child(now, sa, spi, drain);
        }
    }

    /// A child's hard lifetime ends.
    pub(crate) fn on_child_expired(&mut self, sa: &mut IkeSa, spi: Spi) {
        let Some(child) = sa.child_mut(spi) else {
            return;
        };
        if child.stage == ChildStage::Live {
            child.stage = ChildStage::Closing;
            let connection = sa.connection;
            self.fail(connection, &Fault::Expired("a child SA"));
        }
        sa.want(crate::sa::pending::Task::CloseChild(spi));
    }
}

/// The newest child in use for this configured child.
fn newest(sa: &IkeSa, config: u16) -> Option<Spi> {
    sa.children
        .iter()
        .rev()
        .filter(|c| c.config == config && c.stage != ChildStage::Closing)
        .min_by_key(|c| c.stage != ChildStage::Live)
        .map(|c| c.inbound)
}
