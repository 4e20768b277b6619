//! What must be true of an update before any of its transaction is applied.
//!
//! Control has checked the configuration already and says which line is wrong; this is the last
//! line of defence, so that nothing half-applied and nothing out of range reaches a worker.

use std::collections::{BTreeMap, HashSet};

use hawser_api::{
    Dscp, GroupId, InboundSa, Member, NextHop, PortId, Refusal, Selectors, Spi, TableId, Tunnel,
    TunnelId, Update, WorkerId,
};
use hawser_net::replay::{MAX_WINDOW, MIN_WINDOW};

use super::Model;
use crate::{
    checkpoint::{Checkpoint, SaKey},
    sa,
};

/// Numbers are indexes into dense tables, so that large ones would cost memory. Units: entries.
const MAX_TUNNELS: u32 = 100_000;
const MAX_GROUPS: u32 = 10_000;
const MAX_TABLES: u16 = 256;

/// The smallest outside MTU that leaves room for a packet inside (RFC 791).
const MIN_OUTSIDE_MTU: u16 = 576;

/// An update that can be applied without failing.
pub(super) enum Step {
    Update(Update),
    Outbound(Box<sa::OutboundSa>),
    /// With the worker that owns it, unless its tunnel has an owner already.
    Inbound(Box<sa::InboundSa>, WorkerId),
    /// An SA that runs already.
    Nothing,
}

/// What will exist once the updates before have been applied.
struct Future<'m> {
    model: &'m Model,
    tunnels: HashSet<TunnelId>,
    groups: HashSet<GroupId>,
    /// SPIs that this transaction has added (with their tunnel) or removed.
    spis: BTreeMap<Spi, Option<TunnelId>>,
    owners: BTreeMap<TunnelId, WorkerId>,
    pinned: BTreeMap<TunnelId, Option<WorkerId>>,
    placed: Vec<u32>,
}

/// Checks all updates and makes their SAs.
pub(super) fn prepare(
    model: &Model,
    updates: Vec<Update>,
    checkpoint: &Checkpoint,
) -> Result<Vec<Step>, Refusal> {
    let mut future = Future {
        model,
        tunnels: model.tunnels.keys().copied().collect(),
        groups: model.groups.keys().copied().collect(),
        spis: BTreeMap::new(),
        owners: BTreeMap::new(),
        pinned: BTreeMap::new(),
        placed: vec![0; usize::from(model.workers)],
    };
    updates
        .into_iter()
        .map(|update| future.prepare(update, checkpoint))
        .collect()
}

fn refuse<T>(what: impl Into<String>, remedy: &str) -> Result<T, Refusal> {
    Err(Refusal {
        what: what.into(),
        remedy: remedy.into(),
    })
}

