//! Proposals in words: `aes256gcm16-prfsha384-ecp384`, `aes256-aes128-sha256-modp2048`.
//!
//! The words are strongSwan's, because people have them in their configurations. For IKE without
//! a `prf...` word the PRFs follow from the integrity algorithms, as they do there.

use std::{fmt, str::FromStr};

use hawser_ike_crypto::{Encr, Group, IkeSuite, Integ, Prf};

use super::{ChildProposal, IkeProposal};

/// A proposal that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProposalError(String);

const ENCR: &[(&str, Encr)] = &[
    ("aes128gcm16", Encr::AesGcm16_128),
    ("aes256gcm16", Encr::AesGcm16_256),
    ("aes128", Encr::AesCbc128),
    ("aes256", Encr::AesCbc256),
];

const INTEG: &[(&str, Integ)] = &[
    ("sha1", Integ::HmacSha1_96),
    ("sha256", Integ::HmacSha2_256_128),
    ("sha384", Integ::HmacSha2_384_192),
    ("sha512", Integ::HmacSha2_512_256),
];

const PRF: &[(&str, Prf)] = &[
    ("prfsha1", Prf::HmacSha1),
    ("prfsha256", Prf::HmacSha2_256),
    ("prfsha384", Prf::HmacSha2_384),
    ("prfsha512", Prf::HmacSha2_512),
];

fn find<T: Copy>(table: &[(&str, T)], word: &str) -> Option<T> {
    table.iter().find(|(w, _)| *w == word).map(|(_, t)| *t)
}

/// The word for an algorithm; every one is in its table.
fn word<T: PartialEq>(table: &[(&'static str, T)], item: &T) -> &'static str {
    table
        .iter()
        .find(|(_, t)| t == item)
        .map_or("?", |(w, _)| *w)
}

/// The algorithms of an IKE SA in words.
pub(crate) fn suite_words(suite: IkeSuite) -> String {
    let mut words = vec![word(ENCR, &suite.cipher.encr()).to_owned()];
    words.extend(suite.cipher.integ().map(|i| word(INTEG, &i).to_owned()));
    words.push(word(PRF, &suite.prf).to_owned());
    words.push(suite.group.to_string());
    words.join("-")
}

/// The words of one proposal, sorted by kind.
#[derive(Default)]
struct Words {
    encr: Vec<Encr>,
    integ: Vec<Integ>,
    prf: Vec<Prf>,
    groups: Vec<Group>,
    esn: Vec<bool>,
}

impl Words {
    fn read(text: &str) -> Result<Self, ProposalError> {
        let mut words = Self::default();
        for word in text.split('-') {
            words.take(word)?;
        }
        Ok(words)
    }

    fn take(&mut self, word: &str) -> Result<(), ProposalError> {
        // Order matters: "sha256" is an integrity algorithm, "prfsha256" a PRF.
        if word == "esn" {
            push(&mut self.esn, true);
        } else if word == "noesn" {
            push(&mut self.esn, false);
        } else if let Some(encr) = find(ENCR, word) {
            push(&mut self.encr, encr);
        } else if let Some(integ) = find(INTEG, word) {
            push(&mut self.integ, integ);
        } else if let Some(prf) = find(PRF, word) {
            push(&mut self.prf, prf);
        } else if let Ok(group) = word.parse() {
            push(&mut self.groups, group);
        } else {
            return Err(ProposalError(format!(
                "{word:?} is no algorithm known here; known are {}",
                known()
            )));
        }
        Ok(())
    }
}

fn push<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

fn known() -> String {
    let mut words: Vec<String> = Vec::new();
    words.extend(ENCR.iter().map(|(w, _)| (*w).to_owned()));
    words.extend(INTEG.iter().map(|(w, _)| (*w).to_owned()));
    words.extend(PRF.iter().map(|(w, _)| (*w).to_owned()));
    words.extend(Group::ALL.iter().map(ToString::to_string));
    words.join(", ")
}

/// The PRF that uses the same hash.
fn prf_of(integ: Integ) -> Prf {
    match integ {
        Integ::HmacSha1_96 => Prf::HmacSha1,
        Integ::HmacSha2_256_128 => Prf::HmacSha2_256,
        Integ::HmacSha2_384_192 => Prf::HmacSha2_384,
        Integ::HmacSha2_512_256 => Prf::HmacSha2_512,
    }
}

impl FromStr for IkeProposal {
    type Err = ProposalError;

    fn from_str(text: &str) -> Result<Self, ProposalError> {
        let mut words = Words::read(text)?;
        if !words.esn.is_empty() {
            return Err(ProposalError(format!(
                "{text:?}: extended sequence numbers are of ESP, not of IKE"
            )));
        }
        if words.prf.is_empty() {
            words.prf = words.integ.iter().map(|i| prf_of(*i)).collect();
        }
        // strongSwan's users write the hash for the PRF after a GCM cipher too.
        if words.encr.iter().all(|e| e.is_aead()) {
            words.integ.clear();
        }
        let proposal = Self {
            encr: words.encr,
            integ: words.integ,
            prf: words.prf,
            groups: words.groups,
        };
        proposal
            .check()
            .map_err(|e| ProposalError(format!("{text:?}: {e}")))?;
        Ok(proposal)
    }
}

impl FromStr for ChildProposal {
    type Err = ProposalError;

    fn from_str(text: &str) -> Result<Self, ProposalError> {
        let mut words = Words::read(text)?;
        if !words.prf.is_empty() {
            return Err(ProposalError(format!(
                "{text:?}: a PRF is of IKE, not of ESP"
            )));
        }
        if words.esn.is_empty() {
            words.esn.push(false);
        }
        let proposal = Self {
            encr: words.encr,
            integ: words.integ,
            groups: words.groups,
            esn: words.esn,
        };
        proposal
            .check()
            .map_err(|e| ProposalError(format!("{text:?}: {e}")))?;
        Ok(proposal)
    }
}

impl fmt::Display for IkeProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = words_of(ENCR, &self.encr)
            .chain(words_of(INTEG, &self.integ))
            .chain(words_of(PRF, &self.prf))
            .chain(self.groups.iter().map(ToString::to_string));
        f.write_str(&words.collect::<Vec<_>>().join("-"))
    }
}

impl fmt::Display for ChildProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let esn = |on: &bool| String::from(if *on { "esn" } else { "noesn" });
        let words = words_of(ENCR, &self.encr)
            .chain(words_of(INTEG, &self.integ))
            .chain(self.groups.iter().map(ToString::to_string))
            .chain(self.esn.iter().map(esn));
        f.write_str(&words.collect::<Vec<_>>().join("-"))
    }
}

