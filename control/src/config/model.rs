//! The configuration as it is meant: all defaults filled in, all names resolved to what they are.

use std::{net::IpAddr, ops::Range, path::PathBuf, sync::Arc};

use hawser_aead::Suite;
use hawser_api::{Ceiling, Dscp, IdlePolicy, OuterDf, Role, Secret, Spi};
use ipnet::IpNet;

use super::{diagnostic::Source, ike::Ike, reader::At};

/// Name of the route table that everything uses unless told otherwise.
pub const MAIN_TABLE: &str = "main";

/// More workers than this must be asked for: a gateway rarely owns a whole large machine.
const DEFAULT_WORKERS_AT_MOST: usize = 8;

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from, for pointing at places later.
    pub source: Arc<Source>,
    /// This gateway.
    pub gateway: Gateway,
    /// The data plane process.
    pub dataplane: Dataplane,
    /// The key exchange of all tunnels.
    pub ike: IkeGlobal,
    /// Interfaces, in the order of the file.
    pub interfaces: Vec<Interface>,
    /// Tunnels of all connections, in the order of the file.
    pub tunnels: Vec<Tunnel>,
    /// Names of the connections, in the order of the file.
    pub connections: Vec<String>,
    /// Routes, in the order of the file.
    pub routes: Vec<Route>,
    /// Neighbours written down by hand.
    pub neighbours: Vec<StaticNeighbour>,
}

/// `[gateway]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its name, shown in status.
    pub name: String,
    /// What must survive a reboot: the sequence number checkpoint.
    pub state_dir: PathBuf,
    /// Sockets and the lock.
    pub run_dir: PathBuf,
    /// Name of the TUN device of the host path; `None` switches the host path off.
    pub tun: Option<String>,
}

/// `[dataplane]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataplane {
    /// The program; `None` finds it next to `hawser`.
    pub program: Option<PathBuf>,
    /// A core for each worker (`None` leaves it to the scheduler), if the file says.
    pub workers: Option<Vec<Option<u16>>>,
    /// Frames for each worker.
    pub frames_per_worker: u32,
    /// Entries of each ring, a power of two.
    pub ring_size: u32,
    /// What an idle worker does.
    pub idle: IdlePolicy,
    /// Seed of the five-tuple hash; `None` draws one.
    pub hash_seed: Option<u64>,
}

/// `[ike]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IkeGlobal {
    /// AWS-style tunnel log, JSON lines; `None` writes them to the daemon's log.
    pub tunnel_log: Option<PathBuf>,
    /// Where session keys are written for Wireshark: a folder. Whoever reads it reads the traffic.
    pub key_log: Option<PathBuf>,
    /// Half-open IKE SAs above which peers must show a cookie (RFC 7296, section 2.6).
    pub cookie_threshold: u32,
    /// Half-open IKE SAs at most.
    pub half_open_limit: u32,
    /// Interval of NAT keepalives while nothing else is sent (RFC 3948, section 4). Seconds.
    pub nat_keepalive: u32,
}

/// `[[interface]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the kernel.
    pub name: At<String>,
    /// Which side it faces.
    pub role: Role,
    /// Queues to serve; `None` serves all.
    pub queues: Option<u16>,
    /// Try zero copy first.
    pub zero_copy: bool,
    /// Route table of untagged packets; `None` on an outside interface, or when only VLANs are
    /// served.
    pub untagged: Option<String>,
    /// VLANs.
    pub vlans: Vec<Vlan>,
}

/// `[[interface.vlan]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// 802.1Q identifier.
    pub id: At<u16>,
    /// Route table of its packets.
    pub route_table: String,
}

/// `[[connection.tunnel]]` with the defaults of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// `connection/tunnel`.
    pub name: String,
    /// Where it begins in the file.
    pub span: Range<usize>,
    /// The connection.
    pub connection: String,
    /// Our outside address.
    pub local: At<IpAddr>,
    /// The peer's outside address; unspecified (`0.0.0.0` or `::`) for a peer that calls from
    /// anywhere.
    pub remote: At<IpAddr>,
    /// Our addresses inside the tunnel, with the network that the peer shares.
    pub inside: Vec<At<IpNet>>,
    /// Plain or in UDP.
    pub encapsulation: hawser_api::Encapsulation,
    /// Largest outer packet; `None` takes the interface's or the route's.
    pub outside_mtu: Option<At<u16>>,
    /// DSCP of the outer header.
    pub dscp: Dscp,
    /// DF of the outer header.
    pub df: OuterDf,
    /// Fragment before encryption what is too large, whatever its DF says.
    pub ignore_df: bool,
    /// TCP MSS as in [`hawser_api::Tunnel::tcp_mss`].
    pub tcp_mss: Option<u16>,
    /// Share of the flows.
    pub weight: u32,
    /// What the far end lets through.
    pub ceiling: Ceiling,
    /// Route table of packets that come out of the tunnel.
    pub route_table: String,
    /// The worker that decrypts.
    pub owner: Option<At<u16>>,
    /// Outside interface, when not the one that the kernel's route says.
    pub interface: Option<At<String>>,
    /// Neighbour that outer packets go to, when not the one that the kernel's route says.
    pub next_hop: Option<At<IpAddr>>,
    /// Where its SAs come from.
    pub keys: Keys,
}

