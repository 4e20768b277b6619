//! Timing in turns, and agreement before it.

use std::time::Instant;

use crate::contender::{BATCH, Contender, Packet};

/// Figures of one implementation on one workload and direction, in ns per packet.
pub(crate) struct Figures {
    pub(crate) contender: String,
    pub(crate) best: f64,
    pub(crate) median: f64,
    /// Median over the rounds of this time over ours.
    pub(crate) ratio: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Each must open what every other sealed.
pub(crate) fn agree(contenders: &mut [Box<dyn Contender>], packets: &mut [Packet<'_>]) {
    let packets = &mut packets[..BATCH];
    for sealer in 0..contenders.len() {
        contenders[sealer].seal(packets);
        let sealed: Vec<_> = packets.iter().map(|packet| packet.bytes.to_vec()).collect();
        for opener in 0..contenders.len() {
            for (packet, sealed) in packets.iter_mut().zip(&sealed) {
                packet.bytes.copy_from_slice(sealed);
            }
            let (a, b) = (contenders[sealer].name(), contenders[opener].name());
            assert!(
                contenders[opener].open(packets),
                "{b} refuses what {a} sealed"
            );
        }
    }
}

/// Times sealing and opening; the first contender is the one the others are compared with.
pub(crate) fn measure(
    contenders: &mut [Box<dyn Contender>],
    packets: &mut [Packet<'_>],
    rounds: usize,
) -> [Vec<Figures>; 2] {
    /// A timing should last this long, or the clock's own cost shows.
    const ENOUGH_NS: usize = 300_000;
    let bytes: usize = packets.iter().map(|packet| packet.bytes.len()).sum();
    let passes = (ENOUGH_NS / (packets.len() * 20 + bytes / 8)).max(1);
    let mut times = vec![[Vec::new(), Vec::new()]; contenders.len()];
    let mut sealed: Vec<Vec<u8>> = packets.iter().map(|packet| packet.bytes.to_vec()).collect();
    for _ in 0..rounds {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let start = Instant::now();
            for _ in 0..passes {
                packets
                    .chunks_mut(BATCH)
                    .for_each(|batch| contender.seal(batch));
            }
            let ns = start.elapsed().as_nanos() as f64;
            times[0].push(ns / (passes * packets.len()) as f64);

            for (kept, packet) in sealed.iter_mut().zip(packets.iter()) {
                kept.copy_from_slice(packet.bytes);
            }
            let mut ns = 0.0;
            for _ in 0..passes {
                for (packet, kept) in packets.iter_mut().zip(&sealed) {
                    packet.bytes.copy_from_slice(kept);
                }
                let start = Instant::now();
                let all = packets.chunks_mut(BATCH).all(|batch| contender.open(batch));
                ns += start.elapsed().as_nanos() as f64;
                assert!(all, "{} refuses its own packets", contender.name());
            }
            times[1].push(ns / (passes * packets.len()) as f64);
        }
    }
    [0, 1].map(|direction| {
        let ours = &times[0][direction];
        let figures = contenders.iter().zip(&times).map(|(contender, times)| {
            let times = &times[direction];
            let ratios = times
                .iter()
                .zip(ours)
                .map(|(time, ours)| time / ours)
                .collect();
            Figures {
                contender: contender.name(),
                best: times.iter().copied().fold(f64::MAX, f64::min),
                median: median(times.clone()),
                ratio: median(ratios),
            }
        });
        figures.collect()
    })
}
