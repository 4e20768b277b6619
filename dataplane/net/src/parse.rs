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

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use crate::{checksum, protocol};

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
const TPID_CUSTOMER: u16 = 0x8100;
const TPID_SERVICE: u16 = 0x88a8;

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

/// What nearly all packets are: a whole IPv4 packet of TCP, UDP or ESP without options and without
/// fault. Anything else is none, and the general parser looks again and finds the reason.
///
/// Apart from it so that this path is one straight line: every test leads to the same way out, and
/// no error has to be carried.
#[inline(always)]
fn plain4(bytes: &[u8]) -> Option<IpHeader> {
    // The header and the first word of layer 4.
    let header: &[u8; IPV4_MIN + 4] = bytes.first_chunk()?;
    let (words, _) = header.as_chunks::<4>();
    let word = |i: usize| u32::from_be_bytes(words[i]);
    let total_len = word(0) & 0xffff;
    let whole = word(1) & 0x3fff == 0;
    if header[0] != 0x45 || !whole || total_len < 24 || total_len as usize > bytes.len() {
        return None;
    }
    // The order of bytes does not matter to the sum (RFC 1071 2 B).
    let sum: u64 = words[..5]
        .iter()
        .map(|word| u64::from(u32::from_ne_bytes(*word)))
        .sum();
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    if (sum >> 16) + (sum & 0xffff) != 0xffff {
        return None;
    }
    let (l4, tcp_syn) = plain_layer4(header[9], bytes, IPV4_MIN, total_len)?;
    Some(IpHeader {
        src: u128::from(word(3)),
        dst: u128::from(word(4)),
        total_len,
        identification: word(1) >> 16,
        l4_word: word(5),
        l4_offset: IPV4_MIN as u16,
        fragment_offset: 0,
        l4,
        family: Family::V4,
        fragment: Fragment::Whole,
        protocol: header[9],
        tos: header[1],
        ttl: header[8],
        df: word(1) & 0x4000 != 0,
        more_fragments: false,
        tcp_syn,
    })
}

/// The same for IPv6: TCP, UDP or ESP without extension headers.
#[inline]
fn plain6(bytes: &[u8]) -> Option<IpHeader> {
    let header: &[u8; IPV6_LEN + 4] = bytes.first_chunk()?;
    let total_len = IPV6_LEN as u32 + u32::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 || total_len < 44 || total_len as usize > bytes.len() {
        return None;
    }
    let (l4, tcp_syn) = plain_layer4(header[6], bytes, IPV6_LEN, total_len)?;
    Some(IpHeader {
        src: u128::from_be_bytes(*header[8..].first_chunk()?),
        dst: u128::from_be_bytes(*header[24..].first_chunk()?),
        total_len,
        identification: 0,
        l4_word: u32::from_be_bytes(*header.last_chunk()?),
        l4_offset: IPV6_LEN as u16,
        fragment_offset: 0,
        l4,
        family: Family::V6,
        fragment: Fragment::Whole,
        protocol: header[6],
        tos: header[0] << 4 | header[1] >> 4,
        ttl: header[7],
        df: true,
        more_fragments: false,
        tcp_syn,
    })
}

/// What the first word at `offset` is, and whether the packet is a TCP SYN.
#[inline(always)]
fn plain_layer4(protocol: u8, bytes: &[u8], offset: usize, total_len: u32) -> Option<(L4, bool)> {
    match protocol {
        protocol::UDP => Some((L4::Ports, false)),
        protocol::ESP => Some((L4::Spi, false)),
        protocol::TCP if total_len as usize >= offset + 14 => {
            Some((L4::Ports, bytes.get(offset + 13)? & 0x02 != 0))
        }
        _ => None,
    }
}

/// Any frame.
#[inline(never)]
fn parse_any(frame: &[u8]) -> Result<Packet, ParseError> {
    let mut ethertype = be16(frame, 12).ok_or(ParseError::Truncated)?;
    let mut offset = ETHERNET_LEN;
    let mut vlans = [0; 2];
    for vlan in &mut vlans {
        if !matches!(ethertype, TPID_CUSTOMER | TPID_SERVICE) {
            break;
        }
        *vlan = be16(frame, offset).ok_or(ParseError::Truncated)? & 0x0fff;
        ethertype = be16(frame, offset + 2).ok_or(ParseError::Truncated)?;
        offset += 4;
    }
    let bytes = frame.get(offset..).ok_or(ParseError::Truncated)?;
    let ip = match ethertype {
        ETHERTYPE_IPV4 => parse_ipv4(bytes)?,
        ETHERTYPE_IPV6 => parse_ipv6(bytes)?,
        _ => return Err(ParseError::NotIp),
    };
    Ok(Packet {
        ip,
        l3_offset: offset as u16,
        vlan: vlans[0],
        inner_vlan: vlans[1],
    })
}

