//! Transactions that the XDP program's maps do not take: nothing of them may be left behind.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use hawser_api::*;
use hawser_dataplane::{
    checkpoint::Checkpoint,
    commit::{self, Kernel, Workers},
    pipeline::{Output, Pipeline},
    tables::{Model, Steering, Tables},
};
use hawser_ebpf::{Entries, Sizes, SteeringError};
use ipnet::IpNet;

use hawser_dataplane::harness::{self, Gateway, INSIDE, Plan, net, pair, udp};

/// Maps in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Maps {
    inside: BTreeMap<IpNet, bool>,
    locals: BTreeSet<IpAddr>,
    vlans: BTreeSet<(PortId, u16)>,
}

struct Fake {
    maps: Maps,
    sizes: Sizes,
    /// The next change fails after half of it.
    fails: bool,
    /// Whether each change set first.
    orders: Vec<bool>,
}

impl Fake {
    fn new(sizes: Sizes) -> Self {
        Self {
            maps: Maps::default(),
            sizes,
            fails: false,
            orders: Vec::new(),
        }
    }
}

impl Kernel for Fake {
    fn room(&self, entries: &Entries) -> Result<(), SteeringError> {
        self.sizes.hold(entries)
    }

    fn steer(&mut self, change: &Steering, set_first: bool) -> Result<(), SteeringError> {
        self.orders.push(set_first);
        if let Some(locals) = &change.locals {
            self.maps.locals = locals.iter().copied().collect();
        }
        for &(port, vlan, ours) in &change.vlans {
            if ours {
                self.maps.vlans.insert((port, vlan));
            } else {
                self.maps.vlans.remove(&(port, vlan));
            }
        }
        let half = change.set.len() / 2;
        self.maps.inside.extend(change.set[..half].iter().copied());
        if std::mem::take(&mut self.fails) {
            return Err(SteeringError::NoLinks);
        }
        self.maps.inside.extend(change.set[half..].iter().copied());
        for prefix in &change.gone {
            self.maps.inside.remove(prefix);
        }
        Ok(())
    }
}

/// The one worker of a gateway in memory.
struct One<'g> {
    worker: RefCell<(&'g mut Pipeline, &'g mut Output)>,
    now: u64,
    switches: Cell<usize>,
}

impl Workers for One<'_> {
    fn switch(&self, tables: Arc<Tables>) {
        let (pipeline, out) = &mut *self.worker.borrow_mut();
        pipeline.set_tables(tables, self.now, out);
        self.switches.set(self.switches.get() + 1);
    }

    fn write_tops(&self, model: &Model, checkpoint: &mut Checkpoint) {
        let worker = self.worker.borrow();
        for (slot, generation, top) in worker.0.tops() {
            let sa = model
                .inbound()
                .find(|sa| (sa.slot, sa.generation) == (slot, generation));
            if let Some(sa) = sa {
                checkpoint.put(sa.checkpoint, top).unwrap();
            }
        }
    }
}

/// Commits, and says how often the worker's tables were switched.
fn commit(
    gateway: &mut Gateway,
    kernel: &mut Fake,
    updates: Vec<Update>,
) -> (Result<(), Refusal>, usize) {
    let workers = One {
        worker: RefCell::new((&mut gateway.pipeline, &mut gateway.out)),
        now: gateway.now,
        switches: Cell::new(0),
    };
    let result = commit::commit(
        &mut gateway.model,
        &mut gateway.checkpoint,
        (kernel, &workers),
        updates,
        |model, _| {
            for sa in model.outbound() {
                sa.key.set_limit(1 << 31);
            }
        },
    );
    (result, workers.switches.get())
}

fn routes(prefixes: impl IntoIterator<Item = String>) -> Update {
    let route = |prefix: String| Route {
        prefix: net(&prefix),
        next_hop: NextHop::Group(GroupId(0)),
    };
    Update::PutRoutes {
        table: TableId::MAIN,
        routes: prefixes.into_iter().map(route).collect(),
    }
}

/// Everything into an empty model, and so into the maps.
fn begin(gateway: &mut Gateway, kernel: &mut Fake) {
    gateway.model = Model::new(&harness::setup(1));
    let mut updates = vec![Update::ReplaceAll];
    updates.extend(gateway.updates());
    commit(gateway, kernel, updates).0.unwrap();
}

