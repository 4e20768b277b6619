//! From TOML to [`Config`]: the shape of the file and the values of single keys.
//!
//! What follows from several keys together is checked in [`super::validate`].

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use hawser_aead::Suite;
use hawser_api::{Ceiling, Dscp, Encapsulation, IdlePolicy, OuterDf, Role};
use ipnet::IpNet;

use super::{
    diagnostic::{Diagnostics, Source},
    keys::KeyFiles,
    model::{
        Config, Dataplane, Gateway, Interface, MAIN_TABLE, ManualSas, Route, StaticNeighbour,
        Tunnel, Via, Vlan,
    },
    reader::{At, Context, Table, listed},
    units::{Bandwidth, Destination, Mac},
    validate,
};

/// Port of UDP encapsulation (RFC 3948, section 2.1).
const ENCAPSULATION_PORT: u16 = 4500;
/// AWS's default, and within what every worker can hold in its first-level cache.
const REPLAY_WINDOW: u32 = 1024;
/// What one standard AWS tunnel carries.
const AWS_STANDARD: Ceiling = Ceiling {
    bits_per_second: 1_250_000_000,
    packets_per_second: 140_000,
};
/// What one large AWS tunnel carries.
const AWS_LARGE: Ceiling = Ceiling {
    bits_per_second: 5_000_000_000,
    packets_per_second: 400_000,
};

/// Reads a configuration file with the files it refers to.
///
/// The configuration is there only if there is no error; the diagnostics may hold warnings.
#[must_use]
pub fn load(path: &Path) -> (Option<Config>, Diagnostics) {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, text),
        Err(error) => {
            let mut diagnostics = Diagnostics::default();
            diagnostics.error(
                None,
                format!("cannot read {}: {error}", path.display()),
                "name the file with `-c FILE`; `hawser help config` shows an example",
            );
            (None, diagnostics)
        }
    }
}

/// The run folder that a configuration file names, whatever else may be wrong with it.
#[must_use]
pub fn run_dir_of(path: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(path).ok()?;
    let (table, _) = toml::de::DeTable::parse_recoverable(&text);
    let dir = table.get_ref().get("gateway")?.get_ref().get("run_dir")?;
    dir.get_ref().as_str().map(PathBuf::from)
}

/// Reads a configuration from its text; files it refers to are looked for next to `path`.
#[must_use]
pub fn parse(path: &Path, text: String) -> (Option<Config>, Diagnostics) {
    let source = Arc::new(Source::new(path, text));
    let mut keys = KeyFiles::default();
    let (config, mut diagnostics) = {
        let context = Context::new(&source);
        let config = read(&context, &source, path, &mut keys);
        validate::validate(&config, &context);
        (config, context.finish())
    };
    diagnostics.0.extend(keys.finish(&config.tunnels).0);
    diagnostics.sort();
    ((!diagnostics.has_errors()).then_some(config), diagnostics)
}

fn read(context: &Context<'_>, source: &Arc<Source>, path: &Path, keys: &mut KeyFiles) -> Config {
    let document = context.document();
    let root = Table::new(context, "the file", document.get_ref(), 0..0);
    let base = path.parent().unwrap_or(Path::new("")).to_owned();
    let gateway = gateway(&root);
    let dataplane = dataplane(context, &root);
    let interfaces = root
        .tables("interface", "[[interface]]")
        .into_iter()
        .filter_map(|t| interface(context, t))
        .collect();
    let mut tunnels = Vec::new();
    let mut connections = Vec::new();
    for table in root.tables("connection", "[[connection]]") {
        connection(context, table, &base, keys, &mut connections, &mut tunnels);
    }
    let names = Names {
        connections: &connections,
        tunnels: &tunnels,
    };
    let routes = root
        .tables("route", "[[route]]")
        .into_iter()
        .filter_map(|t| route(context, t, &base, &names))
        .collect();
    let neighbours = root
        .tables("neighbour", "[[neighbour]]")
        .into_iter()
        .filter_map(|t| neighbour(t))
        .collect();
    root.finish();
    Config {
        source: Arc::clone(source),
        gateway,
        dataplane,
        interfaces,
        connections: connections.into_iter().map(|c| c.value).collect(),
        tunnels,
        routes,
        neighbours,
    }
}

