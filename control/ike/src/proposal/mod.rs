//! Proposals: what we allow, and the choice between that and what the peer offers (RFC 7296,
//! sections 2.7 and 3.3; RFC 8247 and RFC 8221 for what is still sound).
//!
//! A proposal here is a list per transform type, as on the wire. [`words`] reads and writes it in
//! the words people know from strongSwan's configuration; [`select`] chooses.

pub(crate) mod select;
mod words;

use hawser_aead::Suite;
use hawser_ike_crypto::{Cipher, Encr, Group, Integ, Prf};
use hawser_ike_wire::{Proposal, ProtocolId, Transform, TransformType, transform_id};

pub use words::ProposalError;
pub(crate) use words::suite_words;

/// What an IKE SA may use: one of each list. AES-GCM, which needs no integrity algorithm, and
/// AES-CBC, which needs one, are never in the same proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IkeProposal {
    /// Ciphers, best first.
    pub encr: Vec<Encr>,
    /// Integrity; empty with AES-GCM.
    pub integ: Vec<Integ>,
    /// Pseudo-random functions.
    pub prf: Vec<Prf>,
    /// Key exchange groups.
    pub groups: Vec<Group>,
}

/// What a child SA (ESP) may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildProposal {
    /// Ciphers, best first.
    pub encr: Vec<Encr>,
    /// Integrity; empty with AES-GCM.
    pub integ: Vec<Integ>,
    /// Groups for perfect forward secrecy when a child is made or rekeyed after IKE_AUTH. Empty:
    /// none is used.
    pub groups: Vec<Group>,
    /// Extended sequence numbers, in order of preference; never empty.
    pub esn: Vec<bool>,
}

/// Groups of 128 bits of security or more that have no doubtful parameters, quickest first.
const STRONG_GROUPS: [Group; 6] = [
    Group::X25519,
    Group::Ecp256,
    Group::Ecp384,
    Group::Modp3072,
    Group::Modp4096,
    Group::Modp2048,
];

impl IkeProposal {
    /// AES-GCM first, AES-CBC with SHA-2 for peers that have nothing better. No weak group, no
    /// SHA-1: a configuration has to name those.
    #[must_use]
    pub fn strong() -> Vec<Self> {
        let prf = vec![Prf::HmacSha2_384, Prf::HmacSha2_256, Prf::HmacSha2_512];
        vec![
            Self {
                encr: vec![Encr::AesGcm16_256, Encr::AesGcm16_128],
                integ: Vec::new(),
                prf: prf.clone(),
                groups: STRONG_GROUPS.to_vec(),
            },
            Self {
                encr: vec![Encr::AesCbc256, Encr::AesCbc128],
                integ: vec![
                    Integ::HmacSha2_256_128,
                    Integ::HmacSha2_384_192,
                    Integ::HmacSha2_512_256,
                ],
                prf,
                groups: STRONG_GROUPS.to_vec(),
            },
        ]
    }

    /// AES-256-GCM only, with groups that AWS has. AWS tries proposals from its own lowest value
    /// upward whatever our order is, so only offering nothing else gets AES-GCM.
    #[must_use]
    pub fn aws_gcm_only() -> Vec<Self> {
        vec![Self {
            encr: vec![Encr::AesGcm16_256],
            integ: Vec::new(),
            prf: vec![Prf::HmacSha2_384, Prf::HmacSha2_256, Prf::HmacSha2_512],
            groups: vec![Group::Ecp384, Group::Ecp256, Group::Modp2048],
        }]
    }

    /// What the types cannot say.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_cipher(&self.encr, &self.integ)?;
        if self.prf.is_empty() {
            return Err("a PRF is missing".into());
        }
        if self.groups.is_empty() {
            return Err("a key exchange group is missing".into());
        }
        Ok(())
    }

    /// As on the wire.
    pub(crate) fn to_wire(&self, number: u8, spi: Vec<u8>) -> Proposal {
        let mut transforms: Vec<Transform> = Vec::new();
        transforms.extend(self.encr.iter().map(|t| t.transform()));
        transforms.extend(self.prf.iter().map(|t| t.transform()));
        transforms.extend(self.integ.iter().map(|t| t.transform()));
        transforms.extend(self.groups.iter().map(|t| t.transform()));
        Proposal {
            number,
            protocol: ProtocolId::Ike,
            spi,
            transforms,
        }
    }
}

