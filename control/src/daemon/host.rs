//! What the daemon asks of its host: folders and files, a limit, the service manager.

use std::{
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
};

use super::RunError;
use crate::config::Config;

/// Thousands of tunnels with addresses of their own need more sockets than a login shell allows.
pub(super) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::debug!(%error, "the limit of open files stays");
    }
}

pub(super) fn peers_path(config: &Config) -> PathBuf {
    config.gateway.run_dir.join("peers.json")
}

pub(super) fn ids_path(config: &Config) -> PathBuf {
    config.gateway.run_dir.join("ids.json")
}

/// Makes a folder that only we can enter; one that exists stays as it is.
pub(super) fn private_dir(path: &Path) -> Result<(), RunError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| RunError::Path {
            path: path.to_owned(),
            error,
        })
}

/// One control for a run folder. The lock goes with the process, however it ends.
pub(super) fn lock(run_dir: &Path) -> Result<OwnedFd, RunError> {
    use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
    let path = run_dir.join("control.lock");
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
    let fd = open(&path, flags, Mode::from_raw_mode(0o600)).map_err(|error| RunError::Path {
        path: path.clone(),
        error: error.into(),
    })?;
    match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(fd),
        Err(_) => Err(RunError::AlreadyRunning(run_dir.to_owned())),
    }
}

/// Tells systemd (`Type=notify`) that we are there, if it wants to know.
pub(super) fn notify_ready() {
    use std::os::{
        linux::net::SocketAddrExt,
        unix::{ffi::OsStrExt, net},
    };
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => net::SocketAddr::from_abstract_name(name),
        None => net::SocketAddr::from_pathname(&name),
    };
    let told =
        net::UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(b"READY=1", &address?));
    if let Err(error) = told {
        tracing::warn!(%error, "cannot tell the service manager that we are ready");
    }
}
