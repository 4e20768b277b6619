//! Does the time that AES-GCM takes depend on what must stay secret? A statistical test.
//!
//! Two classes of inputs that differ only in a secret are measured in random order, and Welch's
//! t-test compares their times (the method of Reparaz, Balasch and Verbauwhede, "Dude, is my code
//! constant time?", 2017): of all measurements and of those below several percentiles, because
//! interrupts add noise at the upper end only. A t beyond 4.5 in either direction is evidence of a
//! difference; beyond 10 it is certain.
//!
//! What it can show: that a dependence exists, on this processor, for these inputs. What it cannot:
//! that there is none. A difference below the noise goes unseen, other processors may differ, and
//! power or electromagnetic traces are not looked at. The last row is a comparison that stops at the
//! first difference: if that row is quiet, the measurement is too coarse and says nothing of the
//! others.
#![forbid(unsafe_code)]

use std::{hint::black_box, time::Instant};

use clap::Parser;
use hawser_aead::{BATCH, OpenBatch, OpeningKey, Rung, Suite};

/// Tests by statistics whether AES-GCM's time depends on secrets.
#[derive(Parser)]
struct Arguments {
    /// Measurements of each case, of 64 packets or one key each.
    #[arg(long, default_value_t = 200_000)]
    measurements: usize,
    /// Only this rung; by default all that this processor has.
    #[arg(long)]
    rung: Option<Rung>,
}

/// |t| from which on a difference is taken as found.
const FOUND: f64 = 4.5;

/// Payload bytes of each packet.
const PAYLOAD: usize = 64;
const OVERHEAD: usize = 32;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let rungs: Vec<Rung> = match arguments.rung {
        Some(rung) => vec![rung],
        None => Rung::ALL.into_iter().filter(|r| r.is_available()).collect(),
    };
    println!(
        "{:<10} {:<44} {:>12}  found",
        "rung", "classes", "greatest |t|"
    );
    let mut suspicious = false;
    for rung in rungs {
        let mut report = |classes: &str, t: f64| {
            let found = t > FOUND;
            suspicious |= found;
            println!("{:<10} {classes:<44} {t:>12.2}  {found}", rung.to_string());
        };
        let n = arguments.measurements;
        report("tag wrong in its first or its last byte", tags(rung, n)?);
        report("key set-up: one key or random keys", keys(rung, n)?);
    }
    let coarse = early_exit(arguments.measurements) <= FOUND;
    println!(
        "{:<10} {:<44} {:>12}  {}",
        "(control)",
        "comparison that stops at a difference",
        "",
        if coarse { "false" } else { "true" }
    );
    anyhow::ensure!(
        !coarse,
        "the control was not found: this machine is too noisy now, nothing follows"
    );
    anyhow::ensure!(!suspicious, "a time depends on a secret");
    Ok(())
}

/// Times by class.
#[derive(Default)]
struct Times([Vec<f64>; 2]);

impl Times {
    fn add(&mut self, class: usize, begun: Instant) {
        self.0[class].push(begun.elapsed().as_nanos() as f64);
    }

    /// The greatest |t| of all measurements and of those below some percentiles of all.
    fn greatest(&self) -> f64 {
        let mut all: Vec<f64> = self.0.iter().flatten().copied().collect();
        all.sort_by(f64::total_cmp);
        [0.25, 0.5, 0.75, 0.9, 0.99, 1.0]
            .into_iter()
            .map(|part| {
                let at = ((all.len() - 1) as f64 * part) as usize;
                let [a, b] = &self.0;
                let below = |times: &[f64]| Moments::of(times, all[at]);
                below(a).welch(&below(b)).abs()
            })
            .fold(0.0, f64::max)
    }
}

/// Number, mean and variance of measurements.
struct Moments {
    n: f64,
    mean: f64,
    variance: f64,
}

impl Moments {
    fn of(times: &[f64], most: f64) -> Self {
        let kept = || times.iter().copied().filter(|t| *t <= most);
        let n = kept().count().max(2) as f64;
        let mean = kept().sum::<f64>() / n;
        let variance = kept().map(|t| (t - mean).powi(2)).sum::<f64>() / (n - 1.0);
        Self { n, mean, variance }
    }

