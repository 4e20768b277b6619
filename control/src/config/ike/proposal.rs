//! Proposals by name: which ciphers, hashes and Diffie-Hellman groups may be negotiated.
//!
//! A proposal is written as one text whose parts are separated by `/` and whose alternatives are
//! separated by `+`, in the order of preference:
//!
//! ```text
//! IKE:  aes256-gcm16+aes128-gcm16/sha2-384/group20+group19      cipher / PRF / group
//!       aes256-cbc/sha2-256/group14                             cipher / integrity and PRF / group
//! ESP:  aes256-gcm16/group20                                    cipher / group of PFS
//!       aes256-gcm16                                            without PFS
//!       aes128-cbc/sha1                                         cipher / integrity, without PFS
//! ```
//!
//! AES-GCM and AES-CBC cannot share a proposal (RFC 7296, section 3.3: a combined-mode cipher has
//! no integrity transform). Weak groups are never part of a default: whoever wants one names it.

use std::{fmt, str::FromStr};

/// A cipher, for IKE and for ESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cipher {
    /// AES-GCM with a 16-octet ICV (RFC 4106, RFC 5282), 128-bit key.
    Aes128Gcm16,
    /// The same with a 256-bit key.
    Aes256Gcm16,
    /// AES-CBC (RFC 3602), 128-bit key.
    Aes128Cbc,
    /// The same with a 256-bit key.
    Aes256Cbc,
}

/// A hash: of the PRF, and of the integrity transform beside AES-CBC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hash {
    /// HMAC-SHA1 (integrity: 96 bits).
    Sha1,
    /// HMAC-SHA2-256 (integrity: 128 bits).
    Sha2_256,
    /// HMAC-SHA2-384 (integrity: 192 bits).
    Sha2_384,
    /// HMAC-SHA2-512 (integrity: 256 bits).
    Sha2_512,
}

/// A Diffie-Hellman group by its number in IANA's registry: one of [`DhGroup::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DhGroup(u16);

/// A proposal for IKE SAs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IkeProposal {
    /// Ciphers: all AES-GCM or all AES-CBC.
    pub ciphers: Vec<Cipher>,
    /// PRF, and with AES-CBC integrity too.
    pub hashes: Vec<Hash>,
    /// Groups; the first one is what we begin with.
    pub groups: Vec<DhGroup>,
}

/// A proposal for child SAs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EspProposal {
    /// Ciphers: all AES-GCM or all AES-CBC.
    pub ciphers: Vec<Cipher>,
    /// Integrity; empty with AES-GCM.
    pub integrity: Vec<Hash>,
    /// Groups for perfect forward secrecy; empty without.
    pub groups: Vec<DhGroup>,
}

/// Why a text is no proposal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposalError {
    /// A part that means nothing.
    #[error("`{0}` is no cipher, hash or group")]
    Unknown(String),
    /// A group that is not offered.
    #[error("group {0} is not supported")]
    Group(u16),
    /// The same twice.
    #[error("`{0}` is there twice")]
    Twice(String),
    /// Parts of one kind in two places.
    #[error("the {0} are in two places: join alternatives with `+`")]
    Scattered(&'static str),
    /// Nothing of a kind that is needed.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// AES-GCM and AES-CBC together.
    #[error("AES-GCM and AES-CBC cannot share a proposal (RFC 7296, section 3.3)")]
    Mixed,
    /// An integrity transform beside AES-GCM.
    #[error("AES-GCM brings its own integrity, so it takes no hash here")]
    NeedlessHash,
}

impl Cipher {
    const ALL: [(&'static str, Self); 4] = [
        ("aes256-gcm16", Self::Aes256Gcm16),
        ("aes128-gcm16", Self::Aes128Gcm16),
        ("aes256-cbc", Self::Aes256Cbc),
        ("aes128-cbc", Self::Aes128Cbc),
    ];

    /// Whether it authenticates too (AES-GCM).
    #[must_use]
    pub fn is_aead(self) -> bool {
        matches!(self, Self::Aes128Gcm16 | Self::Aes256Gcm16)
    }
}

impl Hash {
    const ALL: [(&'static str, Self); 4] = [
        ("sha2-256", Self::Sha2_256),
        ("sha2-384", Self::Sha2_384),
        ("sha2-512", Self::Sha2_512),
        ("sha1", Self::Sha1),
    ];
}

impl DhGroup {
    /// All that may be named: MODP 2, 5, 14 to 18, 22 to 24; ECP 19 to 21; X25519 31.
    pub const ALL: [u16; 14] = [2, 5, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 31];

