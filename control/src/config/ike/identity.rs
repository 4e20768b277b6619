//! Identities as a person writes them (RFC 7296, section 3.5).
//!
//! The kind follows from the text: an address, an e-mail address (with `@`), a distinguished name
//! (with `=`), otherwise a domain name. A prefix says it outright: `fqdn:`, `email:`, `dn:`,
//! `keyid:` (text, or octets after `keyid:0x`).

use std::{fmt, net::IpAddr, str::FromStr};

use super::dn::{DistinguishedName, DnError};

/// Who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// ID_IPV4_ADDR or ID_IPV6_ADDR.
    Address(IpAddr),
    /// ID_FQDN.
    Fqdn(String),
    /// ID_RFC822_ADDR.
    Email(String),
    /// ID_DER_ASN1_DN: `C=DE, O=Example, CN=gateway`.
    Dn(DistinguishedName),
    /// ID_KEY_ID.
    KeyId(Vec<u8>),
}

/// Why a text is no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a distinguished name.
    #[error(transparent)]
    Dn(#[from] DnError),
    /// Nothing is there.
    #[error("it is empty")]
    Empty,
    /// Longer than a name can be.
    #[error("it is longer than 255 octets")]
    Long,
    /// `keyid:0x` with something else than octets.
    #[error("after `keyid:0x` there must be pairs of hexadecimal digits")]
    Hex,
    /// White space or control characters where none can be.
    #[error("a name has no white space")]
    Space,
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let text = text.trim();
        if text.len() > 255 {
            return Err(IdentityError::Long);
        }
        let (kind, rest) = match text.split_once(':') {
            Some((kind @ ("fqdn" | "email" | "dn" | "keyid"), rest)) => (kind, rest.trim()),
            _ => (guess(text), text),
        };
        if rest.is_empty() {
            return Err(IdentityError::Empty);
        }
        let one_word = |text: &str| {
            let bad = text.chars().any(|c| c.is_whitespace() || c.is_control());
            if bad {
                Err(IdentityError::Space)
            } else {
                Ok(text.to_owned())
            }
        };
        Ok(match kind {
            "address" => match rest.parse() {
                Ok(address) => Self::Address(address),
                Err(_) => Self::Fqdn(one_word(rest)?),
            },
            "email" => Self::Email(one_word(rest)?),
            "dn" => Self::Dn(rest.parse()?),
            "keyid" => Self::KeyId(key_id(rest)?),
            _ => Self::Fqdn(one_word(rest)?),
        })
    }
}

fn guess(text: &str) -> &'static str {
    if text.parse::<IpAddr>().is_ok() {
        "address"
    } else if text.contains('=') {
        "dn"
    } else if text.contains('@') {
        "email"
    } else {
        "fqdn"
    }
}

fn key_id(text: &str) -> Result<Vec<u8>, IdentityError> {
    match text.strip_prefix("0x") {
        Some(hex) => super::super::protected::from_hex(hex).ok_or(IdentityError::Hex),
        None => Ok(text.as_bytes().to_vec()),
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Fqdn(name) | Self::Email(name) => f.write_str(name),
            Self::Dn(name) => name.fmt(f),
            Self::KeyId(octets) => {
                f.write_str("keyid:")?;
                match std::str::from_utf8(octets) {
                    Ok(text) if text.chars().all(|c| c.is_ascii_graphic()) => f.write_str(text),
                    _ => {
                        f.write_str("0x")?;
                        octets.iter().try_for_each(|o| write!(f, "{o:02x}"))
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_follows_from_the_text() {
        let cases = [
            (
                "203.0.113.10",
                Identity::Address("203.0.113.10".parse().unwrap()),
            ),
            (
                "2001:db8::1",
                Identity::Address("2001:db8::1".parse().unwrap()),
            ),
            ("gw.example.net", Identity::Fqdn("gw.example.net".into())),
            ("fqdn:203.0.113.10", Identity::Fqdn("203.0.113.10".into())),
            ("ops@example.net", Identity::Email("ops@example.net".into())),
            ("C=DE, CN=gw", Identity::Dn("C=DE, CN=gw".parse().unwrap())),
            ("keyid:aws", Identity::KeyId(b"aws".to_vec())),
            ("keyid:0x00ff", Identity::KeyId(vec![0, 255])),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        assert_eq!("keyid:0x0".parse::<Identity>(), Err(IdentityError::Hex));
        assert_eq!("a b".parse::<Identity>(), Err(IdentityError::Space));
        assert_eq!(" ".parse::<Identity>(), Err(IdentityError::Empty));
        let shown = Identity::KeyId(vec![0, 255]).to_string();
        assert_eq!(shown, "keyid:0x00ff");
    }
}
