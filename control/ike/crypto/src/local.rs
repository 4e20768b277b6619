//! Our own certificate, and signing with its key.

use std::time::SystemTime;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self as library, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RsaKeyPair,
};
use hawser_ike_wire as wire;
use hawser_ike_wire::{AuthMethod, Authentication, CertificateEncoding, Identity};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroize as _;

use crate::certificate::{Certificate, Curve, PublicKey};
use crate::der;
use crate::signature::{Hash, Kind, Scheme, digital_signature};
use crate::trust::{self, CertificateError, LoadError};

/// Why we cannot sign for this peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// An RSA key, and the peer can verify SHA-1 only.
    #[error(
        "the peer does not understand digital signatures (RFC 7427) with SHA-2, and RSA with SHA-1 is not made here: use an ECDSA certificate for it"
    )]
    NeedsSha1,
    /// The library failed.
    #[error("the signature could not be made")]
    Failed,
}

enum PrivateKey {
    Rsa(RsaKeyPair),
    /// The same key twice: for signatures as DER, and side by side.
    Ec(Curve, Box<[EcdsaKeyPair; 2]>),
}

/// Our certificate with the chain below a trust anchor, and its private key.
pub struct LocalCertificate {
    /// Our own first.
    chain: Vec<Certificate>,
    key: PrivateKey,
    pss: bool,
}

impl std::fmt::Debug for LocalCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalCertificate({})", self.own().name())
    }
}

impl LocalCertificate {
    /// From files: our certificate and its issuers in order, and the private key (PKCS #8, PKCS #1
    /// or SEC 1); PEM or DER.
    ///
    /// # Errors
    /// What is missing or cannot be read, and a key that is not the certificate's.
    pub fn load(chain: &[u8], key: &[u8]) -> Result<Self, LoadError> {
        let ders = trust::certificates(chain)?;
        let parsed = (1..).zip(&ders).map(|(number, der)| {
            Certificate::parse(der).map_err(|why| LoadError::Certificate { number, why })
        });
        let chain = parsed.collect::<Result<Vec<_>, _>>()?;
        let own = chain.first().ok_or(LoadError::Missing("certificate"))?;
        let key = load_key(key)?;
        if !key.belongs_to(&own.key) {
            return Err(LoadError::Mismatch(own.name()));
        }
        Ok(Self {
            chain,
            key,
            pss: false,
        })
    }

    /// Signs by RSA-PSS instead of PKCS #1 v1.5, where the key is RSA and the peer understands
    /// digital signatures. Some peers verify only one of them, and none says which.
    #[must_use]
    pub fn with_rsa_pss(mut self, pss: bool) -> Self {
        self.pss = pss;
        self
    }

    fn own(&self) -> &Certificate {
        // `load` refuses an empty chain.
        &self.chain[0]
    }

    /// The subject's name, for people.
    #[must_use]
    pub fn subject(&self) -> String {
        self.own().name()
    }

    /// The CERT payloads of IKE_AUTH: ours first (RFC 7296, section 3.6). A self-signed root at the
    /// chain's end is left out: the peer has it or does not trust it.
    #[must_use]
    pub fn payloads(&self) -> Vec<wire::Certificate> {
        let sent = self.chain.iter().enumerate();
        let sent = sent.filter(|(index, c)| *index == 0 || c.subject != c.issuer);
        sent.map(|(_, certificate)| wire::Certificate {
            encoding: CertificateEncoding::X509,
            data: certificate.der.clone(),
        })
        .collect()
    }

    /// The identities that the certificate was issued for: the subject's name, then the
    /// alternatives.
    #[must_use]
    pub fn identities(&self) -> &[Identity] {
        &self.own().identities
    }

    /// The identity to send, if the certificate was issued for it: a distinguished name as the
    /// certificate encodes it, which peers may compare octet by octet.
    #[must_use]
    pub fn identity(&self, wanted: &Identity) -> Option<Identity> {
        let same = |own: &&Identity| crate::name::same(own, wanted);
        let own = self.identities().iter().find(same).cloned();
        own.or_else(|| self.own().has(wanted).then(|| wanted.clone()))
    }

    /// Whether our own certificate is valid now: a peer will look.
    ///
    /// # Errors
    /// That it has expired, or is not valid yet.
    pub fn check_time(&self, now: SystemTime) -> Result<(), CertificateError> {
        trust::check_time(self.own(), now)
    }

