//! Security association payloads: proposals (RFC 7296, sections 3.3 and 3.3.1).

use std::fmt;

use crate::codes::codes;
use crate::error::{EmitError, Fault, ParseError, Place};
use crate::header::{ChildSpi, IkeSpi};
use crate::octets::{Reader, count8, patch_len};
use crate::payload::PayloadType;
use crate::transform::{Transform, TransformType};

codes! {
    /// The protocol that a proposal, notify or delete is about (RFC 7296, section 3.3.1).
    ProtocolId(u8) {
        /// None: a notify that is about no SPI.
        None = 0, "none";
        /// IKE.
        Ike = 1, "IKE";
        /// Authentication Header.
        Ah = 2, "AH";
        /// Encapsulating Security Payload.
        Esp = 3, "ESP";
    }
}

const PROPOSAL_LEN: usize = 8;
const LAST: u8 = 0;
const MORE: u8 = 2;

/// The place of everything in this payload.
pub(crate) const SA: Place = Place::Payload(PayloadType::Sa);

/// An SA payload: what the sender proposes, in its order of preference, or the one that was
/// chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityAssociation {
    /// The proposals. A response has one.
    pub proposals: Vec<Proposal>,
}

/// A proposal: of each transform type in it, one transform is to be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Its number, counted from 1. A response repeats that of the proposal it chose.
    pub number: u8,
    /// What the SA is for.
    pub protocol: ProtocolId,
    /// The sender's SPI: none in IKE_SA_INIT, 8 octets to rekey the IKE SA, 4 for a Child SA.
    pub spi: Vec<u8>,
    /// The transforms, in order of preference within each type.
    pub transforms: Vec<Transform>,
}

impl Proposal {
    /// The SPI of a Child SA's proposal.
    #[must_use]
    pub fn child_spi(&self) -> Option<ChildSpi> {
        let octets = self.spi.as_slice().try_into().ok()?;
        Some(ChildSpi(u32::from_be_bytes(octets)))
    }

    /// The SPI of a proposal that rekeys an IKE SA.
    #[must_use]
    pub fn ike_spi(&self) -> Option<IkeSpi> {
        let octets = self.spi.as_slice().try_into().ok()?;
        Some(IkeSpi(u64::from_be_bytes(octets)))
    }

    /// The transforms of one type, in order of preference.
    pub fn transforms_of(&self, kind: TransformType) -> impl Iterator<Item = &Transform> {
        self.transforms
            .iter()
            .filter(move |transform| transform.kind == kind)
    }

    fn parse(mut reader: Reader<'_>) -> Result<Self, ParseError> {
        reader.take(4)?;
        let here = reader.clone();
        let number = reader.u8()?;
        let protocol = ProtocolId::from(reader.u8()?);
        let size = reader.u8()?;
        let fits = match protocol {
            ProtocolId::Ike => size == 0 || size == 8,
            ProtocolId::Ah | ProtocolId::Esp => size == 4,
            ProtocolId::None | ProtocolId::Other(_) => true,
        };
        if !fits {
            return Err(here.error(Fault::SpiSize { protocol, size }));
        }
        let field = usize::from(reader.u8()?);
        let spi = reader.take(usize::from(size))?.to_vec();
        let mut transforms = Vec::new();
        while !reader.is_empty() {
            let marker = reader.clone();
            let (transform, last) = Transform::parse(&mut reader)?;
            if last != reader.is_empty() {
                return Err(marker.error(Fault::Marker(if last { LAST } else { Transform::MORE })));
            }
            transforms.push(transform);
            if transforms.len() > field {
                break;
            }
        }
        if transforms.len() != field {
            let found = transforms.len();
            return Err(here.error(Fault::Count { field, found }));
        }
        Ok(Self {
            number,
            protocol,
            spi,
            transforms,
        })
    }

    fn emit(&self, last: bool, out: &mut Vec<u8>) -> Result<(), EmitError> {
        let start = out.len();
        out.extend_from_slice(&[if last { LAST } else { MORE }, 0, 0, 0]);
        out.extend_from_slice(&[self.number, self.protocol.into()]);
        out.push(count8(self.spi.len(), SA)?);
        out.push(count8(self.transforms.len(), SA)?);
        out.extend_from_slice(&self.spi);
        for (index, transform) in self.transforms.iter().enumerate() {
            transform.emit(index + 1 == self.transforms.len(), out)?;
        }
        patch_len(out, start, start + 2, SA)
    }
}

/// As `ESP: AES_GCM_16_256, AES_GCM_16_128 / MODP_2048 / NO_ESN`: alternatives by commas, types
/// by slashes.
impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.protocol)?;
        let mut kinds: Vec<TransformType> = Vec::new();
        for transform in &self.transforms {
            if !kinds.contains(&transform.kind) {
                kinds.push(transform.kind);
            }
        }
        for (index, kind) in kinds.into_iter().enumerate() {
            f.write_str(if index == 0 { " " } else { " / " })?;
            for (index, transform) in self.transforms_of(kind).enumerate() {
                let comma = if index == 0 { "" } else { ", " };
                write!(f, "{comma}{transform}")?;
            }
        }
        Ok(())
    }
}

impl SecurityAssociation {
    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let mut proposals = Vec::new();
        loop {
            let here = reader.clone();
            let proposal = reader.structure(2, PROPOSAL_LEN)?;
            let marker = proposal.clone().u8()?;
            let expected = if reader.is_empty() { LAST } else { MORE };
            if marker != expected {
                return Err(here.error(Fault::Marker(marker)));
            }
            proposals.push(Proposal::parse(proposal)?);
            if marker == LAST {
                return Ok(Self { proposals });
            }
        }
    }

    pub(crate) fn emit(&self, out: &mut Vec<u8>) -> Result<(), EmitError> {
        for (index, proposal) in self.proposals.iter().enumerate() {
            proposal.emit(index + 1 == self.proposals.len(), out)?;
        }
        Ok(())
    }
}
