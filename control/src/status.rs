//! What `hawser status` shows: the state of everything, in words that stay the same from version
//! to version, with rates over the last second.

mod history;

use std::{collections::BTreeMap, net::IpAddr};

use hawser_api::{Ceiling, Drops, Spi};
pub use history::{History, Sample, Span};
use serde::{Deserialize, Serialize};

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// This gateway.
    pub gateway: GatewayStatus,
    /// The data plane process.
    pub dataplane: DataplaneStatus,
    /// Its workers.
    pub workers: Vec<WorkerStatus>,
    /// Its interfaces.
    pub ports: Vec<PortStatus>,
    /// Tunnels, in the order of the configuration.
    pub tunnels: Vec<TunnelStatus>,
    /// Key exchanges; none when all tunnels have manual keys.
    pub ike: Option<ExchangeStatus>,
    /// All tunnels together.
    pub total: Traffic,
    /// Drops of tunnels and workers together, by reason.
    pub drops: BTreeMap<String, u64>,
    /// Routes by table.
    pub routes: BTreeMap<String, usize>,
    /// Neighbours whose Ethernet address is known.
    pub neighbours: usize,
}

/// This gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GatewayStatus {
    /// Its name.
    pub name: String,
    /// Version of this program.
    pub version: String,
    /// Process id of control.
    pub pid: u32,
    /// The configuration file.
    pub config: String,
    /// Seconds since control started.
    pub uptime_seconds: u64,
    /// Reloads that were taken up.
    pub reloads: u64,
    /// What stands in the way of the configuration being in force, if anything.
    pub problem: Option<String>,
}

/// The data plane process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataplaneStatus {
    /// `running`, `starting`, `refused` (it runs but takes no tables, so it forwards nothing),
    /// `waiting` (for interfaces) or `down`.
    pub state: String,
    /// Its process id.
    pub pid: Option<u32>,
    /// Seconds since it was set up or taken over.
    pub uptime_seconds: u64,
    /// It was already running when this control started.
    pub taken_over: bool,
    /// How often it had to be started again.
    pub restarts: u64,
    /// Why it was started again the last time.
    pub last_restart: Option<String>,
    /// Which implementation of AES-GCM runs.
    pub aead: Option<String>,
    /// From request to ready, in microseconds.
    pub setup_micros: Option<u64>,
    /// Commits so far.
    pub generation: u64,
    /// Resident memory.
    pub memory_bytes: u64,
}

/// A worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its number.
    pub id: u16,
    /// The core it is pinned to.
    pub core: Option<u16>,
    /// Where its time went in the last second; the shares add up to 1.
    pub time: TimeShares,
    /// Packets received a second.
    pub packets_per_second: u64,
    /// Packets a batch in the last second.
    pub packets_per_batch: f64,
    /// Packets received.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets handed to the worker that owns their SA.
    pub handed_off: u64,
    /// Packets to the host.
    pub to_host: u64,
    /// Packets from the host.
    pub from_host: u64,
    /// ICMP errors sent.
    pub icmp_sent: u64,
    /// Free frames.
    pub free_frames: u32,
    /// Drops that belong to no tunnel.
    pub drops: BTreeMap<String, u64>,
}

/// Shares of a worker's time, each from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TimeShares {
    /// Polled and found nothing.
    pub idle: f64,
    /// Slept.
    pub asleep: f64,
    /// Handled packets.
    pub busy: f64,
    /// Waited for the kernel to take frames.
    pub backpressure: f64,
    /// Commands, counters, timers.
    pub housekeeping: f64,
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PortStatus {
    /// Its name.
    pub interface: String,
    /// `inside`, `outside` or `both`.
    pub role: String,
    /// `up`, `down`, `gone` or `not served`.
    pub state: String,
    /// What should be known about it.
    pub note: Option<String>,
    /// `zero_copy` or `copy`.
    pub mode: Option<String>,
    /// XDP runs in the driver.
    pub native_xdp: bool,
    /// Packets of several buffers can be received and sent.
    pub multi_buffer: bool,
    /// Queues served.
    pub queues: u16,
    /// Frames received a second.
    pub received_per_second: u64,
    /// Frames sent a second.
    pub sent_per_second: u64,
    /// Bits received a second.
    pub received_bits_per_second: u64,
    /// Bits sent a second.
    pub sent_bits_per_second: u64,
    /// Frames received.
    pub received: u64,
    /// Frames sent.
    pub sent: u64,
    /// Frames that the kernel dropped for lack of room in our ring.
    pub ring_full: u64,
    /// Frames that the kernel dropped because it had no free frame of ours.
    pub fill_empty: u64,
    /// Frames that the kernel dropped for other reasons.
    pub kernel_dropped: u64,
}

/// Traffic of a tunnel, or of all. Packets and bits are those of inner packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Bits sent a second.
    pub out_bits_per_second: u64,
    /// Packets sent a second.
    pub out_packets_per_second: u64,
    /// Bits received a second.
    pub in_bits_per_second: u64,
    /// Packets received a second.
    pub in_packets_per_second: u64,
    /// Packets sent.
    pub sent: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets received.
    pub received: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Packets dropped a second.
    pub dropped_per_second: u64,
}

