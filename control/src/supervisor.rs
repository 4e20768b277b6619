//! The data plane as a process: finding one that runs, starting one, ending it, and how long to
//! wait before the next attempt.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use hawser_api::{Setup, SetupReport};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::{
    dataplane_link::{DataplaneLink, Greeting, LinkError},
    desired::Ports,
};

/// How long a started process may take until it listens.
const LISTEN_PATIENCE: Duration = Duration::from_secs(10);
/// How often to look whether it does.
const LISTEN_POLL: Duration = Duration::from_millis(2);
/// How long a process may take to end after it said it would.
const END_PATIENCE: Duration = Duration::from_secs(3);
/// First delay before another attempt, doubled by each failure.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest delay.
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// A data plane that ran for this long has not failed at the start.
const STABLE: Duration = Duration::from_secs(10);

/// How long to wait before the next attempt: nothing after a good run, then from 100 ms up to 5 s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay after a run (or an attempt) of this length that has ended.
    pub fn after(&mut self, ran_for: Duration) -> Duration {
        if ran_for >= STABLE {
            self.failures = 0;
        }
        let delay = match self.failures {
            0 => Duration::ZERO,
            n => FIRST_DELAY
                .saturating_mul(1 << (n - 1).min(16))
                .min(LONGEST_DELAY),
        };
        self.failures = self.failures.saturating_add(1);
        delay
    }
}

/// Why there is no data plane.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program cannot be started.
    #[error("cannot start {}: {error}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It ended before it listened.
    #[error("the data plane ended at once: {0}")]
    Ended(String),
    /// It does not listen.
    #[error("the data plane does not listen at its socket")]
    Deaf,
    /// It refused or broke off the set-up.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// How to start a data plane.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Where it is to listen.
    pub socket: PathBuf,
    /// Its log level.
    pub log: String,
    /// Log as JSON.
    pub log_json: bool,
}

/// A running data plane.
pub struct Dataplane {
    /// The connection.
    pub link: DataplaneLink,
    /// The process, when it is our child.
    child: Option<Child>,
    /// Its process id.
    pub pid: u32,
    process: Process,
    /// What it was set up with.
    pub setup: Setup,
    /// What it got.
    pub report: Option<SetupReport>,
    /// Its interfaces.
    pub ports: Ports,
    /// Since when it runs or was taken over.
    pub since: Instant,
    /// It ran before us.
    pub taken_over: bool,
}

/// A data plane that was running already.
pub struct Found {
    link: DataplaneLink,
    greeting: Greeting,
}

impl Found {
    /// Looks for a data plane at the socket. One of another version is ended.
    pub async fn at(socket: &Path) -> Option<Self> {
        let mut link = DataplaneLink::connect(socket).ok()?;
        match link.hello().await {
            Ok(greeting) => Some(Self { link, greeting }),
            Err(error) => {
                tracing::warn!(%error, "the running data plane cannot be taken over; it is ended");
                end_listener(socket).await;
                None
            }
        }
    }

    /// What it runs with, if it is set up.
    #[must_use]
    pub fn setup(&self) -> Option<&Setup> {
        self.greeting.setup.as_ref()
    }

    /// Takes it over as it is.
    #[must_use]
    pub fn take_over(self) -> Option<Dataplane> {
        let setup = self.greeting.setup?;
        Some(Dataplane {
            link: self.link,
            child: None,
            pid: self.greeting.pid,
            process: Process::of(self.greeting.pid),
            ports: Ports::of(&setup),
            setup,
            report: self.greeting.report,
            since: Instant::now(),
            taken_over: true,
        })
    }

    /// Ends it.
    pub async fn end(mut self) {
        let process = Process::of(self.greeting.pid);
        if let Err(error) = self.link.shut_down().await {
            tracing::warn!(%error, "the old data plane does not end by itself");
        }
        await_end(None, &process).await;
    }
}

