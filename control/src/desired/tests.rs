//! Tables that follow from small configurations and hosts.

use std::{os::unix::fs::PermissionsExt, path::Path as FilePath};

use hawser_api::{IdlePolicy, PortSetup, Setup, WorkerSetup};

use super::*;
use crate::netlink::{Link, NeighbourEntry};

/// A gateway with an outside port, an inside port with a VLAN, and two tunnels.
struct Site {
    config: Config,
    ids: Ids,
    sas: Arc<SaSet>,
    ports: Ports,
    mirror: Mirror,
    paths: HashMap<(IpAddr, IpAddr), Path>,
    peers: BTreeMap<TunnelId, PeerPath>,
    kept: Kept,
    wanted: BTreeMap<(String, Option<u16>, IpAddr), Instant>,
}

const CONFIG: &str = r#"
[[interface]]
name = "out0"
role = "outside"

[[interface]]
name = "in0"
role = "inside"
route_table = "main"

[[interface.vlan]]
id = 100
route_table = "guests"

[[connection]]
name = "lab"
manual = { key_file = "keys.toml" }

[[connection.tunnel]]
name = "a"
local = "192.0.2.1"
remote = "198.51.100.1"
inside = "169.254.10.2/30"
weight = 2

[[connection.tunnel]]
name = "b"
local = "192.0.2.1"
remote = "198.51.100.2"
route_table = "guests"
inside = "169.254.11.2/30"
outside_mtu = 1400

[[route]]
to = "10.0.0.0/8"
via = "lab"

[[route]]
to = "10.9.0.0/16"
via = "lab/b"
table = "guests"

[[route]]
to = "172.16.0.0/12"
interface = "in0"
vlan = 100
gateway = "192.168.100.1"
"#;

fn at(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn link(index: u32, name: &str, vlan: Option<(u32, u16)>) -> Link {
    Link {
        index,
        name: name.into(),
        mac: Some([2; 6]),
        mtu: 1500,
        enabled: true,
        up: true,
        vlan,
        rx_queues_at_most: 1,
    }
}

fn parse(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.toml");
    let mut text_of_keys = String::new();
    for (n, tunnel) in ["a", "b"].iter().enumerate() {
        text_of_keys += &format!(
            "[[key]]\ntunnel = \"lab/{tunnel}\"\noutbound = {{ spi = \"0x100{n}\", key = \
             \"{:072x}\" }}\ninbound = {{ spi = \"0x200{n}\", key = \"{:072x}\" }}\n",
            n + 1,
            n + 11
        );
    }
    std::fs::write(&keys, text_of_keys).unwrap();
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).unwrap();
    let path: &FilePath = &folder.path().join("hawser.toml");
    let (config, diagnostics) = config::parse(path, text.into());
    config.unwrap_or_else(|| panic!("{diagnostics}"))
}

impl Site {
    fn new(text: &str) -> Self {
        let config = parse(text);
        let ids = Ids::default().assigned(&config);
        let port = |interface: &str, ifindex, role| PortSetup {
            interface: interface.into(),
            ifindex,
            mac: [2; 6],
            mtu: 1500,
            queues: 1,
            role,
            zero_copy: true,
        };
        let setup = Setup {
            workers: vec![WorkerSetup { core: None }],
            ports: vec![port("out0", 2, Role::Outside), port("in0", 3, Role::Inside)],
            frames_per_worker: 1024,
            frame_size: 2048,
            ring_size: 512,
            idle: IdlePolicy::Adaptive,
            tun: None,
            checkpoint: "/x".into(),
            hash_seed: 0,
        };
        let mut mirror = Mirror::default();
        for link in [
            link(2, "out0", None),
            link(3, "in0", None),
            link(4, "in0.100", Some((3, 100))),
        ] {
            mirror.links.insert(link.index, link);
        }
        mirror.addresses.insert(2, vec![net("192.0.2.1/24")]);
        mirror
            .addresses
            .insert(3, vec![net("10.1.0.1/24"), net("fe80::1/64")]);
        mirror.addresses.insert(4, vec![net("192.168.100.254/24")]);
        let path = Path {
            ifindex: 2,
            gateway: Some(at("192.0.2.254")),
            mtu: None,
        };
        let local = at("192.0.2.1");
        let mut site = Self {
            sas: Arc::new(SaSet::configured(&config, &ids)),
            ids,
            config,
            ports: Ports::of(&setup),
            mirror,
            paths: [("198.51.100.1", path), ("198.51.100.2", path)]
                .map(|(remote, path)| ((at(remote), local), path))
                .into(),
            peers: BTreeMap::new(),
            kept: Kept::default(),
            wanted: BTreeMap::new(),
        };
        site.neighbour(2, "192.0.2.254", Reach::Good);
        site
    }

