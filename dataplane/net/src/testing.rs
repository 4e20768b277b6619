//! Packets for tests, built field by field.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::parse::IpHeader;
use crate::{checksum, protocol};

/// An IPv4 packet: 192.0.2.1 to 198.51.100.2, TTL 64, identification 0x1234, DF clear.
pub(crate) struct V4<'a> {
    pub(crate) src: [u8; 4],
    pub(crate) dst: [u8; 4],
    pub(crate) protocol: u8,
    /// Flags and fragment offset.
    pub(crate) flags: u16,
    /// Padded with zeros to a multiple of 4.
    pub(crate) options: &'a [u8],
    pub(crate) data: &'a [u8],
}

impl Default for V4<'_> {
    fn default() -> Self {
        Self {
            src: [192, 0, 2, 1],
            dst: [198, 51, 100, 2],
            protocol: protocol::UDP,
            flags: 0,
            options: &[],
            data: &[0x9c, 0x40, 0x11, 0x94, 0, 8, 0, 0],
        }
    }
}

impl V4<'_> {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let header = 20 + self.options.len().next_multiple_of(4);
        let mut out = vec![0; header];
        out[0] = 0x40 | (header / 4) as u8;
        out[2..4].copy_from_slice(&((header + self.data.len()) as u16).to_be_bytes());
        out[4..6].copy_from_slice(&[0x12, 0x34]);
        out[6..8].copy_from_slice(&self.flags.to_be_bytes());
        out[8] = 64;
        out[9] = self.protocol;
        out[12..16].copy_from_slice(&self.src);
        out[16..20].copy_from_slice(&self.dst);
        out[20..20 + self.options.len()].copy_from_slice(self.options);
        let sum = checksum::of(&out);
        out[10..12].copy_from_slice(&sum.to_be_bytes());
        out.extend_from_slice(self.data);
        out
    }

    pub(crate) fn parsed(&self) -> (Vec<u8>, IpHeader) {
        let bytes = self.bytes();
        let ip = crate::parse_ip(&bytes).expect("a valid packet");
        (bytes, ip)
    }
}

/// An IPv6 packet: 2001:db8::1 to 2001:db8:1::2, hop limit 64. `data` begins with the extension
/// headers, if any.
pub(crate) struct V6<'a> {
    pub(crate) src: &'a str,
    pub(crate) dst: &'a str,
    pub(crate) next: u8,
    pub(crate) data: &'a [u8],
}

impl Default for V6<'_> {
    fn default() -> Self {
        Self {
            src: "2001:db8::1",
            dst: "2001:db8:1::2",
            next: protocol::UDP,
            data: &[0x9c, 0x40, 0x11, 0x94, 0, 8, 0, 0],
        }
    }
}

impl V6<'_> {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0; 40];
        out[0] = 0x60;
        out[4..6].copy_from_slice(&(self.data.len() as u16).to_be_bytes());
        out[6] = self.next;
        out[7] = 64;
        out[8..24].copy_from_slice(&self.src.parse::<Ipv6Addr>().expect("an address").octets());
        out[24..40].copy_from_slice(&self.dst.parse::<Ipv6Addr>().expect("an address").octets());
        out.extend_from_slice(self.data);
        out
    }

    pub(crate) fn parsed(&self) -> (Vec<u8>, IpHeader) {
        let bytes = self.bytes();
        let ip = crate::parse_ip(&bytes).expect("a valid packet");
        (bytes, ip)
    }
}

/// `packet` behind an Ethernet header with `tags` (TPID, TCI).
pub(crate) fn frame(tags: &[(u16, u16)], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for (tpid, tci) in tags {
        out.extend(tpid.to_be_bytes());
        out.extend(tci.to_be_bytes());
    }
    out.extend(ethertype.to_be_bytes());
    out.extend_from_slice(packet);
    out
}

pub(crate) fn v4(addr: [u8; 4]) -> u128 {
    u128::from(Ipv4Addr::from(addr).to_bits())
}

pub(crate) fn v6(addr: &str) -> u128 {
    addr.parse::<Ipv6Addr>().expect("an address").to_bits()
}
