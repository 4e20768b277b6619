//! Distinguished names as people write them, and as certificates carry them (X.501, DER).
//!
//! `C=DE, O=Example, CN=gateway`: attributes in the order of the certificate, separated by commas
//! (a comma in a value has a backslash before it). Countries are printable strings, domain
//! components and e-mail addresses IA5 strings, all else UTF-8, as today's tools write them.
//!
//! Known limit: names with several attributes in one RDN cannot be written.

use std::{fmt, str::FromStr};

/// A distinguished name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistinguishedName {
    text: String,
    der: Vec<u8>,
}

/// Why a text is no distinguished name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnError {
    /// A part without `=`.
    #[error("`{0}` is no attribute: write C=…, O=…, CN=…")]
    NoAttribute(String),
    /// An attribute that is not known.
    #[error("`{0}` is no attribute that is known: C, ST, L, O, OU, CN, DC, E, SN")]
    Unknown(String),
    /// An attribute without a value.
    #[error("`{0}` has no value")]
    Empty(String),
}

/// DER tags.
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const IA5: u8 = 0x16;

/// An attribute's object identifier in DER and the kind of string it takes.
fn attribute(name: &str) -> Option<(&'static [u8], u8)> {
    Some(match name.to_ascii_uppercase().as_str() {
        "C" => (&[0x55, 4, 6], PRINTABLE),
        "ST" | "S" => (&[0x55, 4, 8], UTF8),
        "L" => (&[0x55, 4, 7], UTF8),
        "O" => (&[0x55, 4, 10], UTF8),
        "OU" => (&[0x55, 4, 11], UTF8),
        "CN" => (&[0x55, 4, 3], UTF8),
        "SN" | "SERIALNUMBER" => (&[0x55, 4, 5], PRINTABLE),
        "DC" => (
            &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25],
            IA5,
        ),
        "E" | "EMAIL" | "EMAILADDRESS" => (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], IA5),
        _ => return None,
    })
}

impl DistinguishedName {
    /// Its DER encoding.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }
}

impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for DistinguishedName {
    type Err = DnError;

    fn from_str(text: &str) -> Result<Self, DnError> {
        let mut names = Vec::new();
        for part in parts(text) {
            let Some((name, value)) = part.split_once('=') else {
                return Err(DnError::NoAttribute(part));
            };
            let (name, value) = (name.trim(), value.trim());
            let (oid, kind) = attribute(name).ok_or_else(|| DnError::Unknown(name.to_owned()))?;
            if value.is_empty() {
                return Err(DnError::Empty(name.to_owned()));
            }
            let pair = [encode(OID, oid), encode(kind, value.as_bytes())].concat();
            names.extend(encode(SET, &encode(SEQUENCE, &pair)));
        }
        Ok(Self {
            text: text.to_owned(),
            der: encode(SEQUENCE, &names),
        })
    }
}

/// The parts between commas, without backslashes.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, parts.last_mut()) {
            ('\\', Some(part)) => part.extend(characters.next()),
            (',', _) => parts.push(String::new()),
            (c, Some(part)) => part.push(c),
            (_, None) => {}
        }
    }
    parts.into_iter().map(|p| p.trim().to_owned()).collect()
}

/// Tag, length, contents.
fn encode(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|b| **b == 0).count()..];
    let mut out = vec![tag];
    if contents.len() < 0x80 {
        out.push(contents.len() as u8);
    } else {
        out.push(0x80 | significant.len() as u8);
        out.extend(significant);
    }
    out.extend(contents);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_as_certificates_have_them() {
        let name: DistinguishedName = "C=DE, CN=gw".parse().unwrap();
        // openssl req -subj /C=DE/CN=gw
        let expected = [
            &[
                0x30, 0x1a, 0x31, 0x0b, 0x30, 0x09, 6, 3, 0x55, 4, 6, 0x13, 2,
            ][..],
            b"DE",
            &[0x31, 0x0b, 0x30, 0x09, 6, 3, 0x55, 4, 3, 0x0c, 2],
            b"gw",
        ]
        .concat();
        assert_eq!(name.der(), expected);
        assert_eq!(name.to_string(), "C=DE, CN=gw");
        let long: DistinguishedName = format!("CN={}", "x".repeat(200)).parse().unwrap();
        assert_eq!(long.der()[..3], [0x30, 0x81, 214]);
        let comma: DistinguishedName = r"O=Example\, Inc".parse().unwrap();
        assert!(comma.der().ends_with(b"Example, Inc"));
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = |text: &str| text.parse::<DistinguishedName>().unwrap_err();
        assert_eq!(wrong("CN=a, b"), DnError::NoAttribute("b".into()));
        assert_eq!(wrong("XY=a"), DnError::Unknown("XY".into()));
        assert_eq!(wrong("CN="), DnError::Empty("CN".into()));
    }
}
