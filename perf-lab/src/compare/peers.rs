//! The gateways that Hawser is compared with, run by the scripts in `perf-lab/peers`.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use super::{GATEWAY_CORE, GENERATOR_CORE};
use crate::{
    config::Directory,
    interrupt,
    netns::{Namespace, Process, unique_prefix},
    topology::{
        Family, INSIDE_INTERFACE, OUTSIDE_INTERFACE, Side, Topology, mac_text, outside_address,
        outside_mac, site_network,
    },
};

/// How long a peer may take to be ready; the first time includes building it.
const READY: Duration = Duration::from_secs(30);

/// The folder of the scripts that run the peers: `HAWSER_PEERS_DIR`, or that of the source tree.
pub(super) fn folder() -> Result<PathBuf> {
    let found = std::env::var_os("HAWSER_PEERS_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("peers"),
        PathBuf::from,
    );
    ensure!(
        found.join("run-secgw").is_file(),
        "no scripts in {}: set HAWSER_PEERS_DIR to `perf-lab/peers` of the source tree",
        found.display()
    );
    Ok(found)
}

/// A running script and its log. The processes end before the folder goes.
pub(super) struct Running {
    processes: Vec<Process>,
    directory: Directory,
}

impl Running {
    fn new() -> Result<Self> {
        Ok(Self {
            processes: Vec::new(),
            directory: Directory::create(&unique_prefix_of_peer())?,
        })
    }

    /// Starts a script in a namespace and waits until its output has the line `ready`.
    fn script(
        &mut self,
        namespace: &Namespace,
        name: &str,
        arguments: &[String],
        ready: &str,
    ) -> Result<()> {
        let log = self.directory.path().join(namespace.name());
        let file = File::create(&log)?;
        let mut command = namespace.command(&folder()?.join(name).display().to_string());
        command
            .args(arguments)
            .stdout(file.try_clone()?)
            .stderr(file);
        let mut process = Process::start(name, &mut command)?;
        let end = Instant::now() + READY;
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if text.contains(ready) {
                self.processes.push(process);
                return Ok(());
            }
            let last = || {
                let lines: Vec<&str> = text.lines().rev().take(12).collect();
                lines.into_iter().rev().collect::<Vec<_>>().join("\n")
            };
            if let Some(exit) = process.ended()? {
                bail!("{name} ended: {exit}\n{}", last());
            }
            if Instant::now() > end {
                bail!("{name} is not ready after {READY:?}\n{}", last());
            }
            interrupt::sleep(Duration::from_millis(50))?;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for process in &mut self.processes {
            process.stop();
        }
    }
}

fn unique_prefix_of_peer() -> String {
    format!("{}-peer", unique_prefix())
}

pub(super) fn start_secgw(topology: &Topology, tunnels: u16) -> Result<Running> {
    let mut running = Running::new()?;
    let arguments = [
        ("--inside", INSIDE_INTERFACE.to_owned()),
        ("--outside", OUTSIDE_INTERFACE.to_owned()),
        ("--next-hop", mac_text(outside_mac(Side::B))),
        ("--core", GATEWAY_CORE.to_string()),
        ("--tunnels", tunnels.to_string()),
    ]
    .map(|(option, value)| [option.to_owned(), value])
    .concat();
    running.script(
        topology.gateway(Side::A),
        "run-secgw",
        &arguments,
        "entering main loop",
    )?;
    Ok(running)
}

/// Both ends: the one in gateway B is needed for IKE only and shares the generator's core.
pub(super) fn start_strongswan(topology: &Topology) -> Result<Running> {
    let mut running = Running::new()?;
    for side in [Side::B, Side::A] {
        let far = side.other();
        let core = match side {
            Side::A => usize::from(GATEWAY_CORE),
            Side::B => GENERATOR_CORE,
        };
        let mut arguments = [
            ("--local", outside_address(side, Family::V4, 0).to_string()),
            ("--remote", outside_address(far, Family::V4, 0).to_string()),
            ("--local-net", site_network(side, Family::V4)),
            ("--remote-net", site_network(far, Family::V4)),
            ("--core", core.to_string()),
        ]
        .map(|(option, value)| [option.to_owned(), value])
        .concat();
        let ready = if side == Side::A {
            arguments.push("--initiate".into());
            "established"
        } else {
            "ready"
        };
        running.script(topology.gateway(side), "run-strongswan", &arguments, ready)?;
    }
    Ok(running)
}
