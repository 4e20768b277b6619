//! IKE_AUTH, the peer begins (RFC 7296, sections 1.2, 2.15, 2.21.2).

use std::{sync::Arc, time::Instant};

use hawser_api::Selectors;
use hawser_ike_crypto::{
    IkeSuite, Nonces, Role,
    name::{self, describe},
};
use hawser_ike_wire::{
    Identification, Identity, Notify, NotifyType, Payload, Payloads, ProtocolId,
};

use super::{proof, sa_payload};
use crate::{
    config::Connection,
    endpoint::{Endpoint, NewChild, Switch},
    fault::{During, Fault},
    proposal::{self, select},
    sa::{AwaitAuth, Established, IkeSa, Phase, pending::Task},
    selector,
};

/// Pre-shared keys that are tried for one peer: connections that differ in nothing but the key.
const TRIED: usize = 8;

impl Endpoint {
    /// Answers IKE_AUTH. A refusal leaves the SA to answer copies only.
    pub(crate) fn on_auth_request(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        payloads: &Payloads,
    ) -> Vec<Payload> {
        let Phase::AwaitAuth(state) = sa.phase.take() else {
            return Vec::new();
        };
        let proven = self
            .verify_initiator(now, &state, payloads)
            .and_then(|(config, identity)| {
                let ours = our_proof(&state, &config, &sa.peer_hashes)?;
                Ok((config, identity, ours))
            });
        match proven {
            Ok((config, identity, ours)) => {
                sa.connection = config.id;
                let mut answer = ours;
                answer.extend(self.accept_initiator(now, sa, *state, &config, identity, payloads));
                answer
            }
            Err(fault) => {
                let answer = self.refusal(sa, &fault);
                sa.phase = Phase::AwaitAuth(state);
                self.dismiss(now, sa);
                answer
            }
        }
    }

    /// Finds the connection that the peer means and proves to be the peer of.
    fn verify_initiator(
        &self,
        now: Instant,
        state: &AwaitAuth,
        payloads: &Payloads,
    ) -> Result<(Arc<Connection>, Identity), Fault> {
        let (Some(id), Some(auth)) = (payloads.id_initiator(), payloads.auth()) else {
            return Err(Fault::Broken {
                during: During::Auth,
                what: "peer's request lacks its identity or its proof",
            });
        };
        let identity = id.identity();
        let meant = self.meant(state, identity, payloads)?;
        let octets = state.keys.keys.signed_octets(
            Role::Initiator,
            &state.request,
            &state.responder_nonce,
            &id.body(),
        );
        let prf = state.keys.suite.prf;
        let mut fault = None;
        for config in meant {
            match proof::verify(
                &config,
                prf,
                &octets,
                identity,
                auth,
                payloads,
                self.calendar(now),
            ) {
                Ok(()) => return Ok((config, identity.clone())),
                Err(f) => fault = Some(f),
            }
        }
        Err(fault.unwrap_or(Fault::Temporary))
    }

    /// The candidates whose identities fit.
    fn meant(
        &self,
        state: &AwaitAuth,
        identity: &Identity,
        payloads: &Payloads,
    ) -> Result<Vec<Arc<Connection>>, Fault> {
        let configs: Vec<Arc<Connection>> = state
            .candidates
            .iter()
            .filter_map(|id| self.connection(*id))
            .collect();
        let known: Vec<&Arc<Connection>> = configs
            .iter()
            .filter(|c| c.remote_id.matches(identity))
            .collect();
        if known.is_empty() {
            let mut expected: Vec<String> =
                configs.iter().map(|c| c.remote_id.to_string()).collect();
            expected.sort_unstable();
            expected.dedup();
            expected.truncate(4);
            return Err(Fault::PeerIdentity {
                theirs: describe(identity),
                expected: expected.join(" or "),
            });
        }
        let asked = payloads.id_responder().map(Identification::identity);
        let meant: Vec<Arc<Connection>> = known
            .iter()
            .filter(|c| asked.is_none_or(|a| name::same(a, &c.local_id)))
            .filter(|c| allows(c, state.keys.suite))
            .take(TRIED)
            .map(|c| Arc::clone(c))
            .collect();
        if meant.is_empty() {
            return Err(Fault::OurIdentity {
                asked: asked.map(describe).unwrap_or_default(),
                ours: describe(&known[0].local_id),
            });
        }
        Ok(meant)
    }

    fn accept_initiator(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        state: AwaitAuth,
        config: &Connection,
        identity: Identity,
        payloads: &Payloads,
    ) -> Vec<Payload> {
        sa.nat.forced = config.force_encapsulation;
        sa.peer.mobike = config.mobike && payloads.notify(NotifyType::MobikeSupported).is_some();
        sa.phase = Phase::Established(Box::new(Established {
            keys: state.keys,
            peer_identity: identity,
        }));
        self.establish(now, sa);
        self.log_established(sa);
        let mut answer = Vec::new();
        sa.initial_contact = payloads.notify(NotifyType::InitialContact).is_some();
        sa.unproven = true;
        sa.want(Task::Prove);
        let nonces = Nonces {
            initiator: &state.initiator_nonce,
            responder: &state.responder_nonce,
        };
        match self.first_child(now, sa, config, payloads, nonces) {
            Ok(child) => answer.extend(child),
            Err(fault) => {
                // The IKE SA stays (RFC 7296, section 1.2): the peer may ask for another child.
                self.fail(sa.connection, &fault);
                answer.extend(fault.notify().map(Payload::Notify));
            }
        }
        if sa.peer.mobike {
            answer.push(Payload::Notify(Notify::new(NotifyType::MobikeSupported)));
        }
        answer
    }

