//! From a set-up request to running workers: everything that needs privilege, then no privilege.

use std::{num::NonZeroU32, sync::Arc, thread::JoinHandle, time::Instant};

use crossbeam_channel::{Sender, bounded, unbounded};
use hawser_api::{
    Event, IdlePolicy, PortId, PortMode, PortReport, Refusal, Role, Setup, SetupReport, WorkerId,
};
use hawser_ebpf::{Attached, PortConfig, Sizes, Steering};
use hawser_xsk::{
    CopyMode, FramePool, Interface, Options, QueueId, Socket, Umem, Wakeup, WakeupMode,
};

use crate::{
    balance::Balancer,
    checkpoint::Checkpoint,
    handoff,
    host::Host,
    pipeline::{Output, Pipeline},
    running::Running,
    tables::{Model, Tables},
    waker::Waker,
    worker::{Command, Peer, PortQueue, Worker},
};

/// Buffers for packets of several frames, per worker. Unit: buffers of 16 KiB. Twice a batch, so
/// that a batch can be in the pipeline while the next is gathered.
const JUMBOS: usize = 128;

/// Frames that a worker has in hand besides those in rings: batches, fragments, packets that wait
/// for a neighbour. Unit: frames.
const IN_HAND: u32 = 1024;

/// Events that may wait for the manager. More would be repetition.
const EVENTS: usize = 1024;

/// Bytes that a frame has beyond the packet: head room, Ethernet, outer headers, trailer.
const FRAME_OVERHEAD: u32 = 256 + 256;

/// A worker's thread and how to reach it.
pub struct WorkerHandle {
    /// The core it is pinned to.
    pub core: Option<u16>,
    commands: Sender<Command>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl WorkerHandle {
    /// Sends a command and wakes the worker. `false` when the worker is gone.
    pub fn send(&self, command: Command) -> bool {
        let sent = self.commands.send(command).is_ok();
        self.waker.wake();
        sent
    }

    /// Whether the thread has ended, which it never should.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the worker and waits for it.
    pub fn stop(&mut self) {
        self.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A worker that panicked has said so on stderr.
            let _ = thread.join();
        }
    }
}

/// Sets everything up.
///
/// # Errors
/// What cannot be had, with the remedy. Whatever was opened is closed again.
pub fn start(setup: Setup, manager: &Arc<Waker>, epoch: Instant) -> Result<Running, Refusal> {
    let begun = Instant::now();
    check(&setup)?;
    let checkpoint = Checkpoint::open(&setup.checkpoint).map_err(|error| Refusal {
        what: format!("checkpoint file {}: {error}", setup.checkpoint.display()),
        remedy: "make its folder writable for root".into(),
    })?;
    let workers = setup.workers.len();
    let total = frames_per_worker(&setup) * workers as u32;
    let (umem, pool) = Umem::new(total, setup.frame_size).map_err(|error| Refusal {
        what: format!("{total} frames of {} bytes: {error}", setup.frame_size),
        remedy: "lower frames_per_worker, ring_size or queues".into(),
    })?;
    let mut steering = Steering::load(&Sizes::default()).map_err(|error| refusal(&error))?;
    let (sockets, ports) = open_ports(&setup, &umem, &mut steering)?;
    let host = setup
        .tun
        .as_ref()
        .map(Host::open)
        .transpose()
        .map_err(|error| Refusal {
            what: format!("TUN device: {error}"),
            remedy: "remove the device of that name, or load the kernel module tun".into(),
        })?;
    drop_privileges()?;

    let mut model = Model::new(&setup);
    let tables = Arc::new(model.compile());
    let (events_in, events) = bounded(EVENTS);
    let parts = Parts {
        setup: &setup,
        tables,
        events: events_in,
        manager,
        host,
        epoch,
    };
    let workers = spawn(&parts, pool, sockets)?;
    let report = SetupReport {
        ports,
        aead: hawser_aead::rung().to_string(),
        micros: begun.elapsed().as_micros().try_into().unwrap_or(u64::MAX),
    };
    Ok(Running {
        setup,
        report,
        workers,
        events,
        steering,
        model,
        checkpoint,
        balancer: Balancer::default(),
        measured: None,
    })
}

