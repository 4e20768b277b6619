//! CREATE_CHILD_SA for the IKE SA itself, both sides (RFC 7296, sections 1.3.2, 2.8, 2.8.2, 2.18).
//!
//! The new SA takes the children over. If both sides rekey at once, both new SAs exist for a
//! while; the one with the lowest of the four nonces is deleted by its initiator, and the other's
//! initiator deletes the old SA. Until that is decided the children stay with the old one.

use std::time::{Duration, Instant};

use hawser_ike_crypto::{Group, IkeKeys, IkeSuite, KeyExchange, Nonces, Role, Secret};
use hawser_ike_wire::{
    self as wire, ExchangeType, IkeSpi, NotifyType, Payload, Payloads, ProtocolId,
};

use super::{child_responder::ike_proposals, error_of, lower, sa_payload};
use crate::{
    config::Connection,
    endpoint::Endpoint,
    fault::{During, Fault},
    proposal::select,
    sa::{
        Established, IkeSa, Phase, Protection,
        pending::{Pending, PendingRekey, RekeyCollision, Task},
        window::Window,
    },
    timer::{SaTimer, Timer},
};

/// After a refusal that only a change of configuration heals.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

impl Endpoint {
    pub(crate) fn begin_ike_rekey(&mut self, now: Instant, sa: &mut IkeSa) {
        let group = sa.in_use().map(|e| e.keys.suite.group);
        self.send_rekey(now, sa, group, Vec::new());
    }

    fn send_rekey(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        group: Option<Group>,
        mut tried: Vec<Group>,
    ) {
        let Some(config) = self.connection(sa.connection) else {
            return;
        };
        let group = group
            .filter(|g| config.proposals.iter().any(|p| p.groups.contains(g)))
            .or_else(|| config.proposals.first()?.groups.first().copied());
        let Some(group) = group else {
            return;
        };
        tried.push(group);
        let key_exchange = KeyExchange::generate(group, &mut *self.random);
        let nonce = self.new_nonce();
        let spi = self.new_ike_spi();
        let proposals = (1u8..)
            .zip(&config.proposals)
            .map(|(n, p)| p.to_wire(n, spi.0.to_be_bytes().to_vec()))
            .collect();
        let payloads = vec![
            sa_payload(proposals),
            Payload::Nonce(wire::Nonce(nonce.clone())),
            Payload::Ke(wire::KeyExchange {
                group: group.number(),
                data: key_exchange.public().to_vec(),
            }),
        ];
        let pending = Pending::Rekey(Box::new(PendingRekey {
            spi,
            nonce,
            key_exchange,
            tried,
            collision: None,
        }));
        self.send_request(now, sa, ExchangeType::CreateChildSa, payloads, pending);
    }

    /// The peer rekeys the IKE SA.
    pub(super) fn on_rekey_request(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        config: &Connection,
        payloads: &Payloads,
    ) -> Result<Vec<Payload>, Fault> {
        let (Some(offer), Some(ke), Some(nonce)) = (payloads.sa(), payloads.ke(), payloads.nonce())
        else {
            return Err(Fault::Broken {
                during: During::IkeRekey,
                what: "peer's request lacks SA, KE or nonce",
            });
        };
        match sa.window.pending() {
            // RFC 7296, section 2.25.2: not while we make, rekey or delete a child.
            Some(Pending::Child(_) | Pending::CloseChild(_) | Pending::CloseIke) => {
                return Err(Fault::Temporary);
            }
            Some(Pending::Rekey(ours)) if ours.collision.is_some() => {
                return Err(Fault::Temporary);
            }
            _ => {}
        }
        let offer = ike_proposals(&offer.proposals);
        let chosen = select::ike(&config.proposals, &offer, Group::from_number(ke.group))
            .ok_or_else(|| Fault::IkeProposal {
                theirs: select::list(&offer),
                ours: select::list_ike(&config.proposals),
            })?;
        let suite = chosen.what;
        let Some(key_exchange) = self.answer_group(Some(suite.group), payloads)? else {
            return Err(Fault::Temporary);
        };
        let public = key_exchange.public().to_vec();
        let secret = key_exchange
            .agree(&ke.data)
            .map_err(|e| Fault::PublicValue(e.to_string()))?;
        let our_nonce = self.new_nonce();
        let spi = self.new_ike_spi();
        let answer = vec![
            sa_payload(vec![
                chosen.answer(ProtocolId::Ike, spi.0.to_be_bytes().to_vec()),
            ]),
            Payload::Nonce(wire::Nonce(our_nonce.clone())),
            Payload::Ke(wire::KeyExchange {
                group: suite.group.number(),
                data: public,
            }),
        ];
        let material = Material {
            suite,
            secret,
            initiator_nonce: nonce.0.clone(),
            responder_nonce: our_nonce,
            initiator_spi: ike_spi(&chosen.spi)?,
            responder_spi: spi,
            role: Role::Responder,
        };
        let mut new = self.successor(now, sa, &material)?;
        if let Some(Pending::Rekey(ours)) = sa.window.pending_mut() {
            ours.collision = Some(RekeyCollision {
                lowest_nonce: new.lowest_nonce.clone(),
                made: new.id,
            });
            new.undecided = Some(sa.id);
            // Kept beside, to be forgotten if nothing comes of it.
            let at = now + config.dpd.timeout;
            self.timers.set(Timer::Sa(new.id, SaTimer::Forget), at);
            if let Some(c) = self.connections.get_mut(&sa.connection) {
                c.sas.push(new.id);
            }
        } else {
            self.inherit(sa, &mut new);
            self.replace(now, sa);
            self.log_rekeyed(&new);
        }
        self.hatch(new);
        Ok(answer)
    }

