//! From the configuration's words to the endpoint's connections.

use std::{net::IpAddr, time::Duration};

use hawser_api::{Secret, TrafficSelector, TunnelId};
use hawser_ike::{
    Auth, Certificates, Child, ChildProposal, Connection, ConnectionId, Dpd, DpdAction, Encr,
    Group, Identity, IdentityMatch, IkeProposal, Integ, Lifetime, LoadError, LocalCertificate, Prf,
    Remote, Settings, Startup, TrustAnchors,
};
use ipnet::IpNet;

use crate::{
    config::{self, Config, ike as said},
    ids::Ids,
};

/// The endpoint's number of a tunnel's connection is the tunnel's.
#[must_use]
pub fn connection_of(tunnel: TunnelId) -> ConnectionId {
    ConnectionId(tunnel.0)
}

/// The tunnel of a connection.
#[must_use]
pub fn tunnel_of(connection: ConnectionId) -> TunnelId {
    TunnelId(connection.0)
}

/// The endpoint's settings.
#[must_use]
pub(super) fn settings(config: &Config) -> Settings {
    Settings {
        cookie_threshold: config.ike.cookie_threshold as usize,
        half_open_limit: config.ike.half_open_limit as usize,
        key_log: config.ike.key_log.is_some(),
        keepalive: Duration::from_secs(config.ike.nat_keepalive.into()),
        ..Settings::default()
    }
}

/// The connections of all tunnels with a key exchange.
///
/// # Errors
/// Certificates that cannot be used.
pub(super) fn connections(config: &Config, ids: &Ids) -> Result<Vec<Connection>, String> {
    let mut connections = Vec::new();
    for tunnel in &config.tunnels {
        if let (Some(id), Some(ike)) = (ids.tunnel(&tunnel.name), tunnel.ike()) {
            connections.push(connection(tunnel, id, ike)?);
        }
    }
    Ok(connections)
}

/// How both sides prove who they are; with a certificate also who that is.
fn auth(said: &said::Auth) -> Result<(Auth, Option<Identity>), String> {
    let files = match said {
        said::Auth::PreSharedKey(key) => {
            return Ok((Auth::Psk(Secret::new(key.expose().to_vec())), None));
        }
        said::Auth::Certificate(files) => files,
    };
    let sentence = |error: LoadError| error.to_string();
    let local = LocalCertificate::load(&files.chain, files.key.expose())
        .map_err(sentence)?
        .with_rsa_pss(files.rsa_pss);
    let mut trust = TrustAnchors::new();
    for file in &files.authorities {
        trust.add(file).map_err(sentence)?;
    }
    for file in &files.revocations {
        trust.add_crl(file).map_err(sentence)?;
    }
    let subject = local.identities().first().cloned();
    let mut read: Vec<&[u8]> = vec![&files.chain, files.key.expose()];
    read.extend(files.authorities.iter().map(Vec::as_slice));
    if files.rsa_pss {
        read.push(b"rsa_pss");
    }
    let auth = Auth::Certificate(Certificates::new(local, trust, &read));
    Ok((auth, subject))
}