fn gateway(root: &Table<'_, '_, '_>) -> Gateway {
    let defaults = Gateway {
        name: "hawser".into(),
        state_dir: "/var/lib/hawser".into(),
        run_dir: "/run/hawser".into(),
        tun: Some("hawser0".into()),
    };
    let Some(table) = root.table("gateway", "[gateway]") else {
        return defaults;
    };
    let path = |key, default: PathBuf| {
        table
            .string(key)
            .map_or(default, |p: At<String>| PathBuf::from(p.value))
    };
    let host_path = table.boolean("host_path").unwrap_or(true);
    let gateway = Gateway {
        name: table.string("name").map_or(defaults.name, |n| n.value),
        state_dir: path("state_dir", defaults.state_dir),
        run_dir: path("run_dir", defaults.run_dir),
        tun: table
            .string("tun")
            .map(|t| t.value)
            .or(defaults.tun)
            .filter(|_| host_path),
    };
    table.finish();
    gateway
}

fn dataplane(context: &Context<'_>, root: &Table<'_, '_, '_>) -> Dataplane {
    let mut dataplane = Dataplane {
        program: None,
        workers: None,
        frames_per_worker: 8192,
        ring_size: 2048,
        idle: IdlePolicy::Adaptive,
        hash_seed: None,
    };
    let Some(table) = root.table("dataplane", "[dataplane]") else {
        return dataplane;
    };
    dataplane.program = table.string("program").map(|p| PathBuf::from(p.value));
    let workers = table.integer("workers", 1..=256);
    let cores = table.integers("cores", 0..=4095);
    if let (Some(workers), Some(cores)) = (&workers, &cores)
        && workers.value as usize != cores.value.len()
    {
        context.error(
            &workers.span,
            format!("{} workers but {} cores", workers.value, cores.value.len()),
            "keep `cores` alone: it means one worker on each of them",
        );
    }
    if let Some(cores) = cores {
        let mut list: Vec<Option<u16>> = Vec::new();
        for core in cores.value {
            let number = u16::try_from(core.value).ok();
            if list.contains(&number) {
                context.error(
                    &core.span,
                    format!("core {} is named twice", core.value),
                    "one worker takes one core: name each core once",
                );
            }
            list.push(number);
        }
        if list.is_empty() {
            context.error(&cores.span, "`cores` is empty", "name at least one core");
        } else {
            dataplane.workers = Some(list);
        }
    } else if let Some(workers) = workers {
        dataplane.workers = Some(vec![None; workers.value as usize]);
    }
    if let Some(n) = table.integer("frames_per_worker", 512..=1_048_576) {
        dataplane.frames_per_worker = n.value as u32;
    }
    if let Some(n) = table.integer("ring_size", 64..=32_768) {
        if n.value.is_power_of_two() {
            dataplane.ring_size = n.value as u32;
        } else {
            context.error(
                &n.span,
                format!("ring_size {} is not a power of two", n.value),
                format!("write {}", n.value.next_power_of_two().min(32_768)),
            );
        }
    }
    let policies = [
        ("adaptive", IdlePolicy::Adaptive),
        ("spin", IdlePolicy::Spin),
        ("poll", IdlePolicy::Poll),
    ];
    if let Some(idle) = table.choice("idle", &policies) {
        dataplane.idle = idle.value;
    }
    dataplane.hash_seed = table
        .integer("hash_seed", 0..=i64::MAX as u64)
        .map(|s| s.value);
    table.finish();
    dataplane
}

