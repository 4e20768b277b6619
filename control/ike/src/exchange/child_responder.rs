//! CREATE_CHILD_SA for child SAs, the peer begins (RFC 7296, sections 1.3.1, 1.3.3, 2.8.1, 2.25.1).

use std::time::Instant;

use hawser_api::{Selectors, Spi};
use hawser_ike_crypto::{Group, KeyExchange, Nonces, Role};
use hawser_ike_wire::{self as wire, NotifyType, Payload, Payloads, Proposal, ProtocolId};

use super::{
    auth_responder::narrowed,
    child::{CoreOfChild, agree},
    lower, sa_payload,
};
use crate::{
    config::Connection,
    endpoint::{Endpoint, NewChild, Switch, fault_answer},
    fault::{During, Fault},
    proposal::select,
    sa::{
        IkeSa,
        child::ChildStage,
        pending::{ChildCollision, Pending, Task},
    },
    selector,
};

/// Child SAs that one IKE SA may have beyond twice the configured ones.
const SPARE: usize = 4;

impl Endpoint {
    /// Answers CREATE_CHILD_SA, whatever it is for.
    pub(crate) fn on_create_child_request(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        payloads: &Payloads,
    ) -> Vec<Payload> {
        let Some(config) = self.connection(sa.connection) else {
            return fault_answer(&Fault::Temporary);
        };
        let for_ike = payloads
            .sa()
            .is_some_and(|sa| sa.proposals.iter().any(|p| p.protocol == ProtocolId::Ike));
        let answer = if for_ike {
            self.on_rekey_request(now, sa, &config, payloads)
        } else {
            self.on_child_request(now, sa, &config, payloads)
        };
        match answer {
            Ok(payloads) => payloads,
            // What happens in ordinary operation is no failure to report.
            Err(fault @ (Fault::Temporary | Fault::NoSuchChild(_) | Fault::WrongGroup { .. })) => {
                fault_answer(&fault)
            }
            Err(fault) => self.refusal(sa, &fault),
        }
    }

    fn on_child_request(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        config: &Connection,
        payloads: &Payloads,
    ) -> Result<Vec<Payload>, Fault> {
        let during = During::Child;
        let what = "peer's request lacks SA, nonce or traffic selectors";
        let CoreOfChild {
            offer,
            nonce,
            tsi,
            tsr,
        } = CoreOfChild::of(payloads).ok_or(Fault::Broken { during, what })?;
        if matches!(sa.window.pending(), Some(Pending::Rekey(_))) {
            // RFC 7296, section 2.25.2: the child would be of an SA that is about to go.
            return Err(Fault::Temporary);
        }
        let old = replaced(sa, payloads)?;
        let theirs = Selectors {
            local: selector::from_wire(tsr),
            remote: selector::from_wire(tsi),
        };
        let (number, selectors) = self.child_meant(sa, config, old, &theirs)?;
        let child = &config.children[usize::from(number)];
        let hint = payloads.ke().and_then(|ke| Group::from_number(ke.group));
        let chosen =
            select::child(&child.proposals, &offer.proposals, true, hint).ok_or_else(|| {
                Fault::ChildProposal {
                    theirs: select::list(&offer.proposals),
                    ours: select::list_child(&child.proposals, true),
                }
            })?;
        let suite = chosen.what;
        let key_exchange = self.answer_group(suite.group, payloads)?;
        let public = key_exchange.as_ref().map(|kx| kx.public().to_vec());
        let secret = agree(key_exchange, suite.group, payloads)?;
        let our_nonce = self.new_nonce();
        let spi = self.promise_spi();
        let mut answer = vec![
            sa_payload(vec![
                chosen.answer(ProtocolId::Esp, spi.0.to_be_bytes().to_vec()),
            ]),
            Payload::Nonce(wire::Nonce(our_nonce.clone())),
        ];
        if let (Some(group), Some(data)) = (suite.group, public) {
            answer.push(Payload::Ke(wire::KeyExchange {
                group: group.number(),
                data,
            }));
        }
        answer.push(Payload::TsInitiator(selector::to_wire(&selectors.remote)));
        answer.push(Payload::TsResponder(selector::to_wire(&selectors.local)));
        let new = NewChild {
            config: number,
            inbound: spi,
            outbound: select::esp_spi(&chosen.spi)?,
            suite,
            selectors,
            secret: secret.as_ref(),
            nonces: Nonces {
                initiator: &nonce.0,
                responder: &our_nonce,
            },
            role: Role::Responder,
            switch: Switch::Later,
        };
        if let Err(fault) = self.install_child(now, sa, new) {
            self.release_spi(spi);
            return Err(fault);
        }
        match old {
            Some(old) => self.note_successor(now, sa, old, spi, lower(&nonce.0, &our_nonce)),
            None => {
                sa.tasks.retain(|t| *t != Task::MakeChild(number));
                self.log_child(sa, spi);
            }
        }
        Ok(answer)
    }

