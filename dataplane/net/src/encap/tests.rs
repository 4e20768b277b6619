use proptest::prelude::*;

use super::*;
use crate::parse::parse_ip;

const SPI: u32 = 0xc0ff_ee01;
const ETHERNET: [u8; LINK] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x86, 0xdd];

fn template(v6: bool, udp: bool) -> OuterTemplate {
    let (src, dst) = if v6 {
        ("2001:db8::1".parse(), "2001:db8::2".parse())
    } else {
        ("192.0.2.1".parse(), "198.51.100.2".parse())
    };
    let ports = udp.then_some((4500, 4501));
    OuterTemplate::new(
        ETHERNET,
        src.expect("valid"),
        dst.expect("valid"),
        ports,
        SPI,
    )
    .expect("one family")
}

#[test]
fn lengths() {
    for (v6, udp, offset) in [
        (false, false, 34),
        (false, true, 42),
        (true, false, 54),
        (true, true, 62),
    ] {
        let template = template(v6, udp);
        assert_eq!(template.esp_offset(), offset);
        assert_eq!(template.len(), offset + 8);
        assert_eq!(template.family(), if v6 { Family::V6 } else { Family::V4 });
        assert_eq!(template.udp(), udp);
        assert!(!template.is_empty());
    }
}

#[test]
fn families_must_agree() {
    let (four, six) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([0u16; 8]));
    assert_eq!(
        OuterTemplate::new(ETHERNET, four, six, None, 1).err(),
        Some(FamilyError(four, six))
    );
}

proptest! {
    /// What is stamped parses, sums up, and leaves the rest of the packet alone.
    #[test]
    fn stamped_packets_are_valid(
        v6: bool,
        udp: bool,
        tos: u8,
        df: bool,
        identification: u16,
        body in proptest::collection::vec(any::<u8>(), 24..1500),
    ) {
        let template = template(v6, udp);
        let at = template.esp_offset();
        let mut frame = vec![0xff; template.len()];
        frame.extend_from_slice(&body);
        template.stamp(&mut frame, tos, df, identification);
        template.finish(&mut frame);

        prop_assert_eq!(&frame[..LINK], &ETHERNET);
        let (packet, at) = (&frame[LINK..], at - LINK);
        let ip = parse_ip(packet).expect("valid");
        prop_assert_eq!(ip.total_len as usize, packet.len());
        prop_assert_eq!((ip.tos, ip.ttl), (tos, 64));
        prop_assert_eq!(ip.df, df || v6);
        if !v6 {
            prop_assert_eq!(ip.identification, u32::from(identification));
        }
        prop_assert_eq!(&packet[at..at + 4], &SPI.to_be_bytes());
        prop_assert_eq!(&packet[at + 4..at + 8], &[0; 4]);
        prop_assert_eq!(&packet[at + 8..], &body);
        if udp {
            prop_assert_eq!((ip.protocol, ip.ports()), (17, Some((4500, 4501))));
            let datagram = &packet[usize::from(ip.l4_offset)..];
            let len = datagram.len();
            prop_assert_eq!(udp_encapsulated(datagram), UdpEncapsulated::Esp { offset: 8, len: len - 8 });
            let sum = u16::from_be_bytes([datagram[6], datagram[7]]);
            if v6 {
                let pseudo = checksum::pseudo6(ip.src, ip.dst, 17, len as u32);
                prop_assert_eq!(checksum::finish(checksum::add(pseudo, datagram)), 0);
                prop_assert_ne!(sum, 0);
            } else {
                prop_assert_eq!(sum, 0);
            }
        } else {
            prop_assert_eq!((ip.protocol, ip.spi()), (50, Some(SPI)));
        }
    }
}

#[test]
#[should_panic(expected = "no IP packet is that long")]
fn too_long() {
    template(false, false).stamp(&mut vec![0; LINK + 65_536], 0, false, 0);
}

#[test]
fn port_4500() {
    let esp = |len: usize| UdpEncapsulated::Esp { offset: 8, len };
    for (payload, length, expected) in [
        (&[1, 2, 3, 4, 5][..], 13, esp(5)),
        (&[0, 0, 0, 1], 12, esp(4)),
        (&[0, 0, 0, 0, 9], 13, UdpEncapsulated::Ike),
        (&[0xff], 9, UdpEncapsulated::KeepAlive),
        (&[0xfe], 9, UdpEncapsulated::Malformed),
        (&[0xff, 0xff], 10, UdpEncapsulated::Malformed),
        (&[], 8, UdpEncapsulated::Malformed),
        // Shorter than the packet: the UDP length counts.
        (&[1, 2, 3, 4, 5], 12, esp(4)),
        (&[1, 2, 3, 4, 5], 14, UdpEncapsulated::Malformed),
        (&[1, 2, 3, 4, 5], 7, UdpEncapsulated::Malformed),
        (&[1, 2, 3, 4, 5], 0, UdpEncapsulated::Malformed),
    ] {
        let mut datagram = vec![0x11, 0x94, 0x11, 0x94, 0, length, 0, 0];
        datagram.extend_from_slice(payload);
        assert_eq!(
            udp_encapsulated(&datagram),
            expected,
            "{payload:?} {length}"
        );
    }
    assert_eq!(udp_encapsulated(&[0; 7]), UdpEncapsulated::Malformed);
}
