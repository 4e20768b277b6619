//! Neighbours: whose Ethernet addresses the data plane needs, and what they are.

use std::collections::{BTreeMap, HashSet};

use hawser_api::{Tunnel, TunnelId};

use super::{Inputs, NeighbourKey};
use crate::config::Via;

impl Inputs<'_> {
    /// The neighbours that the data plane needs, with the kernel's interface of each.
    #[must_use]
    pub fn needed_neighbours(
        &self,
        tunnels: &BTreeMap<TunnelId, Tunnel>,
    ) -> BTreeMap<NeighbourKey, u32> {
        let mut needed = BTreeMap::new();
        let fixed: HashSet<&str> = self
            .config
            .tunnels
            .iter()
            .filter(|t| t.interface.is_some())
            .map(|t| t.name.as_str())
            .collect();
        for tunnel in tunnels.values() {
            // Without a route to the peer nobody on the link need know it.
            let known = fixed.contains(tunnel.name.as_str())
                || self.paths.contains_key(&(tunnel.remote, tunnel.local));
            if let Some(port) = self.ports.get(tunnel.port).filter(|_| known) {
                needed.insert((port.id, None, tunnel.next_hop), port.ifindex);
            }
        }
        let gateways = self
            .config
            .routes
            .iter()
            .filter_map(|route| match &route.via {
                Via::Inside {
                    interface,
                    vlan,
                    gateway: Some(gateway),
                } => Some((interface, *vlan, *gateway)),
                _ => None,
            });
        let wanted = self
            .wanted
            .keys()
            .map(|(name, vlan, address)| (name, *vlan, *address));
        for (name, vlan, address) in gateways.chain(wanted) {
            if let Some(port) = self.ports.named(name)
                && let Some(ifindex) = self.kernel_interface(port, vlan)
            {
                needed.insert((port.id, vlan, address), ifindex);
            }
        }
        needed
    }

    pub(super) fn neighbours(
        &self,
        tunnels: &BTreeMap<TunnelId, Tunnel>,
    ) -> BTreeMap<NeighbourKey, [u8; 6]> {
        let mut neighbours: BTreeMap<NeighbourKey, [u8; 6]> = self
            .needed_neighbours(tunnels)
            .into_iter()
            .filter_map(|(key, ifindex)| {
                let entry = self.mirror.neighbours.get(&(ifindex, key.2))?;
                Some((key, entry.usable()?))
            })
            .collect();
        for by_hand in &self.config.neighbours {
            if let Some(port) = self.ports.named(&by_hand.interface) {
                neighbours.insert((port.id, by_hand.vlan, by_hand.address), by_hand.mac);
            }
        }
        neighbours
    }
}
