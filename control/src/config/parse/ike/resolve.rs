//! From what is written for a tunnel's key exchange to the key exchange: defaults filled in, files
//! read, values checked against each other.

use std::{net::IpAddr, ops::Range, path::Path};

use hawser_ike::{LoadError, LocalCertificate, TrustAnchors};
use ipnet::IpNet;

use super::{IkeDefaults, IkeFiles};
use crate::config::{
    ike::{Auth, Certificates, Dpd, DpdAction, Identity, Ike, Lifetimes, Startup},
    reader::{At, Context},
};

/// AWS's default (phase 1). Unit: seconds.
const PHASE1_LIFETIME: u32 = 28_800;
/// AWS's default (phase 2). Unit: seconds.
const PHASE2_LIFETIME: u32 = 3_600;
/// Unit: seconds. With AWS's defaults (margin 270 s, fuzz 100 %) AWS may rekey a child SA from
/// 3,060 s on: ours is between 2,700 and 3,000 s, so that we are always first.
const REKEY_MARGIN: u32 = 600;
/// Unit: percent of the margin.
const REKEY_FUZZ: u8 = 50;
/// Unit: seconds. The same for IKE SAs, which AWS may rekey from 28,260 s on.
const PHASE1_MARGIN: u32 = 800;
/// AWS's default. Unit: seconds.
const DPD_TIMEOUT: u32 = 40;
/// AWS's interval. Unit: seconds.
const DPD_DELAY: u32 = 10;
/// What RFC 8200 lets every IPv6 link carry. Unit: octets of an IP packet.
const FRAGMENT_SIZE: u16 = 1280;
/// One strong suite first: its group is the one of our first message.
pub(super) const PROPOSALS: [&str; 2] = [
    "aes256-gcm16/sha2-384/group20",
    "aes256-gcm16+aes128-gcm16/sha2-384+sha2-256+sha2-512/group19+group31+group21+group14+group15+group16",
];
pub(super) const ESP_PROPOSALS: [&str; 2] = [
    "aes256-gcm16/group20",
    "aes256-gcm16+aes128-gcm16/group19+group31+group21+group14+group15+group16",
];

/// Which tunnel the key exchange is for, and what it takes from outside of its table.
pub(in crate::config::parse) struct For<'a> {
    pub(in crate::config::parse) connection: &'a str,
    pub(in crate::config::parse) tunnel: &'a str,
    pub(in crate::config::parse) span: &'a Range<usize>,
    pub(in crate::config::parse) base: &'a Path,
    pub(in crate::config::parse) local: Option<IpAddr>,
    pub(in crate::config::parse) remote: Option<IpAddr>,
    pub(in crate::config::parse) esn: bool,
    pub(in crate::config::parse) replay_window: u32,
    pub(in crate::config::parse) force_udp: bool,
}

impl IkeDefaults {
    /// The key exchange of one tunnel; `None` when it cannot be, which has been said.
    pub(in crate::config::parse) fn resolve(
        &self,
        context: &Context<'_>,
        of: &For<'_>,
        files: &mut IkeFiles,
    ) -> Option<Ike> {
        let lifetimes = self.lifetimes(context, of.span);
        let dpd = self.dpd(context, of.span);
        let auth = self.auth(context, of, files)?;
        let certified = matches!(auth, Auth::Certificate(_));
        let of_address = |address: Option<IpAddr>| {
            address
                .filter(|a| !certified && !a.is_unspecified())
                .map(Identity::Address)
        };
        if certified && self.remote_id.is_none() {
            context.warning(
                of.span,
                format!(
                    "`{}` takes every certificate of these authorities for its peer's",
                    of.tunnel
                ),
                "write remote_id = \"…\" in its `ike` table, or remote_id = \"any\" if it is meant",
            );
        }
        let local_id = self.local_id.as_ref().map(|i| i.value.clone());
        let remote_id = match &self.remote_id {
            Some(said) => said.as_ref().map(|i| i.value.clone()),
            None => of_address(of.remote),
        };
        Some(Ike {
            local_id: local_id.or_else(|| of_address(of.local)),
            remote_id,
            auth,
            proposals: self
                .proposals
                .clone()
                .unwrap_or_else(|| built_in(&PROPOSALS)),
            esp_proposals: self
                .esp_proposals
                .clone()
                .unwrap_or_else(|| built_in(&ESP_PROPOSALS)),
            esn: of.esn,
            replay_window: of.replay_window,
            lifetimes,
            dpd,
            startup: self.startup.unwrap_or(Startup::Start),
            local_networks: self.local_networks.clone().unwrap_or_else(everything),
            remote_networks: self.remote_networks.clone().unwrap_or_else(everything),
            force_udp: of.force_udp,
            fragment_size: self
                .fragmentation
                .unwrap_or(true)
                .then(|| self.fragment_size.unwrap_or(FRAGMENT_SIZE)),
            mobike: self.mobike.unwrap_or(true),
            childless: self.childless.unwrap_or(false),
        })
    }

