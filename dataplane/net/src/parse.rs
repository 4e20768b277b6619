//! What is in a frame: Ethernet, VLAN tags, IPv4 or IPv6, and the words of layer 4 that routing,
//! hashing and selectors need.
//!
//! RFC 791 and RFC 1122 (IPv4), RFC 8200, RFC 6946 and RFC 7112 (IPv6), IEEE 802.1Q. Every offset
//! and length in the result has been checked against the bytes, so later phases slice without
//! doubt. What is wrong is said by one [`ParseError`], which is a drop reason.
//!
//! Not here: reassembly, option contents, any check of layer 4 beyond reading its first words. A
//! packet too short for its ports is a packet without ports, because a router does not judge
//! transport headers.
//!
//! Limits: two VLAN tags, [`MAX_EXTENSION_HEADERS`] IPv6 extension headers, no jumbograms
//! (RFC 2675).

mod any;
mod esp;
mod plain;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use any::{parse_any, parse_any_ip};
pub use esp::{Esp, PlainEsp, find_esp, outer_addresses, plain_esp};
use plain::{plain4, plain6};

/// Length of an Ethernet header without tags.
pub const ETHERNET_LEN: usize = 14;

/// How many IPv6 extension headers are walked before the packet is refused.
///
/// Unit: headers. Real packets have up to three; RFC 9288 notes that routers with a bound of eight
/// lose nothing seen in practice. Too small drops legitimate packets, too large lets one packet of
/// tiny headers cost a worker hundreds of loads.
pub const MAX_EXTENSION_HEADERS: usize = 8;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

const IPV4_MIN: usize = 20;
const IPV6_LEN: usize = 40;

/// Why a frame could not be parsed. Each is one drop reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum ParseError {
    /// The ethertype, or the version nibble where there is no Ethernet header, is not IP's.
    #[error("not an IP packet")]
    NotIp,
    /// The bytes end before the header or the length it announces.
    #[error("the bytes end before the packet does")]
    Truncated,
    /// The version nibble contradicts the ethertype.
    #[error("IP version does not match the ethertype")]
    BadVersion,
    /// An IPv4 header length below 20 or beyond the packet, or an IPv6 extension header that runs
    /// past the packet.
    #[error("header length is below the minimum or beyond the packet")]
    BadHeaderLength,
    /// The total length is smaller than the header, or a jumbogram.
    #[error("total length is smaller than the header")]
    BadTotalLength,
    /// The IPv4 header checksum is wrong.
    #[error("IPv4 header checksum is wrong")]
    BadChecksum,
    /// A fragment that ends beyond the largest possible packet, or a fragment other than the last
    /// whose length is not a multiple of eight.
    #[error("fragment offset and length contradict each other")]
    BadFragment,
    /// More than [`MAX_EXTENSION_HEADERS`] IPv6 extension headers.
    #[error("too many IPv6 extension headers")]
    TooManyExtensionHeaders,
}

/// IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Whether a packet is a fragment, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fragment {
    /// A whole packet. IPv6 "atomic" fragments (RFC 6946) count as whole.
    Whole,
    /// The first fragment: layer 4 begins here.
    First,
    /// A later fragment: no layer 4 header.
    Later,
}

/// What [`IpHeader::l4_word`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum L4 {
    /// Nothing: unknown protocol, later fragment, or too short.
    None,
    /// Source port in the high half, destination port in the low half.
    Ports,
    /// The SPI of ESP or AH.
    Spi,
    /// ICMP type in bits 8-15, code in bits 0-7.
    Icmp,
}

/// The fields of an IP packet that the packet path uses. All offsets count from the first byte of
/// the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpHeader {
    /// Source address; IPv4 in the low 32 bits, host byte order.
    pub src: u128,
    /// Destination address; IPv4 in the low 32 bits, host byte order.
    pub dst: u128,
    /// Length of the whole packet in bytes, header included; the slice may be longer (Ethernet or
    /// traffic flow confidentiality padding).
    pub total_len: u32,
    /// Fragment identification: 16 bits for IPv4 (present on every packet), 32 for IPv6 (0 without
    /// a fragment header).
    pub identification: u32,
    /// Ports, SPI, or ICMP type and code, as [`IpHeader::l4`] says; else 0.
    pub l4_word: u32,
    /// Where layer 4, or a later fragment's data, begins.
    pub l4_offset: u16,
    /// Offset of the fragment's data in the original packet, in bytes.
    pub fragment_offset: u16,
    /// What `l4_word` holds.
    pub l4: L4,
    /// IP version.
    pub family: Family,
    /// Fragment state.
    pub fragment: Fragment,
    /// Layer 4 protocol, after IPv6 extension headers.
    pub protocol: u8,
    /// DSCP (high six bits) and ECN (low two bits).
    pub tos: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Don't fragment: the IPv4 flag; always true for IPv6.
    pub df: bool,
    /// More fragments follow.
    pub more_fragments: bool,
    /// A TCP segment with SYN set.
    pub tcp_syn: bool,
}

