//! The key exchange around the endpoint: sockets, timers, SAs on their way to the data plane.
//!
//! [`hawser_ike::Endpoint`] is a pure state machine. This module feeds it datagrams and time, turns
//! what it wants into changes of the data plane's SAs, and sends its messages, in the order that
//! the endpoint asks for: **what a message promises is in the data plane before it leaves.** The
//! daemon drives it (`daemon/exchange.rs`); nothing here blocks.
//!
//! What it is not: an IKE implementation; it looks into no message.

mod connections;
mod report;
mod sas;
mod sockets;
mod takeover;
mod tunnel_log;
mod usage;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

pub use connections::{connection_of, tunnel_of};
use hawser_api::{Encapsulation, Spi, TunnelId};
use hawser_ike::{Endpoint, Event, Path, RekeyReason, SystemRandom};
pub use sas::{SaChange, keep};
pub use sockets::Datagram;
use sockets::Sockets;
pub use takeover::Kept;
use tunnel_log::{KeyLog, TunnelLog};
use usage::Usage;

use crate::{
    config::{Config, Tunnel, ike::Startup},
    desired::PeerPath,
    ids::Ids,
};

/// What the endpoint wants done before its messages leave.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Changes of SAs, in order.
    pub sas: Vec<SaChange>,
    /// Where peers are now.
    pub peers: BTreeMap<TunnelId, PeerPath>,
}

impl Wanted {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sas.is_empty() && self.peers.is_empty()
    }
}

/// All key exchanges of this gateway.
pub struct Exchange {
    endpoint: Endpoint,
    sockets: Sockets,
    /// Names by number: connection and tunnel.
    names: BTreeMap<TunnelId, (String, String)>,
    /// Tunnels that traffic starts, with the drops seen last.
    on_traffic: BTreeMap<TunnelId, u64>,
    /// Where we are instead of where the configuration says (MOBIKE).
    moved: BTreeMap<TunnelId, IpAddr>,
    usage: BTreeMap<TunnelId, Usage>,
    log: TunnelLog,
    keys: Option<KeyLog>,
    /// Addresses whose ports could not be bound.
    unbound: Vec<String>,
}

