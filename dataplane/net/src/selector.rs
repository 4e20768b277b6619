//! Traffic selectors: which packets an SA may carry (RFC 4301 4.4.1.1, RFC 7296 3.13.1).
//!
//! A set has selectors for the local and for the remote side; a packet matches if some local one
//! holds its local end and some remote one its remote end. Checked outbound before encryption and
//! inbound after decryption (RFC 4301 5.2 step 4).
//!
//! Most tunnels are 0.0.0.0/0 and ::/0 on both sides: that is found out once, when the set is made,
//! and costs one load per packet.

use std::net::IpAddr;

use thiserror::Error;

use crate::parse::{Family, IpHeader, L4};
use crate::prefix::{Prefix, Prefix4, Prefix6};

/// The ports a selector allows; for ICMP, type in the high and code in the low byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Ports {
    /// All, and packets without ports.
    #[default]
    Any,
    /// Only packets whose ports cannot be seen, such as later fragments.
    Opaque,
    /// From the first to the last, both included.
    Range(u16, u16),
}

impl Ports {
    /// From the start and end port of a traffic selector substructure (RFC 7296 3.13.1): 0-65535
    /// is any, 65535-0 opaque. None for any other reversed range.
    #[must_use]
    pub const fn from_ike(start: u16, end: u16) -> Option<Self> {
        match (start, end) {
            (0, 0xffff) => Some(Self::Any),
            (0xffff, 0) => Some(Self::Opaque),
            _ if start <= end => Some(Self::Range(start, end)),
            _ => None,
        }
    }

    const fn holds(self, port: Option<u16>) -> bool {
        match (self, port) {
            (Self::Any, _) | (Self::Opaque, None) => true,
            (Self::Range(first, last), Some(port)) => first <= port && port <= last,
            (Self::Opaque, Some(_)) | (Self::Range(..), None) => false,
        }
    }
}

/// Why a traffic selector was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SelectorError {
    /// First and last address are of different families, or in the wrong order.
    #[error("{0} to {1} is not a range of addresses")]
    Addresses(IpAddr, IpAddr),
    /// The ports are in the wrong order.
    #[error("{0} to {1} is not a range of ports")]
    Ports(u16, u16),
}

/// One traffic selector: one side of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrafficSelector {
    /// Address family.
    pub family: Family,
    /// Lowest address; IPv4 in the low 32 bits, host byte order.
    pub first: u128,
    /// Highest address.
    pub last: u128,
    /// IP protocol; none for all.
    pub protocol: Option<u8>,
    /// Ports of this side.
    pub ports: Ports,
}

impl TrafficSelector {
    /// A selector in the form that IKE sends it: first and last address, protocol (0 for all), start
    /// and end port (see [`Ports::from_ike`]).
    ///
    /// # Errors
    /// See [`SelectorError`].
    pub fn from_ike(
        (first, last): (IpAddr, IpAddr),
        protocol: u8,
        (start, end): (u16, u16),
    ) -> Result<Self, SelectorError> {
        let (family, low, high) = match (first, last) {
            (IpAddr::V4(low), IpAddr::V4(high)) => (
                Family::V4,
                u128::from(low.to_bits()),
                u128::from(high.to_bits()),
            ),
            (IpAddr::V6(low), IpAddr::V6(high)) => (Family::V6, low.to_bits(), high.to_bits()),
            _ => return Err(SelectorError::Addresses(first, last)),
        };
        if low > high {
            return Err(SelectorError::Addresses(first, last));
        }
        let ports = Ports::from_ike(start, end).ok_or(SelectorError::Ports(start, end))?;
        let protocol = (protocol != 0).then_some(protocol);
        Ok(Self {
            family,
            first: low,
            last: high,
            protocol,
            ports,
        })
    }

