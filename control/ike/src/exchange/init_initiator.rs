//! IKE_SA_INIT, our side begins (RFC 7296, sections 1.2, 2.6, 2.7).
//!
//! The answer is not authenticated: whatever it says is believed only as far as the next step,
//! IKE_AUTH, proves it. A refusal ends this attempt, and a later one follows, so a forger on the
//! path can delay a connection but not prevent it for good. What cannot be read is ignored.

use std::{net::SocketAddr, time::Instant};

use hawser_ike_crypto::{Group, IkeKeys, KeyExchange, Nonces, Role, SIGNATURE_HASHES};
use hawser_ike_wire::{
    self as wire, ExchangeType, Header, IkeSpi, Message, MessageId, Notify, NotifyType, Payload,
    Payloads,
};

use super::{error_of, lower, sa_payload};
use crate::{
    config::{Auth, Connection, ConnectionId},
    endpoint::Endpoint,
    event::Path,
    fault::{During, Fault},
    nat,
    proposal::select,
    sa::{
        AuthSent, Capabilities, IkeSa, InitSent, Phase, Protection, pending::Pending,
        window::Window,
    },
    timer::{SaTimer, Timer},
};

/// Cookies and groups that a peer may ask for in one attempt. A peer under load changes its
/// cookie's secret now and then; more than this is a loop.
const DETOURS: u8 = 6;

impl Endpoint {
    /// Begins an attempt, unless one is under way.
    pub(crate) fn start_attempt(&mut self, now: Instant, id: ConnectionId) {
        let first = self.connections.get(&id).is_some_and(|c| c.sas.is_empty());
        self.attempt(now, id, first);
    }

    /// Begins an attempt beside an SA that the peer seems to have lost.
    pub(crate) fn start_probe(&mut self, now: Instant, id: ConnectionId) {
        self.attempt(now, id, true);
    }

    /// Begins an attempt that will succeed the SA.
    pub(crate) fn start_reauthentication(&mut self, now: Instant, sa: &mut IkeSa) {
        if sa.is_established() {
            self.attempt(now, sa.connection, false);
        }
    }

    fn attempt(&mut self, now: Instant, id: ConnectionId, initial_contact: bool) {
        let Some(c) = self.connections.get(&id) else {
            return;
        };
        let config = c.config.clone();
        let Some(target) = config.target() else {
            return;
        };
        let group = config.proposals.first().and_then(|p| p.groups.first());
        let Some(group) = group.copied() else {
            return;
        };
        if c.attempt.is_some() || self.shutting_down() {
            return;
        }
        let path = Path {
            local: SocketAddr::new(c.moved.unwrap_or(config.local), self.settings.ike_port),
            remote: SocketAddr::new(target, self.settings.ike_port),
        };
        let state = InitSent {
            key_exchange: KeyExchange::generate(group, &mut *self.random),
            nonce: self.new_nonce(),
            cookie: None,
            detours: 0,
            request: Vec::new(),
        };
        let mut sa = Box::new(IkeSa {
            id: self.new_sa_id(),
            connection: id,
            role: Role::Initiator,
            began_first: true,
            initiator_spi: self.new_ike_spi(),
            responder_spi: IkeSpi::ZERO,
            path,
            nat: nat::Nat::default(),
            peer: Capabilities::default(),
            peer_hashes: Vec::new(),
            phase: Phase::InitSent(Box::new(state)),
            window: Window::new(),
            tasks: Vec::new(),
            children: Vec::new(),
            begun: now,
            established: None,
            heard: now,
            spoke: now,
            lowest_nonce: Vec::new(),
            hinted: None,
            undecided: None,
            unproven: false,
            unchecked: false,
            initial_contact,
            seen_as: None,
        });
        self.send_init(now, &mut sa, &config);
        if let Some(c) = self.connections.get_mut(&id) {
            c.attempt = Some(sa.id);
            c.counters.initiations += 1;
        }
        self.put(sa);
    }

