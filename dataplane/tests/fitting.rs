//! Packets that are too large for a tunnel, and what keeps them from being so.

use hawser_aead::Suite;
use hawser_api::*;
use hawser_dataplane::harness::*;

/// The IPv4 or IPv6 packet in a frame.
fn ip(frame: &[u8]) -> &[u8] {
    &frame[14..]
}

fn big(df: bool) -> Vec<u8> {
    let payload: Vec<u8> = (0..1480u32).map(|n| n as u8).collect();
    ipv4([10, 0, 0, 1], [10, 1, 0, 1], 17, &payload, df)
}

#[test]
fn too_large_with_df_is_answered_with_the_mtu() {
    let (mut a, _) = pair(&Plan::default());
    assert_eq!(a.send(&[big(true)]).len(), 0);
    assert_eq!(a.drops(), [(DropReason::PacketTooBig, 1)]);
    let answer = a.take(INSIDE);
    assert_eq!(answer.len(), 1);
    let ip = ip(&answer[0]);
    assert_eq!(
        &answer[0][..6],
        &[2, 0, 0, 0, 0, 99],
        "to the sender's Ethernet address"
    );
    assert_eq!(
        (&ip[12..16], &ip[16..20]),
        (&[10, 0, 255, 254][..], &[10, 0, 0, 1][..])
    );
    assert_eq!(&ip[20..22], &[3, 4], "fragmentation needed");
    assert_eq!(
        u16::from_be_bytes([ip[26], ip[27]]),
        1446,
        "AES-GCM over IPv4 at 1500"
    );
    assert_eq!(
        &ip[28 + 12..28 + 20],
        &[10, 0, 0, 1, 10, 1, 0, 1],
        "quotes the packet"
    );
    assert_eq!(a.counters().icmp_sent, 1);
}

#[test]
fn too_large_ipv6_is_answered_with_packet_too_big() {
    let (mut a, _) = pair(&Plan::default());
    assert_eq!(a.send(&[udp(0, true, (1, 2), &[0; 1450])]).len(), 0);
    let answer = a.take(INSIDE);
    assert_eq!(answer.len(), 1);
    let ip = ip(&answer[0]);
    assert_eq!((ip[6], ip[40], ip[41]), (58, 2, 0));
    assert_eq!(u32::from_be_bytes(ip[44..48].try_into().unwrap()), 1446);
}

#[test]
fn too_large_without_df_is_fragmented_before_encryption() {
    for (plan, df) in [
        (Plan::default(), false),
        (
            Plan {
                clear_inner_df: true,
                ..Plan::default()
            },
            true,
        ),
        (
            Plan {
                suite: Suite::Aes256CbcSha512_256,
                udp: true,
                ..Plan::default()
            },
            false,
        ),
    ] {
        let (mut a, mut b) = pair(&plan);
        let sent = big(df);
        let encrypted = a.send(std::slice::from_ref(&sent));
        assert!(
            encrypted.iter().all(|frame| frame.len() - 14 <= 1500),
            "outer fits the MTU"
        );
        let pieces = b.receive(&encrypted);
        assert_eq!(pieces.len(), 2);
        assert_eq!((a.drops(), b.drops()), (vec![], vec![]));
        let mut whole = vec![0; 1480];
        for piece in &pieces {
            let ip = ip(piece);
            assert_eq!(hawser_net::checksum::of(&ip[..20]), 0, "header checksum");
            let offset = usize::from(u16::from_be_bytes([ip[6] & 0x1f, ip[7]])) * 8;
            whole[offset..offset + ip.len() - 20].copy_from_slice(&ip[20..]);
        }
        assert_eq!(whole, sent[34..], "{plan:?}");
    }
}

#[test]
fn fragments_of_a_datagram_share_a_tunnel() {
    let (mut a, _) = pair(&Plan {
        tunnels: 16,
        ..Plan::default()
    });
    for id in 0..50u16 {
        let mut packets = Vec::new();
        for (offset, more) in [(0u16, true), (2, true), (4, false)] {
            let mut frame = ipv4([10, 0, 0, 1], [10, 1, 0, 1], 17, &[id as u8; 16], false);
            frame[18..20].copy_from_slice(&id.to_be_bytes());
            let flags = offset | if more { 0x2000 } else { 0 };
            frame[20..22].copy_from_slice(&flags.to_be_bytes());
            frame[24..26].fill(0);
            let sum = hawser_net::checksum::of(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
            packets.push(frame);
        }
        let tunnels: Vec<u8> = a.send(&packets).iter().map(|frame| frame[33]).collect();
        assert_eq!(tunnels.len(), 3);
        assert!(tunnels.iter().all(|t| *t == tunnels[0]), "{tunnels:?}");
    }
}

/// A TCP SYN with an MSS option of 1460.
fn syn(from: u8) -> Vec<u8> {
    let mut tcp = vec![0; 24];
    tcp[..4].copy_from_slice(&[0x30, 0x39, 0, 80]);
    tcp[12] = 6 << 4;
    tcp[13] = 2;
    tcp[20..24].copy_from_slice(&[2, 4, 0x05, 0xb4]);
    let (source, target) = ([10, from, 0, 1], [10, 1 - from, 0, 1]);
    let mut pseudo: Vec<u8> = [source, target].concat();
    pseudo.extend([0, 6, 0, 24]);
    pseudo.extend(&tcp);
    let sum = hawser_net::checksum::of(&pseudo);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    ipv4(source, target, 6, &tcp, true)
}

#[test]
fn mss_is_clamped_on_the_way_out_and_on_the_way_in() {
    // Side A has the smaller MTU; the SYN of B is not touched by B, so A must do it on arrival.
    let small = Plan {
        outside_mtu: 1400,
        ..Plan::default()
    };
    let mut a = Gateway::new(0, &small);
    let mut b = Gateway::new(1, &Plan::default());
    let mss = |frame: &[u8]| u16::from_be_bytes([frame[56], frame[57]]);
    let checked = |frame: &[u8]| {
        let mut pseudo = frame[26..34].to_vec();
        pseudo.extend([0, 6, 0, 24]);
        pseudo.extend(&frame[34..58]);
        assert_eq!(hawser_net::checksum::of(&pseudo), 0, "TCP checksum");
    };
    let out = b.receive(&a.send(&[syn(0)]));
    assert_eq!(
        mss(&out[0]),
        1346 - 40,
        "1400 - 20 - 8 - 8 - 16 - 2, rounded to the block"
    );
    checked(&out[0]);
    let back = a.receive(&b.send(&[syn(1)]));
    assert_eq!(mss(&back[0]), 1346 - 40);
    checked(&back[0]);
}

#[test]
fn out_of_frames_is_counted_and_passes() {
    let plan = Plan {
        frames: 64,
        tunnels: 1,
        ..Plan::default()
    };
    let (mut a, mut b) = pair(&plan);
    let mut hoard = Vec::new();
    let input = {
        let mut frame = a.pipeline.pool().take().unwrap();
        assert!(frame.set(&big(false)));
        frame
    };
    while let Some(frame) = a.pipeline.pool().take() {
        hoard.push(frame);
    }
    // Two fragments are needed and no frame is there.
    a.pipeline
        .from_port(INSIDE, vec![input].into_iter(), 5, &mut a.out);
    assert_eq!(a.drops(), [(DropReason::FragmentationFailed, 1)]);
    a.pipeline.pool().give_all(hoard);
    assert_eq!(b.receive(&a.send(&[big(false)])).len(), 2);
}
