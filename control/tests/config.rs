//! What `hawser check` says about configurations: the words, the places, all problems at once.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use hawser::config::{
    self, Config, Diagnostics, Severity,
    ike::{Auth, DpdAction, Identity, Ike, Startup},
};

/// A folder with a configuration and its key file.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(config: &str, keys: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::write(folder.path("hawser.toml"), config).unwrap();
        folder.write_keys(keys, 0o600);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write_keys(&self, keys: &str, mode: u32) {
        let path = self.path("keys.toml");
        fs::write(&path, keys).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn write_secret(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn load(&self) -> (Option<Config>, Diagnostics) {
        config::load(&self.path("hawser.toml"))
    }

    /// All diagnostics as text, with the folder's name taken out.
    fn said(&self) -> String {
        let (_, diagnostics) = self.load();
        diagnostics
            .to_string()
            .replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// Two tunnels that are fine, to be broken in one place by each test.
const GOOD: &str = r#"[[interface]]
name = "eth0"
role = "outside"

[[interface]]
name = "eth1"
role = "inside"

[[connection]]
name = "lab"
suite = "aes128-gcm16"
manual = { key_file = "keys.toml" }

[[connection.tunnel]]
name = "a"
local = "192.0.2.1"
remote = "198.51.100.1"
inside = "169.254.10.2/30"

[[connection.tunnel]]
name = "b"
local = "192.0.2.1"
remote = "198.51.100.2"

[[route]]
to = "10.0.0.0/8"
via = "lab"
"#;

/// A key file for the tunnels of [`GOOD`]: 20 octets each, all different.
fn good_keys() -> String {
    let mut text = String::new();
    for (n, tunnel) in ["lab/a", "lab/b"].iter().enumerate() {
        let key = |seed: usize| format!("{:02x}", seed * 16 + n).repeat(20);
        text += &format!(
            "[[key]]\ntunnel = \"{tunnel}\"\noutbound = {{ spi = \"0x100{n}\", key = \"{}\" }}\n\
             inbound = {{ spi = \"0x200{n}\", key = \"{}\" }}\n",
            key(10),
            key(11)
        );
    }
    text
}

fn said(config: &str) -> String {
    Folder::new(config, &good_keys()).said()
}

/// Replaces a part of the good configuration that must be there.
fn broken(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "the configuration has no {from}");
    GOOD.replacen(from, to, 1)
}

/// [`GOOD`] with a key exchange instead of manual keys, and `more` in its table.
fn with_ike(more: &str) -> String {
    broken(
        "suite = \"aes128-gcm16\"\nmanual = { key_file = \"keys.toml\" }\n",
        &format!("[connection.ike]\nsecrets = \"secrets.toml\"\n{more}\n"),
    )
}

/// A folder with [`with_ike`] and this secrets file.
fn ike_folder(config: &str, secrets: &str) -> Folder {
    let folder = Folder::new(config, &good_keys());
    folder.write_secret("secrets.toml", secrets);
    folder
}

const SECRET: &str = "[[secret]]\nconnection = \"lab\"\npre_shared_key = \"not.for.you_1\"\n";

/// What a tunnel has that says nothing.
fn defaults() -> Ike {
    let (config, diagnostics) = ike_folder(&with_ike(""), SECRET).load();
    assert_eq!(diagnostics.to_string(), "");
    config.unwrap().tunnels[0].ike().unwrap().clone()
}

#[test]
fn a_good_configuration_is_taken_without_a_word() {
    let (config, diagnostics) = Folder::new(GOOD, &good_keys()).load();
    assert_eq!(diagnostics, Diagnostics::default());
    let config = config.unwrap();
    let names: Vec<&str> = config.tunnels.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["lab/a", "lab/b"]);
    let manual = config.tunnels[1].manual().unwrap();
    assert_eq!(
        (manual.outbound.spi.0, manual.inbound.spi.0),
        (0x1001, 0x2001)
    );
    assert_eq!(manual.inbound.key.expose(), [0xb1; 20]);
    assert_eq!(manual.replay_window, 1024);
}

#[test]
fn the_documented_example_is_valid() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("example/hawser.toml");
    let mut keys = String::new();
    for (n, tunnel) in ["lab/a"].iter().enumerate() {
        let key = |seed: usize| format!("{:02x}", seed * 16 + n).repeat(36);
        keys += &format!(
            "[[key]]\ntunnel = \"{tunnel}\"\noutbound = {{ spi = \"0x100{n}\", key = \"{}\" }}\n\
             inbound = {{ spi = \"0x200{n}\", key = \"{}\" }}\n",
            key(1),
            key(2)
        );
    }
    let folder = Folder::new(&fs::read_to_string(example).unwrap(), &keys);
    folder.write_secret(
        "secrets.toml",
        "[[secret]]\nconnection = \"aws-1\"\npre_shared_key = \"of.an.example_1\"\n",
    );
    fs::write(
        folder.path("prefixes.txt"),
        "# a comment\n100.64.0.0/10\n\n100.128.0.0/9 # x\n",
    )
    .unwrap();
    let (config, diagnostics) = folder.load();
    assert_eq!(diagnostics.to_string(), "");
    let config = config.unwrap();
    assert_eq!(config.dataplane.workers, Some(vec![Some(2), Some(3)]));
    assert_eq!(config.tunnels[0].ceiling.packets_per_second, 140_000);
    // The example shows the defaults: a tunnel that says nothing has the same but the proposals.
    let (shown, silent) = (config.tunnels[0].ike().unwrap(), defaults());
    assert_eq!(shown.lifetimes, silent.lifetimes);
    assert_eq!((shown.dpd, shown.startup), (silent.dpd, silent.startup));
    assert_eq!(
        (
            &shown.local_networks,
            &shown.remote_networks,
            shown.fragment_size
        ),
        (
            &silent.local_networks,
            &silent.remote_networks,
            silent.fragment_size
        )
    );
    assert_eq!(
        (shown.mobike, shown.childless),
        (silent.mobike, silent.childless)
    );
    assert_eq!(shown.proposals[0], silent.proposals[0]);
    assert_eq!(shown.esp_proposals[0], silent.esp_proposals[0]);
    assert_eq!(config.tunnels[1].ike().unwrap().startup, Startup::Add);
    assert_eq!(config.routes[1].to.len(), 2);
    assert_eq!(config.table_names(), ["main", "guests"]);
}

