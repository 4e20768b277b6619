//! What a certificate says, as far as IKE needs it (RFC 5280, RFC 4945).

use std::fmt;
use std::net::IpAddr;

use hawser_ike_wire::Identity;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::name;

/// A curve of ECDSA keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        })
    }
}

/// A public key, as the library takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PublicKey {
    /// DER of modulus and exponent (RFC 8017, appendix A.1.1).
    Rsa(Vec<u8>),
    /// A point, uncompressed or compressed.
    Ec(Curve, Vec<u8>),
    /// A kind that cannot be verified with: its object identifier.
    Other(String),
}

impl PublicKey {
    pub(crate) fn octets(&self) -> &[u8] {
        match self {
            Self::Rsa(octets) | Self::Ec(_, octets) => octets,
            Self::Other(_) => &[],
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(der) => match aws_lc_rs::signature::RsaParameters::public_modulus_len(der) {
                Ok(bits) => write!(f, "an RSA key of {bits} bits"),
                Err(_) => f.write_str("an RSA key"),
            },
            Self::Ec(curve, _) => write!(f, "an ECDSA key on {curve}"),
            Self::Other(oid) => write!(f, "a key of an unknown kind ({oid})"),
        }
    }
}

/// A certificate, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) der: Vec<u8>,
    /// DER of the subject's name.
    pub(crate) subject: Vec<u8>,
    /// DER of the issuer's name.
    pub(crate) issuer: Vec<u8>,
    /// The serial number's content octets.
    pub(crate) serial: Vec<u8>,
    /// Seconds since 1970.
    pub(crate) not_before: i64,
    /// Seconds since 1970.
    pub(crate) not_after: i64,
    /// DER of the public key with its algorithm.
    pub(crate) key_info: Vec<u8>,
    pub(crate) key: PublicKey,
    /// The names that it was issued for: the subject first, then the alternatives.
    pub(crate) identities: Vec<Identity>,
    /// The subject key identifier, which stands for a key ID.
    key_id: Option<Vec<u8>>,
    /// Whether it may issue others: by its basic constraints, or a first version without any.
    pub(crate) is_authority: bool,
}

impl Certificate {
    /// Takes DER apart; the error says what is wrong with it.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, String> {
        let (rest, x509) = X509Certificate::from_der(der).map_err(|error| match error {
            x509_parser::nom::Err::Incomplete(_) => "it ends too early".to_owned(),
            x509_parser::nom::Err::Error(error) | x509_parser::nom::Err::Failure(error) => {
                error.to_string()
            }
        })?;
        if !rest.is_empty() {
            return Err(format!("{} octets follow it", rest.len()));
        }
        let subject = x509.subject().as_raw().to_vec();
        let self_issued = x509.issuer().as_raw() == subject;
        let constraints = x509.basic_constraints().ok().flatten();
        let is_authority = match constraints {
            Some(constraints) => constraints.value.ca,
            None => x509.extensions().is_empty() && self_issued,
        };
        Ok(Self {
            der: der.to_vec(),
            issuer: x509.issuer().as_raw().to_vec(),
            serial: x509.raw_serial().to_vec(),
            not_before: x509.validity().not_before.timestamp(),
            not_after: x509.validity().not_after.timestamp(),
            key_info: x509.public_key().raw.to_vec(),
            key: public_key(&x509),
            identities: identities(&x509),
            key_id: key_id(&x509),
            is_authority,
            subject,
        })
    }

    /// The subject as text, or what else there is to call it by.
    pub(crate) fn name(&self) -> String {
        let text = name::dn_text(&self.subject);
        match self.identities.first() {
            Some(identity) if text.is_empty() => name::describe(identity),
            _ => text,
        }
    }

    pub(crate) fn issuer_name(&self) -> String {
        name::dn_text(&self.issuer)
    }

    /// Whether it was issued for this identity: the subject's name, one of the alternatives, or
    /// the key identifier (RFC 4945, section 3.1). No wildcards.
    pub(crate) fn has(&self, identity: &Identity) -> bool {
        match identity {
            Identity::KeyId(id) => self.key_id.as_ref() == Some(id),
            identity => self.identities.iter().any(|own| name::same(own, identity)),
        }
    }

    #[cfg(test)]
    pub(crate) fn key_id_for_tests(&self) -> Vec<u8> {
        self.key_id
            .clone()
            .expect("a certificate with a key identifier")
    }

    /// The names that it was issued for, as a sentence takes them.
    pub(crate) fn names(&self) -> String {
        let names: Vec<String> = self.identities.iter().map(name::describe).collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join("; ")
        }
    }
}

fn public_key(x509: &X509Certificate<'_>) -> PublicKey {
    const RSA: &str = "1.2.840.113549.1.1.1";
    const EC: &str = "1.2.840.10045.2.1";
    let info = x509.public_key();
    let octets = info.subject_public_key.data.to_vec();
    let kind = info.algorithm.algorithm.to_id_string();
    match kind.as_str() {
        RSA => PublicKey::Rsa(octets),
        EC => {
            let parameters = info.algorithm.parameters.as_ref();
            let curve = parameters.and_then(|any| any.as_oid().ok());
            match curve.map(|oid| oid.to_id_string()).as_deref() {
                Some("1.2.840.10045.3.1.7") => PublicKey::Ec(Curve::P256, octets),
                Some("1.3.132.0.34") => PublicKey::Ec(Curve::P384, octets),
                Some("1.3.132.0.35") => PublicKey::Ec(Curve::P521, octets),
                _ => PublicKey::Other(kind),
            }
        }
        _ => PublicKey::Other(kind),
    }
}

fn identities(x509: &X509Certificate<'_>) -> Vec<Identity> {
    let mut identities = Vec::new();
    if x509.subject().iter_rdn().next().is_some() {
        identities.push(Identity::Dn(x509.subject().as_raw().to_vec()));
    }
    let alternatives = x509.subject_alternative_name().ok().flatten();
    let alternatives = alternatives
        .iter()
        .flat_map(|names| &names.value.general_names);
    identities.extend(alternatives.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(Identity::Fqdn((*name).to_owned())),
        GeneralName::RFC822Name(name) => Some(Identity::Email((*name).to_owned())),
        GeneralName::DirectoryName(name) => Some(Identity::Dn(name.as_raw().to_vec())),
        GeneralName::IPAddress(octets) => address(octets).map(|address| match address {
            IpAddr::V4(address) => Identity::Ipv4(address),
            IpAddr::V6(address) => Identity::Ipv6(address),
        }),
        _ => None,
    }));
    identities
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

fn key_id(x509: &X509Certificate<'_>) -> Option<Vec<u8>> {
    let mut extensions = x509.extensions().iter();
    extensions.find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

/// A point in time as `2026-01-31 12:00:00 UTC`.
pub(crate) fn date(seconds: i64) -> String {
    match ASN1Time::from_timestamp(seconds) {
        Ok(time) => {
            let time = time.to_datetime();
            format!(
                "{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC",
                time.year(),
                u8::from(time.month()),
                time.day(),
                time.hour(),
                time.minute(),
                time.second(),
            )
        }
        Err(_) => format!("{seconds} seconds after 1970"),
    }
}
