//! The whole packet path in memory, beside the cipher alone.
//!
//! Frames come from and go to memory, so what is measured is everything but the kernel: parsing,
//! lookup, ECMP, headers, cipher, replay window, counters. Each case is run in many short rounds
//! interleaved with the same packets through the cipher alone; the difference is what the path
//! costs beyond the cipher. Filling the frames is not timed. The way `empty` takes the frames through
//! the same hands but no packet path: it is in the other figures as well, so the packet path itself
//! costs that much less.
#![forbid(unsafe_code)]

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Parser;
use hawser_aead::{BATCH, Suite};
use hawser_bench::{
    cipher::{Keys, esp_len},
    load::{LOADS, Load},
    path::{self, Way},
    processor::{self, tsc_ghz},
    world::{Scale, World},
};
use hawser_xsk::Frame;
use serde_json::{Value, json};

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
    /// Only this way: encrypt, decrypt or empty.
    #[arg(long)]
    way: Option<String>,
    /// Also measures 10,000 tunnels (20,000 SAs) with 1,000,000 routes.
    #[arg(long)]
    large: bool,
    /// Write the figures here as JSON.
    #[arg(long)]
    out: Option<PathBuf>,
}

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
            measure(&arguments, scale, frames, &mut results)?;
        }
    }
    let report = json!({
        "suite": arguments.suite.to_string(),
        "aead": hawser_aead::rung().to_string(),
        "cpu": processor::name(),
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

/// All sizes and ways at one scale.
fn measure(
    arguments: &Arguments,
    scale: Scale,
    frames: usize,
    results: &mut Vec<Value>,
) -> anyhow::Result<()> {
    let Scale {
        tunnels, routes, ..
    } = scale;
    let (mut sealer, load_a) = World::new(0, scale);
    let (mut opener, load_b) = World::new(1, scale);
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
        for way in Way::ALL {
            if arguments
                .way
                .as_ref()
                .is_some_and(|only| only != way.name())
            {
                continue;
            }
            let Figures { path, cipher } = match way {
                Way::Encrypt => case.encrypt(&mut sealer)?,
                Way::Decrypt => case.decrypt(&mut sealer, &mut opener)?,
                Way::Empty => case.empty(&mut sealer)?,
            };
            let gbps = load.mean() * 8.0 / path.median;
            let beyond = path.median - cipher.median;
            println!(
                "{tunnels:>7} {routes:>8} {frames:>6} {:>5} {:>8} | {:>9.1} {:>9.1} | {:>9.1} | {beyond:>9.1} {gbps:>7.1}",
                load.name,
                way.name(),
                path.best,
                path.median,
                cipher.median,
            );
            results.push(json!({
                "tunnels": tunnels, "routes": routes, "frames": frames,
                "size": load.name, "way": way.name(),
                "ns_best": path.best, "ns_median": path.median,
                "cycles_median": tsc_ghz().map(|ghz| path.median * ghz),
                "cipher_ns_best": cipher.best,
                "cipher_ns_median": cipher.median,
                "beyond_cipher_ns_median": beyond,
                "beyond_cipher_ns_best": path.best - cipher.best,
                "gbps_per_core_median": gbps,
                "load_seconds": (load_a + load_b).as_secs_f64() / 2.0,
            }));
        }
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

    /// How often a round goes through the frames.
    fn sets(&self) -> usize {
        (self.batches() * BATCH).div_ceil(self.frames)
    }

    fn packets(&self) -> Vec<Vec<u8>> {
        self.load.packets(self.frames, self.scale.routes)
    }

    fn keys(&self) -> anyhow::Result<Keys> {
        Keys::new(self.scale.suite, self.scale.tunnels)
    }

    fn encrypt(&self, world: &mut World) -> anyhow::Result<Figures> {
        let packets = self.packets();
        let keys = self.keys()?;
        let mut rounds = Rounds::default();
        for _ in 0..self.rounds {
            rounds
                .path
                .push(self.round(|| path::run(world, &packets, Way::Encrypt))?);
            let sealed = || {
                let mut frames = esp_frames(world, &keys, &packets)?;
                let (spent, _) = keys.seal(&mut frames)?;
                world.give(frames);
                Ok((spent, packets.len()))
            };
            rounds.cipher.push(self.round(sealed)?);
        }
        world.check()?;
        Ok(rounds.figures())
    }

    fn decrypt(&self, sealer: &mut World, opener: &mut World) -> anyhow::Result<Figures> {
        let packets = self.packets();
        let keys = self.keys()?;
        let mut rounds = Rounds::default();
        for _ in 0..self.rounds {
            // No packet can be opened twice, so all of a round are sealed beforehand.
            let mut sealed = (0..self.sets())
                .map(|_| sealer.seal(&packets))
                .collect::<Result<Vec<_>, _>>()?
                .into_iter();
            let opened = || {
                let packets = sealed.next().context("as many sets as a round has")?;
                path::run(opener, &packets, Way::Decrypt)
            };
            rounds.path.push(self.round(opened)?);
            let opened = || {
                let mut frames = esp_frames(opener, &keys, &packets)?;
                let (_, sequences) = keys.seal(&mut frames)?;
                let spent = keys.open(&mut frames, &sequences)?;
                opener.give(frames);
                Ok((spent, packets.len()))
            };
            rounds.cipher.push(self.round(opened)?);
        }
        opener.check()?;
        Ok(rounds.figures())
    }

    fn empty(&self, world: &mut World) -> anyhow::Result<Figures> {
        let packets = self.packets();
        let mut rounds = Rounds::default();
        for _ in 0..self.rounds {
            rounds
                .path
                .push(self.round(|| path::run(world, &packets, Way::Empty))?);
            rounds.cipher.push(0.0);
        }
        Ok(rounds.figures())
    }

    /// ns a packet over all sets of a round.
    fn round(
        &self,
        mut run: impl FnMut() -> anyhow::Result<(Duration, usize)>,
    ) -> anyhow::Result<f64> {
        let (mut spent, mut count) = (Duration::ZERO, 0);
        for _ in 0..self.sets() {
            let (time, packets) = run()?;
            spent += time;
            count += packets;
        }
        Ok(spent.as_nanos() as f64 / count as f64)
    }
}

/// ns a packet of every round.
#[derive(Default)]
struct Rounds {
    path: Vec<f64>,
    cipher: Vec<f64>,
}

impl Rounds {
    fn figures(self) -> Figures {
        Figures {
            path: figure(self.path),
            cipher: figure(self.cipher),
        }
    }
}

/// ESP packets of the same lengths, not yet sealed.
fn esp_frames(world: &mut World, keys: &Keys, packets: &[Vec<u8>]) -> anyhow::Result<Vec<Frame>> {
    packets
        .iter()
        .map(|p| world.frame(&vec![0x5a; esp_len(keys.suite(), p.len() - 14)]))
        .collect()
}

fn figure(mut rounds: Vec<f64>) -> Figure {
    rounds.sort_by(f64::total_cmp);
    Figure {
        best: rounds[0],
        median: rounds[rounds.len() / 2],
    }
}
