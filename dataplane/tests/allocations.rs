//! The packet path does not allocate: counted, both ways, with fragments and ICMP errors.

use hawser_aead::Suite;
use hawser_api::{DropReason, PortId};
use hawser_counting_allocator::{CountingAllocator, allocated};
use hawser_dataplane::harness::*;
use hawser_xsk::Frame;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Runs a batch; returns what came out of `output` and how often the pipeline allocated.
fn run(
    gateway: &mut Gateway,
    input: PortId,
    packets: &[Vec<u8>],
    output: PortId,
) -> (Vec<Vec<u8>>, u64) {
    gateway.now += 1_000_000_000;
    let mut batch: Vec<Frame> = Vec::with_capacity(packets.len());
    for packet in packets {
        let pool = gateway.pipeline.pool();
        let mut frame = pool.take().expect("a frame");
        assert!(frame.set(packet), "fits the frame");
        batch.push(frame);
    }
    let ((), cost) = allocated(|| {
        gateway
            .pipeline
            .from_port(input, batch.drain(..), gateway.now, &mut gateway.out);
        gateway.pipeline.housekeep(gateway.now);
    });
    let other = if output == INSIDE { OUTSIDE } else { INSIDE };
    gateway.take(other);
    (gateway.take(output), cost.calls)
}

/// A batch of all that a router meets.
fn mixture() -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for n in 0..12 {
        packets.push(udp(0, n % 3 == 0, (1000 + n, 53), &[7; 100]));
    }
    // Fragmented, answered "fragmentation needed", answered "no route", and one for a host whose
    // neighbour is not known.
    let payload = [3; 1470];
    packets.push(ipv4([10, 0, 0, 1], [10, 1, 0, 1], 17, &payload, false));
    packets.push(ipv4([10, 0, 0, 1], [10, 1, 0, 1], 17, &payload, true));
    packets.push(ipv4([10, 0, 0, 1], [192, 0, 2, 1], 17, &payload, false));
    packets.push(ipv4([10, 0, 0, 1], [10, 0, 7, 7], 17, &[3; 40], false));
    packets.push(vec![0; 60]);
    packets
}

#[test]
fn the_packet_path_does_not_allocate() {
    for suite in [Suite::Aes128Gcm16, Suite::Aes256CbcSha512_256] {
        let plan = Plan {
            suite,
            ..Plan::default()
        };
        let (mut a, mut b) = pair(&plan);
        let packets = mixture();
        for round in 0..20 {
            let (sealed, sending) = run(&mut a, INSIDE, &packets, OUTSIDE);
            assert_eq!(sealed.len(), 14, "12 packets and two fragments");
            let (opened, receiving) = run(&mut b, OUTSIDE, &sealed, INSIDE);
            assert_eq!(opened.len(), 14);
            let (_, replaying) = run(&mut b, OUTSIDE, &sealed, INSIDE);
            // The first round may find tables of the ciphers not yet made.
            if round > 0 {
                assert_eq!((sending, receiving, replaying), (0, 0, 0), "{suite}");
            }
        }
        let refused = |reason| move |&(r, n): &(DropReason, u64)| r == reason && n == 20;
        for reason in [DropReason::PacketTooBig, DropReason::NoRoute] {
            assert!(a.drops().iter().any(refused(reason)), "{reason:?}");
        }
        assert_eq!(a.counters().icmp_sent, 40);
    }
}
