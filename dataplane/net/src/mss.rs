//! Clamps the maximum segment size that TCP announces, so that no segment needs fragmentation in
//! the tunnel.
//!
//! The option is in SYN segments only (RFC 9293 3.7.1); the checksum is updated incrementally
//! (RFC 1624). A segment whose options make no sense is left alone: to forward it unchanged is
//! what a router does, and the end system judges it.
//!
//! Limit: a SYN without the option announces 536 (IPv4) or 1220 (IPv6), which fits every tunnel,
//! so none is inserted.

use crate::checksum;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;
const CHECKSUM_AT: usize = 16;

/// Lowers the MSS option of a TCP SYN to `maximum`; a lower one stays.
///
/// `segment` begins at the TCP header and holds at least the whole header. Returns the old value
/// if it was changed.
pub fn clamp(segment: &mut [u8], maximum: u16) -> Option<u16> {
    let header_len = usize::from(segment.get(12)? >> 4) * 4;
    // SYN set; the caller usually knows, but a data segment must never be touched.
    if segment.get(13)? & 0x02 == 0 || header_len < 20 {
        return None;
    }
    let header = segment.get_mut(..header_len)?;
    let at = find_mss(header)?;
    let old = u16::from_be_bytes([header[at], header[at + 1]]);
    if old <= maximum {
        return None;
    }
    header[at..at + 2].copy_from_slice(&maximum.to_be_bytes());
    // An option may begin at an odd offset; then its bytes lie in the other halves of the
    // checksum's words, and the swapped values give the swapped difference.
    let (from, to) = if at % 2 == 0 {
        (old, maximum)
    } else {
        (old.swap_bytes(), maximum.swap_bytes())
    };
    let sum = u16::from_be_bytes([header[CHECKSUM_AT], header[CHECKSUM_AT + 1]]);
    let sum = checksum::update(sum, from, to);
    header[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&sum.to_be_bytes());
    Some(old)
}

/// Where the MSS option's value begins in `header`; none if it is missing or the options are
/// malformed before it.
fn find_mss(header: &[u8]) -> Option<usize> {
    let mut at = 20;
    loop {
        match *header.get(at)? {
            OPTION_END => return None,
            OPTION_NOP => at += 1,
            kind => {
                let len = usize::from(*header.get(at + 1)?);
                if len < 2 || at + len > header.len() {
                    return None;
                }
                if kind == OPTION_MSS {
                    return (len == 4).then_some(at + 2);
                }
                at += len;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A SYN with `options` (padded with zeros to a multiple of 4) and a right checksum over the
    /// segment alone; the pseudo-header adds a constant that an update does not touch.
    fn syn(options: &[u8]) -> Vec<u8> {
        let mut segment = vec![0; 20 + options.len().next_multiple_of(4)];
        segment[..4].copy_from_slice(&[0x9c, 0x40, 0x01, 0xbb]);
        segment[12] = (segment.len() as u8 / 4) << 4;
        segment[13] = 0x02;
        segment[20..20 + options.len()].copy_from_slice(options);
        let sum = checksum::of(&segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        segment
    }

    #[test]
    fn table() {
        for (options, expected) in [
            (&[2, 4, 0x05, 0xb4][..], Some(1460)),
            (&[2, 4, 0x05, 0x78], None), // 1400: at the maximum
            (&[2, 4, 0x05, 0x79], Some(1401)),
            (&[1, 2, 4, 0x05, 0xb4], Some(1460)), // at an odd offset
            (&[1, 1, 4, 2, 2, 4, 0x23, 0x28], Some(9000)), // behind other options
            (&[3, 3, 7, 2, 4, 0xff, 0xff], Some(65535)),
            (&[0, 2, 4, 0x05, 0xb4], None),    // behind the end
            (&[2, 3, 0x05, 0xb4], None),       // wrong length
            (&[2, 4, 0x05], Some(0x0500)),     // padded by a zero: a whole option
            (&[8, 0, 2, 4, 0x05, 0xb4], None), // length 0 before it
            (&[8, 1, 2, 4, 0x05, 0xb4], None),
            (&[8, 40, 2, 4, 0x05, 0xb4], None), // length beyond the header
            (&[1, 1, 1, 2], None),              // kind without length
            (&[], None),
        ] {
            let mut segment = syn(options);
            let changed = clamp(&mut segment, 1400);
            let expected = expected.filter(|old| *old > 1400);
            assert_eq!(changed, expected, "{options:?}");
            assert_eq!(checksum::of(&segment), 0, "{options:?}");
            if changed.is_none() {
                assert_eq!(segment, syn(options));
            }
        }
    }

    #[test]
    fn only_syn() {
        for (flags, clamped) in [(0x02, true), (0x12, true), (0x10, false), (0x18, false)] {
            let mut segment = syn(&[2, 4, 0x05, 0xb4]);
            segment[13] = flags;
            assert_eq!(
                clamp(&mut segment, 1000).is_some(),
                clamped,
                "flags {flags:#x}"
            );
        }
    }

    #[test]
    fn short_segments_are_left_alone() {
        let whole = syn(&[2, 4, 0x05, 0xb4]);
        for len in 0..whole.len() {
            let mut segment = whole[..len].to_vec();
            assert_eq!(clamp(&mut segment, 1000), None, "{len} bytes");
            assert_eq!(segment, whole[..len]);
        }
    }

    proptest! {
        #[test]
        fn checksum_stays_right(options in proptest::collection::vec(any::<u8>(), 0..=40), maximum: u16) {
            let mut segment = syn(&options);
            let before = segment.clone();
            let changed = clamp(&mut segment, maximum);
            prop_assert_eq!(checksum::of(&segment), 0);
            let different = before.iter().zip(&segment).skip(20).filter(|(a, b)| a != b).count();
            prop_assert!(different <= 2);
            prop_assert_eq!(changed.is_none(), before == segment);
        }

        #[test]
        fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), maximum: u16) {
            let len = bytes.len();
            let _ = clamp(&mut bytes, maximum);
            prop_assert_eq!(bytes.len(), len);
        }
    }
}
