//! Flows and the frames they consist of.

use std::{fmt, net::IpAddr, str::FromStr};

use anyhow::{Result, bail, ensure};
use hawser_lab_layout::{Address, MAGIC, PAYLOAD_HEADER, SIZES_MAX, Template, VlanTag};

use crate::topology::{Family, Mac, Side, host_address, inside_mac, single_address, site_mac};

/// Ethernet header without tag, bytes.
pub const ETHERNET: usize = 14;

/// One UDP flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSpec {
    /// Its number in the payload.
    pub number: u16,
    /// Destination MAC address.
    pub destination_mac: Mac,
    /// Source MAC address.
    pub source_mac: Mac,
    /// 802.1Q VLAN.
    pub vlan: Option<u16>,
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Don't Fragment (IPv4).
    pub dont_fragment: bool,
}

/// Which of the destination host's addresses flows go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoints {
    /// The one that all tunnels lead to.
    Spread,
    /// The one that only the first tunnel leads to.
    Single,
}

/// First UDP source port of [`flows`].
const FIRST_PORT: u16 = 10_000;

/// `count` flows from one site to the other that differ in their source port.
#[must_use]
pub fn flows(from: Side, family: Family, to: Endpoints, first: u16, count: u16) -> Vec<FlowSpec> {
    let destination = match to {
        Endpoints::Spread => host_address(from.other(), family),
        Endpoints::Single => single_address(from.other(), family),
    };
    (0..count)
        .map(|i| FlowSpec {
            number: first + i,
            destination_mac: inside_mac(from),
            source_mac: site_mac(from),
            vlan: None,
            source: host_address(from, family),
            destination,
            source_port: FIRST_PORT.wrapping_add(i),
            destination_port: 5001,
            hop_limit: 64,
            traffic_class: 0,
            dont_fragment: true,
        })
        .collect()
}

impl FlowSpec {
    /// The flow as the XDP generator wants it.
    ///
    /// # Errors
    /// When the families differ or the VLAN is none.
    pub fn template(&self) -> Result<Template> {
        let address = match (self.source, self.destination) {
            (IpAddr::V4(s), IpAddr::V4(d)) => Address::V4(s.octets(), d.octets()),
            (IpAddr::V6(s), IpAddr::V6(d)) => Address::V6(s.octets(), d.octets()),
            (s, d) => bail!("a flow from {s} to {d} mixes IPv4 and IPv6"),
        };
        let vlan = match self.vlan {
            None => None,
            Some(number) => match VlanTag::new(number) {
                None => bail!("VLAN {number} is not between 1 and 4094"),
                tag => tag,
            },
        };
        Ok(Template {
            egress: 0,
            destination_mac: self.destination_mac,
            source_mac: self.source_mac,
            vlan,
            address,
            source_port: self.source_port,
            destination_port: self.destination_port,
            hop_limit: self.hop_limit,
            traffic_class: self.traffic_class,
            dont_fragment: self.dont_fragment,
        })
    }

    /// The smallest frame of this flow, bytes: headers and stamp.
    #[must_use]
    pub fn smallest_frame(&self) -> usize {
        let ip = if self.source.is_ipv4() { 20 } else { 40 };
        ETHERNET + if self.vlan.is_some() { 4 } else { 0 } + ip + 8 + PAYLOAD_HEADER
    }
}

/// Lengths of the **inner IP packets** of a flow, in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes(Vec<u16>);

impl Sizes {
    /// All packets alike.
    #[must_use]
    pub fn fixed(bytes: u16) -> Self {
        Self(vec![bytes])
    }

    /// The usual Internet mix: 7 of 64, 4 of 594 and 1 of 1518 bytes on the wire, that is IP
    /// packets of 46, 576 and 1500 bytes; interleaved.
    #[must_use]
    pub fn imix() -> Self {
        let (s, m, l) = (46, 576, 1500);
        Self(vec![s, m, s, m, s, s, l, s, m, s, m, s])
    }

    /// The same mix with its large packets cut to what fits a tunnel.
    #[must_use]
    pub fn imix_within(largest: u16) -> Self {
        Self(Self::imix().0.into_iter().map(|n| n.min(largest)).collect())
    }

    /// The lengths.
    #[must_use]
    pub fn lengths(&self) -> &[u16] {
        &self.0
    }

    /// The largest.
    #[must_use]
    pub fn largest(&self) -> u16 {
        self.0.iter().copied().max().unwrap_or(0)
    }