impl ChildProposal {
    /// AES-GCM with forward secrecy, then AES-CBC with SHA-2.
    #[must_use]
    pub fn strong() -> Vec<Self> {
        vec![
            Self {
                encr: vec![Encr::AesGcm16_256, Encr::AesGcm16_128],
                integ: Vec::new(),
                groups: STRONG_GROUPS.to_vec(),
                esn: vec![false],
            },
            Self {
                encr: vec![Encr::AesCbc256, Encr::AesCbc128],
                integ: vec![
                    Integ::HmacSha2_256_128,
                    Integ::HmacSha2_384_192,
                    Integ::HmacSha2_512_256,
                ],
                groups: STRONG_GROUPS.to_vec(),
                esn: vec![false],
            },
        ]
    }

    /// AES-256-GCM only, with groups that AWS has.
    #[must_use]
    pub fn aws_gcm_only() -> Vec<Self> {
        vec![Self {
            encr: vec![Encr::AesGcm16_256],
            integ: Vec::new(),
            groups: vec![Group::Ecp384, Group::Ecp256, Group::Modp2048],
            esn: vec![false],
        }]
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        check_cipher(&self.encr, &self.integ)?;
        if self.esn.is_empty() {
            return Err("say whether extended sequence numbers are used".into());
        }
        for encr in &self.encr {
            for integ in self
                .integ
                .iter()
                .map(Some)
                .chain(self.integ.is_empty().then_some(None))
            {
                if suite(*encr, integ.copied()).is_none() {
                    return Err("the data plane has no such cipher".into());
                }
            }
        }
        Ok(())
    }

    /// As on the wire; `with_groups` is false in IKE_AUTH, where no second key exchange happens.
    pub(crate) fn to_wire(&self, number: u8, spi: Vec<u8>, with_groups: bool) -> Proposal {
        let mut transforms: Vec<Transform> = Vec::new();
        transforms.extend(self.encr.iter().map(|t| t.transform()));
        transforms.extend(self.integ.iter().map(|t| t.transform()));
        if with_groups {
            transforms.extend(self.groups.iter().map(|t| t.transform()));
        }
        transforms.extend(self.esn.iter().map(|esn| esn_transform(*esn)));
        Proposal {
            number,
            protocol: ProtocolId::Esp,
            spi,
            transforms,
        }
    }
}

/// The transform for (no) extended sequence numbers.
pub(crate) fn esn_transform(esn: bool) -> Transform {
    let id = if esn {
        transform_id::ESN_YES
    } else {
        transform_id::ESN_NO
    };
    Transform::new(TransformType::Esn, id)
}

/// The data plane's name for a cipher.
pub(crate) fn suite(encr: Encr, integ: Option<Integ>) -> Option<Suite> {
    use Integ::{HmacSha1_96, HmacSha2_256_128, HmacSha2_384_192, HmacSha2_512_256};
    Some(match (encr, integ) {
        (Encr::AesGcm16_128, None) => Suite::Aes128Gcm16,
        (Encr::AesGcm16_256, None) => Suite::Aes256Gcm16,
        (Encr::AesCbc128, Some(HmacSha1_96)) => Suite::Aes128CbcSha1_96,
        (Encr::AesCbc256, Some(HmacSha1_96)) => Suite::Aes256CbcSha1_96,
        (Encr::AesCbc128, Some(HmacSha2_256_128)) => Suite::Aes128CbcSha256_128,
        (Encr::AesCbc256, Some(HmacSha2_256_128)) => Suite::Aes256CbcSha256_128,
        (Encr::AesCbc128, Some(HmacSha2_384_192)) => Suite::Aes128CbcSha384_192,
        (Encr::AesCbc256, Some(HmacSha2_384_192)) => Suite::Aes256CbcSha384_192,
        (Encr::AesCbc128, Some(HmacSha2_512_256)) => Suite::Aes128CbcSha512_256,
        (Encr::AesCbc256, Some(HmacSha2_512_256)) => Suite::Aes256CbcSha512_256,
        (Encr::AesGcm16_128 | Encr::AesGcm16_256, Some(_))
        | (Encr::AesCbc128 | Encr::AesCbc256, None) => return None,
    })
}

fn check_cipher(encr: &[Encr], integ: &[Integ]) -> Result<(), String> {
    if encr.is_empty() {
        return Err("a cipher is missing".into());
    }
    if integ.is_empty() {
        if encr.iter().any(|e| Cipher::new(*e, None).is_err()) {
            return Err(
                "AES-CBC needs an integrity algorithm; GCM and CBC go in proposals of their own"
                    .into(),
            );
        }
    } else if encr
        .iter()
        .any(|e| Cipher::new(*e, Some(integ[0])).is_err())
    {
        return Err(
            "AES-GCM takes no integrity algorithm; GCM and CBC go in proposals of their own".into(),
        );
    }
    Ok(())
}
