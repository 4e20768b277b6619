//! `hawser run`: keeps the data plane's tables as they should be, for as long as it runs.
//!
//! One task owns all state and does one thing after the other: it waits for whatever happens next
//! (the kernel says that something changed, the data plane has an event or is gone, a person asks,
//! a timer is due) and acts on it. Status is published as a snapshot, so that asking for it never
//! waits for a long commit.
//!
//! What it is not: a part of the packet path. Killing it at any moment costs no packet.

mod converge;
mod exchange;
mod host;
mod lifecycle;
mod reload;
mod report;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use hawser_api::{Event, TunnelId};
use host::{ids_path, lock, notify_ready, peers_path, private_dir, raise_file_limit};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use crate::{
    config::{self, Config, Diagnostics},
    control_socket::{self, Answer, Ask, Command},
    dataplane_link::LinkError,
    desired::{Desired, Hindrance, PeerPath, SaSet},
    ids::Ids,
    ike::{Datagram, Exchange, Kept},
    netlink::{Changes, Kernel, KernelError, Path as KernelPath},
    peers, setup,
    status::{History, Status},
    supervisor::{Backoff, Dataplane, Launch, StartError},
};

/// How often counters are read. Short enough that the rates of `hawser status` follow what
/// happens, long enough that reading is nothing beside forwarding.
const STATS_EVERY: Duration = Duration::from_millis(250);
/// The same with so many tunnels that reading takes its time.
const STATS_EVERY_MANY: Duration = Duration::from_secs(1);
/// How many tunnels are many.
const MANY_TUNNELS: usize = 500;
/// How often neighbours and the like are looked after.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// Changes come in bursts (a link that goes down takes its addresses and routes along): wait for
/// the rest before acting.
const SETTLE: Duration = Duration::from_millis(5);
/// How long after a refusal of the tables they are tried again: what was in the way may go by
/// itself (memory, an address that another program holds). Doubled with every refusal.
const TRY_AGAIN: Duration = Duration::from_millis(250);
/// The longest that [`TRY_AGAIN`] grows to.
const TRY_AGAIN_LONGEST: Duration = Duration::from_secs(30);

/// How `hawser run` was called.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Leave the data plane running at the end.
    pub keep_dataplane: bool,
    /// Log level of the data plane.
    pub log: String,
    /// Log as JSON.
    pub log_json: bool,
}

/// Why `hawser run` ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is refused.
    #[error("the configuration is refused")]
    Refused(Diagnostics),
    /// Another control runs.
    #[error(
        "another `hawser run` uses {}: stop it (`hawser stop`), or set another run_dir",
        .0.display()
    )]
    AlreadyRunning(PathBuf),
    /// A folder or socket cannot be made.
    #[error("{}: {error}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The kernel does not answer.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The first data plane could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Signals cannot be received.
    #[error("signals: {0}")]
    Signals(io::Error),
}

/// All that control knows.
struct Daemon {
    options: Options,
    config: Config,
    ids: Ids,
    sas: Arc<SaSet>,
    /// Where the peers of key exchanges are.
    peers: BTreeMap<TunnelId, PeerPath>,
    /// They changed since they were written down.
    peers_unsaved: bool,
    /// Key exchanges.
    ike: Exchange,
    /// Where in the configuration the tunnels with a key exchange are.
    ike_tunnels: BTreeMap<TunnelId, usize>,
    /// SAs of the control before us.
    kept: Kept,
    kernel: Kernel,
    /// Routes to the peers, by remote and local address.
    paths: HashMap<(IpAddr, IpAddr), KernelPath>,
    /// Neighbours that packets waited for: interface, VLAN, address, and when last.
    wanted: BTreeMap<(String, Option<u16>, IpAddr), Instant>,
    /// When the kernel was last asked for a neighbour.
    asked: HashMap<(u32, IpAddr), Instant>,
    dataplane: Option<Dataplane>,
    /// What the data plane's tables are; `None` when that is not known.
    installed: Option<Desired>,
    hindrances: BTreeMap<TunnelId, Hindrance>,
    /// What a person should know of single tunnels.
    tunnel_warnings: BTreeMap<TunnelId, String>,
    /// Seed of the five-tuple hash: the same for every data plane that we start, so that flows
    /// stay on their tunnels over a restart.
    seed: u64,
    backoff: Backoff,
    /// When to try again to start a data plane.
    start_at: Option<Instant>,
    /// When to act on changes.
    converge_at: Option<Instant>,
    dirty: Changes,
    /// Refusals of the tables since they were last taken.
    refusals: u32,
    restarts: u64,
    last_restart: Option<String>,
    reloads: u64,
    /// What stands in the way, by area.
    problems: BTreeMap<Area, String>,
    /// The TUN device waits for its addresses.
    tun_pending: bool,
    history: History,
    started: Instant,
    status: watch::Sender<Arc<Status>>,
}

