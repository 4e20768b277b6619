//! Keys and configurations of a matching pair of gateways.
//!
//! The files are what a user would write: `hawser.toml` and a key file that only its owner may
//! read. Keys are drawn anew for each pair and live in a folder that is removed with it.

use std::{
    fmt::Write as _,
    fs,
    net::IpAddr,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use hawser_aead::Suite;

use crate::topology::{
    Family, INSIDE_INTERFACE, OUTSIDE_INTERFACE, Side, outside_address, single_network,
    site_network,
};

/// A tunnel of the pair.
#[derive(Clone, Debug)]
pub struct TunnelSpec {
    /// IP version of the outside.
    pub outside: Family,
    /// ESP in UDP (RFC 3948) instead of IP protocol 50.
    pub udp: bool,
    /// Cipher and integrity.
    pub suite: Suite,
    /// Extended sequence numbers.
    pub esn: bool,
    /// Replay window in packets.
    pub replay_window: u32,
    /// Where the peer is, if not at its outside address: a NAT.
    pub remote: Option<IpAddr>,
    /// More lines for its `[[connection.tunnel]]`, at both ends.
    pub more: String,
}

impl Default for TunnelSpec {
    fn default() -> Self {
        Self {
            outside: Family::V4,
            udp: false,
            suite: Suite::Aes128Gcm16,
            esn: false,
            // AWS's default.
            replay_window: 1024,
            remote: None,
            more: String::new(),
        }
    }
}

/// How a gateway's data plane runs.
#[derive(Clone, Debug)]
pub struct GatewaySpec {
    /// Cores of the workers.
    pub cores: Vec<u16>,
    /// `spin`, `adaptive` or `poll`.
    pub idle: &'static str,
    /// More lines for `[dataplane]`.
    pub more: String,
    /// More lines for the inside interface.
    pub inside: String,
    /// More lines for the route to the own site.
    pub inside_route: String,
    /// More text at the end of the file.
    pub end: String,
}

impl Default for GatewaySpec {
    fn default() -> Self {
        Self {
            cores: vec![0],
            idle: "adaptive",
            more: String::new(),
            inside: String::new(),
            inside_route: String::new(),
            end: String::new(),
        }
    }
}

/// What a pair of gateways looks like. Tunnel `i` uses the topology's outside addresses `i`.
#[derive(Clone, Debug, Default)]
pub struct PairSpec {
    /// The tunnels.
    pub tunnels: Vec<TunnelSpec>,
    /// Gateway A.
    pub a: GatewaySpec,
    /// Gateway B.
    pub b: GatewaySpec,
    /// Where the keys of all tunnels come from.
    pub keys: KeySource,
}

/// Where keys come from.
#[derive(Clone, Debug, Default)]
pub enum KeySource {
    /// Drawn by the lab and written into both key files.
    #[default]
    Manual,
    /// From IKEv2 between the two gateways, with a pre-shared key that the lab draws.
    Ike(IkeSpec),
}

/// [`KeySource`] by a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeysBy {
    /// Key files.
    Manual,
    /// IKEv2.
    Ike,
}

impl KeysBy {
    /// With the defaults of the lab.
    #[must_use]
    pub fn source(self) -> KeySource {
        match self {
            Self::Manual => KeySource::Manual,
            Self::Ike => KeySource::Ike(IkeSpec::default()),
        }
    }

    /// For people.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Manual => "manual keys",
            Self::Ike => "keys by IKEv2",
        }
    }
}

/// What `[connection.ike]` says.
#[derive(Clone, Debug)]
pub struct IkeSpec {
    /// Lines at both ends.
    pub both: String,
    /// Lines at gateway A only.
    pub a: String,
    /// Lines at gateway B only.
    pub b: String,
    /// Propose the tunnels' own suites; otherwise `both` says what is proposed, or nothing does.
    pub esp: bool,
    /// Forward secrecy of rekeyed children, as a group's name; none without.
    pub pfs: Option<&'static str>,
    /// Gateway B has one address, expects the peers of all tunnels from anywhere, and tells them
    /// apart by their names.
    pub any: bool,
}

impl Default for IkeSpec {
    /// Gateway A starts, B waits for it.
    fn default() -> Self {
        Self {
            both: String::new(),
            a: "startup_action = \"start\"".into(),
            b: "startup_action = \"add\"".into(),
            esp: true,
            pfs: Some("group31"),
            any: false,
        }
    }
}

/// A suite as the key exchange calls it: `aes256-gcm16`, `aes256-cbc/sha2-256`.
#[must_use]
pub fn esp_proposal(suite: Suite) -> String {
    let name = suite.to_string();
    match name.split_once("-cbc-") {
        Some((cipher, hash)) => format!("{cipher}-cbc/{hash}"),
        None => name,
    }
}

