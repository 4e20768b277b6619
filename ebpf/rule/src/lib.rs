//! The rule which packets are Hawser's.
//!
//! One rule, written once: the XDP program (`ebpf/program`) runs it on the bytes of a frame in the
//! kernel, tests run the very same code on slices and compare it with a second, independent
//! statement of it. It is generic over how bytes are read ([`Packet`]) and how addresses are looked
//! up ([`Tables`]), so neither side needs the other's means.
//!
//! ```text
//! frame not for this port's MAC, not IP, malformed ......... pass
//! destination is one of our tunnel outside addresses
//!     outside port: ESP ................................... take
//!                   UDP 4500 with a non-zero SPI ........... take    (RFC 3948, 2.2)
//!     everything else (IKE, keepalives, SSH, ping, ...) .... pass
//! inside port or VLAN: destination's longest prefix says take  take
//! everything else ......................................... pass
//! ```
//!
//! "Pass" is always safe: the packet goes to the kernel as if Hawser were not there. "Take" gives
//! it to the data plane, which checks it again and counts what it drops.
//!
//! Decisions worth knowing
//! - **Fragments of ESP are taken**, for IPv4 and IPv6. A fragment of an ESP packet cannot be
//!   decrypted (RFC 4303, 3.4.1: reassembly comes first), and the kernel, which has no SA for it,
//!   would answer with ICMP "protocol unreachable" and count nothing of ours. The data plane drops
//!   it with a reason. **Fragments of UDP pass**, since they may be IKE, and only the kernel can
//!   put them together.
//! - A tunnel's outside address is never looked up in the inside table, so a default route into a
//!   tunnel cannot capture SSH to the router, and ESP that comes in on an inside port passes.
//! - Multicast, broadcast, link-local and loopback destinations are never forwarded.
//! - Port 4500 payloads shorter than an ESP header (RFC 3948, 2.3: keepalives) pass to IKE's socket.
//!
//! Not here: TTL, lengths beyond the fields read, check sums, selectors. Those are the data plane's.
//!
//! Limits: two VLAN tags; six IPv6 extension headers; headers within the first [`REACH`] bytes of a
//! frame. There is one inside table for all route tables: the data plane looks in the right one and
//! may hand back what its own has no route for. Tags that a NIC removes are not seen.
#![no_std]
#![forbid(unsafe_code)]

mod block;
mod frame;
mod front;
mod map;
mod rule;
mod verdict;

pub use block::{BLOCK_WORDS, Block, COARSE_BLOCKS, FINE_BLOCKS, Levels, Slot, longest_prefix_v4};
pub use frame::{Packet, REACH};
pub use front::{
    LOCAL_FRONT, PORT_FRONT, PORT_FRONT_WORDS, is_local, local_entry_with, local_place, port_entry,
    port_of, port_place,
};
pub use map::{Action, PORT_WORDS, Port, Role};
pub use rule::{Tables, judge};
pub use verdict::{Passed, Taken, VERDICTS, Verdict};
