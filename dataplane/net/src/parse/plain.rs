//! The straight path: what nearly all packets are, and nothing else.
//!
//! Whole packets of TCP, UDP or ESP, without IPv4 options or IPv6 extension headers and without
//! fault. Anything else is none, and the general parser looks again and finds the reason. Apart
//! from it so that this path is one straight line: every test leads to the same way out, and no
//! error has to be carried. A property test holds the two to the same answers.

use super::{Family, Fragment, IPV4_MIN, IPV6_LEN, IpHeader, L4};
use crate::protocol;

/// A whole IPv4 packet of TCP, UDP or ESP without options.
#[inline(always)]
pub(super) fn plain4(bytes: &[u8]) -> Option<IpHeader> {
    // The header and the first word of layer 4.
    let header: &[u8; IPV4_MIN + 4] = bytes.first_chunk()?;
    let (words, _) = header.as_chunks::<4>();
    let word = |i: usize| u32::from_be_bytes(words[i]);
    let total_len = word(0) & 0xffff;
    let whole = word(1) & 0x3fff == 0;
    let fits = total_len >= 24 && total_len as usize <= bytes.len();
    if header[0] != 0x45 || !whole || !fits || !sums_up(header.first_chunk()?) {
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

/// Whether an IPv4 header without options has the right checksum.
///
/// The sum over its 16-bit words in ones' complement must be 0xffff, which is to say a multiple of
/// it, as the first byte is not zero. Neither the order of bytes nor the width of the words added
/// matters to that (RFC 1071 2 B and C).
#[inline(always)]
pub(super) fn sums_up(header: &[u8; IPV4_MIN]) -> bool {
    let (words, _) = header.as_chunks::<4>();
    let words = words
        .iter()
        .map(|word| u64::from(u32::from_ne_bytes(*word)));
    words.sum::<u64>().is_multiple_of(0xffff)
}

/// An IPv6 packet of TCP, UDP or ESP without extension headers.
#[inline]
pub(super) fn plain6(bytes: &[u8]) -> Option<IpHeader> {
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
