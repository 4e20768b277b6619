use proptest::prelude::*;

use super::*;
use crate::protocol;
use crate::testing::{V4, V6, frame, v4, v6};

const TCP_SYN: [u8; 20] = [
    0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0,
];

#[test]
fn a_plain_frame() {
    let packet = parse(&frame(&[], 0x0800, &V4::default().bytes())).expect("valid");
    assert_eq!(
        (packet.l3_offset, packet.vlan, packet.inner_vlan),
        (14, 0, 0)
    );
    let ip = packet.ip;
    assert_eq!(
        (ip.src, ip.dst),
        (v4([192, 0, 2, 1]), v4([198, 51, 100, 2]))
    );
    assert_eq!(
        (ip.family, ip.protocol, ip.ttl, ip.df),
        (Family::V4, 17, 64, false)
    );
    assert_eq!(
        (ip.total_len, ip.l4_offset, ip.identification),
        (28, 20, 0x1234)
    );
    assert_eq!(
        (ip.ports(), ip.spi(), ip.icmp()),
        (Some((40000, 4500)), None, None)
    );
    assert_eq!(ip.src_addr(), IpAddr::from([192, 0, 2, 1]));
}

#[test]
fn vlan_tags() {
    let ip4 = V4::default().bytes();
    let ip6 = V6::default().bytes();
    for (tags, ethertype, bytes, expected) in [
        (&[(0x8100, 0xe064)][..], 0x0800, &ip4, Ok((18, 100, 0))),
        (
            &[(0x88a8, 7), (0x8100, 0x1fff)],
            0x0800,
            &ip4,
            Ok((22, 7, 0xfff)),
        ),
        (&[(0x8100, 0)], 0x86dd, &ip6, Ok((18, 0, 0))),
        (&[], 0x86dd, &ip6, Ok((14, 0, 0))),
        (
            &[(0x8100, 1), (0x8100, 2), (0x8100, 3)],
            0x0800,
            &ip4,
            Err(ParseError::NotIp),
        ),
        (&[], 0x0806, &ip4, Err(ParseError::NotIp)),
        (&[(0x8100, 1)], 0x8863, &ip4, Err(ParseError::NotIp)),
        (&[], 0x86dd, &ip4, Err(ParseError::Truncated)),
        (&[], 0x0800, &ip6, Err(ParseError::BadVersion)),
    ] {
        let got = parse(&frame(tags, ethertype, bytes))
            .map(|packet| (packet.l3_offset, packet.vlan, packet.inner_vlan));
        assert_eq!(got, expected, "{tags:x?} {ethertype:#x}");
    }
}

#[test]
fn every_truncation_is_noticed() {
    for whole in [
        frame(&[], 0x0800, &V4::default().bytes()),
        frame(
            &[(0x8100, 5)],
            0x0800,
            &V4 {
                options: &[1; 8],
                ..V4::default()
            }
            .bytes(),
        ),
        frame(&[(0x88a8, 5), (0x8100, 6)], 0x86dd, &V6::default().bytes()),
    ] {
        assert!(parse(&whole).is_ok());
        for len in 0..whole.len() {
            assert_eq!(
                parse(&whole[..len]),
                Err(ParseError::Truncated),
                "{len} bytes"
            );
        }
    }
}

#[test]
fn padding_behind_the_packet_is_not_part_of_it() {
    let mut padded = frame(&[], 0x0800, &V4::default().bytes());
    let short = parse(&padded).expect("valid");
    padded.resize(60, 0xee);
    assert_eq!(parse(&padded), Ok(short));
}

