//! From a datagram to the SA and the exchange it belongs to.
//!
//! A datagram changes nothing before its protection was verified, except IKE_SA_INIT, whose
//! handlers say what they believe and why.

use std::time::Instant;

use hawser_ike_crypto::{OpenError, Progress, Reassembly};
use hawser_ike_wire::{
    ExchangeType, Fault as WireFault, Header, IkeSpi, Message, Notify, NotifyType, Payload,
    Payloads, Place,
};

use super::Endpoint;
use crate::{
    event::Path,
    fault::Fault,
    sa::{
        IkeSa, Phase,
        window::{Arrival, Parts},
    },
};

/// What came out of a protected datagram.
enum Opened {
    /// The message is whole. With the digest by which a copy of it is known.
    Whole(Payloads, u64),
    /// Some fragments are still missing.
    Partial,
    /// Authentic, but it cannot be read.
    Malformed(String, u64),
    Refused,
}

impl Endpoint {
    /// Takes a datagram in. On port 4500 the driver has taken the four zero octets off; a NAT
    /// keepalive (one octet 0xff) is ignored.
    pub fn handle_datagram(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        if datagram == [0xff] {
            return;
        }
        self.counters.received += 1;
        self.take_in(now, path, datagram);
        self.settle();
    }

    fn take_in(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        let header = match Header::parse(datagram) {
            Ok(header) => header,
            Err(e) => {
                self.counters.malformed += 1;
                if e.place == Place::Header && matches!(e.fault, WireFault::MajorVersion(_)) {
                    self.refuse_version(now, path, datagram);
                }
                return;
            }
        };
        let from_initiator = header.initiator;
        if header.exchange == ExchangeType::IkeSaInit && from_initiator && !header.response {
            self.on_init_request(now, path, &header, datagram);
            return;
        }
        let ours = if from_initiator {
            header.responder_spi
        } else {
            header.initiator_spi
        };
        let Some(id) = self.by_spi.get(&ours).copied() else {
            self.on_unknown_sa(now, path, &header, datagram);
            return;
        };
        self.with_sa(now, id, |endpoint, sa| {
            endpoint.on_datagram_of(now, sa, path, &header, datagram);
        });
    }

    fn on_datagram_of(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        path: Path,
        header: &Header,
        datagram: &[u8],
    ) {
        if header.initiator == sa.is_initiator() {
            // Our own part of the SA: a reflection.
            self.counters.unknown_sa += 1;
            return;
        }
        if let Phase::InitSent(_) = sa.phase {
            self.on_init_response(now, sa, path, header, datagram);
            return;
        }
        if header.initiator_spi != sa.initiator_spi || header.responder_spi != sa.responder_spi {
            self.counters.unknown_sa += 1;
            return;
        }
        let message = match Message::parse(datagram) {
            Ok(message) => message,
            Err(_) => {
                self.counters.malformed += 1;
                return;
            }
        };
        if message.protected.is_none() {
            self.on_unprotected(now, sa, header, &message.payloads);
            return;
        }
        if header.response {
            self.on_protected_response(now, sa, path, header, &message, datagram);
        } else {
            self.on_protected_request(now, sa, path, header, &message, datagram);
        }
    }

    fn on_protected_request(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        path: Path,
        header: &Header,
        message: &Message,
        datagram: &[u8],
    ) {
        match sa.window.judge(header.message_id, datagram) {
            Arrival::New => {}
            Arrival::Copy(answer) => {
                self.counters.repeated += 1;
                self.postpone_switches(now, sa);
                for datagram in answer {
                    self.transmit(path, datagram.clone());
                }
                return;
            }
            Arrival::Foreign => {
                self.counters.out_of_window += 1;
                return;
            }
        }
        match self.open(sa, header, message, datagram) {
            Opened::Whole(inner, digest) => {
                self.on_authentic(now, sa, path);
                let unknown = message
                    .payloads
                    .unsupported_critical()
                    .or_else(|| inner.unsupported_critical());
                if let Some(kind) = unknown {
                    let answer = self.refusal(sa, &Fault::Critical(kind));
                    self.send_response(now, sa, path, header, digest, answer);
                } else {
                    self.on_request(now, sa, path, header, digest, &inner);
                }
            }
            Opened::Malformed(what, digest) => {
                // The peer may take the SA down on this answer (RFC 7296, section 2.21.3); ours
                // stays as it was.
                self.on_authentic(now, sa, path);
                let answer = self.refusal(sa, &Fault::Malformed(what));
                self.send_response(now, sa, path, header, digest, answer);
            }
            Opened::Partial | Opened::Refused => {}
        }
    }

