//! Notify payloads (RFC 7296, section 3.10).

use crate::error::{EmitError, ParseError, Place};
use crate::header::ChildSpi;
use crate::notify_type::NotifyType;
use crate::octets::{Reader, count8};
use crate::payload::PayloadType;
use crate::proposal::ProtocolId;

/// An error or a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// The protocol whose SA `spi` names; [`ProtocolId::None`] without an SPI.
    pub protocol: ProtocolId,
    /// The SPI of the SA that it is about, or empty.
    pub spi: Vec<u8>,
    /// What it says.
    pub kind: NotifyType,
    /// Data; what they mean follows from `kind`.
    pub data: Vec<u8>,
}

impl Notify {
    /// A notify without SPI and data.
    #[must_use]
    pub const fn new(kind: NotifyType) -> Self {
        Self::with_data(kind, Vec::new())
    }

    /// A notify with data.
    #[must_use]
    pub const fn with_data(kind: NotifyType, data: Vec<u8>) -> Self {
        Self {
            protocol: ProtocolId::None,
            spi: Vec::new(),
            kind,
            data,
        }
    }

    /// A notify about a Child SA, named by the SPI on which the sender receives (REKEY_SA), or
    /// the one that it was sent (CHILD_SA_NOT_FOUND, INVALID_SPI names it in the data).
    #[must_use]
    pub fn for_child(kind: NotifyType, protocol: ProtocolId, spi: ChildSpi) -> Self {
        Self {
            protocol,
            spi: spi.0.to_be_bytes().to_vec(),
            kind,
            data: Vec::new(),
        }
    }

    /// INVALID_KE_PAYLOAD with the group that is wanted instead (RFC 7296, section 1.2).
    #[must_use]
    pub fn invalid_ke(group: u16) -> Self {
        Self::with_data(NotifyType::InvalidKePayload, group.to_be_bytes().to_vec())
    }

    /// SIGNATURE_HASH_ALGORITHMS with these [`hash_id`](crate::hash_id)s (RFC 7427, section 4).
    #[must_use]
    pub fn signature_hashes(hashes: &[u16]) -> Self {
        let data = hashes.iter().flat_map(|hash| hash.to_be_bytes()).collect();
        Self::with_data(NotifyType::SignatureHashAlgorithms, data)
    }

    /// The SPI of a Child SA, if it has the length of one.
    #[must_use]
    pub fn child_spi(&self) -> Option<ChildSpi> {
        let octets = self.spi.as_slice().try_into().ok()?;
        Some(ChildSpi(u32::from_be_bytes(octets)))
    }

    /// The group that an INVALID_KE_PAYLOAD asks for.
    #[must_use]
    pub fn group(&self) -> Option<u16> {
        let octets = self.data.as_slice().try_into().ok()?;
        Some(u16::from_be_bytes(octets))
    }

    /// The hash algorithms of a SIGNATURE_HASH_ALGORITHMS; an odd last octet is ignored.
    pub fn hashes(&self) -> impl Iterator<Item = u16> {
        let pairs = self.data.chunks_exact(2);
        pairs.map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
    }

    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let protocol = reader.u8()?.into();
        let size = reader.u8()?;
        let kind = reader.u16()?.into();
        let spi = reader.take(usize::from(size))?.to_vec();
        let data = reader.rest().to_vec();
        Ok(Self {
            protocol,
            spi,
            kind,
            data,
        })
    }

    pub(crate) fn emit(&self, out: &mut Vec<u8>) -> Result<(), EmitError> {
        let size = count8(self.spi.len(), Place::Payload(PayloadType::Notify))?;
        out.extend_from_slice(&[self.protocol.into(), size]);
        out.extend_from_slice(&u16::from(self.kind).to_be_bytes());
        out.extend_from_slice(&self.spi);
        out.extend_from_slice(&self.data);
        Ok(())
    }
}
