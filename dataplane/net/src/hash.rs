//! The flow hash: which bucket of a next-hop group a packet belongs to.
//!
//! A keyed hash over (source, destination, protocol, ports), 64 bits. Its key differs from the
//! NIC's Toeplitz key and from every other router's, so that a fabric which spread flows over
//! gateways by its own hash does not starve buckets here (hash polarisation).
//!
//! What counts as a flow:
//! - whole packets with ports: the five-tuple; ESP and AH: the SPI stands for the ports, so
//!   IPsec passing through spreads too;
//! - fragments, the first included: (source, destination, protocol, identification), since later
//!   ones have no ports and all fragments of a packet must take one tunnel;
//! - the rest: (source, destination, protocol).
//!
//! Built on folded 64x64-bit multiplication (as in wyhash): two multiplications for IPv4, four for
//! IPv6. The last one only mixes: without it sequential ports fill buckets in a pattern. Not a cryptographic hash: who knows the key can aim at one bucket, so the key is drawn
//! at random at start.

use crate::parse::{Family, Fragment, IpHeader, L4};

/// Odd constants with balanced bits (fractions of the square roots of 2, 3, 5 and 7), so that a
/// weak seed still yields a usable key.
const ODD: [u64; 4] = [
    0x6a09_e667_f3bc_c909,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
];

/// A flow hash's key, expanded.
#[derive(Clone, Copy)]
pub struct FlowHash {
    key: [u64; 5],
}

impl FlowHash {
    /// A hash for `seed`; all bits of the seed matter.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        let mut key = [0; 5];
        let mut state = seed;
        let mut i = 0;
        while i < key.len() {
            // SplitMix64: successive outputs of one seed are unrelated enough to serve as keys.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            key[i] = z ^ ODD[i & 3];
            i += 1;
        }
        Self { key }
    }

    /// The hash of a parsed packet's flow.
    #[must_use]
    #[inline]
    pub fn hash(&self, ip: &IpHeader) -> u64 {
        let word = Self::word(ip);
        match ip.family {
            Family::V4 => self.hash4(ip.src4(), ip.dst4(), ip.protocol, word),
            Family::V6 => self.hash6(ip.src, ip.dst, ip.protocol, word),
        }
    }

    /// What tells flows between two hosts apart, beside the protocol: ports, SPI, or a fragment's
    /// identification.
    #[must_use]
    #[inline]
    pub const fn word(ip: &IpHeader) -> u32 {
        match (ip.fragment, ip.l4) {
            (Fragment::Whole, L4::Ports | L4::Spi) => ip.l4_word,
            (Fragment::Whole, L4::None | L4::Icmp) => 0,
            (Fragment::First | Fragment::Later, _) => ip.identification,
        }
    }

    /// The hash of an IPv4 flow; `word` is ports, SPI, or identification.
    #[must_use]
    #[inline]
    pub const fn hash4(&self, src: u32, dst: u32, protocol: u8, word: u32) -> u64 {
        let addresses = (src as u64) << 32 | dst as u64;
        let mixed = fold_mul(addresses ^ self.key[0], tail(protocol, word) ^ self.key[1]);
        fold_mul(mixed ^ self.key[4], ODD[0])
    }

    /// The hash of an IPv6 flow; `word` is ports, SPI, or identification.
    #[must_use]
    #[inline]
    pub const fn hash6(&self, src: u128, dst: u128, protocol: u8, word: u32) -> u64 {
        let source = fold_mul((src >> 64) as u64 ^ self.key[0], src as u64 ^ self.key[1]);
        let target = fold_mul((dst >> 64) as u64 ^ self.key[2], dst as u64 ^ self.key[3]);
        // Rotated, so that swapping source and destination is another flow.
        let addresses = source ^ target.rotate_left(29);
        let mixed = fold_mul(addresses ^ self.key[4], tail(protocol, word) ^ ODD[1]);
        fold_mul(mixed ^ ODD[2], ODD[0])
    }
}

/// The key stays out of logs.
impl std::fmt::Debug for FlowHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlowHash").finish_non_exhaustive()
    }
}

const fn tail(protocol: u8, word: u32) -> u64 {
    (protocol as u64) << 32 | word as u64
}

/// Both halves of the 128-bit product, folded by exclusive or.
const fn fold_mul(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests;
