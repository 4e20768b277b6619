//! The endpoint: all IKE SAs of one daemon, and what finds them.
//!
//! An SA that is being worked on is taken out of the table ([`Endpoint::with_sa`]), so that the
//! exchanges (in `crate::exchange`) can change it and the endpoint at the same time. Everything
//! that a datagram needs is found by hash: the SA by our SPI, a half-open SA by the initiator's
//! SPI and address, the connection by both addresses.

mod children;
mod connections;
mod cradle;
mod hints;
mod lifecycle;
mod output;
mod receive;
mod report;
mod requests;
mod schedule;
mod send;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::{Instant, SystemTime},
};

use hawser_api::Spi;
use hawser_ike_crypto::Random;
use hawser_ike_wire::IkeSpi;

pub(crate) use children::{NewChild, Switch};
pub(crate) use connections::ConnectionState;
pub(crate) use cradle::{Cradle, Unproven};
pub(crate) use lifecycle::Ending;
pub(crate) use requests::fault_answer;

use self::connections::Finder;
use crate::{
    config::ConnectionId,
    cookie::Cookies,
    event::{Event, Transmit},
    sa::{IkeSa, SaId},
    settings::Settings,
    status::Counters,
    timer::{SaTimer, Timer, Timers},
};

/// IKEv2 for many peers. See the crate's head for how it is driven.
pub struct Endpoint {
    pub(crate) settings: Settings,
    pub(crate) random: Box<dyn Random + Send>,
    pub(crate) connections: BTreeMap<ConnectionId, ConnectionState>,
    pub(crate) finder: Finder,
    pub(crate) sas: HashMap<SaId, Box<IkeSa>>,
    pub(crate) by_spi: HashMap<IkeSpi, SaId>,
    pub(crate) cradle: Cradle,
    pub(crate) unproven: Unproven,
    /// Inbound SPIs in use, with the SA that has the child; a draining one has none.
    pub(crate) inbound: HashMap<Spi, Inhabitant>,
    /// Inbound SPIs that others use.
    pub(crate) reserved: BTreeSet<Spi>,
    pub(crate) timers: Timers,
    pub(crate) cookies: Cookies,
    pub(crate) counters: Counters,
    next_sa: u64,
    events: VecDeque<Event>,
    transmits: VecDeque<Transmit>,
    /// Connections whose state may have changed, and how many events were complete before.
    touched: BTreeSet<ConnectionId>,
    settled_events: usize,
    /// The last sentence about a peer that proved nothing.
    complained: Option<Instant>,
    hint_budget: hints::Budget,
    shutting_down: bool,
    /// SAs that rekeying made in this call: they begin their tasks when the answer that makes them
    /// known to the peer is on its way.
    newborn: Vec<SaId>,
}

/// Who has an inbound SPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inhabitant {
    /// It is promised to a child that is being made.
    Promised,
    /// A child of this SA.
    Child(SaId),
    /// A deleted child; packets under way are still taken.
    Draining(ConnectionId, u16),
}

impl Endpoint {
    /// An endpoint without connections.
    #[must_use]
    pub fn new(settings: Settings, mut random: Box<dyn Random + Send>) -> Self {
        let cookies = Cookies::new(&mut *random);
        Self {
            settings,
            random,
            connections: BTreeMap::new(),
            finder: Finder::default(),
            sas: HashMap::new(),
            by_spi: HashMap::new(),
            cradle: Cradle::default(),
            unproven: Unproven::default(),
            inbound: HashMap::new(),
            reserved: BTreeSet::new(),
            timers: Timers::default(),
            cookies,
            counters: Counters::default(),
            next_sa: 0,
            events: VecDeque::new(),
            transmits: VecDeque::new(),
            touched: BTreeSet::new(),
            settled_events: 0,
            complained: None,
            hint_budget: hints::Budget::default(),
            shutting_down: false,
            newborn: Vec::new(),
        }
    }

