//! What stands between payload and ICV: padding, pad length, next header (RFC 4303 2.4 to 2.7).
//!
//! Padding is 1, 2, 3, ... and a receiver should check it (RFC 4303 2.4). Traffic flow
//! confidentiality padding (2.7) needs nothing here: the inner IP packet's own length ends before
//! the payload does. Next header 59 marks a dummy packet (2.6), which is discarded without fault.
//!
//! Not here: the ICV, and whether the inner packet is valid.

use thiserror::Error;

use crate::parse::Family;
use crate::protocol;

/// 1, 2, 3, ..., 255.
const PADDING: [u8; 255] = {
    let mut padding = [0; 255];
    let mut i = 0;
    while i < padding.len() {
        padding[i] = i as u8 + 1;
        i += 1;
    }
    padding
};

const FIRST_16: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

/// By pad length: what the 16 bytes before the pad length end with, and which of them are padding.
const LAST_16: [(u128, u128); 17] = {
    let mut table = [(0, 0); 17];
    let mut pad = 1;
    while pad <= 16 {
        let shift = 8 * (16 - pad as u32);
        table[pad] = (u128::from_le_bytes(FIRST_16) << shift, u128::MAX << shift);
        pad += 1;
    }
    table
};

/// Why decrypted bytes do not end in a trailer that we accept. Each is one drop reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum TrailerError {
    /// Fewer than two bytes, or the pad length is larger than what is there.
    #[error("pad length is larger than the packet")]
    PadLength,
    /// The padding is not 1, 2, 3, ...
    #[error("padding is not 1, 2, 3, ...")]
    PadBytes,
    /// Next header 59: a dummy packet, discarded silently.
    #[error("dummy packet")]
    Dummy,
    /// Next header is neither IPv4 nor IPv6: not tunnel mode.
    #[error("next header {0} is not IP")]
    NextHeader(u8),
}

/// A verified trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Bytes before the padding: the inner packet, and perhaps TFC padding.
    pub payload_len: usize,
    /// Family of the inner packet.
    pub family: Family,
}

/// Length of the trailer, padding included, behind `payload_len` bytes for a cipher that needs
/// multiples of `block` (a power of two, 4 to 128).
#[must_use]
#[inline]
pub const fn len(payload_len: usize, block: usize) -> usize {
    // A mask, because a division by a length known only at run time costs more than all the rest.
    2 + ((payload_len + 2).wrapping_neg() & (block - 1))
}

/// Next header for an inner packet.
#[must_use]
#[inline]
pub const fn next_header(family: Family) -> u8 {
    match family {
        Family::V4 => protocol::IPV4,
        Family::V6 => protocol::IPV6,
    }
}

/// Writes the trailer of `len` bytes ([`len`]'s) at the front of `tail`: all that stands behind the
/// payload, the space of the ICV included.
///
/// May also write over the bytes behind the trailer, up to the sixteenth of `tail`: they are the
/// ICV's, which the cipher fills later. That spares a branch on the padding's length, which
/// differs from packet to packet and so is mispredicted.
///
/// # Panics
/// If `len` is below 2, above 257, or beyond `tail`.
#[inline]
pub fn write(tail: &mut [u8], len: usize, next_header: u8) {
    let pad = len - 2;
    match tail.first_chunk_mut::<16>() {
        Some(first) if pad <= 16 => *first = FIRST_16,
        _ => tail[..pad].copy_from_slice(&PADDING[..pad]),
    }
    tail[pad] = PADDING[..pad].len() as u8;
    tail[pad + 1] = next_header;
}