fn interface(context: &Context<'_>, table: Table<'_, '_, '_>) -> Option<Interface> {
    let name = table.required(table.string("name"), "name", "\"eth0\"");
    let roles = [
        ("inside", Role::Inside),
        ("outside", Role::Outside),
        ("both", Role::Both),
    ];
    let role = table.required(table.choice("role", &roles), "role", "\"inside\"");
    let queues = table.integer("queues", 1..=1024).map(|q| q.value as u16);
    let zero_copy = table.boolean("zero_copy").unwrap_or(true);
    let route_table = table.string("route_table");
    let untagged = table.boolean("untagged");
    let mut vlans = Vec::new();
    for vlan in table.tables("vlan", "[[interface.vlan]]") {
        let id = vlan.required(vlan.integer("id", 1..=4094), "id", "100");
        let route_table = vlan.string("route_table");
        if let Some(id) = id {
            let id = id.map(|id| id as u16);
            if vlans.iter().any(|v: &Vlan| v.id.value == id.value) {
                context.error(
                    &id.span,
                    format!("VLAN {} appears twice on this interface", id.value),
                    "remove one of the two",
                );
            }
            vlans.push(Vlan {
                id,
                route_table: route_table.map_or(MAIN_TABLE.into(), |t| t.value),
            });
        }
        vlan.finish();
    }
    let span = table.span();
    table.finish();
    let (name, role) = (name?, role?.value);
    if role == Role::Outside && (route_table.is_some() || untagged.is_some() || !vlans.is_empty()) {
        context.error(
            &span,
            format!(
                "`{}` faces outside only, so it has no attachments",
                name.value
            ),
            "remove `route_table`, `untagged` and [[interface.vlan]], or write role = \"both\"",
        );
    }
    // An interface that only serves VLANs leaves untagged packets to the kernel.
    let serves_untagged = untagged.unwrap_or(vlans.is_empty() || route_table.is_some());
    let untagged = (role != Role::Outside && serves_untagged)
        .then(|| route_table.map_or(MAIN_TABLE.into(), |t| t.value));
    Some(Interface {
        name,
        role,
        queues,
        zero_copy,
        untagged,
        vlans,
    })
}

/// What a connection may set for its tunnels, and a tunnel for itself.
#[derive(Clone, Default)]
struct TunnelDefaults {
    encapsulation: Option<bool>,
    local_port: Option<u16>,
    remote_port: Option<u16>,
    outside_mtu: Option<At<u16>>,
    dscp: Option<Dscp>,
    df: Option<OuterDf>,
    ignore_df: Option<bool>,
    tcp_mss: Option<Option<u16>>,
    weight: Option<u32>,
    ceiling: Option<Ceiling>,
    route_table: Option<String>,
    interface: Option<At<String>>,
    next_hop: Option<At<IpAddr>>,
    suite: Option<Suite>,
    esn: Option<bool>,
    replay_window: Option<u32>,
    key_file: Option<At<String>>,
}

