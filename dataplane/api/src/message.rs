//! Requests, replies and events.

use std::{net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{PortId, Spi, Stats, StatsPage, TunnelId, Update};

/// Raised whenever a message changes its meaning or shape.
pub const PROTOCOL_VERSION: u32 = 2;

/// What control asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// The first message of a connection.
    Hello {
        /// [`PROTOCOL_VERSION`] of the sender.
        version: u32,
    },
    /// Opens sockets, starts workers, drops privileges. Once in the life of a data plane.
    Setup(Setup),
    /// Adds to the transaction.
    Stage(Vec<Update>),
    /// Applies what was staged, all or nothing.
    Commit,
    /// Forgets what was staged.
    Discard,
    /// Asks for counters; large gateways are read page by page.
    Stats(StatsPage),
    /// Ends the data plane in good order.
    Shutdown,
}

/// What the data plane answers, one reply a request, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Request::Hello`].
    Hello {
        /// [`PROTOCOL_VERSION`] of the data plane.
        version: u32,
        /// Its process id.
        pid: u32,
        /// The set-up that it runs with, when it was set up already: a returning control compares.
        setup: Option<Setup>,
        /// What was got from the kernel by that set-up.
        report: Option<SetupReport>,
        /// Commits so far.
        generation: u64,
    },
    /// To [`Request::Setup`].
    SetUp(SetupReport),
    /// To [`Request::Stage`].
    Staged,
    /// To [`Request::Commit`].
    Committed {
        /// Commits so far.
        generation: u64,
        /// What it took, in microseconds.
        micros: u64,
    },
    /// To [`Request::Discard`].
    Discarded,
    /// To [`Request::Stats`].
    Stats(Box<Stats>),
    /// To [`Request::Shutdown`], before the process ends.
    Ending,
    /// To any request that was not carried out; nothing has changed.
    Refused(Refusal),
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct Refusal {
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// What the data plane says unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A packet needs a neighbour that is not in the table: resolve it. Sent at most once a second
    /// for each neighbour.
    NeighbourNeeded {
        /// The interface.
        port: PortId,
        /// The VLAN, or none for untagged.
        vlan: Option<u16>,
        /// The neighbour's address.
        address: IpAddr,
    },
    /// An outbound SA has used three quarters of its sequence numbers: rekey it.
    SequenceSoftLimit {
        /// The tunnel.
        tunnel: TunnelId,
        /// The outbound SPI.
        spi: Spi,
    },
    /// Packets with an SPI that no SA has; at most once a second.
    UnknownSpi {
        /// The SPI.
        spi: Spi,
        /// Where the last such packet came from.
        source: IpAddr,
    },
    /// Authenticated packets of a UDP-encapsulated tunnel come from a new address or port.
    PeerMoved {
        /// The tunnel.
        tunnel: TunnelId,
        /// The new address.
        address: IpAddr,
        /// The new port.
        port: u16,
    },
    /// A port's sockets report that the interface is down or gone.
    PortDown(PortId),
}

/// All that the data plane sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromDataplane {
    /// The answer to the oldest unanswered request.
    Reply(Reply),
    /// Something happened.
    Event(Event),
}

/// What is fixed for the life of a data plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// The workers.
    pub workers: Vec<WorkerSetup>,
    /// The interfaces, in the order of their [`PortId`].
    pub ports: Vec<PortSetup>,
    /// Frames for each worker at least; the data plane takes as many as its rings can hold.
    pub frames_per_worker: u32,
    /// Bytes of a frame: 2048, or 4096 for jumbo packets.
    pub frame_size: u32,
    /// Entries of each receive and transmit ring, a power of two.
    pub ring_size: u32,
    /// What a worker does when there is nothing to do.
    pub idle: IdlePolicy,
    /// The host path, if wanted.
    pub tun: Option<TunSetup>,
    /// File that keeps sequence numbers over a crash, so that none is used twice with one key.
    pub checkpoint: PathBuf,
    /// Seed of the five-tuple hash.
    pub hash_seed: u64,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSetup {
    /// The core it is pinned to; `None` leaves it to the scheduler.
    pub core: Option<u16>,
}

/// What a worker does when its rings are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdlePolicy {
    /// Polls for ever: lowest latency, takes the whole core.
    Spin,
    /// Polls for a while, then sleeps in poll(2).
    Adaptive,
    /// Sleeps at once: for shared cores.
    Poll,
}

/// Which side an interface faces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The site.
    Inside,
    /// The peers.
    Outside,
    /// Both, on one interface.
    Both,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSetup {
    /// Its name.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Its MTU in bytes.
    pub mtu: u32,
    /// How many queues to serve, from queue 0.
    pub queues: u16,
    /// Which side it faces.
    pub role: Role,
    /// Try zero copy first.
    pub zero_copy: bool,
}

/// The host path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunSetup {
    /// Name of the TUN device.
    pub name: String,
    /// Its MTU in bytes.
    pub mtu: u16,
}

/// What was got from the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupReport {
    /// One entry a port, in the order of the set-up.
    pub ports: Vec<PortReport>,
    /// Which implementation of AES-GCM runs.
    pub aead: String,
    /// From the request to ready, in microseconds.
    pub micros: u64,
}

/// How a port is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortReport {
    /// Its name.
    pub interface: String,
    /// Zero copy or copy.
    pub mode: PortMode,
    /// XDP runs in the driver (native), not in the generic hook.
    pub native_xdp: bool,
    /// Packets of several buffers can be received and sent.
    pub multi_buffer: bool,
    /// Queues served.
    pub queues: u16,
}

/// How frames move between the driver and the rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortMode {
    /// The driver writes into our memory.
    ZeroCopy,
    /// The kernel copies.
    Copy,
}
