//! Signatures in AUTH payloads: RFC 7296, section 2.15; RFC 4754 (ECDSA); RFC 7427 (signatures that
//! name their algorithm).
//!
//! RSA keys have 2,048 to 8,192 bits. SHA-1 is verified only where the policy asks for it, and
//! never signed with. Known limits: no EdDSA; RSA-PSS salts have the length of the hash.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use hawser_ike_wire::{AuthMethod, Authentication, hash_id};
use x509_parser::der_parser::asn1_rs::FromDer as _;
use x509_parser::signature_algorithm::SignatureAlgorithm;
use x509_parser::x509::AlgorithmIdentifier;

use crate::certificate::{Curve, PublicKey};
use crate::der;

/// The hashes that this side can verify signatures with, for
/// [`Notify::signature_hashes`](hawser_ike_wire::Notify::signature_hashes).
pub const SIGNATURE_HASHES: [u16; 3] = [hash_id::SHA2_256, hash_id::SHA2_384, hash_id::SHA2_512];

/// What is accepted of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignaturePolicy {
    /// RSA signatures over SHA-1, which old peers make (RFC 8247, section 3.2, says not to).
    pub allow_sha1: bool,
}

/// Why a signature does not prove anything. The peer is to blame: AUTHENTICATION_FAILED.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Another way of proof than by signature.
    #[error("the peer authenticates by {0}, a signature was expected")]
    Method(AuthMethod),
    /// The data are no signature with an algorithm before it.
    #[error("the peer's digital signature is malformed")]
    Malformed,
    /// An algorithm that is not known, or parameters that are not accepted.
    #[error("the peer signs with an algorithm that is not accepted: {0}")]
    Algorithm(String),
    /// SHA-1, which the policy does not allow.
    #[error("the peer signs with SHA-1, which is not allowed here")]
    Sha1,
    /// An algorithm that does not fit the key in the peer's certificate.
    #[error("the peer signs with {scheme}, but its certificate holds {key}")]
    Key {
        /// The algorithm.
        scheme: Scheme,
        /// The kind of key.
        key: String,
    },
    /// The signature is not the key's.
    #[error("the peer's signature ({0}) does not fit its certificate: the key is another one")]
    Wrong(Scheme),
}

/// A hash function under a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        }
    }

    /// Octets of the hash.
    const fn len(self) -> u8 {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Its number in SIGNATURE_HASH_ALGORITHMS.
    pub(crate) const fn number(self) -> u16 {
        match self {
            Self::Sha1 => hash_id::SHA1,
            Self::Sha256 => hash_id::SHA2_256,
            Self::Sha384 => hash_id::SHA2_384,
            Self::Sha512 => hash_id::SHA2_512,
        }
    }

    /// The content of its object identifier.
    const fn oid(self) -> &'static [u8] {
        match self {
            Self::Sha1 => &[0x2b, 0x0e, 0x03, 0x02, 0x1a],
            Self::Sha256 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01],
            Self::Sha384 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02],
            Self::Sha512 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03],
        }
    }
}

const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];

/// How a signature is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scheme {
    pub(crate) kind: Kind,
    pub(crate) hash: Hash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// RSASSA-PKCS1-v1_5.
    Pkcs1,
    /// RSASSA-PSS, mask and salt by the same hash.
    Pss,
    /// ECDSA as DER of r and s.
    Ecdsa,
    /// ECDSA as r and s side by side.
    EcdsaFixed,
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            Kind::Pkcs1 => "RSA",
            Kind::Pss => "RSA-PSS",
            Kind::Ecdsa | Kind::EcdsaFixed => "ECDSA",
        };
        write!(f, "{kind} with {}", self.hash.name())
    }
}

impl Scheme {
    pub(crate) const fn new(kind: Kind, hash: Hash) -> Self {
        Self { kind, hash }
    }

    /// The content of the object identifier of a signature that its hash and kind name together.
    fn oid(self) -> Vec<u8> {
        // sha1WithRSAEncryption and its family (RFC 8017), ecdsa-with-SHA1 (RFC 3279), and
        // ecdsa-with-SHA256 and its family (RFC 5758).
        let rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
        let ecdsa = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
        let (family, last): (&[u8], &[u8]) = match (self.kind, self.hash) {
            (Kind::Pss, _) => return RSA_PSS.to_vec(),
            (Kind::Pkcs1, Hash::Sha1) => (&rsa, &[0x05]),
            (Kind::Pkcs1, Hash::Sha256) => (&rsa, &[0x0b]),
            (Kind::Pkcs1, Hash::Sha384) => (&rsa, &[0x0c]),
            (Kind::Pkcs1, Hash::Sha512) => (&rsa, &[0x0d]),
            (Kind::Ecdsa | Kind::EcdsaFixed, Hash::Sha1) => (&ecdsa, &[0x01]),
            (Kind::Ecdsa | Kind::EcdsaFixed, Hash::Sha256) => (&ecdsa, &[0x03, 0x02]),
            (Kind::Ecdsa | Kind::EcdsaFixed, Hash::Sha384) => (&ecdsa, &[0x03, 0x03]),
            (Kind::Ecdsa | Kind::EcdsaFixed, Hash::Sha512) => (&ecdsa, &[0x03, 0x04]),
        };
        [family, last].concat()
    }

