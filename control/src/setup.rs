//! What is fixed for the life of a data plane: from the configuration and the host's interfaces.

use std::path::{Path, PathBuf};

use hawser_api::{PortSetup, Setup, TunSetup, WorkerSetup};

use crate::{
    config::{Config, Diagnostics, Interface},
    netlink::{Kernel, Link, receive_queues},
};

/// What a frame holds beside a packet of the interface's MTU: head room for new headers, Ethernet
/// and VLAN header, ESP's own. Octets; the data plane asks for several buffers a packet when MTU
/// and this do not fit.
const FRAME_OVERHEAD: u32 = 512;
/// MTU of the TUN device: the site's usual one. Larger packets of the host are fragmented by its
/// own stack.
const TUN_MTU: u16 = 1500;

/// A set-up and what is missing in it.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The set-up.
    pub setup: Setup,
    /// Interfaces that do not exist now or are switched off, so that no socket opens on them.
    pub missing: Vec<String>,
    /// What works, but perhaps not as meant.
    pub warnings: Diagnostics,
}

/// Plans a set-up for the interfaces that are there.
///
/// # Errors
/// What the configuration asks of them and they do not have.
pub async fn plan(config: &Config, kernel: &Kernel, seed: u64) -> Result<Planned, Diagnostics> {
    let mut diagnostics = Diagnostics::default();
    let mut missing = Vec::new();
    let mut ports = Vec::new();
    for interface in &config.interfaces {
        match kernel
            .mirror()
            .link(&interface.name.value)
            .filter(|link| link.enabled)
        {
            None => missing.push(interface.name.value.clone()),
            Some(link) => {
                ports.extend(port(config, interface, link, &mut diagnostics).await);
            }
        }
    }
    let queues = ports
        .iter()
        .map(|p| usize::from(p.queues))
        .min()
        .unwrap_or(1);
    let wanted = &config.dataplane.workers;
    let workers = match wanted {
        Some(workers) => {
            // Every worker needs a queue of its own on every interface.
            if let Some(port) = ports.iter().find(|p| usize::from(p.queues) < workers.len()) {
                let location = config
                    .interface(&port.interface)
                    .map(|i| config.source.locate(&i.name.span));
                diagnostics.error(
                    location,
                    format!(
                        "{} has {} receive queues, but {} workers need one each",
                        port.interface,
                        port.queues,
                        workers.len()
                    ),
                    format!(
                        "lower `workers` (or name fewer `cores`) in [dataplane], or give the \
                         interface more queues: ethtool -L {} combined {} (a veth: rx and tx)",
                        port.interface,
                        workers.len()
                    ),
                );
            }
            workers.clone()
        }
        None => vec![None; config.default_workers().min(queues)],
    };
    for tunnel in &config.tunnels {
        if let Some(owner) = &tunnel.owner
            && usize::from(owner.value) >= workers.len()
        {
            diagnostics.error(
                Some(config.source.locate(&owner.span)),
                format!(
                    "there is no worker {}: there are {} here",
                    owner.value,
                    workers.len()
                ),
                "write a smaller number, leave `owner` out, or set `workers` in [dataplane]",
            );
        }
    }
    if diagnostics.has_errors() {
        return Err(diagnostics);
    }
    let largest = ports.iter().map(|p| p.mtu).max().unwrap_or(1500);
    let setup = Setup {
        workers: workers
            .into_iter()
            .map(|core| WorkerSetup { core })
            .collect(),
        ports,
        frames_per_worker: config.dataplane.frames_per_worker,
        frame_size: if largest + FRAME_OVERHEAD <= 2048 {
            2048
        } else {
            4096
        },
        ring_size: config.dataplane.ring_size,
        idle: config.dataplane.idle,
        tun: config
            .gateway
            .tun
            .clone()
            .map(|name| TunSetup { name, mtu: TUN_MTU }),
        checkpoint: config.gateway.state_dir.join("checkpoint"),
        hash_seed: config.dataplane.hash_seed.unwrap_or(seed),
    };
    Ok(Planned {
        setup,
        missing,
        warnings: diagnostics,
    })
}

async fn port(
    config: &Config,
    interface: &Interface,
    link: &Link,
    diagnostics: &mut Diagnostics,
) -> Option<PortSetup> {
    let location = || Some(config.source.locate(&interface.name.span));
    let Some(mac) = link.mac else {
        diagnostics.error(
            location(),
            format!("`{}` is no Ethernet interface", link.name),
            "name an Ethernet interface: AF_XDP sockets carry Ethernet frames",
        );
        return None;
    };
    let available = receive_queues(&link.name)
        .await
        .unwrap_or(link.rx_queues_at_most)
        .clamp(1, u16::MAX.into()) as u16;
    let queues = interface.queues.unwrap_or(available);
    if queues > available {
        diagnostics.error(
            location(),
            format!(
                "`{}` has {available} receive queues, not {queues}",
                link.name
            ),
            format!(
                "lower `queues`, or run: ethtool -L {} combined {queues}",
                link.name
            ),
        );
        return None;
    }
    if queues < available {
        diagnostics.warning(
            location(),
            format!(
                "packets in {} of {available} queues of `{}` will not be seen",
                available - queues,
                link.name
            ),
            "leave `queues` out, or steer all traffic to the first queues",
        );
    }
    Some(PortSetup {
        interface: link.name.clone(),
        ifindex: link.index,
        mac,
        mtu: link.mtu,
        queues,
        role: interface.role,
        zero_copy: interface.zero_copy,
    })
}

/// Whether a data plane that runs with `running` serves `wanted` as well. The seed of the hash
/// does not matter unless the configuration names one: keeping it keeps flows on their tunnels.
#[must_use]
pub fn serves(running: &Setup, wanted: &Setup, seed_configured: bool) -> bool {
    let mut wanted = wanted.clone();
    if !seed_configured {
        wanted.hash_seed = running.hash_seed;
    }
    *running == wanted
}

/// What differs between two set-ups, in words for a person.
#[must_use]
pub fn differences(running: &Setup, wanted: &Setup) -> Vec<&'static str> {
    let mut words = Vec::new();
    let mut note = |differs: bool, word| {
        if differs {
            words.push(word);
        }
    };
    note(running.workers != wanted.workers, "workers");
    note(running.ports != wanted.ports, "interfaces");
    note(
        running.frames_per_worker != wanted.frames_per_worker,
        "frames_per_worker",
    );
    note(running.frame_size != wanted.frame_size, "frame size");
    note(running.ring_size != wanted.ring_size, "ring_size");
    note(running.idle != wanted.idle, "idle");
    note(running.tun != wanted.tun, "the TUN device");
    note(running.checkpoint != wanted.checkpoint, "state_dir");
    note(running.hash_seed != wanted.hash_seed, "hash_seed");
    words
}

/// The program of the data plane: configured, from the environment, or next to our own.
#[must_use]
pub fn program(configured: Option<&Path>) -> PathBuf {
    const NAME: &str = "hawser-dataplane";
    if let Some(path) = configured {
        return path.to_owned();
    }
    if let Some(path) = std::env::var_os("HAWSER_DATAPLANE") {
        return path.into();
    }
    std::env::current_exe()
        .ok()
        .map(|own| own.with_file_name(NAME))
        .filter(|path| path.exists())
        .unwrap_or_else(|| NAME.into())
}