    fn neighbour(&mut self, ifindex: u32, address: &str, reach: Reach) {
        let entry = NeighbourEntry {
            mac: Some([2, 0, 0, 0, 0, 9]),
            reach,
        };
        self.mirror.neighbours.insert((ifindex, at(address)), entry);
    }

    fn tables(&self) -> (Desired, BTreeMap<TunnelId, Hindrance>) {
        self.inputs().tables(None, false)
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            config: &self.config,
            ids: &self.ids,
            sas: &self.sas,
            peers: &self.peers,
            kept: &self.kept,
            ports: &self.ports,
            mirror: &self.mirror,
            paths: &self.paths,
            wanted: &self.wanted,
        }
    }

    fn weights(&self) -> Vec<u32> {
        self.tables().0.groups[&GroupId(0)]
            .iter()
            .map(|m| m.weight)
            .collect()
    }
}

const OUT: PortId = PortId(0);
const IN: PortId = PortId(1);

#[test]
fn everything_follows_from_the_configuration_and_the_host() {
    let (tables, hindrances) = Site::new(CONFIG).tables();
    assert_eq!(hindrances, BTreeMap::new());
    let guests = TableId(1);
    assert_eq!(
        tables.attachments,
        [((IN, None), TableId::MAIN), ((IN, Some(100)), guests)].into()
    );
    let a = &tables.tunnels[&TunnelId(0)];
    assert_eq!(
        (a.port, a.next_hop, a.outside_mtu),
        (OUT, at("192.0.2.254"), 1500)
    );
    assert_eq!(
        (a.table, tables.tunnels[&TunnelId(1)].table),
        (TableId::MAIN, guests)
    );
    assert_eq!(tables.tunnels[&TunnelId(1)].outside_mtu, 1400);
    let direct = |vlan| NextHop::Inside {
        port: IN,
        vlan,
        gateway: None,
    };
    let main: Routes = [
        (net("10.0.0.0/8"), NextHop::Group(GroupId(0))),
        (net("10.1.0.0/24"), direct(None)),
        (net("10.1.0.1/32"), NextHop::Host),
        (net("169.254.10.0/30"), NextHop::Tunnel(TunnelId(0))),
        (net("169.254.10.2/32"), NextHop::Host),
        // The host's own packets look in `main`, wherever the tunnel's go.
        (net("169.254.11.0/30"), NextHop::Tunnel(TunnelId(1))),
        (net("169.254.11.2/32"), NextHop::Host),
        (
            net("172.16.0.0/12"),
            NextHop::Inside {
                port: IN,
                vlan: Some(100),
                gateway: Some(at("192.168.100.1")),
            },
        ),
    ]
    .into();
    assert_eq!(*tables.routes[&TableId::MAIN], main);
    let other: Routes = [
        (net("10.9.0.0/16"), NextHop::Tunnel(TunnelId(1))),
        (net("169.254.11.0/30"), NextHop::Tunnel(TunnelId(1))),
        (net("169.254.11.2/32"), NextHop::Host),
        (net("192.168.100.0/24"), direct(Some(100))),
        (net("192.168.100.254/32"), NextHop::Host),
    ]
    .into();
    assert_eq!(*tables.routes[&guests], other);
    // Link-local addresses come last: errors from them are of no use beyond the link.
    assert_eq!(
        tables.port_addresses[&IN],
        [at("10.1.0.1"), at("192.168.100.254"), at("fe80::1")]
    );
    assert_eq!(tables.neighbours.len(), 1);
}

#[test]
fn without_a_host_path_our_own_addresses_lead_nowhere() {
    let text = format!("[gateway]\nhost_path = false\n{CONFIG}");
    let (tables, _) = Site::new(&text).tables();
    // Not back into the tunnel: that would be a loop.
    assert_eq!(
        tables.routes[&TableId::MAIN][&net("169.254.10.2/32")],
        NextHop::Blackhole
    );
}

