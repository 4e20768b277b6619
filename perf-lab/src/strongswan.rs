//! strongSwan as the other end: an IKEv2 and an ESP that are not ours.
//!
//! Debian's `charon-systemd` runs in a gateway's namespace with a folder of its own: configuration,
//! log, control socket. Its ESP is the one in user space (kernel-libipsec), so it does without the
//! kernel's: always in UDP, never with extended sequence numbers; it makes its peer believe in a
//! NAT for that. Dropping it ends the daemon and removes the folder.

use std::{
    fs::{self, File},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    config::Directory,
    interrupt,
    netns::{Namespace, Process, unique_prefix},
    shell,
    topology::{Family, INSIDE_INTERFACE, Side, outside_address, site_network},
};

/// Where Debian puts the daemon: not on everybody's path.
const CHARON: &str = "/usr/sbin/charon-systemd";
/// How long it may take to listen on its control socket. It takes 0.4 s on an idle machine.
const START: Duration = Duration::from_secs(20);

/// Why strongSwan cannot run here, or nothing if it can. For tests that skip loudly.
#[must_use]
pub fn unavailable() -> Option<String> {
    let missing = !std::path::Path::new(CHARON).exists() || !shell::has("swanctl");
    missing.then(|| "needs strongSwan: scripts/setup peers-strongswan".into())
}

/// One tunnel, as strongSwan is told of it.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its index: outside addresses and names follow from it.
    pub index: u32,
    /// IKE proposals, in strongSwan's words.
    pub proposals: String,
    /// ESP proposals, in strongSwan's words.
    pub esp_proposals: String,
    /// Where the peer is, if not at its outside address: a NAT.
    pub remote: Option<String>,
    /// More lines of the connection.
    pub more: String,
    /// More lines of the child.
    pub child: String,
    /// Seconds of silence after which it asks whether we live; 0 for never.
    pub dpd: u32,
    /// How it authenticates: `psk`, `pubkey`, `rsa/pss-sha256`, …
    pub auth: String,
    /// How its peer is to authenticate.
    pub peer_auth: String,
    /// More lines of its own side.
    pub own: String,
    /// More lines of the peer's side.
    pub peer: String,
}

impl Connection {
    /// A strong connection by pre-shared key.
    #[must_use]
    pub fn new(index: u32) -> Self {
        Self {
            index,
            proposals: "aes256gcm16-prfsha384-ecp384".into(),
            esp_proposals: "aes256gcm16-ecp384".into(),
            remote: None,
            more: String::new(),
            child: String::new(),
            dpd: 0,
            auth: "psk".into(),
            peer_auth: "psk".into(),
            own: String::new(),
            peer: String::new(),
        }
    }

    fn render(&self, side: Side) -> String {
        let Self {
            index: n,
            auth,
            peer_auth,
            ..
        } = self;
        let own = outside_address(side, Family::V4, *n);
        let peer = outside_address(side.other(), Family::V4, *n);
        let remote = self.remote.clone().unwrap_or_else(|| peer.to_string());
        let own_id = if self.own.contains("id =") {
            String::new()
        } else {
            format!("id = {own}")
        };
        let peer_id = if self.peer.contains("id =") {
            String::new()
        } else {
            format!("id = {peer}")
        };
        format!(
            "t{n} {{\nversion = 2\nlocal_addrs = {own}\nremote_addrs = {remote}\nproposals = {}\n\
             dpd_delay = {}\n{}\n\
             local {{\nauth = {auth}\n{own_id}\n{}\n}}\nremote {{\nauth = {peer_auth}\n{peer_id}\n{}\n}}\n\
             children {{\nt{n} {{\nlocal_ts = {}\nremote_ts = {}\nesp_proposals = {}\n{}\n}}\n}}\n}}\n",
            self.proposals,
            self.dpd,
            self.more,
            self.own,
            self.peer,
            network(side, *n),
            network(side.other(), *n),
            self.esp_proposals,
            self.child,
        )
    }
}

/// The traffic of a tunnel: the whole site for the first one, as strongSwan takes one policy for
/// the same traffic only.
#[must_use]
pub fn network(side: Side, index: u32) -> String {
    let site = site_network(side, Family::V4);
    if index == 0 {
        return site;
    }
    // 10.n.128.0/17 cut into /24: never the addresses of the hosts.
    let first = site.split('.').take(2).collect::<Vec<_>>().join(".");
    format!("{first}.{}.0/24", 128 + index % 127)
}

/// A running daemon.
#[derive(Debug)]
pub struct StrongSwan {
    // Order matters: the process ends before its folder goes.
    process: Process,
    namespace: String,
    directory: Directory,
}

