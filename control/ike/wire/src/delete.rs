//! Delete payloads (RFC 7296, section 3.11).

use crate::error::{EmitError, Fault, ParseError, Place};
use crate::header::ChildSpi;
use crate::octets::{Reader, count16};
use crate::payload::PayloadType;
use crate::proposal::ProtocolId;

const CHILD_SPI_LEN: u8 = 4;

/// SAs that the sender has deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delete {
    /// The IKE SA that carries the message, and all its children.
    IkeSa,
    /// Child SAs.
    Children {
        /// ESP or AH.
        protocol: ProtocolId,
        /// The SPIs on which the sender received: what it calls inbound, and the receiver
        /// outbound.
        spis: Vec<ChildSpi>,
    },
}

impl Delete {
    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let here = reader.clone();
        let protocol = ProtocolId::from(reader.u8()?);
        let size = reader.u8()?;
        let field = usize::from(reader.u16()?);
        if protocol == ProtocolId::Ike {
            if size != 0 {
                return Err(here.error(Fault::SpiSize { protocol, size }));
            }
            // Without SPIs the count says nothing; some peers count the IKE SA, others do not.
            if !reader.is_empty() {
                return Err(reader.error(Fault::Trailing(reader.left())));
            }
            return Ok(Self::IkeSa);
        }
        if size != CHILD_SPI_LEN {
            return Err(here.error(Fault::SpiSize { protocol, size }));
        }
        let found = reader.left() / usize::from(CHILD_SPI_LEN);
        if field != found || !reader.left().is_multiple_of(usize::from(CHILD_SPI_LEN)) {
            return Err(here.error(Fault::Count { field, found }));
        }
        let mut spis = Vec::with_capacity(found);
        while !reader.is_empty() {
            spis.push(ChildSpi(reader.u32()?));
        }
        Ok(Self::Children { protocol, spis })
    }

    pub(crate) fn emit(&self, out: &mut Vec<u8>) -> Result<(), EmitError> {
        match self {
            Self::IkeSa => out.extend_from_slice(&[ProtocolId::Ike.into(), 0, 0, 0]),
            Self::Children { protocol, spis } => {
                let count = count16(spis.len(), Place::Payload(PayloadType::Delete))?;
                out.extend_from_slice(&[(*protocol).into(), CHILD_SPI_LEN]);
                out.extend_from_slice(&count.to_be_bytes());
                for spi in spis {
                    out.extend_from_slice(&spi.0.to_be_bytes());
                }
            }
        }
        Ok(())
    }
}
