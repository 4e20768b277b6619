//! Choosing from a peer's offer, and checking the peer's choice from ours.
//!
//! Our order decides when we choose: proposals first, then each transform list. A proposal of the
//! peer with a transform type that we do not know is passed over, since one transform of every
//! type in it would have to be chosen (RFC 7296, section 3.3.6).

use hawser_api::Spi;
use hawser_ike_crypto::{Cipher, Encr, Group, IkeSuite, Integ, Prf};
use hawser_ike_wire::{Proposal, ProtocolId, Transform, TransformType, transform_id};

use super::{ChildProposal, IkeProposal, esn_transform};
use crate::fault::{During, Fault};

/// A choice, ready to be answered with.
#[derive(Clone, Debug)]
pub(crate) struct Chosen<T> {
    /// What was chosen.
    pub(crate) what: T,
    /// The number of the peer's proposal.
    pub(crate) number: u8,
    /// The SPI in the peer's proposal.
    pub(crate) spi: Vec<u8>,
    /// One of each.
    pub(crate) transforms: Vec<Transform>,
}

impl<T> Chosen<T> {
    /// The proposal of our answer.
    pub(crate) fn answer(&self, protocol: ProtocolId, spi: Vec<u8>) -> Proposal {
        Proposal {
            number: self.number,
            protocol,
            spi,
            transforms: self.transforms.clone(),
        }
    }
}

/// What a child SA will use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChildSuite {
    pub(crate) cipher: Cipher,
    pub(crate) group: Option<Group>,
    pub(crate) esn: bool,
}

/// One peer's proposal, its transforms sorted by kind.
struct Offer<'a> {
    proposal: &'a Proposal,
}

impl<'a> Offer<'a> {
    /// The offer, unless it has transform types that we cannot choose from.
    fn read(proposal: &'a Proposal) -> Option<Self> {
        let known = proposal.transforms.iter().all(|t| {
            matches!(
                t.kind,
                TransformType::Encr
                    | TransformType::Prf
                    | TransformType::Integ
                    | TransformType::Dh
                    | TransformType::Esn
            ) || proposal
                .transforms
                .iter()
                .any(|n| n.kind == t.kind && is_none(n))
        });
        known.then_some(Self { proposal })
    }

    fn of(&self, kind: TransformType) -> impl Iterator<Item = &'a Transform> {
        self.proposal
            .transforms
            .iter()
            .filter(move |t| t.kind == kind)
    }

    fn has(&self, kind: TransformType) -> bool {
        self.of(kind).next().is_some()
    }

    /// Whether this type may be left out of the choice: it is absent or offered as NONE.
    fn optional(&self, kind: TransformType) -> bool {
        !self.has(kind) || self.of(kind).any(is_none)
    }

    /// The first of `ours` that is offered.
    fn first<T: Copy + PartialEq>(
        &self,
        kind: TransformType,
        ours: &[T],
        read: impl Fn(&Transform) -> Option<T>,
    ) -> Option<T> {
        ours.iter()
            .find(|o| self.of(kind).any(|t| read(t).as_ref() == Some(o)))
            .copied()
    }

    /// As many of each type as an answer may have.
    fn is_single(&self) -> bool {
        self.proposal
            .transforms
            .iter()
            .all(|t| self.of(t.kind).count() == 1)
    }
}

fn is_none(t: &Transform) -> bool {
    t.id == 0 && !matches!(t.kind, TransformType::Esn)
}

/// Chooses for an IKE SA. `hint` is the group of the peer's KE payload: it is preferred if we
/// allow it, which saves a round trip.
pub(crate) fn ike(
    ours: &[IkeProposal],
    theirs: &[Proposal],
    hint: Option<Group>,
) -> Option<Chosen<IkeSuite>> {
    ours.iter().find_map(|our| {
        theirs
            .iter()
            .filter(|t| t.protocol == ProtocolId::Ike)
            .find_map(|their| ike_pair(our, their, hint))
    })
}

fn ike_pair(our: &IkeProposal, their: &Proposal, hint: Option<Group>) -> Option<Chosen<IkeSuite>> {
    let offer = Offer::read(their)?;
    let encr = offer.first(TransformType::Encr, &our.encr, Encr::from_transform)?;
    let integ = integrity(&offer, &our.integ)?;
    let prf = offer.first(TransformType::Prf, &our.prf, Prf::from_transform)?;
    let hinted = hint.filter(|h| our.groups.contains(h));
    let group = hinted
        .and_then(|h| offer.first(TransformType::Dh, &[h], Group::from_transform))
        .or_else(|| offer.first(TransformType::Dh, &our.groups, Group::from_transform))?;
    let cipher = Cipher::new(encr, integ).ok()?;
    let mut transforms = vec![encr.transform(), prf.transform()];
    transforms.extend(integ.map(|i| i.transform()));
    transforms.push(group.transform());
    Some(Chosen {
        what: IkeSuite { cipher, prf, group },
        number: their.number,
        spi: their.spi.clone(),
        transforms,
    })
}