    /// The child that the peer wants together with the IKE SA, if it wants one.
    fn first_child(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        config: &Connection,
        payloads: &Payloads,
        nonces: Nonces<'_>,
    ) -> Result<Vec<Payload>, Fault> {
        let (Some(offer), Some(tsi), Some(tsr)) = (
            payloads.sa(),
            payloads.ts_initiator(),
            payloads.ts_responder(),
        ) else {
            // Childless (RFC 6023).
            return Ok(Vec::new());
        };
        let theirs = Selectors {
            local: selector::from_wire(tsr),
            remote: selector::from_wire(tsi),
        };
        let (number, selectors) = self.match_child(sa, config, &theirs)?;
        let child = &config.children[usize::from(number)];
        let chosen =
            select::child(&child.proposals, &offer.proposals, false, None).ok_or_else(|| {
                Fault::ChildProposal {
                    theirs: select::list(&offer.proposals),
                    ours: select::list_child(&child.proposals, false),
                }
            })?;
        let spi = self.promise_spi();
        let answer = vec![
            sa_payload(vec![
                chosen.answer(ProtocolId::Esp, spi.0.to_be_bytes().to_vec()),
            ]),
            Payload::TsInitiator(selector::to_wire(&selectors.remote)),
            Payload::TsResponder(selector::to_wire(&selectors.local)),
        ];
        let new = NewChild {
            config: number,
            inbound: spi,
            outbound: select::esp_spi(&chosen.spi)?,
            suite: chosen.what,
            selectors,
            secret: None,
            nonces,
            role: Role::Responder,
            switch: Switch::Proven,
        };
        if let Err(fault) = self.install_child(now, sa, new) {
            self.release_spi(spi);
            return Err(fault);
        }
        self.log_child(sa, spi);
        Ok(answer)
    }

    /// Which configured child the peer means by its selectors, and what both have of them. One
    /// that is not there yet comes first.
    pub(super) fn match_child(
        &self,
        sa: &IkeSa,
        config: &Connection,
        theirs: &Selectors,
    ) -> Result<(u16, Selectors), Fault> {
        let present = |n: u16| sa.children.iter().any(|c| c.config == n);
        let mut fits: Vec<(u16, Selectors)> = (0u16..)
            .zip(&config.children)
            .map(|(n, child)| (n, narrowed(child, theirs)))
            .filter(|(_, s)| !s.local.is_empty() && !s.remote.is_empty())
            .collect();
        fits.sort_by_key(|(n, _)| (present(*n), *n));
        if fits.is_empty() {
            let ours: Vec<String> = config
                .children
                .iter()
                .map(|c| {
                    selector::pair(&Selectors {
                        local: c.local_ts.clone(),
                        remote: c.remote_ts.clone(),
                    })
                })
                .collect();
            return Err(Fault::Selectors {
                theirs: selector::pair(&Selectors {
                    local: theirs.remote.clone(),
                    remote: theirs.local.clone(),
                }),
                ours: ours.join(" or "),
            });
        }
        Ok(fits.swap_remove(0))
    }

    /// For the log, once the SA is there.
    pub(super) fn log_established(&mut self, sa: &IkeSa) {
        let Some(e) = sa.in_use() else {
            return;
        };
        let part = if sa.is_initiator() {
            "initiator"
        } else {
            "responder"
        };
        let detail = format!(
            "IKE SA established with {} at {} as {part}: {}, SPIs {} and {}",
            describe(&e.peer_identity),
            sa.path.remote,
            proposal::suite_words(e.keys.suite),
            sa.initiator_spi,
            sa.responder_spi,
        );
        self.log(sa.connection, detail);
    }
}

/// Who we are and the proof of it.
fn our_proof(
    state: &AwaitAuth,
    config: &Connection,
    peer_hashes: &[u16],
) -> Result<Vec<Payload>, Fault> {
    let id = Identification::from(proof::our_identity(config));
    let octets = state.keys.keys.signed_octets(
        Role::Responder,
        &state.response,
        &state.initiator_nonce,
        &id.body(),
    );
    let (chain, auth) = proof::prove(config, state.keys.suite.prf, &octets, peer_hashes)?;
    let mut payloads = vec![Payload::IdResponder(id)];
    payloads.extend(chain);
    payloads.push(Payload::Auth(auth));
    Ok(payloads)
}

/// What a configured child and the peer have in common.
pub(super) fn narrowed(child: &crate::config::Child, theirs: &Selectors) -> Selectors {
    Selectors {
        local: selector::narrow(&child.local_ts, &theirs.local),
        remote: selector::narrow(&child.remote_ts, &theirs.remote),
    }
}

/// Whether the connection allows what was chosen for another candidate.
fn allows(config: &Connection, suite: IkeSuite) -> bool {
    config.proposals.iter().any(|p| {
        p.encr.contains(&suite.cipher.encr())
            && suite.cipher.integ().is_none_or(|i| p.integ.contains(&i))
            && p.prf.contains(&suite.prf)
            && p.groups.contains(&suite.group)
    })
}