/// Edits of a valid packet (offset, value); with `resum` the checksum is made right again.
#[test]
fn malformed_ipv4() {
    for (edits, resum, expected) in [
        (&[(0, 0x65)][..], true, ParseError::NotIp),
        (&[(0, 0x44)], true, ParseError::BadHeaderLength),
        (&[(0, 0x40)], true, ParseError::BadHeaderLength),
        (&[(0, 0x4f)], true, ParseError::Truncated),
        (&[(0, 0x46), (3, 20)], false, ParseError::BadTotalLength),
        (&[(3, 19)], true, ParseError::BadTotalLength),
        (&[(3, 0)], true, ParseError::BadTotalLength),
        (&[(3, 29)], true, ParseError::Truncated),
        (&[(2, 0xff)], true, ParseError::Truncated),
        (&[(8, 63)], false, ParseError::BadChecksum),
        (&[(10, 0)], false, ParseError::BadChecksum),
        (&[(0, 0x46)], false, ParseError::BadChecksum),
    ] {
        let mut bytes = V4::default().bytes();
        for (at, value) in edits {
            bytes[*at] = *value;
        }
        if resum {
            crate::rewrite::set_checksum4(&mut bytes, 20);
        }
        let got = parse_ip(&bytes);
        let expected = if edits[0] == (0, 0x65) {
            ParseError::Truncated
        } else {
            expected
        };
        assert_eq!(got, Err(expected), "{edits:x?}");
    }
    assert_eq!(parse_ip(&[]), Err(ParseError::Truncated));
    assert_eq!(parse_ip(&[0x50; 64]), Err(ParseError::NotIp));
}

#[test]
fn ipv4_options() {
    let (_, ip) = V4 {
        options: &[7, 7, 4, 0, 0, 0, 0],
        ..V4::default()
    }
    .parsed();
    assert_eq!((ip.l4_offset, ip.total_len), (28, 36));
    assert_eq!(ip.ports(), Some((40000, 4500)));
    let (_, ip) = V4 {
        options: &[1; 40],
        ..V4::default()
    }
    .parsed();
    assert_eq!(ip.l4_offset, 60);
}

#[test]
fn ipv4_fragments() {
    let data = [0x11; 16];
    for (flags, data, expected) in [
        (0x0000, &data[..], Ok((Fragment::Whole, 0, false, true))),
        (0x4000, &data, Ok((Fragment::Whole, 0, false, true))),
        (0x2000, &data, Ok((Fragment::First, 0, true, true))),
        (0x2001, &data, Ok((Fragment::Later, 8, true, false))),
        (0x00b9, &data, Ok((Fragment::Later, 1480, false, false))),
        (
            0x00b9,
            &data[..3],
            Ok((Fragment::Later, 1480, false, false)),
        ),
        // Not a multiple of eight though more follow, without data, beyond 65,535.
        (0x2000, &data[..15], Err(ParseError::BadFragment)),
        (0x0001, &data[..0], Err(ParseError::BadFragment)),
        (0x2000, &data[..0], Err(ParseError::BadFragment)),
        (0x1fff, &data, Err(ParseError::BadFragment)),
        (0x1ffa, &data, Ok((Fragment::Later, 65_488, false, false))),
    ] {
        let got = parse_ip(
            &V4 {
                flags,
                data,
                ..V4::default()
            }
            .bytes(),
        )
        .map(|ip| {
            (
                ip.fragment,
                ip.fragment_offset,
                ip.more_fragments,
                ip.ports().is_some(),
            )
        });
        assert_eq!(got, expected, "{flags:#x} {}", data.len());
    }
}

#[test]
fn layer_4_words() {
    for (protocol, data, ports, spi, icmp) in [
        (protocol::TCP, &TCP_SYN[..], Some((40000, 443)), None, None),
        (protocol::TCP, &TCP_SYN[..8], Some((40000, 443)), None, None),
        (protocol::TCP, &TCP_SYN[..3], None, None, None),
        (protocol::SCTP, &TCP_SYN, Some((40000, 443)), None, None),
        (protocol::DCCP, &TCP_SYN, Some((40000, 443)), None, None),
        (protocol::UDP_LITE, &TCP_SYN, Some((40000, 443)), None, None),
        (
            protocol::ESP,
            &[1, 2, 3, 4, 0, 0, 0, 1],
            None,
            Some(0x0102_0304),
            None,
        ),
        (protocol::ESP, &[1, 2, 3], None, None, None),
        (
            protocol::AH,
            &[6, 4, 0, 0, 9, 8, 7, 6, 0, 0, 0, 1],
            None,
            Some(0x0908_0706),
            None,
        ),
        (
            protocol::ICMP,
            &[8, 0, 0, 0, 0, 1, 0, 1],
            None,
            None,
            Some((8, 0)),
        ),
        (protocol::ICMP, &[3, 4, 0, 0], None, None, Some((3, 4))),
        (protocol::ICMP, &[3, 4], None, None, None),
        (47, &TCP_SYN, None, None, None),
        (protocol::UDP, &[], None, None, None),
    ] {
        let (_, ip) = V4 {
            protocol,
            data,
            ..V4::default()
        }
        .parsed();
        assert_eq!(
            (ip.ports(), ip.spi(), ip.icmp()),
            (ports, spi, icmp),
            "{protocol} {data:x?}"
        );
    }
}

