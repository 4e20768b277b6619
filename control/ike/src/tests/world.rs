//! A world of endpoints in virtual time: a network with loss, delay, duplication and NAT, and for
//! each endpoint a data plane that does what the events say.
//!
//! The data planes are compared after every step: whoever sends must send on an SA that the other
//! side receives on, with the same key ([`World::check_traffic`]).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use hawser_api::{Secret, Spi};

use crate::{
    Connection, ConnectionId, ConnectionStatus, Endpoint, Event, Inbound, Outbound, Path, Remote,
    Settings, State, Transmit, testing::TestRandom,
};

/// The connection's number in most tests.
pub(crate) const ID: ConnectionId = ConnectionId(1);

/// A datagram under way.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// As the receiver sees it.
    pub(crate) path: Path,
    pub(crate) bytes: Vec<u8>,
}

/// A network address translator in front of a node.
#[derive(Clone, Copy)]
pub(crate) struct NatBox {
    pub(crate) public: IpAddr,
    /// Added to the port of what goes out.
    pub(crate) shift: u16,
}

pub(crate) struct Node {
    pub(crate) endpoint: Endpoint,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) nat: Option<NatBox>,
    pub(crate) inbound: BTreeMap<Spi, Inbound>,
    pub(crate) outbound: BTreeMap<(ConnectionId, u16), Outbound>,
    pub(crate) paths: BTreeMap<ConnectionId, (Path, bool)>,
    pub(crate) states: BTreeMap<ConnectionId, (State, State)>,
    pub(crate) log: Vec<String>,
    pub(crate) failures: Vec<String>,
    pub(crate) key_log: Vec<String>,
    pub(crate) keepalives: usize,
    /// Every connection and child that ever lost its outbound SA.
    pub(crate) stopped_sending: usize,
}

/// What happens to a datagram: delivered once for each delay.
pub(crate) type Fate = Vec<Duration>;

/// Decides about each datagram.
pub(crate) type Judge = Box<dyn FnMut(&Packet) -> Fate>;

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) nodes: Vec<Node>,
    pub(crate) delay: Duration,
    pub(crate) fate: Option<Judge>,
    /// While held, datagrams wait here, by sender, to be delivered by hand.
    pub(crate) hold: bool,
    pub(crate) held: Vec<VecDeque<Packet>>,
    pub(crate) sent: usize,
    flight: BTreeMap<(Instant, usize), Packet>,
    serial: usize,
    /// Checked after every step.
    pub(crate) lossless: bool,
    /// Datagrams for one node that come within this time are handled together: the SAs of all of
    /// them are changed, and then all answers leave.
    pub(crate) burst: Duration,
}