    /// The answer to our rekeying of the IKE SA.
    pub(crate) fn on_rekey_response(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        pending: PendingRekey,
        payloads: &Payloads,
    ) {
        let Some(config) = self.connection(sa.connection) else {
            return;
        };
        if payloads.sa().is_none() {
            self.on_rekey_refusal(now, sa, &config, pending, payloads);
            return;
        }
        let PendingRekey {
            spi,
            nonce,
            key_exchange,
            tried: _,
            collision,
        } = pending;
        match self.accept_rekey(now, sa, &config, (spi, nonce, key_exchange), payloads) {
            Ok(new) => self.settle_rekey(now, sa, new, collision),
            Err(fault) => self.rekey_failed(now, sa, collision, &fault, true),
        }
    }

    fn accept_rekey(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        config: &Connection,
        ours: (IkeSpi, Vec<u8>, KeyExchange),
        payloads: &Payloads,
    ) -> Result<Box<IkeSa>, Fault> {
        let during = During::IkeRekey;
        let broken = |what| Fault::Broken { during, what };
        let (Some(offer), Some(ke), Some(nonce)) = (payloads.sa(), payloads.ke(), payloads.nonce())
        else {
            return Err(broken("peer's answer lacks SA, KE or nonce"));
        };
        let chosen = select::ike_answer(&config.proposals, &offer.proposals).ok_or_else(|| {
            Fault::ForeignChoice {
                during,
                theirs: select::list(&offer.proposals),
                ours: select::list_ike(&config.proposals),
            }
        })?;
        let (spi, our_nonce, key_exchange) = ours;
        let suite = chosen.what;
        if key_exchange.group() != suite.group || ke.group != suite.group.number() {
            return Err(broken("peer's key is of another group than ours"));
        }
        let secret = key_exchange
            .agree(&ke.data)
            .map_err(|e| Fault::PublicValue(e.to_string()))?;
        let material = Material {
            suite,
            secret,
            initiator_nonce: our_nonce,
            responder_nonce: nonce.0.clone(),
            initiator_spi: spi,
            responder_spi: ike_spi(&chosen.spi)?,
            role: Role::Initiator,
        };
        self.successor(now, sa, &material)
    }

    /// Which of the old SA, ours and the peer's goes, and by whom.
    fn settle_rekey(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        mut new: Box<IkeSa>,
        collision: Option<RekeyCollision>,
    ) {
        let theirs = collision.and_then(|c| {
            let made = self.sas.remove(&c.made)?;
            made.is_established().then_some((made, c.lowest_nonce))
        });
        match theirs {
            Some((mut made, lowest)) if new.lowest_nonce < lowest => {
                // Ours goes; the peer deletes the old one.
                made.undecided = None;
                self.inherit(sa, &mut made);
                self.timers.cancel(Timer::Sa(made.id, SaTimer::Forget));
                self.log_rekeyed(&made);
                self.hatch(made);
                self.replace(now, sa);
                new.phase = closing(new.phase.take());
                new.want(Task::CloseIke);
                if let Some(c) = self.connections.get_mut(&sa.connection) {
                    c.sas.push(new.id);
                }
            }
            other => {
                if let Some((mut made, _)) = other {
                    // The peer deletes its own.
                    made.undecided = None;
                    self.replace(now, &mut made);
                    self.put(made);
                }
                self.inherit(sa, &mut new);
                self.log_rekeyed(&new);
                self.replace(now, sa);
                sa.phase = closing(sa.phase.take());
                sa.want(Task::CloseIke);
            }
        }
        self.hatch(new);
    }

    fn on_rekey_refusal(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        config: &Connection,
        pending: PendingRekey,
        payloads: &Payloads,
    ) {
        let ours = select::list_ike(&config.proposals);
        if let Some(notify) = payloads.notify(NotifyType::InvalidKePayload) {
            let wanted = notify.group();
            let group = wanted.and_then(Group::from_number).filter(|g| {
                !pending.tried.contains(g) && config.proposals.iter().any(|p| p.groups.contains(g))
            });
            if group.is_some() && pending.collision.is_none() {
                self.send_rekey(now, sa, group, pending.tried);
                return;
            }
            let fault = Fault::GroupRefused { wanted, ours };
            self.rekey_refused(now, sa, pending, &fault, true);
            return;
        }
        match error_of(payloads) {
            Some(NotifyType::TemporaryFailure) => {
                self.rekey_refused(now, sa, pending, &Fault::Temporary, false);
            }
            Some(notify) => {
                let during = During::IkeRekey;
                let fault = Fault::Refused {
                    during,
                    notify,
                    ours,
                };
                self.rekey_refused(now, sa, pending, &fault, true);
            }
            None => {
                let fault = Fault::Broken {
                    during: During::IkeRekey,
                    what: "peer's answer has neither an SA nor an error",
                };
                self.rekey_refused(now, sa, pending, &fault, true);
            }
        }
    }

