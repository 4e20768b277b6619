//! The ports of a running data plane: numbers for interfaces.

use hawser_api::{PortId, Role, Setup};

/// The interfaces that the data plane was set up with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports(Vec<Port>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its number.
    pub id: PortId,
    /// Its name.
    pub name: String,
    /// Its index in the kernel when it was set up.
    pub ifindex: u32,
    /// Its MTU when it was set up: frames were sized for it.
    pub mtu: u32,
    /// Which side it faces.
    pub role: Role,
}

impl Ports {
    /// The ports of a set-up.
    #[must_use]
    pub fn of(setup: &Setup) -> Self {
        let ports = setup.ports.iter().zip(0..);
        Self(
            ports
                .map(|(port, id)| Port {
                    id: PortId(id),
                    name: port.interface.clone(),
                    ifindex: port.ifindex,
                    mtu: port.mtu,
                    role: port.role,
                })
                .collect(),
        )
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Port> {
        self.0.iter()
    }

    /// The port of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Port> {
        self.0.iter().find(|p| p.name == name)
    }

    /// The port of this index in the kernel.
    #[must_use]
    pub fn at(&self, ifindex: u32) -> Option<&Port> {
        self.0.iter().find(|p| p.ifindex == ifindex)
    }

    /// The port of this number.
    #[must_use]
    pub fn get(&self, id: PortId) -> Option<&Port> {
        self.0.get(id.index())
    }
}
