//! IKE_AUTH, our side begins (RFC 7296, sections 1.2, 2.15, 2.21.2; RFC 6023 without a child).

use std::time::{Instant, SystemTime};

use hawser_api::Selectors;
use hawser_ike_crypto::{Nonces, Role, name::describe};
use hawser_ike_wire::{
    Delete, ExchangeType, Identification, Notify, NotifyType, Payload, Payloads,
};

use super::{error_of, proof, sa_payload};
use crate::{
    config::Connection,
    endpoint::{Endpoint, NewChild, Switch},
    fault::{During, Fault},
    identity::IdentityMatch,
    proposal::select,
    sa::{AuthSent, Established, IkeSa, Phase, pending::Pending},
    selector,
};

impl Endpoint {
    /// Sends IKE_AUTH.
    pub(crate) fn send_auth(&mut self, now: Instant, sa: &mut IkeSa, config: &Connection) {
        let with_child = !(config.childless && sa.peer.childless);
        let child_spi = with_child.then(|| self.promise_spi());
        let Phase::AuthSent(state) = &mut sa.phase else {
            return;
        };
        state.child_spi = child_spi;
        let id = Identification::from(proof::our_identity(config));
        let octets = state.keys.keys.signed_octets(
            Role::Initiator,
            &state.init_request,
            &state.responder_nonce,
            &id.body(),
        );
        let prf = state.keys.suite.prf;
        let (chain, auth) = match proof::prove(config, prf, &octets, &sa.peer_hashes) {
            Ok(proven) => proven,
            Err(fault) => {
                self.attempt_failed(now, sa, &fault, true);
                return;
            }
        };
        let mut payloads = vec![Payload::IdInitiator(id)];
        payloads.extend(chain);
        // A peer that is beginning an SA itself has no other with us. Many peers would take that one
        // away when they read INITIAL_CONTACT after it was made.
        sa.initial_contact &= self.cradle.of_source(sa.path.remote.ip()) == 0;
        if sa.initial_contact {
            payloads.push(Payload::Notify(Notify::new(NotifyType::InitialContact)));
        }
        payloads.extend(proof::request(config));
        if let IdentityMatch::Exact(identity) = &config.remote_id {
            payloads.push(Payload::IdResponder(Identification::from(identity.clone())));
        }
        payloads.push(Payload::Auth(auth));
        if let (Some(spi), Some(child)) = (child_spi, config.children.first()) {
            let proposals = (1u8..)
                .zip(&child.proposals)
                .map(|(n, p)| p.to_wire(n, spi.0.to_be_bytes().to_vec(), false))
                .collect();
            payloads.push(sa_payload(proposals));
            payloads.push(Payload::TsInitiator(selector::to_wire(&child.local_ts)));
            payloads.push(Payload::TsResponder(selector::to_wire(&child.remote_ts)));
        }
        if config.mobike {
            payloads.push(Payload::Notify(Notify::new(NotifyType::MobikeSupported)));
        }
        self.send_request(now, sa, ExchangeType::IkeAuth, payloads, Pending::Auth);
    }

    /// The answer to IKE_AUTH.
    pub(crate) fn on_auth_response(&mut self, now: Instant, sa: &mut IkeSa, payloads: &Payloads) {
        let Some(config) = self.connection(sa.connection) else {
            self.abandon(now, sa);
            return;
        };
        let Phase::AuthSent(state) = sa.phase.take() else {
            return;
        };
        if let Some(spi) = state.child_spi {
            self.release_spi(spi);
        }
        let identity = match verify_responder(&state, &config, payloads, self.calendar(now)) {
            Ok(identity) => identity,
            Err(fault) => {
                let silent = matches!(fault, Fault::Refused { .. } | Fault::AuthRefused { .. });
                sa.phase = Phase::AuthSent(state);
                self.reject_responder(now, sa, &fault, silent);
                return;
            }
        };
        sa.peer.mobike = config.mobike && payloads.notify(NotifyType::MobikeSupported).is_some();
        let (keys, nonces, child_spi) = (
            state.keys,
            (state.initiator_nonce, state.responder_nonce),
            state.child_spi,
        );
        sa.phase = Phase::Established(Box::new(Established {
            keys,
            peer_identity: identity,
        }));
        self.establish(now, sa);
        self.log_established(sa);
        let nonces = Nonces {
            initiator: &nonces.0,
            responder: &nonces.1,
        };
        if let Some(spi) = child_spi {
            match self.first_child_answer(now, sa, &config, payloads, spi, nonces) {
                Ok(()) => {}
                Err(fault) => self.first_child_failed(now, sa, &fault),
            }
        }
        let contact = sa.initial_contact;
        self.resolve_rivals(now, sa, contact);
        self.want_missing_children(sa);
    }

