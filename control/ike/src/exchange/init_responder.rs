//! IKE_SA_INIT, the peer begins (RFC 7296, sections 1.2, 2.6, 2.7).
//!
//! Anybody can send this request, with any source address. So nothing is kept until a proposal is
//! chosen and the key's group fits, and above the cookie threshold not before the sender proved
//! that it receives at its address. The limit per source is counted after that proof, so that a
//! forger cannot use it against the address it forges.

use std::{sync::Arc, time::Instant};

use hawser_ike_crypto::{Group, IkeKeys, IkeSuite, KeyExchange, Nonces, Role};
use hawser_ike_wire::{
    self as wire, ExchangeType, Header, Message, MessageId, Notify, NotifyType, Payload, Payloads,
    ProtocolId,
};

use super::{
    init_initiator::{own_capabilities, peer_capabilities, peer_hashes},
    lower, proof, sa_payload,
};
use crate::{
    config::ConnectionId,
    endpoint::Endpoint,
    event::Path,
    fault::{During, Fault},
    nat,
    proposal::select::{self, Chosen},
    sa::{AwaitAuth, IkeSa, Phase, Protection, window::Window},
    timer::{SaTimer, Timer},
};

/// Connections whose proposals are tried when none fits. Connections between the same addresses
/// have the same proposals as a rule; a request that fits none must stay cheap.
const TRIED: usize = 16;

/// What a request without state yet is answered with.
enum Early {
    Cookie(Vec<u8>),
    Fault(Option<ConnectionId>, Fault),
    Silence,
}

/// All that is needed to answer with an SA.
struct Accepted<'a> {
    candidates: Arc<[ConnectionId]>,
    first: ConnectionId,
    chosen: Chosen<IkeSuite>,
    their_public: &'a [u8],
    their_nonce: &'a [u8],
}

impl Endpoint {
    pub(crate) fn on_init_request(
        &mut self,
        now: Instant,
        path: Path,
        header: &Header,
        datagram: &[u8],
    ) {
        if header.initiator_spi.is_zero()
            || !header.responder_spi.is_zero()
            || header.message_id != MessageId(0)
        {
            self.counters.malformed += 1;
            return;
        }
        if let Some(id) = self.cradle.find(path.remote, header.initiator_spi) {
            self.answer_init_again(path, id, datagram);
            return;
        }
        let Ok(message) = Message::parse(datagram) else {
            self.counters.malformed += 1;
            return;
        };
        let payloads = &message.payloads;
        match self.judge_init(now, path, header, payloads) {
            Ok(accepted) => self.accept_peer(now, path, header, payloads, datagram, &accepted),
            Err(early) => self.answer_early(now, path, header, early),
        }
    }

    /// A copy of a request that has been answered.
    fn answer_init_again(&mut self, path: Path, id: crate::sa::SaId, datagram: &[u8]) {
        let Some(sa) = self.sas.get(&id) else {
            return;
        };
        let answer = match &sa.phase {
            Phase::AwaitAuth(state) if state.request == datagram => state.response.clone(),
            _ => return,
        };
        self.counters.repeated += 1;
        self.transmit(path, answer);
    }