impl StrongSwan {
    /// Starts it in a gateway's namespace with these connections. `secret` is the pre-shared key
    /// of all of them as hexadecimal digits; `charon` is more of its strongswan.conf, `end` more of
    /// its swanctl.conf.
    ///
    /// # Errors
    /// When it does not start or refuses its configuration.
    pub fn start(
        namespace: &Namespace,
        side: Side,
        connections: &[Connection],
        secret: &str,
        (charon, end): (&str, &str),
    ) -> Result<Self> {
        if let Some(why) = unavailable() {
            bail!("{why}");
        }
        let directory = Directory::create(&format!("{}-swan", unique_prefix()))?;
        let folder = directory.path().display().to_string();
        directory.write(
            "strongswan.conf",
            &format!(
                "charon-systemd {{\nload = aesni aes sha1 sha2 hmac gcm random nonce openssl kdf curve25519 gmp pem \
                 pkcs1 pkcs8 x509 revocation pubkey constraints kernel-libipsec kernel-netlink \
                 socket-default vici\ninstall_virtual_ip = no\nretransmit_timeout = 1.0\n{charon}\n\
                 filelog {{\nlog {{\npath = {folder}/log\ndefault = 1\nflush_line = yes\n}}\n}}\n\
                 plugins {{\nvici {{\nsocket = unix://{folder}/vici\n}}\n\
                 kernel-libipsec {{\nallow_peer_ts = yes\n}}\n}}\n}}\n"
            ),
        )?;
        for folder in [
            "swanctl",
            "swanctl/x509",
            "swanctl/x509ca",
            "swanctl/x509crl",
            "swanctl/private",
        ] {
            fs::create_dir(directory.path().join(folder))?;
        }
        let all: String = connections.iter().map(|c| c.render(side)).collect();
        directory.write(
            "swanctl/swanctl.conf",
            &format!(
                "connections {{\n{all}}}\nsecrets {{\nike-lab {{\nsecret = 0x{secret}\n}}\n}}\n{end}\n"
            ),
        )?;
        // Packets come to the daemon through its TUN device.
        namespace.sysctl("net.ipv4.ip_forward=1")?;
        // It installs a policy only if it has an address in the local network.
        for connection in connections.iter().filter(|c| c.index > 0) {
            let network = network(side, connection.index);
            let own = network.replace(".0/24", ".1/24");
            namespace.ip(&format!("addr add {own} dev {INSIDE_INTERFACE}"))?;
        }
        let output = File::create(directory.path().join("output"))?;
        let mut command = namespace.command(CHARON);
        command
            .env("STRONGSWAN_CONF", directory.path().join("strongswan.conf"))
            .stdout(output.try_clone()?)
            .stderr(output);
        let process = Process::start("charon", &mut command)?;
        let mut swan = Self {
            process,
            namespace: namespace.name().into(),
            directory,
        };
        let socket = swan.directory.path().join("vici");
        let up = interrupt::wait_for(START, || {
            ensure!(
                swan.process.ended()?.is_none(),
                "charon ended\n{}",
                swan.log()
            );
            Ok(socket.exists())
        })?;
        ensure!(up, "charon does not listen\n{}", swan.log());
        Ok(swan)
    }

    /// Loads its configuration: credentials and connections.
    ///
    /// # Errors
    /// When it refuses it.
    pub fn load(&self) -> Result<()> {
        self.swanctl(&["--load-all", "--noprompt"]).map(drop)
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// Runs `swanctl` and returns what it printed.
    ///
    /// # Errors
    /// When it fails, with what it printed.
    pub fn swanctl(&self, arguments: &[&str]) -> Result<String> {
        let folder = self.directory.path().display();
        let configuration = format!("STRONGSWAN_CONF={folder}/strongswan.conf");
        let own = format!("SWANCTL_DIR={folder}/swanctl");
        let socket = format!("unix://{folder}/vici");
        let mut words = vec![
            "ip",
            "netns",
            "exec",
            &self.namespace,
            "env",
            &configuration,
            &own,
        ];
        words.extend(["timeout", "30", "swanctl"]);
        words.extend(arguments);
        words.extend(["--uri", &socket]);
        shell::run_words(&words)
    }

    /// Sets a tunnel up.
    ///
    /// # Errors
    /// When it cannot.
    pub fn initiate(&self, index: u32) -> Result<()> {
        let child = format!("t{index}");
        self.swanctl(&["--initiate", "--child", &child, "--timeout", "15"])
            .map(drop)
            .with_context(|| self.log())
    }

    /// The tunnels that it has installed.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn installed(&self) -> Result<usize> {
        let text = self.swanctl(&["--list-sas"])?;
        Ok(text.lines().filter(|l| l.contains("INSTALLED")).count())
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// All that it logged.
    #[must_use]
    pub fn whole_log(&self) -> String {
        let read = |name| fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
        read("output") + &read("log")
    }

    /// The end of its log.
    #[must_use]
    pub fn log(&self) -> String {
        let text = self.whole_log();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(30)..].join("\n");
        format!("-- log of strongSwan:\n{last}")
    }
}
