//! What a router changes in an IP header in place: TTL or hop limit, DSCP and ECN, DF.
//!
//! All functions take the packet from its first IP byte, as [`crate::parse_ip`] accepted it; IPv4
//! checksums are updated incrementally (RFC 1624), so an error in the rest of the header stays
//! visible to the receiver.

use crate::checksum;

/// What decrementing the TTL or hop limit found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// Decremented; the packet goes on.
    Alive,
    /// It was 0 or 1: the packet must be dropped and "time exceeded" sent (RFC 1812 5.3.1). The
    /// packet is unchanged, so that the error can quote it.
    Expired,
}

/// Decrements the TTL of an IPv4 packet.
///
/// # Panics
/// If `packet` is shorter than an IPv4 header.
#[inline]
pub fn decrement_ttl4(packet: &mut [u8]) -> Ttl {
    let header: &mut [u8; 20] = header(packet);
    if header[8] <= 1 {
        return Ttl::Expired;
    }
    header[8] -= 1;
    // The TTL is the high byte of its word: the sum falls by 0x0100, its complement rises by it,
    // with end-around carry (RFC 1141; the value ~0 is avoided as RFC 1624 3 asks).
    let sum = u32::from(u16::from_be_bytes([header[10], header[11]])) + 0x0100;
    let sum = (sum + (sum >= 0xffff) as u32) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    Ttl::Alive
}

/// Decrements the hop limit of an IPv6 packet.
///
/// # Panics
/// If `packet` is shorter than an IPv6 header.
#[inline]
pub fn decrement_ttl6(packet: &mut [u8]) -> Ttl {
    let header: &mut [u8; 40] = header(packet);
    if header[7] <= 1 {
        return Ttl::Expired;
    }
    header[7] -= 1;
    Ttl::Alive
}

/// Sets the TOS byte (DSCP and ECN) of an IPv4 packet.
///
/// # Panics
/// If `packet` is shorter than an IPv4 header.
#[inline]
pub fn set_tos4(packet: &mut [u8], tos: u8) {
    let header: &mut [u8; 20] = header(packet);
    let old = u16::from_be_bytes([header[0], header[1]]);
    header[1] = tos;
    let new = u16::from_be_bytes([header[0], header[1]]);
    update_checksum(header, old, new);
}

/// Sets the traffic class (DSCP and ECN) of an IPv6 packet.
///
/// # Panics
/// If `packet` is shorter than an IPv6 header.
#[inline]
pub fn set_tos6(packet: &mut [u8], tos: u8) {
    let header: &mut [u8; 40] = header(packet);
    header[0] = header[0] & 0xf0 | tos >> 4;
    header[1] = header[1] & 0x0f | tos << 4;
}

/// Clears DF of an IPv4 packet; whether it was set.
///
/// # Panics
/// If `packet` is shorter than an IPv4 header.
#[inline]
pub fn clear_df(packet: &mut [u8]) -> bool {
    let header: &mut [u8; 20] = header(packet);
    if header[6] & 0x40 == 0 {
        return false;
    }
    let old = u16::from_be_bytes([header[6], header[7]]);
    header[6] &= !0x40;
    update_checksum(header, old, old & !0x4000);
    true
}

/// Computes the header checksum of an IPv4 packet anew, over `header_len` bytes.
///
/// # Panics
/// If `packet` is shorter than `header_len`, or `header_len` below 20.
pub fn set_checksum4(packet: &mut [u8], header_len: usize) {
    packet[10..12].fill(0);
    let sum = checksum::of(&packet[..header_len]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn update_checksum(header: &mut [u8; 20], old: u16, new: u16) {
    let sum = u16::from_be_bytes([header[10], header[11]]);
    header[10..12].copy_from_slice(&checksum::update(sum, old, new).to_be_bytes());
}

#[inline]
fn header<const N: usize>(packet: &mut [u8]) -> &mut [u8; N] {
    match packet.first_chunk_mut() {
        Some(header) => header,
        None => panic!("a packet that passed the parser has a whole header"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn valid4(mut header: Vec<u8>) -> Vec<u8> {
        header[0] = 0x45;
        set_checksum4(&mut header, 20);
        header
    }

    proptest! {
        #[test]
        fn checksum_stays_right(header in proptest::collection::vec(any::<u8>(), 20), tos: u8) {
            let mut packet = valid4(header);
            let ttl = packet[8];
            let before = packet.clone();
            let alive = decrement_ttl4(&mut packet) == Ttl::Alive;
            prop_assert_eq!(alive, ttl > 1);
            if alive {
                prop_assert_eq!(packet[8], ttl - 1);
                prop_assert_eq!(checksum::of(&packet), 0);
            } else {
                prop_assert_eq!(&packet, &before);
            }
            set_tos4(&mut packet, tos);
            prop_assert_eq!(packet[1], tos);
            prop_assert_eq!(checksum::of(&packet), 0);
            let had = packet[6] & 0x40 != 0;
            prop_assert_eq!(clear_df(&mut packet), had);
            prop_assert_eq!(packet[6] & 0x40, 0);
            prop_assert_eq!(checksum::of(&packet), 0);
        }

        #[test]
        fn a_wrong_checksum_stays_wrong(header in proptest::collection::vec(any::<u8>(), 20), error in 1u16..0xffff) {
            let mut packet = valid4(header);
            packet[8] |= 0x80;
            set_checksum4(&mut packet, 20);
            let sum = u16::from_be_bytes([packet[10], packet[11]]);
            packet[10..12].copy_from_slice(&sum.wrapping_add(error).to_be_bytes());
            // 0 and 0xffff are the same number in ones' complement.
            prop_assume!(checksum::of(&packet) != 0);
            decrement_ttl4(&mut packet);
            set_tos4(&mut packet, 3);
            prop_assert!(checksum::of(&packet) != 0);
        }

        #[test]
        fn traffic_class(mut packet in proptest::collection::vec(any::<u8>(), 40), tos: u8) {
            let before = packet.clone();
            set_tos6(&mut packet, tos);
            prop_assert_eq!(packet[0] << 4 | packet[1] >> 4, tos);
            prop_assert_eq!(packet[0] >> 4, before[0] >> 4);
            prop_assert_eq!(packet[1] & 0x0f, before[1] & 0x0f);
            prop_assert_eq!(&packet[2..], &before[2..]);
        }
    }

    #[test]
    fn hop_limit() {
        for (before, ttl, after) in [
            (0, Ttl::Expired, 0),
            (1, Ttl::Expired, 1),
            (2, Ttl::Alive, 1),
            (255, Ttl::Alive, 254),
        ] {
            let mut packet = vec![0; 40];
            packet[7] = before;
            assert_eq!(decrement_ttl6(&mut packet), ttl);
            assert_eq!(packet[7], after);
        }
    }
}
