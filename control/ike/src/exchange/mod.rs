//! The exchanges of RFC 7296, one file each: what is sent, what is expected, what changes.

mod auth_initiator;
mod auth_responder;
mod child;
mod child_responder;
mod informational;
mod init_initiator;
mod init_responder;
mod mobike;
mod proof;
mod rekey;

use hawser_ike_wire::{NotifyType, Payload, Payloads, SecurityAssociation};

/// The first error notify of a message.
pub(crate) fn error_of(payloads: &Payloads) -> Option<NotifyType> {
    payloads
        .notifies()
        .find(|n| n.kind.is_error())
        .map(|n| n.kind)
}

/// An SA payload.
pub(crate) fn sa_payload(proposals: Vec<hawser_ike_wire::Proposal>) -> Payload {
    Payload::Sa(SecurityAssociation { proposals })
}

/// The lower of an exchange's two nonces.
pub(crate) fn lower(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.min(b).to_vec()
}