impl Dataplane {
    /// Starts a process and sets it up.
    ///
    /// # Errors
    /// When it cannot be started, or refuses the set-up; it is then ended.
    pub async fn start(launch: &Launch, setup: Setup) -> Result<Self, StartError> {
        let mut command = Command::new(&launch.program);
        command
            .arg("--socket")
            .arg(&launch.socket)
            .args(["--log", &launch.log])
            .args(launch.log_json.then_some("--log-json"))
            .stdin(Stdio::null())
            // Its own group: neither ctrl-C nor the end of our terminal is meant for it.
            .process_group(0);
        let mut child = command.spawn().map_err(|error| StartError::Spawn {
            program: launch.program.clone(),
            error,
        })?;
        let pid = child.id().unwrap_or(0);
        match Self::introduce(&mut child, launch, setup.clone()).await {
            Ok((link, report)) => Ok(Self {
                link,
                child: Some(child),
                pid,
                process: Process::of(pid),
                ports: Ports::of(&setup),
                setup,
                report: Some(report),
                since: Instant::now(),
                taken_over: false,
            }),
            Err(error) => {
                // Without a set-up it carries nothing: there is nothing to be gentle with.
                let _ = child.kill().await;
                Err(error)
            }
        }
    }

    async fn introduce(
        child: &mut Child,
        launch: &Launch,
        setup: Setup,
    ) -> Result<(DataplaneLink, SetupReport), StartError> {
        let begun = Instant::now();
        let mut link = loop {
            if let Ok(link) = DataplaneLink::connect(&launch.socket) {
                break link;
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(StartError::Ended(describe(status)));
            }
            if begun.elapsed() > LISTEN_PATIENCE {
                return Err(StartError::Deaf);
            }
            sleep(LISTEN_POLL).await;
        };
        let greeting = link.hello().await?;
        if Some(greeting.pid) != child.id() {
            // Another process answers at our socket: two data planes would fight.
            return Err(StartError::Ended(format!(
                "process {} answers instead",
                greeting.pid
            )));
        }
        let report = link.set_up(setup).await?;
        Ok((link, report))
    }

    /// Ends it in good order, or by force when it does not.
    pub async fn end(mut self) {
        if let Err(error) = self.link.shut_down().await {
            tracing::warn!(%error, "the data plane does not end by itself");
        }
        await_end(self.child.take(), &self.process).await;
    }

    /// After its connection is lost: makes sure that it is gone and says how it ended.
    pub async fn bury(mut self, error: &LinkError) -> String {
        if !matches!(error, LinkError::Closed) {
            // It may still run, but not as we think: two of them must not be.
            self.process.signal(Signal::KILL);
        }
        await_end(self.child.take(), &self.process)
            .await
            .unwrap_or_else(|| format!("ended: {error}"))
    }
}

/// Waits for a process to end, by force if need be; says how it ended if it was our child.
async fn await_end(child: Option<Child>, process: &Process) -> Option<String> {
    if let Some(mut child) = child {
        let status = match timeout(END_PATIENCE, child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                let _ = child.start_kill();
                child.wait().await
            }
        };
        return status.ok().map(describe);
    }
    let begun = Instant::now();
    let mut forced = false;
    while !process.has_ended() {
        if begun.elapsed() > END_PATIENCE && !forced {
            forced = true;
            process.signal(Signal::KILL);
        }
        if begun.elapsed() > 2 * END_PATIENCE {
            tracing::error!("the old data plane does not end");
            break;
        }
        sleep(LISTEN_POLL).await;
    }
    None
}

/// A process that cannot be mistaken for a later one of the same number. Without a handle (it was
/// gone before we looked) it counts as ended.
struct Process(Option<OwnedFd>);

impl Process {
    fn of(pid: u32) -> Self {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        Self(pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()))
    }

    fn signal(&self, signal: Signal) {
        if let Some(fd) = &self.0 {
            let _ = pidfd_send_signal(fd, signal);
        }
    }

    /// Whether it has ended, also when its parent has not noticed yet.
    fn has_ended(&self) -> bool {
        let Some(fd) = &self.0 else { return true };
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}

/// Ends whatever listens at the socket without speaking to it.
async fn end_listener(socket: &Path) {
    let Some(pid) = listener_of(socket) else {
        return;
    };
    let process = Process::of(pid);
    process.signal(Signal::TERM);
    await_end(None, &process).await;
}

/// The process behind a socket, as the kernel knows it.
fn listener_of(socket: &Path) -> Option<u32> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let fd = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .ok()?;
    rustix::net::connect(&fd, &SocketAddrUnix::new(socket).ok()?).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(&fd).ok()?;
    u32::try_from(credentials.pid.as_raw_nonzero().get()).ok()
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_at_once_and_the_next_ones_wait_longer() {
        let mut backoff = Backoff::default();
        let short = Duration::from_millis(5);
        let delays: Vec<u128> = (0..9).map(|_| backoff.after(short).as_millis()).collect();
        assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.after(Duration::from_secs(60)), Duration::ZERO);
        assert_eq!(backoff.after(short).as_millis(), 100);
    }
}