    /// Sends IKE_SA_INIT, again with what the peer asked for.
    fn send_init(&mut self, now: Instant, sa: &mut IkeSa, config: &Connection) {
        let natd = nat::notifies(
            sa.initiator_spi,
            IkeSpi::ZERO,
            &sa.path,
            config.force_encapsulation,
        );
        let header = sa.header(ExchangeType::IkeSaInit, false, MessageId(0));
        let Phase::InitSent(state) = &mut sa.phase else {
            return;
        };
        let mut payloads = Vec::new();
        if let Some(cookie) = &state.cookie {
            payloads.push(Payload::Notify(Notify::with_data(
                NotifyType::Cookie,
                cookie.clone(),
            )));
        }
        payloads.push(sa_payload(offered(config)));
        payloads.push(Payload::Ke(wire::KeyExchange {
            group: state.key_exchange.group().number(),
            data: state.key_exchange.public().to_vec(),
        }));
        payloads.push(Payload::Nonce(wire::Nonce(state.nonce.clone())));
        payloads.extend(natd.map(Payload::Notify));
        payloads.extend(own_capabilities(config));
        let Ok(datagram) = Message::new(header, Payloads::from(payloads)).emit() else {
            return;
        };
        state.request.clone_from(&datagram);
        self.timers.cancel(Timer::Sa(sa.id, SaTimer::Retransmit));
        self.launch(now, sa, MessageId(0), vec![datagram], Pending::Init);
    }

    /// The answer to IKE_SA_INIT, or what pretends to be it.
    pub(crate) fn on_init_response(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        path: Path,
        header: &Header,
        datagram: &[u8],
    ) {
        let plausible = header.response
            && header.exchange == ExchangeType::IkeSaInit
            && header.message_id == MessageId(0)
            && path.remote.ip() == sa.path.remote.ip();
        let Some(config) = self.connection(sa.connection) else {
            return;
        };
        if !plausible {
            self.counters.out_of_window += 1;
            return;
        }
        let Ok(message) = Message::parse(datagram) else {
            self.counters.malformed += 1;
            return;
        };
        let payloads = &message.payloads;
        if let Some(kind) = payloads.unsupported_critical() {
            self.attempt_failed(now, sa, &Fault::Critical(kind), true);
            return;
        }
        if payloads.sa().is_none() {
            self.on_init_detour(now, sa, &config, payloads);
            return;
        }
        match self.accept_init(sa, &config, header, payloads, datagram) {
            Ok(()) => {
                self.timers.cancel(Timer::Sa(sa.id, SaTimer::Retransmit));
                sa.window.outstanding = None;
                self.send_auth(now, sa, &config);
            }
            Err(fault) => self.attempt_failed(now, sa, &fault, true),
        }
    }

    /// The peer asks for a cookie or another group, or refuses.
    fn on_init_detour(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        config: &Connection,
        payloads: &Payloads,
    ) {
        let outcome = self.take_detour(sa, config, payloads);
        match outcome {
            Ok(()) => {
                sa.window.outstanding = None;
                self.send_init(now, sa, config);
            }
            Err(fault) => self.attempt_failed(now, sa, &fault, true),
        }
    }

    fn take_detour(
        &mut self,
        sa: &mut IkeSa,
        config: &Connection,
        payloads: &Payloads,
    ) -> Result<(), Fault> {
        let Phase::InitSent(state) = &mut sa.phase else {
            return Err(Fault::Temporary);
        };
        if let Some(cookie) = payloads.notify(NotifyType::Cookie) {
            state.detours += 1;
            if state.detours > DETOURS {
                return Err(Fault::CookieLoop);
            }
            state.cookie = Some(cookie.data.clone());
            return Ok(());
        }
        if let Some(notify) = payloads.notify(NotifyType::InvalidKePayload) {
            let wanted = notify.group();
            let group = wanted.and_then(Group::from_number).filter(|g| {
                *g != state.key_exchange.group()
                    && config.proposals.iter().any(|p| p.groups.contains(g))
            });
            state.detours += 1;
            let Some(group) = group.filter(|_| state.detours <= DETOURS) else {
                return Err(Fault::GroupRefused {
                    wanted,
                    ours: select::list_ike(&config.proposals),
                });
            };
            state.key_exchange = KeyExchange::generate(group, &mut *self.random);
            return Ok(());
        }
        if payloads.notify(NotifyType::Redirect).is_some() {
            return Err(Fault::Redirected);
        }
        Err(match error_of(payloads) {
            Some(notify) => Fault::Refused {
                during: During::Init,
                notify,
                ours: select::list_ike(&config.proposals),
            },
            None => Fault::Broken {
                during: During::Init,
                what: "peer's answer has neither an SA nor an error",
            },
        })
    }