#[test]
fn an_unknown_key_is_shown_in_its_line_with_the_likely_one() {
    assert_eq!(
        said(&broken(
            "remote = \"198.51.100.2\"",
            "remot = \"198.51.100.2\""
        )),
        "error: [[connection.tunnel]] has no `remote`
  --> hawser.toml:20:1
   |
20 | [[connection.tunnel]]
   | ^^^^^^^^^^^^^^^^^^^^^
   = remedy: add a line such as: remote = \"198.51.100.1\"

error: unknown key `remot` in [[connection.tunnel]]
  --> hawser.toml:23:1
   |
23 | remot = \"198.51.100.2\"
   | ^^^^^
   = remedy: did you mean `remote`? valid are `name`, `local`, `remote`, `inside`, `owner`, \
`encapsulation`, `local_port`, `remote_port`, `outside_mtu`, `dscp`, `df`, `ignore_df`, `tcp_mss`, \
`ceiling`, `route_table`, `interface`, `next_hop`, `suite`, `esn`, `weight`, `replay_window`, \
`manual`, `ike`

"
    );
}

#[test]
fn all_problems_are_said_at_once_in_the_order_of_the_file() {
    let config = GOOD
        .replace("role = \"inside\"", "role = \"insid\"")
        .replace("aes128-gcm16", "aes128-gmc16")
        .replace("198.51.100.1\"", "2001:db8::1\"")
        .replace("via = \"lab\"", "via = \"lap\"");
    let (config, diagnostics) = Folder::new(&config, &good_keys()).load();
    assert!(config.is_none());
    let found: Vec<(usize, &str)> = diagnostics
        .0
        .iter()
        .filter(|d| !d.location.as_ref().unwrap().file.ends_with("keys.toml"))
        .map(|d| (d.location.as_ref().unwrap().line, d.reason.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (7, "`insid` is no value for `role`"),
            (
                11,
                "`aes128-gmc16` is no value for `suite`: there is no such suite"
            ),
            (
                17,
                "local 192.0.2.1 and remote 2001:db8::1 are of different families"
            ),
            (27, "there is no connection or tunnel `lap`"),
        ]
    );
}

