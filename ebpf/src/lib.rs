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
//! [`Steering::load`] and [`Steering::attach`] need `CAP_BPF` and `CAP_NET_ADMIN` (as root, or by
//! file capabilities). The maps are changed and read through file descriptors opened then, for
//! which Linux 5.19 and later ask no capability; before that, `CAP_BPF` must be kept unless
//! `kernel.unprivileged_bpf_disabled` is 0.
//!
//! # Costs
//! A route takes one system call and 40 (IPv4) to 56 (IPv6) bytes of kernel memory besides the
//! allocator's rounding and an inner node; the tables hold what [`Sizes`] says and allocate as they
//! fill.
#![forbid(unsafe_code)]

mod error;
mod stats;
mod steering;

pub use error::SteeringError;
pub use hawser_steer::{Action, Passed, Role, Taken, VERDICTS, Verdict};
pub use stats::SteeringStats;
pub use steering::{Attached, PortConfig, Sizes, Steering, TestRun};