    fn auth(&self, context: &Context<'_>, of: &For<'_>, files: &mut IkeFiles) -> Option<Auth> {
        match (&self.secrets, &self.certificate) {
            (Some(_), Some(certificate)) => {
                context.error(
                    &certificate.span,
                    "both a secrets file and a certificate: which of them?",
                    "remove `secrets` or `certificate`",
                );
                None
            }
            (None, None) => {
                context.error(
                    of.span,
                    format!("`{}` has nothing to authenticate with", of.tunnel),
                    "write secrets = \"secrets.toml\" (pre-shared keys), or `certificate`, \
                     `private_key` and `authorities`",
                );
                None
            }
            (Some(file), None) => {
                let file = file.clone().map(|f| of.base.join(f));
                files
                    .secrets
                    .find(context, &file, of.connection, of.tunnel, of.span)
                    .map(Auth::PreSharedKey)
            }
            (None, Some(certificate)) => {
                let missing = |key: &str, example: &str| {
                    context.error(
                        &certificate.span,
                        format!("a certificate needs `{key}` too"),
                        format!("add a line such as: {key} = \"{example}\""),
                    );
                };
                if self.private_key.is_none() {
                    missing("private_key", "gateway.key.pem");
                }
                if self.authorities.as_ref().is_none_or(Vec::is_empty) {
                    missing("authorities", "ca.pem");
                }
                let chain = files.read(context, of.base, certificate);
                let key = self
                    .private_key
                    .as_ref()
                    .and_then(|k| files.key(context, of.base, k));
                let mut all = |names: &Option<Vec<At<String>>>| -> Option<Vec<Vec<u8>>> {
                    let names = names.iter().flatten();
                    // Not short-circuiting: every unreadable file is said.
                    let read: Vec<_> = names.map(|n| files.read(context, of.base, n)).collect();
                    read.into_iter().collect()
                };
                let authorities = all(&self.authorities);
                let revocations = all(&self.revocations);
                let files = Certificates {
                    chain: chain?,
                    key: key?,
                    authorities: authorities?,
                    revocations: revocations?,
                    rsa_pss: self.rsa_pss.unwrap_or(false),
                };
                usable(context, certificate, &files);
                Some(Auth::Certificate(files))
            }
        }
    }

    fn lifetimes(&self, context: &Context<'_>, span: &Range<usize>) -> Lifetimes {
        let mut lifetimes = default_lifetimes();
        let value = |of: &Option<At<u32>>| of.as_ref().map(|v| v.value);
        let place = |of: &Option<At<u32>>| of.as_ref().map_or(span.clone(), |v| v.span.clone());
        lifetimes.phase1 = value(&self.phase1_lifetime).unwrap_or(lifetimes.phase1);
        lifetimes.phase2 = value(&self.phase2_lifetime).unwrap_or(lifetimes.phase2);
        lifetimes.fuzz = self.rekey_fuzz.unwrap_or(lifetimes.fuzz);
        // A margin that nobody chose shrinks with the lifetime.
        lifetimes.margin =
            value(&self.rekey_margin).unwrap_or(lifetimes.margin.min(lifetimes.phase2 / 4).max(1));
        lifetimes.phase1_margin = value(&self.phase1_rekey_margin)
            .unwrap_or(lifetimes.phase1_margin.min(lifetimes.phase1 / 4).max(1));
        lifetimes.bytes = self.rekey_bytes.unwrap_or(0);
        lifetimes.packets = self.rekey_packets.unwrap_or(0);
        lifetimes.reauthenticate = self.reauthenticate;
        for (key, lifetime, margin, at) in [
            (
                "rekey_margin",
                lifetimes.phase2,
                lifetimes.margin,
                place(&self.rekey_margin),
            ),
            (
                "phase1_rekey_margin",
                lifetimes.phase1,
                lifetimes.phase1_margin,
                place(&self.phase1_rekey_margin),
            ),
        ] {
            if margin > lifetime / 2 {
                context.error(
                    &at,
                    format!("a `{key}` of {margin} s is more than half of {lifetime} s"),
                    format!("write at most {}", lifetime / 2),
                );
            }
        }
        if lifetimes.phase2 > lifetimes.phase1 {
            let said = self
                .phase2_lifetime
                .as_ref()
                .or(self.phase1_lifetime.as_ref());
            context.error(
                &place(&said.cloned()),
                format!(
                    "the lifetime of phase 2 ({} s) is longer than that of phase 1 ({} s)",
                    lifetimes.phase2, lifetimes.phase1
                ),
                "write a shorter `phase2_lifetime`, or a longer `phase1_lifetime`",
            );
        }
        lifetimes
    }

