//! Loads the XDP program and owns its maps.
//!
//! [`Steering`] is all there is: load, attach to ports, register sockets, say which addresses and
//! prefixes are ours, read the counters. What the program does with a frame is written in
//! `hawser-steer`; its object is committed beside this crate (`hawser.bpf.o`, made by `build.sh`),
//! so building this crate needs no eBPF toolchain.
//!
//! # Lifetime
//! Programs are attached by BPF links, whose only owner is this process. Whatever ends it, the
//! kernel closes the link and detaches the program: a killed data plane leaves nothing behind, and
//! all packets go to the kernel. A kernel that has no BPF links for XDP (before 5.9) is refused.
//!
//! # Privilege
//! [`Steering::load`] needs `CAP_BPF` and `CAP_NET_ADMIN` (as root, or by file capabilities). All
//! that comes after it works through file descriptors opened then, for which Linux 5.19 and later
//! ask no capability, whatever `kernel.unprivileged_bpf_disabled` says: tables are changed, counters
//! read, and ports detached and attached again by a process that has dropped everything (tested
//! here). Before 5.19, `CAP_BPF` must be kept unless that setting is 0.
//!
//! # Costs
//! IPv4 inside prefixes up to /24 are looked up in at most two steps, however many there are; the
//! kernel's trie holds only longer ones and IPv6, whose cost grows with their number. A million
//! IPv4 routes load in about a second; an IPv6 route takes a system call of 2 to 3 µs. Both this and
//! what a packet costs are measured by `examples/steering_cost.rs`. The kernel's tables for IPv4
//! take 4 MiB, user space's up to 16 MiB and some 20 bytes a route.
#![forbid(unsafe_code)]

mod error;
mod inside;
mod stats;
mod steering;

pub use error::SteeringError;
pub use hawser_steer::{Action, Passed, Role, Taken, VERDICTS, Verdict};
pub use stats::SteeringStats;
pub use steering::{Attached, Entries, PortConfig, Sizes, Steering, TestRun};
