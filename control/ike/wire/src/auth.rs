//! Certificates, certificate requests and authentication data (RFC 7296, sections 3.6 to 3.8).

use crate::codes::codes;
use crate::error::ParseError;
use crate::octets::Reader;

codes! {
    /// How a certificate, or what stands for it, is encoded (RFC 7296, section 3.6).
    CertificateEncoding(u8) {
        /// PKCS #7 wrapped X.509.
        Pkcs7 = 1, "PKCS #7";
        /// An X.509 certificate, DER.
        X509 = 4, "X.509 certificate";
        /// A certificate revocation list, DER.
        Crl = 7, "CRL";
        /// Hash and URL of an X.509 certificate.
        HashAndUrl = 12, "hash and URL";
        /// Hash and URL of an X.509 bundle.
        HashAndUrlBundle = 13, "hash and URL of a bundle";
        /// OCSP content (RFC 4806).
        Ocsp = 14, "OCSP";
        /// A raw public key (RFC 7670).
        RawPublicKey = 15, "raw public key";
    }
}

codes! {
    /// How a side proves that it has its secret (RFC 7296, section 3.8).
    AuthMethod(u8) {
        /// RSASSA-PKCS1-v1_5, in practice over SHA-1.
        RsaSignature = 1, "RSA signature";
        /// A keyed hash with the shared secret.
        SharedKey = 2, "shared key";
        /// DSS over SHA-1.
        DssSignature = 3, "DSS signature";
        /// ECDSA with SHA-256 on P-256 (RFC 4754).
        EcdsaP256 = 9, "ECDSA with SHA-256 on P-256";
        /// ECDSA with SHA-384 on P-384.
        EcdsaP384 = 10, "ECDSA with SHA-384 on P-384";
        /// ECDSA with SHA-512 on P-521.
        EcdsaP521 = 11, "ECDSA with SHA-512 on P-521";
        /// No authentication (RFC 7619).
        Null = 13, "NULL";
        /// A signature that names its own algorithm (RFC 7427).
        DigitalSignature = 14, "digital signature";
    }
}

/// Hash algorithm identifiers of SIGNATURE_HASH_ALGORITHMS (RFC 7427, section 7; RFC 8420).
pub mod hash_id {
    /// SHA-1.
    pub const SHA1: u16 = 1;
    /// SHA-256.
    pub const SHA2_256: u16 = 2;
    /// SHA-384.
    pub const SHA2_384: u16 = 3;
    /// SHA-512.
    pub const SHA2_512: u16 = 4;
    /// No hash before signing: EdDSA.
    pub const IDENTITY: u16 = 5;
}

/// A certificate, or what stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// How `data` is encoded.
    pub encoding: CertificateEncoding,
    /// The certificate.
    pub data: Vec<u8>,
}

impl Certificate {
    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let encoding = reader.u8()?.into();
        let data = reader.rest().to_vec();
        Ok(Self { encoding, data })
    }

    pub(crate) fn emit(&self, out: &mut Vec<u8>) {
        out.push(self.encoding.into());
        out.extend_from_slice(&self.data);
    }
}

/// Which certification authorities the sender trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// The encoding that is wanted.
    pub encoding: CertificateEncoding,
    /// For X.509, SHA-1 hashes of 20 octets over the authorities' public key info, without gaps.
    pub authorities: Vec<u8>,
}

impl CertificateRequest {
    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let encoding = reader.u8()?.into();
        let authorities = reader.rest().to_vec();
        Ok(Self {
            encoding,
            authorities,
        })
    }

    pub(crate) fn emit(&self, out: &mut Vec<u8>) {
        out.push(self.encoding.into());
        out.extend_from_slice(&self.authorities);
    }
}

/// The proof that a side has its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// How it was made.
    pub method: AuthMethod,
    /// The keyed hash or the signature; of method 14 with its algorithm before it.
    pub data: Vec<u8>,
}

impl Authentication {
    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let method = reader.u8()?.into();
        reader.take(3)?;
        let data = reader.rest().to_vec();
        Ok(Self { method, data })
    }

    pub(crate) fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.method.into(), 0, 0, 0]);
        out.extend_from_slice(&self.data);
    }
}