    /// The mean, bytes.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.0.iter().map(|&n| f64::from(n)).sum::<f64>() / self.0.len().max(1) as f64
    }

    /// The length of a flow's packet, no smaller than the flow allows.
    #[must_use]
    pub fn length(&self, flow: &FlowSpec, sequence: u64) -> u16 {
        let link = ETHERNET + if flow.vlan.is_some() { 4 } else { 0 };
        let smallest = (flow.smallest_frame() - link) as u16;
        self.0[(sequence % self.0.len() as u64) as usize].max(smallest)
    }

    /// The lengths of the Ethernet frames of this flow, none smaller than it allows.
    #[must_use]
    pub fn frames(&self, flow: &FlowSpec) -> Vec<u32> {
        let link = ETHERNET + if flow.vlan.is_some() { 4 } else { 0 };
        self.0
            .iter()
            .map(|&n| (usize::from(n) + link).max(flow.smallest_frame()) as u32)
            .collect()
    }
}

impl FromStr for Sizes {
    type Err = anyhow::Error;

    /// `imix`, a number, or numbers with commas in between.
    fn from_str(text: &str) -> Result<Self> {
        if text == "imix" {
            return Ok(Self::imix());
        }
        let lengths: Vec<u16> = text
            .split(',')
            .map(|word| word.trim().parse::<u16>())
            .collect::<Result<_, _>>()
            .map_err(|_| anyhow::anyhow!("`{text}` is neither `imix` nor packet lengths"))?;
        ensure!(
            lengths.len() <= SIZES_MAX as usize,
            "at most {SIZES_MAX} lengths"
        );
        for &length in &lengths {
            ensure!(
                (46..=9000).contains(&length),
                "an inner packet has between 46 and 9000 bytes, not {length}"
            );
        }
        Ok(Self(lengths))
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::imix() {
            return f.write_str("imix");
        }
        let words: Vec<String> = self.0.iter().map(u16::to_string).collect();
        f.write_str(&words.join(","))
    }
}

/// What a test packet carries behind its UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The flow's number.
    pub flow: u16,
    /// The packet's number in the flow, from 0.
    pub sequence: u64,
    /// When it was made, nanoseconds of the monotonic clock.
    pub time: u64,
}

impl Stamp {
    /// The 18 bytes behind the UDP header.
    #[must_use]
    pub fn encode(&self) -> [u8; PAYLOAD_HEADER] {
        let mut out = [0; PAYLOAD_HEADER];
        out[..2].copy_from_slice(&MAGIC.to_be_bytes());
        out[2..4].copy_from_slice(&self.flow.to_be_bytes());
        out[4..10].copy_from_slice(&self.sequence.to_be_bytes()[2..]);
        out[10..].copy_from_slice(&self.time.to_be_bytes());
        out
    }

    /// Reads them.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let header: &[u8; PAYLOAD_HEADER] = payload.first_chunk()?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, &b| n << 8 | u64::from(b));
        (number(&header[..2]) == u64::from(MAGIC)).then(|| Self {
            flow: number(&header[2..4]) as u16,
            sequence: number(&header[4..10]),
            time: number(&header[10..]),
        })
    }
}

/// A frame of `length` bytes (IP packet, without Ethernet header) with right check sums.
///
/// # Errors
/// When the length cannot hold the headers, or [`FlowSpec::template`] fails.
pub fn frame(flow: &FlowSpec, stamp: Stamp, length: u16) -> Result<Vec<u8>> {
    let template = flow.template()?;
    let headers = template.header_len();
    let encoded = template.encode().map_err(|e| anyhow::anyhow!("{e:?}"))?;
    let ip_at = ETHERNET + if flow.vlan.is_some() { 4 } else { 0 };
    let total = ip_at + usize::from(length);
    ensure!(
        total >= headers + PAYLOAD_HEADER,
        "a packet of flow {} cannot have only {length} bytes",
        flow.number
    );
    let mut frame = vec![0; total];
    let header = &encoded[hawser_lab_layout::template_byte::HEADER..];
    frame[..headers].copy_from_slice(&header[..headers]);
    frame[headers..headers + PAYLOAD_HEADER].copy_from_slice(&stamp.encode());
    let udp_at = headers - 8;
    let udp_length = (total - udp_at) as u16;
    frame[udp_at + 4..udp_at + 6].copy_from_slice(&udp_length.to_be_bytes());
    let (addresses, v4) = match flow.source {
        IpAddr::V4(_) => (ip_at + 12..ip_at + 20, true),
        IpAddr::V6(_) => (ip_at + 8..ip_at + 40, false),
    };
    if v4 {
        frame[ip_at + 2..ip_at + 4].copy_from_slice(&length.to_be_bytes());
        let sum = !fold(sum(&frame[ip_at..ip_at + 20]));
        frame[ip_at + 10..ip_at + 12].copy_from_slice(&sum.to_be_bytes());
    } else {
        frame[ip_at + 4..ip_at + 6].copy_from_slice(&udp_length.to_be_bytes());
    }
    let pseudo = sum(&frame[addresses]) + 17 + u32::from(udp_length);
    let check = match !fold(pseudo + sum(&frame[udp_at..])) {
        0 => 0xffff,
        n => n,
    };
    frame[udp_at + 6..udp_at + 8].copy_from_slice(&check.to_be_bytes());
    Ok(frame)
}

