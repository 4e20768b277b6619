//! From what should be to what is: paths, tables, one transaction, neighbours.

use std::{collections::HashSet, net::IpAddr, time::Duration};

use hawser_api::PortId;
use tokio::time::Instant;

use super::{Area, Daemon};
use crate::{
    desired::{Desired, Hindrance, Inputs, NeighbourKey, PeerPath},
    diff,
    netlink::{Changes, Reach},
};

/// The kernel is not asked more often for one neighbour.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A silent host is asked for this long after a packet wanted it. The data plane says every
/// second that packets still do.
const WANTED: Duration = Duration::from_secs(5);

impl Daemon {
    pub(super) async fn kernel_changed(&mut self, changes: Changes) {
        if changes.links {
            self.interfaces_changed().await;
        }
        if changes.any() {
            self.converge_soon(changes);
        }
    }

    /// Looks up how packets to each peer leave.
    pub(super) async fn look_up_paths(&mut self) {
        self.paths.clear();
        self.look_up_new_paths().await;
    }

    /// The same for peers that are new, or are elsewhere than before.
    pub(super) async fn look_up_new_paths(&mut self) {
        let mut wanted = HashSet::new();
        for tunnel in self.config.tunnels.iter().filter(|t| t.interface.is_none()) {
            let id = self.ids.tunnel(&tunnel.name);
            let peer = PeerPath::of(tunnel, id.and_then(|id| self.peers.get(&id)));
            if !peer.remote.is_unspecified() {
                wanted.insert((peer.remote, peer.local));
            }
        }
        self.paths.retain(|key, _| wanted.contains(key));
        for key in wanted {
            if !self.paths.contains_key(&key)
                && let Some(path) = self.kernel.path_to(key.0, key.1).await
            {
                self.paths.insert(key, path);
            }
        }
    }

    /// Brings the data plane's tables to what they should be.
    pub(super) async fn converge(&mut self) {
        self.converge_at = None;
        let dirty = std::mem::take(&mut self.dirty);
        if dirty.routes {
            self.look_up_paths().await;
        }
        if dirty.addresses || dirty.routes {
            self.follow_addresses().await;
        }
        if self.dataplane.is_none() {
            return;
        }
        // Routes follow from the configuration, from links and from addresses only.
        let same_routes = !(dirty.links || dirty.addresses);
        if let Err(error) = self.install(same_routes).await {
            if error.is_refusal() {
                let old = if self.installed.is_some() {
                    "the old ones go on"
                } else {
                    "there are none: no packet is forwarded"
                };
                // Once, and not with every attempt.
                let problem = format!("the tables are refused ({old}): {error}");
                if self.problems.insert(Area::Tables, problem.clone()) != Some(problem.clone()) {
                    tracing::error!("{problem}");
                }
                self.try_again();
            } else {
                self.dirty = Changes::ALL;
                self.dataplane_lost_later(&error);
            }
        }
        self.look_after_neighbours().await;
    }

    /// The loop sees the closed connection by itself, and acts on it.
    fn dataplane_lost_later(&mut self, error: &crate::dataplane_link::LinkError) {
        tracing::warn!(%error, "the tables could not be installed");
        self.installed = None;
    }

    /// Computes the tables and sends the difference.
    pub(super) async fn install(
        &mut self,
        same_routes: bool,
    ) -> Result<(), crate::dataplane_link::LinkError> {
        let (desired, mut hindrances) = {
            let Some(inputs) = self.inputs() else {
                return Ok(());
            };
            inputs.tables(self.installed.as_ref(), same_routes)
        };
        for (id, hindrance) in &mut hindrances {
            // A silent next hop that is asked once more is still silent.
            if let (Hindrance::Resolving(now), Some(Hindrance::NoNeighbour(before))) =
                (&hindrance, self.hindrances.get(id))
                && now == before
            {
                *hindrance = Hindrance::NoNeighbour(*before);
            }
        }
        self.tell_hindrances(&hindrances);
        self.hindrances = hindrances;
        let updates = match &self.installed {
            Some(installed) => diff::diff(installed, &desired),
            None => diff::install(&desired),
        };
        if updates.is_empty() {
            self.in_force(desired);
            return Ok(());
        }
        // Written before the numbers are used: whoever takes over must know them.
        if self.installed.is_none() {
            self.save_ids();
        }
        let Some(dataplane) = &mut self.dataplane else {
            return Ok(());
        };
        let begun = Instant::now();
        let count = updates.len();
        dataplane.link.apply(updates).await?;
        tracing::debug!(
            updates = count,
            micros = begun.elapsed().as_micros() as u64,
            "tables installed"
        );
        self.in_force(desired);
        Ok(())
    }

    fn in_force(&mut self, desired: Desired) {
        self.installed = Some(desired);
        self.refusals = 0;
        self.problems.remove(&Area::Tables);
    }

