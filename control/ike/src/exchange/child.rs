//! CREATE_CHILD_SA for child SAs, our side begins (RFC 7296, sections 1.3.1, 1.3.3, 2.8.1).
//!
//! If the peer rekeyed the same child meanwhile, there are two successors. The one whose exchange
//! has the lowest of the four nonces goes, deleted by whoever began that exchange; the other's
//! beginner deletes the old child. Until then both can be received on.

use std::time::{Duration, Instant};

use hawser_api::{Selectors, Spi};
use hawser_ike_crypto::{Group, KeyExchange, Nonces, Role, Secret};
use hawser_ike_wire::{
    self as wire, ChildSpi, ExchangeType, Notify, NotifyType, Payload, Payloads, ProtocolId,
};

use super::{
    auth_initiator::{check_selectors, refused_child},
    error_of, lower, sa_payload,
};
use crate::{
    config::{Child, ConnectionId},
    endpoint::{Endpoint, NewChild, Switch},
    fault::{During, Fault},
    proposal::select,
    sa::{
        IkeSa,
        child::ChildStage,
        pending::{Pending, PendingChild, Task},
    },
    selector,
    timer::{ChildTimer, ConnectionTimer, Timer},
};

/// After TEMPORARY_FAILURE: at least this long, and up to three times as long, so that two sides
/// that met do not meet again (RFC 7296, section 2.25 asks for a pause).
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// After a refusal that only a change of configuration heals.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

impl Endpoint {
    pub(crate) fn want_child_rekey(&mut self, sa: &mut IkeSa, spi: Spi) {
        if sa.child(spi).is_some_and(|c| c.stage == ChildStage::Live) {
            sa.want(Task::RekeyChild(spi));
        }
    }

    /// The initiator of an IKE SA makes those configured children that did not come with it.
    pub(crate) fn want_missing_children(&mut self, sa: &mut IkeSa) {
        let Some(config) = self.connection(sa.connection) else {
            return;
        };
        let retrying = self
            .timers
            .get(Timer::Connection(sa.connection, ConnectionTimer::Children))
            .is_some();
        for n in 0..config.children.len() as u16 {
            let first_failed = n == 0 && retrying;
            if !first_failed && !sa.children.iter().any(|c| c.config == n) {
                sa.want(Task::MakeChild(n));
            }
        }
    }

    /// Makes children that are missing for whatever reason, if the connection is to be up.
    pub(crate) fn make_missing_children(&mut self, now: Instant, id: ConnectionId) {
        let Some(c) = self.connections.get(&id) else {
            return;
        };
        if let Some(current) = c.current.filter(|_| c.wanted) {
            self.with_sa(now, current, |endpoint, sa| {
                if sa.is_established() {
                    endpoint.want_missing_children(sa);
                }
            });
        }
    }

    pub(crate) fn retry_children(&mut self, now: Instant, id: ConnectionId, pause: Duration) {
        let timer = Timer::Connection(id, ConnectionTimer::Children);
        self.timers.set(timer, now + pause);
    }

    /// The child that should have come with the IKE SA did not.
    pub(crate) fn first_child_failed(&mut self, now: Instant, sa: &mut IkeSa, fault: &Fault) {
        self.fail(sa.connection, fault);
        self.retry_children(now, sa.connection, REFUSED_PAUSE);
    }

    pub(crate) fn begin_child_rekey(&mut self, now: Instant, sa: &mut IkeSa, spi: Spi) {
        let Some(child) = sa.child(spi).filter(|c| c.stage == ChildStage::Live) else {
            return;
        };
        let (config, group) = (child.config, child.group);
        self.send_child(now, sa, config, Some(spi), group, Vec::new());
    }

    pub(crate) fn begin_child(&mut self, now: Instant, sa: &mut IkeSa, config: u16) {
        let there = |c: &crate::sa::ChildSa| c.config == config && c.stage == ChildStage::Live;
        if !sa.children.iter().any(there) {
            self.send_child(now, sa, config, None, None, Vec::new());
        }
    }

