//! Key files and secrets files: who may read them, what is wrong in them, and that they are never shown.

use std::{fs, os::unix::fs::PermissionsExt};

use hawser::config::ike::Auth;

use crate::support::*;

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
