//! The manager's own copy of the tables, changed by transaction.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use hawser_api::{
    Attachment, GroupId, Member, NextHop, PortId, Refusal, Role, Route, Setup, Spi, TableId,
    Tunnel, TunnelId, Update, WorkerId,
};
use hawser_ebpf::Entries;
use hawser_net::{
    ecmp::{Group, MemberId},
    lpm::Lpm,
};
use ipnet::IpNet;

use super::{
    Neighbours, Port, Tables, UNTAGGED, compile, replace,
    steering::{InsidePrefixes, Steering, Touched},
    validate,
};
use crate::{
    checkpoint::Checkpoint,
    sa::{InboundSa, OutboundSa},
};

/// A route table with its compiled form.
#[derive(Clone, Default)]
pub(super) struct RouteTable {
    /// Index into [`Model::hops`] by destination. Shared with the model before a transaction, so
    /// that a transaction which changes no route copies none.
    pub(super) routes: Arc<HashMap<IpNet, u32, foldhash::fast::RandomState>>,
    pub(super) compiled: Option<Arc<Lpm>>,
}

/// A group as configured, and its buckets.
#[derive(Clone)]
pub(super) struct GroupState {
    pub(super) members: Vec<Member>,
    /// None until the group has been given buckets.
    pub(super) buckets: Option<Arc<Group>>,
}

/// Who owns the replay windows of a tunnel.
#[derive(Clone, Copy)]
struct Owner {
    worker: WorkerId,
    /// How many inbound SAs there are.
    sas: u32,
}

/// The manager's copy of all tables.
#[derive(Clone)]
pub struct Model {
    pub(super) ports: Vec<Port>,
    pub(super) workers: u16,
    pub(super) tunnels: BTreeMap<TunnelId, Tunnel>,
    pub(super) outbound: HashMap<TunnelId, Arc<OutboundSa>>,
    pub(super) inbound: BTreeMap<Spi, Arc<InboundSa>>,
    pub(super) groups: BTreeMap<GroupId, GroupState>,
    pub(super) tables: BTreeMap<TableId, RouteTable>,
    pub(super) hops: Vec<NextHop>,
    hop_index: HashMap<NextHop, u32>,
    pub(super) neighbours: Arc<Neighbours>,
    /// Tunnels that have inbound SAs.
    owners: BTreeMap<TunnelId, Owner>,
    free_slots: Vec<u32>,
    slots: u32,
    next_generation: u64,
    commits: u64,
    /// Our outside addresses, sorted.
    locals: Vec<IpAddr>,
    inside: Arc<InsidePrefixes>,
}