    /// Sends the request. `group`: the one to try first, if it is allowed.
    fn send_child(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        number: u16,
        replaces: Option<Spi>,
        group: Option<Group>,
        mut tried: Vec<Group>,
    ) {
        let Some(config) = self.connection(sa.connection) else {
            return;
        };
        let Some(child) = config.children.get(usize::from(number)) else {
            return;
        };
        let allowed: Vec<Group> = child
            .proposals
            .iter()
            .flat_map(|p| p.groups.clone())
            .collect();
        let group = group
            .filter(|g| allowed.contains(g))
            .or_else(|| child.proposals.first()?.groups.first().copied());
        tried.extend(group);
        let key_exchange = group.map(|g| KeyExchange::generate(g, &mut *self.random));
        let nonce = self.new_nonce();
        let spi = self.promise_spi();
        let mut payloads = Vec::new();
        if let Some(old) = replaces {
            payloads.push(Payload::Notify(Notify::for_child(
                NotifyType::RekeySa,
                ProtocolId::Esp,
                ChildSpi(old.0),
            )));
        }
        let proposals = (1u8..)
            .zip(&child.proposals)
            .map(|(n, p)| p.to_wire(n, spi.0.to_be_bytes().to_vec(), true))
            .collect();
        payloads.push(sa_payload(proposals));
        payloads.push(Payload::Nonce(wire::Nonce(nonce.clone())));
        if let Some(kx) = &key_exchange {
            payloads.push(Payload::Ke(wire::KeyExchange {
                group: kx.group().number(),
                data: kx.public().to_vec(),
            }));
        }
        payloads.push(Payload::TsInitiator(selector::to_wire(&child.local_ts)));
        payloads.push(Payload::TsResponder(selector::to_wire(&child.remote_ts)));
        let pending = Pending::Child(Box::new(PendingChild {
            child: number,
            replaces,
            spi,
            nonce,
            key_exchange,
            tried,
            collision: None,
            deleted: Vec::new(),
        }));
        self.send_request(now, sa, ExchangeType::CreateChildSa, payloads, pending);
    }

    /// The answer to our request for a child.
    pub(crate) fn on_child_response(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        mut pending: PendingChild,
        payloads: &Payloads,
    ) {
        self.release_spi(pending.spi);
        let Some(config) = self.connection(sa.connection) else {
            return;
        };
        let Some(child) = config.children.get(usize::from(pending.child)) else {
            return;
        };
        if payloads.sa().is_none() {
            self.on_child_refusal(now, sa, pending, child, payloads);
            return;
        }
        match self.accept_child(now, sa, &mut pending, child, payloads) {
            Ok(ours_is_lowest) => self.settle_child(now, sa, &pending, ours_is_lowest),
            Err(fault) => {
                let lasting = fault != Fault::Temporary;
                self.child_refused(now, sa, pending, &fault, lasting);
            }
        }
    }

    /// Installs the child that the peer agreed to. Says whether our exchange lost against the
    /// peer's.
    fn accept_child(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        pending: &mut PendingChild,
        child: &Child,
        payloads: &Payloads,
    ) -> Result<bool, Fault> {
        let during = During::ChildRekey;
        let what = "peer's answer lacks SA, nonce or traffic selectors";
        let CoreOfChild {
            offer,
            nonce,
            tsi,
            tsr,
        } = CoreOfChild::of(payloads).ok_or(Fault::Broken { during, what })?;
        let chosen =
            select::child_answer(&child.proposals, &offer.proposals, true).ok_or_else(|| {
                Fault::ForeignChoice {
                    during,
                    theirs: select::list(&offer.proposals),
                    ours: select::list_child(&child.proposals, true),
                }
            })?;
        let outbound = select::esp_spi(&chosen.spi)?;
        if pending.deleted.contains(&outbound) {
            return Err(Fault::Temporary);
        }
        let secret = agree(pending.key_exchange.take(), chosen.what.group, payloads)?;
        let selectors = Selectors {
            local: selector::from_wire(tsi),
            remote: selector::from_wire(tsr),
        };
        check_selectors(child, &selectors)?;
        let lowest = lower(&pending.nonce, &nonce.0);
        let loses = pending
            .collision
            .as_ref()
            .is_some_and(|c| lowest < c.lowest_nonce);
        self.install_child(
            now,
            sa,
            NewChild {
                config: pending.child,
                inbound: pending.spi,
                outbound,
                suite: chosen.what,
                selectors,
                secret: secret.as_ref(),
                nonces: Nonces {
                    initiator: &pending.nonce,
                    responder: &nonce.0,
                },
                role: Role::Initiator,
                switch: if loses { Switch::Never } else { Switch::Now },
            },
        )?;
        Ok(loses)
    }