/// Chooses for a child SA. With `pfs` false (IKE_AUTH) groups are neither needed nor chosen.
pub(crate) fn child(
    ours: &[ChildProposal],
    theirs: &[Proposal],
    pfs: bool,
    hint: Option<Group>,
) -> Option<Chosen<ChildSuite>> {
    ours.iter().find_map(|our| {
        theirs
            .iter()
            .filter(|t| t.protocol == ProtocolId::Esp && t.spi.len() == 4)
            .find_map(|their| child_pair(our, their, pfs, hint))
    })
}

fn child_pair(
    our: &ChildProposal,
    their: &Proposal,
    pfs: bool,
    hint: Option<Group>,
) -> Option<Chosen<ChildSuite>> {
    let offer = Offer::read(their)?;
    let encr = offer.first(TransformType::Encr, &our.encr, Encr::from_transform)?;
    let integ = integrity(&offer, &our.integ)?;
    let esn = if offer.has(TransformType::Esn) {
        offer.first(TransformType::Esn, &our.esn, |t| {
            Some(t.id == transform_id::ESN_YES)
        })?
    } else {
        // RFC 7296 asks for the transform; a peer without it means none.
        our.esn.iter().copied().find(|esn| !esn)?
    };
    let group = if !pfs {
        None
    } else if our.groups.is_empty() {
        if !offer.optional(TransformType::Dh) {
            return None;
        }
        None
    } else {
        let hinted = hint.filter(|h| our.groups.contains(h));
        let group = hinted
            .and_then(|h| offer.first(TransformType::Dh, &[h], Group::from_transform))
            .or_else(|| offer.first(TransformType::Dh, &our.groups, Group::from_transform))?;
        Some(group)
    };
    let cipher = Cipher::new(encr, integ).ok()?;
    let mut transforms = vec![encr.transform()];
    transforms.extend(integ.map(|i| i.transform()));
    transforms.extend(group.map(|g| g.transform()));
    transforms.push(esn_transform(esn));
    Some(Chosen {
        what: ChildSuite { cipher, group, esn },
        number: their.number,
        spi: their.spi.clone(),
        transforms,
    })
}

/// `Some(None)`: no integrity algorithm is needed.
fn integrity(offer: &Offer<'_>, ours: &[Integ]) -> Option<Option<Integ>> {
    if ours.is_empty() {
        offer.optional(TransformType::Integ).then_some(None)
    } else {
        offer
            .first(TransformType::Integ, ours, Integ::from_transform)
            .map(Some)
    }
}

/// The peer's choice from our IKE proposals, which were numbered from 1. `None` when it is not
/// one that we offered.
pub(crate) fn ike_answer(ours: &[IkeProposal], theirs: &[Proposal]) -> Option<Chosen<IkeSuite>> {
    let [their] = theirs else { return None };
    let our = ours.get(usize::from(their.number).checked_sub(1)?)?;
    Offer::read(their)?.is_single().then_some(())?;
    ike(std::slice::from_ref(our), theirs, None)
}

/// The peer's choice from our child proposals, which were numbered from 1.
pub(crate) fn child_answer(
    ours: &[ChildProposal],
    theirs: &[Proposal],
    pfs: bool,
) -> Option<Chosen<ChildSuite>> {
    let [their] = theirs else { return None };
    let our = ours.get(usize::from(their.number).checked_sub(1)?)?;
    Offer::read(their)?.is_single().then_some(())?;
    child(std::slice::from_ref(our), theirs, pfs, None)
}

/// Proposals in one line for a sentence, without SPIs.
pub(crate) fn list(proposals: &[Proposal]) -> String {
    if proposals.is_empty() {
        return "nothing".into();
    }
    let words: Vec<String> = proposals.iter().map(ToString::to_string).collect();
    words.join(" or ")
}

/// Ours in the same words as the peer's.
pub(crate) fn list_ike(ours: &[IkeProposal]) -> String {
    let wire: Vec<Proposal> = ours.iter().map(|p| p.to_wire(1, Vec::new())).collect();
    list(&wire)
}

/// Ours in the same words as the peer's.
pub(crate) fn list_child(ours: &[ChildProposal], pfs: bool) -> String {
    let wire: Vec<Proposal> = ours.iter().map(|p| p.to_wire(1, Vec::new(), pfs)).collect();
    list(&wire)
}

/// The SPI in a child proposal.
pub(crate) fn esp_spi(octets: &[u8]) -> Result<Spi, Fault> {
    match octets {
        [a, b, c, d] => Ok(Spi(u32::from_be_bytes([*a, *b, *c, *d]))),
        _ => Err(Fault::Broken {
            during: During::Child,
            what: "peer's SPI is not of four octets",
        }),
    }
}
