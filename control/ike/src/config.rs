//! What a user says about a connection.
//!
//! The defaults are those of AWS Site-to-Site VPN where it has them, with our rekeying placed
//! before AWS's: its children may be rekeyed from 3,060 s on and its IKE SAs from 28,260 s on, and
//! the side that rekeys first decides when a collision cannot happen.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use hawser_api::{Secret, TrafficSelector};
use hawser_ike_crypto::{
    LocalCertificate, Prf, SignaturePolicy, TrustAnchors, TrustPolicy, name::describe,
};
use ipnet::IpNet;

use crate::{
    identity::{self, Identity, IdentityMatch},
    proposal::{ChildProposal, IkeProposal},
};

/// The number of a connection: chosen by the driver, kept over reconfiguration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u32);

/// The peer's outside address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// This one.
    Address(IpAddr),
    /// Any in the network; such a connection only answers.
    Net(IpNet),
    /// Any at all; such a connection only answers.
    Any,
}

impl Remote {
    /// Whether a peer at `address` is meant.
    #[must_use]
    pub fn matches(&self, address: IpAddr) -> bool {
        match self {
            Remote::Address(a) => *a == address,
            Remote::Net(net) => net.contains(&address),
            Remote::Any => true,
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remote::Address(a) => a.fmt(f),
            Remote::Net(net) => net.fmt(f),
            Remote::Any => f.write_str("any"),
        }
    }
}

/// How both sides prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// A pre-shared key, the same for both directions.
    Psk(Secret),
    /// Certificates of both sides.
    Certificate(Certificates),
}

/// Our certificate, and which of the peer's are believed.
#[derive(Clone)]
pub struct Certificates {
    /// Ours, with its chain and key.
    pub local: Arc<LocalCertificate>,
    /// Whom we believe, with revocation lists.
    pub trust: Arc<TrustAnchors>,
    /// How strictly revocation is checked.
    pub trust_policy: TrustPolicy,
    /// Which signatures are accepted.
    pub signature_policy: SignaturePolicy,
    /// Of the files that `local` and `trust` were read from: two configurations with the same
    /// digest are the same, and their SAs go on over a reload. Revocation lists do not belong in
    /// it; a new one holds from the next authentication on.
    digest: Secret,
}

impl Certificates {
    /// `files`: the octets of our chain, our key and the trust anchors.
    #[must_use]
    pub fn new(local: LocalCertificate, trust: TrustAnchors, files: &[&[u8]]) -> Self {
        let digest = Prf::HmacSha2_256.mac(b"files of certificates", files);
        Self {
            local: Arc::new(local),
            trust: Arc::new(trust),
            trust_policy: TrustPolicy::default(),
            signature_policy: SignaturePolicy::default(),
            digest: Secret::new(digest.expose().to_vec()),
        }
    }
}

impl PartialEq for Certificates {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
            && self.trust_policy == other.trust_policy
            && self.signature_policy == other.signature_policy
    }
}

impl Eq for Certificates {}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificates({})", self.local.subject())
    }
}

/// What happens when the peer is dead: AWS's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DpdAction {
    /// Its SAs are removed.
    Clear,
    /// Liveness is not checked.
    None,
    /// Its SAs are removed and the connection is initiated anew.
    #[default]
    Restart,
}

/// Dead peer detection (RFC 7296, section 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dpd {
    /// After hearing nothing for this long the peer is asked.
    pub delay: Duration,
    /// After hearing nothing for this long it is dead. Every other request has this long to be
    /// answered too.
    pub timeout: Duration,
    /// Then what.
    pub action: DpdAction,
}

impl Default for Dpd {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(10),
            timeout: Duration::from_secs(40),
            action: DpdAction::default(),
        }
    }
}

/// When the connection is initiated: AWS's `start` and `add`, and on traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Startup {
    /// At once, and again whenever it is down.
    #[default]
    Start,
    /// By the peer, or when asked to.
    Add,
    /// When the driver sees traffic for it and calls [`crate::Endpoint::initiate`].
    Trap,
}

