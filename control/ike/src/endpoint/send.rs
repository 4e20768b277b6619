//! Sending requests and responses, and sending requests again.

use std::time::{Duration, Instant};

use hawser_ike_wire::{ExchangeType, Header, MessageId, Payload, Payloads};

use super::Endpoint;
use crate::{
    config::{Connection, DpdAction},
    event::Path,
    fault::Fault,
    sa::{IkeSa, pending::Pending, window::Outstanding},
    timer::{SaTimer, Timer},
};

/// What is in front of an IKE message in its packet: UDP's header and the marker of port 4500.
const UDP_AND_MARKER: u16 = 8 + 4;

/// A request other than a liveness check may wait this many times the DPD timeout while ESP of the
/// peer still arrives: the tunnel works, only the peer's daemon is slow or restarting.
const PATIENCE: u32 = 3;

/// How long the peer's answer to a DELETE of the IKE SA is waited for. The SA is useless by then,
/// and the peer may be gone for good.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl Endpoint {
    /// Protects a message, in fragments if it is long and both sides can do that.
    fn seal(
        &mut self,
        sa: &mut IkeSa,
        header: &Header,
        payloads: Vec<Payload>,
    ) -> Result<Vec<Vec<u8>>, Fault> {
        let most = self.fragment_size(sa);
        let payloads = Payloads::from(payloads);
        let fragmentation = sa.peer.fragmentation;
        let Some(protection) = sa.protection() else {
            return Err(Fault::Internal("there are no keys yet".into()));
        };
        let random = &mut *self.random;
        let sealed = match most.filter(|_| fragmentation) {
            Some(most) => protection
                .sealer
                .seal_fragments(header, &payloads, most, random),
            None => protection
                .sealer
                .seal(header, &payloads, random)
                .map(|one| vec![one]),
        };
        sealed.map_err(|e| Fault::Internal(e.to_string()))
    }

    /// The largest IKE message that fits the configured packet size; none when fragmentation is
    /// off.
    fn fragment_size(&self, sa: &IkeSa) -> Option<usize> {
        let config = &self.connections.get(&sa.connection)?.config;
        if !config.fragmentation {
            return None;
        }
        let ip = if sa.path.remote.is_ipv4() { 20 } else { 40 };
        Some(usize::from(
            config.fragment_size.saturating_sub(ip + UDP_AND_MARKER),
        ))
    }

    /// Sends a request and remembers what it was for. The window must be free.
    pub(crate) fn send_request(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        exchange: ExchangeType,
        payloads: Vec<Payload>,
        pending: Pending,
    ) {
        debug_assert!(sa.window.is_free(), "one request at a time");
        let Some(id) = sa.window.next else {
            // Four thousand million requests: the SA should have been rekeyed long ago.
            self.abandon(now, sa);
            return;
        };
        let header = sa.header(exchange, false, id);
        match self.seal(sa, &header, payloads) {
            Ok(datagrams) => self.launch(now, sa, id, datagrams, pending),
            Err(fault) => {
                self.fail(sa.connection, &fault);
                self.abandon(now, sa);
            }
        }
    }

    /// Sends a protected message whose answer does not matter any more.
    pub(crate) fn send_once(&mut self, sa: &mut IkeSa, header: &Header, payloads: Vec<Payload>) {
        if let Ok(datagrams) = self.seal(sa, header, payloads) {
            for datagram in datagrams {
                self.transmit(sa.path, datagram);
            }
        }
    }

    /// Sends the datagrams of a request, protected or not.
    pub(crate) fn launch(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        id: MessageId,
        datagrams: Vec<Vec<u8>>,
        pending: Pending,
    ) {
        for datagram in &datagrams {
            self.transmit(sa.path, datagram.clone());
        }
        sa.window.next = id.next();
        sa.window.outstanding = Some(Outstanding {
            id,
            datagrams,
            first_sent: now,
            copies: 0,
            pending,
        });
        self.spoke(now, sa);
        let pause = self.settings.retransmit.pause(0);
        self.timers
            .set(Timer::Sa(sa.id, SaTimer::Retransmit), now + pause);
    }

    /// Answers the request that is being handled, where it came from (RFC 7296, section 2.11): a
    /// peer whose NAT has another mapping learns it from that answer.
    pub(crate) fn send_response(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        path: Path,
        request: &Header,
        digest: u64,
        payloads: Vec<Payload>,
    ) {
        let header = sa.header(request.exchange, true, request.message_id);
        match self.seal(sa, &header, payloads) {
            Ok(datagrams) => {
                for datagram in &datagrams {
                    self.transmit(path, datagram.clone());
                }
                sa.window.answer(digest, datagrams);
                self.spoke(now, sa);
            }
            Err(fault) => {
                self.fail(sa.connection, &fault);
                self.abandon(now, sa);
            }
        }
    }

    /// Something went out: the NAT mapping is fresh.
    pub(crate) fn spoke(&mut self, now: Instant, sa: &mut IkeSa) {
        sa.spoke = now;
        if sa.nat.local && sa.nat.encapsulated() {
            self.timers.set(
                Timer::Sa(sa.id, SaTimer::Keepalive),
                now + self.settings.keepalive,
            );
        }
    }

    /// The outstanding request was not answered for a pause: again, or enough.
    pub(crate) fn on_retransmit(&mut self, now: Instant, sa: &mut IkeSa) {
        let Some(deadline) = self.deadline(sa) else {
            return;
        };
        if now >= deadline {
            self.give_up(now, sa);
            return;
        }
        let policy = self.settings.retransmit;
        let path = sa.path;
        let Some(outstanding) = sa.window.outstanding.as_mut() else {
            return;
        };
        outstanding.copies += 1;
        let next = (now + policy.pause(outstanding.copies)).min(deadline);
        for datagram in outstanding.datagrams.clone() {
            self.transmit(path, datagram);
        }
        if let Some(c) = self.connections.get_mut(&sa.connection) {
            c.counters.retransmits += 1;
        }
        self.spoke(now, sa);
        self.timers.set(Timer::Sa(sa.id, SaTimer::Retransmit), next);
    }

    /// When the outstanding request is given up.
    fn deadline(&self, sa: &IkeSa) -> Option<Instant> {
        let outstanding = sa.window.outstanding.as_ref()?;
        let config = self.connection(sa.connection);
        let dpd = config
            .as_deref()
            .map_or_else(Default::default, |c: &Connection| c.dpd);
        let first = outstanding.first_sent;
        Some(match outstanding.pending {
            Pending::Init | Pending::Auth => {
                // Of the whole attempt, so that a peer that answers IKE_SA_INIT only does not
                // have twice the time.
                sa.begun.max(first - self.settings.init_timeout) + self.settings.init_timeout
            }
            Pending::Prove => first + self.settings.init_timeout,
            Pending::CloseIke => first + CLOSE_TIMEOUT,
            Pending::Liveness if dpd.action == DpdAction::None => first + dpd.timeout,
            _ => {
                let silence_ends = sa.heard + dpd.timeout;
                // Two copies at least, whatever the configuration says.
                let soonest = first + self.settings.retransmit.most;
                let latest = first + dpd.timeout * PATIENCE;
                match outstanding.pending {
                    Pending::Liveness => silence_ends.max(soonest).min(latest),
                    _ => silence_ends.max(first + dpd.timeout).min(latest),
                }
            }
        })
    }

    fn give_up(&mut self, now: Instant, sa: &mut IkeSa) {
        let Some(outstanding) = sa.window.outstanding.take() else {
            return;
        };
        let after = now.saturating_duration_since(outstanding.first_sent);
        let unanswered = Fault::Unanswered {
            during: outstanding.pending.during(),
            remote: sa.path.remote,
            after,
            copies: outstanding.copies + 1,
        };
        match outstanding.pending {
            Pending::Init | Pending::Auth => self.attempt_failed(now, sa, &unanswered, false),
            Pending::CloseIke => self.abandon(now, sa),
            Pending::Prove => self.attempt_failed(now, sa, &unanswered, false),
            Pending::Liveness => {
                let silent = now.saturating_duration_since(sa.heard);
                self.peer_dead(now, sa, &Fault::Dead { silent });
            }
            _ => self.peer_dead(now, sa, &unanswered),
        }
    }
}