/// One broken thing, the line it is in, and what must be said of it.
#[test]
fn every_mistake_has_its_line_reason_and_remedy() {
    let tunnel_b = "remote = \"198.51.100.2\"";
    let with_b = |more: &str| broken(tunnel_b, &format!("{tunnel_b}\n{more}"));
    let cases: Vec<(String, usize, &str, &str)> = vec![
        (
            broken("192.0.2.1", "192.0.2.256"),
            16,
            "`192.0.2.256` is no value for `local`",
            "\"192.0.2.1\"",
        ),
        (
            broken("name = \"b\"", "name = \"a\""),
            21,
            "tunnel `lab/a` is there already, at",
            "another name",
        ),
        (
            broken("name = \"b\"", "name = \"b c\""),
            21,
            "`b c` cannot be a name",
            "letters, digits",
        ),
        (
            broken("name = \"eth1\"", "name = \"eth0\""),
            6,
            "interface `eth0` is there already",
            "[[interface.vlan]]",
        ),
        (
            broken("role = \"outside\"", "role = \"inside\""),
            1,
            "no interface faces outside",
            "role = \"outside\"",
        ),
        (
            with_b("weight = 0"),
            24,
            "a tunnel of weight 0",
            "1 or more",
        ),
        (
            with_b("outside_mtu = 500"),
            24,
            "`outside_mtu` in [[connection.tunnel]] is out of range",
            "from 576 to 9216",
        ),
        (
            with_b("replay_window = 100"),
            24,
            "a replay window of 100 packets is not possible",
            "multiple of 64",
        ),
        (
            with_b("inside = \"169.254.10.1/29\""),
            18,
            "inside network 169.254.10.0/30 of `lab/a` overlaps 169.254.10.0/29 of `lab/b`",
            "of its own",
        ),
        (
            with_b("inside = \"169.254.11.0/30\""),
            24,
            "169.254.11.0 cannot be our address in 169.254.11.0/30",
            "169.254.10.2/30",
        ),
        (
            with_b("owner = 200\n[dataplane]\nworkers = 2"),
            24,
            "there is no worker 200",
            "raise `workers`",
        ),
        (
            with_b("ceiling = \"aws-standart\""),
            24,
            "`aws-standart` is no value for `ceiling`",
            "did you mean `aws-standard`?",
        ),
        (
            with_b("ceiling = { bandwidth = \"1.25 GB/s\" }"),
            24,
            "`1.25 GB/s` is no value for `bandwidth`",
            "1.25Gbps",
        ),
        (
            with_b("ceiling = {}"),
            24,
            "the ceiling limits nothing",
            "bandwidth",
        ),
        (
            with_b("remote_port = 4501"),
            20,
            "mean nothing without UDP encapsulation",
            "encapsulation = \"udp\"",
        ),
        (
            with_b("interface = \"eth1\""),
            24,
            "`eth1` is no [[interface]] that faces outside",
            "`eth0`",
        ),
        (
            with_b("dscp = 64"),
            24,
            "`dscp` in [[connection.tunnel]] is out of range",
            "from 0 to 63",
        ),
        (
            with_b("dscp = \"cpoy\""),
            24,
            "`cpoy` is no value for `dscp`",
            "did you mean `copy`?",
        ),
        (
            broken("to = \"10.0.0.0/8\"", "to = \"10.0.0.1/8\""),
            26,
            "bits to the right",
            "\"10.0.0.0/8\"",
        ),
        (
            broken("to = \"10.0.0.0/8\"", "to = \"169.254.10.0/30\""),
            25,
            "is the inside network of `lab/a`",
            "by themselves",
        ),
        (
            format!("{GOOD}[[route]]\nto = \"10.0.0.0/8\"\nvia = \"lab/a\"\n"),
            28,
            "a route to 10.0.0.0/8 is there already, at",
            "one `via`",
        ),
        (
            format!("{GOOD}[[route]]\nto = \"10.1.0.0/16\"\ninterface = \"eth2\"\n"),
            28,
            "`eth2` is no inside [[interface]]",
            "did you mean `eth1`?",
        ),
        (
            format!(
                "{GOOD}[[route]]\nto = \"10.1.0.0/16\"\ninterface = \"eth1\"\ngateway = \"fe80::1\"\n"
            ),
            28,
            "gateway fe80::1 is not of the family",
            "family",
        ),
        (
            format!("{GOOD}[[route]]\nto = \"10.1.0.0/16\"\n"),
            28,
            "a route needs either `via` or `interface`",
            "blackhole",
        ),
        (
            format!("{GOOD}[gatway]\nname = \"x\"\n"),
            28,
            "unknown key `gatway` in the file",
            "did you mean `gateway`?",
        ),
        (
            format!("{GOOD}[dataplane]\ncores = [1, 1]\n"),
            29,
            "core 1 is named twice",
            "once",
        ),
        (
            format!("{GOOD}[dataplane]\nring_size = 1000\n"),
            29,
            "ring_size 1000 is not a power of two",
            "1024",
        ),
        (format!("{GOOD}[dataplane\n"), 28, "not TOML", "toml.io"),
        (
            broken("suite =", "suite = \"x\"\nsuite ="),
            12,
            "not TOML: duplicate key",
            "toml.io",
        ),
    ];
    for (config, line, reason, remedy) in cases {
        let (read, diagnostics) = Folder::new(&config, &good_keys()).load();
        assert!(read.is_none(), "accepted although: {reason}");
        let fits = diagnostics.0.iter().any(|d| {
            d.severity == Severity::Error
                && d.reason.contains(reason)
                && d.remedy.contains(remedy)
                && (line == 0 || d.location.as_ref().is_some_and(|l| l.line == line))
        });
        assert!(
            fits,
            "wanted line {line}: {reason} ({remedy}), got:\n{diagnostics}"
        );
    }
}

