//! Test traffic: UDP flows with sequence numbers, made and checked by code that shares nothing
//! with the gateway.
//!
//! Two engines make and count the same packets:
//! - [`packet`]: packet sockets. Any frame at all, answers included, some 100,000 packets a
//!   second; for scenarios that check exact counters.
//! - [`live`]: XDP programs. The generator runs in the kernel (`BPF_PROG_TEST_RUN` with live
//!   frames) and hands frames to the veth driver without a socket or a system call a packet, the
//!   sink counts before an sk_buff is handled. The cheapest load there is on veth, so that on a
//!   small machine the gateways get the processor; for measurements.

pub mod flow;
pub mod live;
pub mod packet;
mod report;

pub use flow::{Endpoints, FlowSpec, Sizes, Stamp, flows, frame, read_stamp};
pub use report::{FlowReport, LatencyReport, TrafficReport};
