//! One payload: its type on the wire, and its content.

use crate::auth::{Authentication, Certificate, CertificateRequest};
use crate::codes::codes;
use crate::configuration::Configuration;
use crate::delete::Delete;
use crate::error::{EmitError, ParseError, Place};
use crate::exchange::{KeyExchange, Nonce};
use crate::identity::Identification;
use crate::notify::Notify;
use crate::octets::Reader;
use crate::proposal::SecurityAssociation;
use crate::selector::TrafficSelectors;

codes! {
    /// The type of a payload (RFC 7296, section 3.2).
    PayloadType(u8) {
        /// No payload follows.
        NoNext = 0, "no next";
        /// Security association: proposals.
        Sa = 33, "SA";
        /// Key exchange.
        Ke = 34, "KE";
        /// The initiator's identity.
        IdInitiator = 35, "IDi";
        /// The responder's identity.
        IdResponder = 36, "IDr";
        /// A certificate.
        Certificate = 37, "CERT";
        /// Which certification authorities the sender trusts.
        CertificateRequest = 38, "CERTREQ";
        /// Authentication data.
        Auth = 39, "AUTH";
        /// Nonce, of either side.
        Nonce = 40, "Nonce";
        /// Notify.
        Notify = 41, "Notify";
        /// Delete.
        Delete = 42, "Delete";
        /// Vendor ID.
        Vendor = 43, "Vendor ID";
        /// The traffic selectors of the exchange's initiator.
        TsInitiator = 44, "TSi";
        /// The traffic selectors of the exchange's responder.
        TsResponder = 45, "TSr";
        /// Encrypted and authenticated payloads.
        Sk = 46, "SK";
        /// Configuration.
        Configuration = 47, "CP";
        /// An EAP message.
        Eap = 48, "EAP";
        /// A fragment of encrypted and authenticated payloads (RFC 7383).
        Skf = 53, "SKF";
    }
}

impl PayloadType {
    /// Whether a chain may have only one payload of this type. RFC 7296 shows each of these once
    /// in every exchange.
    pub(crate) const fn comes_once(self) -> bool {
        matches!(
            self,
            Self::Sa
                | Self::Ke
                | Self::IdInitiator
                | Self::IdResponder
                | Self::Auth
                | Self::Nonce
                | Self::TsInitiator
                | Self::TsResponder
                | Self::Configuration
                | Self::Eap
        )
    }
}

/// A payload in clear, or of a decrypted chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Proposals, or the one chosen.
    Sa(SecurityAssociation),
    /// A public value of a Diffie-Hellman group.
    Ke(KeyExchange),
    /// The initiator's identity.
    IdInitiator(Identification),
    /// The responder's identity.
    IdResponder(Identification),
    /// A certificate.
    Certificate(Certificate),
    /// Trusted certification authorities.
    CertificateRequest(CertificateRequest),
    /// Authentication data.
    Auth(Authentication),
    /// A nonce.
    Nonce(Nonce),
    /// An error or a status.
    Notify(Notify),
    /// SAs that the sender has deleted.
    Delete(Delete),
    /// A vendor's own identifier, opaque.
    Vendor(Vec<u8>),
    /// The traffic selectors of the exchange's initiator.
    TsInitiator(TrafficSelectors),
    /// The traffic selectors of the exchange's responder.
    TsResponder(TrafficSelectors),
    /// Configuration.
    Configuration(Configuration),
    /// An EAP message, opaque.
    Eap(Vec<u8>),
    /// A payload of a type without a name here.
    Unknown {
        /// Its type; never one that has a variant of its own, nor 0, 46 or 53.
        kind: u8,
        /// Whether the sender insists that it be understood (RFC 7296, section 2.5).
        critical: bool,
        /// Its content.
        data: Vec<u8>,
    },
}

