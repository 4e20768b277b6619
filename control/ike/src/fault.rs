//! Everything that can go wrong, and the one place that maps it to a notify for the peer and to a
//! sentence for people.
//!
//! A sentence says what happened, what each side has, and what to do. No secret is ever in one.

use std::{net::SocketAddr, time::Duration};

use hawser_api::Spi;
use hawser_ike_crypto::Group;
use hawser_ike_wire::{Notify, NotifyType, ProtocolId};

use crate::event::{Failure, Side};

/// The exchange in which a fault happened, in the words of RFC 7296.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum During {
    Init,
    Auth,
    Child,
    ChildRekey,
    IkeRekey,
    Informational,
}

impl During {
    fn words(self) -> &'static str {
        match self {
            During::Init => "IKE_SA_INIT",
            During::Auth => "IKE_AUTH",
            During::Child => "creating a child SA",
            During::ChildRekey => "rekeying a child SA",
            During::IkeRekey => "rekeying the IKE SA",
            During::Informational => "an informational exchange",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No IKE proposal of the peer is allowed.
    IkeProposal { theirs: String, ours: String },
    /// No ESP proposal of the peer is allowed.
    ChildProposal { theirs: String, ours: String },
    /// The peer's KE payload is of another group than the chosen one.
    WrongGroup { theirs: u16, chosen: Group },
    /// The peer chose what we did not offer.
    ForeignChoice {
        during: During,
        theirs: String,
        ours: String,
    },
    /// No traffic in common.
    Selectors { theirs: String, ours: String },
    /// The peer proves an identity that we do not expect.
    PeerIdentity { theirs: String, expected: String },
    /// The peer asks for an identity of ours that we do not have.
    OurIdentity { asked: String, ours: String },
    /// The peer's AUTH is wrong for the pre-shared key.
    WrongPsk { identity: String },
    /// The peer's certificate, or its signature.
    Certificate(String),
    /// We cannot sign.
    OurProof(String),
    /// The peer wants to authenticate in a way that the connection does not allow.
    AuthMethod { theirs: String, ours: String },
    /// The peer refused.
    Refused {
        during: During,
        notify: NotifyType,
        /// What we offered or are called, as far as it explains the refusal.
        ours: String,
    },
    /// The peer does not believe that we are who we say.
    AuthRefused {
        /// Who we say we are.
        ours: String,
        /// Whom we ask for, if we say it.
        asked: Option<String>,
        /// By certificate, not by a pre-shared key.
        certified: bool,
    },
    /// The peer wants a group that we do not allow, or changes its mind for ever.
    GroupRefused { wanted: Option<u16>, ours: String },
    /// The peer asks for cookies without end.
    CookieLoop,
    /// The peer redirects us.
    Redirected,
    /// The peer's message lacks something or has something wrong in it.
    Broken { during: During, what: &'static str },
    /// The peer's message cannot be read.
    Malformed(String),
    /// A payload that the peer calls critical is not known here.
    Critical(u8),
    /// A public value that must not be used (RFC 6989).
    PublicValue(String),
    /// Nothing came back.
    Unanswered {
        during: During,
        remote: SocketAddr,
        after: Duration,
        copies: u32,
    },
    /// The peer is dead.
    Dead { silent: Duration },
    /// The peer's other attempt or ours made this one needless.
    Temporary,
    /// No child SA with this SPI.
    NoSuchChild(Spi),
    /// No further SA is wanted.
    NoAdditional,
    /// An SA reached its hard lifetime.
    Expired(&'static str),
    /// Too large for the protocol or refused by the cipher: ours to repair.
    Internal(String),
}

impl Fault {
    /// What the peer is told.
    pub(crate) fn notify(&self) -> Option<Notify> {
        let kind = match self {
            Fault::IkeProposal { .. } | Fault::ChildProposal { .. } => NotifyType::NoProposalChosen,
            Fault::WrongGroup { chosen, .. } => return Some(Notify::invalid_ke(chosen.number())),
            Fault::Selectors { .. } => NotifyType::TsUnacceptable,
            Fault::PeerIdentity { .. }
            | Fault::OurIdentity { .. }
            | Fault::WrongPsk { .. }
            | Fault::Certificate(_)
            | Fault::OurProof(_)
            | Fault::AuthMethod { .. } => NotifyType::AuthenticationFailed,
            Fault::Broken { .. } | Fault::Malformed(_) | Fault::PublicValue(_) => {
                NotifyType::InvalidSyntax
            }
            Fault::Critical(kind) => {
                return Some(Notify::with_data(
                    NotifyType::UnsupportedCriticalPayload,
                    vec![*kind],
                ));
            }
            Fault::Temporary => NotifyType::TemporaryFailure,
            Fault::NoSuchChild(spi) => {
                return Some(Notify {
                    protocol: ProtocolId::Esp,
                    spi: spi.0.to_be_bytes().to_vec(),
                    kind: NotifyType::ChildSaNotFound,
                    data: Vec::new(),
                });
            }
            Fault::NoAdditional => NotifyType::NoAdditionalSas,
            Fault::ForeignChoice { .. }
            | Fault::Refused { .. }
            | Fault::AuthRefused { .. }
            | Fault::GroupRefused { .. }
            | Fault::CookieLoop
            | Fault::Redirected
            | Fault::Unanswered { .. }
            | Fault::Dead { .. }
            | Fault::Expired(_)
            | Fault::Internal(_) => return None,
        };
        Some(Notify::new(kind))
    }

    /// What people are told.
    pub(crate) fn failure(&self) -> Failure {
        Failure {
            side: self.side(),
            sentence: self.sentence(),
        }
    }

    fn side(&self) -> Side {
        match self {
            Fault::IkeProposal { .. }
            | Fault::ChildProposal { .. }
            | Fault::WrongGroup { .. }
            | Fault::Selectors { .. }
            | Fault::PeerIdentity { .. }
            | Fault::OurIdentity { .. }
            | Fault::WrongPsk { .. }
            | Fault::Certificate(_)
            | Fault::AuthMethod { .. }
            | Fault::AuthRefused { .. }
            | Fault::GroupRefused { .. }
            | Fault::NoAdditional => Side::Configuration,
            Fault::Refused { notify, .. } => match notify {
                NotifyType::NoProposalChosen
                | NotifyType::TsUnacceptable
                | NotifyType::InvalidKePayload => Side::Configuration,
                _ => Side::Peer,
            },
            Fault::ForeignChoice { .. }
            | Fault::CookieLoop
            | Fault::Redirected
            | Fault::Broken { .. }
            | Fault::Malformed(_)
            | Fault::Critical(_)
            | Fault::PublicValue(_)
            | Fault::Temporary
            | Fault::NoSuchChild(_) => Side::Peer,
            Fault::Unanswered { .. } | Fault::Dead { .. } => Side::Network,
            Fault::Expired(_) | Fault::Internal(_) | Fault::OurProof(_) => Side::We,
        }
    }

    fn sentence(&self) -> String {
        match self {
            Fault::IkeProposal { theirs, ours } => format!(
                "no common proposal for the IKE SA: peer offers {theirs}, we allow {ours}"
            ),
            Fault::ChildProposal { theirs, ours } => format!(
                "no common proposal for the child SA: peer offers {theirs}, we allow {ours}"
            ),
            Fault::WrongGroup { theirs, chosen } => format!(
                "peer sent a key of group {theirs}, we ask for {chosen}"
            ),
            Fault::ForeignChoice {
                during,
                theirs,
                ours,
            } => format!(
                "in {}, peer chose {theirs}, which we did not offer; we offered {ours}",
                during.words()
            ),
            Fault::Selectors { theirs, ours } => format!(
                "no common traffic selectors: peer has {theirs}, we have {ours}"
            ),
            Fault::PeerIdentity { theirs, expected } => format!(
                "peer says it is {theirs}, we expect {expected}: correct the peer's identity or remote_id here"
            ),
            Fault::OurIdentity { asked, ours } => format!(
                "peer wants to talk to {asked}, we are {ours}: correct the peer's remote identity or local_id here"
            ),
            Fault::WrongPsk { identity } => format!(
                "the pre-shared key does not match that of {identity}: compare it on both sides"
            ),
            Fault::Certificate(what) => format!("peer's certificate is refused: {what}"),
            Fault::OurProof(what) => format!("we cannot prove who we are: {what}"),
            Fault::AuthMethod { theirs, ours } => format!(
                "peer authenticates by {theirs}, this connection allows {ours}"
            ),
            Fault::Refused {
                during,
                notify,
                ours,
            } => refused(*during, *notify, ours),
            Fault::AuthRefused {
                ours,
                asked,
                certified,
            } => {
                let asked = match asked {
                    Some(asked) => format!(" towards {asked}"),
                    None => String::new(),
                };
                let compare = if *certified {
                    "look up there whether it trusts the authority of our certificate, whether ours is valid and not revoked, and which identities it expects"
                } else {
                    "compare the pre-shared key, and the identities that the peer expects"
                };
                format!("peer refuses our authentication as {ours}{asked}: {compare}")
            }
            Fault::GroupRefused { wanted, ours } => match wanted {
                Some(wanted) => format!(
                    "peer wants key exchange group {}, we allow {ours}",
                    group_name(*wanted)
                ),
                None => "peer refuses our key exchange group without naming its own".into(),
            },
            Fault::CookieLoop => "peer asks for a cookie again and again".into(),
            Fault::Redirected => {
                "peer redirects us to another gateway, which is refused: configure that gateway's address".into()
            }
            Fault::Broken { during, what } => format!("in {}, {what}", during.words()),
            Fault::Malformed(what) => format!("peer's message cannot be read: {what}"),
            Fault::Critical(kind) => {
                format!("peer's message has a critical payload of type {kind}, which is not known here")
            }
            Fault::PublicValue(what) => format!("peer's key exchange value is refused: {what}"),
            Fault::Unanswered {
                during,
                remote,
                after,
                copies,
            } => format!(
                "no answer from {remote} to {} after {} s and {copies} copies: is the peer running, and does UDP {} pass the firewalls?",
                during.words(),
                after.as_secs(),
                remote.port()
            ),
            Fault::Dead { silent } => format!(
                "peer is dead: nothing heard from it for {} s",
                silent.as_secs()
            ),
            Fault::Temporary => "peer is busy with another exchange, we try again".into(),
            Fault::NoSuchChild(spi) => format!("there is no child SA with SPI {:#010x}", spi.0),
            Fault::NoAdditional => "peer wants a child SA that is not configured here".into(),
            Fault::Expired(what) => {
                format!("{what} reached its lifetime before it could be rekeyed")
            }
            Fault::Internal(what) => format!("cannot make the message: {what}"),
        }
    }
}

fn refused(during: During, notify: NotifyType, ours: &str) -> String {
    let words = during.words();
    match notify {
        NotifyType::NoProposalChosen => format!(
            "peer accepts none of our proposals in {words}: we offer {ours}; compare with the peer's configuration"
        ),
        NotifyType::TsUnacceptable => {
            format!("peer accepts none of our traffic selectors: we offer {ours}")
        }
        _ => format!("peer refuses {words} with {notify}"),
    }
}

fn group_name(number: u16) -> String {
    match Group::from_number(number) {
        Some(group) => format!("{group} ({number})"),
        None => number.to_string(),
    }
}
