//! IKEv2 (RFC 7296) as a sans-IO endpoint: datagrams, time and randomness go in; datagrams, events
//! and the next time to wake come out.
//!
//! # How it is driven
//! After every call that takes `now`, in this order:
//! 1. drain [`Endpoint::poll_event`] and apply everything to the data plane, and wait until it has
//!    it;
//! 2. drain [`Endpoint::poll_transmit`] and send; it gives nothing while an event waits;
//! 3. arm a timer for [`Endpoint::poll_timeout`], and call [`Endpoint::handle_timeout`] then.
//!
//! The order is what makes rekeying lose no packet: an answer that lets the peer send with a new
//! SA leaves only when that SA is installed.
//!
//! # What is done
//! RFC 7296 with pre-shared keys or certificates (RFC 7427) as initiator and responder for many peers, NAT traversal, cookies,
//! rekeying with all collisions of sections 2.8 and 2.25, dead peer detection with AWS's actions,
//! fragmentation (RFC 7383), childless initiation (RFC 6023), the addresses of MOBIKE (RFC 4555).
//!
//! # What is not
//! No transport mode, no AH, no IPcomp. Window size 1. Redirects (RFC 5685) are refused. Room is
//! left for IKE_INTERMEDIATE and further key exchanges (RFC 9242, RFC 9370: another phase between
//! `AwaitAuth` and `Established`), EAP (more rounds in IKE_AUTH) and configuration payloads.
//!
//! # Where things are
//! `endpoint` finds the SA of a datagram and keeps tables, timers and output; `exchange` has one
//! file for each exchange and side; `sa` is the state of one IKE SA; `proposal`, `selector`, `nat`
//! and `cookie` are pure functions; `fault` maps everything that goes wrong to a notify and a
//! sentence.

#![forbid(unsafe_code)]

mod config;
mod cookie;
mod endpoint;
mod event;
mod exchange;
mod fault;
#[cfg(any(test, feature = "harness"))]
pub mod harness;
pub mod identity;
mod nat;
mod proposal;
mod sa;
mod selector;
mod settings;
mod status;
#[cfg(any(test, feature = "harness"))]
mod testing;
#[cfg(test)]
mod tests;
mod timer;

pub use config::{
    Auth, Certificates, Child, ConfigError, Connection, ConnectionId, Dpd, DpdAction, Lifetime,
    Remote, Startup, everything,
};
pub use endpoint::Endpoint;
pub use event::{
    Event, Failure, Inbound, KeyLog, LogEntry, NatStatus, Outbound, Path, RekeyReason, Side, State,
    Transmit,
};
pub use hawser_ike_crypto::{
    Encr, Group, Integ, LoadError, LocalCertificate, Prf, Random, SignaturePolicy, SystemRandom,
    TrustAnchors, TrustPolicy,
};
pub use identity::{Identity, IdentityMatch};
pub use proposal::{ChildProposal, IkeProposal, ProposalError};
pub use settings::{Retransmit, Settings};
pub use status::{ChildStatus, ConnectionCounters, ConnectionStatus, Counters};
