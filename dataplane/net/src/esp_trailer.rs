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
    2 + (payload_len + 2).wrapping_neg() % block
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

/// Fills `trailer`, whose length is [`len`]'s.
///
/// # Panics
/// If `trailer` is shorter than 2 or longer than 257 bytes.
#[inline]
pub fn write(trailer: &mut [u8], next_header: u8) {
    let pad = trailer.len() - 2;
    // Up to 3 bytes for AES-GCM, up to 15 for CBC: too short for a memcpy call to pay.
    for (byte, value) in trailer[..pad].iter_mut().zip(PADDING) {
        *byte = value;
    }
    trailer[pad] = PADDING[..pad].len() as u8;
    trailer[pad + 1] = next_header;
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
    let padding = &rest[payload_len..];
    if padding
        .iter()
        .zip(PADDING)
        .any(|(byte, value)| *byte != value)
    {
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

    proptest! {
        #[test]
        fn what_is_written_is_read(payload in 0usize..3000, block in prop::sample::select(vec![4, 8, 16]), v6: bool) {
            let family = if v6 { Family::V6 } else { Family::V4 };
            let trailer = len(payload, block);
            prop_assert!((2..2 + block).contains(&trailer));
            prop_assert_eq!((payload + trailer) % block, 0);
            let mut bytes = vec![0xaa; payload + trailer];
            write(&mut bytes[payload..], next_header(family));
            prop_assert_eq!(parse(&bytes), Ok(Trailer { payload_len: payload, family }));
            prop_assert!(bytes[..payload].iter().all(|byte| *byte == 0xaa));
        }
    }
}
