//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Sums are kept unfolded in a `u64` while they grow and folded once; a checksum field holds the
//! complement of the folded sum. Everything is in terms of big-endian 16-bit words, as on the wire.

/// Adds the big-endian 16-bit words of `bytes` to `sum`; an odd last byte counts as the high half
/// of a word (RFC 1071).
///
/// The sum cannot overflow for inputs below 2^40 bytes.
#[must_use]
#[inline]
pub fn add(sum: u64, bytes: &[u8]) -> u64 {
    // 32 bits at a time: the two halves of a big-endian 32-bit word are summed by the final fold,
    // because 2^16 is 1 modulo 2^16 - 1.
    let mut sum = sum;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        sum += u64::from(u32::from_be_bytes(*word));
    }
    let (halves, rest) = rest.as_chunks::<2>();
    for half in halves {
        sum += u64::from(u16::from_be_bytes(*half));
    }
    if let [last] = rest {
        sum += u64::from(*last) << 8;
    }
    sum
}

/// Folds a sum to 16 bits with end-around carry.
#[must_use]
#[inline]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The checksum field of data whose words sum to `sum`.
#[must_use]
#[inline]
pub const fn finish(sum: u64) -> u16 {
    !fold(sum)
}

/// The checksum of `bytes`, with the checksum field inside them zero.
#[must_use]
pub fn of(bytes: &[u8]) -> u16 {
    finish(add(0, bytes))
}

/// The checksum after a 16-bit word that it covers changed from `old` to `new`.
///
/// RFC 1624 equation 3: `HC' = ~(~HC + ~m + m')`.
#[must_use]
#[inline]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    finish(!checksum as u64 + !old as u64 + new as u64)
}

/// The unfolded sum of the IPv4 pseudo-header used by TCP and UDP (RFC 9293 3.1).
#[must_use]
pub const fn pseudo4(src: u32, dst: u32, protocol: u8, length: u16) -> u64 {
    src as u64 + dst as u64 + protocol as u64 + length as u64
}

/// The unfolded sum of the IPv6 pseudo-header (RFC 8200 8.1).
#[must_use]
pub const fn pseudo6(src: u128, dst: u128, protocol: u8, length: u32) -> u64 {
    words(src) + words(dst) + protocol as u64 + length as u64
}

const fn words(address: u128) -> u64 {
    let high = (address >> 64) as u64;
    let low = address as u64;
    (high >> 32) + (high & 0xffff_ffff) + (low >> 32) + (low & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The sum of RFC 1071 section 4.1, one word at a time.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn example_of_rfc_1071_section_3() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(add(0, &bytes)), 0xddf2);
        assert_eq!(of(&bytes), 0x220d);
    }

    #[test]
    fn example_of_rfc_1624_section_4() {
        // HC = 0xdd2f, m = 0x5555, m' = 0x3285: equation 3 gives 0, where equation 2 gave 0xffff.
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    proptest! {
        #[test]
        fn equals_the_naive_sum(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(of(&bytes), naive(&bytes));
        }

        #[test]
        fn update_equals_recomputation(
            mut bytes in proptest::collection::vec(any::<u8>(), 20),
            at in 0usize..10,
            new: u16,
        ) {
            // A checksum over all zeros never occurs in a header: the version field is not zero.
            bytes[0] |= 0x40;
            let at = if at == 0 { 1 } else { at } * 2;
            let before = of(&bytes);
            let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(update(before, old, new), of(&bytes));
        }

        #[test]
        fn fold_keeps_the_value_modulo_ffff(sum: u64) {
            prop_assert_eq!(u64::from(fold(sum)) % 0xffff, sum % 0xffff);
            prop_assert_eq!(fold(sum) == 0, sum == 0);
        }
    }
}
