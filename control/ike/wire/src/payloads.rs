//! A chain of payloads: in clear behind the header, or inside an Encrypted payload.

use std::ops::Deref;

use crate::auth::{Authentication, Certificate, CertificateRequest};
use crate::configuration::Configuration;
use crate::delete::Delete;
use crate::error::{EmitError, Fault, ParseError, Place};
use crate::exchange::{KeyExchange, Nonce};
use crate::identity::Identification;
use crate::notify::Notify;
use crate::notify_type::NotifyType;
use crate::octets::{Reader, patch_len};
use crate::payload::{Payload, PayloadType};
use crate::proposal::SecurityAssociation;
use crate::selector::TrafficSelectors;

/// How many payloads one chain may have.
///
/// Unit: payloads. The longest honest message, an IKE_AUTH with a deep chain of certificates and
/// every notify, has about thirty. Too small refuses real peers; too large lets 64 KiB of empty
/// payloads become 16,000 values.
pub const MAX_PAYLOADS: usize = 128;

/// Octets of the header that every payload has (RFC 7296, section 3.2).
pub(crate) const GENERIC_LEN: usize = 4;
const CRITICAL: u8 = 0x80;

/// The generic header of a payload, and its content.
pub(crate) struct Framed<'a> {
    pub(crate) next: PayloadType,
    pub(crate) critical: bool,
    /// Octet number of the content.
    pub(crate) offset: usize,
    pub(crate) body: &'a [u8],
}

/// Takes the next payload of a chain off the reader. Its type is known from what stood before it.
pub(crate) fn take_framed<'a>(
    reader: &mut Reader<'a>,
    kind: PayloadType,
) -> Result<Framed<'a>, ParseError> {
    let start = Reader::new(Place::Payload(kind), reader.offset(), &[]);
    let left = reader.left();
    if left < GENERIC_LEN {
        return Err(start.error(Fault::TooShort {
            needed: GENERIC_LEN,
            left,
        }));
    }
    let next = PayloadType::from(reader.u8()?);
    let critical = reader.u8()? & CRITICAL != 0;
    let field = reader.u16()?;
    let length = usize::from(field);
    if length < GENERIC_LEN || length > left {
        return Err(start.error(Fault::PayloadLength { field, left }));
    }
    let offset = reader.offset();
    let body = reader.take(length - GENERIC_LEN)?;
    Ok(Framed {
        next,
        critical,
        offset,
        body,
    })
}

/// Payloads in their order on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payloads(Vec<Payload>);

impl From<Vec<Payload>> for Payloads {
    fn from(payloads: Vec<Payload>) -> Self {
        Self(payloads)
    }
}

impl FromIterator<Payload> for Payloads {
    fn from_iter<I: IntoIterator<Item = Payload>>(payloads: I) -> Self {
        Self(payloads.into_iter().collect())
    }
}

impl Deref for Payloads {
    type Target = [Payload];

    fn deref(&self) -> &[Payload] {
        &self.0
    }
}

/// Accessors for what comes at most once.
macro_rules! single {
    ($($(#[$doc:meta])* $name:ident: $variant:ident -> $content:ty;)*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $name(&self) -> Option<&$content> {
                self.0.iter().find_map(|payload| match payload {
                    Payload::$variant(content) => Some(content),
                    _ => None,
                })
            }
        )*
    };
}

