//! Where ESP is in a frame from the network, plain (RFC 4303) or in UDP (RFC 3948).

use super::plain::sums_up;
use super::{ETHERNET_LEN, Fragment, IPV4_MIN, Packet};
use crate::encap::{UdpEncapsulated, udp_encapsulated};
use crate::mtu::ESP_HEADER;
use crate::protocol;

/// An ESP packet in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Esp {
    /// The SPI.
    pub spi: u32,
    /// Low half of the sequence number.
    pub sequence: u32,
    /// Of the SPI, in bytes from the frame's first.
    pub offset: usize,
    /// In bytes, from the SPI to the end.
    pub len: usize,
    /// In UDP.
    pub udp: bool,
}

impl Esp {
    /// ESP in the `payload` of an IP packet, which begins at `start` of the frame.
    #[inline(always)]
    fn within(payload: &[u8], start: usize, protocol: u8) -> Option<Self> {
        let (offset, len, udp) = match protocol {
            protocol::ESP => (0, payload.len(), false),
            protocol::UDP => match udp_encapsulated(payload) {
                UdpEncapsulated::Esp { offset, len } => (offset, len, true),
                UdpEncapsulated::Ike | UdpEncapsulated::KeepAlive | UdpEncapsulated::Malformed => {
                    return None;
                }
            },
            _ => return None,
        };
        let esp = payload.get(offset..offset + len)?;
        let (spi, rest) = esp.split_first_chunk::<4>()?;
        let sequence = rest.first_chunk::<4>()?;
        Some(Self {
            spi: u32::from_be_bytes(*spi),
            sequence: u32::from_be_bytes(*sequence),
            offset: start + offset,
            len,
            udp,
        })
    }
}

/// Finds ESP in a parsed frame. `None` when there is none: a fragment, UDP that is not ESP, or
/// fewer bytes than its header has.
#[must_use]
#[inline]
pub fn find_esp(frame: &[u8], packet: &Packet) -> Option<Esp> {
    if packet.ip.fragment != Fragment::Whole {
        return None;
    }
    let l3 = usize::from(packet.l3_offset);
    let start = l3 + usize::from(packet.ip.l4_offset);
    let end = l3 + packet.ip.total_len as usize;
    Esp::within(&frame[start..end], start, packet.ip.protocol)
}

/// An ESP packet in an untagged frame with a plain IPv4 header: what nearly all that comes from a
/// peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainEsp {
    /// The ESP packet.
    pub esp: Esp,
    /// The outer addresses, as [`outer_addresses`] gives them.
    pub addresses: u64,
    /// The source port, if it is in UDP.
    pub port: Option<u16>,
    /// The outer TOS byte.
    pub tos: u8,
}

/// Source and destination of an IPv4 packet in one word, in the order of its bytes.
#[must_use]
#[inline]
pub const fn outer_addresses(source: [u8; 4], destination: [u8; 4]) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (source, destination);
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// An untagged frame with ESP in a plain IPv4 packet, if it is one: [`parse`](super::parse()) and
/// [`find_esp`] say the same of it.
///
/// For the packet loop: it takes from the headers what an inbound SA is found by, and nothing else.
#[must_use]
#[inline(always)]
pub fn plain_esp(frame: &[u8]) -> Option<PlainEsp> {
    let (link, bytes) = frame.split_first_chunk::<ETHERNET_LEN>()?;
    let header: &[u8; IPV4_MIN + ESP_HEADER] = bytes.first_chunk()?;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
    let straight = link[12..] == [0x08, 0x00] && header[0] == 0x45 && fragment == 0;
    if !straight || total_len < IPV4_MIN + ESP_HEADER || !sums_up(header.first_chunk()?) {
        return None;
    }
    let payload = bytes.get(IPV4_MIN..total_len)?;
    let esp = Esp::within(payload, ETHERNET_LEN + IPV4_MIN, header[9])?;
    let addresses: &[u8; 8] = header[12..].first_chunk()?;
    let port = u16::from_be_bytes([header[20], header[21]]);
    Some(PlainEsp {
        esp,
        addresses: u64::from_ne_bytes(*addresses),
        port: esp.udp.then_some(port),
        tos: header[1],
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse::parse;
    use crate::testing::{V4, frame};

    fn esp(udp: bool, data: &[u8]) -> Vec<u8> {
        let datagram: Vec<u8> = [
            &[0x9c, 0x40, 0x11, 0x94, 0, 8 + data.len() as u8, 0, 0],
            data,
        ]
        .concat();
        let packet = V4 {
            protocol: if udp { protocol::UDP } else { protocol::ESP },
            data: if udp { &datagram } else { data },
            ..V4::default()
        };
        frame(&[], 0x0800, &packet.bytes())
    }

    #[test]
    fn plain_and_in_udp() {
        let data = [1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9];
        let addresses = outer_addresses([192, 0, 2, 1], [198, 51, 100, 2]);
        for (port, offset) in [(None, 34), (Some(40000), 42)] {
            let expected = PlainEsp {
                esp: Esp {
                    spi: 0x0102_0304,
                    sequence: 0x0506_0708,
                    offset,
                    len: 12,
                    udp: port.is_some(),
                },
                addresses,
                port,
                tos: 0,
            };
            assert_eq!(plain_esp(&esp(port.is_some(), &data)), Some(expected));
        }
    }

    #[test]
    fn not_plain() {
        let data = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(
            plain_esp(&esp(true, &[0, 0, 0, 0, 1, 2, 3, 4])),
            None,
            "IKE"
        );
        assert_eq!(plain_esp(&esp(true, &[0xff])), None, "keepalive");
        assert_eq!(plain_esp(&esp(false, &data[..7])), None, "too short");
        let whole = esp(false, &data);
        for len in 0..whole.len() {
            assert_eq!(plain_esp(&whole[..len]), None, "{len}");
        }
        for at in 14..34 {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            assert_eq!(plain_esp(&damaged), None, "checksum, byte {at}");
        }
    }

    proptest! {
        /// Whatever it accepts the general parser accepts, and with the same result.
        #[test]
        fn agrees_with_the_general_parser(
            udp: bool,
            data in proptest::collection::vec(any::<u8>(), 0..80),
            padding in 0usize..20,
            damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let mut bytes = esp(udp, &data);
            bytes.resize(bytes.len() + padding, 0);
            if let Some((at, value)) = damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let general = parse(&bytes).ok();
            let general = general.and_then(|packet| Some((packet, find_esp(&bytes, &packet)?)));
            let usual = general.filter(|(packet, at)| {
                packet.l3_offset == 14 && packet.ip.l4_offset == 20 && packet.ip.family == crate::Family::V4
                    && at.len >= ESP_HEADER
            });
            let plain = plain_esp(&bytes);
            prop_assert_eq!(plain.is_some(), usual.is_some());
            if let (Some(plain), Some((packet, at))) = (plain, usual) {
                prop_assert_eq!(plain.esp, at);
                prop_assert_eq!(plain.port, at.udp.then(|| packet.ip.ports().unwrap().0));
                prop_assert_eq!(plain.tos, packet.ip.tos);
                let (src, dst) = (packet.ip.src4().to_be_bytes(), packet.ip.dst4().to_be_bytes());
                prop_assert_eq!(plain.addresses, outer_addresses(src, dst));
                let header = &bytes[at.offset..];
                prop_assert_eq!(&plain.esp.spi.to_be_bytes()[..], &header[..4]);
                prop_assert_eq!(&plain.esp.sequence.to_be_bytes()[..], &header[4..8]);
            }
        }
    }
}
