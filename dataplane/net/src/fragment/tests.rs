use proptest::prelude::*;

use super::*;
use crate::parse::parse_ip;
use crate::testing::{V4, V6};

fn pieces(packet: &[u8], mtu: u16) -> Vec<Vec<u8>> {
    let ip = parse_ip(packet).expect("valid");
    let mut fragments = Fragments::new(packet, &ip, mtu).expect("can be cut");
    let mut out = vec![0; 65_535];
    let mut pieces = Vec::new();
    while let Some(announced) = fragments.next_len() {
        let len = fragments.write_next(&mut out).expect("room enough");
        assert_eq!(len, announced);
        pieces.push(out[..len].to_vec());
    }
    assert_eq!(fragments.write_next(&mut out), None);
    pieces
}

/// (data offset, data length, more fragments) of each piece.
fn layout(pieces: &[Vec<u8>]) -> Vec<(u16, usize, bool)> {
    pieces
        .iter()
        .map(|piece| {
            let ip = parse_ip(piece).expect("valid");
            assert_eq!(ip.total_len as usize, piece.len());
            let data = piece.len() - usize::from(ip.l4_offset);
            (ip.fragment_offset, data, ip.more_fragments)
        })
        .collect()
}

#[test]
fn layouts() {
    let data = [0x5a; 4000];
    for (len, flags, mtu, expected) in [
        (1000, 0, 1500, &[(0, 1000, false)][..]),
        (1480, 0, 1500, &[(0, 1480, false)]),
        (1481, 0, 1500, &[(0, 1480, true), (1480, 1, false)]),
        (
            4000,
            0,
            1500,
            &[(0, 1480, true), (1480, 1480, true), (2960, 1040, false)],
        ),
        // 1446 - 20 = 1426 holds 178 units of eight.
        (1480, 0, 1446, &[(0, 1424, true), (1424, 56, false)]),
        // A middle fragment cut again: offset and "more" go on.
        (
            1480,
            0x2000 | 185,
            1446,
            &[(1480, 1424, true), (2904, 56, true)],
        ),
        // The last one cut again.
        (1480, 185, 1446, &[(1480, 1424, true), (2904, 56, false)]),
        (24, 0, 28, &[(0, 8, true), (8, 8, true), (16, 8, false)]),
        (0, 0, 20, &[(0, 0, false)]),
        (0, 0, 68, &[(0, 0, false)]),
    ] {
        let packet = V4 {
            flags,
            data: &data[..len],
            ..V4::default()
        }
        .bytes();
        assert_eq!(
            layout(&pieces(&packet, mtu)),
            expected,
            "{len} bytes, MTU {mtu}"
        );
    }
}

#[test]
fn what_fits_is_unchanged() {
    let packet = V4 {
        flags: 0x4000,
        options: &[7, 7, 4, 1, 2, 3, 4],
        ..V4::default()
    }
    .bytes();
    assert_eq!(pieces(&packet, 1500), [packet]);
}

#[test]
fn only_copied_options_are_copied() {
    // Record route (7, not copied), NOP, router alert (0x94, copied), stream id (0x88, copied).
    let options = [7, 7, 4, 1, 2, 3, 4, 1, 0x94, 4, 0, 0, 0x88, 4, 9, 9];
    let packet = V4 {
        options: &options,
        data: &[0; 100],
        ..V4::default()
    }
    .bytes();
    let pieces = pieces(&packet, 76);
    assert_eq!(pieces[0][20..36], options);
    for later in &pieces[1..] {
        assert_eq!(later[0], 0x47);
        assert_eq!(later[20..28], [0x94, 4, 0, 0, 0x88, 4, 9, 9]);
    }
    assert_eq!(
        layout(&pieces),
        [(0, 40, true), (40, 48, true), (88, 12, false)]
    );
}

#[test]
fn malformed_options_end_the_copy() {
    for options in [
        &[0x94, 1, 0, 0][..],
        &[0x94, 0],
        &[0x94, 9, 0, 0],
        &[1, 1, 1, 0x94],
        &[0, 0x94, 4, 0],
    ] {
        let packet = V4 {
            options,
            data: &[0; 64],
            ..V4::default()
        }
        .bytes();
        let pieces = pieces(&packet, 56);
        assert!(pieces.len() > 1);
        assert!(
            pieces[1..].iter().all(|piece| piece[0] == 0x45),
            "{options:?}"
        );
    }
}

#[test]
fn refusals() {
    let (packet, ip) = V4 {
        data: &[0; 100],
        ..V4::default()
    }
    .parsed();
    assert_eq!(
        Fragments::new(&packet, &ip, 27).err(),
        Some(FragmentError::MtuTooSmall)
    );
    assert_eq!(
        Fragments::new(&packet, &ip, 0).err(),
        Some(FragmentError::MtuTooSmall)
    );
    assert!(Fragments::new(&packet, &ip, 28).is_ok());
    let short = &packet[..50];
    assert_eq!(
        Fragments::new(short, &ip, 68).err(),
        Some(FragmentError::Truncated)
    );
    let (packet, ip) = V6::default().parsed();
    assert_eq!(
        Fragments::new(&packet, &ip, 1280).err(),
        Some(FragmentError::NotIpv4)
    );
}

#[test]
fn a_short_buffer_loses_nothing() {
    let (packet, ip) = V4 {
        data: &[7; 100],
        ..V4::default()
    }
    .parsed();
    let mut fragments = Fragments::new(&packet, &ip, 68).expect("can be cut");
    assert_eq!(fragments.write_next(&mut [0; 67]), None);
    assert_eq!(fragments.write_next(&mut [0; 68]), Some(68));
}

proptest! {
    #[test]
    fn pieces_reassemble(
        data in proptest::collection::vec(any::<u8>(), 0..3000),
        options in proptest::collection::vec(any::<u8>(), 0..=40),
        offset in 0u16..4000,
        more: bool,
        mtu in 68u16..1600,
    ) {
        let flags = offset | if more { 0x2000 } else { 0 };
        let packet = V4 { flags, options: &options, data: &data, ..V4::default() }.bytes();
        let mut harness = mtu.to_be_bytes().to_vec();
        harness.extend_from_slice(&packet);
        crate::harness::fragment(&harness);
    }
}
