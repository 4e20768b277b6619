//! What is wrong with a message, and where.

use crate::notify_type::NotifyType;
use crate::payload::PayloadType;
use crate::proposal::ProtocolId;

/// The part of a message that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The fixed header.
    Header,
    /// A payload of this type.
    Payload(PayloadType),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header => f.pad("header"),
            Self::Payload(kind) => write!(f, "{kind} payload"),
        }
    }
}

/// Octets that are no IKEv2 message, or no chain of payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{place} at octet {offset}: {fault}")]
pub struct ParseError {
    /// The part of the message.
    pub place: Place,
    /// Octets from the start of what was parsed: of the datagram, or of a decrypted chain.
    pub offset: usize,
    /// What is wrong there.
    pub fault: Fault,
}

impl ParseError {
    /// The notify that RFC 7296, section 2.21, answers such a message with, where an answer is
    /// allowed at all: only to an authentic request, or to an unprotected one of an unknown major
    /// version (section 2.5).
    #[must_use]
    pub const fn notify(&self) -> NotifyType {
        match self.fault {
            Fault::MajorVersion(_) => NotifyType::InvalidMajorVersion,
            _ => NotifyType::InvalidSyntax,
        }
    }
}

/// What is wrong at one place of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// The octets end inside a field.
    #[error("{needed} octets are needed, {left} are left")]
    TooShort {
        /// Octets of the field.
        needed: usize,
        /// Octets that there are.
        left: usize,
    },
    /// The header's length is not the datagram's.
    #[error("the length field says {field}, the datagram has {actual} octets")]
    MessageLength {
        /// The header's length field.
        field: u32,
        /// Octets of the datagram.
        actual: usize,
    },
    /// Not version 2.
    #[error("major version {0} instead of 2")]
    MajorVersion(u8),
    /// The initiator's SPI is zero, which no message may have (RFC 7296, section 3.1).
    #[error("the initiator's SPI is zero")]
    ZeroSpi,
    /// A payload's length is below the four octets of its own header, or goes past the end.
    #[error("payload length {field} does not fit: 4 to {left}")]
    PayloadLength {
        /// The length field.
        field: u16,
        /// Octets left from the payload's start.
        left: usize,
    },
    /// The length of a proposal, transform, attribute or selector does not fit its frame.
    #[error("length {field} of an inner structure does not fit: {least} to {left}")]
    InnerLength {
        /// The length field.
        field: u16,
        /// The least length such a structure can have.
        least: usize,
        /// Octets left from the structure's start.
        left: usize,
    },
    /// The marker of a proposal or transform is not one of "last" and "more", or contradicts
    /// what follows.
    #[error("the marker {0} for last or more does not agree with what follows")]
    Marker(u8),
    /// A count field contradicts what was found.
    #[error("the count says {field}, there are {found}")]
    Count {
        /// The count field.
        field: usize,
        /// What there is; a lower bound where the rest was not looked at.
        found: usize,
    },
    /// The SPI has not the length that its protocol uses.
    #[error("an SPI of {size} octets does not fit protocol {protocol}")]
    SpiSize {
        /// The protocol.
        protocol: ProtocolId,
        /// The SPI's length in octets.
        size: u8,
    },
    /// A value has a length that its type cannot have.
    #[error("a value of {got} octets, where {least} to {most} are allowed")]
    ValueLength {
        /// Its length.
        got: usize,
        /// The least allowed.
        least: usize,
        /// The most allowed.
        most: usize,
    },
    /// A name that must be text is not.
    #[error("a name that is not UTF-8 text")]
    NotText,
    /// A selector's range ends before it begins.
    #[error("a range that ends before it begins")]
    Range,
    /// Octets behind the last payload.
    #[error("{0} octets behind the last payload")]
    Trailing(usize),
    /// More than [`MAX_PAYLOADS`](crate::MAX_PAYLOADS) payloads.
    #[error("more payloads than are accepted in one message")]
    TooManyPayloads,
    /// A second payload of a type that may come once.
    #[error("a second payload of this type")]
    Duplicate,
    /// An Encrypted payload that is not the last one, or is inside another.
    #[error("an encrypted payload where none may be")]
    Protected,
    /// A fragment number of zero or beyond the total (RFC 7383, section 2.5).
    #[error("fragment {number} of {total}")]
    FragmentNumber {
        /// The fragment's number, from 1.
        number: u16,
        /// How many the message has.
        total: u16,
    },
}

/// A message that cannot be written, because a field has no room for what it should say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum EmitError {
    /// More octets than a length field can say.
    #[error("{place} of {len} octets is longer than the {most} that fit")]
    TooLong {
        /// The part of the message.
        place: Place,
        /// Its length.
        len: usize,
        /// The most that fits.
        most: usize,
    },
    /// More elements than a count field can say.
    #[error("{place} with {count} elements, where {most} can be counted")]
    TooMany {
        /// The part of the message.
        place: Place,
        /// How many there are.
        count: usize,
        /// The most that can be counted.
        most: usize,
    },
}
