//! Who a peer is: reading identities as people write them, and matching them.

use std::{fmt, net::IpAddr};

use hawser_ike_crypto::name;
pub use hawser_ike_wire::Identity;

/// Which identity a peer may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityMatch {
    /// Any that it proves.
    Any,
    /// Only this one.
    Exact(Identity),
}

impl IdentityMatch {
    /// Whether a peer that calls itself `identity` is meant: names in any case, distinguished
    /// names in any encoding.
    #[must_use]
    pub fn matches(&self, identity: &Identity) -> bool {
        match self {
            IdentityMatch::Any => true,
            IdentityMatch::Exact(expected) => name::same(expected, identity),
        }
    }
}

impl fmt::Display for IdentityMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityMatch::Any => f.write_str("any identity"),
            IdentityMatch::Exact(identity) => f.write_str(&name::describe(identity)),
        }
    }
}

/// An identity that is an address.
#[must_use]
pub fn of_address(address: IpAddr) -> Identity {
    match address {
        IpAddr::V4(a) => Identity::Ipv4(a),
        IpAddr::V6(a) => Identity::Ipv6(a),
    }
}

/// Reads an identity: an address, `name@host` (e-mail), `@name` or `name` (FQDN), `keyid:text`,
/// `keyid:0xHEX`, `CN=gw, O=Example` (a distinguished name) or `asn1dn:0xHEX` (the same in DER).
///
/// # Errors
/// A sentence about what is wrong.
pub fn parse(text: &str) -> Result<Identity, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(of_address(address));
    }
    if let Some(rest) = text.strip_prefix("keyid:") {
        let octets = match rest.strip_prefix("0x") {
            Some(digits) => hex(digits)?,
            None => rest.as_bytes().to_vec(),
        };
        return not_empty(octets).map(Identity::KeyId);
    }
    if let Some(rest) = text.strip_prefix("asn1dn:") {
        let digits = rest.strip_prefix("0x").unwrap_or(rest);
        return not_empty(hex(digits)?).map(Identity::Dn);
    }
    if text.contains('=') {
        return name::dn_from_text(text)
            .map(Identity::Dn)
            .map_err(|e| e.to_string());
    }
    let name = text.strip_prefix('@').unwrap_or(text);
    if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!(
            "{text:?} is no identity: write an address, a name, user@name, keyid: or asn1dn:"
        ));
    }
    if name.contains('@') {
        Ok(Identity::Email(name.to_owned()))
    } else {
        Ok(Identity::Fqdn(name.to_owned()))
    }
}

fn not_empty(octets: Vec<u8>) -> Result<Vec<u8>, String> {
    if octets.is_empty() {
        Err("the identity is empty".into())
    } else {
        Ok(octets)
    }
}

fn hex(digits: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("{digits:?} are not pairs of hexadecimal digits");
    if !digits.is_ascii() || !digits.len().is_multiple_of(2) {
        return Err(wrong());
    }
    (0..digits.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).map_err(|_| wrong()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_read_as_people_write_them() {
        assert_eq!(
            parse("192.0.2.1"),
            Ok(Identity::Ipv4([192, 0, 2, 1].into()))
        );
        assert_eq!(
            parse("gw.example.org"),
            Ok(Identity::Fqdn("gw.example.org".into()))
        );
        assert_eq!(
            parse("@gw.example.org"),
            Ok(Identity::Fqdn("gw.example.org".into()))
        );
        assert_eq!(
            parse("a@b.example"),
            Ok(Identity::Email("a@b.example".into()))
        );
        assert_eq!(parse("keyid:0x0aff"), Ok(Identity::KeyId(vec![0x0a, 0xff])));
        assert_eq!(parse("keyid:blue"), Ok(Identity::KeyId(b"blue".to_vec())));
        assert_eq!(parse("asn1dn:0x3000"), Ok(Identity::Dn(vec![0x30, 0])));
        for wrong in ["", "@", "two words", "keyid:", "keyid:0xabc", "asn1dn:zz"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn names_match_in_any_case_and_kinds_do_not_mix() {
        let m = IdentityMatch::Exact(Identity::Fqdn("GW.example.org".into()));
        assert!(m.matches(&Identity::Fqdn("gw.example.ORG".into())));
        assert!(!m.matches(&Identity::Email("gw.example.org".into())));
        assert!(IdentityMatch::Any.matches(&Identity::KeyId(vec![1])));
    }
}