/// What a problem is about; one area has one problem at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Area {
    /// Interfaces are missing.
    Interfaces,
    /// The data plane does not start.
    Start,
    /// The tables are refused.
    Tables,
    /// The TUN device.
    Tun,
    /// The key exchange.
    Exchange,
}

/// What the next turn of the loop is about.
enum Happened {
    Kernel(Result<Changes, KernelError>),
    Dataplane(Result<Event, LinkError>),
    Asked(Command),
    Stop,
    Reload,
    Datagrams(Vec<Datagram>),
    ExchangeDue,
    Converge,
    Start,
    Stats,
    Housekeeping,
}

/// Runs until it is told to stop.
///
/// # Errors
/// When it cannot begin. Once it runs, it goes on until it is told to stop.
pub async fn run(options: Options) -> Result<(), RunError> {
    let (config, mut diagnostics) = config::load(&options.config);
    let Some(config) = config else {
        return Err(RunError::Refused(diagnostics));
    };
    raise_file_limit();
    let kernel = Kernel::open().await?;
    diagnostics
        .0
        .extend(config::against_host(&config, &kernel.host_view()).0);
    if diagnostics.has_errors() {
        return Err(RunError::Refused(diagnostics));
    }
    for warning in &diagnostics.0 {
        tracing::warn!("{}", reload::one_line(warning));
    }
    let run_dir = config.gateway.run_dir.clone();
    private_dir(&config.gateway.state_dir)?;
    private_dir(&run_dir)?;
    let _lock = lock(&run_dir)?;

    let (status, snapshot) = watch::channel(Arc::new(Status::default()));
    let (to, mut commands) = mpsc::channel(16);
    control_socket::serve(&run_dir, snapshot, to).map_err(|error| RunError::Path {
        path: control_socket::path(&run_dir),
        error,
    })?;
    let mut signals = Signals::new().map_err(RunError::Signals)?;

    let mut daemon = Daemon::new(options, config, kernel, status);
    daemon.begin().await?;
    notify_ready();
    daemon.serve(&mut commands, &mut signals).await;
    Ok(())
}

impl Daemon {
    fn new(
        options: Options,
        config: Config,
        kernel: Kernel,
        status: watch::Sender<Arc<Status>>,
    ) -> Self {
        let ids = Ids::load(&ids_path(&config)).assigned(&config);
        let sas = Arc::new(SaSet::configured(&config, &ids));
        Self {
            options,
            sas,
            peers: peers::load(&peers_path(&config)),
            peers_unsaved: false,
            ike: Exchange::new(&config),
            ike_tunnels: BTreeMap::new(),
            kept: Kept::default(),
            ids,
            config,
            kernel,
            paths: HashMap::new(),
            wanted: BTreeMap::new(),
            asked: HashMap::new(),
            dataplane: None,
            installed: None,
            hindrances: BTreeMap::new(),
            tunnel_warnings: BTreeMap::new(),
            seed: getrandom::u64().unwrap_or_else(|_| std::process::id().into()),
            backoff: Backoff::default(),
            start_at: None,
            converge_at: None,
            dirty: Changes::ALL,
            refusals: 0,
            restarts: 0,
            last_restart: None,
            reloads: 0,
            problems: BTreeMap::new(),
            tun_pending: false,
            history: History::default(),
            started: Instant::now(),
            status,
        }
    }