/// Lifetime of an SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// It is rekeyed this long after it was made, or up to the jitter earlier.
    pub rekey_after: Duration,
    /// Rekeying happens earlier by a random share of up to this many percent, so that many tunnels
    /// do not rekey at once. At most 100.
    pub jitter_percent: u8,
    /// It is deleted if it could not be rekeyed until then.
    pub hard: Duration,
}

/// What one child SA carries and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// For people.
    pub name: String,
    /// In order of preference.
    pub proposals: Vec<ChildProposal>,
    /// Our side's traffic.
    pub local_ts: Vec<TrafficSelector>,
    /// The peer's side's traffic.
    pub remote_ts: Vec<TrafficSelector>,
    /// Lifetime by time; by bytes, packets and sequence numbers the driver asks for rekeying.
    pub lifetime: Lifetime,
    /// Packets, for the data plane.
    pub replay_window: u32,
}

impl Default for Child {
    fn default() -> Self {
        Self {
            name: "child".into(),
            proposals: ChildProposal::strong(),
            local_ts: everything(),
            remote_ts: everything(),
            lifetime: Lifetime {
                rekey_after: Duration::from_secs(2_700),
                jitter_percent: 10,
                hard: Duration::from_secs(3_600),
            },
            replay_window: 1024,
        }
    }
}

/// `0.0.0.0/0` and `::/0`.
#[must_use]
pub fn everything() -> Vec<TrafficSelector> {
    let any = |first: IpAddr, last: IpAddr| TrafficSelector {
        addresses: (first, last),
        protocol: 0,
        ports: (0, u16::MAX),
    };
    vec![
        any(
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv4Addr::from(u32::MAX).into(),
        ),
        any(
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::from(u128::MAX).into(),
        ),
    ]
}

/// One tunnel to one peer, or a rule for peers that come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its number.
    pub id: ConnectionId,
    /// Its name, for people.
    pub name: String,
    /// Our outside address.
    pub local: IpAddr,
    /// The peer's outside address.
    pub remote: Remote,
    /// Who we say we are.
    pub local_id: Identity,
    /// Who the peer must be.
    pub remote_id: IdentityMatch,
    /// How it is proven.
    pub auth: Auth,
    /// For the IKE SA, in order of preference.
    pub proposals: Vec<IkeProposal>,
    /// The child SAs; the first is made together with the IKE SA.
    pub children: Vec<Child>,
    /// Lifetime of the IKE SA.
    pub lifetime: Lifetime,
    /// Authenticate anew, with new SAs made before the old ones go, this often.
    pub reauthenticate: Option<Duration>,
    /// Dead peers.
    pub dpd: Dpd,
    /// Who begins.
    pub startup: Startup,
    /// ESP in UDP although there is no NAT.
    pub force_encapsulation: bool,
    /// Offer fragmentation (RFC 7383): long messages go in pieces of one IP packet each.
    pub fragmentation: bool,
    /// The largest IP packet, in octets, that a fragment makes.
    pub fragment_size: u16,
    /// Offer MOBIKE (RFC 4555).
    pub mobike: bool,
    /// As initiator, make the IKE SA without a child if the peer can (RFC 6023), and the children
    /// after it.
    pub childless: bool,
}

impl Connection {
    /// A connection between two addresses, which are the identities too, with a pre-shared key and
    /// the defaults of the module's head.
    #[must_use]
    pub fn new(id: ConnectionId, name: &str, local: IpAddr, remote: Remote, psk: Secret) -> Self {
        let remote_id = match remote {
            Remote::Address(a) => IdentityMatch::Exact(identity::of_address(a)),
            Remote::Net(_) | Remote::Any => IdentityMatch::Any,
        };
        Self {
            id,
            name: name.to_owned(),
            local,
            remote,
            local_id: identity::of_address(local),
            remote_id,
            auth: Auth::Psk(psk),
            proposals: IkeProposal::strong(),
            children: vec![Child::default()],
            lifetime: Lifetime {
                rekey_after: Duration::from_secs(25_200),
                jitter_percent: 10,
                hard: Duration::from_secs(28_800),
            },
            reauthenticate: None,
            dpd: Dpd::default(),
            startup: Startup::default(),
            force_encapsulation: false,
            fragmentation: true,
            fragment_size: 1280,
            mobike: true,
            childless: false,
        }
    }

