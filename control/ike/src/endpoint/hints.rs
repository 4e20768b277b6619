//! Messages outside of any SA that hint at a peer that has forgotten us (RFC 7296, section 2.4 and
//! 2.21.4): INVALID_IKE_SPI and INVALID_SPI.
//!
//! Nobody has signed a hint, so it changes no SA. It makes us ask: a liveness check if nothing is
//! under way, and an attempt at a new SA beside the old one. Only the new SA's success, which is
//! proven, removes the old one. Hints are followed once in [`HINT_INTERVAL`] per SA, and answered
//! within a budget.
//!
//! Known limit: if the hint is forged and the peer lives, the new SA is real, and replaces the old
//! one as it would for a peer that restarted. That loses nothing, but costs a key exchange, and a
//! forger can cause it once in [`HINT_INTERVAL`].

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use hawser_api::Spi;
use hawser_ike_wire::{
    ExchangeType, Header, IkeSpi, Message, MessageId, Notify, NotifyType, Payload, Payloads,
};

use super::Endpoint;
use crate::{
    config::{ConnectionId, DpdAction, Startup},
    event::Path,
    sa::{IkeSa, Phase, SaId, pending::Task},
};

/// A forger of hints makes us send one attempt in this time, per SA.
const HINT_INTERVAL: Duration = Duration::from_secs(2);

/// Unprotected messages that we answer or send unasked, in a second. Enough for a thousand tunnels
/// whose peer restarted to learn it within seconds; few enough that we are no use as a reflector.
const HINTS_PER_SECOND: u32 = 500;

/// A budget that is full again every second.
#[derive(Default)]
pub(crate) struct Budget {
    second: Option<Instant>,
    spent: u32,
}

impl Budget {
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let fresh = self
            .second
            .is_none_or(|s| now.saturating_duration_since(s) >= Duration::from_secs(1));
        if fresh {
            self.second = Some(now);
            self.spent = 0;
        }
        self.spent += 1;
        self.spent <= HINTS_PER_SECOND
    }
}

impl Endpoint {
    /// A message of an IKE SA that is not here.
    pub(crate) fn on_unknown_sa(
        &mut self,
        now: Instant,
        path: Path,
        header: &Header,
        datagram: &[u8],
    ) {
        self.counters.unknown_sa += 1;
        if header.response {
            return;
        }
        if header.exchange == ExchangeType::Informational && header.responder_spi.is_zero() {
            self.on_invalid_spi(now, path, datagram);
            return;
        }
        // Only those that we would talk to learn anything.
        if self
            .finder
            .find(path.local.ip(), path.remote.ip())
            .is_empty()
            || !self.hint_budget.take(now)
        {
            return;
        }
        self.send_plain(
            path,
            Self::plain_answer(header),
            vec![Payload::Notify(Notify::new(NotifyType::InvalidIkeSpi))],
        );
    }

    /// A message of an SA of ours that is not protected: at best a hint.
    pub(crate) fn on_unprotected(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        header: &Header,
        payloads: &Payloads,
    ) {
        let answers_ours = header.response
            && sa
                .window
                .outstanding
                .as_ref()
                .is_some_and(|o| o.id == header.message_id);
        if answers_ours && payloads.notify(NotifyType::InvalidIkeSpi).is_some() {
            self.follow_hint(now, sa);
        }
    }

    /// INVALID_SPI outside of an SA: the peer got ESP that it cannot place (RFC 7296, section
    /// 1.5).
    fn on_invalid_spi(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        let Ok(message) = Message::parse(datagram) else {
            self.counters.malformed += 1;
            return;
        };
        let Some(notify) = message.payloads.notify(NotifyType::InvalidSpi) else {
            return;
        };
        let Ok(octets) = <[u8; 4]>::try_from(notify.data.as_slice()) else {
            return;
        };
        let spi = Spi(u32::from_be_bytes(octets));
        let candidates = self.finder.find(path.local.ip(), path.remote.ip());
        for id in candidates.iter().copied() {
            if let Some(sa) = self.sends_with(id, spi) {
                self.with_sa(now, sa, |endpoint, sa| endpoint.follow_hint(now, sa));
                return;
            }
        }
    }

    fn sends_with(&self, id: ConnectionId, spi: Spi) -> Option<SaId> {
        let current = self.connections.get(&id)?.current?;
        let sa = self.sas.get(&current)?;
        sa.children
            .iter()
            .any(|c| c.outbound == spi)
            .then_some(current)
    }

    fn follow_hint(&mut self, now: Instant, sa: &mut IkeSa) {
        self.counters.hints += 1;
        let soon = sa
            .hinted
            .is_some_and(|at| now.saturating_duration_since(at) < HINT_INTERVAL);
        // A peer that rekeyed the IKE SA and does not have our answer yet cannot know the new one.
        let unproven = !sa.is_initiator() && sa.window.expected == Some(MessageId(0));
        if soon || unproven || !matches!(sa.phase, Phase::Established(_)) {
            return;
        }
        sa.hinted = Some(now);
        sa.want(Task::Liveness);
        let ours = self.connections.get(&sa.connection).is_some_and(|c| {
            c.current == Some(sa.id)
                && (c.config.startup == Startup::Start || c.config.dpd.action == DpdAction::Restart)
        });
        if ours {
            self.log(
                sa.connection,
                "peer does not know our SAs any more, it seems: a new IKE SA is tried".into(),
            );
            self.start_probe(now, sa.connection);
        }
    }

    /// The data plane got ESP with an SPI that it does not know. If a peer of ours sends it, that
    /// peer holds an SA that we have lost: it is told, and a connection that is to be up is
    /// initiated without waiting. `path.remote`'s port may be 0 if it is not known.
    pub fn unknown_spi(&mut self, now: Instant, spi: Spi, path: Path) {
        let candidates = self.finder.find(path.local.ip(), path.remote.ip());
        if candidates.is_empty() || self.inbound.contains_key(&spi) {
            return;
        }
        for id in candidates.iter().copied() {
            let due = self
                .connections
                .get(&id)
                .is_some_and(|c| c.wanted && c.current.is_none() && c.attempt.is_none());
            if due {
                self.start_attempt(now, id);
                self.settle();
                return;
            }
        }
        if self.hint_budget.take(now) {
            let port = match path.remote.port() {
                0 => self.settings.ike_port,
                port => port,
            };
            let path = Path {
                remote: SocketAddr::new(path.remote.ip(), port),
                ..path
            };
            self.send_invalid_spi(path, spi);
        }
        self.settle();
    }

    fn send_invalid_spi(&mut self, path: Path, spi: Spi) {
        let header = Header {
            initiator_spi: self.new_ike_spi(),
            responder_spi: IkeSpi::ZERO,
            exchange: ExchangeType::Informational,
            initiator: true,
            response: false,
            higher_version: false,
            message_id: MessageId(0),
        };
        let notify = Notify::with_data(NotifyType::InvalidSpi, spi.0.to_be_bytes().to_vec());
        self.send_plain(path, header, vec![Payload::Notify(notify)]);
    }
}
