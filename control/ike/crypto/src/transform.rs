//! The algorithms that can be negotiated, and the lengths that follow from them.

use std::fmt;
use std::str::FromStr;

use hawser_ike_wire::{Transform, TransformType, transform_id as id};

use crate::dh::Group;
use crate::prf::Hash;

/// A name that is none of those that fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} \"{name}\"; known: {known}")]
pub struct NameError {
    /// What was looked for.
    pub what: &'static str,
    /// The name.
    pub name: String,
    /// The names that there are.
    pub known: String,
}

/// An enum of algorithms with names, both ways.
macro_rules! named {
    (
        $(#[$doc:meta])*
        $name:ident, $what:literal {
            $($(#[$variant_doc:meta])* $variant:ident = $text:literal;)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name that configuration, status and logs use.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::transform::NameError;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|algorithm| algorithm.name() == name)
                    .ok_or_else(|| $crate::transform::NameError {
                        what: $what,
                        name: name.to_owned(),
                        known: Self::ALL.iter().map(|a| a.name()).collect::<Vec<_>>().join(", "),
                    })
            }
        }
    };
}

pub(crate) use named;

named! {
    /// An encryption algorithm.
    Encr, "encryption algorithm" {
        /// AES-128-GCM with an ICV of 16 octets (RFC 4106, RFC 5282).
        AesGcm16_128 = "aes128-gcm16";
        /// AES-256-GCM with an ICV of 16 octets.
        AesGcm16_256 = "aes256-gcm16";
        /// AES-128-CBC (RFC 3602).
        AesCbc128 = "aes128-cbc";
        /// AES-256-CBC.
        AesCbc256 = "aes256-cbc";
    }
}

named! {
    /// An integrity algorithm.
    Integ, "integrity algorithm" {
        /// HMAC-SHA1-96 (RFC 2404).
        HmacSha1_96 = "sha1";
        /// HMAC-SHA-256-128 (RFC 4868).
        HmacSha2_256_128 = "sha2-256";
        /// HMAC-SHA-384-192.
        HmacSha2_384_192 = "sha2-384";
        /// HMAC-SHA-512-256.
        HmacSha2_512_256 = "sha2-512";
    }
}

named! {
    /// A pseudorandom function.
    Prf, "pseudorandom function" {
        /// HMAC-SHA1 (RFC 2104).
        HmacSha1 = "prf-sha1";
        /// HMAC-SHA-256 (RFC 4868).
        HmacSha2_256 = "prf-sha2-256";
        /// HMAC-SHA-384.
        HmacSha2_384 = "prf-sha2-384";
        /// HMAC-SHA-512.
        HmacSha2_512 = "prf-sha2-512";
    }
}

impl Encr {
    /// Octets of the key, without the salt.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::AesGcm16_128 | Self::AesCbc128 => 16,
            Self::AesGcm16_256 | Self::AesCbc256 => 32,
        }
    }

    /// Octets of salt behind the key (RFC 5282, section 7.1): 4 for GCM.
    #[must_use]
    pub const fn salt_len(self) -> usize {
        if self.is_aead() { 4 } else { 0 }
    }

    /// Octets of initialization vector.
    #[must_use]
    pub const fn iv_len(self) -> usize {
        if self.is_aead() { 8 } else { 16 }
    }

    /// Whether it authenticates by itself.
    #[must_use]
    pub const fn is_aead(self) -> bool {
        matches!(self, Self::AesGcm16_128 | Self::AesGcm16_256)
    }

    /// As a proposal says it.
    #[must_use]
    pub const fn transform(self) -> Transform {
        let (number, bits) = match self {
            Self::AesGcm16_128 => (id::ENCR_AES_GCM_16, 128),
            Self::AesGcm16_256 => (id::ENCR_AES_GCM_16, 256),
            Self::AesCbc128 => (id::ENCR_AES_CBC, 128),
            Self::AesCbc256 => (id::ENCR_AES_CBC, 256),
        };
        Transform::with_key(TransformType::Encr, number, bits)
    }

    /// The algorithm of a proposal's transform, if it is one of these.
    #[must_use]
    pub fn from_transform(transform: &Transform) -> Option<Self> {
        find(Self::ALL, transform, Self::transform)
    }
}

impl Integ {
    /// Octets of the key.
    #[must_use]
    pub const fn key_len(self) -> usize {
        self.hash().len()
    }

    /// Octets of the integrity check value: the MAC is cut to it.
    #[must_use]
    pub const fn icv_len(self) -> usize {
        match self {
            Self::HmacSha1_96 => 12,
            Self::HmacSha2_256_128 => 16,
            Self::HmacSha2_384_192 => 24,
            Self::HmacSha2_512_256 => 32,
        }
    }

    pub(crate) const fn hash(self) -> Hash {
        match self {
            Self::HmacSha1_96 => Hash::Sha1,
            Self::HmacSha2_256_128 => Hash::Sha2_256,
            Self::HmacSha2_384_192 => Hash::Sha2_384,
            Self::HmacSha2_512_256 => Hash::Sha2_512,
        }
    }

    /// As a proposal says it.
    #[must_use]
    pub const fn transform(self) -> Transform {
        let number = match self {
            Self::HmacSha1_96 => id::INTEG_HMAC_SHA1_96,
            Self::HmacSha2_256_128 => id::INTEG_HMAC_SHA2_256_128,
            Self::HmacSha2_384_192 => id::INTEG_HMAC_SHA2_384_192,
            Self::HmacSha2_512_256 => id::INTEG_HMAC_SHA2_512_256,
        };
        Transform::new(TransformType::Integ, number)
    }

