//! Distinguished names as text, and which identities are the same.
//!
//! Text is as people write it: `C=DE, O=Example, CN=gateway`, in the order of the encoding, with a
//! backslash before a comma, plus sign or backslash that belongs to a value. Two names are the same
//! when their values are, whatever string types encode them, without regard to case and repeated
//! blanks (RFC 5280, section 7.1).

use hawser_ike_wire::Identity;
use x509_parser::prelude::{FromDer as _, X509Name};

use crate::der;

/// Attribute types with a name: the name, the content of the object identifier, the string type
/// that RFC 5280, appendix A, gives it.
const TYPES: [(&str, &[u8], u8); 14] = [
    ("CN", &[0x55, 0x04, 0x03], der::UTF8_STRING),
    ("SN", &[0x55, 0x04, 0x04], der::UTF8_STRING),
    ("serialNumber", &[0x55, 0x04, 0x05], der::PRINTABLE_STRING),
    ("C", &[0x55, 0x04, 0x06], der::PRINTABLE_STRING),
    ("L", &[0x55, 0x04, 0x07], der::UTF8_STRING),
    ("ST", &[0x55, 0x04, 0x08], der::UTF8_STRING),
    ("street", &[0x55, 0x04, 0x09], der::UTF8_STRING),
    ("O", &[0x55, 0x04, 0x0a], der::UTF8_STRING),
    ("OU", &[0x55, 0x04, 0x0b], der::UTF8_STRING),
    ("title", &[0x55, 0x04, 0x0c], der::UTF8_STRING),
    ("GN", &[0x55, 0x04, 0x2a], der::UTF8_STRING),
    (
        "E",
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01],
        der::IA5_STRING,
    ),
    (
        "UID",
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01],
        der::UTF8_STRING,
    ),
    (
        "DC",
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19],
        der::IA5_STRING,
    ),
];

/// A text that is no distinguished name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnError {
    /// A part without an equals sign.
    #[error("\"{0}\" is not of the form TYPE=value")]
    Part(String),
    /// An attribute type without a name here.
    #[error("unknown attribute type \"{0}\"; known: {known}", known = known())]
    Type(String),
}

fn known() -> String {
    TYPES.map(|(name, ..)| name).join(", ")
}

/// The DER of a distinguished name written as text; `emailAddress` and `S` are understood for `E`
/// and `ST`.
///
/// # Errors
/// A part that is not `TYPE=value`, or a type that is not known.
pub fn dn_from_text(text: &str) -> Result<Vec<u8>, DnError> {
    let mut names = Vec::new();
    for part in split(text) {
        let Some((kind, value)) = part.split_once('=') else {
            return Err(DnError::Part(part.trim().to_owned()));
        };
        let kind = match kind.trim() {
            "emailAddress" | "EMAIL" => "E",
            "S" => "ST",
            kind => kind,
        };
        let found = TYPES
            .iter()
            .find(|(name, ..)| name.eq_ignore_ascii_case(kind));
        let (_, oid, tag) = found.ok_or_else(|| DnError::Type(kind.to_owned()))?;
        let attribute = der::sequence(&[
            &der::value(der::OBJECT_IDENTIFIER, oid),
            &der::value(*tag, unescape(value.trim()).as_bytes()),
        ]);
        names.extend(der::value(der::SET, &attribute));
    }
    Ok(der::value(der::SEQUENCE, &names))
}

/// The parts between commas that are not escaped.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

fn unescape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut escaped = false;
    for c in value.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            escaped = false;
            out.push(c);
        }
    }
    out
}

/// One attribute of a relative name.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Attribute {
    /// The content of the type's object identifier.
    oid: Vec<u8>,
    /// The value as text, or as hexadecimal where it is none.
    value: String,
}

