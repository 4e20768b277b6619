//! `hawser run`.

use clap::{Args, ValueEnum};

use super::{ConfigFile, FAILED, OK, REFUSED, complain, runtime};
use crate::daemon::{self, Options, RunError};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Leave the data plane running at the end: the next `hawser run` takes it over
    #[arg(long)]
    keep_dataplane: bool,
    /// What to log
    #[arg(long, default_value = "info", value_parser = ["error", "warn", "info", "debug", "trace"])]
    log: String,
    /// How to log
    #[arg(long, default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// JSON lines
    Json,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    start_log(&arguments.log, arguments.log_format);
    let options = Options {
        config: arguments.file.config.clone(),
        keep_dataplane: arguments.keep_dataplane,
        log: arguments.log.clone(),
        log_json: arguments.log_format == LogFormat::Json,
    };
    let result = match runtime() {
        Ok(runtime) => runtime.block_on(daemon::run(options)),
        Err(error) => {
            complain(format_args!("hawser: {error}"));
            return FAILED;
        }
    };
    match result {
        Ok(()) => OK,
        Err(RunError::Refused(diagnostics)) => {
            complain(format_args!(
                "{diagnostics}hawser: {} is refused",
                arguments.file.config.display()
            ));
            REFUSED
        }
        Err(error) => {
            complain(format_args!("hawser: {error}"));
            FAILED
        }
    }
}

fn start_log(level: &str, format: LogFormat) {
    use std::io::IsTerminal;
    use tracing_subscriber::EnvFilter;
    // The netlink libraries speak through `log` and say nothing that a person could use.
    let filter = EnvFilter::new(format!("{level},netlink_proto=error,rtnetlink=error"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        // A log that nobody reads any more is no reason to end (and would be one: by a panic).
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
