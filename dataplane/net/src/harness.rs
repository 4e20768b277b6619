//! One function per parser, for property tests and fuzz targets alike: each takes any bytes, must
//! not panic, and checks what the parser promises about its result.
//!
//! Not part of the product: behind the feature `harness`.

#![allow(
    clippy::missing_panics_doc,
    reason = "to panic is how a harness reports a fault"
)]

use crate::fragment::Fragments;
use crate::parse::{Family, Fragment, IpHeader, ParseError};
use crate::replay::{ReplayError, ReplayWindow};
use crate::selector::{SelectorSet, TrafficSelector};
use crate::{checksum, encap, esp_trailer, icmp, mss};

/// [`crate::parse()`] on a frame, as it is and with its IPv4 checksum made right.
pub fn parse(frame: &[u8]) {
    check_frame(frame);
    // Behind the Ethernet header and up to two tags.
    for offset in [14, 18, 22] {
        let mut repaired = frame.to_vec();
        if repaired.get_mut(offset..).is_some_and(repair) {
            check_frame(&repaired);
        }
    }
}

/// [`crate::parse_ip`] on bytes, and everything that accepts its result; as they are and with the
/// IPv4 checksum made right.
pub fn parse_ip(bytes: &[u8]) {
    check_packet(bytes);
    let mut repaired = bytes.to_vec();
    if repair(&mut repaired) {
        check_packet(&repaired);
    }
}

/// Makes the checksum of an IPv4 header right, if there is one: random bytes hardly ever get past
/// it. Returns whether it did.
fn repair(packet: &mut [u8]) -> bool {
    let Some(&first) = packet.first() else {
        return false;
    };
    let header_len = usize::from(first & 0x0f) * 4;
    let found = first >> 4 == 4 && (20..=packet.len()).contains(&header_len);
    if found {
        crate::rewrite::set_checksum4(packet, header_len);
    }
    found
}

fn check_frame(frame: &[u8]) {
    if let Ok(packet) = crate::parse(frame) {
        let l3 = usize::from(packet.l3_offset);
        assert!((14..=22).contains(&l3));
        check_header(&frame[l3..], &packet.ip);
        assert_eq!(crate::parse_ip(&frame[l3..]), Ok(packet.ip));
    }
}

fn check_packet(bytes: &[u8]) {
    match crate::parse_ip(bytes) {
        Ok(ip) => check_header(bytes, &ip),
        Err(error) => {
            // More bytes never turn another error into a valid packet.
            let mut longer = bytes.to_vec();
            longer.extend([0; 8]);
            if error != ParseError::Truncated {
                assert_eq!(crate::parse_ip(&longer), Err(error));
            }
        }
    }
}

fn check_header(bytes: &[u8], ip: &IpHeader) {
    let total = ip.total_len as usize;
    let l4 = usize::from(ip.l4_offset);
    assert!(l4 <= total && total <= bytes.len());
    assert!(ip.l4_offset >= if ip.family == Family::V4 { 20 } else { 40 });
    assert!(ip.fragment != Fragment::Later || ip.ports().is_none());
    assert!(!ip.tcp_syn || ip.ports().is_some());
    if ip.family == Family::V4 {
        assert_eq!(checksum::of(&bytes[..l4]), 0);
    }
    // What stands behind the packet does not matter.
    assert_eq!(crate::parse_ip(&bytes[..total]), Ok(*ip));
    let any = SelectorSet::any();
    assert!(any.allows_inbound(ip) && any.allows_outbound(ip));
    if l4 < total {
        let _ = encap::udp_encapsulated(&bytes[l4..total]);
    }
    icmp_errors(bytes, ip);
}

/// ICMP errors about any packet are valid packets of bounded size.
fn icmp_errors(bytes: &[u8], ip: &IpHeader) {
    let (from, maximum) = match ip.family {
        Family::V4 => ([192, 0, 2, 1].into(), icmp::MAX_LEN4),
        Family::V6 => ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(), icmp::MAX_LEN6),
    };
    let mut out = [0; icmp::MAX_LEN6 + 1];
    if let Ok(len) = icmp::build(
        icmp::Problem::TooBig { mtu: 1400 },
        bytes,
        ip,
        from,
        &mut out,
    ) {
        assert!(len <= maximum);
        let error = crate::parse_ip(&out[..len]).expect("an ICMP error parses");
        assert_eq!(error.dst, ip.src);
        let again = icmp::build(
            icmp::Problem::Expired,
            &out[..len],
            &error,
            from,
            &mut [0; 600],
        );
        assert_eq!(again, Err(icmp::Silence::AboutError));
    }
}

