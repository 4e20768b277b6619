//! `[connection.ike]`: defaults, overrides, mistakes.

use hawser::config::ike::{Auth, DpdAction, Identity, Startup};

use crate::support::*;

#[test]
fn a_key_exchange_has_the_words_of_aws_and_our_defaults() {
    let ike = defaults();
    let address = |text: &str| Some(Identity::Address(text.parse().unwrap()));
    assert_eq!(ike.local_id, address("192.0.2.1"));
    assert_eq!(ike.remote_id, address("198.51.100.1"));
    assert!(matches!(&ike.auth, Auth::PreSharedKey(key) if key.expose() == b"not.for.you_1"));
    assert_eq!(
        (ike.lifetimes.phase1, ike.lifetimes.phase2),
        (28_800, 3_600)
    );
    assert_eq!((ike.dpd.timeout, ike.dpd.action), (40, DpdAction::Restart));
    assert_eq!((ike.startup, ike.replay_window), (Startup::Start, 1024));
    assert!(!format!("{ike:?}").contains("not.for.you"));
    // Whoever waits for the peer leaves the next start to it, as AWS does.
    let waiting = ike_folder(&with_ike("startup_action = \"add\""), SECRET);
    let config = waiting.load().0.unwrap();
    assert_eq!(
        config.tunnels[0].ike().unwrap().dpd.action,
        DpdAction::Clear
    );
}

#[test]
fn the_interval_of_nat_keepalives_is_that_of_the_rfc_unless_said() {
    let of = |more: &str| {
        let folder = ike_folder(&format!("{}{more}", with_ike("")), SECRET);
        folder.load().0.map(|config| config.ike.nat_keepalive)
    };
    assert_eq!(of(""), Some(20));
    assert_eq!(of("\n[ike]\nnat_keepalive = 5\n"), Some(5));
    assert_eq!(of("\n[ike]\nnat_keepalive = 0\n"), None);
}

#[test]
fn a_tunnel_overrides_single_words_of_its_connection() {
    let config = with_ike("dpd_timeout = 60\nphase2_lifetime = 1800").replace(
        "remote = \"198.51.100.2\"",
        "remote = \"198.51.100.2\"\n[connection.tunnel.ike]\ndpd_timeout = 90\nremote_id = \"any\"",
    );
    let (config, diagnostics) = ike_folder(&config, SECRET).load();
    assert_eq!(diagnostics.to_string(), "");
    let config = config.unwrap();
    let [a, b] = [0, 1].map(|n: usize| config.tunnels[n].ike().unwrap());
    assert_eq!((a.dpd.timeout, b.dpd.timeout), (60, 90));
    assert_eq!((a.lifetimes.phase2, b.lifetimes.phase2), (1800, 1800));
    assert_eq!(b.remote_id, None);
    // The margin that nobody chose fits the lifetime.
    assert_eq!(a.lifetimes.margin, 450);
}

#[test]
fn mistakes_in_a_key_exchange_have_their_line_reason_and_remedy() {
    let cases: Vec<(String, usize, &str, &str)> = vec![
        (
            with_ike("version = \"ikev1\""),
            13,
            "`ikev1` is not spoken here",
            "leave it out",
        ),
        (
            with_ike("proposals = \"aes256gcm16-sha384-ecp384\""),
            13,
            "is no cipher, hash or group",
            "aes256-gcm16/sha2-384/group20",
        ),
        (
            with_ike("esp_proposals = [\"aes256-gcm16/sha2-256\"]"),
            13,
            "takes no hash here",
            "aes256-gcm16/group20",
        ),
        (
            with_ike("proposals = \"aes128-cbc/sha1/group2\""),
            13,
            "weak by today's standards: group2",
            "nothing better",
        ),
        (
            with_ike("phase2_lifetime = 3600\nrekey_margin = 2000"),
            14,
            "a `rekey_margin` of 2000 s is more than half of 3600 s",
            "at most 1800",
        ),
        (
            with_ike("phase1_lifetime = 1200"),
            13,
            "the lifetime of phase 2 (3600 s) is longer than that of phase 1 (1200 s)",
            "shorter `phase2_lifetime`",
        ),
        (
            with_ike("dpd_timeout = 30\ndpd_delay = 30"),
            14,
            "would be dead (30 s) before it is asked (30 s)",
            "shorter `dpd_delay`",
        ),
        (
            with_ike("dpd_action = \"hold\""),
            13,
            "`hold` is no value for `dpd_action`",
            "`clear`, `none`, `restart`",
        ),
        (
            with_ike("certificate = \"c.pem\""),
            13,
            "both a secrets file and a certificate",
            "remove",
        ),
        (
            with_ike("").replace("secrets = \"secrets.toml\"", "mobike = false"),
            15,
            "has nothing to authenticate with",
            "secrets = \"secrets.toml\"",
        ),
        (
            with_ike("").replace(
                "[connection.ike]",
                "suite = \"aes128-gcm16\"\n[connection.ike]",
            ),
            11,
            "with a key exchange the suite is negotiated",
            "esp_proposals = [\"aes128-gcm16\"]",
        ),
        (
            with_ike("").replace("remote = \"198.51.100.2\"", "remote = \"any\""),
            24,
            "cannot be started from here",
            "startup_action = \"add\"",
        ),
        (
            with_ike("").replace("198.51.100.2", "198.51.100.1"),
            21,
            "has the same ends and identities as `lab/a` at",
            "another `local`",
        ),
        (
            with_ike("").replace(
                "remote = \"198.51.100.2\"",
                "remote = \"198.51.100.2\"\nencapsulation = \"plain\"",
            ),
            25,
            "looks for NATs by itself",
            "write \"udp\"",
        ),
        (
            broken(
                "manual = {",
                "ike = { secrets = \"secrets.toml\" }\nmanual = {",
            ),
            13,
            "both manual keys and a key exchange",
            "remove the `manual` table",
        ),
    ];
    for (config, line, reason, remedy) in cases {
        let (_, diagnostics) = ike_folder(&config, SECRET).load();
        let found = diagnostics.0.iter().any(|d| {
            d.location.as_ref().is_some_and(|l| l.line == line)
                && d.reason.contains(reason)
                && d.remedy.contains(remedy)
        });
        assert!(found, "{line} {reason} {remedy}:\n{diagnostics}\n{config}");
    }
}
