//! The cipher suites ESP may use here: names, and the lengths that follow from them.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::MAX_PACKET;

/// An ESP cipher together with its integrity algorithm.
///
/// These are the ones AWS site-to-site VPN offers, less the ones RFC 8221 forbids.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Suite {
    /// AES-128-GCM with a 16-byte tag (RFC 4106).
    #[serde(rename = "aes128-gcm16")]
    Aes128Gcm16,
    /// AES-256-GCM with a 16-byte tag (RFC 4106).
    #[serde(rename = "aes256-gcm16")]
    Aes256Gcm16,
    /// AES-128-CBC (RFC 3602) with HMAC-SHA1-96 (RFC 2404).
    #[serde(rename = "aes128-cbc-sha1")]
    Aes128CbcSha1_96,
    /// AES-256-CBC with HMAC-SHA1-96.
    #[serde(rename = "aes256-cbc-sha1")]
    Aes256CbcSha1_96,
    /// AES-128-CBC with HMAC-SHA-256-128 (RFC 4868).
    #[serde(rename = "aes128-cbc-sha2-256")]
    Aes128CbcSha256_128,
    /// AES-256-CBC with HMAC-SHA-256-128.
    #[serde(rename = "aes256-cbc-sha2-256")]
    Aes256CbcSha256_128,
    /// AES-128-CBC with HMAC-SHA-384-192 (RFC 4868).
    #[serde(rename = "aes128-cbc-sha2-384")]
    Aes128CbcSha384_192,
    /// AES-256-CBC with HMAC-SHA-384-192.
    #[serde(rename = "aes256-cbc-sha2-384")]
    Aes256CbcSha384_192,
    /// AES-128-CBC with HMAC-SHA-512-256 (RFC 4868).
    #[serde(rename = "aes128-cbc-sha2-512")]
    Aes128CbcSha512_256,
    /// AES-256-CBC with HMAC-SHA-512-256.
    #[serde(rename = "aes256-cbc-sha2-512")]
    Aes256CbcSha512_256,
}

/// The integrity algorithm of a suite.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Integrity {
    /// GCM authenticates by itself.
    Gcm,
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Suite {
    /// Every suite.
    pub const ALL: [Suite; 10] = [
        Suite::Aes128Gcm16,
        Suite::Aes256Gcm16,
        Suite::Aes128CbcSha1_96,
        Suite::Aes256CbcSha1_96,
        Suite::Aes128CbcSha256_128,
        Suite::Aes256CbcSha256_128,
        Suite::Aes128CbcSha384_192,
        Suite::Aes256CbcSha384_192,
        Suite::Aes128CbcSha512_256,
        Suite::Aes256CbcSha512_256,
    ];

    /// Bytes of initialization vector between the sequence number and the payload.
    #[must_use]
    pub const fn iv_len(self) -> usize {
        match self.integrity() {
            Integrity::Gcm => 8,
            _ => 16,
        }
    }

    /// Bytes of integrity check value (tag) at the packet's end.
    #[must_use]
    pub const fn icv_len(self) -> usize {
        match self.integrity() {
            Integrity::Sha1 => 12,
            Integrity::Gcm | Integrity::Sha256 => 16,
            Integrity::Sha384 => 24,
            Integrity::Sha512 => 32,
        }
    }

    /// The encrypted part (payload, padding and the two trailer bytes) is a multiple of this
    /// many bytes: the cipher's block, but at least the 4 bytes of RFC 4303 section 2.4.
    #[must_use]
    pub const fn block_len(self) -> usize {
        match self.integrity() {
            Integrity::Gcm => 4,
            _ => 16,
        }
    }

    /// Bytes of key material: for AES-GCM the cipher key and then the 4-byte salt (RFC 4106
    /// section 8.1); for AES-CBC the cipher key and then the integrity key (the order in which IKE
    /// cuts them from KEYMAT, RFC 7296 section 2.17).
    #[must_use]
    pub const fn key_len(self) -> usize {
        self.cipher_key_len()
            + match self.integrity() {
                Integrity::Gcm => 4,
                Integrity::Sha1 => 20,
                Integrity::Sha256 => 32,
                Integrity::Sha384 => 48,
                Integrity::Sha512 => 64,
            }
    }

    /// Bytes an ESP packet has beyond the encrypted part: SPI, sequence number, IV and ICV.
    #[must_use]
    pub const fn overhead(self) -> usize {
        8 + self.iv_len() + self.icv_len()
    }

    /// Which lengths a packet may have.
    #[must_use]
    pub const fn shape(self) -> Shape {
        Shape {
            overhead: self.overhead() as u32,
            // That RFC 4303 wants multiples of 4 is for the reader of the padding to judge: GCM
            // itself takes any length (RFC 4106, section 3).
            odd: if self.is_gcm() {
                0
            } else {
                self.block_len() as u32 - 1
            },
        }
    }

    /// Whether this is one of the AES-GCM suites.
    #[must_use]
    pub const fn is_gcm(self) -> bool {
        matches!(self.integrity(), Integrity::Gcm)
    }

    pub(crate) const fn cipher_key_len(self) -> usize {
        match self {
            Suite::Aes128Gcm16
            | Suite::Aes128CbcSha1_96
            | Suite::Aes128CbcSha256_128
            | Suite::Aes128CbcSha384_192
            | Suite::Aes128CbcSha512_256 => 16,
            Suite::Aes256Gcm16
            | Suite::Aes256CbcSha1_96
            | Suite::Aes256CbcSha256_128
            | Suite::Aes256CbcSha384_192
            | Suite::Aes256CbcSha512_256 => 32,
        }
    }

    pub(crate) const fn integrity(self) -> Integrity {
        match self {
            Suite::Aes128Gcm16 | Suite::Aes256Gcm16 => Integrity::Gcm,
            Suite::Aes128CbcSha1_96 | Suite::Aes256CbcSha1_96 => Integrity::Sha1,
            Suite::Aes128CbcSha256_128 | Suite::Aes256CbcSha256_128 => Integrity::Sha256,
            Suite::Aes128CbcSha384_192 | Suite::Aes256CbcSha384_192 => Integrity::Sha384,
            Suite::Aes128CbcSha512_256 | Suite::Aes256CbcSha512_256 => Integrity::Sha512,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Suite::Aes128Gcm16 => "aes128-gcm16",
            Suite::Aes256Gcm16 => "aes256-gcm16",
            Suite::Aes128CbcSha1_96 => "aes128-cbc-sha1",
            Suite::Aes256CbcSha1_96 => "aes256-cbc-sha1",
            Suite::Aes128CbcSha256_128 => "aes128-cbc-sha2-256",
            Suite::Aes256CbcSha256_128 => "aes256-cbc-sha2-256",
            Suite::Aes128CbcSha384_192 => "aes128-cbc-sha2-384",
            Suite::Aes256CbcSha384_192 => "aes256-cbc-sha2-384",
            Suite::Aes128CbcSha512_256 => "aes128-cbc-sha2-512",
            Suite::Aes256CbcSha512_256 => "aes256-cbc-sha2-512",
        }
    }
}