/// [`esp_trailer::parse`] on decrypted bytes.
pub fn trailer(plaintext: &[u8]) {
    if let Ok(trailer) = esp_trailer::parse(plaintext) {
        assert!(trailer.payload_len + 2 <= plaintext.len());
        let mut rewritten = plaintext.to_vec();
        let next = esp_trailer::next_header(trailer.family);
        let len = plaintext.len() - trailer.payload_len;
        esp_trailer::write(&mut rewritten[trailer.payload_len..], len, next);
        assert_eq!(rewritten, plaintext);
    }
}

/// [`SelectorSet`]: two selectors made of the first bytes, a packet of the rest.
pub fn selectors(data: &[u8]) {
    let Some((&[a, b, c, d, e, f, g, h], packet)) = data.split_first_chunk() else {
        return;
    };
    let mut packet = packet.to_vec();
    repair(&mut packet);
    let Ok(ip) = crate::parse_ip(&packet) else {
        return;
    };
    let selector = |first: u8, last: u8, protocol: u8, port: u8| TrafficSelector {
        family: ip.family,
        first: u128::from(first) << if ip.family == Family::V4 { 24 } else { 120 },
        last: u128::from(last) << if ip.family == Family::V4 { 24 } else { 120 },
        protocol: (protocol != 0).then_some(protocol),
        ports: crate::selector::Ports::from_ike(0, u16::from(port) << 8 | 0xff)
            .expect("not reversed"),
    };
    let local = selector(a, b, c, d);
    let remote = selector(e, f, g, h);
    let set = SelectorSet::new(&[local], &[remote]);
    let mirrored = SelectorSet::new(&[remote], &[local]);
    assert_eq!(set.allows_outbound(&ip), mirrored.allows_inbound(&ip));
    if set.allows_outbound(&ip) {
        assert!((local.first..=local.last).contains(&ip.src));
        assert!((remote.first..=remote.last).contains(&ip.dst));
    }
}

/// [`mss::clamp`] on a segment, with the maximum in the first two bytes.
pub fn clamp_mss(data: &[u8]) {
    let Some((&maximum, segment)) = data.split_first_chunk() else {
        return;
    };
    let maximum = u16::from_be_bytes(maximum);
    let mut clamped = segment.to_vec();
    let changed = mss::clamp(&mut clamped, maximum);
    assert_eq!(changed.is_none(), clamped == segment);
    if let Some(old) = changed {
        assert!(old > maximum);
        // The sum over the segment stays what it was, modulo the two zeros of ones' complement.
        let sum = |bytes: &[u8]| u32::from(checksum::of(bytes)) % 0xffff;
        if segment.len().is_multiple_of(2) {
            assert_eq!(sum(&clamped), sum(segment));
        }
        assert_eq!(mss::clamp(&mut clamped, maximum), None);
    }
}

/// [`Fragments`] of a packet, with the MTU in the first two bytes: the pieces parse, fit, and hold
/// the data in order.
pub fn fragment(data: &[u8]) {
    let Some((&mtu, packet)) = data.split_first_chunk() else {
        return;
    };
    let mtu = u16::from_be_bytes(mtu);
    let mut packet = packet.to_vec();
    repair(&mut packet);
    let Ok(ip) = crate::parse_ip(&packet) else {
        return;
    };
    let Ok(mut fragments) = Fragments::new(&packet, &ip, mtu) else {
        return;
    };
    let mut out = vec![0; usize::from(mtu).max(ip.total_len as usize)];
    let mut data = Vec::new();
    let mut more = true;
    while let Some(len) = fragments.write_next(&mut out) {
        assert!(more, "a fragment behind the last");
        assert!(len <= usize::from(mtu) || len == ip.total_len as usize);
        let piece = crate::parse_ip(&out[..len]).expect("a fragment parses");
        assert_eq!(piece.total_len as usize, len);
        assert_eq!(
            usize::from(piece.fragment_offset),
            usize::from(ip.fragment_offset) + data.len()
        );
        assert_eq!(
            (
                piece.src,
                piece.dst,
                piece.protocol,
                piece.identification,
                piece.ttl,
                piece.df
            ),
            (
                ip.src,
                ip.dst,
                ip.protocol,
                ip.identification,
                ip.ttl,
                ip.df
            )
        );
        data.extend_from_slice(&out[usize::from(piece.l4_offset)..len]);
        more = piece.more_fragments;
    }
    assert_eq!(
        data,
        packet[usize::from(ip.l4_offset)..ip.total_len as usize]
    );
    assert_eq!(more, ip.more_fragments);
}

/// Commits a sequence number without a cipher's proof, to measure and test the window alone.
///
/// # Errors
/// As [`ReplayWindow::commit`].
#[inline]
pub fn commit(window: &mut ReplayWindow, seq: u64) -> Result<(), ReplayError> {
    window.mark(seq)
}

#[cfg(test)]
mod tests;