#[test]
fn flows_move_to_the_tunnels_that_can_send() {
    let mut site = Site::new(CONFIG);
    assert_eq!(site.weights(), [2, 1]);
    // The second peer is behind another router, which is silent.
    let other = Path {
        ifindex: 2,
        gateway: Some(at("192.0.2.253")),
        mtu: None,
    };
    site.paths
        .insert((at("198.51.100.2"), at("192.0.2.1")), other);
    let (_, hindrances) = site.tables();
    assert_eq!(
        hindrances[&TunnelId(1)],
        Hindrance::Resolving(at("192.0.2.253"))
    );
    assert_eq!(site.weights(), [2, 0]);
    site.neighbour(2, "192.0.2.253", Reach::Failed);
    let (_, hindrances) = site.tables();
    assert_eq!(
        hindrances[&TunnelId(1)],
        Hindrance::NoNeighbour(at("192.0.2.253"))
    );
    site.neighbour(2, "192.0.2.253", Reach::Stale);
    assert_eq!(site.weights(), [2, 1]);
    // When none can, their places stay, so that the drops tell the reason.
    site.mirror.links.get_mut(&2).unwrap().up = false;
    assert_eq!(
        site.tables().1[&TunnelId(0)],
        Hindrance::LinkDown("out0".into())
    );
    assert_eq!(site.weights(), [2, 1]);
}

#[test]
fn a_tunnel_without_a_way_out_keeps_its_sas() {
    let mut site = Site::new(CONFIG);
    site.paths.clear();
    let (tables, hindrances) = site.tables();
    assert_eq!(hindrances[&TunnelId(0)], Hindrance::NoRoute);
    assert!(Arc::ptr_eq(&tables.sas, &site.sas));
    assert_eq!(tables.tunnels[&TunnelId(0)].port, OUT);
    // Through an interface that is not ours: said by name.
    let path = Path {
        ifindex: 9,
        gateway: None,
        mtu: None,
    };
    site.paths
        .insert((at("198.51.100.1"), at("192.0.2.1")), path);
    site.mirror.links.insert(9, link(9, "mgmt0", None));
    let hindrance = &site.tables().1[&TunnelId(0)];
    assert_eq!(*hindrance, Hindrance::WrongInterface("mgmt0".into()));
}

#[test]
fn the_smallest_mtu_on_the_way_counts() {
    let mut site = Site::new(CONFIG);
    let key = (at("198.51.100.1"), at("192.0.2.1"));
    let mtu = |site: &Site| site.tables().0.tunnels[&TunnelId(0)].outside_mtu;
    site.paths.get_mut(&key).unwrap().mtu = Some(1300);
    assert_eq!(mtu(&site), 1300);
    site.paths.get_mut(&key).unwrap().mtu = None;
    site.mirror.links.get_mut(&2).unwrap().mtu = 1280;
    assert_eq!(mtu(&site), 1280);
    // Larger than what the frames were made for: not before a restart.
    site.mirror.links.get_mut(&2).unwrap().mtu = 9000;
    assert_eq!(mtu(&site), 1500);
}

#[test]
fn neighbours_on_a_vlan_are_those_of_the_kernels_vlan_interface() {
    let mut site = Site::new(CONFIG);
    site.neighbour(4, "192.168.100.1", Reach::Good);
    site.neighbour(3, "10.1.0.7", Reach::Good);
    let key = |vlan, address| (IN, vlan, at(address));
    let neighbours = site.tables().0.neighbours;
    assert!(neighbours.contains_key(&key(Some(100), "192.168.100.1")));
    // Known to the kernel, but no packet wanted it yet.
    assert!(!neighbours.contains_key(&key(None, "10.1.0.7")));
    site.wanted
        .insert(("in0".into(), None, at("10.1.0.7")), Instant::now());
    assert!(
        site.tables()
            .0
            .neighbours
            .contains_key(&key(None, "10.1.0.7"))
    );
    site.neighbour(3, "10.1.0.7", Reach::Failed);
    assert!(
        !site
            .tables()
            .0
            .neighbours
            .contains_key(&key(None, "10.1.0.7"))
    );
}

#[test]
fn unchanged_routes_are_shared_with_the_tables_before() {
    let site = Site::new(CONFIG);
    let (before, _) = site.tables();
    let (again, _) = site.inputs().tables(Some(&before), false);
    assert!(Arc::ptr_eq(
        &before.routes[&TableId::MAIN],
        &again.routes[&TableId::MAIN]
    ));
}