    /// Whether an SA made under `other` may go on under `self`: all that was negotiated or proven
    /// is the same.
    pub(crate) fn keeps_running(&self, other: &Connection) -> bool {
        let mut aligned = other.clone();
        aligned.name.clone_from(&self.name);
        aligned.lifetime = self.lifetime;
        aligned.reauthenticate = self.reauthenticate;
        aligned.dpd = self.dpd;
        aligned.startup = self.startup;
        aligned.fragment_size = self.fragment_size;
        if aligned.children.len() == self.children.len() {
            for (theirs, ours) in aligned.children.iter_mut().zip(&self.children) {
                theirs.name.clone_from(&ours.name);
                theirs.lifetime = ours.lifetime;
            }
        }
        aligned == *self
    }

    /// The address to initiate to.
    pub(crate) fn target(&self) -> Option<IpAddr> {
        match self.remote {
            Remote::Address(a) => Some(a),
            Remote::Net(_) | Remote::Any => None,
        }
    }
}

/// A configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection {connection}: {sentence}")]
pub struct ConfigError {
    /// The connection's name.
    pub connection: String,
    /// What is wrong and what to do.
    pub sentence: String,
}

/// Checks what the types cannot.
pub(crate) fn check(connections: &[Connection]) -> Result<(), ConfigError> {
    let mut ids = BTreeSet::new();
    for c in connections {
        let fail = |sentence: String| {
            Err(ConfigError {
                connection: c.name.clone(),
                sentence,
            })
        };
        if !ids.insert(c.id) {
            return fail(format!("the number {} is used twice", c.id.0));
        }
        if let Some(remote) = c.target()
            && remote.is_ipv4() != c.local.is_ipv4()
        {
            return fail(format!(
                "the local address {} and the remote address {remote} are of different families",
                c.local
            ));
        }
        if c.proposals.is_empty() {
            return fail("no IKE proposal is given".into());
        }
        if c.children.is_empty() || c.children.len() > usize::from(u16::MAX) {
            return fail("give at least one child".into());
        }
        for p in &c.proposals {
            if let Err(e) = p.check() {
                return fail(format!("IKE proposal {p}: {e}"));
            }
        }
        for child in &c.children {
            if child.proposals.is_empty() {
                return fail(format!("child {}: no proposal is given", child.name));
            }
            if child.local_ts.is_empty() || child.remote_ts.is_empty() {
                return fail(format!(
                    "child {}: a traffic selector is missing",
                    child.name
                ));
            }
            for p in &child.proposals {
                if let Err(e) = p.check() {
                    return fail(format!("child {}, proposal {p}: {e}", child.name));
                }
            }
            if let Err(e) = check_lifetime(&child.lifetime) {
                return fail(format!("child {}: {e}", child.name));
            }
        }
        if let Err(e) = check_lifetime(&c.lifetime) {
            return fail(e);
        }
        if c.fragment_size < 576 {
            return fail("fragment_size is below 576 octets".into());
        }
        if let Err(e) = check_auth(c) {
            return fail(e);
        }
    }
    Ok(())
}

fn check_auth(c: &Connection) -> Result<(), String> {
    match &c.auth {
        Auth::Psk(key) if key.expose().is_empty() => Err("the pre-shared key is empty".into()),
        Auth::Psk(_) => Ok(()),
        Auth::Certificate(own) if own.trust.is_empty() => {
            Err("no certificate authority is trusted".into())
        }
        Auth::Certificate(own) if own.local.identity(&c.local_id).is_none() => {
            let known: Vec<String> = own.local.identities().iter().map(describe).collect();
            Err(format!(
                "local_id {} is not in our certificate, which is for {}",
                describe(&c.local_id),
                known.join(" or ")
            ))
        }
        Auth::Certificate(_) => Ok(()),
    }
}

fn check_lifetime(l: &Lifetime) -> Result<(), String> {
    if l.jitter_percent > 100 {
        return Err("the jitter is above 100 %".into());
    }
    if l.rekey_after.is_zero() || l.hard <= l.rekey_after {
        return Err(format!(
            "the lifetime of {} s must be longer than the time until rekeying, {} s",
            l.hard.as_secs(),
            l.rekey_after.as_secs()
        ));
    }
    Ok(())
}
