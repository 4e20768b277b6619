//! Hawser's control process: the daemon (`hawser run`) and the command line around it.
//!
//! Control owns the configuration, what the kernel knows of links, routes and neighbours, and
//! (later) the protocols that make keys and routes. It never touches a packet: it computes which
//! tables the data plane should have ([`desired`]), sends the difference to what is installed
//! ([`diff`]) as one transaction, and keeps the data plane process running.
//!
//! If control ends or is killed, the data plane forwards on with what it has; the next control
//! takes it over without an interruption.
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod control_socket;
pub mod daemon;
pub mod dataplane_link;
pub mod desired;
pub mod diff;
pub mod ids;
pub mod ike;
pub mod netlink;
pub mod peers;
pub mod setup;
pub mod status;
pub mod supervisor;