    fn judge_init<'a>(
        &mut self,
        now: Instant,
        path: Path,
        header: &Header,
        payloads: &'a Payloads,
    ) -> Result<Accepted<'a>, Early> {
        if self.shutting_down() {
            return Err(Early::Silence);
        }
        let candidates = self.finder.find(path.local.ip(), path.remote.ip());
        let Some(first) = candidates.first().copied() else {
            self.counters.no_connection += 1;
            return Err(Early::Silence);
        };
        if let Some(kind) = payloads.unsupported_critical() {
            return Err(Early::Fault(Some(first), Fault::Critical(kind)));
        }
        let (Some(offer), Some(ke), Some(nonce)) = (payloads.sa(), payloads.ke(), payloads.nonce())
        else {
            let what = "peer's request lacks SA, KE or nonce";
            let during = During::Init;
            return Err(Early::Fault(Some(first), Fault::Broken { during, what }));
        };
        self.admit(now, path, header, payloads, &nonce.0)?;
        let (first, chosen) = self
            .choose(&candidates, &offer.proposals, Group::from_number(ke.group))
            .ok_or_else(|| {
                let ours = self
                    .connection(first)
                    .map(|c| select::list_ike(&c.proposals));
                let fault = Fault::IkeProposal {
                    theirs: select::list(&offer.proposals),
                    ours: ours.unwrap_or_default(),
                };
                Early::Fault(Some(first), fault)
            })?;
        if chosen.what.group.number() != ke.group {
            let fault = Fault::WrongGroup {
                theirs: ke.group,
                chosen: chosen.what.group,
            };
            return Err(Early::Fault(None, fault));
        }
        Ok(Accepted {
            candidates,
            first,
            chosen,
            their_public: &ke.data,
            their_nonce: &nonce.0,
        })
    }

    /// Cookies and limits.
    fn admit(
        &mut self,
        now: Instant,
        path: Path,
        header: &Header,
        payloads: &Payloads,
        nonce: &[u8],
    ) -> Result<(), Early> {
        let address = path.remote.ip();
        let random = &mut *self.random;
        let threshold = self.settings.cookie_threshold;
        if self.cradle.len() >= threshold || !self.unproven.take(now, threshold) {
            let spi = header.initiator_spi;
            let returned = payloads.notify(NotifyType::Cookie);
            let good = returned.is_some_and(|n| {
                self.cookies
                    .check(now, random, &n.data, nonce, address, spi)
            });
            if !good {
                if returned.is_some() {
                    self.counters.cookies_bad += 1;
                }
                self.counters.cookies_sent += 1;
                let cookie = self.cookies.make(now, random, nonce, address, spi);
                return Err(Early::Cookie(cookie));
            }
        }
        if self.cradle.len() >= self.settings.half_open_limit
            || self.cradle.of_source(address) >= self.settings.half_open_per_source
        {
            self.counters.half_open_refused += 1;
            return Err(Early::Silence);
        }
        Ok(())
    }

    /// The first candidate that allows something of the offer.
    fn choose(
        &self,
        candidates: &[ConnectionId],
        offer: &[wire::Proposal],
        hint: Option<Group>,
    ) -> Option<(ConnectionId, Chosen<IkeSuite>)> {
        candidates.iter().take(TRIED).find_map(|id| {
            let config = self.connection(*id)?;
            Some((*id, select::ike(&config.proposals, offer, hint)?))
        })
    }

    fn answer_early(&mut self, now: Instant, path: Path, header: &Header, early: Early) {
        let notify = match early {
            Early::Silence => return,
            Early::Cookie(cookie) => Notify::with_data(NotifyType::Cookie, cookie),
            Early::Fault(connection, fault) => {
                // The wrong group is no failure: the peer comes back with the right one.
                if !matches!(fault, Fault::WrongGroup { .. }) {
                    self.complain(now, connection, &path, &fault);
                }
                match fault.notify() {
                    Some(notify) => notify,
                    None => return,
                }
            }
        };
        let answer = Self::plain_answer(header);
        self.send_plain(path, answer, vec![Payload::Notify(notify)]);
    }

    /// Makes the half-open SA and answers.
    fn accept_peer(
        &mut self,
        now: Instant,
        path: Path,
        header: &Header,
        payloads: &Payloads,
        datagram: &[u8],
        accepted: &Accepted<'_>,
    ) {
        let Some(config) = self.connection(accepted.first) else {
            return;
        };
        let suite = accepted.chosen.what;
        let key_exchange = KeyExchange::generate(suite.group, &mut *self.random);
        let public = key_exchange.public().to_vec();
        let secret = match key_exchange.agree(accepted.their_public) {
            Ok(secret) => secret,
            Err(e) => {
                let fault = Fault::PublicValue(e.to_string());
                let early = Early::Fault(Some(accepted.first), fault);
                self.answer_early(now, path, header, early);
                return;
            }
        };
        let nonce = self.new_nonce();
        let spi = self.new_ike_spi();
        let nonces = Nonces {
            initiator: accepted.their_nonce,
            responder: &nonce,
        };
        let keys = IkeKeys::derive(suite, &secret, nonces, header.initiator_spi, spi);
        let forced = config.force_encapsulation;
        let mut answer = vec![
            sa_payload(vec![accepted.chosen.answer(ProtocolId::Ike, Vec::new())]),
            Payload::Ke(wire::KeyExchange {
                group: suite.group.number(),
                data: public,
            }),
            Payload::Nonce(wire::Nonce(nonce.clone())),
        ];
        let peer = peer_capabilities(payloads, &config);
        let supports_natd = payloads.notify(NotifyType::NatDetectionSourceIp).is_some();
        if supports_natd {
            let natd = nat::notifies(header.initiator_spi, spi, &path, forced);
            answer.extend(natd.map(Payload::Notify));
        }
        answer.extend(own_capabilities(&config));
        answer.extend(proof::request(&config));
        answer.push(Payload::Notify(Notify::new(
            NotifyType::ChildlessIkev2Supported,
        )));
        let response_header = Header {
            responder_spi: spi,
            ..Self::plain_answer(header)
        };
        let Ok(response) = Message::new(response_header, Payloads::from(answer)).emit() else {
            return;
        };
        self.transmit(path, response.clone());
        let lowest_nonce = lower(accepted.their_nonce, &nonce);
        let state = AwaitAuth {
            keys: Protection::new(keys, suite, Role::Responder),
            candidates: Arc::clone(&accepted.candidates),
            initiator_nonce: accepted.their_nonce.to_vec(),
            responder_nonce: nonce,
            request: datagram.to_vec(),
            response,
        };
        let mut window = Window::new();
        // IKE_SA_INIT was number 0.
        window.expected = Some(MessageId(1));
        let sa = Box::new(IkeSa {
            id: self.new_sa_id(),
            connection: accepted.first,
            role: Role::Responder,
            began_first: false,
            initiator_spi: header.initiator_spi,
            responder_spi: spi,
            path,
            nat: nat::detect(
                header.initiator_spi,
                hawser_ike_wire::IkeSpi::ZERO,
                &path,
                payloads,
                forced,
            ),
            peer,
            peer_hashes: peer_hashes(payloads),
            phase: Phase::AwaitAuth(Box::new(state)),
            window,
            tasks: Vec::new(),
            children: Vec::new(),
            begun: now,
            established: None,
            heard: now,
            spoke: now,
            lowest_nonce,
            hinted: None,
            undecided: None,
            unproven: false,
            unchecked: false,
            initial_contact: false,
            seen_as: None,
        });
        self.cradle.insert(sa.id, path.remote, header.initiator_spi);
        let at = now + self.settings.half_open_timeout;
        self.timers.set(Timer::Sa(sa.id, SaTimer::Forget), at);
        debug_assert_eq!(header.exchange, ExchangeType::IkeSaInit);
        self.put(sa);
    }
}
