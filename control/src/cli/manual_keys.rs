//! `hawser manual-keys`: random keys for both ends of manually keyed tunnels.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Args;
use hawser_aead::Suite;
use hawser_api::Spi;
use zeroize::Zeroizing;

use super::{FAILED, OK, complain, print};
use crate::config::keys::{NewKey, render};

#[derive(Args)]
pub(super) struct Arguments {
    /// Tunnels as "connection/tunnel"; may be repeated
    #[arg(short, long = "tunnel", value_name = "NAME", required = true)]
    tunnels: Vec<String>,
    /// Suite of all these tunnels
    #[arg(long, default_value_t = Suite::Aes256Gcm16)]
    suite: Suite,
    /// First of the SPIs, which are consecutive
    #[arg(long, default_value = "0x10000000", value_parser = parse_spi)]
    first_spi: Spi,
    /// Key file of one end
    #[arg(long, value_name = "FILE")]
    out_a: PathBuf,
    /// Key file of the other end
    #[arg(long, value_name = "FILE")]
    out_b: PathBuf,
    /// Replace existing files
    #[arg(long)]
    force: bool,
}

fn parse_spi(text: &str) -> Result<Spi, String> {
    text.parse::<crate::config::SpiText>()
        .map(|s| s.0)
        .map_err(|e| e.to_string())
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    match make(arguments) {
        Ok(()) => {
            print(&format!(
                "wrote keys of {} tunnel(s) ({}) to {} and {}\n",
                arguments.tunnels.len(),
                arguments.suite,
                arguments.out_a.display(),
                arguments.out_b.display()
            ));
            OK
        }
        Err(error) => {
            complain(format_args!("hawser: {error:#}"));
            FAILED
        }
    }
}

fn make(arguments: &Arguments) -> anyhow::Result<()> {
    let Spi(first) = arguments.first_spi;
    let mut pairs = Vec::new();
    for (tunnel, n) in arguments.tunnels.iter().zip(0_u32..) {
        let new = |offset: u32| -> anyhow::Result<NewKey> {
            let spi = first
                .checked_add(2 * n + offset)
                .ok_or_else(|| anyhow::anyhow!("the SPIs run out: choose a lower --first-spi"))?;
            let mut key = Zeroizing::new(vec![0; arguments.suite.key_len()]);
            getrandom::fill(&mut key)
                .map_err(|e| anyhow::anyhow!("no random numbers from the kernel: {e}"))?;
            Ok(NewKey { spi: Spi(spi), key })
        };
        pairs.push((tunnel.as_str(), new(0)?, new(1)?));
    }
    let a = render(pairs.iter().map(|(tunnel, x, y)| (*tunnel, x, y)));
    let b = render(pairs.iter().map(|(tunnel, x, y)| (*tunnel, y, x)));
    write(&arguments.out_a, &a, arguments.force)?;
    write(&arguments.out_b, &b, arguments.force)
}

fn write(path: &Path, text: &str, force: bool) -> anyhow::Result<()> {
    use anyhow::Context;
    let failed = || format!("cannot write {}", path.display());
    if force && path.exists() {
        // A new file, so that its mode is ours from the first octet on.
        std::fs::remove_file(path).with_context(failed)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(failed)
        .context("choose another name, or add --force to replace it")?;
    file.write_all(text.as_bytes()).with_context(failed)
}
