//! The main thread: speaks with control, changes the tables, extends sequence leases.
//!
//! It owns the model, the checkpoint and the XDP maps, and touches no packet. Tables reach the
//! workers by their command channels, counters come back the same way, so the workers share
//! nothing with it that a lock would have to guard.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use hawser_api::{Event, FromDataplane, PROTOCOL_VERSION, Refusal, Reply, Request, Update};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    ipc::{Connection, Listener},
    running::Running,
    setup,
    statistics::Collected,
    waker::Waker,
};

/// How often leases are looked at. An SA must not use up half a lease within it.
const TICK: Duration = Duration::from_millis(20);

/// How often the tops of the replay windows are written. What was received since the last write
/// could be replayed after a crash.
const TOPS: Duration = Duration::from_millis(250);

/// How often the load of the workers is measured.
const BALANCE: Duration = Duration::from_secs(1);

/// How long a worker may take to answer. A worker answers between two batches.
pub(crate) const ANSWER: Duration = Duration::from_millis(500);

/// The main thread's state.
pub struct Manager {
    listener: Listener,
    connection: Option<Connection>,
    waker: Arc<Waker>,
    epoch: Instant,
    running: Option<Running>,
    staged: Vec<Update>,
    collected: Option<Collected>,
    /// Outbound SPIs whose soft limit was reported.
    warned: std::collections::HashSet<(hawser_api::TunnelId, hawser_api::Spi)>,
}

