//! Packet parsing, lookup, rewriting and tunnel arithmetic as pure functions.
//!
//! Bytes come in, decisions and bytes go out: nothing here opens a socket, reads a clock, draws a
//! random number, or allocates while packets flow (tables allocate when they are built). So every
//! rule of the packet path can be tested as a table and fuzzed without root or a NIC.
//!
//! What is not here: the order in which a packet meets these functions (the pipeline's), ciphers
//! (`hawser-aead`), frames and rings (`hawser-xsk`).
//!
//! | Module | Question it answers | Source |
//! |---|---|---|
//! | [`mod@parse`] | what is in this frame? | RFC 791, RFC 8200, IEEE 802.1Q |
//! | [`prefix`], [`lpm`] | where does this destination go? | Poptrie (SIGCOMM 2015) |
//! | [`hash`], [`ecmp`] | over which of several tunnels? | |
//! | [`selector`] | may this packet use this SA? | RFC 4301 4.4.1, RFC 7296 3.13.1 |
//! | [`mtu`], [`mss`], [`fragment`] | does it fit, and if not? | RFC 4303, RFC 6691, RFC 791 |
//! | [`ecn`], [`rewrite`], [`checksum`] | what does a router change? | RFC 6040, RFC 1624 |
//! | [`encap`], [`esp_trailer`] | what surrounds the ciphertext? | RFC 4303, RFC 3948 |
//! | [`replay`] | was this packet seen before? | RFC 4303 3.4.3 and appendix A |
//! | [`icmp`] | what is the sender told? | RFC 792, RFC 1191, RFC 1812, RFC 4443 |
#![forbid(unsafe_code)]

pub mod checksum;
pub mod ecmp;
pub mod ecn;
pub mod encap;
pub mod esp_trailer;
pub mod fragment;
#[cfg(any(test, feature = "harness"))]
pub mod harness;
pub mod hash;
pub mod icmp;
pub mod lpm;
pub mod mss;
pub mod mtu;
pub mod parse;
pub mod prefix;
pub mod replay;
pub mod rewrite;
pub mod selector;
#[cfg(test)]
mod testing;

pub use parse::{
    Family, Fragment, IpHeader, Packet, ParseError, parse, parse_ip, parse_plain, parse_plain_ip,
};
pub use prefix::{Prefix, Prefix4, Prefix6};

/// IP protocol numbers this crate looks at (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP; as an ESP next header, a tunnelled IPv4 packet.
    pub const IPV4: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// IPv6 in IP; as an ESP next header, a tunnelled IPv6 packet.
    pub const IPV6: u8 = 41;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Encapsulating security payload.
    pub const ESP: u8 = 50;
    /// Authentication header.
    pub const AH: u8 = 51;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// No next header; as an ESP next header, a dummy packet.
    pub const NO_NEXT_HEADER: u8 = 59;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
}
