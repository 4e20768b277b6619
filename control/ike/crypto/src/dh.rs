//! Diffie-Hellman: groups, ephemeral keys, shared secrets.
//!
//! MODP groups 2, 5, 14 to 18 (RFC 2409, RFC 3526) and 22 to 24 (RFC 5114) by constant-time
//! Montgomery exponentiation; ECP groups 19 to 21 (RFC 5903) and X25519 (RFC 8031) by aws-lc. A
//! private key serves one exchange and is used up by it. The peer's public value is checked as
//! RFC 6989, section 2, asks.

mod ec;
mod modp;
mod modp_numbers;

use hawser_ike_wire::{Transform, TransformType, transform_id as id};

use crate::random::Random;
use crate::secret::Secret;
use crate::transform::{find, named};

named! {
    /// A Diffie-Hellman group.
    Group, "Diffie-Hellman group" {
        /// Group 2, 1024 bits.
        Modp1024 = "modp1024";
        /// Group 5, 1536 bits.
        Modp1536 = "modp1536";
        /// Group 14, 2048 bits.
        Modp2048 = "modp2048";
        /// Group 15, 3072 bits.
        Modp3072 = "modp3072";
        /// Group 16, 4096 bits.
        Modp4096 = "modp4096";
        /// Group 17, 6144 bits.
        Modp6144 = "modp6144";
        /// Group 18, 8192 bits.
        Modp8192 = "modp8192";
        /// Group 19, NIST P-256.
        Ecp256 = "ecp256";
        /// Group 20, NIST P-384.
        Ecp384 = "ecp384";
        /// Group 21, NIST P-521.
        Ecp521 = "ecp521";
        /// Group 22, 1024 bits with a subgroup of 160 bits.
        Modp1024s160 = "modp1024s160";
        /// Group 23, 2048 bits with a subgroup of 224 bits.
        Modp2048s224 = "modp2048s224";
        /// Group 24, 2048 bits with a subgroup of 256 bits.
        Modp2048s256 = "modp2048s256";
        /// Group 31, X25519.
        X25519 = "x25519";
    }
}

impl Group {
    /// Its transform ID.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Modp1024 => id::DH_MODP_1024,
            Self::Modp1536 => id::DH_MODP_1536,
            Self::Modp2048 => id::DH_MODP_2048,
            Self::Modp3072 => id::DH_MODP_3072,
            Self::Modp4096 => id::DH_MODP_4096,
            Self::Modp6144 => id::DH_MODP_6144,
            Self::Modp8192 => id::DH_MODP_8192,
            Self::Ecp256 => id::DH_ECP_256,
            Self::Ecp384 => id::DH_ECP_384,
            Self::Ecp521 => id::DH_ECP_521,
            Self::Modp1024s160 => id::DH_MODP_1024_160,
            Self::Modp2048s224 => id::DH_MODP_2048_224,
            Self::Modp2048s256 => id::DH_MODP_2048_256,
            Self::X25519 => id::DH_CURVE25519,
        }
    }

    /// The group with this transform ID, if it is one of these.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|group| group.number() == number)
    }

    /// Whether RFC 8247, section 2.4, says that it should or must not be used: groups 2 and 5
    /// for their size, 22 to 24 for their small subgroups of unknown origin.
    #[must_use]
    pub const fn is_weak(self) -> bool {
        matches!(
            self,
            Self::Modp1024
                | Self::Modp1536
                | Self::Modp1024s160
                | Self::Modp2048s224
                | Self::Modp2048s256
        )
    }

    /// Octets of a public value.
    #[must_use]
    pub const fn public_len(self) -> usize {
        match self {
            Self::Modp1024 | Self::Modp1024s160 => 128,
            Self::Modp1536 => 192,
            Self::Modp2048 | Self::Modp2048s224 | Self::Modp2048s256 => 256,
            Self::Modp3072 => 384,
            Self::Modp4096 => 512,
            Self::Modp6144 => 768,
            Self::Modp8192 => 1024,
            Self::Ecp256 => 64,
            Self::Ecp384 => 96,
            Self::Ecp521 => 132,
            Self::X25519 => 32,
        }
    }

    /// As a proposal says it.
    #[must_use]
    pub const fn transform(self) -> Transform {
        Transform::new(TransformType::Dh, self.number())
    }

    /// The group of a proposal's transform, if it is one of these.
    #[must_use]
    pub fn from_transform(transform: &Transform) -> Option<Self> {
        find(Self::ALL, transform, Self::transform)
    }
}

/// A public value of the peer that must not be used. The peer is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyExchangeError {
    /// It has not the length that the group's RFC gives it.
    #[error("a public value of {got} octets, where {group} has {expected}")]
    Length {
        /// The group.
        group: Group,
        /// Octets of its public values.
        expected: usize,
        /// Octets that came.
        got: usize,
    },
    /// It is no element of the group, or one of an order so small that the secret would be known.
    #[error("a public value that is not valid for {0}")]
    Invalid(Group),
}

/// Our private key of one exchange.
pub struct KeyExchange {
    group: Group,
    public: Vec<u8>,
    private: Private,
}

enum Private {
    Modp(modp::Exponent),
    Ec(ec::PrivateKey),
}

impl KeyExchange {
    /// Makes a key pair.
    #[must_use]
    pub fn generate(group: Group, random: &mut dyn Random) -> Self {
        if let Some(modp) = modp::Modp::of(group) {
            let exponent = modp.exponent(random);
            return Self {
                group,
                public: modp.public(&exponent),
                private: Private::Modp(exponent),
            };
        }
        let (private, public) = ec::generate(group, random);
        Self {
            group,
            public,
            private: Private::Ec(private),
        }
    }

    /// The group.
    #[must_use]
    pub const fn group(&self) -> Group {
        self.group
    }

    /// The public value as a KE payload carries it.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The secret shared with the owner of `peer`, of the length that key derivation takes
    /// (RFC 7296, section 2.14).
    ///
    /// # Errors
    /// A public value that is not valid in the group.
    pub fn agree(self, peer: &[u8]) -> Result<Secret, KeyExchangeError> {
        let group = self.group;
        let expected = group.public_len();
        if peer.len() != expected {
            return Err(KeyExchangeError::Length {
                group,
                expected,
                got: peer.len(),
            });
        }
        match self.private {
            Private::Modp(exponent) => {
                modp::Modp::of(group).and_then(|modp| modp.agree(&exponent, peer))
            }
            Private::Ec(private) => ec::agree(group, &private, peer),
        }
        .ok_or(KeyExchangeError::Invalid(group))
    }
}

#[cfg(test)]
mod tests;