impl Manager {
    /// A manager that listens at `path`.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn new(path: &Path) -> io::Result<Self> {
        Ok(Self {
            listener: Listener::bind(path)?,
            connection: None,
            waker: Arc::new(Waker::new()?),
            epoch: Instant::now(),
            running: None,
            staged: Vec::new(),
            collected: None,
            warned: std::collections::HashSet::new(),
        })
    }

    /// Runs until control says shut down, or a worker has died.
    ///
    /// # Errors
    /// When waiting fails, or a worker is gone: the process must then end, so that control starts
    /// another.
    pub fn run(mut self) -> io::Result<()> {
        let mut next_tick = Instant::now();
        let mut next_tops = next_tick;
        let mut next_balance = next_tick + BALANCE;
        loop {
            self.waker.going_to_sleep();
            let (accept, request) = self.wait(next_tick)?;
            self.waker.awake();
            if accept {
                match self.listener.accept() {
                    Ok(connection) => self.connection = Some(connection),
                    Err(error) => tracing::warn!(%error, "cannot accept control"),
                }
            }
            if request && !self.serve() {
                break;
            }
            self.tell();
            let now = Instant::now();
            if now >= next_tick {
                next_tick = now + TICK;
                self.extend_leases();
                if self
                    .running
                    .iter()
                    .flat_map(|r| &r.workers)
                    .any(setup::WorkerHandle::is_dead)
                {
                    return Err(io::Error::other("a worker has died"));
                }
            }
            if now >= next_tops {
                next_tops = now + TOPS;
                self.write_tops();
            }
            if now >= next_balance {
                next_balance = now + BALANCE;
                if let Some(running) = &mut self.running {
                    running.balance()?;
                }
            }
        }
        if let Some(mut running) = self.running.take() {
            running.write_tops();
            for worker in &mut running.workers {
                worker.stop();
            }
        }
        Ok(())
    }

    /// Waits for control, a worker or the next tick. Says whether somebody connects and whether a
    /// request waits.
    fn wait(&self, until: Instant) -> io::Result<(bool, bool)> {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: left.subsec_nanos().into(),
        };
        let waker = PollFd::new(&*self.waker, PollFlags::IN);
        // While one control is connected the next one waits in the backlog.
        match &self.connection {
            Some(connection) => {
                let mut fds = [waker, PollFd::new(connection, PollFlags::IN)];
                ready(&mut fds, &timeout)?;
                Ok((false, !fds[1].revents().is_empty()))
            }
            None => {
                let mut fds = [waker, PollFd::new(&self.listener, PollFlags::IN)];
                ready(&mut fds, &timeout)?;
                Ok((!fds[1].revents().is_empty(), false))
            }
        }
    }

    /// Answers one request. `false` when it was to shut down.
    fn serve(&mut self) -> bool {
        let Some(connection) = &mut self.connection else {
            return true;
        };
        let request = match connection.receive() {
            Ok(Some(request)) => request,
            Ok(None) => {
                tracing::info!("control is gone; packets flow on");
                self.disconnect();
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.reply(Reply::Refused(Refusal {
                    what: error.to_string(),
                    remedy: "use programs of one version".into(),
                }));
                return true;
            }
            Err(error) => {
                tracing::warn!(%error, "control's socket failed");
                self.disconnect();
                return true;
            }
        };
        let ending = request == Request::Shutdown;
        let reply = self.answer(request).unwrap_or_else(Reply::Refused);
        self.reply(reply);
        !ending
    }

    fn disconnect(&mut self) {
        self.connection = None;
        self.staged.clear();
    }

    fn reply(&mut self, reply: Reply) {
        if let Some(connection) = &self.connection
            && let Err(error) = connection.send(&FromDataplane::Reply(reply))
        {
            tracing::warn!(%error, "cannot answer control");
            self.disconnect();
        }
    }

    fn answer(&mut self, request: Request) -> Result<Reply, Refusal> {
        match request {
            Request::Hello { version } => {
                if version != PROTOCOL_VERSION {
                    return Err(Refusal {
                        what: format!("control speaks version {version}, we {PROTOCOL_VERSION}"),
                        remedy: "restart the data plane with the new program".into(),
                    });
                }
                Ok(Reply::Hello {
                    version: PROTOCOL_VERSION,
                    pid: std::process::id(),
                    setup: self.running.as_ref().map(|running| running.setup.clone()),
                    report: self.running.as_ref().map(|running| running.report.clone()),
                    generation: self.running.as_ref().map_or(0, |r| r.model.generation()),
                })
            }
            Request::Setup(setup) => {
                if self.running.is_some() {
                    return Err(Refusal {
                        what: "the data plane is set up already".into(),
                        remedy: "shut it down and start another".into(),
                    });
                }
                let running = setup::start(setup, &self.waker, self.epoch)?;
                let report = running.report.clone();
                self.running = Some(running);
                Ok(Reply::SetUp(report))
            }
            Request::Stage(updates) => {
                self.running()?;
                self.staged.extend(updates);
                Ok(Reply::Staged)
            }
            Request::Discard => {
                self.staged.clear();
                Ok(Reply::Discarded)
            }
            Request::Commit => self.commit(),
            Request::Stats(page) => {
                let running = self.running.as_mut().ok_or_else(not_set_up)?;
                if page.from.0 == 0 || self.collected.is_none() {
                    self.collected = Some(Collected::gather(running, self.epoch));
                }
                let collected = self.collected.as_ref().ok_or_else(not_set_up)?;
                Ok(Reply::Stats(Box::new(collected.page(running, page))))
            }
            Request::Shutdown => Ok(Reply::Ending),
        }
    }

    fn running(&mut self) -> Result<&mut Running, Refusal> {
        self.running.as_mut().ok_or_else(not_set_up)
    }

    fn commit(&mut self) -> Result<Reply, Refusal> {
        let begun = Instant::now();
        let staged = std::mem::take(&mut self.staged);
        let running = self.running.as_mut().ok_or_else(not_set_up)?;
        running.commit(staged)?;
        Ok(Reply::Committed {
            generation: running.model.generation(),
            micros: begun.elapsed().as_micros().try_into().unwrap_or(u64::MAX),
        })
    }

    /// Passes the workers' events on.
    fn tell(&mut self) {
        let Some(running) = &self.running else { return };
        let Some(connection) = &self.connection else {
            // Nobody to tell; what matters comes again.
            running.events.try_iter().for_each(drop);
            return;
        };
        for event in running.events.try_iter() {
            if let Err(error) = connection.send(&FromDataplane::Event(event)) {
                tracing::debug!(%error, "event lost");
            }
        }
    }

    fn extend_leases(&mut self) {
        let Some(running) = &mut self.running else {
            return;
        };
        for (tunnel, spi) in running.extend_leases() {
            if self.warned.insert((tunnel, spi))
                && let Some(connection) = &self.connection
            {
                let event = Event::SequenceSoftLimit { tunnel, spi };
                if connection.send(&FromDataplane::Event(event)).is_err() {
                    // It is said again at the next tick.
                    self.warned.remove(&(tunnel, spi));
                }
            }
        }
    }

    fn write_tops(&mut self) {
        if let Some(running) = &mut self.running {
            running.write_tops();
        }
    }
}

fn not_set_up() -> Refusal {
    Refusal {
        what: "the data plane is not set up".into(),
        remedy: "send the set-up first".into(),
    }
}

fn ready(fds: &mut [PollFd<'_>], timeout: &Timespec) -> io::Result<()> {
    match poll(fds, Some(timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