impl Future<'_> {
    fn prepare(&mut self, update: Update, checkpoint: &Checkpoint) -> Result<Step, Refusal> {
        match &update {
            Update::PutAttachment(attachment) => {
                self.known_port(attachment.port)?;
                self.table(attachment.table)?;
                if attachment
                    .vlan
                    .is_some_and(|vlan| !(1..=4094).contains(&vlan))
                {
                    return refuse("VLAN out of range", "use 1 to 4094");
                }
            }
            Update::PutTunnel(tunnel) => {
                self.check_tunnel(tunnel)?;
                self.tunnels.insert(tunnel.id);
                self.pinned.insert(tunnel.id, tunnel.owner);
            }
            Update::RemoveTunnel(id) => {
                self.tunnels.remove(id);
                for sa in self.model.inbound.values().filter(|sa| sa.tunnel == *id) {
                    self.spis.insert(sa.spi, None);
                }
            }
            Update::ReplaceAll
            | Update::KeepSas(_)
            | Update::RemoveAttachment { .. }
            | Update::RemoveOutboundSa(_)
            | Update::RemoveGroup(_)
            | Update::RemoveRoutes { .. }
            | Update::RemoveNeighbours(_) => {}
            Update::RemoveInboundSa(spi) => {
                self.spis.insert(*spi, None);
            }
            Update::PutOutboundSa(config) => return self.outbound(config, checkpoint),
            Update::PutInboundSa(config) => return self.inbound(config, checkpoint),
            Update::PutGroup { id, members } => {
                self.check_group(*id, members)?;
                self.groups.insert(*id);
            }
            Update::PutRoutes { table, routes } => {
                self.table(*table)?;
                for route in routes {
                    if route.prefix != route.prefix.trunc() {
                        return refuse(
                            format!("route {} has host bits set", route.prefix),
                            &format!("write {}", route.prefix.trunc()),
                        );
                    }
                    self.hop(route.next_hop)?;
                }
            }
            Update::PutNeighbours(neighbours) => {
                for neighbour in neighbours {
                    self.known_port(neighbour.port)?;
                }
            }
            Update::PutPortAddresses(port, _) => self.known_port(*port)?,
        }
        Ok(Step::Update(update))
    }

    fn check_tunnel(&self, tunnel: &Tunnel) -> Result<(), Refusal> {
        let name = &tunnel.name;
        if tunnel.id.0 >= MAX_TUNNELS {
            return refuse(
                format!("tunnel number {} is too large", tunnel.id),
                "number tunnels from 0, at most 100,000",
            );
        }
        let Some(port) = self.model.port(tunnel.port) else {
            return refuse(
                format!("tunnel {name}: no port {}", tunnel.port),
                "set the port up",
            );
        };
        if !port.outside {
            return refuse(
                format!("tunnel {name}: port {} does not face outside", tunnel.port),
                "give the interface the role \"outside\" or \"both\"",
            );
        }
        if tunnel.local.is_ipv4() != tunnel.remote.is_ipv4() {
            return refuse(
                format!(
                    "tunnel {name}: {} and {} are of different families",
                    tunnel.local, tunnel.remote
                ),
                "use two IPv4 or two IPv6 addresses",
            );
        }
        if tunnel.outside_mtu < MIN_OUTSIDE_MTU {
            return refuse(
                format!(
                    "tunnel {name}: outside MTU of {} is too small",
                    tunnel.outside_mtu
                ),
                "use at least 576",
            );
        }
        if matches!(tunnel.dscp, Dscp::Fixed(64..)) {
            return refuse(format!("tunnel {name}: DSCP out of range"), "use 0 to 63");
        }
        if tunnel
            .owner
            .is_some_and(|owner| owner.0 >= self.model.workers)
        {
            return refuse(
                format!("tunnel {name}: there is no such worker"),
                &format!("use 0 to {}", self.model.workers - 1),
            );
        }
        self.table(tunnel.table)
    }

    fn outbound(
        &self,
        config: &hawser_api::OutboundSa,
        checkpoint: &Checkpoint,
    ) -> Result<Step, Refusal> {
        self.sa(config.tunnel, config.spi, &config.selectors)?;
        if self
            .model
            .outbound
            .get(&config.tunnel)
            .is_some_and(|sa| sa.is(config))
        {
            return Ok(Step::Nothing);
        }
        // What the file says may have been used up to and including that number.
        let key = SaKey::outbound(config);
        let first = checkpoint
            .get(&key)
            .map_or(1, |used| used.saturating_add(1));
        match sa::OutboundSa::new(config, first) {
            Ok(sa) => Ok(Step::Outbound(Box::new(sa))),
            Err(error) => bad_key(config.tunnel, config.spi, &error),
        }
    }

    fn inbound(&mut self, config: &InboundSa, checkpoint: &Checkpoint) -> Result<Step, Refusal> {
        self.sa(config.tunnel, config.spi, &config.selectors)?;
        let existing = self.model.inbound.get(&config.spi);
        let holder = match self.spis.get(&config.spi) {
            Some(change) => *change,
            None => existing.map(|sa| sa.tunnel),
        };
        if holder.is_some_and(|tunnel| tunnel != config.tunnel) {
            return refuse(
                format!("inbound SPI {} is used by two tunnels", config.spi),
                "give every inbound SA its own SPI",
            );
        }
        if !(MIN_WINDOW..=MAX_WINDOW).contains(&config.replay_window) {
            return refuse(
                format!(
                    "SPI {}: replay window of {}",
                    config.spi, config.replay_window
                ),
                "use 64 to 4096 packets",
            );
        }
        let kept = !self.spis.contains_key(&config.spi);
        self.spis.insert(config.spi, Some(config.tunnel));
        if kept && existing.is_some_and(|sa| sa.is(config)) {
            return Ok(Step::Nothing);
        }
        let owner = self.owner(config.tunnel);
        let seen = checkpoint.get(&SaKey::inbound(config)).unwrap_or(0);
        match sa::InboundSa::new(config, seen) {
            Ok(sa) => Ok(Step::Inbound(Box::new(sa), owner)),
            Err(error) => bad_key(config.tunnel, config.spi, &error),
        }
    }

    /// All SAs of a tunnel have one owner, so that a rekey moves no flow to another core. One that
    /// has an owner keeps it, whatever its pin says now: a window changes hands with more care than
    /// a transaction takes (see `balance`).
    fn owner(&mut self, tunnel: TunnelId) -> WorkerId {
        let pinned = match self.pinned.get(&tunnel) {
            Some(pin) => *pin,
            None => self.model.tunnels.get(&tunnel).and_then(|t| t.owner),
        };
        let owner = self
            .owners
            .get(&tunnel)
            .copied()
            .or_else(|| self.model.owner_of(tunnel))
            .or(pinned)
            .unwrap_or_else(|| {
                let lightest = self.model.lightest_worker(&self.placed);
                if let Some(n) = self.placed.get_mut(lightest.index()) {
                    *n += 1;
                }
                lightest
            });
        self.owners.insert(tunnel, owner);
        owner
    }

    fn sa(&self, tunnel: TunnelId, spi: Spi, selectors: &Selectors) -> Result<(), Refusal> {
        if !self.tunnels.contains(&tunnel) {
            return refuse(
                format!("SA {spi}: there is no tunnel {tunnel}"),
                "put the tunnel first",
            );
        }
        if spi.0 < Spi::FIRST_USABLE {
            return refuse(format!("SPI {spi} is reserved"), "use 0x100 or more");
        }
        let sides = selectors.local.iter().chain(&selectors.remote);
        if sides
            .into_iter()
            .any(|selector| sa::selector(selector).is_none())
        {
            return refuse(
                format!("SA {spi}: a traffic selector is reversed or mixes families"),
                "write first and last address of one family, first not above last",
            );
        }
        Ok(())
    }

    fn check_group(&self, id: GroupId, members: &[Member]) -> Result<(), Refusal> {
        if id.0 >= MAX_GROUPS {
            return refuse(
                format!("group number {id} is too large"),
                "number groups from 0",
            );
        }
        let mut seen = HashSet::new();
        for member in members {
            if !self.tunnels.contains(&member.tunnel) {
                return refuse(
                    format!("group {id}: there is no tunnel {}", member.tunnel),
                    "put the tunnel first",
                );
            }
            if !seen.insert(member.tunnel) {
                return refuse(
                    format!("group {id}: tunnel {} is a member twice", member.tunnel),
                    "give it a larger weight instead",
                );
            }
        }
        Ok(())
    }

    fn hop(&self, hop: NextHop) -> Result<(), Refusal> {
        match hop {
            NextHop::Group(id) if !self.groups.contains(&id) => refuse(
                format!("a route leads to group {id}, which is not there"),
                "put it first",
            ),
            NextHop::Tunnel(id) if !self.tunnels.contains(&id) => refuse(
                format!("a route leads to tunnel {id}, which is not there"),
                "put it first",
            ),
            NextHop::Inside { port, .. } => self.known_port(port),
            _ => Ok(()),
        }
    }

    fn known_port(&self, port: PortId) -> Result<(), Refusal> {
        match self.model.port(port) {
            Some(_) => Ok(()),
            None => refuse(format!("there is no port {port}"), "set the port up"),
        }
    }

    fn table(&self, table: TableId) -> Result<(), Refusal> {
        if table.0 < MAX_TABLES {
            return Ok(());
        }
        refuse(
            format!("route table number {table} is too large"),
            "number route tables from 0",
        )
    }
}

fn bad_key<T>(tunnel: TunnelId, spi: Spi, error: &impl std::fmt::Display) -> Result<T, Refusal> {
    refuse(
        format!("tunnel {tunnel}, SPI {spi}: {error}"),
        "give key material of the suite's length: cipher key, salt, integrity key",
    )
}