fn connection(
    tunnel: &config::Tunnel,
    id: TunnelId,
    ike: &said::Ike,
) -> Result<Connection, String> {
    let local = tunnel.local.value;
    let remote = if tunnel.any_remote() {
        Remote::Any
    } else {
        Remote::Address(tunnel.remote.value)
    };
    let (auth, subject) =
        auth(&ike.auth).map_err(|why| format!("{}: certificates: {why}", tunnel.name))?;
    let none = Secret::new(Vec::new());
    let mut connection = Connection::new(connection_of(id), &tunnel.name, local, remote, none);
    connection.auth = auth;
    if let Some(subject) = subject {
        connection.local_id = subject;
    }
    if let Some(id) = &ike.local_id {
        connection.local_id = identity(id);
    }
    connection.remote_id = match &ike.remote_id {
        Some(id) => IdentityMatch::Exact(identity(id)),
        None => IdentityMatch::Any,
    };
    connection.proposals = ike.proposals.iter().map(ike_proposal).collect();
    let times = &ike.lifetimes;
    connection.lifetime = lifetime(times.phase1, times.ike_rekey());
    connection.reauthenticate = times.reauthenticate.map(seconds);
    connection.dpd = dpd(&ike.dpd);
    connection.startup = match ike.startup {
        said::Startup::Start => Startup::Start,
        said::Startup::Add => Startup::Add,
        said::Startup::Traffic => Startup::Trap,
    };
    connection.force_encapsulation = ike.force_udp;
    connection.fragmentation = ike.fragment_size.is_some();
    if let Some(size) = ike.fragment_size {
        connection.fragment_size = size;
    }
    connection.mobike = ike.mobike;
    connection.childless = ike.childless;
    connection.children = vec![Child {
        name: tunnel.name.clone(),
        proposals: ike
            .esp_proposals
            .iter()
            .map(|p| child_proposal(p, ike.esn))
            .collect(),
        local_ts: ike.local_networks.iter().map(selector).collect(),
        remote_ts: ike.remote_networks.iter().map(selector).collect(),
        lifetime: lifetime(times.phase2, times.child_rekey()),
        replay_window: ike.replay_window,
    }];
    Ok(connection)
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

/// The configuration says between which ages a rekey starts; the endpoint draws a share of the
/// later one.
fn lifetime(hard: u32, (early, late): (u32, u32)) -> Lifetime {
    let earlier = u64::from(late - early) * 100;
    Lifetime {
        rekey_after: seconds(late),
        // Rounded down: never earlier than the configuration says.
        jitter_percent: (earlier / u64::from(late.max(1))).min(100) as u8,
        hard: seconds(hard),
    }
}

fn dpd(said: &said::Dpd) -> Dpd {
    Dpd {
        delay: seconds(said.delay),
        timeout: seconds(said.timeout),
        action: match said.action {
            // Never asked is never found dead.
            _ if said.delay == 0 => DpdAction::None,
            said::DpdAction::Clear => DpdAction::Clear,
            said::DpdAction::None => DpdAction::None,
            said::DpdAction::Restart => DpdAction::Restart,
        },
    }
}

fn identity(id: &said::Identity) -> Identity {
    match id {
        said::Identity::Address(IpAddr::V4(address)) => Identity::Ipv4(*address),
        said::Identity::Address(IpAddr::V6(address)) => Identity::Ipv6(*address),
        said::Identity::Fqdn(name) => Identity::Fqdn(name.clone()),
        said::Identity::Email(name) => Identity::Email(name.clone()),
        said::Identity::Dn(name) => Identity::Dn(name.der().to_vec()),
        said::Identity::KeyId(octets) => Identity::KeyId(octets.clone()),
    }
}

fn selector(net: &IpNet) -> TrafficSelector {
    let (first, last) = match net {
        // `broadcast` is the last address, whatever the prefix length.
        IpNet::V4(net) => (net.network().into(), net.broadcast().into()),
        IpNet::V6(net) => (net.network().into(), net.broadcast().into()),
    };
    TrafficSelector {
        addresses: (first, last),
        protocol: 0,
        ports: (0, u16::MAX),
    }
}

fn encr(cipher: said::Cipher) -> Encr {
    match cipher {
        said::Cipher::Aes128Gcm16 => Encr::AesGcm16_128,
        said::Cipher::Aes256Gcm16 => Encr::AesGcm16_256,
        said::Cipher::Aes128Cbc => Encr::AesCbc128,
        said::Cipher::Aes256Cbc => Encr::AesCbc256,
    }
}

fn integ(hash: said::Hash) -> Integ {
    match hash {
        said::Hash::Sha1 => Integ::HmacSha1_96,
        said::Hash::Sha2_256 => Integ::HmacSha2_256_128,
        said::Hash::Sha2_384 => Integ::HmacSha2_384_192,
        said::Hash::Sha2_512 => Integ::HmacSha2_512_256,
    }
}

fn prf(hash: said::Hash) -> Prf {
    match hash {
        said::Hash::Sha1 => Prf::HmacSha1,
        said::Hash::Sha2_256 => Prf::HmacSha2_256,
        said::Hash::Sha2_384 => Prf::HmacSha2_384,
        said::Hash::Sha2_512 => Prf::HmacSha2_512,
    }
}

/// All groups that a configuration can name are there; a test says so.
fn groups(groups: &[said::DhGroup]) -> Vec<Group> {
    groups
        .iter()
        .filter_map(|g| Group::from_number(g.number()))
        .collect()
}

fn ike_proposal(said: &said::IkeProposal) -> IkeProposal {
    let aead = said.ciphers.iter().any(|c| c.is_aead());
    IkeProposal {
        encr: said.ciphers.iter().copied().map(encr).collect(),
        integ: if aead {
            Vec::new()
        } else {
            said.hashes.iter().copied().map(integ).collect()
        },
        prf: said.hashes.iter().copied().map(prf).collect(),
        groups: groups(&said.groups),
    }
}

fn child_proposal(said: &said::EspProposal, esn: bool) -> ChildProposal {
    ChildProposal {
        encr: said.ciphers.iter().copied().map(encr).collect(),
        integ: said.integrity.iter().copied().map(integ).collect(),
        groups: groups(&said.groups),
        esn: if esn { vec![true, false] } else { vec![false] },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_that_can_be_named_is_there() {
        for number in said::DhGroup::ALL {
            let group = said::DhGroup::new(number).unwrap();
            assert_eq!(groups(&[group]).len(), 1, "{group}");
        }
    }

    #[test]
    fn a_rekey_is_never_earlier_than_configured() {
        for (hard, window) in [
            (3600, (2700, 3000)),
            (28_800, (27_600, 28_000)),
            (10, (5, 7)),
        ] {
            let lifetime = lifetime(hard, window);
            assert_eq!(lifetime.rekey_after.as_secs(), u64::from(window.1));
            let share = 1.0 - f64::from(lifetime.jitter_percent) / 100.0;
            assert!(lifetime.rekey_after.as_secs_f64() * share >= f64::from(window.0));
        }
    }

    #[test]
    fn networks_become_ranges() {
        let range = |net: &str| selector(&net.parse().unwrap()).addresses;
        let both = |a: &str, b: &str| (a.parse().unwrap(), b.parse().unwrap());
        assert_eq!(range("10.1.0.0/16"), both("10.1.0.0", "10.1.255.255"));
        assert_eq!(range("192.0.2.1/32"), both("192.0.2.1", "192.0.2.1"));
        assert_eq!(range("0.0.0.0/0"), both("0.0.0.0", "255.255.255.255"));
        let all = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_eq!(range("::/0"), both("::", all));
    }
}