fn check(setup: &Setup) -> Result<(), Refusal> {
    let refuse = |what: String, remedy: String| Err(Refusal { what, remedy });
    if setup.workers.is_empty() || setup.workers.len() > 64 {
        return refuse(
            "between 1 and 64 workers are possible".into(),
            "change workers".into(),
        );
    }
    if setup.ports.is_empty() || setup.ports.len() > 64 {
        return refuse(
            "between 1 and 64 interfaces are possible".into(),
            "name some".into(),
        );
    }
    for port in &setup.ports {
        if usize::from(port.queues) < setup.workers.len() {
            return refuse(
                format!(
                    "{} has {} queues for {} workers, and every worker needs one",
                    port.interface,
                    port.queues,
                    setup.workers.len()
                ),
                format!(
                    "lower workers, or: ethtool -L {} combined N",
                    port.interface
                ),
            );
        }
    }
    if !matches!(setup.frame_size, 2048 | 4096) {
        return refuse(
            format!("frame size {}", setup.frame_size),
            "use 2048 or 4096".into(),
        );
    }
    Ok(())
}

/// Every socket keeps its fill ring full and may have a full transmit ring besides; with fewer
/// frames than that a burst would starve reception. So what was asked for is a minimum.
fn frames_per_worker(setup: &Setup) -> u32 {
    let queues: u32 = setup.ports.iter().map(|port| u32::from(port.queues)).sum();
    let in_rings = (queues * 2 * setup.ring_size).div_ceil(setup.workers.len() as u32);
    setup.frames_per_worker.max(in_rings + IN_HAND)
}

/// Its messages say what to do behind a semicolon.
fn refusal(error: &hawser_ebpf::SteeringError) -> Refusal {
    let text = error.to_string();
    let (what, remedy) = text
        .split_once("; ")
        .unwrap_or((&text, "see the data plane's log"));
    Refusal {
        what: what.into(),
        remedy: remedy.into(),
    }
}

/// The sockets of each worker.
type Sockets = Vec<Vec<PortQueue>>;

fn open_ports(
    setup: &Setup,
    umem: &Umem,
    steering: &mut Steering,
) -> Result<(Sockets, Vec<PortReport>), Refusal> {
    let mut sockets: Sockets = setup.workers.iter().map(|_| Vec::new()).collect();
    // Sockets that share a UMEM are all of one kind.
    let multi_buffer = setup
        .ports
        .iter()
        .any(|port| port.mtu + FRAME_OVERHEAD > setup.frame_size);
    let zero_copy = setup.ports.iter().all(|port| port.zero_copy);
    let options = Options {
        copy: if zero_copy {
            CopyMode::PreferZeroCopy
        } else {
            CopyMode::Copy
        },
        multi_buffer,
        fill_ring: setup.ring_size,
        receive_ring: setup.ring_size,
        transmit_ring: setup.ring_size,
        ..Options::default()
    };
    let mut reports = Vec::new();
    let mut slot = 0;
    for (id, port) in setup.ports.iter().enumerate() {
        let config = PortConfig {
            ifindex: port.ifindex,
            mac: port.mac,
            role: match port.role {
                Role::Inside => hawser_ebpf::Role::Inside,
                Role::Outside => hawser_ebpf::Role::Outside,
                Role::Both => hawser_ebpf::Role::Both,
            },
            base_slot: slot,
        };
        let attached = steering.attach(&config).map_err(|error| refusal(&error))?;
        let interface = NonZeroU32::new(port.ifindex)
            .map(Interface::new)
            .ok_or_else(|| Refusal {
                what: format!("{} has no interface index", port.interface),
                remedy: "does the interface exist?".into(),
            })?;
        let mut zero_copy = true;
        for queue in 0..port.queues {
            let socket = Socket::open(umem, interface, QueueId(u32::from(queue)), &options)
                .map_err(|error| Refusal {
                    what: format!("AF_XDP socket on {} queue {queue}: {error}", port.interface),
                    remedy: "is another AF_XDP program using the queue?".into(),
                })?;
            zero_copy &= socket.granted().zero_copy;
            steering
                .register_socket(slot, &socket)
                .map_err(|error| refusal(&error))?;
            slot += 1;
            let worker = &mut sockets[usize::from(queue) % setup.workers.len()];
            let port = PortId(id as u16);
            let lane = worker.iter().filter(|queue| queue.port == port).count();
            worker.push(PortQueue::new(port, lane, socket));
        }
        reports.push(PortReport {
            interface: port.interface.clone(),
            mode: if zero_copy {
                PortMode::ZeroCopy
            } else {
                PortMode::Copy
            },
            native_xdp: matches!(attached, Attached::Native),
            multi_buffer,
            queues: port.queues,
        });
    }
    Ok((sockets, reports))
}

