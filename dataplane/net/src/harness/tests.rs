//! The harnesses under proptest: any bytes, and valid packets with a few bytes changed, which get
//! past the first checks more often.

use proptest::prelude::*;

use super::*;
use crate::testing::{V4, V6, frame};

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..200)
}

/// A valid packet, some bytes of it changed, then cut; with a right IPv4 checksum in half of the
/// cases.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let chain: &[u8] = &[
        44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4, 0, 8, 0, 0,
    ];
    let tcp: &[u8] = &[
        1, 2, 3, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0, 0, 0, 0, 0, 0, 2, 4, 5, 180,
    ];
    let seeds = vec![
        V4::default().bytes(),
        V4 {
            options: &[7, 7, 4, 0, 0, 0, 0, 0x94, 4, 0, 0],
            flags: 0x2000,
            ..V4::default()
        }
        .bytes(),
        V4 {
            protocol: 6,
            data: tcp,
            ..V4::default()
        }
        .bytes(),
        V4 {
            protocol: 1,
            data: &[8, 0, 0, 0, 0, 0, 0, 0],
            ..V4::default()
        }
        .bytes(),
        V6::default().bytes(),
        V6 {
            next: 0,
            data: chain,
            ..V6::default()
        }
        .bytes(),
        V6 {
            next: 58,
            data: &[128, 0, 0, 0],
            ..V6::default()
        }
        .bytes(),
    ];
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (
        prop::sample::select(seeds),
        edits,
        0usize..4,
        any::<bool>(),
        bytes(),
    )
        .prop_map(|(mut packet, edits, cut, resum, behind)| {
            for (at, value) in edits {
                let at = at.index(packet.len());
                packet[at] = value;
            }
            let header = usize::from(packet[0] & 15) * 4;
            if resum && packet[0] >> 4 == 4 && (20..=packet.len()).contains(&header) {
                crate::rewrite::set_checksum4(&mut packet, header);
            }
            match cut {
                0 => packet.truncate(packet.len() - 1),
                1 => packet.extend(behind),
                _ => {}
            }
            packet
        })
}

fn tagged() -> impl Strategy<Value = Vec<u8>> {
    let tag = (
        prop::sample::select(vec![0x8100u16, 0x88a8, 0x9100]),
        any::<u16>(),
    );
    let ethertype = prop::sample::select(vec![0x0800u16, 0x86dd, 0x0806]);
    (proptest::collection::vec(tag, 0..4), ethertype, damaged())
        .prop_map(|(tags, ethertype, packet)| frame(&tags, ethertype, &packet))
}

fn prefixed(prefix: usize) -> impl Strategy<Value = Vec<u8>> {
    (proptest::collection::vec(any::<u8>(), prefix), damaged())
        .prop_map(|(prefix, packet)| [prefix, packet].concat())
}

proptest! {
    #[test]
    fn frames(frame in prop_oneof![bytes(), tagged()]) {
        parse(&frame);
    }

    #[test]
    fn packets(packet in prop_oneof![bytes(), damaged()]) {
        parse_ip(&packet);
    }

    #[test]
    fn trailers(plaintext in bytes(), pad in 0u8..20) {
        trailer(&plaintext);
        let padded: Vec<_> = plaintext.iter().copied().chain(1..=pad).chain([pad, 41]).collect();
        trailer(&padded);
    }

    #[test]
    fn selections(data in prefixed(8)) {
        selectors(&data);
    }

    #[test]
    fn segments(data in bytes()) {
        clamp_mss(&data);
    }

    #[test]
    fn cuts(data in prefixed(2), mtu in 20u16..100) {
        fragment(&data);
        fragment(&[&mtu.to_be_bytes(), &data[2..]].concat());
    }
}