fn words_of<T: PartialEq>(table: &[(&'static str, T)], list: &[T]) -> impl Iterator<Item = String> {
    list.iter().map(|item| word(table, item).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written() {
        for text in [
            "aes256gcm16-prfsha384-ecp384",
            "aes256-aes128-sha256-prfsha256-modp2048-x25519",
        ] {
            let p: IkeProposal = text.parse().expect("a good proposal");
            assert_eq!(p.to_string(), text);
        }
        for text in ["aes256gcm16-ecp384-noesn", "aes128-sha1-modp1024-noesn-esn"] {
            let p: ChildProposal = text.parse().expect("a good proposal");
            assert_eq!(p.to_string(), text);
        }
        let p: ChildProposal = "aes128gcm16".parse().expect("a good proposal");
        assert_eq!(p.esn, [false]);
        let p: IkeProposal = "aes128-sha1-modp1024".parse().expect("a good proposal");
        assert_eq!(p.prf, [Prf::HmacSha1]);
        let p: IkeProposal = "aes128gcm16-sha256-modp2048"
            .parse()
            .expect("a good proposal");
        assert!(p.integ.is_empty());
        assert_eq!(p.prf, [Prf::HmacSha2_256]);
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_word() {
        let wrong = |text: &str| {
            text.parse::<IkeProposal>()
                .map(|p| p.to_string())
                .expect_err("must be refused")
                .to_string()
        };
        assert!(wrong("aes256gcm16-prfsha384-ecp999").contains("ecp999"));
        assert!(wrong("aes256-prfsha384-ecp384").contains("integrity"));
        assert!(wrong("aes256gcm16-aes256-sha256-ecp384").contains("of their own"));
        assert!(wrong("aes256gcm16-ecp384").contains("PRF"));
        assert!(wrong("aes256gcm16-prfsha256").contains("group"));
        assert!(wrong("aes256gcm16-prfsha256-ecp384-esn").contains("ESP"));
        assert!("aes256gcm16-prfsha256".parse::<ChildProposal>().is_err());
        assert!("".parse::<ChildProposal>().is_err());
    }
}
