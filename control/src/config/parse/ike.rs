//! `[connection.ike]` and `[connection.tunnel.ike]`: AWS's words, our defaults.

use std::{
    collections::HashMap,
    net::IpAddr,
    ops::Range,
    path::{Path, PathBuf},
};

use hawser_api::Secret;
use hawser_ike::{LoadError, LocalCertificate, TrustAnchors};
use ipnet::IpNet;

use crate::config::{
    ike::{
        Auth, Certificates, Dpd, DpdAction, EspProposal, Identity, Ike, IkeProposal, Lifetimes,
        Startup,
    },
    protected::read_protected,
    reader::{At, Context, Table},
    secrets::SecretFiles,
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
const PROPOSALS: [&str; 2] = [
    "aes256-gcm16/sha2-384/group20",
    "aes256-gcm16+aes128-gcm16/sha2-384+sha2-256+sha2-512/group19+group31+group21+group14+group15+group16",
];
const ESP_PROPOSALS: [&str; 2] = [
    "aes256-gcm16/group20",
    "aes256-gcm16+aes128-gcm16/group19+group31+group21+group14+group15+group16",
];

/// What a connection may set for the key exchange of its tunnels, and a tunnel for its own.
#[derive(Clone, Default)]
pub(super) struct IkeDefaults {
    secrets: Option<At<String>>,
    certificate: Option<At<String>>,
    private_key: Option<At<String>>,
    authorities: Option<Vec<At<String>>>,
    revocations: Option<Vec<At<String>>>,
    local_id: Option<At<Identity>>,
    remote_id: Option<Option<At<Identity>>>,
    proposals: Option<Vec<IkeProposal>>,
    esp_proposals: Option<Vec<EspProposal>>,
    phase1_lifetime: Option<At<u32>>,
    phase2_lifetime: Option<At<u32>>,
    rekey_margin: Option<At<u32>>,
    phase1_rekey_margin: Option<At<u32>>,
    rekey_fuzz: Option<u8>,
    rekey_bytes: Option<u64>,
    rekey_packets: Option<u64>,
    reauthenticate: Option<u32>,
    dpd_delay: Option<At<u32>>,
    dpd_timeout: Option<At<u32>>,
    dpd_action: Option<DpdAction>,
    startup: Option<Startup>,
    local_networks: Option<Vec<IpNet>>,
    remote_networks: Option<Vec<IpNet>>,
    fragmentation: Option<bool>,
    fragment_size: Option<u16>,
    mobike: Option<bool>,
    childless: Option<bool>,
}

impl IkeDefaults {
    pub(super) fn read(context: &Context<'_>, table: Table<'_, '_, '_>) -> Self {
        let seconds = |key, range| table.integer(key, range).map(|s| s.map(|s| s as u32));
        let names = |key| table.parsed_list::<String>(key, "a file, or a list of files");
        if let Some(version) = table.string("version")
            && version.value != "ikev2"
        {
            let old = version.value == "ikev1";
            context.error(
                &version.span,
                format!("`{}` is not spoken here", version.value),
                if old {
                    "leave it out: AWS, and every gateway since 2005, speaks IKEv2"
                } else {
                    "write \"ikev2\" or leave it out"
                },
            );
        }
        let read = Self {
            secrets: table.string("secrets"),
            certificate: table.string("certificate"),
            private_key: table.string("private_key"),
            authorities: names("authorities"),
            revocations: names("revocations"),
            local_id: table.parsed("local_id", IDENTITY),
            remote_id: remote_id(&table),
            proposals: proposals(
                context,
                &table,
                "proposals",
                PROPOSALS[0],
                |p: &IkeProposal| &p.groups,
            ),
            esp_proposals: proposals(
                context,
                &table,
                "esp_proposals",
                ESP_PROPOSALS[0],
                |p: &EspProposal| &p.groups,
            ),
            phase1_lifetime: seconds("phase1_lifetime", 10..=604_800),
            phase2_lifetime: seconds("phase2_lifetime", 5..=604_800),
            rekey_margin: seconds("rekey_margin", 1..=302_400),
            phase1_rekey_margin: seconds("phase1_rekey_margin", 1..=302_400),
            rekey_fuzz: table.integer("rekey_fuzz", 0..=100).map(|f| f.value as u8),
            rekey_bytes: table
                .integer("rekey_bytes", 1_000_000..=i64::MAX as u64)
                .map(|b| b.value),
            rekey_packets: table
                .integer("rekey_packets", 1_000..=i64::MAX as u64)
                .map(|p| p.value),
            reauthenticate: seconds("reauthenticate", 60..=2_592_000).map(|s| s.value),
            dpd_delay: seconds("dpd_delay", 0..=3_600),
            dpd_timeout: seconds("dpd_timeout", 2..=7_200),
            dpd_action: table
                .choice(
                    "dpd_action",
                    &[
                        ("clear", DpdAction::Clear),
                        ("none", DpdAction::None),
                        ("restart", DpdAction::Restart),
                    ],
                )
                .map(|a| a.value),
            startup: table
                .choice(
                    "startup_action",
                    &[
                        ("start", Startup::Start),
                        ("add", Startup::Add),
                        ("traffic", Startup::Traffic),
                    ],
                )
                .map(|a| a.value),
            local_networks: networks(&table, "local_networks"),
            remote_networks: networks(&table, "remote_networks"),
            fragmentation: table.boolean("fragmentation"),
            fragment_size: table
                .integer("fragment_size", 576..=9_000)
                .map(|s| s.value as u16),
            mobike: table.boolean("mobike"),
            childless: table.boolean("childless"),
        };
        table.finish();
        read
    }

    pub(super) fn or(self, outer: &Self) -> Self {
        let outer = outer.clone();
        // A side that names how it authenticates does so wholly.
        let own_auth = self.secrets.is_some() || self.certificate.is_some();
        let (secrets, certificate, private_key) = if own_auth {
            (self.secrets, self.certificate, self.private_key)
        } else {
            (outer.secrets, outer.certificate, outer.private_key)
        };
        Self {
            secrets,
            certificate,
            private_key,
            authorities: self.authorities.or(outer.authorities),
            revocations: self.revocations.or(outer.revocations),
            local_id: self.local_id.or(outer.local_id),
            remote_id: self.remote_id.or(outer.remote_id),
            proposals: self.proposals.or(outer.proposals),
            esp_proposals: self.esp_proposals.or(outer.esp_proposals),
            phase1_lifetime: self.phase1_lifetime.or(outer.phase1_lifetime),
            phase2_lifetime: self.phase2_lifetime.or(outer.phase2_lifetime),
            rekey_margin: self.rekey_margin.or(outer.rekey_margin),
            phase1_rekey_margin: self.phase1_rekey_margin.or(outer.phase1_rekey_margin),
            rekey_fuzz: self.rekey_fuzz.or(outer.rekey_fuzz),
            rekey_bytes: self.rekey_bytes.or(outer.rekey_bytes),
            rekey_packets: self.rekey_packets.or(outer.rekey_packets),
            reauthenticate: self.reauthenticate.or(outer.reauthenticate),
            dpd_delay: self.dpd_delay.or(outer.dpd_delay),
            dpd_timeout: self.dpd_timeout.or(outer.dpd_timeout),
            dpd_action: self.dpd_action.or(outer.dpd_action),
            startup: self.startup.or(outer.startup),
            local_networks: self.local_networks.or(outer.local_networks),
            remote_networks: self.remote_networks.or(outer.remote_networks),
            fragmentation: self.fragmentation.or(outer.fragmentation),
            fragment_size: self.fragment_size.or(outer.fragment_size),
            mobike: self.mobike.or(outer.mobike),
            childless: self.childless.or(outer.childless),
        }
    }
}

const IDENTITY: &str =
    "an address, a domain name, an e-mail address, a distinguished name, or \"keyid:…\"";

/// `any` is everybody who can authenticate.
fn remote_id(table: &Table<'_, '_, '_>) -> Option<Option<At<Identity>>> {
    if table.is("remote_id", "any") {
        table.string("remote_id");
        return Some(None);
    }
    table.parsed("remote_id", IDENTITY).map(Some)
}

/// Proposals by name, with a word about weak groups.
fn proposals<T>(
    context: &Context<'_>,
    table: &Table<'_, '_, '_>,
    key: &'static str,
    example: &str,
    groups: impl Fn(&T) -> &Vec<crate::config::ike::DhGroup>,
) -> Option<Vec<T>>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let list: Vec<At<T>> = table.parsed_list(
        key,
        &format!("proposals such as \"{example}\"; `hawser help config` has the words"),
    )?;
    for proposal in &list {
        let weak: Vec<String> = groups(&proposal.value)
            .iter()
            .filter(|g| g.is_weak())
            .map(ToString::to_string)
            .collect();
        if !weak.is_empty() {
            context.warning(
                &proposal.span,
                format!("weak by today's standards: {}", weak.join(", ")),
                "use it only if the peer has nothing better (group 14 and 19 to 21 are)",
            );
        }
    }
    if list.is_empty() {
        // Either reported already, or an empty list: the defaults are then as good as any.
        return None;
    }
    Some(list.into_iter().map(|p| p.value).collect())
}