    /// The algorithm of a proposal's transform, if it is one of these.
    #[must_use]
    pub fn from_transform(transform: &Transform) -> Option<Self> {
        find(Self::ALL, transform, Self::transform)
    }
}

impl Prf {
    /// Octets of its output, and of the keys made for it.
    #[must_use]
    pub const fn key_len(self) -> usize {
        self.hash().len()
    }

    pub(crate) const fn hash(self) -> Hash {
        match self {
            Self::HmacSha1 => Hash::Sha1,
            Self::HmacSha2_256 => Hash::Sha2_256,
            Self::HmacSha2_384 => Hash::Sha2_384,
            Self::HmacSha2_512 => Hash::Sha2_512,
        }
    }

    /// As a proposal says it.
    #[must_use]
    pub const fn transform(self) -> Transform {
        let number = match self {
            Self::HmacSha1 => id::PRF_HMAC_SHA1,
            Self::HmacSha2_256 => id::PRF_HMAC_SHA2_256,
            Self::HmacSha2_384 => id::PRF_HMAC_SHA2_384,
            Self::HmacSha2_512 => id::PRF_HMAC_SHA2_512,
        };
        Transform::new(TransformType::Prf, number)
    }

    /// The function of a proposal's transform, if it is one of these.
    #[must_use]
    pub fn from_transform(transform: &Transform) -> Option<Self> {
        find(Self::ALL, transform, Self::transform)
    }
}

/// The algorithm whose transform is this one, with no attribute that it does not know.
pub(crate) fn find<T: Copy>(all: &[T], wanted: &Transform, to: fn(T) -> Transform) -> Option<T> {
    all.iter().copied().find(|one| to(*one) == *wanted)
}

/// Encryption and integrity that do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    /// An algorithm that authenticates by itself, with an integrity algorithm.
    #[error("{0} authenticates by itself and takes no integrity algorithm")]
    NeedsNoIntegrity(Encr),
    /// An algorithm that needs an integrity algorithm, without one.
    #[error("{0} needs an integrity algorithm")]
    NeedsIntegrity(Encr),
}

/// Encryption together with the integrity that it needs: what protects an IKE SA or a Child SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cipher {
    encr: Encr,
    /// Of an algorithm that needs one.
    integ: Option<Integ>,
}

impl Cipher {
    /// Joins the two.
    ///
    /// # Errors
    /// An AEAD with an integrity algorithm, or another algorithm without one.
    pub const fn new(encr: Encr, integ: Option<Integ>) -> Result<Self, CipherError> {
        match (encr.is_aead(), integ) {
            (true, Some(_)) => Err(CipherError::NeedsNoIntegrity(encr)),
            (false, None) => Err(CipherError::NeedsIntegrity(encr)),
            _ => Ok(Self { encr, integ }),
        }
    }

    /// The encryption algorithm.
    #[must_use]
    pub const fn encr(self) -> Encr {
        self.encr
    }

    /// The integrity algorithm, where there is one.
    #[must_use]
    pub const fn integ(self) -> Option<Integ> {
        self.integ
    }

    /// Octets of key material for one direction: the cipher key, then the salt or the integrity
    /// key (RFC 7296, section 2.17).
    #[must_use]
    pub const fn key_material_len(self) -> usize {
        self.encryption_len() + self.integrity_len()
    }

    /// Octets of the cipher key and the salt.
    pub(crate) const fn encryption_len(self) -> usize {
        self.encr.key_len() + self.encr.salt_len()
    }

    /// Octets of the integrity key.
    pub(crate) const fn integrity_len(self) -> usize {
        match self.integ {
            Some(integ) => integ.key_len(),
            None => 0,
        }
    }

    /// Octets of the integrity check value or tag.
    pub(crate) const fn icv_len(self) -> usize {
        match self.integ {
            Some(integ) => integ.icv_len(),
            None => 16,
        }
    }

    /// The encrypted part is a multiple of this many octets.
    pub(crate) const fn block_len(self) -> usize {
        if self.encr.is_aead() { 1 } else { 16 }
    }

    /// As a proposal says it.
    #[must_use]
    pub fn transforms(self) -> Vec<Transform> {
        let integ = self.integ.map(Integ::transform);
        [Some(self.encr.transform()), integ]
            .into_iter()
            .flatten()
            .collect()
    }

    /// All of them, the strongest first.
    pub fn all() -> impl Iterator<Item = Self> {
        let gcm = [Encr::AesGcm16_256, Encr::AesGcm16_128].map(|encr| Self { encr, integ: None });
        let cbc = [Encr::AesCbc256, Encr::AesCbc128];
        let cbc = cbc.into_iter().flat_map(|encr| {
            Integ::ALL.iter().rev().map(move |integ| Self {
                encr,
                integ: Some(*integ),
            })
        });
        gcm.into_iter().chain(cbc)
    }
}

/// As `aes256-gcm16` or `aes256-cbc-sha2-256`.
impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.integ {
            None => self.encr.fmt(f),
            Some(integ) => f.pad(&format!("{}-{integ}", self.encr)),
        }
    }
}

impl FromStr for Cipher {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::all()
            .find(|cipher| cipher.to_string() == name)
            .ok_or_else(|| NameError {
                what: "cipher",
                name: name.to_owned(),
                known: Self::all()
                    .map(|cipher| cipher.to_string())
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }
}

/// What was negotiated for an IKE SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IkeSuite {
    /// What protects its messages.
    pub cipher: Cipher,
    /// What makes its keys.
    pub prf: Prf,
    /// The Diffie-Hellman group.
    pub group: Group,
}

/// As `aes256-gcm16, prf-sha2-256, x25519`.
impl fmt::Display for IkeSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.cipher, self.prf, self.group)
    }
}

#[cfg(test)]
mod tests;
