//! Counters. All of them count from the start of the data plane process and only grow.

use serde::{Deserialize, Serialize};

use crate::{Drops, PortId, Spi, TunnelId, WorkerId};

/// Which counters are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsPage {
    /// The first tunnel wanted; workers and ports come with the page that starts at 0.
    pub from: TunnelId,
    /// At most this many tunnels (the data plane caps it at what fits a message).
    pub count: u32,
}

/// A page of counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// When the workers' counters were read, in nanoseconds of the monotonic clock.
    pub at_nanos: u64,
    /// Commits so far.
    pub generation: u64,
    /// Resident memory of the data plane in bytes.
    pub memory_bytes: u64,
    /// The workers (first page only).
    pub workers: Vec<WorkerStats>,
    /// The ports (first page only).
    pub ports: Vec<PortStats>,
    /// Tunnels in the order of their numbers.
    pub tunnels: Vec<TunnelStats>,
    /// Where the next page starts, if there is one.
    pub next: Option<TunnelId>,
}

/// Where a worker's time went, in nanoseconds. Their sum is its life time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegimeTimes {
    /// Polled and found nothing.
    pub idle: u64,
    /// Slept in poll(2).
    pub asleep: u64,
    /// Handled packets.
    pub busy: u64,
    /// Waited for the kernel to take frames.
    pub backpressure: u64,
    /// Housekeeping: commands, counters, timers.
    pub housekeeping: u64,
}

/// A worker's counters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStats {
    /// Which worker.
    pub id: WorkerId,
    /// The core it is pinned to.
    pub core: Option<u16>,
    /// Where its time went.
    pub times: RegimeTimes,
    /// Batches handled.
    pub batches: u64,
    /// Packets received on its sockets.
    pub received: u64,
    /// Packets handed to its sockets.
    pub sent: u64,
    /// Packets handed to other workers.
    pub handed_off: u64,
    /// Packets given to the host.
    pub to_host: u64,
    /// Packets taken from the host.
    pub from_host: u64,
    /// ICMP errors sent.
    pub icmp_sent: u64,
    /// Frames in its free list.
    pub free_frames: u32,
    /// Drops that belong to no tunnel.
    pub drops: Drops,
}

/// A port's counters, over all queues.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortStats {
    /// Which port.
    pub id: PortId,
    /// The interface works.
    pub up: bool,
    /// Frames received.
    pub received: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Frames sent.
    pub sent: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Frames that the kernel dropped before our ring, for lack of room there.
    pub ring_full: u64,
    /// Frames that the kernel dropped because it had no free frame from us.
    pub fill_empty: u64,
    /// Frames that the kernel dropped for other reasons: too long, or of several buffers of which
    /// too few were free.
    pub kernel_dropped: u64,
}

/// A tunnel's counters, over all workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TunnelStats {
    /// Which tunnel.
    pub id: TunnelId,
    /// Inner packets sent.
    pub sent: u64,
    /// Bytes of inner packets sent.
    pub sent_bytes: u64,
    /// Inner packets received.
    pub received: u64,
    /// Bytes of inner packets received.
    pub received_bytes: u64,
    /// Milliseconds since an authentic packet came in; `None` before the first.
    pub idle_millis: Option<u64>,
    /// Largest inner packet in bytes that fits without fragmentation; 0 without an outbound SA.
    pub inside_mtu: u16,
    /// The worker that decrypts.
    pub owner: Option<WorkerId>,
    /// The outbound SA.
    pub outbound: Option<OutboundSaStats>,
    /// The inbound SAs.
    pub inbound: Vec<InboundSaStats>,
    /// Drops by reason.
    pub drops: Drops,
}

/// An outbound SA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboundSaStats {
    /// Its SPI.
    pub spi: Spi,
    /// The next sequence number.
    pub next_sequence: u64,
}

/// An inbound SA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundSaStats {
    /// Its SPI.
    pub spi: Spi,
    /// The highest sequence number authenticated.
    pub highest_sequence: u64,
}