/// Sum of big-endian 16-bit words (RFC 1071); an odd last byte counts as the high one.
#[must_use]
pub fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w.get(1).copied().unwrap_or(0)])))
        .sum()
}

/// The carries added back in; packets up to 64 KiB cannot overflow [`sum`].
#[must_use]
pub fn fold(mut sum: u32) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The stamp of a received frame, if it is an unfragmented test packet.
#[must_use]
pub fn read_stamp(frame: &[u8]) -> Option<Stamp> {
    let mut at = 12;
    let mut kind = u16::from_be_bytes(*frame.get(at..)?.first_chunk()?);
    if kind == 0x8100 {
        at += 4;
        kind = u16::from_be_bytes(*frame.get(at..)?.first_chunk()?);
    }
    at += 2;
    let ip = frame.get(at..)?;
    let (protocol, header) = match kind {
        0x0800 => {
            let fragment = u16::from_be_bytes(*ip.get(6..)?.first_chunk()?) & 0x3fff;
            if fragment != 0 {
                return None;
            }
            (*ip.get(9)?, usize::from(ip.first()? & 15) * 4)
        }
        0x86dd => (*ip.get(6)?, 40),
        _ => return None,
    };
    if protocol != 17 {
        return None;
    }
    Stamp::decode(ip.get(header + 8..)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_right_lengths_and_sums() {
        for family in [Family::V4, Family::V6] {
            for vlan in [None, Some(7)] {
                let mut flow = flows(Side::A, family, Endpoints::Spread, 3, 1)[0];
                flow.vlan = vlan;
                let stamp = Stamp {
                    flow: 3,
                    sequence: 0x1234_5678_9abc,
                    time: u64::MAX,
                };
                for length in [100, 101, 1400] {
                    let frame = frame(&flow, stamp, length).unwrap();
                    let ip = if vlan.is_some() { 18 } else { 14 };
                    assert_eq!(frame.len(), ip + usize::from(length));
                    assert_eq!(read_stamp(&frame), Some(stamp));
                    let (udp, addresses) = match family {
                        Family::V4 => {
                            assert_eq!(fold(sum(&frame[ip..ip + 20])), 0xffff);
                            (ip + 20, ip + 12..ip + 20)
                        }
                        Family::V6 => (ip + 40, ip + 8..ip + 40),
                    };
                    let pseudo = sum(&frame[addresses]) + 17 + (frame.len() - udp) as u32;
                    assert_eq!(fold(pseudo + sum(&frame[udp..])), 0xffff);
                }
                assert!(super::frame(&flow, stamp, 40).is_err());
            }
        }
    }

    #[test]
    fn imix_has_the_usual_proportions() {
        let mix = Sizes::imix();
        for (length, count) in [(46, 7), (576, 4), (1500, 1)] {
            assert_eq!(
                mix.lengths().iter().filter(|&&n| n == length).count(),
                count
            );
        }
        assert_eq!("imix".parse::<Sizes>().unwrap(), mix);
        assert_eq!(mix.to_string(), "imix");
        assert_eq!("1400".parse::<Sizes>().unwrap().lengths(), [1400]);
        assert!("".parse::<Sizes>().is_err());
        assert!("20".parse::<Sizes>().is_err());
    }

    #[test]
    fn foreign_and_cut_frames_have_no_stamp() {
        let flow = flows(Side::A, Family::V4, Endpoints::Spread, 0, 1)[0];
        let stamp = Stamp {
            flow: 0,
            sequence: 1,
            time: 2,
        };
        let whole = frame(&flow, stamp, 46).unwrap();
        for cut in 0..whole.len() {
            assert_eq!(read_stamp(&whole[..cut]), None, "{cut}");
        }
        let mut fragment = whole.clone();
        fragment[20] |= 0x20;
        assert_eq!(read_stamp(&fragment), None);
        let mut tcp = whole;
        tcp[23] = 6;
        assert_eq!(read_stamp(&tcp), None);
    }
}