    /// Which configured child is meant, and the traffic in common.
    fn child_meant(
        &self,
        sa: &IkeSa,
        config: &Connection,
        old: Option<Spi>,
        theirs: &Selectors,
    ) -> Result<(u16, Selectors), Fault> {
        let number = old.and_then(|spi| sa.child(spi)).map(|c| c.config);
        let Some(number) = number else {
            if sa.children.len() >= 2 * config.children.len() + SPARE {
                return Err(Fault::NoAdditional);
            }
            return self.match_child(sa, config, theirs);
        };
        let child = config
            .children
            .get(usize::from(number))
            .ok_or(Fault::NoAdditional)?;
        let both = narrowed(child, theirs);
        if both.local.is_empty() || both.remote.is_empty() {
            return self.match_child(sa, config, theirs);
        }
        Ok((number, both))
    }

    /// Our half of the key exchange, if the peer's key fits the chosen group.
    pub(super) fn answer_group(
        &mut self,
        group: Option<Group>,
        payloads: &Payloads,
    ) -> Result<Option<KeyExchange>, Fault> {
        let Some(group) = group else {
            return Ok(None);
        };
        let theirs = payloads.ke().map_or(0, |ke| ke.group);
        if theirs != group.number() {
            return Err(Fault::WrongGroup {
                theirs,
                chosen: group,
            });
        }
        Ok(Some(KeyExchange::generate(group, &mut *self.random)))
    }

    /// The peer rekeyed a child: it deletes the old one, unless we are rekeying it too.
    fn note_successor(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        old: Spi,
        made: Spi,
        lowest_nonce: Vec<u8>,
    ) {
        sa.tasks.retain(|t| *t != Task::RekeyChild(old));
        if let Some(Pending::Child(ours)) = sa.window.pending_mut()
            && ours.replaces == Some(old)
        {
            ours.collision = Some(ChildCollision { lowest_nonce, made });
            return;
        }
        self.count(sa.connection, |c| c.child_rekeys += 1);
        self.child_replaced(now, sa, old);
        self.log_child(sa, made);
    }
}

/// The child that the peer wants to rekey, if it says so.
fn replaced(sa: &IkeSa, payloads: &Payloads) -> Result<Option<Spi>, Fault> {
    let Some(notify) = payloads.notify(NotifyType::RekeySa) else {
        return Ok(None);
    };
    let spi = select::esp_spi(&notify.spi)?;
    let Some(child) = sa.child_of_peer(spi) else {
        // It may be the child that the peer has made at our request, in an answer that is late.
        return Err(match sa.window.pending() {
            Some(Pending::Child(_)) => Fault::Temporary,
            _ => Fault::NoSuchChild(spi),
        });
    };
    match child.stage {
        ChildStage::Live => Ok(Some(child.inbound)),
        // RFC 7296, section 2.25.1.
        ChildStage::Replaced | ChildStage::Closing => Err(Fault::Temporary),
    }
}

/// The IKE proposals of an offer.
pub(super) fn ike_proposals(offer: &[Proposal]) -> Vec<Proposal> {
    offer
        .iter()
        .filter(|p| p.protocol == ProtocolId::Ike && p.spi.len() == 8)
        .cloned()
        .collect()
}
