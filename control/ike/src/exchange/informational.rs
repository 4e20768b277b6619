//! INFORMATIONAL: DELETE, liveness, errors (RFC 7296, sections 1.4, 1.4.1, 2.4, 2.25).

use std::time::{Duration, Instant};

use hawser_api::Spi;
use hawser_ike_wire::{ChildSpi, Delete, ExchangeType, NotifyType, Payload, Payloads, ProtocolId};

use super::proof;
use crate::{
    config::Startup,
    endpoint::{Ending, Endpoint},
    event::Path,
    sa::{IkeSa, Phase, child::ChildStage, pending::Pending},
};

/// Deleted children that are remembered for a late answer.
const REMEMBERED: usize = 8;

/// A child that the peer deleted without a successor is made anew after this long, if the
/// connection is to be up: time for the peer to finish what it deleted it for.
const REMAKE_PAUSE: Duration = Duration::from_secs(1);

impl Endpoint {
    /// Answers INFORMATIONAL.
    pub(crate) fn on_informational_request(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        path: Path,
        payloads: &Payloads,
    ) -> Vec<Payload> {
        if payloads.notify(NotifyType::AuthenticationFailed).is_some() {
            // RFC 7296, section 2.21.2: the initiator does not accept our proof.
            if let Some(config) = self.connection(sa.connection) {
                self.fail(sa.connection, &proof::refused(&config, false));
            }
            self.end_by_peer(now, sa);
            return Vec::new();
        }
        if payloads.deletes().any(|d| matches!(d, Delete::IkeSa)) {
            self.on_ike_deleted(now, sa);
            return Vec::new();
        }
        let mut answer = self.on_children_deleted(now, sa, payloads);
        answer.extend(self.on_mobike_request(now, sa, path, payloads));
        answer
    }

    /// The peer deletes the IKE SA, and with it all children.
    fn on_ike_deleted(&mut self, now: Instant, sa: &mut IkeSa) {
        // RFC 7296, section 2.25.2: our own rekeying is forgotten; the peer's, if it rekeyed too,
        // has made the successor.
        let collision = match sa.window.pending_mut() {
            Some(Pending::Rekey(ours)) => ours.collision.take(),
            _ => None,
        };
        if let Some(collision) = collision {
            self.drop_pending(sa);
            self.adopt(now, sa, &collision);
        }
        if matches!(sa.phase, Phase::Established(_)) {
            self.log(sa.connection, "peer deleted the IKE SA".into());
        }
        self.end_by_peer(now, sa);
    }

    fn end_by_peer(&mut self, now: Instant, sa: &mut IkeSa) {
        let id = sa.connection;
        let ending = if sa.is_established() {
            Ending::Deleted
        } else {
            Ending::Closed
        };
        self.dismiss(now, sa);
        self.ended(now, id, ending);
    }

    /// The peer deletes children: the answer names our halves of them.
    fn on_children_deleted(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        payloads: &Payloads,
    ) -> Vec<Payload> {
        let named: Vec<Spi> = payloads
            .deletes()
            .filter_map(|d| match d {
                Delete::Children {
                    protocol: ProtocolId::Esp,
                    spis,
                } => Some(spis.iter().map(|s| Spi(s.0))),
                _ => None,
            })
            .flatten()
            .collect();
        let mut ours = Vec::new();
        for spi in named {
            let Some(child) = sa.child_of_peer(spi) else {
                note_unknown(sa, spi);
                continue;
            };
            let (inbound, config) = (child.inbound, child.config);
            // RFC 7296, section 1.4.1: both sides delete it at once; ours is named already.
            let crossing =
                matches!(sa.window.pending(), Some(Pending::CloseChild(s)) if *s == inbound);
            if !crossing {
                ours.push(ChildSpi(inbound.0));
            }
            self.drop_child(now, sa, inbound, true);
            self.after_child_deleted(now, sa, config);
        }
        if ours.is_empty() {
            return Vec::new();
        }
        vec![Payload::Delete(Delete::Children {
            protocol: ProtocolId::Esp,
            spis: ours,
        })]
    }