/// A distinguished name taken apart: the attributes of each relative name. `None` of octets that
/// are none.
fn parts(dn: &[u8]) -> Option<Vec<Vec<Attribute>>> {
    let (rest, name) = X509Name::from_der(dn).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let relative = name.iter_rdn().map(|relative| {
        let attributes = relative.iter().map(|attribute| Attribute {
            oid: attribute.attr_type().as_bytes().to_vec(),
            value: match attribute.as_str() {
                Ok(text) => text.to_owned(),
                Err(_) => format!("#{}", hex(attribute.as_slice())),
            },
        });
        attributes.collect()
    });
    Some(relative.collect())
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// A distinguished name as text; octets that are none as hexadecimal.
pub(crate) fn dn_text(dn: &[u8]) -> String {
    let Some(parts) = parts(dn) else {
        return format!("0x{}", hex(dn));
    };
    let relative = parts.into_iter().map(|attributes| {
        let attributes = attributes.into_iter().map(|Attribute { oid, value }| {
            let known = TYPES.iter().find(|(_, known, _)| *known == oid);
            let kind = known.map_or_else(|| format!("oid.{}", hex(&oid)), |k| k.0.to_owned());
            format!("{kind}={}", escape(&value))
        });
        attributes.collect::<Vec<_>>().join("+")
    });
    relative.collect::<Vec<_>>().join(", ")
}

/// For text and logs: what would end a value gets a backslash, what cannot be seen is written out.
fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            ',' | '+' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// An identity as people write it.
#[must_use]
pub fn describe(identity: &Identity) -> String {
    match identity {
        Identity::Dn(dn) => dn_text(dn),
        other => other.to_string(),
    }
}

/// Whether two identities name the same: domain names and e-mail domains without regard to case,
/// distinguished names by their values, everything else octet by octet.
#[must_use]
pub fn same(one: &Identity, other: &Identity) -> bool {
    match (one, other) {
        (Identity::Fqdn(one), Identity::Fqdn(other)) => {
            let bare = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            bare(one) == bare(other)
        }
        (Identity::Email(one), Identity::Email(other)) => {
            // What stands before the at sign is the mail server's own affair (RFC 5321, 2.4).
            match (one.rsplit_once('@'), other.rsplit_once('@')) {
                (Some((user, domain)), Some((other_user, other_domain))) => {
                    user == other_user && domain.eq_ignore_ascii_case(other_domain)
                }
                _ => one == other,
            }
        }
        (Identity::Dn(one), Identity::Dn(other)) => same_dn(one, other),
        _ => one == other,
    }
}

fn same_dn(one: &[u8], other: &[u8]) -> bool {
    if one == other {
        return true;
    }
    let folded = |dn: &[u8]| {
        let mut parts = parts(dn)?;
        for attributes in &mut parts {
            for attribute in &mut *attributes {
                let words: Vec<&str> = attribute.value.split_whitespace().collect();
                attribute.value = words.join(" ").to_lowercase();
            }
            attributes.sort();
        }
        Some(parts)
    };
    match (folded(one), folded(other)) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dn(text: &str) -> Identity {
        Identity::Dn(dn_from_text(text).expect("a name"))
    }

    #[test]
    fn text_both_ways() {
        for text in [
            "C=DE, O=Example, CN=gateway",
            "DC=com, DC=example, E=admin@example.com",
            r"O=One\, two \+ three \\ four, CN=a=b",
        ] {
            assert_eq!(describe(&dn(text)), text);
        }
        assert_eq!(describe(&dn(" cn = x ,emailAddress=a@b ")), "CN=x, E=a@b");
        let long = "x".repeat(300);
        assert_eq!(describe(&dn(&format!("CN={long}"))), format!("CN={long}"));
        // RFC 5280's own encoding of the country.
        let country = dn_from_text("C=DE").unwrap();
        let expected = [
            0x30, 0x0d, 0x31, 0x0b, 0x30, 0x09, 0x06, 0x03, 0x55, 0x04, 0x06, 0x13, 0x02, b'D',
            b'E',
        ];
        assert_eq!(country, expected);
    }

    #[test]
    fn text_that_is_no_name() {
        let error = dn_from_text("CN=x, whatever").unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"whatever\" is not of the form TYPE=value"
        );
        let error = dn_from_text("X=1").unwrap_err().to_string();
        assert!(
            error.starts_with("unknown attribute type \"X\"; known: CN,"),
            "{error}"
        );
        assert_eq!(describe(&Identity::Dn(vec![1, 2, 0xff])), "0x0102ff");
    }

    #[test]
    fn control_characters_do_not_reach_a_log() {
        assert_eq!(describe(&dn("CN=a\nb")), r"CN=a\u{a}b");
    }

    #[test]
    fn which_identities_are_the_same() {
        let fqdn = |text: &str| Identity::Fqdn(text.to_owned());
        let email = |text: &str| Identity::Email(text.to_owned());
        let yes = [
            (fqdn("GW.example.com"), fqdn("gw.example.COM.")),
            (email("Admin@Example.com"), email("Admin@example.com")),
            (
                dn("C=DE, O=An  Example, CN=GW"),
                dn("C=de, O=an example, CN=gw"),
            ),
            (Identity::KeyId(vec![1]), Identity::KeyId(vec![1])),
        ];
        for (one, other) in yes {
            assert!(same(&one, &other), "{one} {other}");
        }
        let no = [
            (fqdn("gw.example.com"), fqdn("gw2.example.com")),
            (fqdn("gw.example.com"), email("gw.example.com")),
            (email("admin@example.com"), email("Admin@example.com")),
            (dn("C=DE, CN=gw"), dn("CN=gw, C=DE")),
            (dn("CN=gw"), dn("CN=gw, CN=gw")),
            (Identity::Dn(vec![1]), Identity::Dn(vec![2])),
        ];
        for (one, other) in no {
            assert!(!same(&one, &other), "{one} {other}");
        }
        // The same text in another string type.
        let utf8 = dn_from_text("O=Example").unwrap();
        let mut printable = utf8.clone();
        let at = printable
            .iter()
            .position(|octet| *octet == der::UTF8_STRING)
            .unwrap();
        printable[at] = der::PRINTABLE_STRING;
        assert!(same(&Identity::Dn(utf8), &Identity::Dn(printable)));
    }
}