#[test]
fn warnings_do_not_refuse() {
    let cases = [
        (
            broken("169.254.10.2/30", "169.254.5.2/30"),
            "AWS keeps 169.254.5.0/30 for itself",
        ),
        (
            broken("[[route]]\nto = \"10.0.0.0/8\"\nvia = \"lab\"\n", ""),
            "there are no routes",
        ),
        (
            format!("{GOOD}table = \"x\"\n"),
            "no attachment looks into route table `x`",
        ),
        (
            broken("suite", "replay_window = 0\nsuite"),
            "replay protection is off",
        ),
        (
            format!("{GOOD}[[connection]]\nname = \"empty\"\n"),
            "the connection has no tunnels",
        ),
    ];
    for (config, reason) in cases {
        let (read, diagnostics) = Folder::new(&config, &good_keys()).load();
        assert!(read.is_some(), "refused: {diagnostics}");
        assert_eq!(diagnostics.0.len(), 1, "{diagnostics}");
        assert_eq!(diagnostics.0[0].severity, Severity::Warning);
        assert!(diagnostics.0[0].reason.contains(reason), "{diagnostics}");
    }
}

#[test]
fn a_key_file_that_others_can_read_is_refused_with_the_command_to_run() {
    let folder = Folder::new(GOOD, "");
    for mode in [0o640, 0o604, 0o660] {
        folder.write_keys(&good_keys(), mode);
        assert_eq!(
            folder.said(),
            format!(
                "error: the key file keys.toml has mode 0{mode:o}, so others than its owner can \
                 read it\n  --> hawser.toml:12:23\n   |\n12 | manual = {{ key_file = \
                 \"keys.toml\" }}\n   |                       ^^^^^^^^^^^\n   = remedy: run: chmod \
                 600 keys.toml\n\n"
            )
        );
    }
}

