//! The Hawser data plane: the packet path and the process around it.
//!
//! [`pipeline`] is the packet path as a function; [`tables`] is what it looks things up in.
//! Around them: a [`worker`] per core that moves frames between AF_XDP sockets and
//! its pipeline, and a [`manager`] that speaks with control.
#![forbid(unsafe_code)]

pub mod balance;
pub mod checkpoint;
pub mod commit;
pub mod counters;
pub mod handoff;
#[cfg(feature = "harness")]
pub mod harness;
pub mod host;
pub mod ipc;
pub mod manager;
pub mod pipeline;
pub mod running;
pub mod sa;
pub mod setup;
pub mod statistics;
pub mod tables;
pub mod waker;
pub mod worker;
