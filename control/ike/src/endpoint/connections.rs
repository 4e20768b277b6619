//! The configured connections, what runs for each, and finding one by addresses.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use hawser_api::Spi;

use super::Endpoint;
use crate::{
    config::{self, ConfigError, Connection, ConnectionId, Remote, Startup},
    event::{Failure, Path, State},
    sa::{SaId, pending::Task},
    settings::Settings,
    status::ConnectionCounters,
    timer::{ConnectionTimer, Timer},
};

/// One connection and what runs for it.
pub(crate) struct ConnectionState {
    pub(crate) config: Arc<Connection>,
    /// Where we are instead of where the configuration says.
    pub(crate) moved: Option<IpAddr>,
    /// The established SA that is used.
    pub(crate) current: Option<SaId>,
    /// Our attempt under way.
    pub(crate) attempt: Option<SaId>,
    /// All established SAs, also those on their way out.
    pub(crate) sas: Vec<SaId>,
    /// It is to be up: initiated, and initiated again.
    pub(crate) wanted: bool,
    /// Refusals since the last success, for the pauses between attempts.
    pub(crate) refusals: u32,
    /// The children we send with: by configured child, the SPI that we chose.
    pub(crate) active: BTreeMap<u16, Spi>,
    pub(crate) last_failure: Option<Failure>,
    pub(crate) counters: ConnectionCounters,
    /// As last reported.
    pub(crate) reported: (State, State),
    pub(crate) reported_path: Option<(Path, bool)>,
}

impl ConnectionState {
    fn new(config: Connection) -> Self {
        Self {
            wanted: config.startup == Startup::Start,
            config: Arc::new(config),
            moved: None,
            current: None,
            attempt: None,
            sas: Vec::new(),
            refusals: 0,
            active: BTreeMap::new(),
            last_failure: None,
            counters: ConnectionCounters::default(),
            reported: (State::Down, State::Down),
            reported_path: None,
        }
    }

    /// An SA is gone.
    pub(crate) fn forget(&mut self, id: SaId) {
        self.sas.retain(|s| *s != id);
        if self.current == Some(id) {
            self.current = None;
        }
        if self.attempt == Some(id) {
            self.attempt = None;
        }
    }
}

/// Finds connections by the addresses of a datagram.
#[derive(Default)]
pub(crate) struct Finder {
    exact: HashMap<(IpAddr, IpAddr), Arc<[ConnectionId]>>,
    /// By our address; these are few.
    wild: HashMap<IpAddr, Vec<(Remote, ConnectionId)>>,
}

impl Finder {
    fn new<'a>(connections: impl Iterator<Item = &'a Connection>) -> Self {
        let mut exact: HashMap<(IpAddr, IpAddr), Vec<ConnectionId>> = HashMap::new();
        let mut wild: HashMap<IpAddr, Vec<(Remote, ConnectionId)>> = HashMap::new();
        for c in connections {
            match c.remote {
                Remote::Address(a) => exact.entry((c.local, a)).or_default().push(c.id),
                _ => wild.entry(c.local).or_default().push((c.remote, c.id)),
            }
        }
        for list in wild.values_mut() {
            list.sort_by_key(|(remote, id)| (std::cmp::Reverse(prefix_len(remote)), *id));
        }
        Self {
            exact: exact.into_iter().map(|(k, v)| (k, v.into())).collect(),
            wild,
        }
    }

    /// The connections that a peer at `remote` may mean, the closest match first.
    pub(crate) fn find(&self, local: IpAddr, remote: IpAddr) -> Arc<[ConnectionId]> {
        let exact = self.exact.get(&(local, remote));
        let wild: Vec<ConnectionId> = self
            .wild
            .get(&local)
            .into_iter()
            .flatten()
            .filter(|(r, _)| r.matches(remote))
            .map(|(_, id)| *id)
            .collect();
        match (exact, wild.is_empty()) {
            (Some(exact), true) => Arc::clone(exact),
            (exact, _) => exact
                .map(|e| e.to_vec())
                .unwrap_or_default()
                .into_iter()
                .chain(wild)
                .collect(),
        }
    }
}

