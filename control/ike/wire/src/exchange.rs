//! Key exchange and nonce payloads (RFC 7296, sections 3.4 and 3.9).

use crate::error::{Fault, ParseError};
use crate::octets::Reader;

/// A public value of a Diffie-Hellman group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyExchange {
    /// The group's transform ID (see [`transform_id`](crate::transform_id)).
    pub group: u16,
    /// The public value as the group's RFC encodes it. Its length is not judged here.
    pub data: Vec<u8>,
}

impl KeyExchange {
    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let group = reader.u16()?;
        reader.take(2)?;
        let data = reader.rest().to_vec();
        Ok(Self { group, data })
    }

    pub(crate) fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.group.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.data);
    }
}

/// A nonce: [`Nonce::MIN_LEN`] to [`Nonce::MAX_LEN`] octets, where it was parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(pub Vec<u8>);

impl Nonce {
    /// The shortest nonce (RFC 7296, section 3.9).
    pub const MIN_LEN: usize = 16;
    /// The longest nonce.
    pub const MAX_LEN: usize = 256;

    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let got = reader.left();
        if !(Self::MIN_LEN..=Self::MAX_LEN).contains(&got) {
            return Err(reader.error(Fault::ValueLength {
                got,
                least: Self::MIN_LEN,
                most: Self::MAX_LEN,
            }));
        }
        Ok(Self(reader.rest().to_vec()))
    }
}