#[test]
fn tcp_syn() {
    for (flags, syn) in [
        (0x02, true),
        (0x12, true),
        (0x10, false),
        (0x00, false),
        (0xc2, true),
    ] {
        let mut data = TCP_SYN;
        data[13] = flags;
        let (_, ip) = V4 {
            protocol: protocol::TCP,
            data: &data,
            ..V4::default()
        }
        .parsed();
        assert_eq!(ip.tcp_syn, syn, "{flags:#x}");
        let (_, ip) = V6 {
            next: protocol::TCP,
            data: &data,
            ..V6::default()
        }
        .parsed();
        assert_eq!(ip.tcp_syn, syn, "{flags:#x}");
    }
}

#[test]
fn a_plain_ipv6_packet() {
    let mut bytes = V6::default().bytes();
    bytes[0] = 0x6b;
    bytes[1] = 0x81;
    let ip = parse_ip(&bytes).expect("valid");
    assert_eq!((ip.src, ip.dst), (v6("2001:db8::1"), v6("2001:db8:1::2")));
    assert_eq!(
        (ip.family, ip.protocol, ip.ttl, ip.tos, ip.df),
        (Family::V6, 17, 64, 0xb8, true)
    );
    assert_eq!((ip.total_len, ip.l4_offset, ip.identification), (48, 40, 0));
    assert_eq!(ip.ports(), Some((40000, 4500)));
    assert_eq!(ip.dst_addr().to_string(), "2001:db8:1::2");
}

/// Extension headers: (kind, bytes behind the next header byte). The chain ends with UDP.
fn chain(headers: &[(u8, &[u8])]) -> (u8, Vec<u8>) {
    let mut out = Vec::new();
    for (i, (_, rest)) in headers.iter().enumerate() {
        out.push(headers.get(i + 1).map_or(protocol::UDP, |next| next.0));
        out.extend_from_slice(rest);
    }
    out.extend([0x9c, 0x40, 0x11, 0x94, 0, 8, 0, 0]);
    (headers.first().map_or(protocol::UDP, |first| first.0), out)
}