#[test]
fn what_has_no_room_in_a_map_changes_nothing() {
    let plan = Plan::default();
    let small = Sizes {
        vlans: 1,
        local: 4,
        inside: 5,
        ..Sizes::default()
    };
    let (_, mut gateway) = pair(&plan);
    let mut kernel = Fake::new(small);
    begin(&mut gateway, &mut kernel);
    let (maps, generation) = (kernel.maps.clone(), gateway.model.generation());

    let hosts = |n: u8| (0..n).map(|i| format!("10.9.{i}.1/32"));
    let vlan = |vlan| {
        Update::PutAttachment(Attachment {
            port: INSIDE,
            vlan: Some(vlan),
            table: TableId::MAIN,
        })
    };
    let mut tunnel = gateway.model.tunnels()[&TunnelId(0)].clone();
    tunnel.id = TunnelId(9);
    tunnel.local = "192.0.2.77".parse().unwrap();
    for (map, updates) in [
        // A /32 and the /24 around it take two places each, and one place stays free: the
        // address of the host is there already.
        ("INSIDE_V4", vec![routes(hosts(2))]),
        (
            "INSIDE_V6",
            vec![routes((0..3).map(|i| format!("fd09:{i}::/32")))],
        ),
        ("LOCAL_V4", vec![Update::PutTunnel(tunnel)]),
        ("VLANS", vec![vlan(5), vlan(6)]),
    ] {
        let (result, switches) = commit(&mut gateway, &mut kernel, updates);
        let refusal = result.expect_err(map);
        assert!(refusal.what.contains(map), "{map}: {refusal}");
        assert_eq!(switches, 0, "{map}: the workers were disturbed");
        assert_eq!(kernel.maps, maps, "{map}");
        assert_eq!(gateway.model.generation(), generation, "{map}");
    }
    // To the last place, and the one that was refused after another has made room.
    commit(&mut gateway, &mut kernel, vec![routes(hosts(1))])
        .0
        .unwrap();
    let swap = vec![
        routes(["10.9.1.1/32".into()]),
        Update::RemoveRoutes {
            table: TableId::MAIN,
            prefixes: vec![net("10.9.0.1/32")],
        },
    ];
    commit(&mut gateway, &mut kernel, swap).0.unwrap();
    assert!(kernel.maps.inside.contains_key(&net("10.9.1.1/32")));
    assert!(!kernel.maps.inside.contains_key(&net("10.9.0.1/32")));
    assert_eq!(kernel.orders, [true, true, false], "room is made first");
}

#[test]
fn a_refusal_in_the_middle_is_taken_back() {
    let plan = Plan::default();
    let (mut a, mut b) = pair(&plan);
    let mut kernel = Fake::new(Sizes::default());
    begin(&mut b, &mut kernel);
    let maps = kernel.maps.clone();
    let generation = b.model.generation();
    let packets: Vec<_> = (0..64).map(|n| udp(0, false, (n, 2), b"x")).collect();
    let sent = a.send(&packets);
    assert_eq!(b.receive(&sent).len(), 64);

    // Two of four tunnels go, routes come and go, a VLAN comes.
    let change = vec![
        Update::PutGroup {
            id: GroupId(0),
            members: vec![Member {
                tunnel: TunnelId(2),
                weight: 1,
            }],
        },
        Update::RemoveTunnel(TunnelId(0)),
        Update::RemoveTunnel(TunnelId(1)),
        routes((0..10).map(|i| format!("10.9.{i}.0/24"))),
        Update::RemoveRoutes {
            table: TableId::MAIN,
            prefixes: vec![net("fd00:0::/32")],
        },
        Update::PutAttachment(Attachment {
            port: INSIDE,
            vlan: Some(5),
            table: TableId::MAIN,
        }),
    ];
    kernel.fails = true;
    let (result, switches) = commit(&mut b, &mut kernel, change.clone());
    let refusal = result.unwrap_err();
    assert!(refusal.what.starts_with("XDP maps: "), "{refusal}");
    assert_eq!(switches, 2, "to the new tables and back");
    assert_eq!(kernel.maps, maps);
    assert_eq!(b.model.generation(), generation);
    assert_eq!(b.pipeline.tables().generation, generation);

    // All tunnels carry on, and the replay windows still know what they have seen.
    assert!(b.receive(&sent).is_empty(), "seen before the refusal");
    let duplicates = b.counters().all_drops().get(DropReason::ReplayDuplicate);
    assert_eq!(duplicates, 64);
    let sent = a.send(&packets);
    assert_eq!(b.receive(&sent).len(), 64);

    // Tried again, it goes through.
    commit(&mut b, &mut kernel, change).0.unwrap();
    assert_eq!(kernel.maps.vlans, BTreeSet::from([(INSIDE, 5)]));
    assert!(kernel.maps.inside.contains_key(&net("10.9.9.0/24")));
    assert!(!kernel.maps.inside.contains_key(&net("fd00:0::/32")));
    assert_eq!(kernel.maps.locals.len(), 2);
}
