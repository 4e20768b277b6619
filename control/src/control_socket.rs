//! The socket of a running control: one JSON value a line, asked and answered.
//!
//! It is a Unix socket that only its owner can connect to. `hawser status`, `reload` and `stop`
//! speak it, and any script can: `echo '"status"' | socat - UNIX:/run/hawser/control.sock`.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot, watch},
};

use crate::{config::Diagnostics, status::Status};

/// Longest request in octets.
const REQUEST_LIMIT: u64 = 4096;

/// What may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// The state of everything.
    Status,
    /// Take up the changed configuration.
    Reload {
        /// Also when the data plane must be restarted for it.
        restart_dataplane: bool,
    },
    /// End.
    Stop {
        /// Leave the data plane running.
        keep_dataplane: bool,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The state of everything.
    Status(Box<Status>),
    /// The configuration was taken up.
    Reloaded(Reloaded),
    /// It is ending.
    Stopping,
    /// The configuration was refused, the one before goes on.
    Refused(Diagnostics),
    /// It could not be done.
    Failed {
        /// Why.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
}

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Names of new tunnels.
    pub tunnels_added: Vec<String>,
    /// Names of tunnels that are gone.
    pub tunnels_removed: Vec<String>,
    /// Names of tunnels with changed settings or keys.
    pub tunnels_changed: Vec<String>,
    /// New routes.
    pub routes_added: usize,
    /// Routes that are gone.
    pub routes_removed: usize,
    /// Routes that lead elsewhere.
    pub routes_changed: usize,
    /// The data plane was restarted.
    pub dataplane_restarted: bool,
    /// Warnings about the configuration.
    pub warnings: Diagnostics,
}

/// Something that the daemon itself must answer.
pub struct Command {
    /// What is asked.
    pub ask: Ask,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
}

/// The path of the socket.
#[must_use]
pub fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("control.sock")
}

/// Listens and answers until the runtime ends.
///
/// # Errors
/// When the socket cannot be made.
pub fn serve(
    run_dir: &Path,
    status: watch::Receiver<Arc<Status>>,
    commands: mpsc::Sender<Command>,
) -> io::Result<()> {
    let path = path(run_dir);
    // The lock on the folder is ours, so a socket that is there belongs to nobody.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(answer_all(stream, status.clone(), commands.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the control socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

async fn answer_all(
    stream: UnixStream,
    status: watch::Receiver<Arc<Status>>,
    commands: mpsc::Sender<Command>,
) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = String::new();
    loop {
        line.clear();
        match (&mut read).take(REQUEST_LIMIT).read_line(&mut line).await {
            Ok(n) if n > 0 => {}
            _ => return,
        }
        let answer = match serde_json::from_str(&line) {
            Ok(Ask::Status) => Answer::Status(Box::new((**status.borrow()).clone())),
            Ok(ask) => {
                let (to, from) = oneshot::channel();
                let sent = commands.send(Command { ask, answer: to }).await;
                match (sent, from.await) {
                    (Ok(()), Ok(answer)) => answer,
                    _ => Answer::Stopping,
                }
            }
            Err(error) => Answer::Failed {
                reason: format!("the request is not understood: {error}"),
                remedy: "ask \"status\", {\"reload\":{\"restart_dataplane\":false}} or \
                         {\"stop\":{\"keep_dataplane\":false}}"
                    .into(),
            },
        };
        let Ok(mut text) = serde_json::to_vec(&answer) else {
            return;
        };
        text.push(b'\n');
        if write.write_all(&text).await.is_err() {
            return;
        }
    }
}

/// Asks a running control.
///
/// # Errors
/// When none answers.
pub async fn ask(run_dir: &Path, ask: Ask) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(path(run_dir)).await?;
    let mut text = serde_json::to_vec(&ask)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&line)?)
}