impl TunnelDefaults {
    fn read(context: &Context<'_>, table: &Table<'_, '_, '_>, manual: &'static str) -> Self {
        let port = |key| table.integer(key, 1..=65_535).map(|p| p.value as u16);
        let mut read = Self {
            encapsulation: table
                .choice("encapsulation", &[("plain", false), ("udp", true)])
                .map(|e| e.value),
            local_port: port("local_port"),
            remote_port: port("remote_port"),
            outside_mtu: table
                .integer("outside_mtu", 576..=9216)
                .map(|m| m.map(|m| m as u16)),
            dscp: table
                .choice_or_integer("dscp", &[("copy", Dscp::Copy)], 0..=63, |n| {
                    Dscp::Fixed(n as u8)
                })
                .map(|d| d.value),
            df: table
                .choice(
                    "df",
                    &[
                        ("copy", OuterDf::Copy),
                        ("set", OuterDf::Set),
                        ("clear", OuterDf::Clear),
                    ],
                )
                .map(|d| d.value),
            ignore_df: table.boolean("ignore_df"),
            tcp_mss: table
                .choice_or_integer(
                    "tcp_mss",
                    &[("auto", None), ("off", Some(0))],
                    536..=9176,
                    |n| Some(n as u16),
                )
                .map(|m| m.value),
            weight: None,
            ceiling: ceiling(context, table),
            route_table: table.string("route_table").map(|t| t.value),
            interface: table.string("interface"),
            next_hop: table.parsed("next_hop", "an address such as \"192.0.2.1\""),
            suite: table
                .parsed::<SuiteName>("suite", &format!("one of {}", suites()))
                .map(|s| s.value.0),
            esn: table.boolean("esn"),
            replay_window: None,
            key_file: None,
        };
        if let Some(weight) = table.integer("weight", 0..=1_000_000) {
            if weight.value == 0 {
                context.error(
                    &weight.span,
                    "a tunnel of weight 0 would never carry anything",
                    "write 1 or more, or take the tunnel out of the routes",
                );
            }
            read.weight = Some(weight.value as u32);
        }
        if let Some(window) = table.integer("replay_window", 0..=4096) {
            let n = window.value;
            if n == 0 {
                context.warning(
                    &window.span,
                    "replay protection is off: recorded packets are accepted again",
                    "use it in a lab only; AWS's default is 1024",
                );
            } else if n < 64 || n % 64 != 0 {
                context.error(
                    &window.span,
                    format!("a replay window of {n} packets is not possible"),
                    "write a multiple of 64 from 64 to 4096",
                );
            }
            read.replay_window = Some(n as u32);
        }
        if let Some(table) = table.table("manual", manual) {
            read.key_file =
                table.required(table.string("key_file"), "key_file", "\"hawser-keys.toml\"");
            table.finish();
        }
        read
    }

    fn or(self, outer: &Self) -> Self {
        let outer = outer.clone();
        Self {
            encapsulation: self.encapsulation.or(outer.encapsulation),
            local_port: self.local_port.or(outer.local_port),
            remote_port: self.remote_port.or(outer.remote_port),
            outside_mtu: self.outside_mtu.or(outer.outside_mtu),
            dscp: self.dscp.or(outer.dscp),
            df: self.df.or(outer.df),
            ignore_df: self.ignore_df.or(outer.ignore_df),
            tcp_mss: self.tcp_mss.or(outer.tcp_mss),
            weight: self.weight.or(outer.weight),
            ceiling: self.ceiling.or(outer.ceiling),
            route_table: self.route_table.or(outer.route_table),
            interface: self.interface.or(outer.interface),
            next_hop: self.next_hop.or(outer.next_hop),
            suite: self.suite.or(outer.suite),
            esn: self.esn.or(outer.esn),
            replay_window: self.replay_window.or(outer.replay_window),
            key_file: self.key_file.or(outer.key_file),
        }
    }

    fn encapsulation(&self) -> Encapsulation {
        if self.encapsulation.unwrap_or(false) {
            Encapsulation::Udp {
                local_port: self.local_port.unwrap_or(ENCAPSULATION_PORT),
                remote_port: self.remote_port.unwrap_or(ENCAPSULATION_PORT),
            }
        } else {
            Encapsulation::Plain
        }
    }
}

/// A suite by name; the error of the cipher crate names no alternatives, the remedy here does.
struct SuiteName(Suite);

impl std::str::FromStr for SuiteName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| "there is no such suite")
    }
}