    /// The responder is not who it should be, or refused us. Unless it refused, it believes that
    /// the SA is there, and is told (RFC 7296, section 2.21.2).
    fn reject_responder(&mut self, now: Instant, sa: &mut IkeSa, fault: &Fault, silent: bool) {
        if let Some(id) = sa.window.next.filter(|_| !silent) {
            let header = sa.header(ExchangeType::Informational, false, id);
            let payloads = vec![
                Payload::Notify(Notify::new(NotifyType::AuthenticationFailed)),
                Payload::Delete(Delete::IkeSa),
            ];
            self.send_once(sa, &header, payloads);
        }
        self.attempt_failed(now, sa, fault, true);
    }

    fn first_child_answer(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        config: &Connection,
        payloads: &Payloads,
        spi: hawser_api::Spi,
        nonces: Nonces<'_>,
    ) -> Result<(), Fault> {
        let Some(child) = config.children.first() else {
            return Ok(());
        };
        let (Some(offer), Some(tsi), Some(tsr)) = (
            payloads.sa(),
            payloads.ts_initiator(),
            payloads.ts_responder(),
        ) else {
            return Err(refused_child(During::Auth, child, payloads, false));
        };
        let chosen =
            select::child_answer(&child.proposals, &offer.proposals, false).ok_or_else(|| {
                Fault::ForeignChoice {
                    during: During::Auth,
                    theirs: select::list(&offer.proposals),
                    ours: select::list_child(&child.proposals, false),
                }
            })?;
        let selectors = Selectors {
            local: selector::from_wire(tsi),
            remote: selector::from_wire(tsr),
        };
        check_selectors(child, &selectors)?;
        self.install_child(
            now,
            sa,
            NewChild {
                config: 0,
                inbound: spi,
                outbound: select::esp_spi(&chosen.spi)?,
                suite: chosen.what,
                selectors,
                secret: None,
                nonces,
                role: Role::Initiator,
                switch: Switch::Now,
            },
        )?;
        self.log_child(sa, spi);
        Ok(())
    }
}

/// Why the peer made no child.
pub(super) fn refused_child(
    during: During,
    child: &crate::config::Child,
    payloads: &Payloads,
    pfs: bool,
) -> Fault {
    match error_of(payloads) {
        Some(notify) => Fault::Refused {
            during,
            notify,
            ours: match notify {
                NotifyType::TsUnacceptable => selector::pair(&Selectors {
                    local: child.local_ts.clone(),
                    remote: child.remote_ts.clone(),
                }),
                _ => select::list_child(&child.proposals, pfs),
            },
        },
        None => Fault::Broken {
            during,
            what: "peer's answer has neither a child SA nor an error",
        },
    }
}

/// What the responder narrowed to must lie in what we offered.
pub(super) fn check_selectors(
    child: &crate::config::Child,
    selectors: &Selectors,
) -> Result<(), Fault> {
    let fits = selector::within(&selectors.local, &child.local_ts)
        && selector::within(&selectors.remote, &child.remote_ts);
    if fits {
        return Ok(());
    }
    Err(Fault::Selectors {
        // From the peer's side its own networks come first.
        theirs: selector::pair(&Selectors {
            local: selectors.remote.clone(),
            remote: selectors.local.clone(),
        }),
        ours: selector::pair(&Selectors {
            local: child.local_ts.clone(),
            remote: child.remote_ts.clone(),
        }),
    })
}

fn verify_responder(
    state: &AuthSent,
    config: &Connection,
    payloads: &Payloads,
    calendar: SystemTime,
) -> Result<hawser_ike_wire::Identity, Fault> {
    let (Some(id), Some(auth)) = (payloads.id_responder(), payloads.auth()) else {
        return Err(match error_of(payloads) {
            Some(NotifyType::AuthenticationFailed) => proof::refused(config, true),
            Some(notify) => Fault::Refused {
                during: During::Auth,
                notify,
                ours: describe(&config.local_id),
            },
            None => Fault::Broken {
                during: During::Auth,
                what: "peer's answer lacks its identity or its proof",
            },
        });
    };
    let identity = id.identity();
    if !config.remote_id.matches(identity) {
        return Err(Fault::PeerIdentity {
            theirs: describe(identity),
            expected: config.remote_id.to_string(),
        });
    }
    let octets = state.keys.keys.signed_octets(
        Role::Responder,
        &state.init_response,
        &state.initiator_nonce,
        &id.body(),
    );
    let prf = state.keys.suite.prf;
    proof::verify(config, prf, &octets, identity, auth, payloads, calendar)?;
    Ok(identity.clone())
}
