//! A worker: one core, its sockets, its pipeline, run to completion.
//!
//! Each round takes a batch from every socket and every other worker, runs it through the
//! pipeline, and sends what came out: one system call a socket and round. Commands, counters and
//! timers are looked after between rounds. When there is nothing to do the wake-up policy decides
//! whether to spin or to sleep.

use std::{
    convert::Infallible,
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, Instant},
};

use arrayvec::ArrayVec;
use crossbeam_channel::{Receiver, Sender};
use hawser_aead::BATCH;
use hawser_api::{DropReason, Event, PortId, RegimeTimes, WorkerId};
use hawser_xsk::{Frame, Link, PollSet, Refusal, Rest, Round, Socket, Wakeup};

use crate::{
    balance::Cost,
    counters::Counters,
    handoff,
    host::Host,
    pipeline::{Output, Pipeline, Windows},
    tables::Tables,
    waker::Waker,
};

/// Time between looks at commands and timers while packets keep coming. Shorter costs a channel
/// read and a clock comparison more often; longer delays new tables.
const HOUSEKEEPING: Duration = Duration::from_micros(500);

/// Time between questions to the kernel how an interface is: one system call a socket.
const LINK_CHECK: Duration = Duration::from_millis(100);

/// How long frames wait for a full transmit ring before they are dropped: while they wait the
/// worker takes no new ones, so the receive rings absorb the burst instead. Longer only moves the
/// loss into the kernel's counters and adds delay.
const PATIENCE: Duration = Duration::from_millis(2);

/// What the manager tells a worker.
pub enum Command {
    /// Use these tables from the next batch on.
    Tables(Arc<Tables>),
    /// All commands before this one have been carried out: drop the sender, that is the answer.
    Reached(Sender<Infallible>),
    /// Send a report.
    Report(Sender<Report>),
    /// Send the highest sequence number of every SA owned: slot, generation, number.
    Tops(Sender<Vec<(u32, u64, u64)>>),
    /// Send what the tunnels cost.
    Load(Sender<Load>),
    /// Use these tables, which give some of this worker's replay windows to another one, and send
    /// those there. That one sends the answer.
    Release(Arc<Tables>, WorkerId, Sender<()>),
    /// End.
    Stop,
}

/// A copy of what a worker counted.
#[derive(Clone)]
pub struct Report {
    /// Which worker.
    pub id: WorkerId,
    /// The packet path's counters.
    pub counters: Counters,
    /// Where the time went.
    pub times: RegimeTimes,
    /// By socket.
    pub queues: Vec<QueueReport>,
    /// Frames in the free list.
    pub free_frames: u32,
}

/// What a worker has done for each tunnel since it began.
pub struct Load {
    /// Which worker.
    pub id: WorkerId,
    /// Sent, over all tunnels.
    pub sent: Cost,
    /// Received, by tunnel.
    pub received: Vec<Cost>,
}

/// Replay windows that another worker gives up for this one, with the tables that say so.
pub struct Adoption {
    tables: Arc<Tables>,
    windows: Windows,
    done: Sender<()>,
}

/// Another worker, as this one reaches it.
pub struct Peer {
    /// For frames.
    pub frames: handoff::Sender,
    /// For replay windows.
    pub adoptions: Sender<Adoption>,
    /// When it sleeps.
    pub waker: Arc<Waker>,
}

/// A copy of what a socket counted.
#[derive(Clone, Copy)]
pub struct QueueReport {
    /// The port.
    pub port: PortId,
    /// The interface's state.
    pub link: Link,
    /// Frames and bytes received.
    pub received: (u64, u64),
    /// Frames and bytes given to the kernel.
    pub sent: (u64, u64),
    /// The kernel's own counts.
    pub kernel: hawser_xsk::KernelCounters,
}

/// A socket and what goes with it.
pub struct PortQueue {
    /// The port.
    pub port: PortId,
    /// Its index among this worker's queues of that port.
    pub lane: usize,
    /// The socket.
    pub socket: Socket,
    received_bytes: u64,
    sent_bytes: u64,
    /// Since when frames wait for room in the transmit ring.
    blocked_since: Option<Instant>,
    link: Link,
}