    /// The DER AlgorithmIdentifier (RFC 7427, appendix A).
    pub(crate) fn identifier(self) -> Vec<u8> {
        let oid = der::value(der::OBJECT_IDENTIFIER, &self.oid());
        let null = der::value(der::NULL, &[]);
        match self.kind {
            Kind::Pkcs1 => der::sequence(&[&oid, &null]),
            Kind::Ecdsa | Kind::EcdsaFixed => der::sequence(&[&oid]),
            Kind::Pss => {
                let hash = der::value(der::OBJECT_IDENTIFIER, self.hash.oid());
                let hash = der::sequence(&[&hash, &null]);
                let mgf1 = der::value(der::OBJECT_IDENTIFIER, MGF1);
                let mask = der::sequence(&[&mgf1, &hash]);
                let salt = der::value(der::INTEGER, &[self.hash.len()]);
                let parameters = der::sequence(&[
                    &der::value(0xa0, &hash),
                    &der::value(0xa1, &mask),
                    &der::value(0xa2, &salt),
                ]);
                der::sequence(&[&oid, &parameters])
            }
        }
    }

    /// The scheme that a DER AlgorithmIdentifier names.
    fn from_identifier(octets: &[u8]) -> Result<Self, SignatureError> {
        let Ok((rest, identifier)) = AlgorithmIdentifier::from_der(octets) else {
            return Err(SignatureError::Malformed);
        };
        if !rest.is_empty() {
            return Err(SignatureError::Malformed);
        }
        let oid = identifier.algorithm.as_bytes();
        if oid == RSA_PSS {
            return Self::pss(&identifier);
        }
        let kinds = [Kind::Pkcs1, Kind::Ecdsa];
        let schemes = kinds
            .into_iter()
            .flat_map(|kind| Hash::ALL.map(|hash| Self { kind, hash }));
        schemes
            .into_iter()
            .find(|scheme| scheme.oid() == oid)
            .ok_or_else(|| SignatureError::Algorithm(identifier.algorithm.to_id_string()))
    }