/// What all workers get a copy of.
struct Parts<'s> {
    setup: &'s Setup,
    tables: Arc<Tables>,
    events: Sender<Event>,
    manager: &'s Arc<Waker>,
    host: Option<Host>,
    epoch: Instant,
}

fn spawn(
    parts: &Parts<'_>,
    mut pool: FramePool,
    sockets: Sockets,
) -> Result<Vec<WorkerHandle>, Refusal> {
    let setup = parts.setup;
    let n = setup.workers.len();
    let wakers: Vec<_> = (0..n)
        .map(|_| Waker::new().map(Arc::new))
        .collect::<Result<_, _>>()
        .map_err(threads)?;
    let (adoption_senders, adoptions): (Vec<_>, Vec<_>) = (0..n).map(|_| unbounded()).unzip();
    let mut to: Vec<Vec<_>> = (0..n).map(|_| (0..n).map(|_| None).collect()).collect();
    let mut from: Vec<Vec<_>> = (0..n).map(|_| Vec::new()).collect();
    for (a, to) in to.iter_mut().enumerate() {
        for b in (0..n).filter(|&b| b != a) {
            let (sender, receiver) = handoff::ring();
            to[b] = Some(Peer {
                frames: sender,
                adoptions: adoption_senders[b].clone(),
                waker: Arc::clone(&wakers[b]),
            });
            from[b].push(receiver);
        }
    }
    let share = pool.len() / n;
    let ends = to.into_iter().zip(from).zip(adoptions).zip(sockets);
    ends.enumerate()
        .map(|(i, (((to, from), adoptions), queues))| {
            let id = WorkerId(i as u16);
            let mine = pool.split_off(share).with_jumbos(JUMBOS);
            let tables = Arc::clone(&parts.tables);
            let (commands, orders) = unbounded();
            let lanes: Vec<usize> = (0..setup.ports.len())
                .map(|port| {
                    queues
                        .iter()
                        .filter(|queue| queue.port.index() == port)
                        .count()
                })
                .collect();
            let worker = Worker {
                id,
                pipeline: Pipeline::new(id, setup.hash_seed, tables, mine),
                out: Output::new(&lanes, n),
                queues,
                to,
                from,
                adoptions,
                host: parts.host.clone(),
                reads_host: i == 0,
                commands: orders,
                events: parts.events.clone(),
                manager: Arc::clone(parts.manager),
                waker: Arc::clone(&wakers[i]),
                wakeup: Wakeup::new(match setup.idle {
                    IdlePolicy::Spin => WakeupMode::Spin,
                    IdlePolicy::Adaptive => WakeupMode::Adaptive,
                    IdlePolicy::Poll => WakeupMode::Poll,
                }),
                epoch: parts.epoch,
                next_link_check: Instant::now(),
                waiting: Vec::with_capacity(hawser_aead::BATCH),
            };
            let core = setup.workers[i].core;
            let thread = std::thread::Builder::new()
                .name(format!("worker-{i}"))
                .spawn(move || {
                    pin(core);
                    worker.run();
                })
                .map_err(threads)?;
            Ok(WorkerHandle {
                core,
                commands,
                waker: Arc::clone(&wakers[i]),
                thread: Some(thread),
            })
        })
        .collect()
}

fn pin(core: Option<u16>) {
    let Some(core) = core else { return };
    let id = core_affinity::CoreId {
        id: usize::from(core),
    };
    if !core_affinity::set_for_current(id) {
        tracing::warn!(
            core,
            "cannot pin the worker to its core: is it online and allowed?"
        );
    }
}

fn threads(error: std::io::Error) -> Refusal {
    Refusal {
        what: error.to_string(),
        remedy: "raise the limits of threads and files".into(),
    }
}

/// Drops all capabilities but the one that the kernel wants for changing maps (CAP_BPF). Threads
/// started after this have none either; open sockets need none.
fn drop_privileges() -> Result<(), Refusal> {
    use caps::{CapSet, Capability};
    let keep = caps::read(None, CapSet::Permitted).map(|have| {
        if have.contains(&Capability::CAP_BPF) {
            vec![Capability::CAP_BPF]
        } else {
            vec![]
        }
    });
    let dropped = keep.and_then(|keep| {
        let keep: caps::CapsHashSet = keep.into_iter().collect();
        caps::set(None, CapSet::Inheritable, &caps::CapsHashSet::new())?;
        caps::set(None, CapSet::Effective, &keep)?;
        caps::set(None, CapSet::Permitted, &keep)
    });
    dropped.map_err(|error| Refusal {
        what: format!("cannot drop privileges: {error}"),
        remedy: "run as root or with CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF".into(),
    })
}