    /// Nothing came of our rekeying: later again, unless the peer's succeeded.
    pub(crate) fn rekey_refused(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        pending: PendingRekey,
        fault: &Fault,
        lasting: bool,
    ) {
        self.rekey_failed(now, sa, pending.collision, fault, lasting);
    }

    fn rekey_failed(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        collision: Option<RekeyCollision>,
        fault: &Fault,
        lasting: bool,
    ) {
        if let Some(collision) = collision
            && self.adopt(now, sa, &collision)
        {
            return;
        }
        if lasting {
            self.fail(sa.connection, fault);
        }
        let pause = if lasting {
            REFUSED_PAUSE
        } else {
            self.busy_pause()
        };
        self.timers
            .set(Timer::Sa(sa.id, SaTimer::Rekey), now + pause);
    }

    /// The SA that the peer's rekeying made becomes the successor, if it is still there.
    pub(crate) fn adopt(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        collision: &RekeyCollision,
    ) -> bool {
        let Some(mut made) = self.sas.remove(&collision.made) else {
            return false;
        };
        if !made.is_established() {
            self.put(made);
            return false;
        }
        made.undecided = None;
        self.inherit(sa, &mut made);
        self.timers.cancel(Timer::Sa(made.id, SaTimer::Forget));
        self.replace(now, sa);
        self.log_rekeyed(&made);
        self.hatch(made);
        true
    }

    /// The peer uses the SA that its rekeying made: it has decided that this one stays. Ours, which
    /// is still under way, has lost.
    pub(crate) fn decide_for(&mut self, now: Instant, sa: &mut IkeSa) {
        let Some(old) = sa.undecided.take() else {
            return;
        };
        let Some(mut old) = self.sas.remove(&old) else {
            return;
        };
        self.timers.cancel(Timer::Sa(sa.id, SaTimer::Forget));
        if old.is_established() {
            self.inherit(&mut old, sa);
            self.replace(now, &mut old);
            self.log_rekeyed(sa);
        }
        self.put(old);
    }

    /// The SA that follows, without children yet.
    fn successor(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        material: &Material,
    ) -> Result<Box<IkeSa>, Fault> {
        let (Some(e), true) = (sa.in_use(), sa.is_established()) else {
            return Err(Fault::Temporary);
        };
        let nonces = Nonces {
            initiator: &material.initiator_nonce,
            responder: &material.responder_nonce,
        };
        let keys: IkeKeys = e.keys.keys.derive_rekey(
            material.suite,
            &material.secret,
            nonces,
            material.initiator_spi,
            material.responder_spi,
        );
        let established = Established {
            keys: Protection::new(keys, material.suite, material.role),
            peer_identity: e.peer_identity.clone(),
        };
        let mut new = Box::new(IkeSa {
            id: self.new_sa_id(),
            connection: sa.connection,
            role: material.role,
            began_first: sa.began_first,
            initiator_spi: material.initiator_spi,
            responder_spi: material.responder_spi,
            path: sa.path,
            nat: sa.nat,
            peer: sa.peer,
            peer_hashes: Vec::new(),
            phase: Phase::Established(Box::new(established)),
            window: Window::new(),
            tasks: Vec::new(),
            children: Vec::new(),
            begun: sa.begun,
            established: Some(now),
            heard: now,
            spoke: now,
            lowest_nonce: lower(&material.initiator_nonce, &material.responder_nonce),
            hinted: None,
            undecided: None,
            unproven: false,
            unchecked: sa.unchecked,
            initial_contact: false,
            seen_as: None,
        });
        self.arm_sa(now, &mut new);
        self.key_log(&mut new);
        Ok(new)
    }

    fn log_rekeyed(&mut self, sa: &IkeSa) {
        let detail = format!(
            "IKE SA rekeyed, SPIs {} and {}",
            sa.initiator_spi, sa.responder_spi
        );
        self.log(sa.connection, detail);
    }
}

/// What a successor's keys are made of.
struct Material {
    suite: IkeSuite,
    secret: Secret,
    initiator_nonce: Vec<u8>,
    responder_nonce: Vec<u8>,
    initiator_spi: IkeSpi,
    responder_spi: IkeSpi,
    /// Ours.
    role: Role,
}

fn closing(phase: Phase) -> Phase {
    match phase {
        Phase::Established(e) | Phase::Replaced(e) => Phase::Closing(e),
        other => other,
    }
}

fn ike_spi(octets: &[u8]) -> Result<IkeSpi, Fault> {
    <[u8; 8]>::try_from(octets)
        .map(|o| IkeSpi(u64::from_be_bytes(o)))
        .ok()
        .filter(|spi| !spi.is_zero())
        .ok_or(Fault::Broken {
            during: During::IkeRekey,
            what: "peer's SPI is not of eight octets, or zero",
        })
}