/// Which lengths a packet of a suite may have, worked out for the packet path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// [`Suite::overhead`].
    overhead: u32,
    /// Bits that no length of ciphertext has.
    odd: u32,
}

impl Shape {
    /// The length of the ciphertext in a packet of `len` bytes, from SPI to ICV; none if no packet
    /// of the suite has that length, or it is above [`MAX_PACKET`].
    #[inline]
    #[must_use]
    pub const fn ciphertext(self, len: usize) -> Option<usize> {
        let overhead = self.overhead as usize;
        // Too short wraps around and is too long.
        let ciphertext = len.wrapping_sub(overhead);
        if ciphertext <= MAX_PACKET - overhead && ciphertext & self.odd as usize == 0 {
            Some(ciphertext)
        } else {
            None
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no cipher suite.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown cipher suite \"{0}\"; known: {names}", names = known_names())]
pub struct ParseSuiteError(String);

fn known_names() -> String {
    Suite::ALL.map(Suite::name).join(", ")
}

impl FromStr for Suite {
    type Err = ParseSuiteError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Suite::ALL
            .into_iter()
            .find(|suite| suite.name() == name)
            .ok_or_else(|| ParseSuiteError(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways_and_are_what_serde_uses() {
        for suite in Suite::ALL {
            assert_eq!(suite.to_string().parse(), Ok(suite));
            let serde_name: Suite = serde_json::from_str(&format!("\"{suite}\"")).unwrap();
            assert_eq!(serde_name, suite);
        }
        let error = "aes128-ctr".parse::<Suite>().unwrap_err();
        assert!(error.to_string().contains("aes256-cbc-sha2-512"));
    }

    #[test]
    fn only_whole_blocks_have_a_shape() {
        let gcm = Suite::Aes128Gcm16.shape();
        let cbc = Suite::Aes256CbcSha1_96.shape();
        for (shape, len, ciphertext) in [
            (gcm, 31, None),
            (gcm, 32, Some(0)),
            (gcm, 33, Some(1)),
            (gcm, MAX_PACKET, Some(MAX_PACKET - 32)),
            (gcm, MAX_PACKET + 1, None),
            (cbc, 35, None),
            (cbc, 36, Some(0)),
            (cbc, 51, None),
            (cbc, 52, Some(16)),
            (cbc, usize::MAX, None),
        ] {
            assert_eq!(shape.ciphertext(len), ciphertext, "{shape:?} {len}");
        }
    }

    #[test]
    fn lengths_are_those_of_the_rfcs() {
        use Suite::*;
        let table = [
            // suite, IV, ICV, block, key material
            (Aes128Gcm16, 8, 16, 4, 20),
            (Aes256Gcm16, 8, 16, 4, 36),
            (Aes128CbcSha1_96, 16, 12, 16, 36),
            (Aes256CbcSha1_96, 16, 12, 16, 52),
            (Aes128CbcSha256_128, 16, 16, 16, 48),
            (Aes256CbcSha256_128, 16, 16, 16, 64),
            (Aes128CbcSha384_192, 16, 24, 16, 64),
            (Aes256CbcSha384_192, 16, 24, 16, 80),
            (Aes128CbcSha512_256, 16, 32, 16, 80),
            (Aes256CbcSha512_256, 16, 32, 16, 96),
        ];
        for (suite, iv, icv, block, key) in table {
            let got = (
                suite.iv_len(),
                suite.icv_len(),
                suite.block_len(),
                suite.key_len(),
            );
            assert_eq!(got, (iv, icv, block, key), "{suite}");
        }
    }
}
