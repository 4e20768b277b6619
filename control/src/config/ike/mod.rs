//! `[connection.ike]`: what a tunnel's key exchange is to be, with all defaults filled in.
//!
//! The words and most values are AWS's (Site-to-Site VPN tunnel options). Two defaults differ on
//! purpose, because ours is the other side: we start (AWS's `startup_action` is `add`, so it waits
//! for us), and we rekey earlier than AWS would, so that rekeys do not collide.

mod dn;
mod identity;
mod proposal;

pub use dn::{DistinguishedName, DnError};
use hawser_api::Secret;
pub use identity::{Identity, IdentityError};
use ipnet::IpNet;
pub use proposal::{Cipher, DhGroup, EspProposal, Hash, IkeProposal, ProposalError};

/// A tunnel's key exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ike {
    /// How both sides prove who they are.
    pub auth: Auth,
    /// Who we are; `None` with a certificate means its subject.
    pub local_id: Option<Identity>,
    /// Who the peer must be; `None` is anybody who can authenticate.
    pub remote_id: Option<Identity>,
    /// Proposals for the IKE SA (AWS: phase 1), in the order of preference.
    pub proposals: Vec<IkeProposal>,
    /// Proposals for child SAs (AWS: phase 2).
    pub esp_proposals: Vec<EspProposal>,
    /// Extended sequence numbers are offered.
    pub esn: bool,
    /// Replay window in packets.
    pub replay_window: u32,
    /// When keys are replaced.
    pub lifetimes: Lifetimes,
    /// When a silent peer is dead, and what then.
    pub dpd: Dpd,
    /// What happens without being asked.
    pub startup: Startup,
    /// Our side's networks: the traffic selectors offered and accepted.
    pub local_networks: Vec<IpNet>,
    /// The peer's side's.
    pub remote_networks: Vec<IpNet>,
    /// ESP always in UDP, as if a NAT had been found.
    pub force_udp: bool,
    /// Largest IKE packet in octets before it is sent in fragments (RFC 7383); `None` never.
    pub fragment_size: Option<u16>,
    /// MOBIKE (RFC 4555) is offered.
    pub mobike: bool,
    /// An IKE SA may be made without a child (RFC 6023).
    pub childless: bool,
}

/// How both sides prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// By a shared key.
    PreSharedKey(Secret),
    /// By certificates.
    Certificate(Certificates),
}

/// Contents of certificate files, PEM or DER as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// Ours, then those between it and the peer's trust anchor.
    pub chain: Vec<u8>,
    /// Our private key.
    pub key: Secret,
    /// What the peer's certificate must lead to.
    pub authorities: Vec<Vec<u8>>,
    /// Revocation lists; empty does not check.
    pub revocations: Vec<Vec<u8>>,
    /// An RSA key signs with RSA-PSS (RFC 8017) instead of PKCS #1 v1.5.
    pub rsa_pss: bool,
}

/// When keys are replaced. Times in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Of an IKE SA.
    pub phase1: u32,
    /// Of a child SA.
    pub phase2: u32,
    /// Rekeying starts at least this long before the end of a child SA.
    pub margin: u32,
    /// The same of an IKE SA.
    pub phase1_margin: u32,
    /// The margin is enlarged at random by up to this many percent.
    pub fuzz: u8,
    /// A child SA is replaced after this many octets; 0 for no limit.
    pub bytes: u64,
    /// A child SA is replaced after this many packets; 0 for no limit.
    pub packets: u64,
    /// The peers authenticate anew after this long; `None` never.
    pub reauthenticate: Option<u32>,
}

/// Dead peer detection. Times in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dpd {
    /// A peer that was silent for this long is asked; 0 never.
    pub delay: u32,
    /// A peer that was silent for this long is dead.
    pub timeout: u32,
    /// What then.
    pub action: DpdAction,
}

/// What happens to a tunnel whose peer is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DpdAction {
    /// It ends; the peer may set it up again.
    Clear,
    /// Nothing: it is only shown.
    None,
    /// It is set up again.
    Restart,
}

/// What happens without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Startup {
    /// We set the tunnel up.
    Start,
    /// We wait for the peer.
    Add,
    /// We set it up when traffic wants it.
    Traffic,
}

impl DpdAction {
    /// AWS's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::None => "none",
            Self::Restart => "restart",
        }
    }
}

impl Startup {
    /// AWS's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Add => "add",
            Self::Traffic => "traffic",
        }
    }
}

impl Lifetimes {
    /// Seconds of age between which a child SA is replaced.
    #[must_use]
    pub fn child_rekey(&self) -> (u32, u32) {
        window(self.phase2, self.margin, self.fuzz)
    }

    /// Seconds of age between which an IKE SA is replaced.
    #[must_use]
    pub fn ike_rekey(&self) -> (u32, u32) {
        window(self.phase1, self.phase1_margin, self.fuzz)
    }
}

/// Earliest and latest start of a rekey: AWS's formula, `lifetime - margin * (1 + fuzz)`.
fn window(lifetime: u32, margin: u32, fuzz: u8) -> (u32, u32) {
    let most = u64::from(margin) * (100 + u64::from(fuzz)) / 100;
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    (
        lifetime.saturating_sub(most),
        lifetime.saturating_sub(margin),
    )
}

impl std::fmt::Display for Ike {
    /// One line for `hawser check`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let listed = |list: &[String]| match list {
            [] => "-".to_owned(),
            [one] => one.clone(),
            [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        };
        let texts = |list: &[IkeProposal]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let esp: Vec<String> = self.esp_proposals.iter().map(ToString::to_string).collect();
        let (auth, own) = match &self.auth {
            Auth::PreSharedKey(_) => ("pre-shared key", "?"),
            Auth::Certificate(_) => ("certificate", "its subject"),
        };
        let id = |id: &Option<Identity>, none: &str| {
            id.as_ref()
                .map_or_else(|| none.to_owned(), ToString::to_string)
        };
        let (early, late) = self.lifetimes.child_rekey();
        write!(
            f,
            "IKEv2 by {auth}, we are {}, the peer is {}, IKE {}, ESP {}, rekey after {early} to \
             {late} s, DPD {} s then {}, {}",
            id(&self.local_id, own),
            id(&self.remote_id, "anybody"),
            listed(&texts(&self.proposals)),
            listed(&esp),
            self.dpd.timeout,
            self.dpd.action.word(),
            match self.startup {
                Startup::Start => "we start",
                Startup::Add => "the peer starts",
                Startup::Traffic => "traffic starts it",
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rekeys_fall_before_those_of_aws() {
        let lifetimes = super::super::parse::default_lifetimes();
        let (early, late) = lifetimes.child_rekey();
        assert!(
            early >= lifetimes.phase2 / 2 && late < 3_060,
            "{early} {late}"
        );
        let (early, late) = lifetimes.ike_rekey();
        assert!(
            early >= lifetimes.phase1 / 2 && late < 28_260,
            "{early} {late}"
        );
        assert_eq!(window(3600, 270, 100), (3060, 3330));
    }
}