    fn pss(identifier: &AlgorithmIdentifier<'_>) -> Result<Self, SignatureError> {
        let refused = |why: &str| SignatureError::Algorithm(format!("RSA-PSS with {why}"));
        let Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) =
            SignatureAlgorithm::try_from(identifier)
        else {
            return Err(SignatureError::Malformed);
        };
        let by_oid = |oid: &[u8]| Hash::ALL.into_iter().find(|hash| hash.oid() == oid);
        let Some(hash) = by_oid(parameters.hash_algorithm_oid().as_bytes()) else {
            return Err(refused("an unknown hash"));
        };
        let Ok(mask) = parameters.mask_gen_algorithm() else {
            return Err(SignatureError::Malformed);
        };
        if mask.mgf.as_bytes() != MGF1 || by_oid(mask.hash.as_bytes()) != Some(hash) {
            return Err(refused("another mask than MGF1 with the same hash"));
        }
        if parameters.salt_length() != u32::from(hash.len()) {
            return Err(refused("a salt of another length than the hash"));
        }
        if parameters.trailer_field() != 1 {
            return Err(refused("an unknown trailer"));
        }
        Ok(Self::new(Kind::Pss, hash))
    }

    /// The library's algorithm for a key; `None` where they do not fit together.
    fn algorithm(self, key: &PublicKey) -> Option<&'static dyn VerificationAlgorithm> {
        use Hash::{Sha1, Sha256, Sha384, Sha512};
        Some(match (key, self.kind, self.hash) {
            (PublicKey::Rsa(_), Kind::Pkcs1, Sha1) => {
                &signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY
            }
            (PublicKey::Rsa(_), Kind::Pkcs1, Sha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (PublicKey::Rsa(_), Kind::Pkcs1, Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (PublicKey::Rsa(_), Kind::Pkcs1, Sha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (PublicKey::Rsa(_), Kind::Pss, Sha256) => &signature::RSA_PSS_2048_8192_SHA256,
            (PublicKey::Rsa(_), Kind::Pss, Sha384) => &signature::RSA_PSS_2048_8192_SHA384,
            (PublicKey::Rsa(_), Kind::Pss, Sha512) => &signature::RSA_PSS_2048_8192_SHA512,
            (PublicKey::Ec(curve, _), Kind::Ecdsa, hash) => match (curve, hash) {
                (_, Sha1) => return None,
                (Curve::P256, Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
                (Curve::P256, Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
                (Curve::P256, Sha512) => &signature::ECDSA_P256_SHA512_ASN1,
                (Curve::P384, Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
                (Curve::P384, Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
                (Curve::P384, Sha512) => &signature::ECDSA_P384_SHA512_ASN1,
                (Curve::P521, Sha256) => &signature::ECDSA_P521_SHA256_ASN1,
                (Curve::P521, Sha384) => &signature::ECDSA_P521_SHA384_ASN1,
                (Curve::P521, Sha512) => &signature::ECDSA_P521_SHA512_ASN1,
            },
            (PublicKey::Ec(Curve::P256, _), Kind::EcdsaFixed, Sha256) => {
                &signature::ECDSA_P256_SHA256_FIXED
            }
            (PublicKey::Ec(Curve::P384, _), Kind::EcdsaFixed, Sha384) => {
                &signature::ECDSA_P384_SHA384_FIXED
            }
            (PublicKey::Ec(Curve::P521, _), Kind::EcdsaFixed, Sha512) => {
                &signature::ECDSA_P521_SHA512_FIXED
            }
            _ => return None,
        })
    }

    fn verify(self, key: &PublicKey, octets: &[u8], proof: &[u8]) -> Result<(), SignatureError> {
        let Some(algorithm) = self.algorithm(key) else {
            return Err(SignatureError::Key {
                scheme: self,
                key: key.to_string(),
            });
        };
        UnparsedPublicKey::new(algorithm, key.octets())
            .verify(octets, proof)
            .map_err(|_| SignatureError::Wrong(self))
    }
}

/// The data of method 14: the algorithm, and the signature (RFC 7427, section 3).
pub(crate) fn digital_signature(scheme: Scheme, signature: &[u8]) -> Vec<u8> {
    let identifier = scheme.identifier();
    // The longest, RSA-PSS, has 67 octets.
    let mut data = vec![identifier.len() as u8];
    data.extend_from_slice(&identifier);
    data.extend_from_slice(signature);
    data
}

/// Whether an AUTH payload is a signature of `key` over `octets`.
pub(crate) fn verify(
    key: &PublicKey,
    auth: &Authentication,
    octets: &[u8],
    policy: SignaturePolicy,
) -> Result<(), SignatureError> {
    let fixed = |hash| Scheme::new(Kind::EcdsaFixed, hash).verify(key, octets, &auth.data);
    match auth.method {
        AuthMethod::EcdsaP256 => fixed(Hash::Sha256),
        AuthMethod::EcdsaP384 => fixed(Hash::Sha384),
        AuthMethod::EcdsaP521 => fixed(Hash::Sha512),
        AuthMethod::RsaSignature => rsa(key, octets, &auth.data, policy),
        AuthMethod::DigitalSignature => {
            let (length, data) = auth.data.split_first().ok_or(SignatureError::Malformed)?;
            let (identifier, proof) = data
                .split_at_checked(usize::from(*length))
                .ok_or(SignatureError::Malformed)?;
            let scheme = Scheme::from_identifier(identifier)?;
            if scheme.hash == Hash::Sha1 && !policy.allow_sha1 {
                return Err(SignatureError::Sha1);
            }
            scheme.verify(key, octets, proof)
        }
        other => Err(SignatureError::Method(other)),
    }
}

/// Method 1 says nothing of the hash: the signature itself does. Old peers use SHA-1, which is
/// looked for last, so that its refusal is said only where it is the reason.
fn rsa(
    key: &PublicKey,
    octets: &[u8],
    proof: &[u8],
    policy: SignaturePolicy,
) -> Result<(), SignatureError> {
    for hash in [Hash::Sha256, Hash::Sha384, Hash::Sha512] {
        match Scheme::new(Kind::Pkcs1, hash).verify(key, octets, proof) {
            Err(SignatureError::Wrong(_)) => {}
            other => return other,
        }
    }
    let sha1 = Scheme::new(Kind::Pkcs1, Hash::Sha1);
    sha1.verify(key, octets, proof)?;
    if policy.allow_sha1 {
        Ok(())
    } else {
        Err(SignatureError::Sha1)
    }
}

/// An AlgorithmIdentifier that is understood says the same when it is written again.
#[cfg(any(test, feature = "harness"))]
pub(crate) fn check_identifier(octets: &[u8]) {
    if let Ok(scheme) = Scheme::from_identifier(octets) {
        assert_eq!(Scheme::from_identifier(&scheme.identifier()), Ok(scheme));
    }
}

#[cfg(test)]
mod tests;