    /// All protocols and ports of the addresses in `prefix`.
    #[must_use]
    pub const fn prefix(prefix: Prefix) -> Self {
        let (family, first, last) = match prefix {
            Prefix::V4(prefix) => (
                Family::V4,
                prefix.bits() as u128,
                prefix.last().to_bits() as u128,
            ),
            Prefix::V6(prefix) => (Family::V6, prefix.bits(), prefix.last().to_bits()),
        };
        Self {
            family,
            first,
            last,
            protocol: None,
            ports: Ports::Any,
        }
    }

    const fn is_any(&self, family: Family) -> bool {
        let top = match family {
            Family::V4 => u32::MAX as u128,
            Family::V6 => u128::MAX,
        };
        self.first == 0
            && self.last == top
            && self.protocol.is_none()
            && matches!(self.ports, Ports::Any)
            && self.family as u8 == family as u8
    }

    fn holds(&self, family: Family, addr: u128, protocol: u8, port: Option<u16>) -> bool {
        self.family == family
            && self.first <= addr
            && addr <= self.last
            && self.protocol.is_none_or(|allowed| allowed == protocol)
            && self.ports.holds(port)
    }
}

/// The selectors of an SA pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorSet {
    local: Box<[TrafficSelector]>,
    remote: Box<[TrafficSelector]>,
    /// Whether all IPv4, and all IPv6, traffic matches.
    any: [bool; 2],
}

impl SelectorSet {
    /// A set of `local` and `remote` selectors. A side without any is unrestricted.
    #[must_use]
    pub fn new(local: &[TrafficSelector], remote: &[TrafficSelector]) -> Self {
        let all = [
            TrafficSelector::prefix(Prefix::V4(Prefix4::DEFAULT)),
            TrafficSelector::prefix(Prefix::V6(Prefix6::DEFAULT)),
        ];
        let local = if local.is_empty() { &all } else { local };
        let remote = if remote.is_empty() { &all } else { remote };
        let any = [Family::V4, Family::V6].map(|family| {
            [local, remote]
                .iter()
                .all(|side| side.iter().any(|ts| ts.is_any(family)))
        });
        Self {
            local: local.into(),
            remote: remote.into(),
            any,
        }
    }

    /// Everything between everybody, both families.
    #[must_use]
    pub fn any() -> Self {
        Self::new(&[], &[])
    }

    /// The local side.
    #[must_use]
    pub fn local(&self) -> &[TrafficSelector] {
        &self.local
    }

    /// The remote side.
    #[must_use]
    pub fn remote(&self) -> &[TrafficSelector] {
        &self.remote
    }

    /// Whether all packets of a family may pass, both ways.
    #[must_use]
    #[inline]
    pub const fn is_open(&self, family: Family) -> bool {
        self.any[family as usize]
    }

    /// Whether a packet may go out: its source is local.
    #[must_use]
    #[inline]
    pub fn allows_outbound(&self, ip: &IpHeader) -> bool {
        self.is_open(ip.family) || self.search(ip, &self.local, &self.remote)
    }

    /// Whether a decrypted packet may come in: its source is remote.
    #[must_use]
    #[inline]
    pub fn allows_inbound(&self, ip: &IpHeader) -> bool {
        self.is_open(ip.family) || self.search(ip, &self.remote, &self.local)
    }

    fn search(&self, ip: &IpHeader, from: &[TrafficSelector], to: &[TrafficSelector]) -> bool {
        let (source, target) = match ip.l4 {
            L4::Ports => (Some((ip.l4_word >> 16) as u16), Some(ip.l4_word as u16)),
            // Type and code are one number, the same for both sides (RFC 7296 3.13.1).
            L4::Icmp => (Some(ip.l4_word as u16), Some(ip.l4_word as u16)),
            L4::Spi | L4::None => (None, None),
        };
        from.iter()
            .any(|ts| ts.holds(ip.family, ip.src, ip.protocol, source))
            && to
                .iter()
                .any(|ts| ts.holds(ip.family, ip.dst, ip.protocol, target))
    }
}

#[cfg(test)]
mod tests;