    /// Derives keys from an answer that chose.
    fn accept_init(
        &mut self,
        sa: &mut IkeSa,
        config: &Connection,
        header: &Header,
        payloads: &Payloads,
        datagram: &[u8],
    ) -> Result<(), Fault> {
        let broken = |what| Fault::Broken {
            during: During::Init,
            what,
        };
        if header.responder_spi.is_zero() {
            return Err(broken("peer's SPI is zero"));
        }
        let (Some(offer), Some(ke), Some(nonce)) = (payloads.sa(), payloads.ke(), payloads.nonce())
        else {
            return Err(broken("peer's answer lacks SA, KE or nonce"));
        };
        let chosen = select::ike_answer(&config.proposals, &offer.proposals).ok_or_else(|| {
            Fault::ForeignChoice {
                during: During::Init,
                theirs: select::list(&offer.proposals),
                ours: select::list_ike(&config.proposals),
            }
        })?;
        let suite = chosen.what;
        let Phase::InitSent(state) = sa.phase.take() else {
            return Err(broken("the answer came twice"));
        };
        let sent = state.key_exchange.group();
        if suite.group != sent || ke.group != sent.number() {
            return Err(broken("peer's key is of another group than ours"));
        }
        let secret = state
            .key_exchange
            .agree(&ke.data)
            .map_err(|e| Fault::PublicValue(e.to_string()))?;
        sa.responder_spi = header.responder_spi;
        let nonces = Nonces {
            initiator: &state.nonce,
            responder: &nonce.0,
        };
        let keys = IkeKeys::derive(suite, &secret, nonces, sa.initiator_spi, sa.responder_spi);
        sa.lowest_nonce = lower(&state.nonce, &nonce.0);
        sa.nat = nat::detect(
            sa.initiator_spi,
            sa.responder_spi,
            &sa.path,
            payloads,
            config.force_encapsulation,
        );
        sa.peer = peer_capabilities(payloads, config);
        sa.peer_hashes = peer_hashes(payloads);
        if sa.nat.encapsulated() {
            sa.path.local.set_port(self.settings.natt_port);
            sa.path.remote.set_port(self.settings.natt_port);
        }
        sa.phase = Phase::AuthSent(Box::new(AuthSent {
            keys: Protection::new(keys, suite, Role::Initiator),
            initiator_nonce: state.nonce,
            responder_nonce: nonce.0.clone(),
            init_request: state.request,
            init_response: datagram.to_vec(),
            child_spi: None,
        }));
        Ok(())
    }
}

/// Our proposals, numbered from 1.
pub(super) fn offered(config: &Connection) -> Vec<wire::Proposal> {
    (1u8..)
        .zip(&config.proposals)
        .map(|(number, p)| p.to_wire(number, Vec::new()))
        .collect()
}

/// What we say in IKE_SA_INIT that we can do.
pub(super) fn own_capabilities(config: &Connection) -> Vec<Payload> {
    let mut notifies = Vec::new();
    if config.fragmentation {
        notifies.push(Notify::new(NotifyType::Ikev2FragmentationSupported));
    }
    if matches!(config.auth, Auth::Certificate(_)) {
        notifies.push(Notify::signature_hashes(&SIGNATURE_HASHES));
    }
    notifies.into_iter().map(Payload::Notify).collect()
}

/// The hash algorithms that the peer accepts in signatures; many more than exist are cut off.
pub(super) fn peer_hashes(payloads: &Payloads) -> Vec<u16> {
    payloads
        .notify(NotifyType::SignatureHashAlgorithms)
        .map(|n| n.hashes().take(16).collect())
        .unwrap_or_default()
}

/// What the peer says in IKE_SA_INIT that it can do, and we want.
pub(super) fn peer_capabilities(payloads: &Payloads, config: &Connection) -> Capabilities {
    let has = |kind| payloads.notify(kind).is_some();
    Capabilities {
        fragmentation: config.fragmentation && has(NotifyType::Ikev2FragmentationSupported),
        mobike: false,
        childless: has(NotifyType::ChildlessIkev2Supported),
    }
}
