//! The whole packet path in memory, beside the cipher alone.
//!
//! Frames come from and go to memory, so what is measured is everything but the kernel: parsing,
//! lookup, ECMP, headers, cipher, replay window, counters. Each case is run in many short rounds
//! interleaved with the same packets through the cipher alone; the difference is what the path
//! costs beyond the cipher. Filling the frames is not timed.
#![forbid(unsafe_code)]

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Parser;
use hawser_aead::{BATCH, OpenBatch, OpeningKey, SealBatch, SealingKey, Suite};
use hawser_bench::world::{self, INSIDE, OUTSIDE, Scale, World};
use hawser_xsk::Frame;
use serde_json::json;

/// Measures the packet path in memory: ns a packet, cycles a packet, Gbps a core.
#[derive(Parser)]
struct Arguments {
    /// Tunnels in the ECMP group.
    #[arg(long, default_value_t = 40)]
    tunnels: u32,
    /// Routes.
    #[arg(long, default_value_t = 1000)]
    routes: u32,
    /// Cipher suite.
    #[arg(long, default_value = "aes128-gcm16")]
    suite: Suite,
    /// Rounds of every case; the best and the median are reported.
    #[arg(long, default_value_t = 60)]
    rounds: usize,
    /// Frames that the packets rotate through, by default both 64 (hot) and 4096.
    #[arg(long)]
    frames: Vec<usize>,
    /// Only these packet sizes: 64, 512, 1424, imix.
    #[arg(long)]
    size: Vec<String>,
    /// Only this way: encrypt or decrypt.
    #[arg(long)]
    way: Option<String>,
    /// Also measures 10,000 tunnels (20,000 SAs) with 1,000,000 routes.
    #[arg(long)]
    large: bool,
    /// Write the figures here as JSON.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Inner packet lengths in bytes; more than one is a mix.
struct Load {
    name: &'static str,
    lengths: &'static [usize],
}

const LOADS: &[Load] = &[
    Load {
        name: "64",
        lengths: &[64],
    },
    Load {
        name: "512",
        lengths: &[512],
    },
    Load {
        name: "1424",
        lengths: &[1424],
    },
    // 7:4:1, the usual mix; the largest is what fits the tunnel.
    Load {
        name: "imix",
        lengths: &[64, 594, 64, 64, 594, 64, 64, 594, 64, 1424, 594, 64],
    },
];

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let frames = if arguments.frames.is_empty() {
        vec![64, 4096]
    } else {
        arguments.frames.clone()
    };
    let mut scales = vec![(arguments.tunnels, arguments.routes)];
    if arguments.large {
        scales.push((10_000, 1_000_000));
    }
    println!(
        "AES-GCM: {}; suite {}",
        hawser_aead::rung(),
        arguments.suite
    );
    println!(
        "{:>7} {:>8} {:>6} {:>5} {:>8} | {:>9} {:>9} | {:>9} | {:>9} {:>7}",
        "tunnels",
        "routes",
        "frames",
        "size",
        "way",
        "best ns",
        "median ns",
        "cipher",
        "beyond",
        "Gbps"
    );
    let mut results = Vec::new();
    for (tunnels, routes) in scales {
        for &frames in &frames {
            let scale = Scale {
                tunnels,
                routes,
                suite: arguments.suite,
                frames: frames + BATCH,
            };
            let (mut sealer, load_a) = World::new(0, scale)?;
            let (mut opener, load_b) = World::new(1, scale)?;
            for load in LOADS {
                if !arguments.size.is_empty() && !arguments.size.iter().any(|s| s == load.name) {
                    continue;
                }
                let case = Case {
                    scale,
                    frames,
                    load,
                    rounds: arguments.rounds,
                };
                for way in ["encrypt", "decrypt"] {
                    if arguments.way.as_ref().is_some_and(|only| only != way) {
                        continue;
                    }
                    let figures = match way {
                        "encrypt" => case.encrypt(&mut sealer)?,
                        _ => case.decrypt(&mut sealer, &mut opener)?,
                    };
                    let mean =
                        load.lengths.iter().sum::<usize>() as f64 / load.lengths.len() as f64;
                    let gbps = mean * 8.0 / figures.path.median;
                    println!(
                        "{tunnels:>7} {routes:>8} {frames:>6} {:>5} {way:>8} | {:>9.1} {:>9.1} | {:>9.1} | {:>9.1} {gbps:>7.1}",
                        load.name,
                        figures.path.best,
                        figures.path.median,
                        figures.cipher.median,
                        figures.path.median - figures.cipher.median,
                    );
                    results.push(json!({
                        "tunnels": tunnels, "routes": routes, "frames": frames,
                        "size": load.name, "way": way,
                        "ns_best": figures.path.best, "ns_median": figures.path.median,
                        "cycles_median": figures.path.median * tsc_ghz(),
                        "cipher_ns_best": figures.cipher.best,
                        "cipher_ns_median": figures.cipher.median,
                        "beyond_cipher_ns_median": figures.path.median - figures.cipher.median,
                        "beyond_cipher_ns_best": figures.path.best - figures.cipher.best,
                        "gbps_per_core_median": gbps,
                        "load_seconds": (load_a + load_b).as_secs_f64() / 2.0,
                    }));
                }
            }
        }
    }
    let report = json!({
        "suite": arguments.suite.to_string(),
        "aead": hawser_aead::rung().to_string(),
        "cpu": cpu_field("model name"),
        "tsc_ghz": tsc_ghz(),
        "rounds": arguments.rounds,
        "cases": results,
    });
    if let Some(path) = arguments.out {
        fs::write(&path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

struct Case<'a> {
    scale: Scale,
    frames: usize,
    load: &'a Load,
    rounds: usize,
}

/// ns a packet.
struct Figure {
    best: f64,
    median: f64,
}

struct Figures {
    path: Figure,
    cipher: Figure,
}

impl Case<'_> {
    /// Batches a round: enough that the clock does not matter, few enough that a disturbed round
    /// is one of many.
    fn batches(&self) -> usize {
        (self.frames / BATCH).max(32)
    }

    fn packets(&self) -> Vec<Vec<u8>> {
        let flows = 1024;
        (0..self.frames)
            .map(|n| {
                let length = self.load.lengths[n % self.load.lengths.len()];
                // Routes in an order that no cache likes.
                let route = (n as u32).wrapping_mul(2_654_435_761) % self.scale.routes;
                world::packet(route, (n % flows) as u16, length)
            })
            .collect()
    }

    fn encrypt(&self, world: &mut World) -> anyhow::Result<Figures> {
        let packets = vec![self.packets(); self.sets()];
        let mut path = Vec::new();
        let mut cipher = Vec::new();
        let keys = self.sealing_keys()?;
        for _ in 0..self.rounds {
            path.push(self.round(world, &packets, OUTSIDE, INSIDE)?);
            cipher.push(self.seal_alone(world, &keys, &packets[0])?);
        }
        world.check()?;
        Ok(Figures {
            path: figure(path),
            cipher: figure(cipher),
        })
    }

    fn decrypt(&self, sealer: &mut World, opener: &mut World) -> anyhow::Result<Figures> {
        let packets = self.packets();
        let mut path = Vec::new();
        let mut cipher = Vec::new();
        let keys = (self.sealing_keys()?, self.opening_keys()?);
        for _ in 0..self.rounds {
            // No packet can be opened twice, so all of a round are sealed beforehand.
            let sealed = (0..self.sets())
                .map(|_| seal(sealer, &packets))
                .collect::<Result<Vec<_>, _>>()?;
            path.push(self.round(opener, &sealed, INSIDE, OUTSIDE)?);
            cipher.push(self.open_alone(opener, &keys, &packets)?);
        }
        opener.check()?;
        Ok(Figures {
            path: figure(path),
            cipher: figure(cipher),
        })
    }

    /// How often a round goes through the frames.
    fn sets(&self) -> usize {
        (self.batches() * BATCH).div_ceil(self.frames)
    }

    /// The whole path over sets of packets; ns a packet.
    fn round(
        &self,
        world: &mut World,
        sets: &[Vec<Vec<u8>>],
        output: hawser_api::PortId,
        input: hawser_api::PortId,
    ) -> anyhow::Result<f64> {
        let mut spent = Duration::ZERO;
        let mut count = 0;
        for packets in sets {
            // All frames are filled before the first is timed: with many of them the early ones
            // have left the caches by then, as they have after a NIC wrote them.
            let mut frames: Vec<Frame> = packets
                .iter()
                .map(|bytes| world.frame(bytes))
                .collect::<Result<_, _>>()?;
            while frames.len() >= BATCH {
                let batch = frames.drain(..BATCH);
                let begun = Instant::now();
                world.run(input, batch);
                spent += begun.elapsed();
                count += BATCH;
                let sent = world.sent(output);
                anyhow::ensure!(sent.len() == BATCH, "{} of a batch came out", sent.len());
                world.take_back(output);
            }
        }
        Ok(spent.as_nanos() as f64 / count as f64)
    }

    fn sealing_keys(&self) -> anyhow::Result<Vec<SealingKey>> {
        let material = vec![0x42; self.scale.suite.key_len()];
        (0..self.scale.tunnels)
            .map(|_| {
                let last = u64::from(u32::MAX);
                Ok(SealingKey::new(
                    self.scale.suite,
                    &material,
                    false,
                    1,
                    last,
                )?)
            })
            .collect()
    }

    fn opening_keys(&self) -> anyhow::Result<Vec<OpeningKey>> {
        let key = |_| {
            Ok(OpeningKey::new(
                self.scale.suite,
                &vec![0x42; self.scale.suite.key_len()],
                false,
            )?)
        };
        (0..self.scale.tunnels).map(key).collect()
    }

    /// How long the ESP packet of an inner packet is.
    fn esp_len(&self, inner: usize) -> usize {
        let suite = self.scale.suite;
        let text = (inner + 2).next_multiple_of(suite.block_len());
        suite.overhead() + text
    }

    /// The cipher alone over packets of the same lengths, grouped by key as the path does.
    fn seal_alone(
        &self,
        world: &mut World,
        keys: &[SealingKey],
        packets: &[Vec<u8>],
    ) -> anyhow::Result<f64> {
        let mut spent = Duration::ZERO;
        let mut count = 0;
        while count < self.batches() * BATCH {
            let mut frames = self.esp_frames(world, packets)?;
            for (n, batch) in frames.chunks_mut(BATCH).enumerate() {
                let begun = Instant::now();
                let mut seal = SealBatch::new();
                let per_key = BATCH.div_ceil(keys.len().min(BATCH));
                for (k, group) in batch.chunks_mut(per_key).enumerate() {
                    let key = &keys[(n + k) % keys.len()];
                    let mut block = key
                        .reserve(group.len() as u32)
                        .context("sequence numbers")?;
                    for frame in group {
                        let sequence = block.next().context("sequence numbers")?;
                        seal.push(key, sequence, frame.bytes_mut());
                    }
                }
                seal.seal();
                spent += begun.elapsed();
                count += batch.len();
            }
            world.pipeline.pool().give_all(frames);
        }
        Ok(spent.as_nanos() as f64 / count as f64)
    }

    /// As [`Case::seal_alone`]; the packets are sealed first, which is not timed.
    fn open_alone(
        &self,
        world: &mut World,
        (sealing, opening): &(Vec<SealingKey>, Vec<OpeningKey>),
        packets: &[Vec<u8>],
    ) -> anyhow::Result<f64> {
        let mut spent = Duration::ZERO;
        let mut count = 0;
        let per_key = BATCH.div_ceil(opening.len().min(BATCH));
        let mut sequences = Vec::with_capacity(self.frames);
        for _ in 0..self.sets() {
            let mut frames = self.esp_frames(world, packets)?;
            sequences.clear();
            for batch in frames.chunks_mut(BATCH) {
                let mut seal = SealBatch::new();
                for (k, group) in batch.chunks_mut(per_key).enumerate() {
                    let key = &sealing[k % sealing.len()];
                    let mut block = key
                        .reserve(group.len() as u32)
                        .context("sequence numbers")?;
                    for frame in group {
                        let sequence = block.next().context("sequence numbers")?;
                        sequences.push(sequence.value());
                        seal.push(key, sequence, frame.bytes_mut());
                    }
                }
                seal.seal();
            }
            for (batch, sequences) in frames.chunks_mut(BATCH).zip(sequences.chunks(BATCH)) {
                let begun = Instant::now();
                let mut open = OpenBatch::new();
                for (k, (frame, &sequence)) in batch.iter_mut().zip(sequences).enumerate() {
                    let key = &opening[k / per_key % opening.len()];
                    open.push(key, sequence, frame.bytes_mut());
                }
                let verdicts = open.open();
                spent += begun.elapsed();
                count += batch.len();
                anyhow::ensure!(
                    (0..batch.len()).all(|i| verdicts.get(i).is_some()),
                    "authentic"
                );
            }
            world.pipeline.pool().give_all(frames);
        }
        Ok(spent.as_nanos() as f64 / count as f64)
    }

    fn esp_frames(&self, world: &mut World, packets: &[Vec<u8>]) -> anyhow::Result<Vec<Frame>> {
        packets
            .iter()
            .map(|p| world.frame(&vec![0x5a; self.esp_len(p.len() - 14)]))
            .collect()
    }
}

/// Packets as the peer sends them.
fn seal(world: &mut World, packets: &[Vec<u8>]) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut sealed = Vec::with_capacity(packets.len());
    for batch in packets.chunks(BATCH) {
        let frames: Vec<Frame> = batch
            .iter()
            .map(|bytes| world.frame(bytes))
            .collect::<Result<_, _>>()?;
        world.run(INSIDE, frames.into_iter());
        sealed.extend(
            world
                .sent(OUTSIDE)
                .iter()
                .map(|frame| frame.bytes().to_vec()),
        );
        world.take_back(OUTSIDE);
    }
    Ok(sealed)
}

fn figure(mut rounds: Vec<f64>) -> Figure {
    rounds.sort_by(f64::total_cmp);
    Figure {
        best: rounds[0],
        median: rounds[rounds.len() / 2],
    }
}

fn cpu_field(name: &str) -> Option<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

/// Frequency of the time stamp counter, which on today's processors is the nominal one.
fn tsc_ghz() -> f64 {
    cpu_field("cpu MHz")
        .and_then(|mhz| mhz.parse::<f64>().ok())
        .map_or(0.0, |mhz| mhz / 1000.0)
}