    /// The group of this number, if it is one of [`Self::ALL`].
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        Self::ALL.contains(&number).then_some(Self(number))
    }

    /// Its number in IANA's registry.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }

    /// Whether it should be used only where the peer has nothing better (RFC 8247, section 2.4).
    #[must_use]
    pub fn is_weak(self) -> bool {
        matches!(self.0, 2 | 5 | 22 | 23 | 24)
    }
}

fn name_of<T: PartialEq + Copy>(all: &[(&'static str, T)], value: T) -> &'static str {
    all.iter()
        .find(|(_, v)| *v == value)
        .map_or("?", |(name, _)| name)
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&Self::ALL, *self))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&Self::ALL, *self))
    }
}

impl fmt::Display for DhGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group{}", self.0)
    }
}

/// One alternative of a proposal.
enum Word {
    Cipher(Cipher),
    Hash(Hash),
    Group(DhGroup),
}

impl FromStr for Word {
    type Err = ProposalError;

    fn from_str(text: &str) -> Result<Self, ProposalError> {
        let word = text.trim().to_ascii_lowercase();
        let of = |all: &[(&str, Cipher)]| all.iter().find(|(n, _)| *n == word).map(|(_, v)| *v);
        if let Some(cipher) = of(&Cipher::ALL) {
            return Ok(Self::Cipher(cipher));
        }
        // AWS writes "AES256-GCM-16" and "AES256".
        let aws = match word.as_str() {
            "aes256-gcm-16" => Some(Cipher::Aes256Gcm16),
            "aes128-gcm-16" => Some(Cipher::Aes128Gcm16),
            "aes256" => Some(Cipher::Aes256Cbc),
            "aes128" => Some(Cipher::Aes128Cbc),
            _ => None,
        };
        if let Some(cipher) = aws {
            return Ok(Self::Cipher(cipher));
        }
        if let Some((_, hash)) = Hash::ALL.iter().find(|(name, _)| *name == word) {
            return Ok(Self::Hash(*hash));
        }
        let number = word.strip_prefix("group").and_then(|n| n.parse().ok());
        match number {
            Some(number) => DhGroup::new(number)
                .map(Self::Group)
                .ok_or(ProposalError::Group(number)),
            None => Err(ProposalError::Unknown(text.trim().to_owned())),
        }
    }
}

/// The parts of a proposal, whichever kind it is of.
#[derive(Default)]
struct Parts {
    ciphers: Vec<Cipher>,
    hashes: Vec<Hash>,
    groups: Vec<DhGroup>,
}

impl Parts {
    fn parse(text: &str) -> Result<Self, ProposalError> {
        let mut parts = Self::default();
        for part in text.split('/') {
            let before = (
                parts.ciphers.is_empty(),
                parts.hashes.is_empty(),
                parts.groups.is_empty(),
            );
            for word in part.split('+') {
                match word.parse()? {
                    Word::Cipher(c) => add(&mut parts.ciphers, c, before.0, "ciphers")?,
                    Word::Hash(h) => add(&mut parts.hashes, h, before.1, "hashes")?,
                    Word::Group(g) => add(&mut parts.groups, g, before.2, "groups")?,
                }
            }
        }
        if parts.ciphers.is_empty() {
            return Err(ProposalError::Missing("cipher"));
        }
        let aead = parts.ciphers.iter().filter(|c| c.is_aead()).count();
        if aead != 0 && aead != parts.ciphers.len() {
            return Err(ProposalError::Mixed);
        }
        Ok(parts)
    }

    fn aead(&self) -> bool {
        self.ciphers.iter().any(|c| c.is_aead())
    }
}

fn add<T: PartialEq + fmt::Display>(
    list: &mut Vec<T>,
    value: T,
    first_part: bool,
    kind: &'static str,
) -> Result<(), ProposalError> {
    if !first_part {
        return Err(ProposalError::Scattered(kind));
    }
    if list.contains(&value) {
        return Err(ProposalError::Twice(value.to_string()));
    }
    list.push(value);
    Ok(())
}

impl FromStr for IkeProposal {
    type Err = ProposalError;