    /// Welch's t; 0 when neither class varies and both are equal.
    fn welch(&self, other: &Self) -> f64 {
        let error = (self.variance / self.n + other.variance / other.n).sqrt();
        let difference = self.mean - other.mean;
        if difference == 0.0 {
            0.0
        } else {
            difference / error
        }
    }
}

/// xorshift64*: order and contents, not secrets.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn class(&mut self) -> usize {
        (self.next() >> 63) as usize
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| (self.next() >> 56) as u8);
    }
}

/// Opening forged packets whose tag differs from the right one in the first byte, or in the last.
fn tags(rung: Rung, measurements: usize) -> anyhow::Result<f64> {
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut material = vec![0; Suite::Aes128Gcm16.key_len()];
    random.fill(&mut material);
    let key = OpeningKey::on_rung(rung, Suite::Aes128Gcm16, &material, false)?;
    let right = sealed(&material)?;
    let mut times = Times::default();
    let mut packets = vec![right.clone(); BATCH];
    for _ in 0..measurements {
        let class = random.class();
        let end = right.len();
        for packet in &mut packets {
            packet.copy_from_slice(&right);
            // The whole tag by one instruction in both classes, as a read of it waits for the write.
            let tag: &mut [u8; 16] = (&mut packet[end - 16..]).try_into()?;
            *tag = (u128::from_le_bytes(*tag) ^ 0x80 << (120 * class)).to_le_bytes();
        }
        let mut batch = OpenBatch::new();
        for packet in &mut packets {
            batch.push(&key, 1, packet);
        }
        let begun = Instant::now();
        let verdicts = batch.open();
        times.add(class, begun);
        anyhow::ensure!((0..BATCH).all(|i| verdicts.get(i).is_none()), "forged");
    }
    Ok(times.greatest())
}

/// A packet with sequence number 1.
fn sealed(material: &[u8]) -> anyhow::Result<Vec<u8>> {
    let key = hawser_aead::SealingKey::new(Suite::Aes128Gcm16, material, false, 1, 1)?;
    let mut packet = vec![0x5a; PAYLOAD + OVERHEAD];
    let mut batch = hawser_aead::SealBatch::new();
    let sequence = key.reserve(1).and_then(|mut block| block.next());
    batch.push(
        &key,
        sequence.ok_or_else(|| anyhow::anyhow!("a sequence number"))?,
        &mut packet,
    );
    batch.seal();
    drop(batch);
    Ok(packet)
}

/// Setting up the all-zero key, or a random one.
fn keys(rung: Rung, measurements: usize) -> anyhow::Result<f64> {
    let mut random = Random(0x0dd0_cafe_f00d_1235);
    let mut times = Times::default();
    let mut material = vec![0; Suite::Aes128Gcm16.key_len()];
    for _ in 0..measurements {
        let class = random.class();
        // Both classes draw and write by the same instructions: who reads what was just written
        // waits for it, and how long depends on how it was written.
        random.fill(&mut material);
        let mask = 0_u8.wrapping_sub(class as u8);
        material
            .iter_mut()
            .for_each(|byte| *byte &= black_box(mask));
        let begun = Instant::now();
        let key = OpeningKey::on_rung(rung, Suite::Aes128Gcm16, black_box(&material), false)?;
        times.add(class, begun);
        black_box(&key);
    }
    Ok(times.greatest())
}

/// What the test must find: as many comparisons as a batch has, each stopping at a difference.
fn early_exit(measurements: usize) -> f64 {
    let mut random = Random(0xfeed_5eed_0bad_c0d1);
    let right = [0x5a_u8; 16];
    let mut times = Times::default();
    for _ in 0..measurements {
        let class = random.class();
        let mut tags = [right; BATCH];
        for tag in &mut tags {
            tag[if class == 0 { 0 } else { 15 }] ^= 0x80;
        }
        let begun = Instant::now();
        for tag in &tags {
            black_box(stops_early(black_box(tag), black_box(&right)));
        }
        times.add(class, begun);
    }
    times.greatest()
}

#[inline(never)]
fn stops_early(a: &[u8; 16], b: &[u8; 16]) -> bool {
    for i in 0..16 {
        if black_box(a[i]) != b[i] {
            return false;
        }
    }
    true
}