/// Where the SAs of a tunnel come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Set by hand.
    Manual(ManualSas),
    /// By key exchange.
    Ike(Box<Ike>),
    /// From nowhere: only while a refused configuration is read to its end.
    None,
}

/// A pair of SAs with keys from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManualSas {
    /// Cipher and integrity, both ways.
    pub suite: Suite,
    /// Extended sequence numbers, both ways.
    pub esn: bool,
    /// Replay window in packets.
    pub replay_window: u32,
    /// What we send with.
    pub outbound: ManualKey,
    /// What we receive with.
    pub inbound: ManualKey,
}

/// One direction's SPI and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManualKey {
    /// The SPI.
    pub spi: Spi,
    /// The key material.
    pub key: Secret,
}

/// `[[route]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it begins in the file.
    pub span: Range<usize>,
    /// Destinations.
    pub to: Vec<IpNet>,
    /// Which route table.
    pub table: String,
    /// Where packets go.
    pub via: Via,
    /// Also a route of the host's own stack, into the TUN device.
    pub host_route: bool,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// Over tunnels: their full names, in the order of the file.
    Tunnels(Vec<String>),
    /// Out of an inside interface.
    Inside {
        /// Its name.
        interface: String,
        /// The VLAN.
        vlan: Option<u16>,
        /// The router there.
        gateway: Option<IpAddr>,
    },
    /// To the host's own stack.
    Host,
    /// Nowhere.
    Blackhole,
}

/// `[[neighbour]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticNeighbour {
    /// The interface's name.
    pub interface: String,
    /// The VLAN.
    pub vlan: Option<u16>,
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: [u8; 6],
}

impl Tunnel {
    /// The SAs, when set by hand.
    #[must_use]
    pub fn manual(&self) -> Option<&ManualSas> {
        match &self.keys {
            Keys::Manual(manual) => Some(manual),
            Keys::Ike(_) | Keys::None => None,
        }
    }

    /// The key exchange, when there is one.
    #[must_use]
    pub fn ike(&self) -> Option<&Ike> {
        match &self.keys {
            Keys::Ike(ike) => Some(ike),
            Keys::Manual(_) | Keys::None => None,
        }
    }

    /// Whether the peer may call from anywhere.
    #[must_use]
    pub fn any_remote(&self) -> bool {
        self.remote.value.is_unspecified()
    }

    /// Whether all settings are the same, wherever in the file they stand.
    #[must_use]
    pub fn same_settings(&self, other: &Self) -> bool {
        let settings = |t: &Self| {
            let mut t = t.clone();
            let here = || 0..0;
            t.span = here();
            t.local.span = here();
            t.remote.span = here();
            for inside in &mut t.inside {
                inside.span = here();
            }
            t.outside_mtu.iter_mut().for_each(|m| m.span = here());
            t.owner.iter_mut().for_each(|o| o.span = here());
            t.interface.iter_mut().for_each(|i| i.span = here());
            t.next_hop.iter_mut().for_each(|n| n.span = here());
            t
        };
        settings(self) == settings(other)
    }
}

impl Config {
    /// The interface of this name.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|i| i.name.value == name)
    }

    /// Workers when the file names none and the interfaces have enough queues.
    #[must_use]
    pub fn default_workers(&self) -> usize {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        cpus.min(DEFAULT_WORKERS_AT_MOST)
    }

    /// The names of all route tables that are used, `main` first.
    #[must_use]
    pub fn table_names(&self) -> Vec<&str> {
        let mut names = vec![MAIN_TABLE];
        let used = self
            .interfaces
            .iter()
            .flat_map(|i| {
                i.untagged
                    .iter()
                    .chain(i.vlans.iter().map(|v| &v.route_table))
            })
            .chain(self.tunnels.iter().map(|t| &t.route_table))
            .chain(self.routes.iter().map(|r| &r.table));
        let mut seen = std::collections::HashSet::from([MAIN_TABLE]);
        for name in used {
            if seen.insert(name) {
                names.push(name);
            }
        }
        names
    }
}