impl Payload {
    /// Its type on the wire.
    #[must_use]
    pub const fn kind(&self) -> PayloadType {
        match self {
            Self::Sa(_) => PayloadType::Sa,
            Self::Ke(_) => PayloadType::Ke,
            Self::IdInitiator(_) => PayloadType::IdInitiator,
            Self::IdResponder(_) => PayloadType::IdResponder,
            Self::Certificate(_) => PayloadType::Certificate,
            Self::CertificateRequest(_) => PayloadType::CertificateRequest,
            Self::Auth(_) => PayloadType::Auth,
            Self::Nonce(_) => PayloadType::Nonce,
            Self::Notify(_) => PayloadType::Notify,
            Self::Delete(_) => PayloadType::Delete,
            Self::Vendor(_) => PayloadType::Vendor,
            Self::TsInitiator(_) => PayloadType::TsInitiator,
            Self::TsResponder(_) => PayloadType::TsResponder,
            Self::Configuration(_) => PayloadType::Configuration,
            Self::Eap(_) => PayloadType::Eap,
            Self::Unknown { kind, .. } => PayloadType::Other(*kind),
        }
    }

    /// Whether the critical bit is to be set: only on payloads beyond RFC 7296.
    pub(crate) const fn critical(&self) -> bool {
        matches!(self, Self::Unknown { critical: true, .. })
    }

    /// The content of a payload of `kind`, from behind its generic header. `None` for the types
    /// that are no payload of a chain in clear.
    pub(crate) fn parse(
        kind: PayloadType,
        critical: bool,
        offset: usize,
        body: &[u8],
    ) -> Result<Option<Self>, ParseError> {
        let mut reader = Reader::new(Place::Payload(kind), offset, body);
        let r = &mut reader;
        Ok(Some(match kind {
            PayloadType::NoNext | PayloadType::Sk | PayloadType::Skf => return Ok(None),
            PayloadType::Sa => Self::Sa(SecurityAssociation::parse(r)?),
            PayloadType::Ke => Self::Ke(KeyExchange::parse(r)?),
            PayloadType::IdInitiator => Self::IdInitiator(Identification::parse(r)?),
            PayloadType::IdResponder => Self::IdResponder(Identification::parse(r)?),
            PayloadType::Certificate => Self::Certificate(Certificate::parse(r)?),
            PayloadType::CertificateRequest => {
                Self::CertificateRequest(CertificateRequest::parse(r)?)
            }
            PayloadType::Auth => Self::Auth(Authentication::parse(r)?),
            PayloadType::Nonce => Self::Nonce(Nonce::parse(r)?),
            PayloadType::Notify => Self::Notify(Notify::parse(r)?),
            PayloadType::Delete => Self::Delete(Delete::parse(r)?),
            PayloadType::Vendor => Self::Vendor(r.rest().to_vec()),
            PayloadType::TsInitiator => Self::TsInitiator(TrafficSelectors::parse(r)?),
            PayloadType::TsResponder => Self::TsResponder(TrafficSelectors::parse(r)?),
            PayloadType::Configuration => Self::Configuration(Configuration::parse(r)?),
            PayloadType::Eap => Self::Eap(r.rest().to_vec()),
            PayloadType::Other(kind) => Self::Unknown {
                kind,
                critical,
                data: r.rest().to_vec(),
            },
        }))
    }

    /// Appends the content, without the generic header.
    pub(crate) fn emit_body(&self, out: &mut Vec<u8>) -> Result<(), EmitError> {
        let place = Place::Payload(self.kind());
        match self {
            Self::Sa(sa) => sa.emit(out)?,
            Self::Ke(ke) => ke.emit(out),
            Self::IdInitiator(id) | Self::IdResponder(id) => id.emit(out),
            Self::Certificate(certificate) => certificate.emit(out),
            Self::CertificateRequest(request) => request.emit(out),
            Self::Auth(auth) => auth.emit(out),
            Self::Nonce(nonce) => out.extend_from_slice(&nonce.0),
            Self::Notify(notify) => notify.emit(out)?,
            Self::Delete(delete) => delete.emit(out)?,
            Self::TsInitiator(selectors) | Self::TsResponder(selectors) => {
                selectors.emit(out, place)?;
            }
            Self::Configuration(configuration) => configuration.emit(out)?,
            Self::Vendor(data) | Self::Eap(data) | Self::Unknown { data, .. } => {
                out.extend_from_slice(data);
            }
        }
        Ok(())
    }
}