/// The names of all suites.
fn suites() -> String {
    let names: Vec<String> = Suite::ALL.iter().map(ToString::to_string).collect();
    listed(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

fn ceiling(context: &Context<'_>, table: &Table<'_, '_, '_>) -> Option<Ceiling> {
    if table.is_string("ceiling") {
        let presets = [("aws-standard", AWS_STANDARD), ("aws-large", AWS_LARGE)];
        return table.choice("ceiling", &presets).map(|c| c.value);
    }
    let inner = table.table(
        "ceiling",
        "ceiling = { bandwidth = …, packets_per_second = … }",
    )?;
    let bandwidth = inner.parsed::<Bandwidth>("bandwidth", "a bandwidth such as \"1.25Gbps\"");
    let packets = inner.integer("packets_per_second", 1..=10_000_000_000);
    if bandwidth.is_none() && packets.is_none() {
        context.error(
            &inner.span(),
            "the ceiling limits nothing",
            "write ceiling = { bandwidth = \"1.25Gbps\", packets_per_second = 140000 }",
        );
    }
    inner.finish();
    Some(Ceiling {
        bits_per_second: bandwidth.map_or(0, |b| b.value.0),
        packets_per_second: packets.map_or(0, |p| p.value),
    })
}

fn good_name(context: &Context<'_>, name: &At<String>) -> bool {
    let good = !name.value.is_empty()
        && name.value.len() <= 64
        && name
            .value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && !matches!(name.value.as_str(), "host" | "blackhole");
    if !good {
        context.error(
            &name.span,
            format!("`{}` cannot be a name", name.value),
            "use 1 to 64 letters, digits, `-`, `_` and `.`; `host` and `blackhole` are taken",
        );
    }
    good
}

fn duplicate(
    context: &Context<'_>,
    what: &str,
    name: &str,
    span: &Range<usize>,
    first: &Range<usize>,
) {
    context.error(
        span,
        format!(
            "{what} `{name}` is there already, at {}",
            context.place(first)
        ),
        "give one of the two another name",
    );
}

fn connection(
    context: &Context<'_>,
    table: Table<'_, '_, '_>,
    base: &Path,
    keys: &mut KeyFiles,
    connections: &mut Vec<At<String>>,
    tunnels: &mut Vec<Tunnel>,
) {
    let name = table
        .required(table.string("name"), "name", "\"aws-1\"")
        .filter(|name| good_name(context, name));
    let defaults = TunnelDefaults::read(context, &table, "[connection.manual]");
    let inner = table.tables("tunnel", "[[connection.tunnel]]");
    if inner.is_empty() {
        context.warning(
            &table.span(),
            "the connection has no tunnels",
            "add a [[connection.tunnel]] below it",
        );
    }
    table.finish();
    if let Some(name) = &name {
        match connections.iter().find(|c| c.value == name.value) {
            Some(first) => duplicate(context, "connection", &name.value, &name.span, &first.span),
            None => connections.push(name.clone()),
        }
    }
    // Tunnels of a connection without a usable name are read all the same, for their own errors.
    let connection = name.map_or_else(|| "?".to_owned(), |n| n.value);
    let mut before: HashMap<String, usize> = tunnels
        .iter()
        .enumerate()
        .map(|(at, t)| (t.name.clone(), at))
        .collect();
    for table in inner {
        if let Some((tunnel, name)) = tunnel(context, table, &connection, &defaults, base, keys) {
            match before.get(&tunnel.name).map(|at| &tunnels[*at]) {
                Some(first) => {
                    duplicate(context, "tunnel", &tunnel.name, &name.span, &first.span);
                }
                None => {
                    before.insert(tunnel.name.clone(), tunnels.len());
                    tunnels.push(tunnel);
                }
            }
        }
    }
}

fn tunnel(
    context: &Context<'_>,
    table: Table<'_, '_, '_>,
    connection: &str,
    defaults: &TunnelDefaults,
    base: &Path,
    keys: &mut KeyFiles,
) -> Option<(Tunnel, At<String>)> {
    const ADDRESS: &str = "an address such as \"192.0.2.1\"";
    let name = table
        .required(table.string("name"), "name", "\"a\"")
        .filter(|name| good_name(context, name));
    let local = table.required(
        table.parsed::<IpAddr>("local", ADDRESS),
        "local",
        "\"192.0.2.1\"",
    );
    let remote = table.required(
        table.parsed::<IpAddr>("remote", ADDRESS),
        "remote",
        "\"198.51.100.1\"",
    );
    let inside = table
        .parsed_list::<IpNet>(
            "inside",
            "our address with its network, \"169.254.10.2/30\"",
        )
        .unwrap_or_default();
    let owner = table.integer("owner", 0..=255).map(|o| o.map(|o| o as u16));
    let own = TunnelDefaults::read(context, &table, "[connection.tunnel.manual]").or(defaults);
    let span = table.span();
    table.finish();
    if own.encapsulation != Some(true) && (own.local_port.is_some() || own.remote_port.is_some()) {
        context.error(
            &span,
            "`local_port` and `remote_port` mean nothing without UDP encapsulation",
            "remove them or write encapsulation = \"udp\"",
        );
    }
    let name = name?;
    let full = format!("{connection}/{}", name.value);
    let suite = own.suite.unwrap_or(Suite::Aes256Gcm16);
    let manual = match &own.key_file {
        Some(file) => {
            let file = file.clone().map(|f| base.join(f));
            keys.find(context, &file, &full, &span, suite)
                .map(|(outbound, inbound)| ManualSas {
                    suite,
                    esn: own.esn.unwrap_or(false),
                    replay_window: own.replay_window.unwrap_or(REPLAY_WINDOW),
                    outbound,
                    inbound,
                })
        }
        None => {
            context.error(
                &span,
                format!("tunnel `{full}` has no keys, so it could not carry anything"),
                "add [connection.tunnel.manual] with key_file = \"…\" \
                 (`hawser manual-keys` makes such a file)",
            );
            None
        }
    };
    let tunnel = Tunnel {
        name: full,
        span,
        connection: connection.to_owned(),
        local: local?,
        remote: remote?,
        inside,
        encapsulation: own.encapsulation(),
        outside_mtu: own.outside_mtu,
        dscp: own.dscp.unwrap_or(Dscp::Copy),
        df: own.df.unwrap_or(OuterDf::Copy),
        ignore_df: own.ignore_df.unwrap_or(false),
        tcp_mss: own.tcp_mss.unwrap_or(None),
        weight: own.weight.unwrap_or(1),
        ceiling: own.ceiling.unwrap_or_default(),
        route_table: own.route_table.unwrap_or_else(|| MAIN_TABLE.into()),
        owner,
        interface: own.interface,
        next_hop: own.next_hop,
        manual,
    };
    Some((tunnel, name))
}

/// What a route's `via` can name.
struct Names<'a> {
    connections: &'a [At<String>],
    tunnels: &'a [Tunnel],
}

impl Names<'_> {
    fn resolve(&self, context: &Context<'_>, via: &[At<String>]) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let mut seen = HashSet::new();
        for target in via {
            let before = found.len();
            let name = &target.value;
            let members = self
                .tunnels
                .iter()
                .filter(|t| t.connection == *name || t.name == *name)
                .map(|t| t.name.clone());
            for member in members {
                if seen.insert(member.clone()) {
                    found.push(member);
                }
            }
            let known = self.connections.iter().any(|c| c.value == *name);
            if found.len() == before && !known && !self.tunnels.iter().any(|t| t.name == *name) {
                let names: Vec<&str> = self
                    .connections
                    .iter()
                    .map(|c| c.value.as_str())
                    .chain(self.tunnels.iter().map(|t| t.name.as_str()))
                    .collect();
                let hint = super::reader::did_you_mean(name, &names);
                context.error(
                    &target.span,
                    format!("there is no connection or tunnel `{name}`"),
                    format!(
                        "{hint}write a connection's name, \"connection/tunnel\", \"host\" or \
                         \"blackhole\""
                    ),
                );
            }
        }
        found
    }
}

