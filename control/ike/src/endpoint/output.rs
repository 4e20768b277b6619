//! What the endpoint gives out: events, datagrams, sentences.

use std::time::{Duration, Instant};

use super::Endpoint;
use crate::{
    config::ConnectionId,
    event::{Event, LogEntry, NatStatus, Path, State, Transmit},
    fault::Fault,
};

/// Peers that proved nothing can cause a sentence this often, over all of them.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

impl Endpoint {
    pub(crate) fn emit(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(crate) fn transmit(&mut self, path: Path, bytes: Vec<u8>) {
        self.counters.sent += 1;
        self.transmits.push_back(Transmit {
            path,
            marker: path.local.port() == self.settings.natt_port,
            bytes,
        });
    }

    /// A NAT keepalive is one octet without the marker (RFC 3948, section 2.3).
    pub(crate) fn transmit_keepalive(&mut self, path: Path) {
        self.transmits.push_back(Transmit {
            path,
            marker: false,
            bytes: vec![0xff],
        });
    }

    /// A line for the tunnel's log; its states are filled in when the call is over.
    pub(crate) fn log(&mut self, connection: ConnectionId, detail: String) {
        self.log_entry(connection, detail, false);
    }

    fn log_entry(&mut self, connection: ConnectionId, detail: String, failure: bool) {
        self.touched.insert(connection);
        self.emit(Event::Log(LogEntry {
            connection: Some(connection),
            ike: State::Down,
            child: State::Down,
            dpd_enabled: false,
            nat: NatStatus::Unknown,
            remote: None,
            detail,
            failure,
        }));
    }

    /// Reports a failure of a connection, in the log too.
    pub(crate) fn fail(&mut self, connection: ConnectionId, fault: &Fault) {
        let failure = fault.failure();
        if let Some(c) = self.connections.get_mut(&connection) {
            c.last_failure = Some(failure.clone());
            c.counters.failures += 1;
        }
        self.log_entry(connection, failure.sentence.clone(), true);
        self.emit(Event::Failure {
            connection: Some(connection),
            failure,
        });
    }

    /// Reports a failure that an unproven peer caused: now and then only, so that a flood fills no
    /// log.
    pub(crate) fn complain(
        &mut self,
        now: Instant,
        connection: Option<ConnectionId>,
        path: &Path,
        fault: &Fault,
    ) {
        let due = self
            .complained
            .is_none_or(|at| now.saturating_duration_since(at) >= COMPLAINT_INTERVAL);
        if !due {
            return;
        }
        self.complained = Some(now);
        let mut failure = fault.failure();
        failure.sentence = format!("{}: {}", path.remote, failure.sentence);
        if let Some(c) = connection.and_then(|id| self.connections.get_mut(&id)) {
            c.last_failure = Some(failure.clone());
            c.counters.failures += 1;
        }
        self.emit(Event::Failure {
            connection,
            failure,
        });
    }
}