    /// Which of old child, ours and the peer's goes, and by whom.
    fn settle_child(&mut self, now: Instant, sa: &mut IkeSa, pending: &PendingChild, loses: bool) {
        let Some(old) = pending.replaces else {
            self.log_child(sa, pending.spi);
            return;
        };
        self.count(sa.connection, |c| c.child_rekeys += 1);
        if loses {
            if let Some(ours) = sa.child_mut(pending.spi) {
                ours.stage = ChildStage::Closing;
            }
            sa.want(Task::CloseChild(pending.spi));
            // The peer deletes the old one.
            self.child_replaced(now, sa, old);
            self.log(
                sa.connection,
                "both sides rekeyed the child SA at once: the peer's successor stays".into(),
            );
            return;
        }
        if let Some(collision) = &pending.collision {
            // The peer deletes its own.
            let made = collision.made;
            self.timers.cancel(Timer::Child(made, ChildTimer::Switch));
            self.child_replaced(now, sa, made);
        }
        if let Some(child) = sa.child_mut(old) {
            child.stage = ChildStage::Closing;
            sa.want(Task::CloseChild(old));
        }
        self.log_child(sa, pending.spi);
    }

    /// The peer answered without an SA.
    fn on_child_refusal(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        pending: PendingChild,
        child: &Child,
        payloads: &Payloads,
    ) {
        if let Some(notify) = payloads.notify(NotifyType::InvalidKePayload) {
            let wanted = notify.group();
            let group = wanted.and_then(Group::from_number).filter(|g| {
                !pending.tried.contains(g) && child.proposals.iter().any(|p| p.groups.contains(g))
            });
            if let Some(group) = group {
                self.try_other_group(now, sa, pending, group);
                return;
            }
            let ours = select::list_child(&child.proposals, true);
            let fault = Fault::GroupRefused { wanted, ours };
            self.child_refused(now, sa, pending, &fault, true);
            return;
        }
        match error_of(payloads) {
            Some(NotifyType::TemporaryFailure) => {
                if self.is_unproven(&pending) {
                    self.postpone_switches(now, sa);
                }
                self.child_refused(now, sa, pending, &Fault::Temporary, false);
            }
            Some(NotifyType::ChildSaNotFound) if self.is_unproven(&pending) => {
                self.postpone_switches(now, sa);
                self.child_refused(now, sa, pending, &Fault::Temporary, false);
            }
            Some(NotifyType::ChildSaNotFound) => self.child_unknown_to_peer(now, sa, &pending),
            _ => {
                let fault = refused_child(During::ChildRekey, child, payloads, true);
                self.child_refused(now, sa, pending, &fault, true);
            }
        }
    }

    fn try_other_group(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        pending: PendingChild,
        group: Group,
    ) {
        let old = pending.replaces;
        let needless =
            old.is_some_and(|old| sa.child(old).is_none_or(|c| c.stage != ChildStage::Live));
        if pending.collision.is_some() || needless {
            // The peer's successor is there already.
            self.child_refused(now, sa, pending, &Fault::Temporary, false);
            return;
        }
        self.send_child(now, sa, pending.child, old, Some(group), pending.tried);
    }

    /// Whether the child that we want to rekey was made at the peer's request, and the peer has not
    /// shown yet that it has our answer.
    fn is_unproven(&self, pending: &PendingChild) -> bool {
        pending.replaces.is_some_and(|old| {
            let timer = Timer::Child(old, ChildTimer::Switch);
            self.timers.get(timer).is_some()
        })
    }