impl IpHeader {
    /// Source address as IPv4; meaningful when the family is [`Family::V4`].
    #[must_use]
    #[inline]
    pub const fn src4(&self) -> u32 {
        self.src as u32
    }

    /// Destination address as IPv4; meaningful when the family is [`Family::V4`].
    #[must_use]
    #[inline]
    pub const fn dst4(&self) -> u32 {
        self.dst as u32
    }

    /// Source address in the standard library's type.
    #[must_use]
    pub const fn src_addr(&self) -> IpAddr {
        address(self.family, self.src)
    }

    /// Destination address in the standard library's type.
    #[must_use]
    pub const fn dst_addr(&self) -> IpAddr {
        address(self.family, self.dst)
    }

    /// Source and destination port.
    #[must_use]
    #[inline]
    pub const fn ports(&self) -> Option<(u16, u16)> {
        match self.l4 {
            L4::Ports => Some(((self.l4_word >> 16) as u16, self.l4_word as u16)),
            _ => None,
        }
    }

    /// SPI of ESP or AH.
    #[must_use]
    #[inline]
    pub const fn spi(&self) -> Option<u32> {
        match self.l4 {
            L4::Spi => Some(self.l4_word),
            _ => None,
        }
    }

    /// ICMP or ICMPv6 type and code.
    #[must_use]
    #[inline]
    pub const fn icmp(&self) -> Option<(u8, u8)> {
        match self.l4 {
            L4::Icmp => Some(((self.l4_word >> 8) as u8, self.l4_word as u8)),
            _ => None,
        }
    }
}

const fn address(family: Family, address: u128) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(address as u32)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(address)),
    }
}

/// A parsed Ethernet frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The IP header's fields.
    pub ip: IpHeader,
    /// Where the IP header begins in the frame.
    pub l3_offset: u16,
    /// VLAN of the outermost tag; 0 for an untagged or priority-tagged frame.
    pub vlan: u16,
    /// VLAN of the second tag; 0 when there is none.
    pub inner_vlan: u16,
}

/// Parses an Ethernet frame that carries IP.
///
/// # Errors
/// See [`ParseError`]; the first fault found wins.
#[inline]
pub fn parse(frame: &[u8]) -> Result<Packet, ParseError> {
    if let Some((header, bytes)) = frame.split_first_chunk::<ETHERNET_LEN>() {
        let ip = match u16::from_be_bytes([header[12], header[13]]) {
            ETHERTYPE_IPV4 => plain4(bytes),
            ETHERTYPE_IPV6 => plain6(bytes),
            _ => None,
        };
        if let Some(ip) = ip {
            return Ok(Packet {
                ip,
                l3_offset: ETHERNET_LEN as u16,
                vlan: 0,
                inner_vlan: 0,
            });
        }
    }
    parse_any(frame)
}

/// An untagged frame with a plain IPv4 packet, if it is one: [`parse`] says the same of it.
///
/// For the packet loop, which then needs no copy of the result: with one way to make it the fields
/// stay in registers, where joining several ways goes through memory, and a wide load of what
/// narrow stores have just written stalls.
#[inline(always)]
#[must_use]
pub fn parse_plain(frame: &[u8]) -> Option<Packet> {
    let (header, bytes) = frame.split_first_chunk::<ETHERNET_LEN>()?;
    if u16::from_be_bytes([header[12], header[13]]) != ETHERTYPE_IPV4 {
        return None;
    }
    Some(Packet {
        ip: plain4(bytes)?,
        l3_offset: ETHERNET_LEN as u16,
        vlan: 0,
        inner_vlan: 0,
    })
}

/// A plain IPv4 packet, if it is one: [`parse_ip`] says the same of it. See [`parse_plain`].
#[inline(always)]
#[must_use]
pub fn parse_plain_ip(bytes: &[u8]) -> Option<IpHeader> {
    plain4(bytes)
}

/// Parses a bare IP packet: what a TUN device delivers, or what ESP held.
///
/// `bytes` may be longer than the packet: [`IpHeader::total_len`] says where it ends.
///
/// # Errors
/// See [`ParseError`]; the first fault found wins.
#[inline]
pub fn parse_ip(bytes: &[u8]) -> Result<IpHeader, ParseError> {
    match plain4(bytes).or_else(|| plain6(bytes)) {
        Some(ip) => Ok(ip),
        None => parse_any_ip(bytes),
    }
}

#[cfg(test)]
mod tests;
