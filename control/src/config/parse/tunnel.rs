//! `[[connection]]` and `[[connection.tunnel]]`: defaults, overrides, keys.

use std::{collections::HashMap, net::IpAddr, ops::Range, path::Path};

use hawser_aead::Suite;
use hawser_api::{Ceiling, Dscp, Encapsulation, OuterDf};
use ipnet::IpNet;

use crate::config::{
    keys::KeyFiles,
    model::{MAIN_TABLE, ManualSas, Tunnel},
    reader::{At, Context, Table, listed},
    units::Bandwidth,
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

pub(super) fn connection(
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
