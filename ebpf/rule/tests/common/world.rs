//! The tables of the tests: small lists, searched from end to end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hawser_steer::{Action, Port, Role, Tables};

pub(crate) const MAC: [u8; 6] = [0x02, 0x11, 0x22, 0x33, 0x44, 0x55];
/// The one tagged inside VLAN.
pub(crate) const VLAN: u16 = 100;

pub(crate) const LOCAL: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    // Within an inside prefix that is to be taken: being local must win.
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1)),
];

/// Address, length, action; nested on purpose.
pub(crate) const INSIDE: [(IpAddr, u8, Action); 9] = [
    (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8, Action::Take),
    (IpAddr::V4(Ipv4Addr::new(10, 2, 0, 0)), 16, Action::Pass),
    (IpAddr::V4(Ipv4Addr::new(10, 2, 3, 0)), 24, Action::Take),
    (IpAddr::V4(Ipv4Addr::new(10, 2, 3, 4)), 32, Action::Pass),
    // Would capture link-local and multicast destinations, were they not special.
    (IpAddr::V4(Ipv4Addr::new(128, 0, 0, 0)), 1, Action::Take),
    (
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0)),
        16,
        Action::Take,
    ),
    (
        IpAddr::V6(Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0)),
        32,
        Action::Pass,
    ),
    (
        IpAddr::V6(Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 7)),
        128,
        Action::Take,
    ),
    (
        IpAddr::V6(Ipv6Addr::new(0xf000, 0, 0, 0, 0, 0, 0, 0)),
        4,
        Action::Take,
    ),
];

/// Destinations worth trying: local, taken, excepted, unknown, special, at the edges.
pub(crate) const V4: [[u8; 4]; 22] = [
    [192, 0, 2, 1],
    [10, 1, 0, 1],
    [10, 9, 9, 9],
    [10, 0, 0, 0],
    [10, 255, 255, 255],
    [10, 2, 0, 9],
    [10, 2, 3, 9],
    [10, 2, 3, 4],
    [11, 0, 0, 1],
    [200, 1, 2, 3],
    [0, 0, 0, 0],
    [127, 0, 0, 1],
    [128, 0, 0, 1],
    [169, 254, 10, 1],
    [169, 253, 10, 1],
    [223, 255, 255, 255],
    [224, 0, 0, 1],
    [239, 1, 1, 1],
    [240, 0, 0, 1],
    [255, 255, 255, 254],
    [255, 255, 255, 255],
    [192, 0, 2, 2],
];

pub(crate) const V6: [[u16; 8]; 14] = [
    [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1],
    [0xfd00, 1, 0, 0, 0, 0, 0, 1],
    [0xfd00, 1, 0, 0, 0, 0, 0, 2],
    [0xfd00, 2, 0, 0, 0, 0, 0, 6],
    [0xfd00, 2, 0, 0, 0, 0, 0, 7],
    [0x2001, 0xdb8, 0, 0, 0, 0, 0, 2],
    [0, 0, 0, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 0, 0, 0, 2],
    [0xfe80, 0, 0, 0, 0, 0, 0, 1],
    [0xfebf, 0, 0, 0, 0, 0, 0, 1],
    [0xfec0, 0, 0, 0, 0, 0, 0, 1],
    [0xff02, 0, 0, 0, 0, 0, 0, 1],
    [0xfe00, 0, 0, 0, 0, 0, 0, 1],
];

/// A port with the tables above.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    pub role: Role,
}

impl World {
    pub(crate) const ROLES: [Role; 4] = [Role::Outside, Role::Inside, Role::Both, Role::Trunk];

    pub(crate) fn port(&self) -> Port {
        Port::new(self.role, 0, MAC)
    }

    pub(crate) fn is_outside(&self) -> bool {
        matches!(self.role, Role::Outside | Role::Both)
    }

    /// Whether inside traffic is ours that carries these VLAN numbers, outermost first.
    pub(crate) fn is_inside(&self, tags: &[u16]) -> bool {
        // Number 0 only carries a priority.
        let named: Vec<u16> = tags.iter().copied().filter(|number| *number != 0).collect();
        match named[..] {
            [] => matches!(self.role, Role::Inside | Role::Both),
            [VLAN] => true,
            _ => false,
        }
    }

    pub(crate) fn is_local(&self, address: IpAddr) -> bool {
        LOCAL.contains(&address)
    }

    /// The action of the longest prefix that holds the address.
    pub(crate) fn inside(&self, address: IpAddr) -> Option<Action> {
        INSIDE
            .iter()
            .filter(|(network, length, _)| holds(*network, *length, address))
            .max_by_key(|(_, length, _)| *length)
            .map(|(_, _, action)| *action)
    }
}

fn holds(network: IpAddr, length: u8, address: IpAddr) -> bool {
    let bits = |address: IpAddr| -> Vec<bool> {
        let octets = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        octets
            .iter()
            .flat_map(|o| (0..8).rev().map(move |i| o >> i & 1 == 1))
            .collect()
    };
    network.is_ipv4() == address.is_ipv4()
        && bits(network)[..usize::from(length)] == bits(address)[..usize::from(length)]
}

impl Tables for World {
    fn is_inside_vlan(&self, number: u16) -> bool {
        number == VLAN
    }

    fn is_local_v4(&self, address: u32) -> bool {
        self.is_local(Ipv4Addr::from_bits(address).into())
    }

    fn is_local_v6(&self, address: u128) -> bool {
        self.is_local(Ipv6Addr::from_bits(address).into())
    }

    fn inside_v4(&self, destination: u32) -> Option<Action> {
        self.inside(Ipv4Addr::from_bits(destination).into())
    }

    fn inside_v6(&self, destination: u128) -> Option<Action> {
        self.inside(Ipv6Addr::from_bits(destination).into())
    }
}
