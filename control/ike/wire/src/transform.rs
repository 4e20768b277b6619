//! Transforms and their attributes (RFC 7296, sections 3.3.2 and 3.3.5).

use std::fmt;

use crate::error::{EmitError, Fault, ParseError};
use crate::octets::{Reader, len16, patch_len};
use crate::proposal::SA;
use crate::transform_id;

/// What a transform is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransformType {
    /// Encryption.
    Encr,
    /// Pseudorandom function.
    Prf,
    /// Integrity.
    Integ,
    /// Diffie-Hellman group, or another key exchange method.
    Dh,
    /// Extended sequence numbers.
    Esn,
    /// Additional key exchange 1 to 7 (RFC 9370).
    AdditionalKe(u8),
    /// A type without a name here.
    Other(u8),
}

impl From<u8> for TransformType {
    fn from(number: u8) -> Self {
        match number {
            1 => Self::Encr,
            2 => Self::Prf,
            3 => Self::Integ,
            4 => Self::Dh,
            5 => Self::Esn,
            6..=12 => Self::AdditionalKe(number - 5),
            other => Self::Other(other),
        }
    }
}

impl From<TransformType> for u8 {
    fn from(kind: TransformType) -> Self {
        match kind {
            TransformType::Encr => 1,
            TransformType::Prf => 2,
            TransformType::Integ => 3,
            TransformType::Dh => 4,
            TransformType::Esn => 5,
            TransformType::AdditionalKe(index) => index.saturating_add(5),
            TransformType::Other(other) => other,
        }
    }
}

impl fmt::Display for TransformType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encr => f.pad("encryption"),
            Self::Prf => f.pad("PRF"),
            Self::Integ => f.pad("integrity"),
            Self::Dh => f.pad("DH group"),
            Self::Esn => f.pad("ESN"),
            Self::AdditionalKe(index) => write!(f, "additional key exchange {index}"),
            Self::Other(other) => write!(f, "transform type {other}"),
        }
    }
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    /// Two octets, in the place of the length.
    Short(u16),
    /// Octets with a length before them.
    Long(Vec<u8>),
}

/// An attribute of a transform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its type, 0 to 32767.
    pub kind: u16,
    /// Its value.
    pub value: AttributeValue,
}

/// One algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transform {
    /// What it is for.
    pub kind: TransformType,
    /// Its number among those of its type (see [`transform_id`]).
    pub id: u16,
    /// The key length attribute, in bits.
    pub key_length: Option<u16>,
    /// Every other attribute. A transform with one must not be chosen (RFC 7296, section 3.3.6).
    pub other_attributes: Vec<Attribute>,
}

const HEADER_LEN: usize = 8;
const KEY_LENGTH: u16 = 14;
/// The highest bit of an attribute's type says that the value is short.
const SHORT: u16 = 0x8000;
const LAST: u8 = 0;

impl Transform {
    pub(crate) const MORE: u8 = 3;

    /// A transform without attributes.
    #[must_use]
    pub const fn new(kind: TransformType, id: u16) -> Self {
        Self {
            kind,
            id,
            key_length: None,
            other_attributes: Vec::new(),
        }
    }

    /// A transform with a key length in bits.
    #[must_use]
    pub const fn with_key(kind: TransformType, id: u16, bits: u16) -> Self {
        Self {
            kind,
            id,
            key_length: Some(bits),
            other_attributes: Vec::new(),
        }
    }

    /// The next transform, and whether it says that it is the last one.
    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<(Self, bool), ParseError> {
        let mut inner = reader.structure(2, HEADER_LEN)?;
        let here = inner.clone();
        let marker = inner.u8()?;
        if marker != LAST && marker != Self::MORE {
            return Err(here.error(Fault::Marker(marker)));
        }
        inner.take(3)?;
        let kind = TransformType::from(inner.u8()?);
        inner.take(1)?;
        let id = inner.u16()?;
        let mut transform = Self::new(kind, id);
        while !inner.is_empty() {
            let attribute = Attribute::parse(&mut inner)?;
            match (&attribute.value, transform.key_length) {
                (AttributeValue::Short(bits), None) if attribute.kind == KEY_LENGTH => {
                    transform.key_length = Some(*bits);
                }
                _ => transform.other_attributes.push(attribute),
            }
        }
        Ok((transform, marker == LAST))
    }

    pub(crate) fn emit(&self, last: bool, out: &mut Vec<u8>) -> Result<(), EmitError> {
        let start = out.len();
        out.extend_from_slice(&[if last { LAST } else { Self::MORE }, 0, 0, 0]);
        out.extend_from_slice(&[self.kind.into(), 0]);
        out.extend_from_slice(&self.id.to_be_bytes());
        if let Some(bits) = self.key_length {
            out.extend_from_slice(&(KEY_LENGTH | SHORT).to_be_bytes());
            out.extend_from_slice(&bits.to_be_bytes());
        }
        for attribute in &self.other_attributes {
            attribute.emit(out)?;
        }
        patch_len(out, start, start + 2, SA)
    }
}

impl Attribute {
    fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let here = reader.clone();
        let kind = reader.u16()?;
        let field = reader.u16()?;
        if kind & SHORT != 0 {
            return Ok(Self {
                kind: kind & !SHORT,
                value: AttributeValue::Short(field),
            });
        }
        let left = reader.left();
        if usize::from(field) > left {
            return Err(here.error(Fault::InnerLength {
                field,
                least: 0,
                left,
            }));
        }
        let value = reader.take(usize::from(field))?.to_vec();
        Ok(Self {
            kind,
            value: AttributeValue::Long(value),
        })
    }

    fn emit(&self, out: &mut Vec<u8>) -> Result<(), EmitError> {
        match &self.value {
            AttributeValue::Short(value) => {
                out.extend_from_slice(&(self.kind | SHORT).to_be_bytes());
                out.extend_from_slice(&value.to_be_bytes());
            }
            AttributeValue::Long(value) => {
                let len = len16(value.len(), SA)?;
                out.extend_from_slice(&(self.kind & !SHORT).to_be_bytes());
                out.extend_from_slice(&len.to_be_bytes());
                out.extend_from_slice(value);
            }
        }
        Ok(())
    }
}

/// The registry's name with the key length behind it (`AES_GCM_16_256`), or the number.
impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match transform_id::name(self.kind, self.id) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "{} {}", self.kind, self.id)?,
        }
        if let Some(bits) = self.key_length {
            write!(f, "_{bits}")?;
        }
        if !self.other_attributes.is_empty() {
            f.write_str(" with unknown attributes")?;
        }
        Ok(())
    }
}
