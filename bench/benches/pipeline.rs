//! The whole packet path in memory, both ways: 40 tunnels, 1,000 routes, AES-GCM-128; packets that
//! stay in the nearest caches (64 frames) and packets that do not (4,096).
//!
//! An iteration is a packet; the throughput is that of inner packets. `empty` is what the others
//! hold besides the packet path. The cipher alone is in `ciphers`; `--bin pipeline` measures both in
//! turns, which is what a difference between them needs.

#![allow(
    missing_docs,
    reason = "criterion's macro makes a public function without any"
)]

mod per_packet;

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use hawser_aead::{BATCH, Suite};
use hawser_bench::{
    load::LOADS,
    path::{self, Way},
    world::{Scale, World},
};
use per_packet::PerPacket;

const ROUTES: u32 = 1000;

fn pipeline(c: &mut Criterion<PerPacket>) {
    for frames in [64, 4096] {
        let scale = Scale {
            tunnels: 40,
            routes: ROUTES,
            suite: Suite::Aes128Gcm16,
            frames: frames + BATCH,
        };
        let (mut sealer, _) = World::new(0, scale);
        let (mut opener, _) = World::new(1, scale);
        for load in LOADS {
            let packets = load.packets(frames, ROUTES);
            let mut group = c.benchmark_group(format!("pipeline/{frames}"));
            group.sampling_mode(SamplingMode::Flat);
            group.throughput(Throughput::BytesDecimal(load.mean() as u64));
            for way in Way::ALL {
                group.bench_function(format!("{}/{}", way.name(), load.name), |b| {
                    b.iter_custom(|iterations| {
                        per_packet::time(iterations, || match way {
                            // No packet can be opened twice.
                            Way::Decrypt => {
                                let sealed = sealer.seal(&packets)?;
                                path::run(&mut opener, &sealed, way)
                            }
                            _ => path::run(&mut sealer, &packets, way),
                        })
                    });
                });
            }
            group.finish();
        }
        sealer.check().expect("nothing was dropped");
        opener.check().expect("nothing was dropped");
    }
}

criterion_group! {
    name = benches;
    config = per_packet::settings(Duration::from_secs(3));
    targets = pipeline
}
criterion_main!(benches);