/// A tunnel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TunnelStatus {
    /// Its full name.
    pub name: String,
    /// Its connection.
    pub connection: String,
    /// Its number in the data plane.
    pub id: u32,
    /// Our outside address.
    pub local: IpAddr,
    /// The peer's. Of one that may call from anywhere, where it called from, or `any` while it has
    /// not.
    pub remote: String,
    /// `up`, `down` (no data plane) or what hinders it, in a word or two.
    pub state: String,
    /// What hinders it and what to do about it.
    pub reason: Option<String>,
    /// The outside interface.
    pub interface: Option<String>,
    /// Where outer packets are handed to.
    pub next_hop: Option<IpAddr>,
    /// Cipher and integrity.
    pub suite: Option<String>,
    /// Largest inner packet without fragmentation.
    pub inside_mtu: u16,
    /// The worker that decrypts.
    pub owner: Option<u16>,
    /// Milliseconds since an authentic packet came in.
    pub idle_millis: Option<u64>,
    /// Rates and counters.
    pub traffic: Traffic,
    /// What the far end lets through, 0 for no limit.
    pub ceiling: Ceiling,
    /// The share of the ceiling in use, from 0: of bits or packets, whichever is nearer to it.
    pub ceiling_used: Option<f64>,
    /// The SA that sends.
    pub outbound: Option<OutboundStatus>,
    /// The SAs that receive.
    pub inbound: Vec<InboundStatus>,
    /// Drops by reason.
    pub drops: BTreeMap<String, u64>,
    /// What should be known about it.
    pub warning: Option<String>,
    /// The key exchange; none with manual keys.
    pub ike: Option<IkeStatus>,
}

/// A tunnel's key exchange, in AWS's words. Times in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IkeStatus {
    /// The IKE SA: `Established`, `Rekeying`, `Negotiating` or `Down`.
    pub phase1: String,
    /// Its child SAs, the same words.
    pub phase2: String,
    /// Algorithms of the IKE SA.
    pub suite: Option<String>,
    /// Who the peer has proved to be.
    pub peer: Option<String>,
    /// Where a NAT was found: `unknown`, `none`, `local`, `remote`, `both`, or `forced`.
    pub nat: String,
    /// ESP goes in UDP.
    pub encapsulated: bool,
    /// Our address and port.
    pub local: Option<String>,
    /// The peer's.
    pub remote: Option<String>,
    /// SPIs of the IKE SA, the initiator's first, 16 hexadecimal digits each.
    pub spis: Option<(String, String)>,
    /// We began.
    pub initiator: Option<bool>,
    /// Age of the IKE SA.
    pub established: Option<u64>,
    /// Until the IKE SA is replaced by a new one.
    pub rekey_in: Option<u64>,
    /// Until the IKE SA ends if it could not be replaced.
    pub expires_in: Option<u64>,
    /// The child SAs.
    pub children: Vec<ChildSaStatus>,
    /// What went wrong last, and what to do about it.
    pub last_error: Option<String>,
    /// Who has to do something about it: `configuration`, `peer`, `network` or `we`.
    pub blame: Option<String>,
    /// Counts since the tunnel was configured, by name.
    pub counts: BTreeMap<String, u64>,
}

/// A child SA pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChildSaStatus {
    /// The SPI that we chose.
    pub inbound: String,
    /// The SPI that the peer chose.
    pub outbound: String,
    /// We send with it.
    pub active: bool,
    /// Cipher and integrity.
    pub suite: String,
    /// Extended sequence numbers.
    pub esn: bool,
    /// The group of its own key exchange (PFS).
    pub pfs: Option<String>,
    /// Its state in AWS's words.
    pub state: String,
    /// Until it is replaced by a new one.
    pub rekey_in: Option<u64>,
    /// Until it ends.
    pub expires_in: Option<u64>,
}

/// Key exchanges of all tunnels together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExchangeStatus {
    /// Tunnels with a key exchange.
    pub tunnels: usize,
    /// Those whose IKE SA and child SA stand.
    pub established: usize,
    /// IKE SAs that peers have begun and not authenticated.
    pub half_open: usize,
    /// Counts since the start, by name.
    pub counts: BTreeMap<String, u64>,
}

/// An outbound SA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutboundStatus {
    /// Its SPI as eight hexadecimal digits.
    pub spi: String,
    /// The next sequence number.
    pub next_sequence: u64,
    /// The share of its sequence numbers that is used, from 0 to 1.
    pub sequence_used: f64,
}

/// An inbound SA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InboundStatus {
    /// Its SPI as eight hexadecimal digits.
    pub spi: String,
    /// The highest sequence number received.
    pub highest_sequence: u64,
}

/// An SPI as it is shown everywhere.
#[must_use]
pub fn spi_text(spi: Spi) -> String {
    spi.to_string()
}

/// Counters of drops by name.
#[must_use]
pub fn drops_by_name(drops: &Drops) -> BTreeMap<String, u64> {
    drops
        .iter()
        .map(|(reason, n)| (reason.name().to_owned(), n))
        .collect()
}