    fn on_protected_response(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        path: Path,
        header: &Header,
        message: &Message,
        datagram: &[u8],
    ) {
        let awaited = sa
            .window
            .outstanding
            .as_ref()
            .is_some_and(|o| o.id == header.message_id);
        if !awaited {
            self.counters.out_of_window += 1;
            return;
        }
        match self.open(sa, header, message, datagram) {
            Opened::Whole(inner, _) => {
                self.on_authentic(now, sa, path);
                self.on_response(now, sa, header, &inner);
            }
            Opened::Malformed(what, _) => {
                // The request was not understood as we meant it, and the answer never will be:
                // the copies go on until the request is given up.
                self.on_authentic(now, sa, path);
                self.fail(sa.connection, &Fault::Malformed(what));
            }
            Opened::Partial | Opened::Refused => {}
        }
    }

    /// Verifies and decrypts; collects fragments.
    fn open(
        &mut self,
        sa: &mut IkeSa,
        header: &Header,
        message: &Message,
        datagram: &[u8],
    ) -> Opened {
        let digest = sa.window.digest(datagram);
        let Some(opener) = sa.opener() else {
            return Opened::Refused;
        };
        let fragment = message.protected.as_ref().and_then(|p| p.fragment);
        let Some(number) = fragment else {
            return match opener.open(datagram, message) {
                Ok(inner) => Opened::Whole(inner, digest),
                Err(OpenError::Malformed(e)) => Opened::Malformed(e.to_string(), digest),
                Err(_) => {
                    self.counters.not_authentic += 1;
                    Opened::Refused
                }
            };
        };
        let Ok(piece) = opener.open_fragment(datagram, message) else {
            self.counters.not_authentic += 1;
            return Opened::Refused;
        };
        let slot = if header.response {
            &mut sa.window.response_parts
        } else {
            &mut sa.window.request_parts
        };
        if slot.as_ref().is_none_or(|p| p.id != header.message_id) {
            *slot = Some(Parts {
                id: header.message_id,
                reassembly: Reassembly::new(),
                digest,
            });
        }
        let Some(parts) = slot else {
            return Opened::Refused;
        };
        if number.number == 1 {
            parts.digest = digest;
        }
        let digest = parts.digest;
        match parts.reassembly.add(piece) {
            Ok(Progress::Complete(inner)) => {
                *slot = None;
                Opened::Whole(inner, digest)
            }
            Ok(_) => Opened::Partial,
            Err(e) => {
                *slot = None;
                Opened::Malformed(e.to_string(), digest)
            }
        }
    }

    /// The peer sent this, now or a while ago, and nobody else: it lives. Where it lives is only
    /// believed of a message that is new.
    fn on_authentic(&mut self, now: Instant, sa: &mut IkeSa, path: Path) {
        self.heard(now, sa);
        if sa.path == path {
            return;
        }
        if sa.is_half_open() {
            // The initiator chooses the ports: 4500 when it found a NAT.
            sa.path = path;
            return;
        }
        // RFC 7296, section 2.23: only a peer behind a NAT moves on its own, and a host that is
        // itself behind one does not follow, lest a forger of addresses lead it away. A peer with
        // MOBIKE says that it moved; what else it sends may be a try of another path (RFC 4555,
        // section 3.8). ESP is followed all the same.
        let behind_nat = sa.nat.encapsulated() && (sa.nat.remote || sa.nat.forced);
        let may_move = behind_nat && !sa.peer.mobike;
        if may_move && sa.is_established() {
            self.move_path(now, sa, path);
        }
    }

    /// The payloads that tell the peer of a fault.
    pub(crate) fn refusal(&mut self, sa: &IkeSa, fault: &Fault) -> Vec<Payload> {
        self.fail(sa.connection, fault);
        fault.notify().map(Payload::Notify).into_iter().collect()
    }

    /// Answers a message of another major version (RFC 7296, section 2.5).
    fn refuse_version(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        // Only what looks like a request of an initiator: octets 16 to 19 are payload, version,
        // exchange, flags, and flag bit 5 is a response of version 2.
        let Some((spi, rest)) = datagram.split_first_chunk::<8>() else {
            return;
        };
        let is_response = rest.get(11).is_none_or(|flags| flags & 0x20 != 0);
        if is_response || !self.hint_budget.take(now) {
            return;
        }
        let header = Header {
            initiator_spi: IkeSpi(u64::from_be_bytes(*spi)),
            responder_spi: IkeSpi::ZERO,
            exchange: ExchangeType::IkeSaInit,
            initiator: false,
            response: true,
            higher_version: false,
            message_id: hawser_ike_wire::MessageId(0),
        };
        self.send_plain(
            path,
            header,
            vec![Payload::Notify(Notify::new(
                NotifyType::InvalidMajorVersion,
            ))],
        );
    }

    /// Sends a message without protection.
    pub(crate) fn send_plain(&mut self, path: Path, header: Header, payloads: Vec<Payload>) {
        let message = Message::new(header, Payloads::from(payloads));
        // What we make ourselves always fits a message.
        if let Ok(bytes) = message.emit() {
            self.transmit(path, bytes);
        }
    }

    /// The header of an unprotected answer.
    pub(crate) fn plain_answer(request: &Header) -> Header {
        Header {
            initiator: !request.initiator,
            response: true,
            higher_version: false,
            ..*request
        }
    }
}