impl PortQueue {
    /// A queue of a port.
    #[must_use]
    pub fn new(port: PortId, lane: usize, socket: Socket) -> Self {
        let link = socket.link();
        Self {
            port,
            lane,
            socket,
            received_bytes: 0,
            sent_bytes: 0,
            blocked_since: None,
            link,
        }
    }
}

/// Everything a worker owns.
pub struct Worker {
    /// Its number.
    pub id: WorkerId,
    /// The packet path.
    pub pipeline: Pipeline,
    /// Where the packet path puts frames.
    pub out: Output,
    /// Its sockets.
    pub queues: Vec<PortQueue>,
    /// To the other workers, by worker; none to itself.
    pub to: Vec<Option<Peer>>,
    /// From the other workers.
    pub from: Vec<handoff::Receiver>,
    /// From the other workers: replay windows.
    pub adoptions: Receiver<Adoption>,
    /// The host path.
    pub host: Option<Host>,
    /// Whether this worker reads from the host; all write.
    pub reads_host: bool,
    /// From the manager.
    pub commands: Receiver<Command>,
    /// To the manager.
    pub events: Sender<Event>,
    /// Wakes the manager.
    pub manager: Arc<Waker>,
    /// Wakes this worker.
    pub waker: Arc<Waker>,
    /// When to sleep.
    pub wakeup: Wakeup,
    /// The clock's zero.
    pub epoch: Instant,
    /// When to ask the interfaces next.
    pub next_link_check: Instant,
    /// Empty between rounds: frames that a transmit ring had no room for.
    pub waiting: Vec<Frame>,
}

impl Worker {
    /// Runs until told to stop.
    pub fn run(mut self) {
        let mut poll = PollSet::new();
        for queue in &self.queues {
            poll.add(queue.socket.as_fd());
        }
        poll.add(self.waker.as_fd());
        let host = self.host.clone().filter(|_| self.reads_host);
        if let Some(host) = &host {
            poll.add(host.as_fd());
        }

        let mut times = RegimeTimes::default();
        let mut burst: Vec<Frame> = Vec::with_capacity(BATCH);
        let mut last = Instant::now();
        let mut next_housekeeping = last;
        loop {
            let blocked = !self.flush(last);
            let work = if blocked {
                0
            } else {
                self.round(last, &mut burst)
            };
            let now = Instant::now();
            let spent = nanos(now - last);
            match (work > 0, blocked) {
                (true, _) => times.busy += spent,
                (false, true) => times.backpressure += spent,
                (false, false) => times.idle += spent,
            }
            last = now;

            if now >= next_housekeeping {
                next_housekeeping = now + HOUSEKEEPING;
                if let Some(host) = &host {
                    self.read_host(host, now, &mut burst);
                }
                if !self.housekeep(now, &times) {
                    return;
                }
                last = Instant::now();
                times.housekeeping += nanos(last - now);
            }
            let unfinished = blocked || self.has_output();
            match self.wakeup.after(Round { work, unfinished }, last) {
                Rest::None => {}
                Rest::Sleep(longest) => {
                    self.waker.going_to_sleep();
                    if self.has_no_mail() {
                        // A failing poll(2) is a busy loop with the errors of the sockets counted.
                        let _ = poll.sleep(longest);
                    }
                    self.waker.awake();
                    let woken = Instant::now();
                    times.asleep += nanos(woken - last);
                    last = woken;
                    next_housekeeping = woken;
                }
            }
        }
    }

