//! Folders with configurations that are fine, to be broken in one place by each test.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use hawser::config::{self, Config, Diagnostics, ike::Ike};

/// A folder with a configuration and its key file.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new(config: &str, keys: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::write(folder.path("hawser.toml"), config).unwrap();
        folder.write_keys(keys, 0o600);
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write_keys(&self, keys: &str, mode: u32) {
        let path = self.path("keys.toml");
        fs::write(&path, keys).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn write_secret(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn load(&self) -> (Option<Config>, Diagnostics) {
        config::load(&self.path("hawser.toml"))
    }

    /// All diagnostics as text, with the folder's name taken out.
    pub(crate) fn said(&self) -> String {
        let (_, diagnostics) = self.load();
        diagnostics
            .to_string()
            .replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// Two tunnels that are fine, to be broken in one place by each test.
pub(crate) const GOOD: &str = r#"[[interface]]
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
pub(crate) fn good_keys() -> String {
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

pub(crate) fn said(config: &str) -> String {
    Folder::new(config, &good_keys()).said()
}

/// Replaces a part of the good configuration that must be there.
pub(crate) fn broken(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "the configuration has no {from}");
    GOOD.replacen(from, to, 1)
}

/// [`GOOD`] with a key exchange instead of manual keys, and `more` in its table.
pub(crate) fn with_ike(more: &str) -> String {
    broken(
        "suite = \"aes128-gcm16\"\nmanual = { key_file = \"keys.toml\" }\n",
        &format!("[connection.ike]\nsecrets = \"secrets.toml\"\n{more}\n"),
    )
}

/// A folder with [`with_ike`] and this secrets file.
pub(crate) fn ike_folder(config: &str, secrets: &str) -> Folder {
    let folder = Folder::new(config, &good_keys());
    folder.write_secret("secrets.toml", secrets);
    folder
}

pub(crate) const SECRET: &str =
    "[[secret]]\nconnection = \"lab\"\npre_shared_key = \"not.for.you_1\"\n";

/// What a tunnel has that says nothing.
pub(crate) fn defaults() -> Ike {
    let (config, diagnostics) = ike_folder(&with_ike(""), SECRET).load();
    assert_eq!(diagnostics.to_string(), "");
    config.unwrap().tunnels[0].ike().unwrap().clone()
}