#[test]
fn wrong_keys_are_said_without_showing_them() {
    let key = "a0".repeat(20);
    let cases: Vec<(String, usize, &str)> = vec![
        (
            good_keys().replacen(&key, &"a0".repeat(16), 1),
            3,
            "has 16 octets, but aes128-gcm16 takes 20 (40 hexadecimal digits)",
        ),
        (
            good_keys().replacen(&key, "xyz", 1),
            3,
            "not an even number of hexadecimal digits",
        ),
        (
            good_keys().replacen("0x1000", "0xff", 1),
            3,
            "SPIs from 0 to 255 are reserved",
        ),
        (
            good_keys().replacen("0x2001", "0x2000", 1),
            8,
            "inbound SPI 0x00002000 of `lab/b` is used by `lab/a` already",
        ),
        (
            good_keys().replacen(&"a1".repeat(20), &key, 1),
            7,
            "is the same as one of `lab/a`",
        ),
        (
            good_keys().replacen("lab/b", "lab/a", 1),
            6,
            "line 2 has the keys of `lab/a` already",
        ),
        (
            good_keys().replacen("lab/b", "lab/c", 1),
            20,
            "keys.toml has no keys for `lab/b`",
        ),
        (
            good_keys().replacen("inbound", "inbuond", 1),
            4,
            "unknown key `inbuond` in [[key]]",
        ),
        (good_keys().replacen("\" }", " }", 1), 3, "not TOML"),
        (String::new(), 1, "the key file has no [[key]]"),
    ];
    for (keys, line, reason) in cases {
        let folder = Folder::new(GOOD, &keys);
        let (read, diagnostics) = folder.load();
        assert!(read.is_none(), "accepted although: {reason}");
        let fits = diagnostics.0.iter().any(|d| {
            d.reason.contains(reason) && d.location.as_ref().is_some_and(|l| l.line == line)
        });
        assert!(fits, "wanted line {line}: {reason}, got:\n{diagnostics}");
        let said = serde_json::to_string(&diagnostics).unwrap() + &diagnostics.to_string();
        assert!(
            !said.contains("a0a0a0") && !said.contains("b0b0b0"),
            "{said}"
        );
    }
}

#[test]
fn the_same_outbound_spi_towards_two_peers_is_fine_and_towards_one_is_not() {
    let keys = good_keys().replacen("0x1001", "0x1000", 1);
    assert!(Folder::new(GOOD, &keys).load().0.is_some());
    let one_peer = broken("198.51.100.2", "198.51.100.1");
    let said = Folder::new(&one_peer, &keys).said();
    assert!(
        said.contains("outbound SPI 0x00001000 of `lab/b` is used by `lab/a` already"),
        "{said}"
    );
}

#[test]
fn route_files_are_checked_line_by_line() {
    let config = broken("to = \"10.0.0.0/8\"", "file = \"routes.txt\"");
    let folder = Folder::new(&config, &good_keys());
    assert!(folder.said().contains("cannot read routes.txt"));
    fs::write(
        folder.path("routes.txt"),
        "10.0.0.0/8\n10.0.0.1/8\nx\n10.0.0.0/8\n",
    )
    .unwrap();
    let said = folder.said();
    assert!(
        said.contains("routes.txt:2: `10.0.0.1/8`: bits to the right"),
        "{said}"
    );
    assert!(
        said.contains("routes.txt:3: `x`: it is not a network"),
        "{said}"
    );
    assert!(
        said.contains("routes.txt:4: `10.0.0.0/8`: it is there already"),
        "{said}"
    );
}