    /// A tunnel that is to be up gets another child if it has none left.
    fn after_child_deleted(&mut self, now: Instant, sa: &mut IkeSa, config: u16) {
        let left = sa
            .children
            .iter()
            .any(|c| c.config == config && c.stage == ChildStage::Live);
        if left {
            return;
        }
        self.log(sa.connection, "peer deleted the child SA".into());
        let again = self
            .connections
            .get(&sa.connection)
            .is_some_and(|c| c.wanted && c.config.startup == Startup::Start);
        if again {
            self.retry_children(now, sa.connection, REMAKE_PAUSE);
        }
    }

    pub(crate) fn begin_liveness(&mut self, now: Instant, sa: &mut IkeSa) {
        self.count(sa.connection, |c| c.dpd_sent += 1);
        let payloads = self.liveness_payloads(sa);
        self.send_request(
            now,
            sa,
            ExchangeType::Informational,
            payloads,
            Pending::Liveness,
        );
    }

    /// Whoever answers an empty request has read our answer to IKE_AUTH: before that it cannot.
    pub(crate) fn begin_prove(&mut self, now: Instant, sa: &mut IkeSa) {
        if sa.unproven {
            self.send_request(
                now,
                sa,
                ExchangeType::Informational,
                Vec::new(),
                Pending::Prove,
            );
        }
    }

    pub(crate) fn begin_close_child(&mut self, now: Instant, sa: &mut IkeSa, spi: Spi) {
        let Some(child) = sa.child_mut(spi) else {
            return;
        };
        child.stage = ChildStage::Closing;
        self.stop_sending(now, sa, spi);
        let payloads = vec![Payload::Delete(Delete::Children {
            protocol: ProtocolId::Esp,
            spis: vec![ChildSpi(spi.0)],
        })];
        self.send_request(
            now,
            sa,
            ExchangeType::Informational,
            payloads,
            Pending::CloseChild(spi),
        );
    }

    /// The peer has deleted its half.
    pub(crate) fn on_child_closed(&mut self, now: Instant, sa: &mut IkeSa, spi: Spi) {
        let Some(child) = sa.child(spi) else {
            return;
        };
        let config = child.config;
        self.drop_child(now, sa, spi, true);
        let left = sa.children.iter().any(|c| c.config == config);
        let wanted = self
            .connections
            .get(&sa.connection)
            .is_some_and(|c| c.wanted);
        if !left && wanted {
            // It expired: another one.
            self.retry_children(now, sa.connection, Duration::ZERO);
        }
    }

    pub(crate) fn begin_close_ike(&mut self, now: Instant, sa: &mut IkeSa) {
        sa.phase = match sa.phase.take() {
            Phase::Established(e) | Phase::Replaced(e) | Phase::Closing(e) => Phase::Closing(e),
            other => other,
        };
        if !matches!(sa.phase, Phase::Closing(_)) {
            return;
        }
        self.retire(now, sa);
        let payloads = vec![Payload::Delete(Delete::IkeSa)];
        self.send_request(
            now,
            sa,
            ExchangeType::Informational,
            payloads,
            Pending::CloseIke,
        );
    }

    /// The peer has deleted the IKE SA as we asked.
    pub(crate) fn on_ike_closed(&mut self, now: Instant, sa: &mut IkeSa) {
        let id = sa.connection;
        self.abandon(now, sa);
        self.ended(now, id, Ending::Closed);
    }
}

/// The peer deletes a child that we do not know: perhaps the one that we are asking for.
fn note_unknown(sa: &mut IkeSa, spi: Spi) {
    if let Some(Pending::Child(pending)) = sa.window.pending_mut()
        && pending.deleted.len() < REMEMBERED
    {
        pending.deleted.push(spi);
    }
}