impl Exchange {
    /// An endpoint without connections.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            endpoint: Endpoint::new(connections::settings(config), Box::new(SystemRandom)),
            sockets: Sockets::default(),
            names: BTreeMap::new(),
            on_traffic: BTreeMap::new(),
            moved: BTreeMap::new(),
            usage: BTreeMap::new(),
            log: TunnelLog::default(),
            keys: None,
            unbound: Vec::new(),
        }
    }

    /// Takes up a configuration. Connections that are the same go on with their SAs; new ones are
    /// started as the configuration says.
    ///
    /// # Errors
    /// What the endpoint does not take; nothing of it has changed then.
    pub fn configure(&mut self, config: &Config, ids: &Ids) -> Result<(), String> {
        self.endpoint
            .configure(Instant::now(), connections::connections(config, ids)?)
            .map_err(|error| error.to_string())?;
        self.endpoint
            .adjust(Instant::now(), connections::settings(config));
        let with_ike = || {
            let tunnels = config.tunnels.iter().filter(|t| t.ike().is_some());
            tunnels.filter_map(|t| Some((ids.tunnel(&t.name)?, t)))
        };
        self.names = with_ike()
            .map(|(id, t)| (id, (t.connection.clone(), t.name.clone())))
            .collect();
        self.usage.retain(|id, _| self.names.contains_key(id));
        let waits = |t: &Tunnel| t.ike().is_some_and(|ike| ike.startup == Startup::Traffic);
        self.on_traffic = with_ike()
            .filter(|(_, t)| waits(t))
            .map(|(id, _)| (id, self.on_traffic.get(&id).copied().unwrap_or(0)))
            .collect();
        self.moved.retain(|id, _| self.names.contains_key(id));
        self.listen(config);
        self.open_logs(config);
        Ok(())
    }

    fn listen(&mut self, config: &Config) {
        let with_ike = config.tunnels.iter().filter(|t| t.ike().is_some());
        let addresses: BTreeSet<IpAddr> = with_ike
            .map(|t| t.local.value)
            .chain(self.moved.values().copied())
            .collect();
        let failed = self.sockets.serve(&addresses);
        self.unbound = failed
            .iter()
            .map(|(at, error)| {
                let why = match error.kind() {
                    io::ErrorKind::AddrInUse => "another IKE daemon has it: stop that one".into(),
                    _ => error.to_string(),
                };
                tracing::error!(%at, why, "cannot listen for IKE");
                format!("UDP {at}: {why}")
            })
            .collect();
    }

    /// Tries again to listen where it was not possible.
    pub fn listen_again(&mut self, config: &Config) {
        if !self.unbound.is_empty() {
            self.listen(config);
        }
    }

    fn open_logs(&mut self, config: &Config) {
        if let Err(error) = self.log.open(config.ike.tunnel_log.as_deref()) {
            tracing::error!(%error, "the tunnel log cannot be opened; its lines go here");
        }
        self.keys = config.ike.key_log.as_deref().and_then(|folder| {
            tracing::warn!(
                folder = %folder.display(),
                "SESSION KEYS ARE WRITTEN TO FILES (key_log): whoever reads them reads the traffic"
            );
            KeyLog::open(folder)
                .inspect_err(|error| tracing::error!(%error, "the key log cannot be opened"))
                .ok()
        });
    }

    /// What stands in the way of listening, if anything does.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        (!self.unbound.is_empty()).then(|| self.unbound.join(", "))
    }

    /// Waits for messages. May be dropped while it waits.
    pub async fn receive(&mut self) -> Vec<Datagram> {
        self.sockets.receive().await
    }

    /// When [`Self::due`] wants to be called.
    #[must_use]
    pub fn due_at(&self) -> Option<tokio::time::Instant> {
        self.endpoint.poll_timeout().map(Into::into)
    }

    /// Time has passed.
    pub fn due(&mut self) {
        self.endpoint.handle_timeout(Instant::now());
    }

    /// Messages have come.
    pub fn handle(&mut self, datagrams: &[Datagram]) {
        for datagram in datagrams {
            self.endpoint
                .handle_datagram(Instant::now(), datagram.path, &datagram.bytes);
        }
    }

    /// What must be done before [`Self::send`].
    pub fn wanted(&mut self) -> Wanted {
        let mut wanted = Wanted::default();
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::InboundAdd(sa) => {
                    self.log_esp(&sa.suite, sa.spi, sa.key.expose(), sa.connection, false);
                    wanted.sas.push(SaChange::inbound(sa));
                }
                Event::OutboundSet(sa) => {
                    self.log_esp(&sa.suite, sa.spi, sa.key.expose(), sa.connection, true);
                    self.usage.remove(&tunnel_of(sa.connection));
                    wanted.sas.push(SaChange::outbound(sa));
                }
                Event::InboundRemove { spi, .. } => wanted.sas.push(SaChange::RemoveInbound(spi)),
                Event::OutboundRemove { connection, .. } => {
                    let tunnel = tunnel_of(connection);
                    // A tunnel that has manual keys by now keeps them.
                    if self.names.contains_key(&tunnel) {
                        wanted.sas.push(SaChange::RemoveOutbound(tunnel));
                    }
                }
                Event::PathChanged {
                    connection,
                    path,
                    encapsulated,
                } => {
                    wanted
                        .peers
                        .insert(tunnel_of(connection), peer_path(path, encapsulated));
                }
                Event::State {
                    connection,
                    ike,
                    child,
                } => {
                    tracing::debug!(tunnel = self.name(connection), %ike, %child, "IKE state");
                }
                Event::Log(entry) => {
                    let names = entry.connection.and_then(|c| self.names.get(&tunnel_of(c)));
                    let (connection, tunnel) =
                        names.map_or(("", ""), |(c, t)| (c.as_str(), t.as_str()));
                    self.log.write(connection, tunnel, &entry);
                }
                Event::Failure {
                    connection,
                    failure,
                } => {
                    let tunnel = connection.map_or_else(String::new, |c| self.name(c));
                    tracing::warn!(tunnel, "{failure}");
                }
                Event::KeyLog(line) => {
                    if let Some(keys) = &mut self.keys {
                        keys.ike(line.line());
                    }
                }
            }
        }
        wanted
    }

    fn name(&self, connection: hawser_ike::ConnectionId) -> String {
        let names = self.names.get(&tunnel_of(connection));
        names.map_or_else(|| format!("number {}", connection.0), |(_, t)| t.clone())
    }

    fn log_esp(
        &mut self,
        suite: &hawser_aead::Suite,
        spi: Spi,
        key: &[u8],
        connection: hawser_ike::ConnectionId,
        outbound: bool,
    ) {
        if self.keys.is_none() {
            return;
        }
        let id = connection_of(tunnel_of(connection));
        let status = self.endpoint.connection_status(Instant::now(), id);
        let path = status.and_then(|s| s.path);
        if let (Some(keys), Some(path)) = (&mut self.keys, path) {
            let (from, to) = if outbound {
                (path.local, path.remote)
            } else {
                (path.remote, path.local)
            };
            keys.esp(&tunnel_log::esp_line(from.ip(), to.ip(), spi, *suite, key));
        }
    }

    /// Sends what waits to be sent. Everything that [`Self::wanted`] said must be in force.
    pub async fn send(&mut self) {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            self.sockets.send(&transmit).await;
        }
    }

    /// Authenticated packets come from elsewhere: a NAT has another mapping.
    pub fn peer_moved(&mut self, tunnel: TunnelId, remote: SocketAddr) {
        self.endpoint
            .peer_moved(Instant::now(), connection_of(tunnel), remote);
    }

    /// Where a tunnel's messages leave from, if not from where the configuration says.
    #[must_use]
    pub fn moved(&self, tunnel: TunnelId) -> Option<IpAddr> {
        self.moved.get(&tunnel).copied()
    }

    /// Whether a tunnel has an IKE SA that could move.
    #[must_use]
    pub fn is_established(&self, tunnel: TunnelId) -> bool {
        let id = connection_of(tunnel);
        let status = self.endpoint.connection_status(Instant::now(), id);
        status.is_some_and(|s| s.established_for.is_some())
    }

    /// These tunnels go on from other addresses of ours; none: from the configured one again.
    pub fn move_to(&mut self, config: &Config, moves: Vec<(TunnelId, IpAddr, Option<IpAddr>)>) {
        for (tunnel, configured, other) in &moves {
            match other {
                Some(other) => self.moved.insert(*tunnel, *other),
                None => self.moved.remove(tunnel),
            };
            let local = other.unwrap_or(*configured);
            self.endpoint
                .local_address(Instant::now(), connection_of(*tunnel), local);
        }
        self.listen(config);
    }

    /// A peer sends on an SA that is not here.
    pub fn unknown_spi(&mut self, spi: Spi, local: IpAddr, remote: IpAddr) {
        let path = Path {
            local: SocketAddr::new(local, sockets::IKE_PORT),
            remote: SocketAddr::new(remote, sockets::IKE_PORT),
        };
        self.endpoint.unknown_spi(Instant::now(), spi, path);
    }

    /// An outbound SA is near the end of its sequence numbers.
    pub fn sequence_limit(&mut self, tunnel: TunnelId, spi: Spi) {
        let connection = connection_of(tunnel);
        self.endpoint
            .rekey_child(Instant::now(), connection, spi, RekeyReason::Sequence);
    }

    /// SPIs that must not be given to new SAs.
    pub fn reserve(&mut self, spis: BTreeSet<Spi>) {
        self.endpoint.reserve_spis(spis);
    }

    /// Tells all peers that their SAs are gone.
    pub fn shut_down(&mut self) {
        self.endpoint.shutdown(Instant::now());
    }

    /// Whether no peer is left to tell.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.endpoint.is_idle()
    }
}

/// ESP's way, as the data plane takes it.
fn peer_path(path: Path, encapsulated: bool) -> PeerPath {
    PeerPath {
        local: path.local.ip(),
        remote: path.remote.ip(),
        encapsulation: if encapsulated {
            Encapsulation::Udp {
                local_port: path.local.port(),
                remote_port: path.remote.port(),
            }
        } else {
            Encapsulation::Plain
        },
    }
}