/// One direction's SPI and key.
#[derive(Clone)]
pub struct Keys {
    /// The SPI.
    pub spi: u32,
    /// Key material in the order of RFC 7296, section 2.17. Of a lab, yet not for printing.
    pub material: Vec<u8>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys(spi {:#010x})", self.spi)
    }
}

/// A tunnel's keys.
#[derive(Clone, Debug)]
pub struct TunnelKeys {
    /// What A sends with.
    pub a_to_b: Keys,
    /// What B sends with.
    pub b_to_a: Keys,
}

/// Draws keys for all tunnels of a pair.
///
/// # Errors
/// When the system has no random numbers.
pub fn draw_keys(spec: &PairSpec) -> Result<Vec<TunnelKeys>> {
    let draw = |spi: u32, suite: Suite| -> Result<Keys> {
        let mut material = vec![0; suite.key_len()];
        getrandom::fill(&mut material).map_err(|e| anyhow::anyhow!("no random numbers: {e}"))?;
        Ok(Keys { spi, material })
    };
    spec.tunnels
        .iter()
        .enumerate()
        .map(|(i, tunnel)| {
            Ok(TunnelKeys {
                a_to_b: draw(0xb000_0000 + i as u32, tunnel.suite)?,
                b_to_a: draw(0xa000_0000 + i as u32, tunnel.suite)?,
            })
        })
        .collect()
}

/// The name of a tunnel in the configuration.
#[must_use]
pub fn tunnel_name(index: usize) -> String {
    format!("lab/t{index}")
}

/// The text of one side's `hawser.toml`. Its files are next to it.
#[must_use]
pub fn render(side: Side, spec: &PairSpec, directory: &Path) -> String {
    let gateway = match side {
        Side::A => &spec.a,
        Side::B => &spec.b,
    };
    let mut text = format!(
        "[gateway]\nname = \"lab-{letter}\"\nstate_dir = \"{dir}/state\"\nrun_dir = \"{dir}/run\"\n\n\
         [dataplane]\ncores = {cores:?}\nidle = \"{idle}\"\n{more}\n\
         [[interface]]\nname = \"{INSIDE_INTERFACE}\"\nrole = \"inside\"\n{inside}\n\
         [[interface]]\nname = \"{OUTSIDE_INTERFACE}\"\nrole = \"outside\"\n\n\
         [[connection]]\nname = \"lab\"\n{exchange}",
        letter = side.letter(),
        dir = directory.display(),
        cores = gateway.cores,
        idle = gateway.idle,
        more = lines(&gateway.more),
        inside = lines(&gateway.inside),
        exchange = exchange(side, &spec.keys),
    );
    for (i, tunnel) in spec.tunnels.iter().enumerate() {
        let index = i as u32;
        let any = matches!(&spec.keys, KeySource::Ike(ike) if ike.any);
        let address = |of: Side| {
            let index = if any && of == Side::B { 0 } else { index };
            outside_address(of, tunnel.outside, index).to_string()
        };
        let local = address(side);
        let remote = if any && side == Side::B {
            "any".into()
        } else {
            let at = tunnel.remote.map(|nat| nat.to_string());
            at.unwrap_or_else(|| address(side.other()))
        };
        let keys = match &spec.keys {
            KeySource::Manual => format!(
                "encapsulation = \"{}\"\nsuite = \"{}\"\nmanual = {{ key_file = \"keys.toml\" }}\n",
                if tunnel.udp { "udp" } else { "plain" },
                tunnel.suite
            ),
            KeySource::Ike(ike) => {
                let udp = if tunnel.udp { "udp" } else { "auto" };
                let suite = esp_proposal(tunnel.suite);
                let pfs = ike.pfs.map_or(String::new(), |group| format!("/{group}"));
                let mut own = Vec::new();
                if ike.esp {
                    own.push(format!("esp_proposals = \"{suite}{pfs}\""));
                }
                if ike.any {
                    let name = |of: Side| format!("t{i}.{}.lab.example", of.letter());
                    own.push(format!("local_id = \"{}\"", name(side)));
                    own.push(format!("remote_id = \"{}\"", name(side.other())));
                }
                let own = if own.is_empty() {
                    String::new()
                } else {
                    format!("ike = {{ {} }}\n", own.join(", "))
                };
                format!("encapsulation = \"{udp}\"\n{own}")
            }
        };
        let _ = write!(
            text,
            "\n[[connection.tunnel]]\nname = \"t{i}\"\nlocal = \"{local}\"\nremote = \"{remote}\"\n\
             esn = {}\nreplay_window = {}\n{}{keys}",
            tunnel.esn,
            tunnel.replay_window,
            lines(&tunnel.more),
        );
    }
    let list = |network: fn(Side, Family) -> String, side| {
        format!(
            "[\"{}\", \"{}\"]",
            network(side, Family::V4),
            network(side, Family::V6)
        )
    };
    let _ = write!(
        text,
        "\n[[route]]\nto = {}\ninterface = \"{INSIDE_INTERFACE}\"\n{}\n\
         [[route]]\nto = {}\nvia = \"lab\"\n\n\
         [[route]]\nto = {}\nvia = \"{}\"\n{}",
        list(site_network, side),
        lines(&gateway.inside_route),
        list(site_network, side.other()),
        list(single_network, side.other()),
        tunnel_name(0),
        lines(&gateway.end),
    );
    text
}

/// `[connection.ike]`, if there is one.
fn exchange(side: Side, keys: &KeySource) -> String {
    let KeySource::Ike(ike) = keys else {
        return String::new();
    };
    let own = match side {
        Side::A => &ike.a,
        Side::B => &ike.b,
    };
    let all = format!("{}{}", lines(&ike.both), lines(own));
    let by_secret = !all.contains("certificate =");
    let secrets = if by_secret {
        "secrets = \"secrets.toml\"\n"
    } else {
        ""
    };
    format!("\n[connection.ike]\n{secrets}{all}")
}

/// The text of a secrets file with one new key for the connection: the same for both ends.
///
/// # Errors
/// When the system has no random numbers.
pub fn draw_secret() -> Result<String> {
    let mut key = [0; 20];
    getrandom::fill(&mut key).map_err(|e| anyhow::anyhow!("no random numbers: {e}"))?;
    let digits: String = key.iter().map(|octet| format!("{octet:02x}")).collect();
    Ok(format!(
        "[[secret]]\nconnection = \"lab\"\npre_shared_key_hex = \"{digits}\"\n"
    ))
}

fn lines(more: &str) -> String {
    if more.is_empty() || more.ends_with('\n') {
        more.into()
    } else {
        format!("{more}\n")
    }
}

/// The text of one side's key file.
#[must_use]
pub fn render_keys(side: Side, keys: &[TunnelKeys]) -> String {
    let mut text = String::new();
    for (i, keys) in keys.iter().enumerate() {
        let (outbound, inbound) = match side {
            Side::A => (&keys.a_to_b, &keys.b_to_a),
            Side::B => (&keys.b_to_a, &keys.a_to_b),
        };
        let _ = writeln!(text, "[[key]]\ntunnel = \"{}\"", tunnel_name(i));
        for (name, key) in [("outbound", outbound), ("inbound", inbound)] {
            let _ = write!(text, "{name} = {{ spi = \"{:#010x}\", key = \"", key.spi);
            for octet in &key.material {
                let _ = write!(text, "{octet:02x}");
            }
            text.push_str("\" }\n");
        }
    }
    text
}

/// What the names of folders begin with.
const FOLDER: &str = "hawser-lab-";

/// Removes the folders of labs whose process is gone: they hold keys.
pub fn remove_stale_folders() {
    for entry in fs::read_dir(std::env::temp_dir())
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name
            .strip_prefix(FOLDER)
            .is_some_and(crate::netns::is_stale)
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A folder of one gateway: configuration, keys, state, log. Removed when dropped.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Makes it, for its owner only, below the system's folder for temporary files.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("{FOLDER}{name}"));
        // Left by a lab of the same process id that was killed.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file that only its owner may read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        use std::io::Write as _;
        let path = self.0.join(name);
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_match() {
        let spec = PairSpec {
            tunnels: vec![
                TunnelSpec::default(),
                TunnelSpec {
                    outside: Family::V6,
                    udp: true,
                    ..TunnelSpec::default()
                },
            ],
            ..PairSpec::default()
        };
        let a = render(Side::A, &spec, Path::new("/x"));
        let b = render(Side::B, &spec, Path::new("/y"));
        assert!(
            a.contains("local = \"198.18.0.1\"\nremote = \"198.19.0.1\""),
            "{a}"
        );
        assert!(
            b.contains("local = \"198.19.0.1\"\nremote = \"198.18.0.1\""),
            "{b}"
        );
        assert!(a.contains("encapsulation = \"udp\""));
        let keys = draw_keys(&spec).unwrap();
        let (a, b) = (render_keys(Side::A, &keys), render_keys(Side::B, &keys));
        let outbound = |text: &str| {
            let line = text.lines().find(|l| l.starts_with("outbound")).unwrap();
            line["outbound".len()..].to_owned()
        };
        assert!(b.contains(&format!("inbound{}", outbound(&a))));
        assert_ne!(outbound(&a), outbound(&b));
        assert_eq!(format!("{:?}", keys[0].a_to_b), "Keys(spi 0xb0000000)");
    }

    #[test]
    fn folders_are_private_and_go_away() {
        let directory = Directory::create(&format!("test-{}", std::process::id())).unwrap();
        let file = directory.write("k", "secret").unwrap();
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        drop(directory);
        assert!(!file.exists());
    }
}