fn networks(table: &Table<'_, '_, '_>, key: &'static str) -> Option<Vec<IpNet>> {
    table
        .parsed_list::<IpNet>(key, "a network such as \"10.0.0.0/8\", or a list of them")
        .map(|list| list.into_iter().map(|n| n.value.trunc()).collect())
}

/// Certificate files that were read, each once.
#[derive(Default)]
pub(super) struct IkeFiles {
    pub(super) secrets: SecretFiles,
    contents: HashMap<PathBuf, Option<Vec<u8>>>,
    keys: HashMap<PathBuf, Option<Secret>>,
}

impl IkeFiles {
    fn read(&mut self, context: &Context<'_>, base: &Path, name: &At<String>) -> Option<Vec<u8>> {
        let path = base.join(&name.value);
        if let Some(known) = self.contents.get(&path) {
            return known.clone();
        }
        let contents = match std::fs::read(&path) {
            Ok(contents) => Some(contents),
            Err(error) => {
                context.error(
                    &name.span,
                    format!("cannot read {}: {error}", path.display()),
                    "name an existing file; its path is relative to the configuration's folder",
                );
                None
            }
        };
        self.contents.insert(path, contents.clone());
        contents
    }

    fn key(&mut self, context: &Context<'_>, base: &Path, name: &At<String>) -> Option<Secret> {
        let path = base.join(&name.value);
        if let Some(known) = self.keys.get(&path) {
            return known.clone();
        }
        let key = match read_protected("the private key", &path) {
            Ok(text) => Some(Secret::new(text.as_bytes().to_vec())),
            Err(problem) => {
                context.error(&name.span, problem.reason, problem.remedy);
                None
            }
        };
        self.keys.insert(path, key.clone());
        key
    }
}

/// Which tunnel the key exchange is for, and what it takes from outside of its table.
pub(super) struct For<'a> {
    pub(super) connection: &'a str,
    pub(super) tunnel: &'a str,
    pub(super) span: &'a Range<usize>,
    pub(super) base: &'a Path,
    pub(super) local: Option<IpAddr>,
    pub(super) remote: Option<IpAddr>,
    pub(super) esn: bool,
    pub(super) replay_window: u32,
    pub(super) force_udp: bool,
}

impl IkeDefaults {
    /// The key exchange of one tunnel; `None` when it cannot be, which has been said.
    pub(super) fn resolve(
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
