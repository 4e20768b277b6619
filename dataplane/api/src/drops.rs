//! Why a packet was not forwarded. The variant is the counter: no packet disappears without one.

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            /// All reasons, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name used in JSON, metrics and tables: `snake_case`, stable.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// One sentence for a person: what happened and, where there is something, what to do.
            #[must_use]
            pub fn explanation(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+).trim_start(),)+
                }
            }
        }
    };
}

reasons! {
    /// Neither IPv4 nor IPv6.
    NotIp = "not_ip",
    /// The packet ends before its headers do.
    Truncated = "truncated",
    /// IP version or header length makes no sense.
    BadIpHeader = "bad_ip_header",
    /// The IPv4 header checksum is wrong.
    BadIpChecksum = "bad_ip_checksum",
    /// The IP total length is larger than what arrived.
    BadIpLength = "bad_ip_length",
    /// More IPv6 extension headers than are walked.
    TooManyExtensionHeaders = "too_many_extension_headers",
    /// TTL or hop limit used up; an ICMP "time exceeded" was sent where allowed.
    TtlExpired = "ttl_expired",
    /// No route to the destination; an ICMP "unreachable" was sent where allowed.
    NoRoute = "no_route",
    /// A route says to discard.
    Blackhole = "blackhole",
    /// The next hop's link-layer address is not known: is the neighbour up?
    NoNeighbour = "no_neighbour",
    /// The next-hop group has no usable tunnel, or the tunnel has no outbound SA.
    TunnelDown = "tunnel_down",
    /// The outbound SA has used all sequence numbers it may use: rekey it.
    SequenceExhausted = "sequence_exhausted",
    /// Larger than the tunnel's MTU with DF set; ICMP told the sender the MTU to use.
    PacketTooBig = "packet_too_big",
    /// The packet does not fit the frame with its new headers.
    FrameTooSmall = "frame_too_small",
    /// The packet's IPv4 header cannot be fragmented any further.
    FragmentationFailed = "fragmentation_failed",
    /// Outbound packet outside the SA's traffic selectors.
    SelectorMismatchOut = "selector_mismatch_out",
    /// ESP packet too short for its headers, or not a multiple of the cipher's block.
    EspMalformed = "esp_malformed",
    /// An ESP packet that arrived as IP fragments: the peer or the path fragments after
    /// encryption; lower the peer's tunnel MTU.
    OuterFragment = "outer_fragment",
    /// No inbound SA has this SPI: the peer uses old keys or the wrong ones.
    UnknownSpi = "unknown_spi",
    /// The SPI is ours but the packet came from or to other addresses or ports than the tunnel's.
    WrongOuterAddress = "wrong_outer_address",
    /// Sequence number left of the replay window.
    ReplayOld = "replay_old",
    /// Sequence number already received.
    ReplayDuplicate = "replay_duplicate",
    /// Sequence number zero, or beyond the last that the SA allows.
    BadSequence = "bad_sequence",
    /// The integrity check failed: forged or damaged, or the keys differ.
    AuthenticationFailed = "authentication_failed",
    /// Decrypted padding is not 1, 2, 3, … or longer than the payload.
    BadPadding = "bad_padding",
    /// Decrypted next header is neither IPv4 nor IPv6.
    BadNextHeader = "bad_next_header",
    /// A dummy packet for traffic flow confidentiality (RFC 4303, section 2.6): discarded by design.
    DummyPacket = "dummy_packet",
    /// Decrypted packet outside the SA's traffic selectors.
    SelectorMismatchIn = "selector_mismatch_in",
    /// Outer header says "congestion experienced", the inner sender does not speak ECN
    /// (RFC 6040, section 4.2).
    EcnNotCapable = "ecn_not_capable",
    /// The decrypted inner packet is malformed.
    InnerMalformed = "inner_malformed",
    /// Out of frames.
    NoFrame = "no_frame",
    /// The transmit ring of the outgoing interface is full.
    TxRingFull = "tx_ring_full",
    /// The kernel took the frame and lost it because the interface's own queue was full (EBUSY).
    TxBusy = "tx_busy",
    /// The ring to the worker that owns the SA is full.
    HandoffFull = "handoff_full",
    /// The host's TUN device did not take the packet.
    HostFull = "host_full",
    /// The outgoing interface is down or gone.
    PortDown = "port_down",
    /// Multi-buffer packet larger than a jumbo frame, or no jumbo frame free.
    JumboFailed = "jumbo_failed",
}

impl std::fmt::Display for DropReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A counter for every reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drops([u64; DropReason::COUNT]);

impl Default for Drops {
    fn default() -> Self {
        Self([0; DropReason::COUNT])
    }
}

impl Drops {
    /// Counts `n` packets dropped for `reason`.
    #[inline]
    pub fn add(&mut self, reason: DropReason, n: u64) {
        self.0[reason as usize] += n;
    }

    /// Packets dropped for `reason`.
    #[must_use]
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Packets dropped for any reason.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The reasons that have counted something, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .iter()
            .map(|&r| (r, self.get(r)))
            .filter(|&(_, n)| n > 0)
    }

    /// Adds another set of counters to this one.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }
}

impl FromIterator<(DropReason, u64)> for Drops {
    fn from_iter<I: IntoIterator<Item = (DropReason, u64)>>(counts: I) -> Self {
        let mut drops = Self::default();
        for (reason, n) in counts {
            drops.add(reason, n);
        }
        drops
    }
}

// On the wire only what counted: most of the counters are zero most of the time.
impl Serialize for Drops {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.iter().collect::<Vec<_>>().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Drops {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<(DropReason, u64)>::deserialize(deserializer)?
            .into_iter()
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_snake_case() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert!(
            names
                .iter()
                .all(|n| n.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT);
    }

    #[test]
    fn merge_adds_reason_by_reason() {
        let mut a: Drops = [(DropReason::NoRoute, 2)].into_iter().collect();
        let b: Drops = [(DropReason::NoRoute, 3), (DropReason::NotIp, 1)]
            .into_iter()
            .collect();
        a.merge(&b);
        assert_eq!(a.get(DropReason::NoRoute), 5);
        assert_eq!(a.total(), 6);
        assert_eq!(a.iter().count(), 2);
    }
}
