//! The policer: which tunnel a packet belongs to, what that tunnel may carry, what it carried.

/// Length of an encoded [`TunnelKey`].
pub const TUNNEL_KEY_BYTES: usize = 40;
/// Words in an encoded [`Limit`].
pub const LIMIT_WORDS: usize = 5;
/// Words in a [`Meter`].
pub const METER_WORDS: usize = 10;

/// Positions in an encoded [`Limit`].
pub mod limit_word {
    /// Cost of a byte in 2^-16 ns; 0 is free.
    pub const BYTE_COST: usize = 0;
    /// Cost of a packet in 2^-8 ns; 0 is free.
    pub const PACKET_COST: usize = 1;
    /// Depth of both buckets in 2^-8 ns.
    pub const DEPTH: usize = 2;
    /// Packets in a million to lose.
    pub const LOSS_PPM: usize = 3;
    /// Always 0.
    pub const RESERVED: usize = 4;
}

/// Positions in a [`Meter`].
pub mod meter_word {
    /// When the bit bucket will be full again, 2^-8 ns.
    pub const BITS_DUE: usize = 0;
    /// When the packet bucket will be full again, 2^-8 ns.
    pub const PACKETS_DUE: usize = 1;
    /// Packets forwarded.
    pub const PASSED_PACKETS: usize = 2;
    /// Bytes forwarded.
    pub const PASSED_BYTES: usize = 3;
    /// Packets above the bit ceiling.
    pub const OVER_BITS: usize = 4;
    /// Packets above the packet ceiling.
    pub const OVER_PACKETS: usize = 5;
    /// Bytes of all dropped packets.
    pub const DROPPED_BYTES: usize = 6;
    /// Packets lost on purpose.
    pub const LOST_PACKETS: usize = 7;
    /// Time of the last packet, ns.
    pub const LAST: usize = 8;
    /// Packets dropped because too many processors changed the meter at once.
    pub const CONTENDED: usize = 9;
}

/// Packets the policer counts outside of any tunnel; the variant is the index in `POLICER_STATS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PolicerStat {
    /// Belonged to a tunnel (forwarded or dropped: see its meter).
    Policed = 0,
    /// Anything else, forwarded untouched.
    Other = 1,
    /// The ingress port has no peer; left to the network stack.
    NoPeer = 2,
    /// No room for another meter; forwarded unmetered.
    TableFull = 3,
}

/// Entries of `POLICER_STATS`.
pub const POLICER_STATS: u32 = 4;

/// One direction of one tunnel, as the outside network sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TunnelKey {
    /// Outer source; IPv4 as `::ffff:a.b.c.d`.
    pub source: [u8; 16],
    /// Outer destination; IPv4 as `::ffff:a.b.c.d`.
    pub destination: [u8; 16],
    /// UDP source port; 0 for plain ESP.
    pub source_port: u16,
    /// UDP destination port; 0 for plain ESP.
    pub destination_port: u16,
    /// 50 (ESP) or 17 (ESP in UDP).
    pub protocol: u8,
}

impl TunnelKey {
    /// The map key: source, destination, both ports big endian, protocol, three zeros.
    #[must_use]
    pub fn encode(&self) -> [u8; TUNNEL_KEY_BYTES] {
        let mut key = [0; TUNNEL_KEY_BYTES];
        key[..16].copy_from_slice(&self.source);
        key[16..32].copy_from_slice(&self.destination);
        key[32..34].copy_from_slice(&self.source_port.to_be_bytes());
        key[34..36].copy_from_slice(&self.destination_port.to_be_bytes());
        key[36] = self.protocol;
        key
    }

    /// The reverse of [`encode`](Self::encode).
    #[must_use]
    pub fn decode(key: &[u8; TUNNEL_KEY_BYTES]) -> Self {
        let mut source = [0; 16];
        let mut destination = [0; 16];
        source.copy_from_slice(&key[..16]);
        destination.copy_from_slice(&key[16..32]);
        Self {
            source,
            destination,
            source_port: u16::from_be_bytes([key[32], key[33]]),
            destination_port: u16::from_be_bytes([key[34], key[35]]),
            protocol: key[36],
        }
    }
}