#[test]
fn ipv6_extension_headers() {
    let options: &[u8] = &[0, 1, 4, 0, 0, 0, 0];
    let long: &[u8] = &[1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // AH with a 12-byte ICV: 24 bytes, so a length field of 4.
    let ah: &[u8] = &[
        4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9,
    ];
    let atomic: &[u8] = &[0, 0, 0, 0, 0, 0, 7];
    let one = (protocol::DESTINATION_OPTIONS, options);
    for (headers, expected) in [
        (&[(protocol::HOP_BY_HOP, options)][..], Ok(48)),
        (
            &[(protocol::HOP_BY_HOP, long), (protocol::ROUTING, options)],
            Ok(64),
        ),
        (&[(protocol::AH, ah)], Ok(64)),
        (&[(protocol::FRAGMENT, atomic), one], Ok(56)),
        (&[one; 8], Ok(104)),
        (&[one; 9], Err(ParseError::TooManyExtensionHeaders)),
        (&[one; 100], Err(ParseError::TooManyExtensionHeaders)),
        // A length beyond the packet.
        (
            &[(protocol::ROUTING, &[200, 0, 0, 0, 0, 0, 0])],
            Err(ParseError::BadHeaderLength),
        ),
        (
            &[(protocol::AH, &[255, 0, 0, 0, 0, 0, 0])],
            Err(ParseError::BadHeaderLength),
        ),
    ] {
        let (next, data) = chain(headers);
        let got = parse_ip(
            &V6 {
                next,
                data: &data,
                ..V6::default()
            }
            .bytes(),
        );
        assert_eq!(got.map(|ip| ip.l4_offset), expected, "{headers:?}");
        if let Ok(ip) = got {
            assert_eq!(ip.protocol, protocol::UDP);
            assert_eq!(ip.ports(), Some((40000, 4500)));
            assert_eq!(ip.fragment, Fragment::Whole);
        }
    }
    for next in [protocol::HOP_BY_HOP, protocol::FRAGMENT, protocol::AH] {
        let got = parse_ip(
            &V6 {
                next,
                data: &[17, 0, 0, 0, 0, 0, 0],
                ..V6::default()
            }
            .bytes(),
        );
        assert_eq!(got, Err(ParseError::BadHeaderLength), "{next}");
    }
}

#[test]
fn ipv6_ends() {
    let (_, ip) = V6 {
        next: protocol::NO_NEXT_HEADER,
        data: &[],
        ..V6::default()
    }
    .parsed();
    assert_eq!((ip.protocol, ip.l4, ip.total_len), (59, L4::None, 40));
    let (_, ip) = V6 {
        next: protocol::ESP,
        data: &[0, 0, 1, 0, 0, 0, 0, 1],
        ..V6::default()
    }
    .parsed();
    assert_eq!(ip.spi(), Some(256));
    let (_, ip) = V6 {
        next: protocol::ICMPV6,
        data: &[128, 0, 0, 0],
        ..V6::default()
    }
    .parsed();
    assert_eq!(ip.icmp(), Some((128, 0)));
    // A jumbogram.
    let jumbo = V6 {
        next: protocol::HOP_BY_HOP,
        data: &[],
        ..V6::default()
    }
    .bytes();
    assert_eq!(parse_ip(&jumbo), Err(ParseError::BadTotalLength));
}

#[test]
fn ipv6_fragments() {
    for (word, data_len, expected) in [
        (0x0001u16, 16, Ok((Fragment::First, 0, true, true))),
        (0x0009, 16, Ok((Fragment::Later, 8, true, false))),
        (0x0008, 3, Ok((Fragment::Later, 8, false, false))),
        (0x0000, 16, Ok((Fragment::Whole, 0, false, true))),
        (0x0001, 15, Err(ParseError::BadFragment)),
        (0x0008, 0, Err(ParseError::BadFragment)),
        (0xfff8, 16, Err(ParseError::BadFragment)),
        (0xfff8, 7, Ok((Fragment::Later, 65_528, false, false))),
    ] {
        let mut data = vec![protocol::UDP, 0];
        data.extend(word.to_be_bytes());
        data.extend([0xde, 0xad, 0xbe, 0xef]);
        data.extend(vec![0x11; data_len]);
        let got = parse_ip(
            &V6 {
                next: protocol::FRAGMENT,
                data: &data,
                ..V6::default()
            }
            .bytes(),
        );
        let shown = got.map(|ip| {
            (
                ip.fragment,
                ip.fragment_offset,
                ip.more_fragments,
                ip.ports().is_some(),
            )
        });
        assert_eq!(shown, expected, "{word:#x} {data_len}");
        if let Ok(ip) = got {
            assert_eq!(
                (ip.identification, ip.protocol),
                (0xdead_beef, protocol::UDP)
            );
            assert_eq!(ip.l4_offset, 48);
        }
    }
}

proptest! {
    /// The straight path says what the general one says, or nothing.
    #[test]
    fn both_paths_agree(
        v6: bool,
        protocol in prop::sample::select(vec![6u8, 17, 50, 1, 44]),
        data in proptest::collection::vec(any::<u8>(), 0..40),
        flags in prop::sample::select(vec![0u16, 0x4000, 0x2000, 0x8000, 3]),
        edit in proptest::option::of((0usize..44, any::<u8>())),
        behind in 0usize..8,
    ) {
        let mut bytes = if v6 {
            V6 { next: protocol, data: &data, ..V6::default() }.bytes()
        } else {
            V4 { protocol, flags, data: &data, ..V4::default() }.bytes()
        };
        if let Some((at, value)) = edit
            && let Some(byte) = bytes.get_mut(at)
        {
            *byte = value;
        }
        bytes.resize(bytes.len() + behind, 0xee);
        let general = parse_any_ip(&bytes);
        prop_assert_eq!(parse_ip(&bytes), general);
        let ethertype = if v6 { 0x86dd } else { 0x0800 };
        let framed = frame(&[], ethertype, &bytes);
        prop_assert_eq!(parse(&framed), parse_any(&framed));
        if let Some(packet) = parse_plain(&framed) {
            prop_assert_eq!(parse_any(&framed), Ok(packet));
            prop_assert_eq!(parse_plain_ip(&bytes), Some(packet.ip));
        }
    }
}
