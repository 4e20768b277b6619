//! The generator: which frames to make, how fast, and how many it made.

/// Longest header a template holds: Ethernet with one tag, IPv6, UDP.
pub const HEADER_MAX: usize = 66;
/// Length of an encoded [`Template`].
pub const TEMPLATE_BYTES: usize = 96;
/// Entries of `SIZES`.
pub const SIZES_MAX: u32 = 64;

/// Positions in an encoded [`GeneratorConfig`].
pub mod generator_word {
    /// Number of the first flow.
    pub const FIRST_FLOW: usize = 0;
    /// How many flows.
    pub const FLOWS: usize = 1;
    /// Entries of `SIZES` in use.
    pub const SIZES: usize = 2;
    /// Time between packets in 2^-8 ns.
    pub const GAP: usize = 3;
    /// First packet not before, ns.
    pub const START: usize = 4;
    /// No packet from here on, ns; 0 is never.
    pub const DEADLINE: usize = 5;
    /// Words of the value.
    pub const COUNT: usize = 6;
}

/// Positions in an encoded [`Template`].
pub mod template_byte {
    /// Length of the header up to the payload: 42, 46, 62 or 66; anything else is refused.
    pub const HEADER_LENGTH: usize = 0;
    /// Index in `PORTS`.
    pub const EGRESS: usize = 1;
    /// Sum of the IPv4 header's 16-bit words with length and check sum 0, native order, 4 bytes.
    pub const IPV4_SUM: usize = 4;
    /// First byte of the header.
    pub const HEADER: usize = 16;
}

/// What a generator does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GeneratorConfig {
    /// Number of the first flow, as the sink sees it.
    pub first_flow: u32,
    /// How many flows; they are served round robin.
    pub flows: u32,
    /// Entries of `SIZES` in use; packet k of a flow has length `SIZES[k % sizes]`.
    pub sizes: u32,
    /// Packets per second over all flows; 0 is as fast as possible.
    pub packets_per_second: u64,
    /// First packet not before this time.
    pub start_ns: u64,
    /// No packet from this time on; 0 is never.
    pub deadline_ns: u64,
}

impl GeneratorConfig {
    /// The value of `GENERATOR`.
    #[must_use]
    pub fn encode(&self) -> [u64; generator_word::COUNT] {
        let mut words = [0; generator_word::COUNT];
        words[generator_word::FIRST_FLOW] = u64::from(self.first_flow);
        words[generator_word::FLOWS] = u64::from(self.flows);
        words[generator_word::SIZES] = u64::from(self.sizes.min(SIZES_MAX));
        words[generator_word::GAP] = match self.packets_per_second {
            0 => 0,
            rate => (1_000_000_000 << 8) / rate,
        };
        words[generator_word::START] = self.start_ns;
        words[generator_word::DEADLINE] = self.deadline_ns;
        words
    }
}

/// What a generator did: the value of `GENERATOR_STATE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GeneratorState {
    /// Packets sent.
    pub sent_packets: u64,
    /// Bytes of the frames sent.
    pub sent_bytes: u64,
    /// Runs in which nothing was due.
    pub idle: u64,
    /// Packets not made: frame length or template unusable.
    pub refused: u64,
}

impl GeneratorState {
    /// Words of the value; behind the counters come the next due time (2^-8 ns) and the next flow.
    pub const WORDS: usize = 6;

    /// Reads the value of `GENERATOR_STATE`.
    #[must_use]
    pub fn decode(words: &[u64; Self::WORDS]) -> Self {
        Self {
            sent_packets: words[0],
            sent_bytes: words[1],
            idle: words[2],
            refused: words[3],
        }
    }
}

/// Source and destination of a flow, both of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// IPv4 source and destination.
    V4([u8; 4], [u8; 4]),
    /// IPv6 source and destination.
    V6([u8; 16], [u8; 16]),
}

/// An 802.1Q tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanTag(u16);

impl VlanTag {
    /// A tag for a VLAN number between 1 and 4094.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number >= 1 && number <= 4094 {
            Some(Self(number))
        } else {
            None
        }
    }
}

/// Why a template cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// `PORTS` has 8 entries.
    Egress,
}

/// The header of one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// Index in `PORTS`.
    pub egress: u8,
    /// Destination MAC: the gateway's inside port.
    pub destination_mac: [u8; 6],
    /// Source MAC.
    pub source_mac: [u8; 6],
    /// Optional VLAN tag.
    pub vlan: Option<VlanTag>,
    /// Inner source and destination.
    pub address: Address,
    /// UDP source port.
    pub source_port: u16,
    /// UDP destination port.
    pub destination_port: u16,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Sets Don't Fragment (IPv4).
    pub dont_fragment: bool,
}