fn route(
    context: &Context<'_>,
    table: Table<'_, '_, '_>,
    base: &Path,
    names: &Names<'_>,
) -> Option<Route> {
    const TO: &str = "a network such as \"10.0.0.0/8\", a list of them, or \"default\"";
    let span = table.span();
    let mut to: Vec<IpNet> = Vec::new();
    let mut seen = HashSet::new();
    if table.has("to") == table.has("file") {
        context.error(
            &span,
            "a route needs destinations, either in `to` or in `file`",
            "add a line such as: to = \"10.0.0.0/8\"",
        );
    }
    for destination in table
        .parsed_list::<Destination>("to", TO)
        .unwrap_or_default()
    {
        if !seen.insert(destination.value.0) {
            context.error(
                &destination.span,
                format!("{} is named twice in this route", destination.value.0),
                "remove one of the two",
            );
        } else {
            to.push(destination.value.0);
        }
    }
    if let Some(file) = table.string("file") {
        to.extend(destinations_from(context, &file.map(|f| base.join(f))));
    }
    let route_table = table.string("table").map_or(MAIN_TABLE.into(), |t| t.value);
    let via = table.parsed_list::<String>("via", "a name such as \"aws-1\", or a list of names");
    let interface = table.string("interface");
    let vlan = table.integer("vlan", 1..=4094).map(|v| v.value as u16);
    let gateway = table.parsed::<IpAddr>("gateway", "an address such as \"10.0.0.1\"");
    let host_route = table.boolean("host_route").unwrap_or(false);
    table.finish();
    let via = match (via, interface) {
        (Some(via), None) => {
            if gateway.is_some() || vlan.is_some() {
                context.error(
                    &span,
                    "`gateway` and `vlan` belong to a route through an interface",
                    "replace `via` by interface = \"…\", or remove them",
                );
            }
            match via.as_slice() {
                [one] if one.value == "host" => Via::Host,
                [one] if one.value == "blackhole" => Via::Blackhole,
                _ => Via::Tunnels(names.resolve(context, &via)),
            }
        }
        (None, Some(interface)) => Via::Inside {
            interface: interface.value,
            vlan,
            gateway: gateway.map(|g| g.value),
        },
        _ => {
            context.error(
                &span,
                "a route needs either `via` or `interface`",
                "write via = \"aws-1\" (all tunnels of that connection), via = \"host\", \
                 via = \"blackhole\", or interface = \"eth1\" with gateway = \"10.0.0.1\"",
            );
            return None;
        }
    };
    Some(Route {
        span,
        to,
        table: route_table,
        via,
        host_route,
    })
}