/// Accessors for what may come more than once.
macro_rules! several {
    ($($(#[$doc:meta])* $name:ident: $variant:ident -> $content:ty;)*) => {
        $(
            $(#[$doc])*
            pub fn $name(&self) -> impl Iterator<Item = &$content> {
                self.0.iter().filter_map(|payload| match payload {
                    Payload::$variant(content) => Some(content),
                    _ => None,
                })
            }
        )*
    };
}

impl Payloads {
    /// No payloads.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Appends a payload.
    pub fn push(&mut self, payload: Payload) {
        self.0.push(payload);
    }

    single! {
        /// The SA payload.
        sa: Sa -> SecurityAssociation;
        /// The key exchange payload.
        ke: Ke -> KeyExchange;
        /// The initiator's identity.
        id_initiator: IdInitiator -> Identification;
        /// The responder's identity.
        id_responder: IdResponder -> Identification;
        /// The authentication payload.
        auth: Auth -> Authentication;
        /// The nonce.
        nonce: Nonce -> Nonce;
        /// The traffic selectors of the exchange's initiator.
        ts_initiator: TsInitiator -> TrafficSelectors;
        /// The traffic selectors of the exchange's responder.
        ts_responder: TsResponder -> TrafficSelectors;
        /// The configuration payload.
        configuration: Configuration -> Configuration;
        /// The EAP message.
        eap: Eap -> Vec<u8>;
    }

    several! {
        /// The notifies, in order.
        notifies: Notify -> Notify;
        /// The certificates, in order.
        certificates: Certificate -> Certificate;
        /// The certificate requests, in order.
        certificate_requests: CertificateRequest -> CertificateRequest;
        /// The deletes, in order.
        deletes: Delete -> Delete;
        /// The vendor IDs, in order.
        vendor_ids: Vendor -> Vec<u8>;
    }

    /// The first notify of this type.
    #[must_use]
    pub fn notify(&self, kind: NotifyType) -> Option<&Notify> {
        self.notifies().find(|notify| notify.kind == kind)
    }

    /// The first notify that says an error.
    #[must_use]
    pub fn error(&self) -> Option<&Notify> {
        self.notifies().find(|notify| notify.kind.is_error())
    }

    /// The type of the first unknown payload that must be understood. A request with one is
    /// answered with UNSUPPORTED_CRITICAL_PAYLOAD (RFC 7296, section 2.5).
    #[must_use]
    pub fn unsupported_critical(&self) -> Option<u8> {
        self.0.iter().find_map(|payload| match payload {
            Payload::Unknown {
                kind,
                critical: true,
                ..
            } => Some(*kind),
            _ => None,
        })
    }

    /// Parses what was inside an Encrypted payload; `first` is the type that the Encrypted
    /// payload's header announced.
    ///
    /// # Errors
    /// Where the octets are no such chain; offsets count from the first octet given.
    pub fn parse(first: PayloadType, octets: &[u8]) -> Result<Self, ParseError> {
        let place = Place::Payload(first);
        let mut reader = Reader::new(place, 0, octets);
        let mut payloads = Self::new();
        let mut kind = first;
        while kind != PayloadType::NoNext {
            let start = reader.offset();
            let framed = take_framed(&mut reader, kind)?;
            payloads.accept(kind, start, &framed)?;
            kind = framed.next;
        }
        if !reader.is_empty() {
            let end = Reader::new(Place::Payload(kind), reader.offset(), &[]);
            return Err(end.error(Fault::Trailing(reader.left())));
        }
        Ok(payloads)
    }

    /// Parses and takes in one payload that starts at octet `start`.
    pub(crate) fn accept(
        &mut self,
        kind: PayloadType,
        start: usize,
        framed: &Framed<'_>,
    ) -> Result<(), ParseError> {
        let here = Reader::new(Place::Payload(kind), start, &[]);
        if self.0.len() == MAX_PAYLOADS {
            return Err(here.error(Fault::TooManyPayloads));
        }
        if kind.comes_once() && self.0.iter().any(|payload| payload.kind() == kind) {
            return Err(here.error(Fault::Duplicate));
        }
        match Payload::parse(kind, framed.critical, framed.offset, framed.body)? {
            Some(payload) => self.push(payload),
            None => return Err(here.error(Fault::Protected)),
        }
        Ok(())
    }

    /// The type of the first payload and the octets of the whole chain, as they go into an
    /// Encrypted payload.
    ///
    /// # Errors
    /// A payload that is longer, or has more elements, than its fields can say.
    pub fn emit(&self) -> Result<(PayloadType, Vec<u8>), EmitError> {
        let mut out = Vec::new();
        let first = self.emit_before(PayloadType::NoNext, &mut out)?;
        Ok((first, out))
    }

    /// Appends the chain; the last payload announces `follows`. Returns the first one's type.
    pub(crate) fn emit_before(
        &self,
        follows: PayloadType,
        out: &mut Vec<u8>,
    ) -> Result<PayloadType, EmitError> {
        let kinds = self.0.iter().map(Payload::kind);
        let next = kinds.clone().skip(1).chain([follows]);
        for (payload, next) in self.0.iter().zip(next) {
            let start = out.len();
            let flags = if payload.critical() { CRITICAL } else { 0 };
            out.extend_from_slice(&[next.into(), flags, 0, 0]);
            payload.emit_body(out)?;
            patch_len(out, start, start + 2, Place::Payload(payload.kind()))?;
        }
        Ok(kinds.clone().next().unwrap_or(follows))
    }
}
