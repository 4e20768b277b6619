//! `hawser-dataplane`: the process that carries the packets. Started by `hawser run`.
#![forbid(unsafe_code)]

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use hawser_dataplane::manager::Manager;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Carries the packets of a Hawser gateway. `hawser run` starts and drives it; by hand it only
/// waits for a control process.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen for the control process (a SOCK_SEQPACKET Unix socket).
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// What to log: error, warn, info, debug or trace.
    #[arg(long, default_value = "info")]
    log: tracing::level_filters::LevelFilter,
    /// Log as JSON lines.
    #[arg(long)]
    log_json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let log = tracing_subscriber::fmt()
        .with_max_level(arguments.log)
        .with_writer(std::io::stderr)
        // Whoever reads our stderr may end before us. Without this the first line after that
        // would end us too: the report of the failed write goes to stderr, and panics.
        .log_internal_errors(false)
        .with_ansi(false);
    if arguments.log_json {
        log.json().init();
    } else {
        log.init();
    }
    let manager = match Manager::new(&arguments.socket) {
        Ok(manager) => manager,
        Err(error) => {
            tracing::error!(%error, socket = %arguments.socket.display(), "cannot listen");
            return ExitCode::FAILURE;
        }
    };
    match manager.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the data plane ends");
            ExitCode::FAILURE
        }
    }
}