pub(crate) fn address(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

/// The first node's configuration of a tunnel to the second, with the same key on both sides.
pub(crate) fn connection(local: u8, remote: u8) -> Connection {
    let mut c = Connection::new(
        ID,
        "tunnel",
        address(local),
        Remote::Address(address(remote)),
        Secret::new(b"a pre-shared key".to_vec()),
    );
    // The tests make key exchanges by the hundred: the quickest group.
    for p in &mut c.proposals {
        p.groups.retain(|g| *g == crate::Group::X25519);
    }
    for p in c.children.iter_mut().flat_map(|c| &mut c.proposals) {
        p.groups.retain(|g| *g == crate::Group::X25519);
    }
    c
}

/// Two nodes, 192.0.2.1 and 192.0.2.2, of which the first initiates.
pub(crate) fn pair() -> (Connection, Connection) {
    let a = connection(1, 2);
    let mut b = connection(2, 1);
    b.startup = crate::Startup::Add;
    (a, b)
}

impl World {
    pub(crate) fn new(seed: u64, count: usize) -> Self {
        Self::with_settings(seed, count, &Settings::default())
    }

    pub(crate) fn with_settings(seed: u64, count: usize, settings: &Settings) -> Self {
        let now = Instant::now();
        let mut world = Self {
            now,
            start: now,
            nodes: Vec::new(),
            delay: Duration::from_millis(10),
            fate: None,
            hold: false,
            held: vec![VecDeque::new(); count],
            sent: 0,
            flight: BTreeMap::new(),
            serial: 0,
            lossless: false,
            burst: Duration::ZERO,
        };
        for i in 0..count {
            let random = Box::new(TestRandom::new(seed * 1000 + i as u64));
            world.nodes.push(Node::new(settings.clone(), random, i));
        }
        world
    }

    /// Two nodes with these connections, up.
    pub(crate) fn up(seed: u64, a: Connection, b: Connection) -> Self {
        let mut world = Self::new(seed, 2);
        world.configure(1, vec![b]);
        world.configure(0, vec![a]);
        world.run(Duration::from_secs(1));
        world.expect_up();
        world
    }

    pub(crate) fn configure(&mut self, node: usize, connections: Vec<Connection>) {
        self.call(node, |e, now| {
            e.configure(now, connections).expect("a good configuration");
        });
    }

    /// Calls an endpoint, and applies and sends what it says.
    pub(crate) fn call<R>(
        &mut self,
        node: usize,
        f: impl FnOnce(&mut Endpoint, Instant) -> R,
    ) -> R {
        let now = self.now;
        let result = f(&mut self.nodes[node].endpoint, now);
        self.drain(node);
        result
    }

    fn drain(&mut self, node: usize) {
        self.nodes[node].apply();
        while let Some(transmit) = self.nodes[node].endpoint.poll_transmit() {
            self.send(node, transmit);
        }
        if self.lossless {
            self.check_traffic();
        }
    }

    fn send(&mut self, from: usize, transmit: Transmit) {
        self.sent += 1;
        if transmit.bytes == [0xff] {
            self.nodes[from].keepalives += 1;
            return;
        }
        assert_eq!(transmit.marker, transmit.path.local.port() == 4500);
        let Some(packet) = self.route(from, transmit) else {
            return;
        };
        if self.hold {
            self.held[from].push_back(packet);
            return;
        }
        let delays = match &mut self.fate {
            Some(fate) => fate(&packet),
            None => vec![self.delay],
        };
        for delay in delays {
            self.launch(packet.clone(), delay);
        }
    }

    fn launch(&mut self, packet: Packet, delay: Duration) {
        self.serial += 1;
        self.flight.insert((self.now + delay, self.serial), packet);
    }

    /// Where a datagram arrives and what it looks like there.
    fn route(&self, from: usize, transmit: Transmit) -> Option<Packet> {
        let mut source = transmit.path.local;
        if let Some(nat) = self.nodes[from].nat {
            source = SocketAddr::new(nat.public, source.port() + nat.shift);
        }
        let target = transmit.path.remote;
        let (to, local) = self.nodes.iter().enumerate().find_map(|(i, node)| {
            if let Some(nat) = node.nat {
                let port = target.port().checked_sub(nat.shift)?;
                // Another mapping than the present one leads nowhere.
                if ![500, 4500].contains(&port) {
                    return None;
                }
                let inside = SocketAddr::new(node.addresses[0], port);
                return (nat.public == target.ip()).then_some((i, inside));
            }
            node.addresses.contains(&target.ip()).then_some((i, target))
        })?;
        Some(Packet {
            from,
            to,
            path: Path {
                local,
                remote: source,
            },
            bytes: transmit.bytes,
        })
    }

    /// Hands a datagram to its receiver.
    pub(crate) fn deliver(&mut self, packet: &Packet) {
        let packet = packet.clone();
        self.call(packet.to, |e, now| {
            e.handle_datagram(now, packet.path, &packet.bytes);
        });
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// The next thing that happens, if it does before `end`.
    fn step(&mut self, end: Instant) -> bool {
        let arrival = self.flight.first_key_value().map(|(k, _)| *k);
        let timeout = self
            .nodes
            .iter()
            .enumerate()
            .filter_map(|(i, n)| Some((n.endpoint.poll_timeout()?, i)))
            .min();
        let arrives_first = match (arrival, timeout) {
            (Some((at, _)), Some((due, _))) => at <= due,
            (arrival, _) => arrival.is_some(),
        };
        if arrives_first {
            let Some(key) = arrival.filter(|(at, _)| *at <= end) else {
                return false;
            };
            let packet = self.flight.remove(&key).expect("just seen");
            self.deliver_burst(key.0, packet);
            return true;
        }
        let Some((due, node)) = timeout.filter(|(due, _)| *due <= end) else {
            return false;
        };
        self.now = self.now.max(due);
        self.call(node, |e, now| e.handle_timeout(now));
        true
    }

    /// Delivers a datagram, and with it what comes to the same node shortly after.
    fn deliver_burst(&mut self, at: Instant, first: Packet) {
        let end = at + self.burst;
        let to = first.to;
        let more: Vec<_> = self
            .flight
            .range(..=(end, usize::MAX))
            .filter(|(_, p)| p.to == to)
            .map(|(key, _)| *key)
            .collect();
        let mut all = vec![first];
        all.extend(more.iter().filter_map(|key| self.flight.remove(key)));
        self.now = self.now.max(more.last().map_or(at, |(at, _)| *at));
        self.call(to, |e, now| {
            for packet in &all {
                e.handle_datagram(now, packet.path, &packet.bytes);
            }
        });
    }

    /// Ends a hold: what waited is sent.
    pub(crate) fn release(&mut self) {
        self.hold = false;
        for from in 0..self.held.len() {
            while let Some(packet) = self.held[from].pop_front() {
                self.launch(packet, self.delay);
            }
        }
    }

    /// Every outbound SA has its inbound half with the same key on the other side.
    pub(crate) fn check_traffic(&self) {
        for (i, node) in self.nodes.iter().enumerate() {
            for outbound in node.outbound.values() {
                let theirs = self
                    .nodes
                    .iter()
                    .enumerate()
                    .filter(|(j, _)| *j != i)
                    .find_map(|(_, n)| n.inbound.get(&outbound.spi));
                let Some(inbound) = theirs else {
                    panic!(
                        "node {i} sends on {:#x}, which nobody receives on, after {:?}: {:#?} {:#?}",
                        outbound.spi.0,
                        self.now - self.start,
                        self.nodes[0].log,
                        self.nodes[1].log,
                    );
                };
                assert!(inbound.key == outbound.key, "keys differ");
                assert_eq!(inbound.suite, outbound.suite);
                assert_eq!(inbound.esn, outbound.esn);
            }
        }
    }

    pub(crate) fn status(&self, node: usize) -> ConnectionStatus {
        self.nodes[node]
            .endpoint
            .connection_status(self.now, ID)
            .expect("a connection")
    }

    /// Both sides send, and what they send is received.
    pub(crate) fn expect_traffic(&self) {
        for node in &self.nodes {
            assert!(!node.outbound.is_empty(), "{:#?}", node.log);
        }
        self.check_traffic();
    }

    /// Both sides are up, each with one IKE SA, one child, and traffic both ways.
    pub(crate) fn expect_up(&self) {
        for i in 0..2 {
            let node = &self.nodes[i];
            let status = self.status(i);
            assert_eq!(
                (status.ike, status.child),
                (State::Established, State::Established),
                "node {i}: {:#?}",
                node.log
            );
            assert_eq!(status.children.len(), 1, "node {i}: {:#?}", node.log);
            assert_eq!(
                node.states.get(&ID),
                Some(&(State::Established, State::Established))
            );
            assert_eq!(node.inbound.len(), 1, "node {i}: {:#?}", node.log);
            assert_eq!(node.outbound.len(), 1, "node {i}");
            assert_eq!(node.endpoint.sas.len(), 1, "node {i}: {:#?}", node.log);
        }
        assert_eq!(self.status(0).spis, self.status(1).spis);
        self.check_traffic();
    }

    /// Nothing is left of a connection on this node but its configuration.
    pub(crate) fn expect_down(&self, node: usize) {
        let status = self.status(node);
        let n = &self.nodes[node];
        assert_eq!(status.ike, State::Down, "{:#?}", n.log);
        assert!(
            n.inbound.is_empty() && n.outbound.is_empty(),
            "{:#?}",
            n.log
        );
        assert!(n.endpoint.is_idle());
    }

    /// Whether a sentence with these words was reported.
    pub(crate) fn failed(&self, node: usize, words: &str) -> bool {
        self.nodes[node].failures.iter().any(|f| f.contains(words))
    }

    /// The node loses all it knows, as after a crash, and starts with this configuration.
    pub(crate) fn restart(&mut self, node: usize, seed: u64, connections: Vec<Connection>) {
        let addresses = self.nodes[node].addresses.clone();
        let nat = self.nodes[node].nat;
        let random = Box::new(TestRandom::new(seed));
        self.nodes[node] = Node::new(Settings::default(), random, node);
        self.nodes[node].addresses = addresses;
        self.nodes[node].nat = nat;
        self.configure(node, connections);
    }

    /// The SPIs that two nodes use, none of them twice.
    pub(crate) fn inbound_spis(&self) -> BTreeSet<Spi> {
        self.nodes
            .iter()
            .flat_map(|n| n.inbound.keys().copied())
            .collect()
    }
}

impl Node {
    fn new(settings: Settings, random: Box<TestRandom>, index: usize) -> Self {
        Self {
            endpoint: Endpoint::new(settings, random),
            addresses: vec![address(index as u8 + 1)],
            nat: None,
            inbound: BTreeMap::new(),
            outbound: BTreeMap::new(),
            paths: BTreeMap::new(),
            states: BTreeMap::new(),
            log: Vec::new(),
            failures: Vec::new(),
            key_log: Vec::new(),
            keepalives: 0,
            stopped_sending: 0,
        }
    }

    /// Does what the events say, as strictly as a data plane would.
    fn apply(&mut self) {
        // A sentence of the log that a failure must follow.
        let mut announced = None;
        while let Some(event) = self.endpoint.poll_event() {
            if announced.is_some() {
                assert!(matches!(event, Event::Failure { .. }), "{announced:?}");
            }
            match event {
                Event::InboundAdd(sa) => {
                    assert!(self.paths.contains_key(&sa.connection), "the path is first");
                    let before = self.inbound.insert(sa.spi, sa);
                    assert!(before.is_none(), "an SPI is added once");
                }
                Event::OutboundSet(sa) => {
                    self.outbound.insert((sa.connection, sa.child), sa);
                }
                Event::InboundRemove { spi, .. } => {
                    assert!(self.inbound.remove(&spi).is_some(), "it was there");
                }
                Event::OutboundRemove { connection, child } => {
                    let before = self.outbound.remove(&(connection, child));
                    assert!(before.is_some(), "it was there");
                    self.stopped_sending += 1;
                }
                Event::PathChanged {
                    connection,
                    path,
                    encapsulated,
                } => {
                    self.paths.insert(connection, (path, encapsulated));
                }
                Event::State {
                    connection,
                    ike,
                    child,
                } => {
                    let before = self.states.insert(connection, (ike, child));
                    assert_ne!(before, Some((ike, child)), "a change");
                }
                Event::Log(entry) => {
                    announced = entry.failure.then(|| entry.detail.clone());
                    self.log.push(entry.detail);
                }
                Event::Failure { failure, .. } => {
                    match announced.take() {
                        Some(sentence) => assert_eq!(sentence, failure.sentence),
                        None => assert_ne!(self.log.last(), Some(&failure.sentence)),
                    }
                    self.failures.push(failure.sentence);
                }
                Event::KeyLog(line) => self.key_log.push(line.line().to_owned()),
            }
        }
    }
}
