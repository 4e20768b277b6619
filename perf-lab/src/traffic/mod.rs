//! Test traffic: UDP flows with sequence numbers, made and checked by code that shares nothing
//! with the gateway.
//!
//! Two engines make and count the same packets:
//! - [`packet`]: packet sockets. Any frame at all, answers included, some 100,000 packets a
//!   second; for scenarios that check exact counters.

pub mod flow;
pub mod packet;
mod report;

pub use flow::{Endpoints, FlowSpec, Sizes, Stamp, flows, frame, read_stamp};
pub use report::{FlowReport, LatencyReport, TrafficReport};
