//! What stands before the ciphertext: outer IP header, UDP header if encapsulated, SPI.
//!
//! All of it but a few fields is the same for every packet of an SA, so it is built once as an
//! [`OuterTemplate`] with the checksum's constant part, and stamped in front of each packet. The
//! sequence number and IV behind the SPI are the cipher's to write.
//!
//! RFC 4303 3.1.2 and RFC 4301 5.1.2 (tunnel mode headers), RFC 3948 (UDP), RFC 6864 (IPv4
//! identification).
//!
//! UDP checksums: over IPv4 zero, as RFC 3948 2.1 asks. Over IPv6 RFC 8200 8.1 demands a checksum
//! unless the tunnel protocol's own specification allows zero under RFC 6935 and RFC 6936; no
//! specification of ESP in UDP does, and Linux drops such packets, so it is computed
//! ([`OuterTemplate::finish`], once the ciphertext stands). Arriving packets may have any checksum:
//! RFC 3948 2.1 forbids to depend on it, and ESP's own integrity check is stronger.

use std::net::IpAddr;

use thiserror::Error;

use crate::parse::Family;
use crate::{checksum, protocol};

/// The port of IKE and ESP behind NAT.
pub const NAT_T_PORT: u16 = 4500;

/// TTL or hop limit of outer headers: constructed, not copied (RFC 4301 5.1.2.1 note 2).
pub const TTL: u8 = 64;

/// Ethernet header without VLAN tag, in bytes.
const LINK: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;
/// SPI and sequence number.
const ESP: usize = 8;
const LONGEST: usize = LINK + IPV6 + UDP + ESP;

/// The two outer addresses are of different families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("outer addresses {0} and {1} are of different families")]
pub struct FamilyError(pub IpAddr, pub IpAddr);

/// Everything before the IV, for one outbound SA: Ethernet, IP, UDP if encapsulated, ESP.
#[derive(Clone)]
pub struct OuterTemplate {
    bytes: [u8; LONGEST],
    /// Folded sum of the constant words: of the IPv4 header, or of the UDP pseudo-header and
    /// header over IPv6.
    sum: u32,
    kind: Kind,
    /// Bytes before the SPI.
    esp_offset: u8,
}

/// One arm of the stamp each, so that copies have constant length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    V4,
    V4Udp,
    V6,
    V6Udp,
}

