//! Proving who we are and verifying who the peer is (RFC 7296, section 2.15; RFC 7427).
//!
//! Both sides of a connection use the same way: the pre-shared key, or certificates.

use std::time::SystemTime;

use hawser_ike_crypto::{Prf, Secret, name::describe, psk};
use hawser_ike_wire::{AuthMethod, Authentication, Identity, Payload, Payloads};

use crate::{
    config::{Auth, Connection},
    fault::Fault,
    identity::IdentityMatch,
};

/// Our AUTH, and the certificates that go with it.
pub(super) fn prove(
    config: &Connection,
    prf: Prf,
    octets: &[u8],
    peer_hashes: &[u16],
) -> Result<(Vec<Payload>, Authentication), Fault> {
    match &config.auth {
        Auth::Psk(key) => Ok((
            Vec::new(),
            Authentication {
                method: AuthMethod::SharedKey,
                data: psk::sign(prf, &secret_of(key), octets),
            },
        )),
        Auth::Certificate(own) => {
            let auth = own
                .local
                .sign(octets, peer_hashes)
                .map_err(|e| Fault::OurProof(e.to_string()))?;
            let chain = own.local.payloads();
            Ok((chain.into_iter().map(Payload::Certificate).collect(), auth))
        }
    }
}

/// The peer does not believe us. An initiator has said whom it asks for, too.
pub(super) fn refused(config: &Connection, initiator: bool) -> Fault {
    let asked = match &config.remote_id {
        IdentityMatch::Exact(identity) if initiator => Some(describe(identity)),
        _ => None,
    };
    Fault::AuthRefused {
        ours: describe(&our_identity(config)),
        asked,
        certified: matches!(config.auth, Auth::Certificate(_)),
    }
}

/// Who we say we are: a distinguished name as our certificate has it, octet by octet.
pub(super) fn our_identity(config: &Connection) -> Identity {
    match &config.auth {
        Auth::Psk(_) => config.local_id.clone(),
        Auth::Certificate(own) => own
            .local
            .identity(&config.local_id)
            .unwrap_or_else(|| config.local_id.clone()),
    }
}

/// The CERTREQ that asks for the peer's certificate, if one is wanted.
pub(super) fn request(config: &Connection) -> Option<Payload> {
    match &config.auth {
        Auth::Psk(_) => None,
        Auth::Certificate(own) => {
            Some(Payload::CertificateRequest(own.trust.certificate_request()))
        }
    }
}

/// Whether the peer is `identity`.
pub(super) fn verify(
    config: &Connection,
    prf: Prf,
    octets: &[u8],
    identity: &Identity,
    auth: &Authentication,
    payloads: &Payloads,
    now: SystemTime,
) -> Result<(), Fault> {
    let by_key = auth.method == AuthMethod::SharedKey;
    match &config.auth {
        Auth::Psk(key) if by_key => {
            if psk::verify(prf, &secret_of(key), octets, &auth.data) {
                return Ok(());
            }
            Err(Fault::WrongPsk {
                identity: describe(identity),
            })
        }
        Auth::Certificate(own) if !by_key => {
            let certificate = own
                .trust
                .verify(payloads.certificates(), identity, now, own.trust_policy)
                .map_err(|e| Fault::Certificate(e.to_string()))?;
            certificate
                .verify(auth, octets, own.signature_policy)
                .map_err(|e| Fault::Certificate(e.to_string()))
        }
        ours => Err(Fault::AuthMethod {
            theirs: auth.method.to_string(),
            ours: match ours {
                Auth::Psk(_) => "a pre-shared key",
                Auth::Certificate(_) => "certificates",
            }
            .into(),
        }),
    }
}

/// The configuration's key as the crypto's.
fn secret_of(key: &hawser_api::Secret) -> Secret {
    Secret::new(key.expose().to_vec())
}