/// Checks the trailer at the end of decrypted `plaintext` (payload, padding, pad length, next
/// header; without ICV).
///
/// # Errors
/// See [`TrailerError`].
#[inline]
pub fn parse(plaintext: &[u8]) -> Result<Trailer, TrailerError> {
    let (rest, &[pad, next]) = plaintext
        .split_last_chunk()
        .ok_or(TrailerError::PadLength)?;
    let payload_len = rest
        .len()
        .checked_sub(usize::from(pad))
        .ok_or(TrailerError::PadLength)?;
    let right = match rest.last_chunk::<16>() {
        // Compared under a mask, without a branch on the padding's length.
        Some(last) if pad <= 16 => {
            let (expected, mask) = LAST_16[usize::from(pad)];
            (u128::from_le_bytes(*last) ^ expected) & mask == 0
        }
        _ => rest[payload_len..] == PADDING[..usize::from(pad)],
    };
    if !right {
        return Err(TrailerError::PadBytes);
    }
    let family = match next {
        protocol::IPV4 => Family::V4,
        protocol::IPV6 => Family::V6,
        protocol::NO_NEXT_HEADER => return Err(TrailerError::Dummy),
        other => return Err(TrailerError::NextHeader(other)),
    };
    Ok(Trailer {
        payload_len,
        family,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths() {
        for (payload, block, expected) in [
            (0, 4, 4),
            (1, 4, 3),
            (2, 4, 2),
            (3, 4, 5),
            (1446, 4, 2),
            (14, 16, 2),
            (15, 16, 17),
            (20, 16, 12),
        ] {
            assert_eq!(len(payload, block), expected, "{payload} {block}");
        }
    }

    #[test]
    fn table() {
        for (bytes, expected) in [
            (&[][..], Err(TrailerError::PadLength)),
            (&[4], Err(TrailerError::PadLength)),
            (&[0, 4], Ok((0, Family::V4))),
            (&[0, 41], Ok((0, Family::V6))),
            (&[9, 1, 2, 2, 4], Ok((1, Family::V4))),
            (&[1, 4], Err(TrailerError::PadLength)),
            (&[1, 2, 4, 3, 4], Err(TrailerError::PadBytes)),
            (&[0, 0, 2, 4], Err(TrailerError::PadBytes)),
            (&[1, 2, 3, 3, 59], Err(TrailerError::Dummy)),
            (&[1, 2, 3, 3, 17], Err(TrailerError::NextHeader(17))),
            (&[7, 255, 4], Err(TrailerError::PadLength)),
        ] {
            let got = parse(bytes).map(|trailer| (trailer.payload_len, trailer.family));
            assert_eq!(got, expected, "{bytes:?}");
        }
    }

    #[test]
    fn longest_padding() {
        let mut bytes: Vec<u8> = (1..=255).collect();
        bytes.extend([255, 4]);
        assert_eq!(
            parse(&bytes),
            Ok(Trailer {
                payload_len: 0,
                family: Family::V4
            })
        );
        bytes[254] ^= 1;
        assert_eq!(parse(&bytes), Err(TrailerError::PadBytes));
    }

    /// Every pad length, and every damaged byte of it.
    #[test]
    fn all_pad_lengths() {
        for payload in [0, 1, 20, 100] {
            for pad in 0..=255 {
                let mut bytes = vec![0xaa; payload + pad + 2];
                write(&mut bytes[payload..], pad + 2, 4);
                let whole = Ok(Trailer {
                    payload_len: payload,
                    family: Family::V4,
                });
                assert_eq!(parse(&bytes), whole, "{payload} {pad}");
                for at in payload..payload + pad {
                    bytes[at] ^= 0x10;
                    assert_eq!(
                        parse(&bytes),
                        Err(TrailerError::PadBytes),
                        "{payload} {pad}"
                    );
                    bytes[at] ^= 0x10;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(icv in 0usize..40, payload in 0usize..3000, block in prop::sample::select(vec![4, 8, 16]), v6: bool) {
            let family = if v6 { Family::V6 } else { Family::V4 };
            let trailer = len(payload, block);
            prop_assert!((2..2 + block).contains(&trailer));
            prop_assert_eq!((payload + trailer) % block, 0);
            let mut bytes = vec![0xaa; payload + trailer + icv];
            write(&mut bytes[payload..], trailer, next_header(family));
            prop_assert!(bytes[..payload].iter().all(|byte| *byte == 0xaa));
            let behind = bytes.iter().skip(payload + trailer.max(16));
            prop_assert!(behind.copied().all(|byte| byte == 0xaa));
            bytes.truncate(payload + trailer);
            prop_assert_eq!(parse(&bytes), Ok(Trailer { payload_len: payload, family }));
        }
    }
}
