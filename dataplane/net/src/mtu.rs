//! How large a packet inside a tunnel may be.
//!
//! ESP in tunnel mode (RFC 4303 2) surrounds the inner packet with: outer IP header, UDP header if
//! encapsulated (RFC 3948), SPI and sequence number, IV, padding to the cipher's block, pad length
//! and next header (2 bytes, inside the padded part), ICV. So
//! `floor((outside MTU - outer - udp - 8 - iv - icv) / block) * block - 2`.
//!
//! Not here: path MTU discovery, and the size of a given packet's ciphertext (see
//! [`crate::esp_trailer`]).

use hawser_aead::Suite;

use crate::parse::Family;

/// Length of SPI and sequence number.
pub const ESP_HEADER: usize = 8;

/// Length of pad length and next header.
pub const ESP_TRAILER: usize = 2;

/// Length of a UDP header.
pub const UDP_HEADER: usize = 8;

/// The smallest MTU every IPv4 link has (RFC 791).
pub const MIN_IPV4: u16 = 68;

/// The smallest MTU every IPv6 link has (RFC 8200 5).
pub const MIN_IPV6: u16 = 1280;

/// The lengths of a cipher suite that matter for sizes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EspLengths {
    /// Initialisation vector.
    pub iv: usize,
    /// Integrity check value.
    pub icv: usize,
    /// What the encrypted part is padded to: the cipher's block, at least 4 (RFC 4303 2.4).
    pub block: usize,
}

impl From<Suite> for EspLengths {
    fn from(suite: Suite) -> Self {
        Self {
            iv: suite.iv_len(),
            icv: suite.icv_len(),
            block: suite.block_len(),
        }
    }
}

/// Length of an IP header without options.
#[must_use]
pub const fn ip_header(family: Family) -> usize {
    match family {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}

/// The largest inner packet whose ESP packet is at most `outside_mtu` bytes. None if nothing fits.
#[must_use]
pub const fn inside_mtu(
    outside_mtu: u16,
    outer: Family,
    udp: bool,
    esp: EspLengths,
) -> Option<u16> {
    let fixed = ip_header(outer) + if udp { UDP_HEADER } else { 0 } + ESP_HEADER + esp.iv + esp.icv;
    let Some(room) = (outside_mtu as usize).checked_sub(fixed) else {
        return None;
    };
    match (room / esp.block * esp.block).checked_sub(ESP_TRAILER) {
        Some(inside) if inside > 0 => Some(inside as u16),
        _ => None,
    }
}

/// The TCP maximum segment size for packets of `mtu` bytes: without IP and TCP options
/// (RFC 6691 2).
#[must_use]
pub const fn tcp_mss(mtu: u16, family: Family) -> u16 {
    mtu.saturating_sub(ip_header(family) as u16 + 20)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GCM: EspLengths = EspLengths {
        iv: 8,
        icv: 16,
        block: 4,
    };

    const fn cbc(icv: usize) -> EspLengths {
        EspLengths {
            iv: 16,
            icv,
            block: 16,
        }
    }

    /// The MTU table that AWS publishes for 1500 outside, IPv4.
    #[test]
    fn table_of_the_aws_guide() {
        for (suite, plain, nat) in [
            (Suite::Aes128Gcm16, 1446, 1438),
            (Suite::Aes256Gcm16, 1446, 1438),
            (Suite::Aes128CbcSha1_96, 1438, 1422),
            (Suite::Aes256CbcSha1_96, 1438, 1422),
            (Suite::Aes128CbcSha256_128, 1438, 1422),
            (Suite::Aes256CbcSha256_128, 1438, 1422),
            (Suite::Aes128CbcSha384_192, 1422, 1422),
            (Suite::Aes256CbcSha384_192, 1422, 1422),
            (Suite::Aes128CbcSha512_256, 1422, 1406),
            (Suite::Aes256CbcSha512_256, 1422, 1406),
        ] {
            let esp = suite.into();
            assert_eq!(
                inside_mtu(1500, Family::V4, false, esp),
                Some(plain),
                "{suite}"
            );
            assert_eq!(
                inside_mtu(1500, Family::V4, true, esp),
                Some(nat),
                "{suite} over UDP"
            );
        }
    }

    #[test]
    fn other_outsides() {
        assert_eq!(inside_mtu(1500, Family::V6, false, GCM), Some(1426));
        assert_eq!(inside_mtu(1500, Family::V6, true, GCM), Some(1418));
        assert_eq!(inside_mtu(9001, Family::V4, false, GCM), Some(8946));
        assert_eq!(inside_mtu(57, Family::V4, false, GCM), Some(2));
        assert_eq!(inside_mtu(55, Family::V4, false, GCM), None);
        assert_eq!(inside_mtu(0, Family::V6, true, cbc(32)), None);
    }

    #[test]
    fn segment_size() {
        assert_eq!(tcp_mss(1446, Family::V4), 1406);
        assert_eq!(tcp_mss(1446, Family::V6), 1386);
        assert_eq!(tcp_mss(10, Family::V4), 0);
    }

    proptest! {
        #[test]
        fn the_result_fits_and_one_more_does_not(
            outside in 100u16..,
            v6: bool,
            udp: bool,
            suite in prop::sample::select(vec![GCM, cbc(12), cbc(16), cbc(24), cbc(32)]),
        ) {
            let outer = if v6 { Family::V6 } else { Family::V4 };
            let size = |inner: usize| {
                let padded = (inner + ESP_TRAILER).next_multiple_of(suite.block);
                ip_header(outer) + if udp { 8 } else { 0 } + ESP_HEADER + suite.iv + padded + suite.icv
            };
            if let Some(inside) = inside_mtu(outside, outer, udp, suite) {
                prop_assert!(size(usize::from(inside)) <= usize::from(outside));
                prop_assert!(size(usize::from(inside) + 1) > usize::from(outside));
            }
        }
    }
}