/// Any packet.
#[inline(never)]
fn parse_any_ip(bytes: &[u8]) -> Result<IpHeader, ParseError> {
    match bytes.first().map(|first| first >> 4) {
        Some(4) => parse_ipv4(bytes),
        Some(6) => parse_ipv6(bytes),
        Some(_) => Err(ParseError::NotIp),
        None => Err(ParseError::Truncated),
    }
}

fn parse_ipv4(bytes: &[u8]) -> Result<IpHeader, ParseError> {
    let header: &[u8; IPV4_MIN] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
    if header[0] != 0x45 {
        check_options(bytes)?;
    }
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if total_len < header_len {
        return Err(ParseError::BadTotalLength);
    }
    let packet = bytes.get(..total_len).ok_or(ParseError::Truncated)?;

    let word = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let mut sum = u64::from(word(0))
        + u64::from(word(4))
        + u64::from(word(8))
        + u64::from(word(12))
        + u64::from(word(16));
    if header_len > IPV4_MIN {
        sum = checksum::add(sum, &packet[IPV4_MIN..header_len]);
    }
    if checksum::fold(sum) != 0xffff {
        return Err(ParseError::BadChecksum);
    }

    let flags = u16::from_be_bytes([header[6], header[7]]);
    let more_fragments = flags & 0x2000 != 0;
    let fragment_offset = (flags & 0x1fff) << 3;
    let fragment = match (fragment_offset, more_fragments) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        (_, _) => Fragment::Later,
    };
    if fragment != Fragment::Whole {
        check_fragment(
            fragment_offset,
            total_len - header_len,
            header_len,
            more_fragments,
        )?;
    }
    let protocol = header[9];
    let (l4, l4_word, tcp_syn) = match fragment {
        Fragment::Later => (L4::None, 0, false),
        _ => layer4(protocol, &packet[header_len..]),
    };
    Ok(IpHeader {
        src: u128::from(word(12)),
        dst: u128::from(word(16)),
        total_len: total_len as u32,
        identification: u32::from(u16::from_be_bytes([header[4], header[5]])),
        l4_word,
        l4_offset: header_len as u16,
        fragment_offset,
        l4,
        family: Family::V4,
        fragment,
        protocol,
        tos: header[1],
        ttl: header[8],
        df: flags & 0x4000 != 0,
        more_fragments,
        tcp_syn,
    })
}

/// The version and header length of an IPv4 packet that is not the usual `0x45`.
fn check_options(bytes: &[u8]) -> Result<(), ParseError> {
    let first = bytes[0];
    if first >> 4 != 4 {
        return Err(ParseError::BadVersion);
    }
    let header_len = usize::from(first & 0x0f) * 4;
    if header_len < IPV4_MIN {
        return Err(ParseError::BadHeaderLength);
    }
    if header_len > bytes.len() {
        return Err(ParseError::Truncated);
    }
    Ok(())
}

/// A fragment must end within the largest packet (RFC 791 3.1), and only the last may have a
/// length that is not a multiple of eight.
fn check_fragment(
    offset: u16,
    data_len: usize,
    header_len: usize,
    more: bool,
) -> Result<(), ParseError> {
    let end = usize::from(offset) + data_len;
    if end + header_len > 0xffff || (more && !data_len.is_multiple_of(8)) || data_len == 0 {
        return Err(ParseError::BadFragment);
    }
    Ok(())
}