    /// One batch from everywhere. Returns how many packets came.
    fn round(&mut self, now: Instant, burst: &mut Vec<Frame>) -> usize {
        let stamp = nanos(now - self.epoch);
        let mut work = 0;
        for i in 0..self.queues.len() {
            let queue = &mut self.queues[i];
            queue.socket.recycle(self.pipeline.pool());
            let mut batch: ArrayVec<Frame, BATCH> = ArrayVec::new();
            queue.socket.receive(self.pipeline.pool(), &mut batch);
            queue.socket.refill(self.pipeline.pool());
            if batch.is_empty() {
                continue;
            }
            work += batch.len();
            queue.received_bytes += batch.iter().map(|frame| frame.len() as u64).sum::<u64>();
            let port = queue.port;
            // Drained, not consumed: an iterator that owns the batch is copied from hand to hand.
            self.pipeline
                .from_port(port, batch.drain(..), stamp, &mut self.out);
            self.flush(now);
        }
        for i in 0..self.from.len() {
            if self.from[i].receive(burst, BATCH) > 0 {
                // The frames may be of a tunnel that their sender has just given up for this
                // worker. It sent the windows first, so they are here when the frames are.
                self.adopt(now);
                work += burst.len();
                self.pipeline
                    .from_worker(burst.drain(..), stamp, &mut self.out);
                self.flush(now);
            }
        }
        work
    }

    fn read_host(&mut self, host: &Host, now: Instant, burst: &mut Vec<Frame>) {
        host.receive(burst, self.pipeline.pool());
        if !burst.is_empty() {
            let stamp = nanos(now - self.epoch);
            self.pipeline
                .from_host(burst.drain(..), stamp, &mut self.out);
            self.flush(now);
        }
    }

    /// Sends what the pipeline put out. `false` when frames wait for a full transmit ring.
    fn flush(&mut self, now: Instant) -> bool {
        let pool = self.pipeline.pool();
        let mut free = true;
        let mut lost: ArrayVec<(DropReason, u64), 64> = ArrayVec::new();
        for queue in &mut self.queues {
            let frames = &mut self.out.ports[queue.port.index()].queues[queue.lane];
            if !frames.is_empty() {
                let mut bytes: u64 = frames.iter().map(|frame| frame.len() as u64).sum();
                queue
                    .socket
                    .transmit_or_else(pool, frames.drain(..), |pool, frame, why| {
                        bytes -= frame.len() as u64;
                        if why == Refusal::RingFull {
                            self.waiting.push(frame);
                        } else {
                            pool.give(frame);
                        }
                    });
                queue.sent_bytes += bytes;
                frames.append(&mut self.waiting);
            }
            queue.link = queue.socket.kick();
            if frames.is_empty() {
                queue.blocked_since = None;
                continue;
            }
            queue.socket.recycle(pool);
            let since = *queue.blocked_since.get_or_insert(now);
            if now - since < PATIENCE {
                free = false;
                continue;
            }
            let reason = match queue.link {
                Link::Up => DropReason::TxRingFull,
                _ => DropReason::PortDown,
            };
            if lost.try_push((reason, frames.len() as u64)).is_err() {
                continue;
            }
            pool.give_all(frames.drain(..));
        }
        for (reason, n) in lost {
            self.pipeline.counters().drops.add(reason, n);
        }
        self.flush_others();
        free
    }

    /// To the host, to other workers, to the manager.
    fn flush_others(&mut self) {
        if !self.out.host.is_empty() {
            let lost = match &self.host {
                Some(host) => host.send(&mut self.out.host, self.pipeline.pool()),
                None => {
                    let lost = self.out.host.len() as u64;
                    self.pipeline.pool().give_all(self.out.host.drain(..));
                    lost
                }
            };
            self.pipeline
                .counters()
                .drops
                .add(DropReason::HostFull, lost);
        }
        for (frames, to) in self.out.workers.iter_mut().zip(&mut self.to) {
            let Some(peer) = to else { continue };
            if !frames.is_empty() {
                let n = frames.len();
                let sent = peer.frames.send(frames, self.pipeline.pool());
                let lost = (n - sent) as u64;
                self.pipeline
                    .counters()
                    .drops
                    .add(DropReason::HandoffFull, lost);
                peer.waker.wake();
            }
        }
        if !self.out.events.is_empty() {
            for event in self.out.events.drain(..) {
                // Full: the manager has plenty to do already, and every event comes again.
                let _ = self.events.try_send(event);
            }
            self.manager.wake();
        }
    }

    fn has_output(&self) -> bool {
        self.out
            .ports
            .iter()
            .any(|lane| lane.queues.iter().any(|frames| !frames.is_empty()))
    }