impl Model {
    /// An empty model of a data plane with these ports and workers.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        let ports = setup
            .ports
            .iter()
            .map(|port| Port {
                mac: port.mac,
                mtu: port.mtu,
                outside: matches!(port.role, Role::Outside | Role::Both),
                inside: matches!(port.role, Role::Inside | Role::Both),
                untagged: None,
                vlans: Vec::new(),
                address_v4: None,
                address_v6: None,
            })
            .collect();
        Self {
            ports,
            workers: setup.workers.len().try_into().unwrap_or(u16::MAX),
            tunnels: BTreeMap::new(),
            outbound: HashMap::new(),
            inbound: BTreeMap::new(),
            groups: BTreeMap::new(),
            tables: BTreeMap::from([(TableId::MAIN, RouteTable::default())]),
            hops: Vec::new(),
            hop_index: HashMap::new(),
            neighbours: Arc::default(),
            owners: BTreeMap::new(),
            free_slots: Vec::new(),
            slots: 0,
            next_generation: 0,
            commits: 0,
            locals: Vec::new(),
            inside: Arc::default(),
        }
    }

    /// Commits so far.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.commits
    }

    /// The outbound SAs, for extending their leases.
    pub fn outbound(&self) -> impl Iterator<Item = &Arc<OutboundSa>> {
        self.outbound.values()
    }

    /// The outbound SA of a tunnel.
    #[must_use]
    pub fn outbound_of(&self, tunnel: TunnelId) -> Option<&Arc<OutboundSa>> {
        self.outbound.get(&tunnel)
    }

    /// Largest inner packet of a tunnel without fragmentation, in bytes; 0 without an outbound SA.
    #[must_use]
    pub fn inside_mtu(&self, tunnel: TunnelId) -> u16 {
        compile::tunnel(self, tunnel).map_or(0, |tunnel| tunnel.inside_mtu)
    }

    /// The inbound SAs.
    pub fn inbound(&self) -> impl Iterator<Item = &Arc<InboundSa>> {
        self.inbound.values()
    }

    /// The tunnels.
    pub fn tunnels(&self) -> &BTreeMap<TunnelId, Tunnel> {
        &self.tunnels
    }

    /// The model after all updates, and what else must be told about them. This one stays as it is,
    /// so that whoever cannot carry the change out has something to go back to.
    ///
    /// # Errors
    /// The first update that cannot be, with the remedy.
    pub fn after(
        &self,
        updates: Vec<Update>,
        checkpoint: &Checkpoint,
    ) -> Result<(Self, Touched), Refusal> {
        let updates = replace::expand(self, updates);
        let prepared = validate::prepare(self, updates, checkpoint)?;
        let mut next = self.clone();
        let mut touched = Touched::default();
        for step in prepared {
            next.apply(step, &mut touched);
        }
        next.refresh_groups();
        next.locals = next.local_addresses();
        touched.locals = next.locals != self.locals;
        touched
            .prefixes
            .retain(|prefix| self.word(prefix) != next.word(prefix));
        next.commits += 1;
        Ok((next, touched))
    }

    /// Applies all updates or none, where nobody else must be told.
    ///
    /// # Errors
    /// The first update that cannot be, with the remedy; the model is then unchanged.
    pub fn commit(&mut self, updates: Vec<Update>, checkpoint: &Checkpoint) -> Result<(), Refusal> {
        (*self, _) = self.after(updates, checkpoint)?;
        Ok(())
    }

    /// The snapshot for the workers.
    pub fn compile(&mut self) -> Tables {
        for table in self.tables.values_mut() {
            if table.compiled.is_none() {
                table.compiled = Some(Arc::new(compile::routes(&table.routes)));
            }
        }
        compile::tables(self, self.commits, self.slots)
    }

    fn apply(&mut self, step: validate::Step, touched: &mut Touched) {
        use validate::Step;
        match step {
            Step::Update(update) => self.apply_update(update, touched),
            Step::Outbound(sa) => {
                self.outbound.insert(sa.tunnel, Arc::from(sa));
            }
            Step::Inbound(sa, owner) => self.put_inbound(sa, owner),
            Step::Nothing => {}
        }
    }

    fn apply_update(&mut self, update: Update, touched: &mut Touched) {
        match update {
            Update::PutAttachment(attachment) => {
                let vlan = attachment.vlan.map(|vlan| (attachment.port, vlan));
                touched.vlans.extend(vlan);
                self.put_attachment(&attachment);
            }
            Update::PutTunnel(tunnel) => {
                self.tunnels.insert(tunnel.id, tunnel);
            }
            Update::RemoveTunnel(id) => self.remove_tunnel(id),
            Update::RemoveOutboundSa(tunnel) => {
                self.outbound.remove(&tunnel);
            }
            Update::RemoveInboundSa(spi) => self.remove_inbound(spi),
            Update::PutGroup { id, members } => {
                let buckets = self.groups.remove(&id).and_then(|group| group.buckets);
                self.groups.insert(id, GroupState { members, buckets });
            }
            Update::RemoveGroup(id) => {
                self.groups.remove(&id);
            }
            Update::PutRoutes { table, routes } => {
                for route in routes {
                    self.put_route(table, route, touched);
                }
            }
            Update::RemoveRoutes { table, prefixes } => {
                for prefix in prefixes {
                    self.remove_route(table, prefix, touched);
                }
            }
            Update::PutNeighbours(neighbours) => {
                let table = Arc::make_mut(&mut self.neighbours);
                for n in neighbours {
                    table.insert((n.port, n.vlan.unwrap_or(UNTAGGED), n.address), n.mac);
                }
            }
            Update::RemoveNeighbours(neighbours) => {
                let table = Arc::make_mut(&mut self.neighbours);
                for (port, vlan, address) in neighbours {
                    table.remove(&(port, vlan.unwrap_or(UNTAGGED), address));
                }
            }
            Update::PutPortAddresses(port, addresses) => {
                let port = &mut self.ports[port.index()];
                port.address_v4 = addresses.iter().find_map(|a| match a {
                    IpAddr::V4(a) => Some(*a),
                    IpAddr::V6(_) => None,
                });
                port.address_v6 = addresses.iter().find_map(|a| match a {
                    IpAddr::V6(a) => Some(*a),
                    IpAddr::V4(_) => None,
                });
            }
            Update::RemoveAttachment { port, vlan } => {
                touched.vlans.extend(vlan.map(|vlan| (port, vlan)));
                self.remove_attachment(port, vlan);
            }
            // The validation has turned these into other steps.
            Update::PutOutboundSa(_)
            | Update::PutInboundSa(_)
            | Update::ReplaceAll
            | Update::KeepSas(_) => {}
        }
    }

    fn put_route(&mut self, table: TableId, route: Route, touched: &mut Touched) {
        let hop = self.intern(route.next_hop);
        let table = self.tables.entry(table).or_default();
        table.compiled = None;
        let before = Arc::make_mut(&mut table.routes).insert(route.prefix, hop);
        if before == Some(hop) {
            return;
        }
        touched.prefixes.push(route.prefix);
        if before.is_none() && self.holders(&route.prefix) == 1 {
            Arc::make_mut(&mut self.inside).add(&route.prefix);
        }
    }

    fn remove_route(&mut self, table: TableId, prefix: IpNet, touched: &mut Touched) {
        let Some(table) = self.tables.get_mut(&table) else {
            return;
        };
        if !table.routes.contains_key(&prefix) {
            return;
        }
        Arc::make_mut(&mut table.routes).remove(&prefix);
        table.compiled = None;
        touched.prefixes.push(prefix);
        if self.holders(&prefix) == 0 {
            Arc::make_mut(&mut self.inside).remove(&prefix);
        }
    }

    /// How many route tables have this very prefix.
    fn holders(&self, prefix: &IpNet) -> usize {
        let tables = self.tables.values();
        tables.filter(|t| t.routes.contains_key(prefix)).count()
    }

    fn put_attachment(&mut self, attachment: &Attachment) {
        let port = &mut self.ports[attachment.port.index()];
        match attachment.vlan {
            None => port.untagged = Some(attachment.table),
            Some(vlan) => match port.vlans.binary_search_by_key(&vlan, |&(v, _)| v) {
                Ok(at) => port.vlans[at].1 = attachment.table,
                Err(at) => port.vlans.insert(at, (vlan, attachment.table)),
            },
        }
    }

    fn remove_attachment(&mut self, port: PortId, vlan: Option<u16>) {
        let Some(port) = self.ports.get_mut(port.index()) else {
            return;
        };
        match vlan {
            None => port.untagged = None,
            Some(vlan) => port.vlans.retain(|&(v, _)| v != vlan),
        }
    }

    /// The inside attachments: port and VLAN.
    pub(super) fn attachments(&self) -> impl Iterator<Item = (PortId, u16)> + '_ {
        self.ports.iter().enumerate().flat_map(|(id, port)| {
            let untagged = port.untagged.map(|_| UNTAGGED);
            let vlans = port.vlans.iter().map(|&(vlan, _)| vlan);
            untagged
                .into_iter()
                .chain(vlans)
                .map(move |vlan| (PortId(id as u16), vlan))
        })
    }

    fn remove_tunnel(&mut self, id: TunnelId) {
        self.tunnels.remove(&id);
        self.outbound.remove(&id);
        let spis: Vec<_> = self
            .inbound
            .values()
            .filter(|sa| sa.tunnel == id)
            .map(|sa| sa.spi)
            .collect();
        for spi in spis {
            self.remove_inbound(spi);
        }
    }

    fn put_inbound(&mut self, mut sa: Box<InboundSa>, worker: WorkerId) {
        self.remove_inbound(sa.spi);
        sa.slot = self.free_slots.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        self.next_generation += 1;
        sa.generation = self.next_generation;
        let first = Owner { worker, sas: 0 };
        self.owners.entry(sa.tunnel).or_insert(first).sas += 1;
        self.inbound.insert(sa.spi, Arc::from(sa));
    }

    fn remove_inbound(&mut self, spi: Spi) {
        let Some(sa) = self.inbound.remove(&spi) else {
            return;
        };
        self.free_slots.push(sa.slot);
        if let Some(owner) = self.owners.get_mut(&sa.tunnel) {
            owner.sas -= 1;
            if owner.sas == 0 {
                self.owners.remove(&sa.tunnel);
            }
        }
    }

    fn intern(&mut self, hop: NextHop) -> u32 {
        *self.hop_index.entry(hop).or_insert_with(|| {
            self.hops.push(hop);
            (self.hops.len() - 1) as u32
        })
    }

    /// What the XDP program shall do with a prefix: take its packets (`true`), leave them to the
    /// kernel although a shorter prefix is ours (`false`), or know nothing of it. It knows one table
    /// only, so a prefix that any route table sends into a tunnel is ours; the right table decides
    /// when the packet is here.
    fn word(&self, prefix: &IpNet) -> Option<bool> {
        let hops = self
            .tables
            .values()
            .filter_map(|table| table.routes.get(prefix));
        hops.map(|&hop| is_ours(self.hops[hop as usize]))
            .reduce(|one, other| one || other)
    }

    /// What the XDP program must be told to be in step with this model, if it was in step before
    /// all that was touched.
    #[must_use]
    pub fn steering(&self, touched: &Touched) -> Steering {
        let mut steering = Steering::default();
        for prefix in &touched.prefixes {
            match self.word(prefix) {
                Some(ours) => steering.set.push((*prefix, ours)),
                None => steering.gone.push(*prefix),
            }
        }
        steering.locals = touched.locals.then(|| self.locals.clone());
        for &(port, vlan) in &touched.vlans {
            let ours = self
                .port(port)
                .is_some_and(|port| port.vlans.binary_search_by_key(&vlan, |&(v, _)| v).is_ok());
            steering.vlans.push((port, vlan, ours));
        }
        // Room is made before it is used.
        steering.vlans.sort_by_key(|&(.., ours)| ours);
        steering
    }

    /// How much room the tables take in the XDP program's maps.
    #[must_use]
    pub fn entries(&self) -> Entries {
        let v4 = self.locals.iter().filter(|a| a.is_ipv4()).count();
        let vlans: usize = self.ports.iter().map(|port| port.vlans.len()).sum();
        Entries {
            vlans: count(vlans),
            local_v4: count(v4),
            local_v6: count(self.locals.len() - v4),
            ..self.inside.entries()
        }
    }

    /// Gives the buckets to the members that can send. Only the buckets that must move do.
    fn refresh_groups(&mut self) {
        for group in self.groups.values_mut() {
            let able: Vec<_> = group
                .members
                .iter()
                .filter(|m| m.weight > 0 && self.outbound.contains_key(&m.tunnel))
                .map(|m| (MemberId(m.tunnel.0), m.weight))
                .collect();
            let wanted = Group::default_buckets(able.len());
            group.buckets = match group.buckets.take() {
                Some(old) if old.buckets() >= wanted => {
                    let mut buckets = Arc::unwrap_or_clone(old);
                    // Refused only for lists that the validation refuses.
                    buckets.set_members(&able).ok().map(|()| Arc::new(buckets))
                }
                // New, or more members than the table was made for: everything moves once.
                _ => Group::new(&able, wanted).ok().map(Arc::new),
            };
        }
    }

    fn local_addresses(&self) -> Vec<IpAddr> {
        let mut locals: Vec<_> = self.tunnels.values().map(|t| t.local).collect();
        locals.sort_unstable();
        locals.dedup();
        locals
    }

    pub(super) fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(id.index())
    }

    /// The worker with the fewest tunnels: where the next one goes.
    pub(super) fn lightest_worker(&self, placed: &[u32]) -> WorkerId {
        let mut load: Vec<u32> = placed.to_vec();
        for owner in self.owners.values() {
            if let Some(n) = load.get_mut(owner.worker.index()) {
                *n += 1;
            }
        }
        let lightest = (0..load.len()).min_by_key(|&i| load[i]).unwrap_or(0);
        WorkerId(lightest as u16)
    }

    /// The worker that owns the replay windows of a tunnel that has any.
    #[must_use]
    pub fn owner_of(&self, tunnel: TunnelId) -> Option<WorkerId> {
        self.owners.get(&tunnel).map(|owner| owner.worker)
    }

    /// The tunnels that receive, and who owns their replay windows.
    pub fn owners(&self) -> impl Iterator<Item = (TunnelId, WorkerId)> {
        self.owners.iter().map(|(&id, owner)| (id, owner.worker))
    }

    /// Gives the replay windows of a tunnel to another worker. The tables that are compiled next
    /// say so; the windows themselves are the workers' to hand over.
    pub fn set_owner(&mut self, tunnel: TunnelId, worker: WorkerId) {
        if let Some(owner) = self.owners.get_mut(&tunnel) {
            owner.worker = worker;
        }
    }
}

fn count(n: usize) -> u32 {
    n.try_into().unwrap_or(u32::MAX)
}

/// Whether inside packets that this route matches are for the data plane.
fn is_ours(hop: NextHop) -> bool {
    matches!(
        hop,
        NextHop::Group(_) | NextHop::Tunnel(_) | NextHop::Blackhole
    )
}
