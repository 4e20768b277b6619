//! Configuration payloads (RFC 7296, section 3.15): the frame, and the values as octets.

use crate::codes::codes;
use crate::error::{EmitError, Fault, ParseError, Place};
use crate::octets::{Reader, len16};
use crate::payload::PayloadType;

codes! {
    /// What a configuration payload asks or says.
    ConfigurationKind(u8) {
        /// Asks for values.
        Request = 1, "CFG_REQUEST";
        /// Answers a request.
        Reply = 2, "CFG_REPLY";
        /// Sets values.
        Set = 3, "CFG_SET";
        /// Accepts what was set.
        Ack = 4, "CFG_ACK";
    }
}

/// One value, by its type's number; the highest bit of the type's field is reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationAttribute {
    /// Its type, 0 to 32767.
    pub kind: u16,
    /// Its value; empty where a request leaves it to the responder.
    pub value: Vec<u8>,
}

/// A configuration payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// What it asks or says.
    pub kind: ConfigurationKind,
    /// Its values.
    pub attributes: Vec<ConfigurationAttribute>,
}

const TYPE_MASK: u16 = 0x7fff;

impl Configuration {
    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let kind = reader.u8()?.into();
        reader.take(3)?;
        let mut attributes = Vec::new();
        while !reader.is_empty() {
            let here = reader.clone();
            let kind = reader.u16()? & TYPE_MASK;
            let field = reader.u16()?;
            let left = reader.left();
            if usize::from(field) > left {
                return Err(here.error(Fault::InnerLength {
                    field,
                    least: 0,
                    left,
                }));
            }
            let value = reader.take(usize::from(field))?.to_vec();
            attributes.push(ConfigurationAttribute { kind, value });
        }
        Ok(Self { kind, attributes })
    }

    pub(crate) fn emit(&self, out: &mut Vec<u8>) -> Result<(), EmitError> {
        out.extend_from_slice(&[self.kind.into(), 0, 0, 0]);
        for attribute in &self.attributes {
            let place = Place::Payload(PayloadType::Configuration);
            let len = len16(attribute.value.len(), place)?;
            out.extend_from_slice(&(attribute.kind & TYPE_MASK).to_be_bytes());
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(&attribute.value);
        }
        Ok(())
    }
}
