//! Identities (RFC 7296, section 3.5).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::error::{Fault, ParseError};
use crate::octets::Reader;

/// Who a peer says it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// An IPv4 address.
    Ipv4(Ipv4Addr),
    /// An IPv6 address.
    Ipv6(Ipv6Addr),
    /// A domain name.
    Fqdn(String),
    /// An e-mail address (RFC 822).
    Email(String),
    /// An X.501 distinguished name, DER.
    Dn(Vec<u8>),
    /// An X.509 GeneralName, DER.
    GeneralName(Vec<u8>),
    /// Octets that mean something to both sides.
    KeyId(Vec<u8>),
    /// A type without a name here.
    Other {
        /// Its number.
        kind: u8,
        /// Its value.
        data: Vec<u8>,
    },
}

const ID_IPV4_ADDR: u8 = 1;
const ID_FQDN: u8 = 2;
const ID_RFC822_ADDR: u8 = 3;
const ID_IPV6_ADDR: u8 = 5;
const ID_DER_ASN1_DN: u8 = 9;
const ID_DER_ASN1_GN: u8 = 10;
const ID_KEY_ID: u8 = 11;

impl Identity {
    /// The number of its type.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Ipv4(_) => ID_IPV4_ADDR,
            Self::Ipv6(_) => ID_IPV6_ADDR,
            Self::Fqdn(_) => ID_FQDN,
            Self::Email(_) => ID_RFC822_ADDR,
            Self::Dn(_) => ID_DER_ASN1_DN,
            Self::GeneralName(_) => ID_DER_ASN1_GN,
            Self::KeyId(_) => ID_KEY_ID,
            Self::Other { kind, .. } => *kind,
        }
    }

    fn parse(kind: u8, reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        Ok(match kind {
            ID_IPV4_ADDR => Self::Ipv4(exact::<4>(reader)?.into()),
            ID_IPV6_ADDR => Self::Ipv6(exact::<16>(reader)?.into()),
            ID_FQDN => Self::Fqdn(text(reader)?),
            ID_RFC822_ADDR => Self::Email(text(reader)?),
            ID_DER_ASN1_DN => Self::Dn(reader.rest().to_vec()),
            ID_DER_ASN1_GN => Self::GeneralName(reader.rest().to_vec()),
            ID_KEY_ID => Self::KeyId(reader.rest().to_vec()),
            kind => Self::Other {
                kind,
                data: reader.rest().to_vec(),
            },
        })
    }

    fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ipv4(address) => out.extend_from_slice(&address.octets()),
            Self::Ipv6(address) => out.extend_from_slice(&address.octets()),
            Self::Fqdn(text) | Self::Email(text) => out.extend_from_slice(text.as_bytes()),
            Self::Dn(data)
            | Self::GeneralName(data)
            | Self::KeyId(data)
            | Self::Other { data, .. } => out.extend_from_slice(data),
        }
    }
}

fn exact<const N: usize>(reader: &mut Reader<'_>) -> Result<[u8; N], ParseError> {
    let got = reader.left();
    if got != N {
        return Err(reader.error(Fault::ValueLength {
            got,
            least: N,
            most: N,
        }));
    }
    reader.array()
}

fn text(reader: &mut Reader<'_>) -> Result<String, ParseError> {
    let here = reader.clone();
    let octets = reader.rest();
    match std::str::from_utf8(octets) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(here.error(Fault::NotText)),
    }
}

/// For logs: a peer's text with its control characters escaped; DER and unknown types as
/// hexadecimal, key IDs as text where they are printable.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(address) => address.fmt(f),
            Self::Ipv6(address) => address.fmt(f),
            Self::Fqdn(text) | Self::Email(text) => write!(f, "{}", text.escape_debug()),
            Self::Dn(der) => hex(f, "DN ", der),
            Self::GeneralName(der) => hex(f, "general name ", der),
            Self::KeyId(id) if !id.is_empty() && id.iter().all(u8::is_ascii_graphic) => {
                write!(f, "{}", id.escape_ascii())
            }
            Self::KeyId(id) => hex(f, "key ID ", id),
            Self::Other { kind, data } => {
                write!(f, "identity type {kind} ")?;
                hex(f, "", data)
            }
        }
    }
}

fn hex(f: &mut fmt::Formatter<'_>, before: &str, octets: &[u8]) -> fmt::Result {
    write!(f, "{before}0x")?;
    octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
}

/// An identity as its payload carries it.
///
/// The payload's reserved octets are kept, because both sides authenticate the payload as it was
/// sent (RFC 7296, section 2.15).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identification {
    identity: Identity,
    reserved: [u8; 3],
}

impl From<Identity> for Identification {
    fn from(identity: Identity) -> Self {
        Self {
            identity,
            reserved: [0; 3],
        }
    }
}

impl Identification {
    /// Who it names.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The payload without its generic header: `RestOfInitIDPayload` or `RestOfRespIDPayload` of
    /// RFC 7296, section 2.15.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.emit(&mut out);
        out
    }

    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let kind = reader.u8()?;
        let reserved = reader.array()?;
        let identity = Identity::parse(kind, reader)?;
        Ok(Self { identity, reserved })
    }

    pub(crate) fn emit(&self, out: &mut Vec<u8>) {
        out.push(self.identity.kind());
        out.extend_from_slice(&self.reserved);
        self.identity.emit(out);
    }
}
