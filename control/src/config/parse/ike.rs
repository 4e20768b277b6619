//! `[connection.ike]` and `[connection.tunnel.ike]`: AWS's words, our defaults.

mod files;
mod resolve;

pub(super) use files::IkeFiles;
use ipnet::IpNet;
pub(super) use resolve::For;
#[cfg(test)]
pub(in crate::config) use resolve::default_lifetimes;
use resolve::{ESP_PROPOSALS, PROPOSALS};

use crate::config::{
    ike::{DpdAction, EspProposal, Identity, IkeProposal, Startup},
    reader::{At, Context, Table},
};

/// What a connection may set for the key exchange of its tunnels, and a tunnel for its own.
#[derive(Clone, Default)]
pub(super) struct IkeDefaults {
    secrets: Option<At<String>>,
    certificate: Option<At<String>>,
    private_key: Option<At<String>>,
    authorities: Option<Vec<At<String>>>,
    revocations: Option<Vec<At<String>>>,
    rsa_pss: Option<bool>,
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
            rsa_pss: table.boolean("rsa_pss"),
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
            rsa_pss: self.rsa_pss.or(outer.rsa_pss),
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
