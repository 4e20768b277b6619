//! `hawser reload` and `hawser stop`: what is asked of a running `hawser run`.

use std::{
    io,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{FAILED, NOT_RUNNING, OK, REFUSED, complain, print, runtime};
use crate::{
    config,
    control_socket::{self, Answer, Ask, Reloaded},
};

/// Which `hawser run` is meant.
#[derive(Args)]
pub(super) struct Target {
    /// Its run folder
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    run_dir: Option<PathBuf>,
    /// Its configuration file, which names the run folder
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Target {
    fn run_dir(&self) -> PathBuf {
        const DEFAULT: &str = "/run/hawser";
        if let Some(dir) = &self.run_dir {
            return dir.clone();
        }
        // The file may be broken by now; that is for `check` and `reload` to say.
        let file = self
            .config
            .as_deref()
            .unwrap_or(Path::new(super::DEFAULT_CONFIG));
        config::run_dir_of(file).unwrap_or_else(|| DEFAULT.into())
    }

    /// Asks; a failure is said, and its exit code returned.
    pub(super) fn ask(&self, ask: Ask) -> Result<Answer, u8> {
        let run_dir = self.run_dir();
        let answer =
            runtime().and_then(|runtime| runtime.block_on(control_socket::ask(&run_dir, ask)));
        answer.map_err(|error| {
            let socket = control_socket::path(&run_dir);
            match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    complain(format_args!(
                        "hawser: no `hawser run` answers at {}: start it, or name its run folder \
                         with --run-dir or its configuration with -c",
                        socket.display()
                    ));
                    NOT_RUNNING
                }
                io::ErrorKind::PermissionDenied => {
                    complain(format_args!(
                        "hawser: {}: {error}; run this as root",
                        socket.display()
                    ));
                    FAILED
                }
                _ => {
                    complain(format_args!("hawser: {}: {error}", socket.display()));
                    FAILED
                }
            }
        })
    }
}

#[derive(Args)]
pub(super) struct ReloadArguments {
    #[command(flatten)]
    target: Target,
    /// Also take up changes that need a restart of the data plane (traffic stops for a moment)
    #[arg(long)]
    restart_dataplane: bool,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct StopArguments {
    #[command(flatten)]
    target: Target,
    /// Leave the data plane running: the next `hawser run` takes it over
    #[arg(long)]
    keep_dataplane: bool,
}

pub(super) fn reload(arguments: &ReloadArguments) -> u8 {
    let ask = Ask::Reload {
        restart_dataplane: arguments.restart_dataplane,
    };
    let answer = match arguments.target.ask(ask) {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    if arguments.json {
        match serde_json::to_string_pretty(&answer) {
            Ok(text) => print(&format!("{text}\n")),
            Err(error) => complain(format_args!("hawser: {error}")),
        }
    } else {
        tell(&answer);
    }
    match answer {
        Answer::Reloaded(_) => OK,
        Answer::Refused(_) => REFUSED,
        _ => FAILED,
    }
}

fn tell(answer: &Answer) {
    match answer {
        Answer::Reloaded(reloaded) => {
            print(&reloaded.warnings.to_string());
            print(&summary(reloaded));
        }
        Answer::Refused(diagnostics) => {
            print(&diagnostics.to_string());
            print("refused: the configuration before goes on\n");
        }
        other => explain_failure(other),
    }
}

/// Says what an answer that was not hoped for means.
pub(super) fn explain_failure(answer: &Answer) {
    match answer {
        Answer::Failed { reason, remedy } => complain(format_args!("hawser: {reason}; {remedy}")),
        Answer::Stopping => complain("hawser: it is just ending"),
        _ => complain("hawser: an answer to another question: are both of the same version?"),
    }
}

fn summary(reloaded: &Reloaded) -> String {
    let mut text = String::new();
    for (word, tunnels) in [
        ("added", &reloaded.tunnels_added),
        ("removed", &reloaded.tunnels_removed),
        ("changed", &reloaded.tunnels_changed),
    ] {
        if !tunnels.is_empty() {
            text += &format!("tunnels {word}: {}\n", tunnels.join(", "));
        }
    }
    for (word, count) in [
        ("added", reloaded.routes_added),
        ("removed", reloaded.routes_removed),
        ("changed", reloaded.routes_changed),
    ] {
        if count > 0 {
            text += &format!("routes {word}: {count}\n");
        }
    }
    if reloaded.dataplane_restarted {
        text += "the data plane was restarted\n";
    }
    if text.is_empty() {
        text += "nothing changed\n";
    }
    text
}

pub(super) fn stop(arguments: &StopArguments) -> u8 {
    match arguments.target.ask(Ask::Stop {
        keep_dataplane: arguments.keep_dataplane,
    }) {
        Ok(Answer::Stopping) => OK,
        Ok(other) => {
            explain_failure(&other);
            FAILED
        }
        Err(code) => code,
    }
}
