//! What the endpoint says about itself when asked.

use std::time::Duration;

use hawser_aead::Suite;
use hawser_api::{Selectors, Spi};
use hawser_ike_crypto::Group;

use crate::{
    config::ConnectionId,
    event::{Failure, NatStatus, Path, State},
};

/// A connection, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// Its number.
    pub id: ConnectionId,
    /// Its name.
    pub name: String,
    /// Phase 1.
    pub ike: State,
    /// Phase 2.
    pub child: State,
    /// Where it runs.
    pub path: Option<Path>,
    /// What NAT detection found.
    pub nat: NatStatus,
    /// ESP in UDP.
    pub encapsulated: bool,
    /// The IKE SA's algorithms.
    pub ike_suite: Option<String>,
    /// Who the peer proved to be.
    pub peer_identity: Option<String>,
    /// SPIs of the IKE SA, the initiator's first.
    pub spis: Option<(u64, u64)>,
    /// Whether we initiated the IKE SA.
    pub initiator: Option<bool>,
    /// Age of the IKE SA.
    pub established_for: Option<Duration>,
    /// Until the IKE SA is rekeyed.
    pub rekey_in: Option<Duration>,
    /// Until the IKE SA ends if it could not be.
    pub expires_in: Option<Duration>,
    /// Its child SAs, also those that are on their way out.
    pub children: Vec<ChildStatus>,
    /// The last failure.
    pub last_error: Option<Failure>,
    /// Counts since it was configured.
    pub counters: ConnectionCounters,
}

/// A child SA, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildStatus {
    /// Which of the connection's children.
    pub child: u16,
    /// Its name.
    pub name: String,
    /// The SPI that we chose.
    pub inbound: Spi,
    /// The SPI that the peer chose.
    pub outbound: Spi,
    /// Whether we send with it.
    pub active: bool,
    /// Cipher and integrity.
    pub suite: Suite,
    /// Extended sequence numbers.
    pub esn: bool,
    /// The group of its own key exchange.
    pub pfs: Option<Group>,
    /// What it carries.
    pub selectors: Selectors,
    /// Its state.
    pub state: State,
    /// Until it is rekeyed.
    pub rekey_in: Option<Duration>,
    /// Until it ends.
    pub expires_in: Option<Duration>,
}

/// Counts of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounters {
    /// Attempts begun by us.
    pub initiations: u64,
    /// IKE SAs made, by either side; rekeyed ones are not counted.
    pub established: u64,
    /// IKE SAs rekeyed.
    pub ike_rekeys: u64,
    /// Child SAs rekeyed.
    pub child_rekeys: u64,
    /// Requests sent again.
    pub retransmits: u64,
    /// Liveness checks.
    pub dpd_sent: u64,
    /// Peers found dead.
    pub dpd_failed: u64,
    /// Failures reported.
    pub failures: u64,
}

/// Counts of the endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams taken in.
    pub received: u64,
    /// Datagrams given out.
    pub sent: u64,
    /// Datagrams that are no IKE messages.
    pub malformed: u64,
    /// Messages of an IKE SA that is not here.
    pub unknown_sa: u64,
    /// Messages whose protection was wrong.
    pub not_authentic: u64,
    /// Messages with a number that is not expected.
    pub out_of_window: u64,
    /// Requests that came again and were answered again.
    pub repeated: u64,
    /// Cookies asked for.
    pub cookies_sent: u64,
    /// Cookies that were wrong or old.
    pub cookies_bad: u64,
    /// IKE_SA_INIT requests refused because there were too many half-open SAs.
    pub half_open_refused: u64,
    /// IKE_SA_INIT requests that no connection is meant for.
    pub no_connection: u64,
    /// INVALID_IKE_SPI and INVALID_SPI hints from peers.
    pub hints: u64,
}