    fn dpd(&self, context: &Context<'_>, span: &Range<usize>) -> Dpd {
        let timeout = self.dpd_timeout.as_ref().map_or(DPD_TIMEOUT, |t| t.value);
        // A delay that nobody chose leaves room for several questions.
        let delay = self
            .dpd_delay
            .as_ref()
            .map_or(DPD_DELAY.min(timeout / 4).max(1), |d| d.value);
        if delay >= timeout {
            let at = self.dpd_delay.as_ref().or(self.dpd_timeout.as_ref());
            context.error(
                &at.map_or(span.clone(), |a| a.span.clone()),
                format!("the peer would be dead ({timeout} s) before it is asked ({delay} s)"),
                "write a shorter `dpd_delay` or a longer `dpd_timeout`",
            );
        }
        // AWS's default is `clear`, because its side does not start. Who starts, restarts.
        let starts = self.startup.unwrap_or(Startup::Start) == Startup::Start;
        let action = if starts {
            DpdAction::Restart
        } else {
            DpdAction::Clear
        };
        Dpd {
            delay,
            timeout,
            action: self.dpd_action.unwrap_or(action),
        }
    }
}

/// Says what is wrong with certificates where they are named, before a peer does.
fn usable(context: &Context<'_>, at: &At<String>, files: &Certificates) {
    let wrong = |what: &str, error: LoadError| {
        context.error(
            &at.span,
            format!("{what}: {error}"),
            "name PEM or DER files: our chain and its key, the authorities, their revocation lists",
        );
    };
    if let Err(error) = LocalCertificate::load(&files.chain, files.key.expose()) {
        wrong("our certificate", error);
    }
    let mut trust = TrustAnchors::new();
    for file in &files.authorities {
        if let Err(error) = trust.add(file) {
            wrong("an authority", error);
        }
    }
    for file in &files.revocations {
        if let Err(error) = trust.add_crl(file) {
            wrong("a revocation list", error);
        }
    }
}

/// The lifetimes of a connection that says nothing about them.
pub(in crate::config) fn default_lifetimes() -> Lifetimes {
    Lifetimes {
        phase1: PHASE1_LIFETIME,
        phase2: PHASE2_LIFETIME,
        margin: REKEY_MARGIN,
        phase1_margin: PHASE1_MARGIN,
        fuzz: REKEY_FUZZ,
        bytes: 0,
        packets: 0,
        reauthenticate: None,
    }
}

fn everything() -> Vec<IpNet> {
    vec![
        IpNet::V4(ipnet::Ipv4Net::default()),
        IpNet::V6(ipnet::Ipv6Net::default()),
    ]
}

/// The constants above, which a test parses.
fn built_in<T: std::str::FromStr>(texts: &[&str]) -> Vec<T> {
    texts.iter().filter_map(|t| t.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ike::{EspProposal, IkeProposal};

    #[test]
    fn the_built_in_proposals_are_proposals_without_weak_groups() {
        let ike: Vec<IkeProposal> = built_in(&PROPOSALS);
        let esp: Vec<EspProposal> = built_in(&ESP_PROPOSALS);
        assert_eq!(
            (ike.len(), esp.len()),
            (PROPOSALS.len(), ESP_PROPOSALS.len())
        );
        let groups = ike.iter().flat_map(|p| &p.groups);
        assert!(
            groups
                .chain(esp.iter().flat_map(|p| &p.groups))
                .all(|g| !g.is_weak())
        );
    }
}