fn prefix_len(remote: &Remote) -> u8 {
    match remote {
        Remote::Address(_) => u8::MAX,
        Remote::Net(net) => net.prefix_len(),
        Remote::Any => 0,
    }
}

impl Endpoint {
    /// Takes over a whole new list of connections. SAs of connections that are as before go on;
    /// those of others are closed and, if they are to start, made anew.
    ///
    /// # Errors
    /// Says what cannot work; nothing has changed then.
    pub fn configure(
        &mut self,
        now: Instant,
        connections: Vec<Connection>,
    ) -> Result<(), ConfigError> {
        config::check(&connections)?;
        let mut wanted: BTreeMap<ConnectionId, Connection> =
            connections.into_iter().map(|c| (c.id, c)).collect();
        let present: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in present {
            match wanted.remove(&id) {
                Some(config) => self.reconfigure(now, id, config),
                None => self.remove_connection(now, id),
            }
        }
        for (id, config) in wanted {
            self.add_connection(now, id, config);
        }
        self.finder = Finder::new(self.connections.values().map(|c| &*c.config));
        self.settle();
        Ok(())
    }

    /// Takes over other limits and intervals; a timer that runs goes on as it was set. A key log that
    /// is switched on begins with the IKE SAs in use.
    pub fn adjust(&mut self, now: Instant, settings: Settings) {
        let begins = settings.key_log && !self.settings.key_log;
        self.settings = settings;
        if begins {
            let all: Vec<SaId> = self.sas.keys().copied().collect();
            for id in all {
                self.with_sa(now, id, |endpoint, sa| {
                    if sa.is_established() {
                        endpoint.key_log(sa);
                    }
                });
            }
        }
        self.settle();
    }

    fn add_connection(&mut self, now: Instant, id: ConnectionId, config: Connection) {
        let state = ConnectionState::new(config);
        let start = state.wanted;
        self.connections.insert(id, state);
        self.touched.insert(id);
        if start {
            self.start_attempt(now, id);
        }
    }

    fn reconfigure(&mut self, now: Instant, id: ConnectionId, config: Connection) {
        let Some(state) = self.connections.get_mut(&id) else {
            return;
        };
        if *state.config == config {
            return;
        }
        if config.keeps_running(&state.config) {
            let restarted = config.startup == Startup::Start && !state.wanted;
            state.wanted |= config.startup == Startup::Start;
            state.config = Arc::new(config);
            if restarted && state.current.is_none() {
                self.start_attempt(now, id);
            }
            return;
        }
        self.remove_connection(now, id);
        self.add_connection(now, id, config);
    }

    /// Closes what runs and forgets the connection; its SAs end on their own.
    fn remove_connection(&mut self, now: Instant, id: ConnectionId) {
        self.close_all(now, id);
        for timer in ConnectionTimer::ALL {
            self.timers.cancel(Timer::Connection(id, timer));
        }
        // The peer is told without waiting for its answer: the connection's number may be taken
        // by another configuration at once, and no SA may belong to two.
        let sas = self
            .connections
            .get(&id)
            .map(|c| c.sas.clone())
            .unwrap_or_default();
        for sa in sas {
            self.with_sa(now, sa, |endpoint, sa| endpoint.abandon(now, sa));
        }
        self.connections.remove(&id);
    }

    pub(crate) fn connection(&self, id: ConnectionId) -> Option<Arc<Connection>> {
        self.connections.get(&id).map(|c| Arc::clone(&c.config))
    }

    /// Puts a task in line on the current SA.
    pub(crate) fn want_on_current(&mut self, now: Instant, id: ConnectionId, task: Task) {
        if let Some(sa) = self.connections.get(&id).and_then(|c| c.current) {
            self.with_sa(now, sa, |_, sa| sa.want(task));
        }
    }
}
