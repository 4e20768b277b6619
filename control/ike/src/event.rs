//! What comes out of the endpoint besides datagrams.
//!
//! The order is a contract: **the driver applies all pending events to the data plane, and waits
//! until it has them, before it sends any pending datagram.** So a rekeyed child's inbound SA is
//! there before the peer can learn that it may send on it, and no packet is lost.

use std::{fmt, net::SocketAddr, time::Duration};

use hawser_aead::Suite;
use hawser_api::{Secret, Selectors, Spi};
use zeroize::Zeroizing;

use crate::config::ConnectionId;

/// Two sockets' addresses, ours and the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// Ours.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// From where to where.
    pub path: Path,
    /// Put the four zero octets in front that tell IKE from ESP on port 4500 (RFC 3948, section
    /// 2.2).
    pub marker: bool,
    /// The datagram.
    pub bytes: Vec<u8>,
}

/// What the driver has to do or to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Install an SA for receiving, beside those that are there.
    InboundAdd(Inbound),
    /// Send with this SA from now on, in place of the one before.
    OutboundSet(Outbound),
    /// Remove an SA for receiving.
    InboundRemove {
        /// Whose.
        connection: ConnectionId,
        /// Which of its children.
        child: u16,
        /// The SPI that we chose.
        spi: Spi,
    },
    /// Nothing can be sent any more.
    OutboundRemove {
        /// Whose.
        connection: ConnectionId,
        /// Which of its children.
        child: u16,
    },
    /// Where ESP goes, and whether inside UDP. Comes before the first SA and at every change.
    PathChanged {
        /// Whose.
        connection: ConnectionId,
        /// The addresses and ports.
        path: Path,
        /// ESP in UDP (RFC 3948).
        encapsulated: bool,
    },
    /// The state changed.
    State {
        /// Whose.
        connection: ConnectionId,
        /// Of the IKE SA (phase 1 in AWS's words).
        ike: State,
        /// Of the child SAs (phase 2): of the worst of them.
        child: State,
    },
    /// For the tunnel's log.
    Log(LogEntry),
    /// Something did not work. Unless a peer that proved nothing caused it, the same is in a
    /// [`LogEntry`] just before.
    Failure {
        /// Whose, if it is known.
        connection: Option<ConnectionId>,
        /// What.
        failure: Failure,
    },
    /// Keys of a new IKE SA; only with [`crate::Settings::key_log`].
    KeyLog(KeyLog),
}

/// An SA for receiving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Whose.
    pub connection: ConnectionId,
    /// Which of its children.
    pub child: u16,
    /// The SPI that we chose.
    pub spi: Spi,
    /// Cipher and integrity.
    pub suite: Suite,
    /// Key material as the data plane takes it: cipher key, salt or integrity key.
    pub key: Secret,
    /// Extended sequence numbers.
    pub esn: bool,
    /// Packets.
    pub replay_window: u32,
    /// What may arrive.
    pub selectors: Selectors,
    /// From now until the SA must not be used any more.
    pub hard_limit: Duration,
}

/// An SA for sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// Whose.
    pub connection: ConnectionId,
    /// Which of its children.
    pub child: u16,
    /// The SPI that the peer chose.
    pub spi: Spi,
    /// Cipher and integrity.
    pub suite: Suite,
    /// Key material as the data plane takes it.
    pub key: Secret,
    /// Extended sequence numbers.
    pub esn: bool,
    /// What may be sent.
    pub selectors: Selectors,
    /// From now until the SA must not be used any more.
    pub hard_limit: Duration,
}

/// AWS's words for the state of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum State {
    /// Not there.
    #[default]
    Down,
    /// Being made.
    Negotiating,
    /// There.
    Established,
    /// There, and its successor is being made.
    Rekeying,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Down => "Down",
            State::Negotiating => "Negotiating",
            State::Established => "Established",
            State::Rekeying => "Rekeying",
        })
    }
}

/// Who has to do something about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Our configuration, or both sides' do not fit together.
    Configuration,
    /// The peer refused or broke the protocol.
    Peer,
    /// Nothing arrives.
    Network,
    /// This program.
    We,
}

/// A failure for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Who has to act.
    pub side: Side,
    /// What happened, what each side has, and what to do.
    pub sentence: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// Where network address translation was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum NatStatus {
    /// Not yet negotiated.
    #[default]
    Unknown,
    /// Nowhere.
    None,
    /// Our address is translated.
    Local,
    /// The peer's address is translated.
    Remote,
    /// Both are.
    Both,
    /// Encapsulation is forced by the configuration.
    Forced,
}

/// A line of the tunnel's log, with the fields of AWS's tunnel activity log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Whose, if it is known.
    pub connection: Option<ConnectionId>,
    /// Phase 1.
    pub ike: State,
    /// Phase 2.
    pub child: State,
    /// Whether dead peers are detected.
    pub dpd_enabled: bool,
    /// What NAT detection found.
    pub nat: NatStatus,
    /// The peer's address.
    pub remote: Option<SocketAddr>,
    /// What happened.
    pub detail: String,
    /// It is what the [`Event::Failure`] says that comes next.
    pub failure: bool,
}

/// The keys of an IKE SA as a line of Wireshark's `ikev2_decryption_table`.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyLog(pub(crate) Zeroizing<String>);

impl KeyLog {
    /// The line: secret.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyLog")
    }
}

/// Why the driver wants a child rekeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RekeyReason {
    /// So many octets.
    Bytes,
    /// So many packets.
    Packets,
    /// Sequence numbers run out.
    Sequence,
    /// A person wants it.
    Operator,
}

impl fmt::Display for RekeyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RekeyReason::Bytes => "its limit of bytes",
            RekeyReason::Packets => "its limit of packets",
            RekeyReason::Sequence => "its limit of sequence numbers",
            RekeyReason::Operator => "the operator's wish",
        })
    }
}
