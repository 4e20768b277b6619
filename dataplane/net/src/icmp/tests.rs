use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::parse::parse_ip;
use crate::testing::{V4, V6, v4, v6};

const US4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
const US6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9));

#[test]
fn version_4_messages() {
    let (packet, ip) = V4 {
        flags: 0x4000,
        data: &[0xab; 1000],
        ..V4::default()
    }
    .parsed();
    for (problem, kind, code, word) in [
        (Problem::NoRoute, 3, 0, 0),
        (Problem::HostUnreachable, 3, 1, 0),
        (Problem::Prohibited, 3, 13, 0),
        (Problem::TooBig { mtu: 1446 }, 3, 4, 1446),
        (Problem::Expired, 11, 0, 0),
    ] {
        let mut out = [0xff; 2000];
        let len = build(problem, &packet, &ip, US4, &mut out).expect("an error is due");
        assert_eq!(len, MAX_LEN4);
        let error = parse_ip(&out[..len]).expect("valid");
        assert_eq!((error.src_addr(), error.dst), (US4, v4([192, 0, 2, 1])));
        assert_eq!(
            (error.ttl, error.tos, error.icmp()),
            (64, 0xc0, Some((kind, code)))
        );
        assert_eq!(checksum::of(&out[20..len]), 0);
        assert_eq!(out[24..28], u32::to_be_bytes(word));
        assert_eq!(out[28..len], packet[..len - 28]);
    }
}

#[test]
fn version_6_messages() {
    let (packet, ip) = V6 {
        data: &[0xab; 1400],
        ..V6::default()
    }
    .parsed();
    for (problem, kind, code, word) in [
        (Problem::NoRoute, 1, 0, 0),
        (Problem::HostUnreachable, 1, 3, 0),
        (Problem::Prohibited, 1, 1, 0),
        (Problem::TooBig { mtu: 1426 }, 2, 0, 1426),
        (Problem::Expired, 3, 0, 0),
    ] {
        let mut out = [0xff; 2000];
        let len = build(problem, &packet, &ip, US6, &mut out).expect("an error is due");
        assert_eq!(len, MAX_LEN6);
        let error = parse_ip(&out[..len]).expect("valid");
        assert_eq!((error.src_addr(), error.dst), (US6, v6("2001:db8::1")));
        assert_eq!(
            (error.ttl, error.tos, error.icmp()),
            (64, 0xc0, Some((kind, code)))
        );
        let pseudo = checksum::pseudo6(error.src, error.dst, 58, (len - 40) as u32);
        assert_eq!(checksum::finish(checksum::add(pseudo, &out[40..len])), 0);
        assert_eq!(out[44..48], u32::to_be_bytes(word));
        assert_eq!(out[48..len], packet[..len - 48]);
    }
}

#[test]
fn short_packets_are_quoted_whole() {
    let (mut packet, ip) = V4::default().parsed();
    packet.extend([0xee; 18]); // Ethernet padding is not part of it.
    let mut out = [0; 576];
    assert_eq!(build(Problem::NoRoute, &packet, &ip, US4, &mut out), Ok(56));
    assert_eq!(out[28..56], packet[..28]);
}

#[test]
fn small_buffers() {
    let (packet, ip) = V4 {
        data: &[1; 500],
        ..V4::default()
    }
    .parsed();
    assert_eq!(
        build(Problem::NoRoute, &packet, &ip, US4, &mut [0; 100]),
        Ok(100)
    );
    // At least the header and eight bytes are quoted (RFC 792).
    assert_eq!(
        build(Problem::NoRoute, &packet, &ip, US4, &mut [0; 56]),
        Ok(56)
    );
    assert_eq!(
        build(Problem::NoRoute, &packet, &ip, US4, &mut [0; 55]),
        Err(Silence::NoRoom)
    );
    assert_eq!(
        build(Problem::NoRoute, &packet, &ip, US4, &mut []),
        Err(Silence::NoRoom)
    );
}

