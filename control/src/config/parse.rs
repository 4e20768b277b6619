//! From TOML to [`Config`]: the shape of the file and the values of single keys.
//!
//! What follows from several keys together is checked in [`super::validate`].

mod ike;
mod route;
mod tunnel;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use hawser_api::{IdlePolicy, Role};
#[cfg(test)]
pub(super) use ike::default_lifetimes;

use super::{
    diagnostic::{Diagnostics, Source},
    model::{Config, Dataplane, Gateway, IkeGlobal, Interface, MAIN_TABLE, StaticNeighbour, Vlan},
    reader::{At, Context, Table},
    units::Mac,
    validate,
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
    let mut files = tunnel::Files::default();
    let (config, mut diagnostics) = {
        let context = Context::new(&source);
        let config = read(&context, &source, path, &mut files);
        validate::validate(&config, &context);
        (config, context.finish())
    };
    diagnostics.0.extend(files.keys.finish(&config.tunnels).0);
    diagnostics.0.extend(files.ike.secrets.finish().0);
    diagnostics.sort();
    // What a connection says wrong would be said again for each of its tunnels.
    diagnostics.0.dedup();
    ((!diagnostics.has_errors()).then_some(config), diagnostics)
}

fn read(
    context: &Context<'_>,
    source: &Arc<Source>,
    path: &Path,
    files: &mut tunnel::Files,
) -> Config {
    let document = context.document();
    let root = Table::new(context, "the file", document.get_ref(), 0..0);
    let base = path.parent().unwrap_or(Path::new("")).to_owned();
    let gateway = gateway(&root);
    let dataplane = dataplane(context, &root);
    let ike = ike_global(context, &root, &base);
    let interfaces = root
        .tables("interface", "[[interface]]")
        .into_iter()
        .filter_map(|t| interface(context, t))
        .collect();
    let mut tunnels = Vec::new();
    let mut connections = Vec::new();
    for table in root.tables("connection", "[[connection]]") {
        tunnel::connection(context, table, &base, files, &mut connections, &mut tunnels);
    }
    let names = route::Names {
        connections: &connections,
        tunnels: &tunnels,
    };
    let routes = root
        .tables("route", "[[route]]")
        .into_iter()
        .filter_map(|t| route::route(context, t, &base, &names))
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
        ike,
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

fn ike_global(context: &Context<'_>, root: &Table<'_, '_, '_>, base: &Path) -> IkeGlobal {
    let mut ike = IkeGlobal {
        tunnel_log: None,
        key_log: None,
        cookie_threshold: 64,
        half_open_limit: 4096,
        // RFC 3948's default. Unit: seconds.
        nat_keepalive: 20,
    };
    let Some(table) = root.table("ike", "[ike]") else {
        return ike;
    };
    ike.tunnel_log = table.string("tunnel_log").map(|p| base.join(p.value));
    let number = |key, range| table.integer(key, range).map(|n| n.value as u32);
    ike.cookie_threshold =
        number("cookie_threshold", 0..=1_000_000).unwrap_or(ike.cookie_threshold);
    ike.half_open_limit = number("half_open_limit", 1..=1_000_000).unwrap_or(ike.half_open_limit);
    ike.nat_keepalive = number("nat_keepalive", 1..=3_600).unwrap_or(ike.nat_keepalive);
    if let Some(folder) = table.string("key_log") {
        context.warning(
            &folder.span,
            "session keys are written to files: whoever reads them reads the traffic",
            "remove `key_log` when the search for the fault is over",
        );
        ike.key_log = Some(base.join(folder.value));
    }
    table.finish();
    ike
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
