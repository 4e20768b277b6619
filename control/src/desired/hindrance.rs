//! What keeps a tunnel from sending, in words for a person.

use std::net::IpAddr;

/// Why a tunnel cannot send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// The kernel has no route to the peer.
    NoRoute,
    /// The route to the peer leaves through an interface that is not served.
    WrongInterface(String),
    /// The outside interface is gone.
    InterfaceGone(String),
    /// The outside interface is down.
    LinkDown(String),
    /// The next hop does not answer.
    NoNeighbour(IpAddr),
    /// The next hop has not answered yet.
    Resolving(IpAddr),
    /// No SA to send with, or none to receive with.
    NoSa,
    /// The key exchange has not made SAs, or not yet.
    NoExchange,
    /// The peer may be anywhere and has not called.
    NoPeer,
}

impl Hindrance {
    /// A word for tables and JSON: stable.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::NoRoute => "no route",
            Self::WrongInterface(_) => "wrong interface",
            Self::InterfaceGone(_) => "interface gone",
            Self::LinkDown(_) => "link down",
            Self::NoNeighbour(_) => "no neighbour",
            Self::Resolving(_) => "resolving",
            Self::NoSa | Self::NoExchange => "no SA",
            Self::NoPeer => "no peer",
        }
    }
}

impl std::fmt::Display for Hindrance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoRoute => f.write_str(
                "the kernel has no route to the peer: check `ip route get` with its address",
            ),
            Self::WrongInterface(name) => write!(
                f,
                "the kernel's route to the peer leaves through {name}, which is no [[interface]] \
                 that faces outside: describe it there, or set `interface` and `next_hop`"
            ),
            Self::InterfaceGone(name) => {
                write!(
                    f,
                    "{name} does not exist; the tunnel goes on when it is back"
                )
            }
            Self::LinkDown(name) => write!(f, "{name} is down or has no carrier"),
            Self::NoNeighbour(address) => write!(
                f,
                "the next hop {address} does not answer ARP or neighbour discovery: is it up?"
            ),
            Self::Resolving(address) => write!(f, "waiting for {address} to answer"),
            Self::NoSa => f.write_str("no keys are installed"),
            Self::NoExchange => f.write_str("the key exchange has not made keys yet"),
            Self::NoPeer => f.write_str("waiting for the peer, which may call from anywhere"),
        }
    }
}
