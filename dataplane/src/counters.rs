//! What a worker counts.
//!
//! Plain integers owned by one worker, so that counting costs an addition; a copy is handed out
//! during housekeeping when somebody asks.

use hawser_api::{DropReason, Drops, TunnelId};

/// Counters of one tunnel on one worker.
#[derive(Clone, Debug, Default)]
pub struct TunnelCounters {
    /// Inner packets sent.
    pub sent: u64,
    /// Bytes of inner packets sent.
    pub sent_bytes: u64,
    /// Inner packets received.
    pub received: u64,
    /// Bytes of inner packets received.
    pub received_bytes: u64,
    /// When the last authentic packet came in, in nanoseconds of the monotonic clock; 0 before
    /// the first.
    pub last_received: u64,
    /// Drops by reason.
    pub drops: Drops,
}

impl TunnelCounters {
    /// Adds another worker's counters for the same tunnel.
    pub fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.received += other.received;
        self.received_bytes += other.received_bytes;
        self.last_received = self.last_received.max(other.last_received);
        self.drops.merge(&other.drops);
    }
}

/// All that the packet path of one worker counts.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Batches handled.
    pub batches: u64,
    /// Packets that came in.
    pub received: u64,
    /// Packets handed to other workers.
    pub handed_off: u64,
    /// Packets given to the host.
    pub to_host: u64,
    /// Packets taken from the host.
    pub from_host: u64,
    /// ICMP errors made.
    pub icmp_sent: u64,
    /// Drops that belong to no tunnel.
    pub drops: Drops,
    /// By tunnel number; grown when the tables grow, never in the packet loop.
    pub tunnels: Vec<TunnelCounters>,
}

impl Counters {
    /// Counts one packet dropped outside any tunnel.
    #[inline]
    pub fn drop(&mut self, reason: DropReason) {
        self.drops.add(reason, 1);
    }

    /// Counts one packet dropped in a tunnel.
    #[inline]
    pub fn drop_in(&mut self, tunnel: TunnelId, reason: DropReason) {
        match self.tunnels.get_mut(tunnel.index()) {
            Some(counters) => counters.drops.add(reason, 1),
            None => self.drop(reason),
        }
    }

    /// All drops, those in tunnels included.
    #[must_use]
    pub fn all_drops(&self) -> Drops {
        let mut all = self.drops.clone();
        for tunnel in &self.tunnels {
            all.merge(&tunnel.drops);
        }
        all
    }

    /// Makes room for tunnels up to `count`.
    pub fn grow(&mut self, count: usize) {
        if self.tunnels.len() < count {
            self.tunnels.resize_with(count, TunnelCounters::default);
        }
    }
}