fn parse_ipv6(bytes: &[u8]) -> Result<IpHeader, ParseError> {
    let header: &[u8; IPV6_LEN] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
    if header[0] >> 4 != 6 {
        return Err(ParseError::BadVersion);
    }
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let total_len = IPV6_LEN + payload_len;
    let packet = bytes.get(..total_len).ok_or(ParseError::Truncated)?;
    if payload_len == 0 && header[6] == protocol::HOP_BY_HOP {
        // A jumbogram (RFC 2675): its length is in an option that no Ethernet link needs.
        return Err(ParseError::BadTotalLength);
    }
    let mut out = IpHeader {
        src: u128::from_be_bytes(*header[8..].first_chunk().ok_or(ParseError::Truncated)?),
        dst: u128::from_be_bytes(*header[24..].first_chunk().ok_or(ParseError::Truncated)?),
        total_len: total_len as u32,
        identification: 0,
        l4_word: 0,
        l4_offset: IPV6_LEN as u16,
        fragment_offset: 0,
        l4: L4::None,
        family: Family::V6,
        fragment: Fragment::Whole,
        protocol: header[6],
        tos: header[0] << 4 | header[1] >> 4,
        ttl: header[7],
        df: true,
        more_fragments: false,
        tcp_syn: false,
    };
    if is_extension(out.protocol) {
        walk_extensions(packet, &mut out)?;
    }
    if out.fragment != Fragment::Later {
        let (l4, word, syn) = layer4(out.protocol, &packet[usize::from(out.l4_offset)..]);
        (out.l4, out.l4_word, out.tcp_syn) = (l4, word, syn);
    }
    Ok(out)
}

const fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::DESTINATION_OPTIONS
            | protocol::AH
    )
}

/// Walks the extension headers of `packet` (RFC 8200 4, AH by RFC 4302 2.2) up to layer 4 or a
/// later fragment's data.
fn walk_extensions(packet: &[u8], out: &mut IpHeader) -> Result<(), ParseError> {
    let mut offset = IPV6_LEN;
    for _ in 0..MAX_EXTENSION_HEADERS {
        let header: &[u8; 8] = packet
            .get(offset..)
            .and_then(<[u8]>::first_chunk)
            .ok_or(ParseError::BadHeaderLength)?;
        let len = match out.protocol {
            protocol::FRAGMENT => 8,
            // AH counts 32-bit words minus 2, the options count 64-bit words minus 1.
            protocol::AH => (usize::from(header[1]) + 2) * 4,
            _ => (usize::from(header[1]) + 1) * 8,
        };
        if offset + len > packet.len() {
            return Err(ParseError::BadHeaderLength);
        }
        let here = out.protocol;
        out.protocol = header[0];
        offset += len;
        out.l4_offset = offset as u16;
        if here == protocol::FRAGMENT {
            let word = u16::from_be_bytes([header[2], header[3]]);
            out.fragment_offset = word & 0xfff8;
            out.more_fragments = word & 1 != 0;
            out.identification = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            out.fragment = match (out.fragment_offset, out.more_fragments) {
                (0, false) => Fragment::Whole,
                (0, true) => Fragment::First,
                (_, _) => Fragment::Later,
            };
            if out.fragment != Fragment::Whole {
                // The largest payload of a reassembled IPv6 packet is 65,535 (RFC 8200 4.5); the
                // header that precedes the fragment header is not counted against it.
                check_fragment(
                    out.fragment_offset,
                    packet.len() - offset,
                    0,
                    out.more_fragments,
                )?;
            }
            if out.fragment == Fragment::Later {
                return Ok(());
            }
        }
        if !is_extension(out.protocol) {
            return Ok(());
        }
    }
    Err(ParseError::TooManyExtensionHeaders)
}

/// The first words of layer 4: what they are, their value, and whether this is a TCP SYN.
fn layer4(protocol: u8, bytes: &[u8]) -> (L4, u32, bool) {
    let first = |at: usize| -> Option<u32> {
        bytes
            .get(at..)
            .and_then(<[u8]>::first_chunk)
            .map(|word| u32::from_be_bytes(*word))
    };
    match protocol {
        protocol::TCP => match bytes.first_chunk::<14>() {
            Some(tcp) => {
                let ports = u32::from_be_bytes([tcp[0], tcp[1], tcp[2], tcp[3]]);
                (L4::Ports, ports, tcp[13] & 0x02 != 0)
            }
            None => ports(first(0)),
        },
        protocol::UDP | protocol::SCTP | protocol::DCCP | protocol::UDP_LITE => ports(first(0)),
        protocol::ESP => first(0).map_or((L4::None, 0, false), |spi| (L4::Spi, spi, false)),
        protocol::AH => first(4).map_or((L4::None, 0, false), |spi| (L4::Spi, spi, false)),
        protocol::ICMP | protocol::ICMPV6 => {
            first(0).map_or((L4::None, 0, false), |word| (L4::Icmp, word >> 16, false))
        }
        _ => (L4::None, 0, false),
    }
}

fn ports(word: Option<u32>) -> (L4, u32, bool) {
    word.map_or((L4::None, 0, false), |ports| (L4::Ports, ports, false))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map(|pair| u16::from_be_bytes(*pair))
}

#[cfg(test)]
mod tests;
