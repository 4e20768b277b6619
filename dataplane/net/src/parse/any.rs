//! The general parser: any frame and packet, and the reason where it is not one.

use super::{
    ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Family, Fragment, IPV4_MIN, IPV6_LEN, IpHeader,
    L4, MAX_EXTENSION_HEADERS, Packet, ParseError,
};
use crate::{checksum, protocol};

const TPID_CUSTOMER: u16 = 0x8100;
const TPID_SERVICE: u16 = 0x88a8;

/// Any frame.
#[cold]
pub(super) fn parse_any(frame: &[u8]) -> Result<Packet, ParseError> {
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
#[cold]
pub(super) fn parse_any_ip(bytes: &[u8]) -> Result<IpHeader, ParseError> {
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
