//! Sides, addresses, MAC addresses and names of the lab's network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Which of the two sites or gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Left.
    A,
    /// Right.
    B,
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }

    /// `A` or `B`.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::A => 'A',
            Self::B => 'B',
        }
    }
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Most tunnels: what the outside addresses of [`outside_address`] allow.
pub const MAX_TUNNELS: u32 = 250 * 250;

/// The host in a site that sends and receives: on the site's network.
#[must_use]
pub fn host_address(side: Side, family: Family) -> IpAddr {
    inside(side, family, 0, 2)
}

/// A second address of the same host, which gateways reach through the first tunnel only.
#[must_use]
pub fn single_address(side: Side, family: Family) -> IpAddr {
    inside(side, family, 128, 2)
}

/// The gateway's address inside.
#[must_use]
pub fn gateway_address(side: Side, family: Family) -> IpAddr {
    inside(side, family, 0, 1)
}

pub(crate) fn inside(side: Side, family: Family, third: u8, last: u8) -> IpAddr {
    let n = side.number();
    match family {
        Family::V4 => Ipv4Addr::new(10, n, third, last).into(),
        Family::V6 => Ipv6Addr::new(
            0xfd00,
            n.into(),
            u16::from(third) << 8,
            0,
            0,
            0,
            0,
            last.into(),
        )
        .into(),
    }
}

/// The site's network, `10.<n>.0.0/16` or `fd00:<n>::/32`.
#[must_use]
pub fn site_network(side: Side, family: Family) -> String {
    match family {
        Family::V4 => format!("10.{}.0.0/16", side.number()),
        Family::V6 => format!("fd00:{}::/32", side.number()),
    }
}

/// The half of the site's network that [`single_address`] is in.
#[must_use]
pub fn single_network(side: Side, family: Family) -> String {
    match family {
        Family::V4 => format!("10.{}.128.0/17", side.number()),
        Family::V6 => format!("fd00:{}:8000::/33", side.number()),
    }
}

/// A gateway's outside address of a tunnel: 198.18.0.0/15 (RFC 2544's range for tests) or
/// 2001:db8::/32.
#[must_use]
pub fn outside_address(side: Side, family: Family, tunnel: u32) -> IpAddr {
    let n = side.number();
    match family {
        Family::V4 => {
            let [high, low] = [tunnel / 250, tunnel % 250];
            Ipv4Addr::new(198, 17 + n, high as u8, (low + 1) as u8).into()
        }
        Family::V6 => Ipv6Addr::new(
            0x2001,
            0xdb8,
            n.into(),
            0,
            0,
            0,
            (tunnel >> 16) as u16,
            tunnel as u16,
        )
        .into(),
    }
}

/// The MAC address of an interface: locally administered, "HW", then where it is.
const fn mac(kind: u8, side: Side) -> Mac {
    [0x02, 0x48, 0x57, 0, kind, side.number()]
}

/// The site's interface.
#[must_use]
pub const fn site_mac(side: Side) -> Mac {
    mac(1, side)
}

/// The gateway's inside interface.
#[must_use]
pub const fn inside_mac(side: Side) -> Mac {
    mac(2, side)
}

/// The gateway's outside interface.
#[must_use]
pub const fn outside_mac(side: Side) -> Mac {
    mac(3, side)
}

/// The outside network's port to a gateway.
#[must_use]
pub const fn port_mac(side: Side) -> Mac {
    mac(4, side)
}

/// `aa:bb:cc:dd:ee:ff`.
#[must_use]
pub fn mac_text(mac: Mac) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

/// The site's interface.
pub const SITE_INTERFACE: &str = "site0";
/// The gateway's inside interface.
pub const INSIDE_INTERFACE: &str = "in0";
/// The gateway's outside interface.
pub const OUTSIDE_INTERFACE: &str = "out0";
/// The outside network's port to a gateway.
#[must_use]
pub const fn outside_port(side: Side) -> &'static str {
    match side {
        Side::A => "porta",
        Side::B => "portb",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn outside_addresses_are_distinct() {
        for family in [Family::V4, Family::V6] {
            let mut seen = HashSet::new();
            for side in [Side::A, Side::B] {
                for tunnel in 0..MAX_TUNNELS {
                    assert!(
                        seen.insert(outside_address(side, family, tunnel)),
                        "{side:?} {tunnel}"
                    );
                }
            }
        }
    }

    #[test]
    fn macs_are_local_and_distinct() {
        let all: HashSet<Mac> = [Side::A, Side::B]
            .into_iter()
            .flat_map(|side| [site_mac(side), inside_mac(side), outside_mac(side)])
            .collect();
        assert_eq!(all.len(), 6);
        assert!(all.iter().all(|m| m[0] & 3 == 2));
        assert_eq!(mac_text(site_mac(Side::B)), "02:48:57:00:01:02");
    }
}