    async fn serve(&mut self, commands: &mut mpsc::Receiver<Command>, signals: &mut Signals) {
        let mut stats_at = Instant::now();
        let mut housekeeping_at = Instant::now() + HOUSEKEEPING;
        loop {
            let happened = {
                let dataplane = &mut self.dataplane;
                let event = async {
                    match dataplane {
                        Some(dataplane) => dataplane.link.event().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    signal = signals.next() => signal,
                    event = event => Happened::Dataplane(event),
                    changes = self.kernel.changed() => Happened::Kernel(changes),
                    Some(command) = commands.recv() => Happened::Asked(command),
                    () = due(self.start_at) => Happened::Start,
                    () = due(self.converge_at) => Happened::Converge,
                    () = sleep_until(stats_at) => Happened::Stats,
                    () = sleep_until(housekeeping_at) => Happened::Housekeeping,
                    // Last, so that a flood of messages delays nothing else.
                    () = due(self.ike.due_at()) => Happened::ExchangeDue,
                    datagrams = self.ike.receive() => Happened::Datagrams(datagrams),
                }
            };
            // Status of thousands of tunnels is not made for every packet of netlink.
            let visible = !matches!(
                happened,
                Happened::Kernel(_)
                    | Happened::Dataplane(Ok(_))
                    | Happened::Datagrams(_)
                    | Happened::ExchangeDue
            );
            match happened {
                Happened::Stop => {
                    self.stop(self.options.keep_dataplane).await;
                    return;
                }
                Happened::Dataplane(Ok(event)) => self.event(event).await,
                Happened::Dataplane(Err(error)) => self.dataplane_lost(&error).await,
                Happened::Kernel(Ok(changes)) => self.kernel_changed(changes).await,
                Happened::Kernel(Err(error)) => {
                    // Without netlink we would be blind to every change from here on.
                    tracing::error!(%error, "the kernel's messages are lost; opening anew");
                    self.reopen_kernel().await;
                }
                Happened::Asked(Command { ask, answer }) => {
                    if let Ask::Stop { keep_dataplane } = ask {
                        self.stop(keep_dataplane).await;
                        let _ = answer.send(Answer::Stopping);
                        // The answer is on its way in another task of this thread.
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        return;
                    }
                    let restart = ask
                        == Ask::Reload {
                            restart_dataplane: true,
                        };
                    let reply = self.reload(restart).await;
                    let _ = answer.send(reply);
                }
                Happened::Reload => {
                    let answer = self.reload(false).await;
                    reload::log(&answer);
                }
                Happened::Datagrams(datagrams) => self.datagrams(&datagrams).await,
                Happened::ExchangeDue => self.exchange_due().await,
                Happened::Converge => self.converge().await,
                Happened::Start => self.start_dataplane().await,
                Happened::Stats => {
                    self.read_stats().await;
                    self.count_for_exchange().await;
                    let many = self.config.tunnels.len() > MANY_TUNNELS;
                    stats_at = Instant::now() + if many { STATS_EVERY_MANY } else { STATS_EVERY };
                }
                Happened::Housekeeping => {
                    self.look_after_neighbours().await;
                    self.look_after_exchange().await;
                    if self.tun_pending {
                        self.set_up_tun().await;
                    }
                    housekeeping_at = Instant::now() + HOUSEKEEPING;
                }
            }
            if visible {
                self.publish();
            }
        }
    }

    /// Acts on changes soon.
    fn converge_soon(&mut self, changes: Changes) {
        self.dirty.merge(changes);
        // Every path is looked up again when routes change: the more, the longer we collect.
        let per_tunnel = Duration::from_micros(50) * self.config.tunnels.len() as u32;
        self.converge_after(SETTLE + per_tunnel);
    }

    /// Acts on changes after this time, unless an earlier one is set.
    fn converge_after(&mut self, delay: Duration) {
        let at = Instant::now() + delay;
        self.converge_at = Some(self.converge_at.map_or(at, |set| set.min(at)));
    }

    /// The tables were refused: tries again later, all of it computed anew.
    fn try_again(&mut self) {
        let factor = 1 << self.refusals.min(16);
        self.refusals += 1;
        self.dirty = Changes::ALL;
        self.converge_after((TRY_AGAIN * factor).min(TRY_AGAIN_LONGEST));
    }

    async fn reopen_kernel(&mut self) {
        match Kernel::open().await {
            Ok(kernel) => {
                self.kernel = kernel;
                self.kernel_changed(Changes::ALL).await;
            }
            Err(error) => {
                tracing::error!(%error, "no netlink");
                tokio::time::sleep(HOUSEKEEPING).await;
            }
        }
    }

    async fn event(&mut self, event: Event) {
        match event {
            Event::NeighbourNeeded {
                port,
                vlan,
                address,
            } => {
                self.neighbour_needed(port, vlan, address).await;
            }
            Event::SequenceSoftLimit { tunnel, spi } if self.ike_tunnels.contains_key(&tunnel) => {
                self.ike.sequence_limit(tunnel, spi);
                self.exchange().await;
            }
            Event::SequenceSoftLimit { tunnel, spi } => {
                let name = self.tunnel_name(tunnel);
                let text = format!(
                    "three quarters of the sequence numbers of SA {spi} are used: make new keys \
                     (`hawser manual-keys`) for both ends and reload, or use ESN"
                );
                tracing::warn!(tunnel = name, "{text}");
                self.tunnel_warnings.insert(tunnel, text);
            }
            Event::UnknownSpi { spi, source } => {
                tracing::info!(%spi, %source, "packets with an SPI that no SA has");
                self.unknown_spi(spi, source).await;
            }
            Event::PeerMoved {
                tunnel,
                address,
                port,
            } => {
                if self.ike_tunnels.contains_key(&tunnel) {
                    self.ike.peer_moved(tunnel, SocketAddr::new(address, port));
                    self.exchange().await;
                    return;
                }
                // With manual keys the peer's address is what the configuration says.
                let name = self.tunnel_name(tunnel);
                tracing::warn!(tunnel = name, %address, port, "the peer sends from elsewhere");
            }
            Event::PortDown(port) => {
                let name = self.port_name(port);
                tracing::warn!(interface = name, "the data plane cannot use the interface");
                self.converge_soon(Changes {
                    links: true,
                    ..Changes::default()
                });
            }
        }
    }

    fn tunnel_name(&self, id: TunnelId) -> String {
        let names = self.ids.tunnel_names();
        names
            .get(&id)
            .map_or_else(|| format!("number {id}"), ToString::to_string)
    }

    fn port_name(&self, id: hawser_api::PortId) -> String {
        let port = self.dataplane.as_ref().and_then(|d| d.ports.get(id));
        port.map_or_else(|| format!("number {id}"), |p| p.name.clone())
    }

    fn launch(&self) -> Launch {
        Launch {
            program: setup::program(self.config.dataplane.program.as_deref()),
            socket: self.config.gateway.run_dir.join("dataplane.sock"),
            log: self.options.log.clone(),
            log_json: self.options.log_json,
        }
    }
}

/// SIGTERM, SIGINT and SIGHUP.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Happened {
        tokio::select! {
            _ = self.terminate.recv() => Happened::Stop,
            _ = self.interrupt.recv() => Happened::Stop,
            _ = self.hang_up.recv() => Happened::Reload,
        }
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