/// Destinations from a file, one a line; `#` starts a comment.
fn destinations_from(context: &Context<'_>, file: &At<PathBuf>) -> Vec<IpNet> {
    /// More than this many wrong lines are only counted.
    const SHOWN: usize = 5;
    let path = &file.value;
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            context.error(
                &file.span,
                format!("cannot read {}: {error}", path.display()),
                "name a file with one destination a line",
            );
            return Vec::new();
        }
    };
    let mut seen = HashSet::new();
    let mut list = Vec::new();
    let mut wrong = 0;
    for (number, line) in text.lines().enumerate() {
        let word = line.split('#').next().unwrap_or_default().trim();
        if word.is_empty() {
            continue;
        }
        let problem = match word.parse::<Destination>() {
            Ok(Destination(net)) if seen.insert(net) => {
                list.push(net);
                continue;
            }
            Ok(_) => "it is there already".to_owned(),
            Err(error) => error.to_string(),
        };
        wrong += 1;
        if wrong <= SHOWN {
            context.error(
                &file.span,
                format!("{}:{}: `{word}`: {problem}", path.display(), number + 1),
                "write one network a line, such as 10.0.0.0/8",
            );
        }
    }
    if wrong > SHOWN {
        context.error(
            &file.span,
            format!("{}: {} more such lines", path.display(), wrong - SHOWN),
            "correct the lines above first",
        );
    }
    list
}

fn neighbour(table: Table<'_, '_, '_>) -> Option<StaticNeighbour> {
    let interface = table.required(table.string("interface"), "interface", "\"eth1\"");
    let vlan = table.integer("vlan", 1..=4094).map(|v| v.value as u16);
    let address = table.required(
        table.parsed::<IpAddr>("address", "an address such as \"10.0.0.1\""),
        "address",
        "\"10.0.0.1\"",
    );
    let mac = table.required(
        table.parsed::<Mac>("mac", "an Ethernet address such as \"02:00:00:00:00:01\""),
        "mac",
        "\"02:00:00:00:00:01\"",
    );
    table.finish();
    Some(StaticNeighbour {
        interface: interface?.value,
        vlan,
        address: address?.value,
        mac: mac?.value.0,
    })
}