#[test]
fn the_host_is_compared() {
    let (config, _) = Folder::new(GOOD, &good_keys()).load();
    let view = config::HostView {
        interfaces: vec!["lo".into(), "eth0".into(), "eth2".into()],
        addresses: vec![
            ("eth0".into(), "192.0.2.7/24".parse().unwrap()),
            ("eth2".into(), "169.254.10.1/16".parse().unwrap()),
        ],
    };
    let said = config::against_host(&config.unwrap(), &view).to_string();
    assert!(
        said.contains("there is no interface `eth1` on this host"),
        "{said}"
    );
    assert!(
        said.contains("did you mean `eth0`? ") || said.contains("did you mean `eth2`? "),
        "{said}"
    );
    assert!(
        said.contains("192.0.2.1 is no address of this host"),
        "{said}"
    );
    assert!(said.contains("overlaps 169.254.0.0/16 on `eth2`"), "{said}");
}

#[test]
fn a_route_that_takes_a_part_of_an_inside_network_is_refused() {
    let (config, _) = Folder::new(&broken("10.0.0.0/8", "10.0.1.128/25"), &good_keys()).load();
    let view = config::HostView {
        interfaces: vec!["eth0".into(), "eth1".into()],
        addresses: vec![
            ("eth0".into(), "192.0.2.1/24".parse().unwrap()),
            ("eth1".into(), "10.0.1.1/24".parse().unwrap()),
        ],
    };
    let found = config::against_host(&config.unwrap(), &view);
    assert_eq!(found.0.len(), 1, "{found}");
    assert!(
        found.0[0]
            .reason
            .contains("10.0.1.128/25 is inside network 10.0.1.0/24 of `eth1`")
    );
}

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

#[test]
fn a_secrets_file_is_refused_when_others_can_read_it_and_is_never_quoted() {
    let folder = ike_folder(&with_ike(""), SECRET);
    let path = folder.path("secrets.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let said = folder.said();
    assert!(
        said.contains("mode 0640") && said.contains("chmod 600"),
        "{said}"
    );

    let cases = [
        (
            "[[secret]]\ntunnel = \"lab/a\"\npre_shared_key = \"not.for.you_1\"\n",
            "has no secret for `lab/b`",
        ),
        (
            "[[secret]]\ntunnel = \"lab/a\"\npre_shared_key = not.for.you_1\n",
            "not TOML",
        ),
        (
            "[[secret]]\ntunnel = \"lab/a\"\nconnection = \"lab\"\npre_shared_key = \"not.for.you_1\"\n",
            "one tunnel or for one connection",
        ),
        (
            "[[secret]]\nconnection = \"lab\"\npre_shared_key_hex = \"not.for.you_1\"\n",
            "hexadecimal digits",
        ),
        (
            "[[secret]]\nconnection = \"lab\"\npre_shared_key = \"not.fo\"\n",
            "of 6 octets can be guessed",
        ),
        (
            "[[secret]]\nconnection = \"lab\"\nkey = \"not.for.you_1\"\n",
            "unknown key `key`",
        ),
        ("", "has no [[secret]]"),
    ];
    for (secrets, expected) in cases {
        let said = ike_folder(&with_ike(""), secrets).said();
        assert!(said.contains(expected), "{expected}:\n{said}");
        assert!(!said.contains("not.fo"), "{said}");
    }
    // The tunnel's own entry goes before its connection's.
    let both = format!(
        "{SECRET}[[secret]]\ntunnel = \"lab/b\"\npre_shared_key_hex = \"00ff00ff00ff00ff\"\n"
    );
    let (config, diagnostics) = ike_folder(&with_ike(""), &both).load();
    assert_eq!(diagnostics.to_string(), "");
    let b = config.unwrap().tunnels[1].ike().unwrap().clone();
    assert!(
        matches!(b.auth, Auth::PreSharedKey(key) if key.expose() == [0, 255, 0, 255, 0, 255, 0, 255])
    );
}