/// What one direction of one tunnel may carry; 0 means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Bits of outer IP packets per second.
    pub bits_per_second: u64,
    /// Outer packets per second.
    pub packets_per_second: u64,
    /// Bucket depth in time: what a silent tunnel may send at once is this long at its ceiling.
    pub burst_ns: u64,
    /// Packets in a million that are lost at random.
    pub loss_ppm: u32,
}

impl Limit {
    /// The map value. Costs are rounded to 2^-16 ns a byte and 2^-8 ns a packet: at 100 Gbps and
    /// 10 Mpps the error is below 0.05 %.
    #[must_use]
    pub fn encode(&self) -> [u64; LIMIT_WORDS] {
        const NS: u64 = 1_000_000_000;
        // 0 stays "no limit"; no ceiling, however high, rounds down to it.
        let cost = |shifted: u64, rate: u64| {
            (shifted + rate / 2)
                .checked_div(rate)
                .map_or(0, |cost| cost.max(1))
        };
        let mut words = [0; LIMIT_WORDS];
        words[limit_word::BYTE_COST] = cost((8 * NS) << 16, self.bits_per_second);
        words[limit_word::PACKET_COST] = cost(NS << 8, self.packets_per_second);
        words[limit_word::DEPTH] = self.burst_ns.min(u64::MAX >> 16) << 8;
        words[limit_word::LOSS_PPM] = u64::from(self.loss_ppm);
        words
    }
}

/// What one direction of one tunnel carried since its first packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// Packets forwarded.
    pub passed_packets: u64,
    /// Bytes forwarded.
    pub passed_bytes: u64,
    /// Packets dropped above the bit ceiling.
    pub over_bits_packets: u64,
    /// Packets dropped above the packet ceiling.
    pub over_packets_packets: u64,
    /// Bytes of all dropped packets.
    pub dropped_bytes: u64,
    /// Packets lost on purpose ([`Limit::loss_ppm`]).
    pub lost_packets: u64,
    /// Time of the last packet.
    pub last_ns: u64,
    /// Packets dropped because too many processors changed the meter at once; 0 is expected.
    pub contended_packets: u64,
}

impl Meter {
    /// Reads a value of `METERS`.
    #[must_use]
    pub fn decode(words: &[u64; METER_WORDS]) -> Self {
        Self {
            passed_packets: words[meter_word::PASSED_PACKETS],
            passed_bytes: words[meter_word::PASSED_BYTES],
            over_bits_packets: words[meter_word::OVER_BITS],
            over_packets_packets: words[meter_word::OVER_PACKETS],
            dropped_bytes: words[meter_word::DROPPED_BYTES],
            lost_packets: words[meter_word::LOST_PACKETS],
            last_ns: words[meter_word::LAST],
            contended_packets: words[meter_word::CONTENDED],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn aws_ceiling_costs() {
        let limit = Limit {
            bits_per_second: 1_250_000_000,
            packets_per_second: 140_000,
            burst_ns: 1_000_000,
            loss_ppm: 7,
        };
        // 6.4 ns a byte; 7142.857 ns a packet.
        assert_eq!(limit.encode(), [419_430, 1_828_571, 256_000_000, 7, 0]);
        assert_eq!(Limit::default().encode(), [0; LIMIT_WORDS]);
    }

    proptest! {
        #[test]
        fn tunnel_key_round_trip(
            source: [u8; 16], destination: [u8; 16], source_port: u16, destination_port: u16,
            protocol: u8,
        ) {
            let key = TunnelKey { source, destination, source_port, destination_port, protocol };
            prop_assert_eq!(TunnelKey::decode(&key.encode()), key);
        }

        #[test]
        fn cost_is_within_a_twentieth_of_a_percent(rate in 1_000_000_u64..100_000_000_000) {
            let cost = Limit { bits_per_second: rate, ..Limit::default() }.encode()[0];
            let back = 8e9 * 65536.0 / cost as f64;
            prop_assert!((back / rate as f64 - 1.0).abs() < 5e-4);
        }
    }
}
