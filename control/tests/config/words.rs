//! The shape of the file and the values of single keys.

use std::{fs, path::Path};

use hawser::config::{Diagnostics, Severity, ike::Startup};

use crate::support::*;

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
