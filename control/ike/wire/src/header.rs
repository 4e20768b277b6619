//! The fixed header of every message (RFC 7296, section 3.1).

use std::fmt;

use crate::codes::codes;
use crate::error::{Fault, ParseError, Place};
use crate::octets::Reader;
use crate::payload::PayloadType;

/// Octets of the header.
pub const HEADER_LEN: usize = 28;

const MAJOR_VERSION: u8 = 2;
const FLAG_INITIATOR: u8 = 0x08;
const FLAG_VERSION: u8 = 0x10;
const FLAG_RESPONSE: u8 = 0x20;

/// The SPI of one side of an IKE SA.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IkeSpi(pub u64);

impl IkeSpi {
    /// What stands for the responder in the first message, before it has chosen.
    pub const ZERO: Self = Self(0);

    /// Whether it is the SPI that stands for none.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for IkeSpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for IkeSpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IkeSpi({self})")
    }
}

/// The SPI of one direction of a Child SA (ESP or AH).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildSpi(pub u32);

impl fmt::Display for ChildSpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

impl fmt::Debug for ChildSpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChildSpi({self})")
    }
}

/// The number that joins a request and its response (RFC 7296, section 2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u32);

impl MessageId {
    /// The number of the next exchange, or `None` behind the last: the IKE SA must be rekeyed
    /// before it comes to that, numbers never wrap.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

codes! {
    /// What an exchange is for (RFC 7296, section 3.1).
    ExchangeType(u8) {
        /// The first exchange: keys (RFC 7296, section 1.2).
        IkeSaInit = 34, "IKE_SA_INIT";
        /// Identities, authentication, the first Child SA.
        IkeAuth = 35, "IKE_AUTH";
        /// A further Child SA, or a rekey of either kind.
        CreateChildSa = 36, "CREATE_CHILD_SA";
        /// Notifies, deletes, liveness.
        Informational = 37, "INFORMATIONAL";
        /// Session resumption (RFC 5723).
        IkeSessionResume = 38, "IKE_SESSION_RESUME";
        /// Between IKE_SA_INIT and IKE_AUTH (RFC 9242).
        IkeIntermediate = 43, "IKE_INTERMEDIATE";
        /// Additional key exchanges behind CREATE_CHILD_SA (RFC 9370).
        IkeFollowupKe = 44, "IKE_FOLLOWUP_KE";
    }
}

/// The header of a message, without the two fields that follow from the rest (the first payload's
/// type and the length).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// The SPI that the original initiator of the IKE SA chose. Not zero.
    pub initiator_spi: IkeSpi,
    /// The SPI that the original responder chose; zero in the first message.
    pub responder_spi: IkeSpi,
    /// What the exchange is for.
    pub exchange: ExchangeType,
    /// Flag I: the sender is the original initiator of the IKE SA.
    pub initiator: bool,
    /// Flag R: the message is a response.
    pub response: bool,
    /// Flag V: the sender could speak a higher major version.
    pub higher_version: bool,
    /// The number of the exchange.
    pub message_id: MessageId,
}

impl Header {
    /// The header of a datagram: cheap, allocates nothing, and checks the length field against the
    /// datagram, so that a flood can be turned away before anything is parsed.
    ///
    /// # Errors
    /// Too short, another length than the datagram's, a major version that is not 2, or an
    /// initiator's SPI of zero. Minor versions are ignored (RFC 7296, section 2.5).
    pub fn parse(datagram: &[u8]) -> Result<Self, ParseError> {
        Self::parse_with_first(datagram).map(|(header, _)| header)
    }

    pub(crate) fn parse_with_first(datagram: &[u8]) -> Result<(Self, PayloadType), ParseError> {
        let mut reader = Reader::new(Place::Header, 0, datagram);
        if reader.left() < HEADER_LEN {
            return Err(reader.error(Fault::TooShort {
                needed: HEADER_LEN,
                left: reader.left(),
            }));
        }
        let initiator_spi = IkeSpi(reader.u64()?);
        let responder_spi = IkeSpi(reader.u64()?);
        let first = PayloadType::from(reader.u8()?);
        let version = reader.clone();
        let major = reader.u8()? >> 4;
        if major != MAJOR_VERSION {
            return Err(version.error(Fault::MajorVersion(major)));
        }
        let exchange = ExchangeType::from(reader.u8()?);
        let flags = reader.u8()?;
        let message_id = MessageId(reader.u32()?);
        let length = reader.clone();
        let field = reader.u32()?;
        if usize::try_from(field) != Ok(datagram.len()) {
            return Err(length.error(Fault::MessageLength {
                field,
                actual: datagram.len(),
            }));
        }
        if initiator_spi.is_zero() {
            return Err(Reader::new(Place::Header, 0, &[]).error(Fault::ZeroSpi));
        }
        let header = Self {
            initiator_spi,
            responder_spi,
            exchange,
            initiator: flags & FLAG_INITIATOR != 0,
            response: flags & FLAG_RESPONSE != 0,
            higher_version: flags & FLAG_VERSION != 0,
            message_id,
        };
        Ok((header, first))
    }

    /// The 28 octets, for a message of `length` octets whose first payload is `first`.
    pub(crate) fn emit(&self, first: PayloadType, length: u32) -> [u8; HEADER_LEN] {
        let mut flags = 0;
        for (set, flag) in [
            (self.initiator, FLAG_INITIATOR),
            (self.response, FLAG_RESPONSE),
            (self.higher_version, FLAG_VERSION),
        ] {
            if set {
                flags |= flag;
            }
        }
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(&self.initiator_spi.0.to_be_bytes());
        out[8..16].copy_from_slice(&self.responder_spi.0.to_be_bytes());
        out[16] = first.into();
        out[17] = MAJOR_VERSION << 4;
        out[18] = self.exchange.into();
        out[19] = flags;
        out[20..24].copy_from_slice(&self.message_id.0.to_be_bytes());
        out[24..].copy_from_slice(&length.to_be_bytes());
        out
    }
}