    /// The AUTH payload over `octets` ([`IkeKeys::signed_octets`](crate::IkeKeys::signed_octets)).
    /// `peer_hashes` are those of the peer's SIGNATURE_HASH_ALGORITHMS, none if it sent no such
    /// notify. The nonces and salts of signatures are the library's own.
    ///
    /// # Errors
    /// A peer that cannot verify what this key can sign.
    pub fn sign(&self, octets: &[u8], peer_hashes: &[u16]) -> Result<Authentication, SignError> {
        let known = |hash: Hash| peer_hashes.contains(&hash.number());
        match &self.key {
            PrivateKey::Ec(curve, pairs) => {
                let (hash, method) = match curve {
                    Curve::P256 => (Hash::Sha256, AuthMethod::EcdsaP256),
                    Curve::P384 => (Hash::Sha384, AuthMethod::EcdsaP384),
                    Curve::P521 => (Hash::Sha512, AuthMethod::EcdsaP521),
                };
                let [der, fixed] = &**pairs;
                let digital = known(hash);
                let pair = if digital { der } else { fixed };
                let proof = pair.sign(&SystemRandom::new(), octets);
                let proof = proof.map_err(|_| SignError::Failed)?;
                if !digital {
                    return Ok(Authentication {
                        method,
                        data: proof.as_ref().to_vec(),
                    });
                }
                let scheme = Scheme::new(Kind::Ecdsa, hash);
                Ok(Authentication {
                    method: AuthMethod::DigitalSignature,
                    data: digital_signature(scheme, proof.as_ref()),
                })
            }
            PrivateKey::Rsa(pair) => {
                let hashes = [Hash::Sha256, Hash::Sha384, Hash::Sha512];
                let hash = hashes.into_iter().find(|hash| known(*hash));
                let hash = hash.ok_or(SignError::NeedsSha1)?;
                let (kind, padding): (_, &'static dyn library::RsaEncoding) = match (self.pss, hash)
                {
                    (false, Hash::Sha384) => (Kind::Pkcs1, &library::RSA_PKCS1_SHA384),
                    (false, Hash::Sha512) => (Kind::Pkcs1, &library::RSA_PKCS1_SHA512),
                    (false, _) => (Kind::Pkcs1, &library::RSA_PKCS1_SHA256),
                    (true, Hash::Sha384) => (Kind::Pss, &library::RSA_PSS_SHA384),
                    (true, Hash::Sha512) => (Kind::Pss, &library::RSA_PSS_SHA512),
                    (true, _) => (Kind::Pss, &library::RSA_PSS_SHA256),
                };
                let mut proof = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &SystemRandom::new(), octets, &mut proof)
                    .map_err(|_| SignError::Failed)?;
                Ok(Authentication {
                    method: AuthMethod::DigitalSignature,
                    data: digital_signature(Scheme::new(kind, hash), &proof),
                })
            }
        }
    }
}

impl PrivateKey {
    fn belongs_to(&self, key: &PublicKey) -> bool {
        match (self, key) {
            (Self::Rsa(pair), PublicKey::Rsa(der)) => pair.public_key().as_ref() == der,
            (Self::Ec(curve, pairs), PublicKey::Ec(other, point)) => {
                let ours = pairs[0].public_key().as_ref();
                // A certificate may hold the point compressed: a sign and the first coordinate.
                let same = match point.split_first() {
                    Some((2 | 3, first)) => ours[1..].starts_with(first),
                    _ => ours == point,
                };
                curve == other && same
            }
            _ => false,
        }
    }
}

fn load_key(file: &[u8]) -> Result<PrivateKey, LoadError> {
    const ENCRYPTED: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];
    let is_encrypted = |mark: &&[u8]| file.windows(mark.len()).any(|window| window == *mark);
    if ENCRYPTED.iter().any(is_encrypted) {
        return Err(LoadError::Encrypted);
    }
    let mut der = if file.first() == Some(&der::SEQUENCE) {
        PrivateKeyDer::try_from(file.to_vec()).map_err(|_| LoadError::Key)?
    } else {
        PrivateKeyDer::from_pem_slice(file).map_err(|error| match error {
            rustls_pki_types::pem::Error::NoItemsFound => LoadError::Missing("private key"),
            other => LoadError::Pem(other.to_string()),
        })?
    };
    let key = rsa_key(&der).or_else(|| ec_key(&der));
    der.zeroize();
    key.ok_or(LoadError::Key)
}

fn rsa_key(der: &PrivateKeyDer<'_>) -> Option<PrivateKey> {
    let pair = match der {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        _ => return None,
    };
    let pair = pair.ok()?;
    (pair.public_modulus_len() >= KeySize::Rsa2048.len()).then_some(PrivateKey::Rsa(pair))
}

fn ec_key(der: &PrivateKeyDer<'_>) -> Option<PrivateKey> {
    let pair = |algorithm: &'static EcdsaSigningAlgorithm| {
        match der {
            PrivateKeyDer::Sec1(der) => {
                EcdsaKeyPair::from_private_key_der(algorithm, der.secret_sec1_der())
            }
            PrivateKeyDer::Pkcs8(der) => {
                EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der())
            }
            _ => return None,
        }
        .ok()
    };
    [
        (
            Curve::P256,
            &library::ECDSA_P256_SHA256_ASN1_SIGNING,
            &library::ECDSA_P256_SHA256_FIXED_SIGNING,
        ),
        (
            Curve::P384,
            &library::ECDSA_P384_SHA384_ASN1_SIGNING,
            &library::ECDSA_P384_SHA384_FIXED_SIGNING,
        ),
        (
            Curve::P521,
            &library::ECDSA_P521_SHA512_ASN1_SIGNING,
            &library::ECDSA_P521_SHA512_FIXED_SIGNING,
        ),
    ]
    .into_iter()
    .find_map(|(curve, asn1, fixed)| {
        Some(PrivateKey::Ec(curve, Box::new([pair(asn1)?, pair(fixed)?])))
    })
}

#[cfg(test)]
mod tests;