impl Template {
    /// Length of the header before the payload.
    #[must_use]
    pub const fn header_len(&self) -> usize {
        14 + if self.vlan.is_some() { 4 } else { 0 }
            + match self.address {
                Address::V4(..) => 20,
                Address::V6(..) => 40,
            }
            + 8
    }

    /// The value of `TEMPLATES`. Lengths and check sums are left to the program.
    ///
    /// # Errors
    /// `PORTS` has no such egress.
    pub fn encode(&self) -> Result<[u8; TEMPLATE_BYTES], TemplateError> {
        if self.egress >= 8 {
            return Err(TemplateError::Egress);
        }
        let mut out = [0; TEMPLATE_BYTES];
        out[template_byte::HEADER_LENGTH] = self.header_len() as u8;
        out[template_byte::EGRESS] = self.egress;
        let header = &mut out[template_byte::HEADER..];
        header[..6].copy_from_slice(&self.destination_mac);
        header[6..12].copy_from_slice(&self.source_mac);
        let mut at = 12;
        if let Some(VlanTag(number)) = self.vlan {
            header[12..14].copy_from_slice(&0x8100_u16.to_be_bytes());
            header[14..16].copy_from_slice(&number.to_be_bytes());
            at = 16;
        }
        let ether_type: u16 = match self.address {
            Address::V4(..) => 0x0800,
            Address::V6(..) => 0x86dd,
        };
        header[at..at + 2].copy_from_slice(&ether_type.to_be_bytes());
        let ip = &mut header[at + 2..];
        let (udp, sum) = match self.address {
            Address::V4(source, destination) => {
                ip[0] = 0x45;
                ip[1] = self.traffic_class;
                ip[6] = if self.dont_fragment { 0x40 } else { 0 };
                ip[8] = self.hop_limit;
                ip[9] = 17;
                ip[12..16].copy_from_slice(&source);
                ip[16..20].copy_from_slice(&destination);
                let sum = ip[..20]
                    .chunks(2)
                    .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
                    .sum();
                (20, sum)
            }
            Address::V6(source, destination) => {
                ip[0] = 0x60 | self.traffic_class >> 4;
                ip[1] = self.traffic_class << 4;
                ip[6] = 17;
                ip[7] = self.hop_limit;
                ip[8..24].copy_from_slice(&source);
                ip[24..40].copy_from_slice(&destination);
                (40, 0_u32)
            }
        };
        ip[udp..udp + 2].copy_from_slice(&self.source_port.to_be_bytes());
        ip[udp + 2..udp + 4].copy_from_slice(&self.destination_port.to_be_bytes());
        out[template_byte::IPV4_SUM..template_byte::IPV4_SUM + 4]
            .copy_from_slice(&sum.to_ne_bytes());
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(address: Address, vlan: Option<VlanTag>) -> Template {
        Template {
            egress: 3,
            destination_mac: [2, 0, 0, 0, 0, 1],
            source_mac: [2, 0, 0, 0, 0, 2],
            vlan,
            address,
            source_port: 0x1234,
            destination_port: 9,
            hop_limit: 64,
            traffic_class: 0xb8,
            dont_fragment: true,
        }
    }

    #[test]
    fn ipv4_header_bytes() {
        let out = template(Address::V4([10, 0, 0, 1], [10, 0, 0, 2]), None)
            .encode()
            .unwrap();
        assert_eq!(out[0], 42);
        assert_eq!(out[1], 3);
        assert_eq!(
            out[16..58],
            [
                2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0xb8, 0, 0, 0, 0, 0x40, 0, 64, 17,
                0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 9, 0, 0, 0, 0
            ]
        );
        let sum = u32::from_ne_bytes(out[4..8].try_into().unwrap());
        assert_eq!(sum, 0x45b8 + 0x4000 + 0x4011 + 0x0a00 + 1 + 0x0a00 + 2);
    }

    #[test]
    fn longest_header_fits() {
        let tagged = template(Address::V6([1; 16], [2; 16]), VlanTag::new(7));
        assert_eq!(tagged.header_len(), HEADER_MAX);
        let out = tagged.encode().unwrap();
        assert_eq!(out[28..34], [0x81, 0, 0, 7, 0x86, 0xdd]);
        assert_eq!(out[34..36], [0x6b, 0x80]);
    }

    #[test]
    fn unknown_egress_is_refused() {
        let mut bad = template(Address::V4([0; 4], [0; 4]), None);
        bad.egress = 8;
        assert_eq!(bad.encode(), Err(TemplateError::Egress));
        assert_eq!(VlanTag::new(0), None);
        assert_eq!(VlanTag::new(4095), None);
    }
}