    fn from_str(text: &str) -> Result<Self, ProposalError> {
        let parts = Parts::parse(text)?;
        if parts.hashes.is_empty() {
            return Err(ProposalError::Missing("hash"));
        }
        if parts.groups.is_empty() {
            return Err(ProposalError::Missing("group"));
        }
        Ok(Self {
            ciphers: parts.ciphers,
            hashes: parts.hashes,
            groups: parts.groups,
        })
    }
}

impl FromStr for EspProposal {
    type Err = ProposalError;

    fn from_str(text: &str) -> Result<Self, ProposalError> {
        let parts = Parts::parse(text)?;
        match (parts.aead(), parts.hashes.is_empty()) {
            (true, false) => Err(ProposalError::NeedlessHash),
            (false, true) => Err(ProposalError::Missing("hash")),
            _ => Ok(Self {
                ciphers: parts.ciphers,
                integrity: parts.hashes,
                groups: parts.groups,
            }),
        }
    }
}

fn joined<T: fmt::Display>(list: &[T]) -> String {
    list.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("+")
}

fn write_parts(f: &mut fmt::Formatter<'_>, parts: [String; 3]) -> fmt::Result {
    let parts: Vec<String> = parts.into_iter().filter(|p| !p.is_empty()).collect();
    f.write_str(&parts.join("/"))
}

impl fmt::Display for IkeProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_parts(
            f,
            [
                joined(&self.ciphers),
                joined(&self.hashes),
                joined(&self.groups),
            ],
        )
    }
}

impl fmt::Display for EspProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_parts(
            f,
            [
                joined(&self.ciphers),
                joined(&self.integrity),
                joined(&self.groups),
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposals_are_read_and_written_back() {
        for text in [
            "aes256-gcm16/sha2-384/group20",
            "aes256-gcm16+aes128-gcm16/sha2-384+sha2-256/group20+group31",
            "aes128-cbc/sha1/group2",
        ] {
            let proposal: IkeProposal = text.parse().unwrap();
            assert_eq!(proposal.to_string(), text);
        }
        for text in [
            "aes256-gcm16",
            "aes128-gcm16/group14",
            "aes128-cbc+aes256-cbc/sha2-256",
            "aes256-cbc/sha2-512+sha1/group5",
        ] {
            let proposal: EspProposal = text.parse().unwrap();
            assert_eq!(proposal.to_string(), text);
        }
    }

    #[test]
    fn aws_spellings_are_understood() {
        let proposal: IkeProposal = "AES256-GCM-16/SHA2-384/Group20".parse().unwrap();
        assert_eq!(proposal.to_string(), "aes256-gcm16/sha2-384/group20");
        let proposal: EspProposal = "AES128/SHA1".parse().unwrap();
        assert_eq!(proposal.to_string(), "aes128-cbc/sha1");
    }

    #[test]
    fn every_mistake_is_named() {
        let ike = |text: &str| text.parse::<IkeProposal>().unwrap_err().to_string();
        let esp = |text: &str| text.parse::<EspProposal>().unwrap_err().to_string();
        assert_eq!(ike("aes256-gcm16/sha2-384"), "it has no group");
        assert_eq!(ike("aes256-gcm16/group20"), "it has no hash");
        assert_eq!(ike("sha2-384/group20"), "it has no cipher");
        assert_eq!(
            ike("aes256-gcm16/sha2-384/group1"),
            "group 1 is not supported"
        );
        assert_eq!(
            ike("aes256gcm16-sha384-ecp384"),
            "`aes256gcm16-sha384-ecp384` is no cipher, hash or group"
        );
        assert_eq!(
            ike("aes256-gcm16+aes256-cbc/sha1/group14"),
            "AES-GCM and AES-CBC cannot share a proposal (RFC 7296, section 3.3)"
        );
        assert_eq!(
            ike("aes256-gcm16/sha2-384/group20/group19"),
            "the groups are in two places: join alternatives with `+`"
        );
        assert_eq!(
            ike("aes256-gcm16/sha2-384/group20+group20"),
            "`group20` is there twice"
        );
        assert_eq!(
            esp("aes256-gcm16/sha1"),
            "AES-GCM brings its own integrity, so it takes no hash here"
        );
        assert_eq!(esp("aes256-cbc/group14"), "it has no hash");
        assert_eq!(esp(""), "`` is no cipher, hash or group");
    }
}
