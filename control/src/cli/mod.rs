//! The command line.
//!
//! Exit codes: 0 all is well; 1 it failed; 2 wrong usage, or the configuration is refused; 3 no
//! `hawser run` answers.

mod ask;
mod check;
mod explain;
mod help;
mod manual_keys;
mod output;
mod run;
mod status;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use output::{complain, print};

/// Success.
const OK: u8 = 0;
/// Something failed that is neither of those below.
const FAILED: u8 = 1;
/// Wrong usage (clap's own code too), or a refused configuration.
const REFUSED: u8 = 2;

/// No `hawser run` answers.
const NOT_RUNNING: u8 = 3;

/// Where a configuration is looked for.
const DEFAULT_CONFIG: &str = "/etc/hawser/hawser.toml";

#[derive(Parser)]
#[command(
    name = "hawser",
    version,
    about = "An IPsec gateway that lays one rope from many tunnels",
    after_help = "Examples:\n  \
        hawser check -c hawser.toml       say all that is wrong with a configuration\n  \
        hawser run -c hawser.toml         run the gateway\n  \
        hawser status --watch             see tunnels, rates and drops\n  \
        hawser reload                     take up a changed configuration\n  \
        hawser explain replay_old         what a drop reason means\n  \
        hawser help config                the configuration file, with an example\n\n\
        Exit codes: 0 well, 1 failed, 2 wrong usage or configuration refused, \
        3 no running `hawser run`"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[command(disable_help_subcommand = true)]
enum Command {
    /// Run the gateway
    #[command(after_help = "Examples:\n  hawser run -c hawser.toml\n  \
        hawser run --log debug --log-format json\n\n\
        It ends on SIGTERM or ctrl-C, with the data plane unless --keep-dataplane is given. \
        SIGHUP is a reload.\nIf it is killed, the data plane forwards on; the next `hawser run` \
        takes it over without an interruption.\n\n\
        Exit codes: 0 ended as told, 1 failed, 2 configuration refused")]
    Run(run::Arguments),
    /// Show the state of gateway, workers, interfaces, tunnels and drops
    #[command(after_help = "Examples:\n  hawser status\n  hawser status --watch\n  \
        hawser status --json | jq '.tunnels[] | select(.state != \"up\") | .name, .reason'")]
    Status(status::Arguments),
    /// Take up a changed configuration: all of it, or nothing if anything is wrong
    #[command(after_help = "Examples:\n  hawser reload\n  \
        hawser reload --restart-dataplane   also for changed interfaces or workers\n\n\
        Exit codes: 0 taken up, 1 failed, 2 refused (what ran goes on), 3 no running `hawser run`")]
    Reload(ask::ReloadArguments),
    /// End a running `hawser run`
    #[command(after_help = "Examples:\n  hawser stop\n  \
        hawser stop --keep-dataplane   traffic goes on, for an update of control")]
    Stop(ask::StopArguments),
    /// Check a configuration and say everything that is wrong with it
    #[command(after_help = "Examples:\n  hawser check -c hawser.toml\n  \
        hawser check --offline -c hawser.toml   without looking at this host's interfaces\n  \
        hawser check --json -c hawser.toml      diagnostics for an editor or a CI job\n\n\
        Exit codes: 0 usable (perhaps with warnings), 2 refused")]
    Check(check::Arguments),
    /// Explain a drop reason, or list all of them
    #[command(after_help = "Examples:\n  hawser explain\n  hawser explain replay_old")]
    Explain(explain::Arguments),
    /// Make matching key files for the two ends of manually keyed tunnels
    #[command(after_help = "Example: keys of two tunnels, for both ends\n  \
        hawser manual-keys -t lab/a -t lab/b --out-a a/keys.toml --out-b b/keys.toml")]
    ManualKeys(manual_keys::Arguments),
    /// Explain a command, or the configuration file (`hawser help config`)
    Help(help::Arguments),
}

/// `-c FILE`.
#[derive(Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(short, long = "config", value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let code = match Cli::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Reload(arguments) => ask::reload(&arguments),
        Command::Stop(arguments) => ask::stop(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::ManualKeys(arguments) => manual_keys::run(&arguments),
        Command::Help(arguments) => help::run::<Cli>(&arguments),
    };
    ExitCode::from(code)
}

/// A tokio runtime for this thread.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}
