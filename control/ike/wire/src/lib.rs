//! IKEv2 messages as types: parse and emit (RFC 7296, section 3).
//!
//! A datagram becomes a [`Message`]: its [`Header`], the payloads that stand in clear, and the body
//! of an Encrypted payload as opaque octets. Whoever has the keys opens the body and hands what
//! was in it to [`Payloads::parse`]. The other way round, [`Message::emit`] and
//! [`Payloads::emit`] write what was given.
//!
//! The parser believes nothing: every length is checked before it is used, every list ends where
//! its frame ends, nothing recurses, and what it allocates is in proportion to the octets it was
//! given. A [`ParseError`] says which payload, at which octet, and what is wrong there. What the
//! RFCs tell a receiver to ignore (reserved bits, unknown notify, transform and selector types) is
//! kept or ignored, never refused.
//!
//! RFCs: 7296 (IKEv2), 7383 (fragmentation: the SKF payload), 7427 (digital signatures), 4555
//! (MOBIKE notifies), 6023 (childless), 9242 and 9370 (intermediate exchange and additional key
//! exchanges, by number).
//!
//! Not here: cryptography, the order of exchanges, and any judgement whether a payload belongs in
//! an exchange. EAP payloads are opaque.
//!
//! Limits: messages up to [`MAX_MESSAGE_LEN`] octets, [`MAX_PAYLOADS`] payloads in a chain, no
//! IKEv1.

#![forbid(unsafe_code)]

mod auth;
mod codes;
mod configuration;
mod delete;
mod error;
mod exchange;
#[cfg(any(test, feature = "harness"))]
pub mod harness;
mod header;
mod identity;
mod message;
mod notify;
mod notify_type;
mod octets;
mod payload;
mod payloads;
mod proposal;
mod selector;
mod transform;
pub mod transform_id;

pub use auth::{
    AuthMethod, Authentication, Certificate, CertificateEncoding, CertificateRequest, hash_id,
};
pub use configuration::{Configuration, ConfigurationAttribute, ConfigurationKind};
pub use delete::Delete;
pub use error::{EmitError, Fault, ParseError, Place};
pub use exchange::{KeyExchange, Nonce};
pub use header::{ChildSpi, ExchangeType, HEADER_LEN, Header, IkeSpi, MessageId};
pub use identity::{Identification, Identity};
pub use message::{FragmentNumber, MAX_MESSAGE_LEN, Message, Protected, emit_protected_prefix};
pub use notify::Notify;
pub use notify_type::NotifyType;
pub use payload::{Payload, PayloadType};
pub use payloads::{MAX_PAYLOADS, Payloads};
pub use proposal::{Proposal, ProtocolId, SecurityAssociation};
pub use selector::{PortRange, TrafficSelector, TrafficSelectors};
pub use transform::{Attribute, AttributeValue, Transform, TransformType};