impl OuterTemplate {
    /// A template for packets from `src` to `dst` with `spi`, behind the Ethernet header `link`;
    /// `udp` gives source and destination port if ESP is encapsulated in UDP.
    ///
    /// # Errors
    /// If the addresses are of different families.
    pub fn new(
        link: [u8; LINK],
        src: IpAddr,
        dst: IpAddr,
        udp: Option<(u16, u16)>,
        spi: u32,
    ) -> Result<Self, FamilyError> {
        let next = if udp.is_some() {
            protocol::UDP
        } else {
            protocol::ESP
        };
        let mut bytes = [0; LONGEST];
        bytes[..LINK].copy_from_slice(&link);
        let ip = &mut bytes[LINK..];
        let (kind, ip_len, sum) = match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                ip[0] = 0x45;
                ip[8] = TTL;
                ip[9] = next;
                ip[12..16].copy_from_slice(&src.octets());
                ip[16..20].copy_from_slice(&dst.octets());
                let kind = if udp.is_some() { Kind::V4Udp } else { Kind::V4 };
                (kind, IPV4, checksum::add(0, &ip[..IPV4]))
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                ip[0] = 0x60;
                // One flow label for the SA (RFC 6437 3), so that routers which spread by it keep
                // a tunnel's packets in order.
                let label = spi.wrapping_mul(0x9e37_79b9) >> 12;
                ip[1..4].copy_from_slice(&label.to_be_bytes()[1..]);
                ip[6] = next;
                ip[7] = TTL;
                ip[8..24].copy_from_slice(&src.octets());
                ip[24..40].copy_from_slice(&dst.octets());
                let kind = if udp.is_some() { Kind::V6Udp } else { Kind::V6 };
                let pseudo = checksum::pseudo6(src.to_bits(), dst.to_bits(), next, 0);
                (kind, IPV6, pseudo)
            }
            _ => return Err(FamilyError(src, dst)),
        };
        let mut at = ip_len;
        // The ports count in the sum of a UDP header over IPv6; over IPv4 there is no checksum.
        if let Some((source, target)) = udp {
            ip[at..at + 2].copy_from_slice(&source.to_be_bytes());
            ip[at + 2..at + 4].copy_from_slice(&target.to_be_bytes());
            at += UDP;
        }
        ip[at..at + 4].copy_from_slice(&spi.to_be_bytes());
        Ok(Self {
            bytes,
            sum: checksum::fold(sum).into(),
            kind,
            esp_offset: (LINK + at) as u8,
        })
    }

    /// Family of the outer header.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self.kind {
            Kind::V4 | Kind::V4Udp => Family::V4,
            Kind::V6 | Kind::V6Udp => Family::V6,
        }
    }

    /// Whether ESP is encapsulated in UDP.
    #[must_use]
    pub const fn udp(&self) -> bool {
        matches!(self.kind, Kind::V4Udp | Kind::V6Udp)
    }

    /// Bytes before the SPI: Ethernet header, outer IP header and UDP header.
    #[must_use]
    #[inline]
    pub const fn esp_offset(&self) -> usize {
        self.esp_offset as usize
    }

    /// Bytes before the IV: [`OuterTemplate::esp_offset`] and SPI and sequence number.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.esp_offset() + ESP
    }

    /// Never: there is always a header.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Writes the headers and the SPI at the front of `frame`, which is the whole Ethernet frame:
    /// its length is what the length fields say. The four bytes behind the SPI are zeroed.
    ///
    /// `tos` is the outer TOS or traffic class byte; `df` and `identification` matter for IPv4
    /// only, and the identification only without DF (RFC 6864 4.1).
    ///
    /// # Panics
    /// If `frame` is shorter than the headers or its packet longer than 65,535 bytes.
    #[inline]
    pub fn stamp(&self, frame: &mut [u8], tos: u8, df: bool, identification: u16) {
        assert!(
            frame.len() <= LINK + usize::from(u16::MAX),
            "no IP packet is that long"
        );
        let len = frame.len() - LINK;
        match self.kind {
            Kind::V4 => {
                let head = self.copy::<{ LINK + IPV4 + ESP }>(frame);
                self.stamp4(head, len, tos, df, identification);
            }
            Kind::V4Udp => {
                let head = self.copy::<{ LINK + IPV4 + UDP + ESP }>(frame);
                self.stamp4(head, len, tos, df, identification);
                stamp_udp(head, LINK + IPV4, len - IPV4);
            }
            Kind::V6 => {
                let head = self.copy::<{ LINK + IPV6 + ESP }>(frame);
                stamp6(head, len, tos);
            }
            Kind::V6Udp => {
                let head = self.copy::<{ LINK + IPV6 + UDP + ESP }>(frame);
                stamp6(head, len, tos);
                stamp_udp(head, LINK + IPV6, len - IPV6);
            }
        }
    }

    /// Whether [`OuterTemplate::finish`] has something to do.
    #[must_use]
    #[inline]
    pub const fn has_checksum(&self) -> bool {
        matches!(self.kind, Kind::V6Udp)
    }

    /// Completes a stamped frame whose ciphertext stands: the UDP checksum over IPv6. Does
    /// nothing for the other kinds.
    ///
    /// # Panics
    /// If `frame` is shorter than the headers.
    #[inline]
    pub fn finish(&self, frame: &mut [u8]) {
        if self.kind == Kind::V6Udp {
            self.udp_checksum(frame);
        }
    }

    #[cold]
    fn udp_checksum(&self, frame: &mut [u8]) {
        let udp = &mut frame[LINK + IPV6..];
        udp[6..8].fill(0);
        let length = udp.len() as u64;
        // A computed zero is sent as all ones, since zero means "none" (RFC 768).
        let sum = match checksum::finish(checksum::add(u64::from(self.sum) + length, udp)) {
            0 => 0xffff,
            sum => sum,
        };
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
    }

    #[inline]
    fn copy<'f, const N: usize>(&self, frame: &'f mut [u8]) -> &'f mut [u8; N] {
        match (frame.first_chunk_mut(), self.bytes.first_chunk()) {
            (Some(head), Some(bytes)) => {
                *head = *bytes;
                head
            }
            _ => panic!("the frame has room for its headers"),
        }
    }

    /// Fills in what differs between packets, by one store of eight bytes and one of two.
    #[inline]
    fn stamp4<const N: usize>(
        &self,
        head: &mut [u8; N],
        len: usize,
        tos: u8,
        df: bool,
        identification: u16,
    ) {
        let first = 0x4500 | u32::from(tos);
        let flags = u32::from(df) << 14;
        let (len, identification) = (len as u32, u32::from(identification));
        let word = u64::from(first << 16 | len) << 32 | u64::from(identification << 16 | flags);
        let sum = self.sum + u32::from(tos) + len + identification + flags;
        // Five terms of at most 16 bits: the second fold leaves no carry.
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        head[LINK..LINK + 8].copy_from_slice(&word.to_be_bytes());
        head[LINK + 10..LINK + 12].copy_from_slice(&sum.to_be_bytes());
    }
}

#[inline]
fn stamp6<const N: usize>(head: &mut [u8; N], len: usize, tos: u8) {
    let header = &mut head[LINK..];
    header[0] |= tos >> 4;
    header[1] |= tos << 4;
    header[4..6].copy_from_slice(&((len - IPV6) as u16).to_be_bytes());
}

#[inline]
fn stamp_udp<const N: usize>(head: &mut [u8; N], at: usize, len: usize) {
    head[at + 4..at + 6].copy_from_slice(&(len as u16).to_be_bytes());
}

impl std::fmt::Debug for OuterTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OuterTemplate")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// What a datagram to port 4500 is (RFC 3948 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpEncapsulated {
    /// ESP: begins with a non-zero SPI at this offset from the UDP header.
    Esp {
        /// Offset of the SPI from the UDP header; always 8.
        offset: usize,
        /// Length of the ESP packet.
        len: usize,
    },
    /// IKE behind a non-ESP marker of four zero bytes.
    Ike,
    /// A NAT keepalive: one byte 0xff, to be ignored.
    KeepAlive,
    /// Shorter than its headers, or its length contradicts the packet.
    Malformed,
}

/// Says what a datagram to port 4500 is. `datagram` begins at the UDP header and ends with the IP
/// packet.
#[must_use]
#[inline]
pub fn udp_encapsulated(datagram: &[u8]) -> UdpEncapsulated {
    let Some(header) = datagram.first_chunk::<UDP>() else {
        return UdpEncapsulated::Malformed;
    };
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let Some(payload) = datagram.get(UDP..len) else {
        return UdpEncapsulated::Malformed;
    };
    match payload.first_chunk::<4>() {
        Some([0, 0, 0, 0]) => UdpEncapsulated::Ike,
        Some(_) => UdpEncapsulated::Esp {
            offset: UDP,
            len: payload.len(),
        },
        None if payload == [0xff] => UdpEncapsulated::KeepAlive,
        None => UdpEncapsulated::Malformed,
    }
}

#[cfg(test)]
mod tests;