    /// Commands and timers. `false` when it is time to end.
    fn housekeep(&mut self, now: Instant, times: &RegimeTimes) -> bool {
        let stamp = nanos(now - self.epoch);
        self.pipeline.housekeep(stamp);
        if now >= self.next_link_check {
            self.next_link_check = now + LINK_CHECK;
            self.check_links();
        }
        self.adopt(now);
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Reached(to) => drop(to),
                Command::Tables(tables) => {
                    self.pipeline.set_tables(tables, stamp, &mut self.out);
                    self.flush(now);
                }
                Command::Report(to) => drop(to.send(self.report(times))),
                Command::Tops(to) => drop(to.send(self.pipeline.tops().collect())),
                Command::Load(to) => drop(to.send(self.load())),
                Command::Release(tables, to, done) => self.release(tables, to, done, now),
                Command::Stop => return false,
            }
        }
        true
    }

    /// Gives replay windows up for another worker.
    fn release(&mut self, tables: Arc<Tables>, to: WorkerId, done: Sender<()>, now: Instant) {
        let stamp = nanos(now - self.epoch);
        let windows = self
            .pipeline
            .release(Arc::clone(&tables), stamp, &mut self.out);
        let adoption = Adoption {
            tables,
            windows,
            done,
        };
        // Before any frame that is handed over because of it: see `round`.
        if let Some(Some(peer)) = self.to.get(to.index()) {
            // It ends only with the process.
            let _ = peer.adoptions.send(adoption);
            peer.waker.wake();
        }
        self.flush(now);
    }

    /// Takes replay windows over that other workers gave up.
    fn adopt(&mut self, now: Instant) {
        while let Ok(adoption) = self.adoptions.try_recv() {
            let stamp = nanos(now - self.epoch);
            let Adoption {
                tables,
                windows,
                done,
            } = adoption;
            self.pipeline
                .take_over(tables, windows, stamp, &mut self.out);
            self.flush(now);
            let _ = done.send(());
        }
    }

    fn load(&mut self) -> Load {
        let tunnels = &self.pipeline.counters().tunnels;
        let mut sent = Cost::default();
        for tunnel in tunnels {
            sent += Cost::of(tunnel.sent, tunnel.sent_bytes);
        }
        let received = tunnels.iter();
        let received = received.map(|t| Cost::of(t.received, t.received_bytes));
        Load {
            id: self.id,
            sent,
            received: received.collect(),
        }
    }

    fn has_no_mail(&self) -> bool {
        self.commands.is_empty()
            && self.adoptions.is_empty()
            && self.from.iter().all(handoff::Receiver::is_empty)
    }

    /// An interface that is removed wakes nobody: it must be asked.
    fn check_links(&mut self) {
        for queue in &mut self.queues {
            let link = queue.socket.link();
            if link != queue.link && link != Link::Up {
                self.out.events.push(Event::PortDown(queue.port));
            }
            queue.link = link;
        }
        if !self.out.events.is_empty() {
            self.flush_others();
        }
    }

    fn report(&mut self, times: &RegimeTimes) -> Report {
        let mut counters = self.pipeline.counters().clone();
        let queues = self.queues.iter().map(|queue| {
            let counted = queue.socket.counters();
            counters
                .drops
                .add(DropReason::TxBusy, counted.dropped_by_device);
            counters.drops.add(
                DropReason::JumboFailed,
                counted.jumbo_without_frame + counted.jumbo_too_long + counted.refused_too_long,
            );
            counters
                .drops
                .add(DropReason::NoFrame, counted.refused_no_frame);
            QueueReport {
                port: queue.port,
                link: queue.link,
                received: (counted.received, queue.received_bytes),
                sent: (counted.transmitted, queue.sent_bytes),
                kernel: queue.socket.kernel_counters().unwrap_or_default(),
            }
        });
        let queues = queues.collect();
        let free_frames = self.pipeline.pool().len() as u32;
        Report {
            id: self.id,
            counters,
            times: *times,
            queues,
            free_frames,
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}
