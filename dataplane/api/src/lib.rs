//! What the control process and the data plane say to each other.
//!
//! Control owns the configuration and the protocols, the data plane owns the packets; these types
//! are all that crosses between them. They travel as one message a packet over a Unix
//! `SOCK_SEQPACKET` socket ([`wire`]), in the order sent, answered in the order sent, with events
//! of the data plane in between.
//!
//! Tables are changed by transaction: any number of [`Update`]s are staged, then one
//! [`Request::Commit`] makes them visible to all workers at once, or refuses all of them and
//! leaves what runs untouched.
//!
//! What this is not: a stable public interface. Both processes come from one build; the version in
//! [`Request::Hello`] only keeps a new control from driving an old data plane by accident.
#![forbid(unsafe_code)]

mod drops;
mod ids;
mod message;
mod secret;
mod stats;
mod tables;
pub mod wire;

pub use drops::{DropReason, Drops};
pub use ids::{GroupId, PortId, Spi, TableId, TunnelId, WorkerId};
pub use message::{
    Event, FromDataplane, IdlePolicy, PROTOCOL_VERSION, PortMode, PortReport, PortSetup, Refusal,
    Reply, Request, Role, Setup, SetupReport, TunSetup, WorkerSetup,
};
pub use secret::Secret;
pub use stats::{
    InboundSaStats, OutboundSaStats, PortStats, RegimeTimes, Stats, StatsPage, TunnelStats,
    WorkerStats,
};
pub use tables::{
    Attachment, Ceiling, Dscp, Encapsulation, InboundSa, Member, Neighbour, NextHop, OutboundSa,
    OuterDf, Route, Selectors, TrafficSelector, Tunnel, Update,
};
