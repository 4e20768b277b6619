//! AES-GCM for ESP packets, implementations side by side: ours on each rung, `ring`,
//! `aws-lc-rs`, the `aes-gcm` crate, and intel-ipsec-mb where its library is installed
//! (Debian: `libipsec-mb1`).
//!
//! ```text
//! cargo run --release -p hawser-bench --features compare --bin aead_compare -- --out FILE
//! ```
//! writes FILE (JSON), FILE with `.txt` (the table that is also printed) and `.svg` (the plot).
//! `--rounds N` measures longer or shorter, `--quick` few sizes only.
//!
//! # Method
//! Every implementation works on the same packets in the same memory, in place, and writes or
//! reads the whole of what AES-GCM in ESP needs: sequence number, IV, ciphertext, tag. Before
//! anything is timed each one must open what the others sealed. In each round every
//! implementation is timed once, in turn, so that what disturbs the machine disturbs all; the
//! ratio to ours is taken within a round and its median reported. Absolute figures are the best
//! and the median over the rounds.
//!
//! Workloads: `hot`, 32 packets of one key over and over; `stream`, 4,096 packets with a stride
//! of 2 KiB, which do not fit the caches; `keys`, 512 packets of 64 keys in random order, each
//! batch of 32 sorted by key as the packet path does it; `imix`, 7:4:1 of 64, 576 and 1424
//! bytes. Sizes are those of the encrypted part.

mod contender;
mod crates;
mod ipsec_mb;
mod measure;
mod ours;
mod plot;
mod workload;

use std::{fmt::Write as _, path::Path};

use hawser_aead::{Rung, Suite};
use hawser_bench::processor;
use serde_json::json;

use contender::{BATCH, Contender, HEAD, TAG};
use crates::{AwsLc, Ring, RustCrypto};
use ipsec_mb::IpsecMb;
use measure::{agree, measure};
use ours::Ours;
use plot::svg;
use workload::Workload;

fn contenders(suite: Suite, keys: &[Vec<u8>]) -> Vec<Box<dyn Contender>> {
    let mut all: Vec<Box<dyn Contender>> = Vec::new();
    for rung in Rung::ALL.into_iter().rev() {
        // The portable rung is the `aes-gcm` crate, which stands below by itself.
        if rung.is_available() && rung != Rung::Portable {
            all.push(Box::new(Ours::new(rung, suite, keys)));
        }
    }
    if all.is_empty() {
        eprintln!("this processor has no vector AES: only the portable rung to compare");
        all.push(Box::new(Ours::new(Rung::Portable, suite, keys)));
    }
    all.push(Box::new(Ring::new(keys)));
    all.push(Box::new(AwsLc::new(keys)));
    all.push(Box::new(RustCrypto::new(keys)));
    if let Some(ipsec_mb) = IpsecMb::load(keys) {
        all.push(Box::new(ipsec_mb));
    }
    all
}

struct Options {
    out: String,
    rounds: usize,
    quick: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        out: "aead_compare.json".to_owned(),
        rounds: 25,
        quick: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--out" => options.out = value()?,
            "--rounds" => {
                let text = value()?;
                options.rounds = text
                    .parse()
                    .map_err(|_| format!("--rounds {text}: a number"))?;
                if options.rounds == 0 {
                    return Err("--rounds 0: at least 1".to_owned());
                }
            }
            "--quick" => options.quick = true,
            _ => {
                return Err(format!(
                    "unknown option {argument}: --out FILE, --rounds N, --quick"
                ));
            }
        }
    }
    Ok(options)
}

fn main() {
    let options = options().unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(2);
    });
    let hot: &[usize] = if options.quick {
        &[64, 1424]
    } else {
        &[64, 128, 256, 512, 1024, 1424, 4096, 8960]
    };
    let some: &[usize] = if options.quick {
        &[1424]
    } else {
        &[64, 256, 512, 1424]
    };

    let mut table = String::new();
    let mut rows = Vec::new();
    let mut plot = Vec::new();
    for suite in [Suite::Aes128Gcm16, Suite::Aes256Gcm16] {
        let mut workloads = Vec::new();
        for &size in hot {
            let stride = (HEAD + size + TAG).next_multiple_of(64) + 64;
            workloads.push(Workload::new("hot", size, suite, 1, BATCH, stride));
        }
        for &size in some {
            workloads.push(Workload::new("stream", size, suite, 1, 4096, 2048));
        }
        for &size in some {
            workloads.push(Workload::new("keys", size, suite, 64, 512, 2048));
        }
        workloads.push(Workload::new("imix", 0, suite, 1, 512, 2048));

        for mut workload in workloads {
            let (name, size) = (workload.name, workload.size);
            let mut contenders = contenders(suite, &workload.keys);
            let mut packets = workload.packets();
            let mean = packets
                .iter()
                .map(|p| p.bytes.len() - HEAD - TAG)
                .sum::<usize>() as f64
                / packets.len() as f64;
            agree(&mut contenders, &mut packets);
            let figures = measure(&mut contenders, &mut packets, options.rounds);
            for (direction, figures) in ["seal", "open"].into_iter().zip(figures) {
                let what = if size == 0 {
                    String::new()
                } else {
                    format!(" {size} B")
                };
                let _ = write!(table, "{suite} {direction:4} {name}{what}:");
                for f in figures {
                    let _ = write!(
                        table,
                        "  {} {:.1} ns ({:.2})",
                        f.contender, f.median, f.ratio
                    );
                    let gbps = mean * 8.0 / f.median;
                    if suite == Suite::Aes128Gcm16 && direction == "seal" && name == "hot" {
                        plot.push((f.contender.clone(), size, f.median, gbps));
                    }
                    rows.push(json!({
                        "suite": suite.to_string(), "direction": direction, "workload": name,
                        "bytes": mean, "implementation": f.contender,
                        "ns_best": f.best, "ns_median": f.median, "gbps_median": gbps,
                        "ratio_to_first": f.ratio,
                    }));
                }
                table.push('\n');
                eprint!(
                    "{}",
                    table
                        .lines()
                        .next_back()
                        .map(|l| format!("{l}\n"))
                        .unwrap_or_default()
                );
            }
        }
    }
    let report = json!({
        "processor": processor::name(), "rung": hawser_aead::rung().to_string(),
        "rounds": options.rounds, "batch": BATCH, "rows": rows,
    });
    let out = Path::new(&options.out);
    let text = serde_json::to_string_pretty(&report).expect("plain values");
    let files = [("json", text), ("txt", table), ("svg", svg(&plot))];
    for (extension, content) in files {
        let path = if extension == "json" {
            out.to_owned()
        } else {
            out.with_extension(extension)
        };
        if let Err(error) = std::fs::write(&path, content) {
            eprintln!("{}: {error}", path.display());
            std::process::exit(1);
        }
        println!("{}", path.display());
    }
}