    pub(super) fn inputs(&self) -> Option<Inputs<'_>> {
        Some(Inputs {
            config: &self.config,
            ids: &self.ids,
            sas: &self.sas,
            peers: &self.peers,
            kept: &self.kept,
            ports: &self.dataplane.as_ref()?.ports,
            mirror: self.kernel.mirror(),
            paths: &self.paths,
            wanted: &self.wanted,
        })
    }

    pub(super) fn save_ids(&self) {
        let path = super::ids_path(&self.config);
        if let Err(error) = self.ids.save(&path) {
            tracing::warn!(path = %path.display(), %error, "tunnel numbers cannot be kept");
        }
    }

    /// Says once what newly hinders a tunnel, and what no longer does.
    fn tell_hindrances(&self, now: &std::collections::BTreeMap<hawser_api::TunnelId, Hindrance>) {
        /// With more changes at once only their number is logged.
        const SINGLY: usize = 16;
        let before = &self.hindrances;
        let ids = before
            .keys()
            .chain(now.keys().filter(|id| !before.contains_key(id)));
        let changed: Vec<_> = ids.filter(|id| before.get(id) != now.get(id)).collect();
        if changed.len() > SINGLY {
            tracing::info!(
                changed = changed.len(),
                hindered = now.len(),
                "tunnels changed their state"
            );
            return;
        }
        for id in changed {
            let tunnel = self.tunnel_name(*id);
            match now.get(id) {
                // That is how every tunnel starts.
                Some(Hindrance::Resolving(address)) => {
                    tracing::info!(tunnel, %address, "waiting for the next hop to answer");
                }
                Some(hindrance) => tracing::warn!(tunnel, "cannot send: {hindrance}"),
                None => tracing::info!(tunnel, "can send"),
            }
        }
    }

    /// A packet waits for a neighbour.
    pub(super) async fn neighbour_needed(
        &mut self,
        port: PortId,
        vlan: Option<u16>,
        address: IpAddr,
    ) {
        let name = self.port_name(port);
        tracing::debug!(%address, ?vlan, interface = name, "packets want a neighbour");
        if self
            .wanted
            .insert((name, vlan, address), Instant::now())
            .is_none()
        {
            self.converge_soon(Changes {
                neighbours: true,
                ..Changes::default()
            });
        }
        let Some(ifindex) = self.needed().get(&(port, vlan, address)).copied() else {
            tracing::debug!(%address, ?vlan, "no kernel interface to resolve a neighbour on");
            return;
        };
        self.ask_for(ifindex, address).await;
    }

    fn needed(&self) -> std::collections::BTreeMap<NeighbourKey, u32> {
        let tunnels = self.installed.as_ref().map(|d: &Desired| &d.tunnels);
        match (self.inputs(), tunnels) {
            (Some(inputs), Some(tunnels)) => inputs.needed_neighbours(tunnels),
            _ => Default::default(),
        }
    }

    async fn ask_for(&mut self, ifindex: u32, address: IpAddr) {
        let now = Instant::now();
        let last = self.asked.insert((ifindex, address), now);
        if last.is_some_and(|last| now - last < ASK_AGAIN) {
            self.asked
                .extend(last.map(|last| ((ifindex, address), last)));
            return;
        }
        tracing::debug!(%address, ifindex, "asking the kernel for a neighbour");
        self.kernel.resolve(ifindex, address).await;
    }

    /// Has the kernel resolve what is missing and confirm what goes stale: it does not see the
    /// traffic that uses its neighbours. Hosts that do not answer are forgotten until a packet
    /// wants them again; next hops are asked for as long as a tunnel needs them.
    pub(super) async fn look_after_neighbours(&mut self) {
        let mut ask = Vec::new();
        let mut forget = Vec::new();
        for ((port, vlan, address), ifindex) in self.needed() {
            let entry = self.kernel.mirror().neighbours.get(&(ifindex, address));
            let name = self.port_name(port);
            let key = (name, vlan, address);
            match entry.map(|e| e.reach) {
                Some(Reach::Good | Reach::Incomplete) => {}
                Some(Reach::Stale) | None => ask.push((ifindex, address)),
                Some(Reach::Failed) => {
                    let wanted = self.wanted.get(&key);
                    if wanted.is_some_and(|at| at.elapsed() > WANTED) {
                        forget.push(key);
                    } else {
                        ask.push((ifindex, address));
                    }
                }
            }
        }
        for key in forget {
            tracing::debug!(interface = key.0, vlan = ?key.1, address = %key.2, "does not answer");
            self.wanted.remove(&key);
        }
        for (ifindex, address) in ask {
            self.ask_for(ifindex, address).await;
        }
        let now = Instant::now();
        self.asked.retain(|_, at| now - *at < ASK_AGAIN);
    }
}