    /// When [`Endpoint::handle_timeout`] is to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next event. All of them are to be applied before any datagram is sent.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.settled_events = self.settled_events.saturating_sub(1);
        self.events.pop_front()
    }

    /// The next datagram to send; none while an event waits, so that the order cannot be missed.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        if !self.events.is_empty() {
            return None;
        }
        self.transmits.pop_front()
    }

    /// Counts of the endpoint.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Half-open SAs: answered, but their initiators have proven nothing.
    #[must_use]
    pub fn half_open(&self) -> usize {
        self.cradle.len()
    }

    /// Whether no IKE SA is left that the peer does not know to be gone.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.sas
            .values()
            .all(|sa| sa.is_half_open() || matches!(sa.phase, crate::sa::Phase::Gone(_)))
    }

    /// Inbound SPIs that other users of the data plane have: none of them will be chosen.
    pub fn reserve_spis(&mut self, spis: BTreeSet<Spi>) {
        self.reserved = spis;
    }

    /// A random inbound SPI that nobody uses, promised to the caller.
    pub(crate) fn promise_spi(&mut self) -> Spi {
        loop {
            let mut octets = [0; 4];
            self.random.fill(&mut octets);
            let spi = Spi(u32::from_be_bytes(octets));
            // Below 256 is reserved (RFC 4303, section 2.1).
            if spi.0 >= Spi::FIRST_USABLE
                && !self.reserved.contains(&spi)
                && !self.inbound.contains_key(&spi)
            {
                self.inbound.insert(spi, Inhabitant::Promised);
                return spi;
            }
        }
    }

    /// Takes a promise back.
    pub(crate) fn release_spi(&mut self, spi: Spi) {
        if self.inbound.get(&spi) == Some(&Inhabitant::Promised) {
            self.inbound.remove(&spi);
        }
    }

    /// A random IKE SPI that nobody uses.
    pub(crate) fn new_ike_spi(&mut self) -> IkeSpi {
        loop {
            let mut octets = [0; 8];
            self.random.fill(&mut octets);
            let spi = IkeSpi(u64::from_be_bytes(octets));
            if !spi.is_zero() && !self.by_spi.contains_key(&spi) {
                return spi;
            }
        }
    }

    pub(crate) fn new_nonce(&mut self) -> Vec<u8> {
        // At least half the PRF's key and at least 16 octets are needed (RFC 7296, section 2.10).
        let mut nonce = vec![0; 32];
        self.random.fill(&mut nonce);
        nonce
    }

    pub(crate) fn new_sa_id(&mut self) -> SaId {
        self.next_sa += 1;
        SaId(self.next_sa)
    }

    /// Takes the SA out, works on it, lets it go on with its tasks, and puts it back unless it
    /// died.
    pub(crate) fn with_sa(
        &mut self,
        now: Instant,
        id: SaId,
        work: impl FnOnce(&mut Self, &mut IkeSa),
    ) {
        let Some(mut sa) = self.sas.remove(&id) else {
            return;
        };
        work(self, &mut sa);
        self.pump(now, &mut sa);
        self.put(sa);
        while let Some(newborn) = self.newborn.pop() {
            if let Some(mut sa) = self.sas.remove(&newborn) {
                self.pump(now, &mut sa);
                self.put(sa);
            }
        }
    }

    /// Puts an SA that rekeying made into the table.
    pub(crate) fn hatch(&mut self, sa: Box<IkeSa>) {
        self.newborn.push(sa.id);
        self.put(sa);
    }

    /// Puts an SA into the table; a dead one is taken out of everything instead.
    pub(crate) fn put(&mut self, sa: Box<IkeSa>) {
        self.touched.insert(sa.connection);
        if sa.is_dead() {
            self.bury(&sa);
        } else {
            self.by_spi.insert(sa.our_spi(), sa.id);
            self.sas.insert(sa.id, sa);
        }
    }

    fn bury(&mut self, sa: &IkeSa) {
        self.by_spi.remove(&sa.our_spi());
        self.cradle.remove(sa.id);
        for timer in SaTimer::ALL {
            self.timers.cancel(Timer::Sa(sa.id, timer));
        }
        if let Some(connection) = self.connections.get_mut(&sa.connection) {
            connection.forget(sa.id);
        }
    }

    /// What the calendar says.
    pub(crate) fn calendar(&self, now: Instant) -> SystemTime {
        let (then, calendar) = self.settings.wall_clock;
        calendar + now.saturating_duration_since(then)
    }

    pub(crate) fn shutting_down(&self) -> bool {
        self.shutting_down
    }

    /// Octets of random, for jitter.
    pub(crate) fn random_u32(&mut self) -> u32 {
        let mut octets = [0; 4];
        self.random.fill(&mut octets);
        u32::from_be_bytes(octets)
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("connections", &self.connections.len())
            .field("sas", &self.sas.len())
            .finish_non_exhaustive()
    }
}