    /// We believe in a child that the peer does not have: it is gone, and made anew.
    fn child_unknown_to_peer(&mut self, now: Instant, sa: &mut IkeSa, pending: &PendingChild) {
        if let Some(old) = pending.replaces
            && sa.child(old).is_some()
        {
            self.log(
                sa.connection,
                format!("peer does not know the child SA {:#010x} any more", old.0),
            );
            self.drop_child(now, sa, old, true);
        }
        let there = sa
            .children
            .iter()
            .any(|c| c.config == pending.child && c.stage == ChildStage::Live);
        if !there {
            sa.want(Task::MakeChild(pending.child));
        }
    }

    /// No child came of it: later again, unless the peer made one meanwhile.
    pub(crate) fn child_refused(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        pending: PendingChild,
        fault: &Fault,
        lasting: bool,
    ) {
        self.release_spi(pending.spi);
        if let Some(collision) = &pending.collision {
            if let Some(old) = pending.replaces {
                self.child_replaced(now, sa, old);
            }
            if sa.child(collision.made).is_some() {
                return;
            }
        }
        if lasting {
            self.fail(sa.connection, fault);
        }
        let pause = if lasting {
            REFUSED_PAUSE
        } else {
            self.busy_pause()
        };
        match pending.replaces {
            Some(old) => {
                if sa.child(old).is_some_and(|c| c.stage == ChildStage::Live) {
                    let timer = Timer::Child(old, ChildTimer::Rekey);
                    self.timers.set(timer, now + pause);
                }
            }
            None => self.retry_children(now, sa.connection, pause),
        }
    }

    /// Between one and three times [`BUSY_PAUSE`].
    pub(crate) fn busy_pause(&mut self) -> Duration {
        let share = f64::from(self.random_u32()) / f64::from(u32::MAX);
        BUSY_PAUSE + (BUSY_PAUSE * 2).mul_f64(share)
    }

    pub(crate) fn log_child(&mut self, sa: &IkeSa, spi: Spi) {
        let Some(child) = sa.child(spi) else {
            return;
        };
        let detail = format!(
            "child SA established: {}{}, SPIs {:#010x} in and {:#010x} out, {}",
            suite_name(child.suite),
            child
                .group
                .map(|g| format!(" with {g}"))
                .unwrap_or_default(),
            child.inbound.0,
            child.outbound.0,
            selector::pair(&child.selectors),
        );
        self.log(sa.connection, detail);
    }
}

fn suite_name(suite: hawser_aead::Suite) -> String {
    suite.to_string()
}

/// What a CREATE_CHILD_SA request or answer for a child SA cannot do without (RFC 7296, section
/// 1.3.1).
pub(super) struct CoreOfChild<'p> {
    pub(super) offer: &'p wire::SecurityAssociation,
    pub(super) nonce: &'p wire::Nonce,
    pub(super) tsi: &'p wire::TrafficSelectors,
    pub(super) tsr: &'p wire::TrafficSelectors,
}

impl<'p> CoreOfChild<'p> {
    /// Nothing if the message lacks a part.
    pub(super) fn of(payloads: &'p Payloads) -> Option<Self> {
        Some(Self {
            offer: payloads.sa()?,
            nonce: payloads.nonce()?,
            tsi: payloads.ts_initiator()?,
            tsr: payloads.ts_responder()?,
        })
    }
}

/// The shared secret of a child's own key exchange, if one was chosen.
pub(super) fn agree(
    key_exchange: Option<KeyExchange>,
    group: Option<Group>,
    payloads: &Payloads,
) -> Result<Option<Secret>, Fault> {
    let broken = |what| Fault::Broken {
        during: During::ChildRekey,
        what,
    };
    let Some(group) = group else {
        return Ok(None);
    };
    let (Some(ours), Some(ke)) = (key_exchange, payloads.ke()) else {
        return Err(broken("peer chose a group without a key of it"));
    };
    if ours.group() != group || ke.group != group.number() {
        return Err(broken("peer's key is of another group than ours"));
    }
    ours.agree(&ke.data)
        .map(Some)
        .map_err(|e| Fault::PublicValue(e.to_string()))
}