#[test]
fn silence() {
    let echo = [8, 0, 0, 0, 0, 0, 0, 0];
    let error = [3, 4, 0, 0, 0, 0, 0, 0];
    let base = V4::default;
    for (packet, expected) in [
        (
            V4 {
                protocol: 1,
                data: &echo,
                ..base()
            },
            Ok(56),
        ),
        (
            V4 {
                protocol: 1,
                data: &error,
                ..base()
            },
            Err(Silence::AboutError),
        ),
        (
            V4 {
                protocol: 1,
                data: &[11, 0, 0, 0, 0, 0, 0, 0],
                ..base()
            },
            Err(Silence::AboutError),
        ),
        (
            V4 {
                protocol: 1,
                data: &[5, 0, 0, 0],
                ..base()
            },
            Err(Silence::AboutError),
        ),
        (
            V4 {
                protocol: 1,
                data: &[8],
                ..base()
            },
            Err(Silence::AboutError),
        ),
        (
            V4 {
                flags: 0x2000,
                ..base()
            },
            Ok(56),
        ),
        (
            V4 {
                flags: 0x0010,
                ..base()
            },
            Err(Silence::LaterFragment),
        ),
        (
            V4 {
                dst: [224, 0, 0, 5],
                ..base()
            },
            Err(Silence::Multicast),
        ),
        (
            V4 {
                dst: [255, 255, 255, 255],
                ..base()
            },
            Err(Silence::Multicast),
        ),
        (
            V4 {
                src: [0, 0, 0, 0],
                ..base()
            },
            Err(Silence::BadSource),
        ),
        (
            V4 {
                src: [127, 0, 0, 1],
                ..base()
            },
            Err(Silence::BadSource),
        ),
        (
            V4 {
                src: [239, 1, 1, 1],
                ..base()
            },
            Err(Silence::BadSource),
        ),
        (
            V4 {
                src: [255, 255, 255, 255],
                ..base()
            },
            Err(Silence::BadSource),
        ),
    ] {
        let (bytes, ip) = packet.parsed();
        let mut out = [0x77; 600];
        let got = build(Problem::Expired, &bytes, &ip, US4, &mut out);
        assert_eq!(got, expected, "{bytes:x?}");
        assert!(got.is_ok() || out == [0x77; 600]);
    }
}

#[test]
fn silence_for_version_6() {
    let base = V6::default;
    let big = Problem::TooBig { mtu: 1280 };
    for (packet, problem, expected) in [
        (
            V6 {
                next: 58,
                data: &[128, 0, 0, 0],
                ..base()
            },
            Problem::Expired,
            Ok(()),
        ),
        (
            V6 {
                next: 58,
                data: &[1, 0, 0, 0],
                ..base()
            },
            Problem::Expired,
            Err(Silence::AboutError),
        ),
        (
            V6 {
                next: 58,
                data: &[127, 0, 0, 0],
                ..base()
            },
            big,
            Err(Silence::AboutError),
        ),
        (
            V6 {
                next: 58,
                data: &[137, 0, 0, 0],
                ..base()
            },
            big,
            Err(Silence::AboutError),
        ),
        (
            V6 {
                next: 58,
                data: &[],
                ..base()
            },
            big,
            Err(Silence::AboutError),
        ),
        (
            V6 {
                dst: "ff02::1",
                ..base()
            },
            Problem::Expired,
            Err(Silence::Multicast),
        ),
        (
            V6 {
                dst: "ff02::1",
                ..base()
            },
            big,
            Ok(()),
        ),
        (
            V6 {
                src: "::",
                ..base()
            },
            big,
            Err(Silence::BadSource),
        ),
        (
            V6 {
                src: "::1",
                ..base()
            },
            big,
            Err(Silence::BadSource),
        ),
        (
            V6 {
                src: "ff05::2",
                ..base()
            },
            big,
            Err(Silence::BadSource),
        ),
    ] {
        let (bytes, ip) = packet.parsed();
        let got = build(problem, &bytes, &ip, US6, &mut [0; 1280]).map(|_| ());
        assert_eq!(got, expected, "{bytes:x?}");
    }
}

#[test]
fn mismatches() {
    let (packet, ip) = V4::default().parsed();
    let mut out = [0; 600];
    assert_eq!(
        build(Problem::NoRoute, &packet, &ip, US6, &mut out),
        Err(Silence::Mismatch)
    );
    assert_eq!(
        build(Problem::NoRoute, &packet[..27], &ip, US4, &mut out),
        Err(Silence::Mismatch)
    );
}

#[test]
fn rate_limit() {
    const MS: u64 = 1_000_000;
    // Ten a second, three at once.
    let mut limit = RateLimit::new(10, 3);
    for (now, expected) in [
        (0, true),
        (0, true),
        (0, true),
        (0, false),
        (99 * MS, false),
        (100 * MS, true),
        (100 * MS, false),
        (350 * MS, true),
        (350 * MS, true),
        (350 * MS, false),
        (10_000 * MS, true),
        (10_000 * MS, true),
        (10_000 * MS, true),
        (10_000 * MS, false),
    ] {
        assert_eq!(limit.allow(now), expected, "at {} ms", now / MS);
    }
    for (per_second, burst) in [(0, 5), (5, 0), (0, 0)] {
        let mut none = RateLimit::new(per_second, burst);
        assert!((0..10).all(|second| !none.allow(second * 1000 * MS)));
    }
    let mut fast = RateLimit::new(u32::MAX, u32::MAX);
    assert!((0..1000).all(|_| fast.allow(5)));
    let mut sustained = RateLimit::new(100, 10);
    let sent = (0..100_000u64)
        .filter(|step| sustained.allow(step * MS / 10))
        .count();
    assert_eq!(sent, 1009);
}
