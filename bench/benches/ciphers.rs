//! Each cipher suite alone: batches of 64 ESP packets over 40 keys, sealed and opened.
//!
//! An iteration is a packet; the throughput is that of inner packets.

#![allow(
    missing_docs,
    reason = "criterion's macro makes a public function without any"
)]

mod per_packet;

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use hawser_aead::{BATCH, Suite};
use hawser_bench::cipher::{Keys, esp_len};
use hawser_xsk::{Frame, FramePool};
use per_packet::PerPacket;

/// Enough batches that the clock does not matter, few enough to stay in the second-level cache.
const FRAMES: usize = 4 * BATCH;

fn frames(pool: &mut FramePool, packet: &[u8]) -> Vec<Frame> {
    let filled = |_| {
        let mut frame = pool.take().expect("a frame for each packet");
        assert!(frame.set(packet), "fits a frame");
        frame
    };
    (0..FRAMES).map(filled).collect()
}

fn ciphers(c: &mut Criterion<PerPacket>) {
    let mut pool = FramePool::heap(FRAMES, 2048);
    for suite in Suite::ALL {
        let keys = Keys::new(suite, 40).expect("keys of the right length");
        let mut group = c.benchmark_group(suite.to_string());
        group.sampling_mode(SamplingMode::Flat);
        for size in [64, 512, 1424] {
            group.throughput(Throughput::BytesDecimal(size as u64));
            let packet = vec![0x5a; esp_len(suite, size)];
            group.bench_function(format!("seal/{size}"), |b| {
                b.iter_custom(|iterations| {
                    per_packet::time(iterations, || {
                        let mut frames = frames(&mut pool, &packet);
                        let (spent, _) = keys.seal(&mut frames)?;
                        pool.give_all(frames);
                        Ok((spent, FRAMES))
                    })
                });
            });
            group.bench_function(format!("open/{size}"), |b| {
                b.iter_custom(|iterations| {
                    per_packet::time(iterations, || {
                        let mut frames = frames(&mut pool, &packet);
                        let (_, sequences) = keys.seal(&mut frames)?;
                        let spent = keys.open(&mut frames, &sequences)?;
                        pool.give_all(frames);
                        Ok((spent, FRAMES))
                    })
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = per_packet::settings(Duration::from_secs(2));
    targets = ciphers
}
criterion_main!(benches);
