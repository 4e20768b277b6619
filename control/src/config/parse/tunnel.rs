//! `[[connection]]` and `[[connection.tunnel]]`: defaults, overrides, keys.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
    path::Path,
};

use hawser_aead::Suite;
use hawser_api::{Ceiling, Dscp, Encapsulation, OuterDf};
use ipnet::IpNet;

use super::ike::{For, IkeDefaults, IkeFiles};
use crate::config::{
    keys::KeyFiles,
    model::{Keys, MAIN_TABLE, ManualSas, Tunnel},
    reader::{At, Context, Table},
    units::Bandwidth,
    words::listed,
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

/// Files with keys that were read so far.
#[derive(Default)]
pub(super) struct Files {
    pub(super) keys: KeyFiles,
    pub(super) ike: IkeFiles,
}

/// How ESP is to travel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Plain,
    Udp,
    /// As the key exchange finds out.
    Auto,
}

/// Where keys come from.
#[derive(Clone)]
enum KeySource {
    /// From this file.
    Manual(At<String>),
    /// From a key exchange.
    Ike(Box<IkeDefaults>),
}

/// What a connection may set for its tunnels, and a tunnel for itself.
#[derive(Clone, Default)]
struct TunnelDefaults {
    encapsulation: Option<At<Transport>>,
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
    suite: Option<At<Suite>>,
    esn: Option<bool>,
    replay_window: Option<u32>,
    keys: Option<KeySource>,
}

impl TunnelDefaults {
    fn read(context: &Context<'_>, table: &Table<'_, '_, '_>, names: [&'static str; 2]) -> Self {
        let port = |key| table.integer(key, 1..=65_535).map(|p| p.value as u16);
        let mut read = Self {
            encapsulation: table.choice(
                "encapsulation",
                &[
                    ("plain", Transport::Plain),
                    ("udp", Transport::Udp),
                    ("auto", Transport::Auto),
                ],
            ),
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
                .map(|s| s.map(|s| s.0)),
            esn: table.boolean("esn"),
            replay_window: None,
            keys: None,
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
        read.keys = key_source(context, table, names);
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
            keys: match (self.keys, outer.keys) {
                (Some(KeySource::Ike(own)), Some(KeySource::Ike(outer))) => {
                    Some(KeySource::Ike(Box::new(own.or(&outer))))
                }
                (own, outer) => own.or(outer),
            },
        }
    }

    fn udp(&self) -> bool {
        self.encapsulation
            .as_ref()
            .is_some_and(|e| e.value == Transport::Udp)
    }

    /// Of manual SAs; with a key exchange, what it begins with.
    fn encapsulation(&self) -> Encapsulation {
        if self.udp() {
            Encapsulation::Udp {
                local_port: self.local_port.unwrap_or(ENCAPSULATION_PORT),
                remote_port: self.remote_port.unwrap_or(ENCAPSULATION_PORT),
            }
        } else {
            Encapsulation::Plain
        }
    }
}

fn key_source(
    context: &Context<'_>,
    table: &Table<'_, '_, '_>,
    [manual, ike]: [&'static str; 2],
) -> Option<KeySource> {
    let manual = table.table("manual", manual).map(|table| {
        let file = table.required(table.string("key_file"), "key_file", "\"hawser-keys.toml\"");
        let span = table.span();
        table.finish();
        (file, span)
    });
    let ike = table
        .table("ike", ike)
        .map(|table| IkeDefaults::read(context, table));
    match (manual, ike) {
        (Some((_, span)), Some(_)) => {
            context.error(
                &span,
                "both manual keys and a key exchange: which of them?",
                "remove the `manual` table or the `ike` table",
            );
            None
        }
        (Some((file, _)), None) => file.map(KeySource::Manual),
        (None, ike) => ike.map(|ike| KeySource::Ike(Box::new(ike))),
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
    files: &mut Files,
    connections: &mut Vec<At<String>>,
    tunnels: &mut Vec<Tunnel>,
) {
    let name = table
        .required(table.string("name"), "name", "\"aws-1\"")
        .filter(|name| good_name(context, name));
    let defaults =
        TunnelDefaults::read(context, &table, ["[connection.manual]", "[connection.ike]"]);
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
        if let Some((tunnel, name)) = tunnel(context, table, &connection, &defaults, base, files) {
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
    files: &mut Files,
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
        remote(&table, local.as_ref(), ADDRESS),
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
    let own = TunnelDefaults::read(
        context,
        &table,
        ["[connection.tunnel.manual]", "[connection.tunnel.ike]"],
    )
    .or(defaults);
    let span = table.span();
    table.finish();
    let name = name?;
    let full = format!("{connection}/{}", name.value);
    let of = For {
        connection,
        tunnel: &full,
        span: &span,
        base,
        local: local.as_ref().map(|l| l.value),
        remote: remote.as_ref().map(|r| r.value),
        esn: own.esn.unwrap_or(false),
        replay_window: own.replay_window.unwrap_or(REPLAY_WINDOW),
        force_udp: own.udp(),
    };
    let keys = own.keys(context, &of, files);
    let tunnel = Tunnel {
        name: full.clone(),
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
        keys: keys.unwrap_or(Keys::None),
    };
    Some((tunnel, name))
}

/// The peer's address; `any` is the unspecified one of our family.
fn remote(
    table: &Table<'_, '_, '_>,
    local: Option<&At<IpAddr>>,
    wanted: &str,
) -> Option<At<IpAddr>> {
    if !table.is("remote", "any") {
        return table.parsed("remote", wanted);
    }
    let any = match local.map(|l| l.value) {
        Some(IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    table.string("remote").map(|text| text.map(|_| any))
}

impl TunnelDefaults {
    /// Where the tunnel's keys come from, with what does not go together.
    fn keys(&self, context: &Context<'_>, of: &For<'_>, files: &mut Files) -> Option<Keys> {
        let ports = self.local_port.is_some() || self.remote_port.is_some();
        match &self.keys {
            Some(KeySource::Manual(file)) => {
                if !self.udp() && ports {
                    context.error(
                        of.span,
                        "`local_port` and `remote_port` mean nothing without UDP encapsulation",
                        "remove them or write encapsulation = \"udp\"",
                    );
                }
                self.not_here(
                    context,
                    Transport::Auto,
                    "nobody looks for a NAT with manual keys",
                );
                let suite = self.suite.as_ref().map_or(Suite::Aes256Gcm16, |s| s.value);
                let file = file.clone().map(|f| of.base.join(f));
                let (outbound, inbound) =
                    files.keys.find(context, &file, of.tunnel, of.span, suite)?;
                Some(Keys::Manual(ManualSas {
                    suite,
                    esn: of.esn,
                    replay_window: of.replay_window,
                    outbound,
                    inbound,
                }))
            }
            Some(KeySource::Ike(ike)) => {
                if ports {
                    context.error(
                        of.span,
                        "`local_port` and `remote_port` mean nothing with a key exchange",
                        "remove them: IKE uses ports 500 and 4500 and follows a NAT's",
                    );
                }
                if let Some(suite) = &self.suite {
                    context.error(
                        &suite.span,
                        "with a key exchange the suite is negotiated",
                        format!(
                            "remove `suite`, or write esp_proposals = [\"{}\"] in the `ike` table",
                            suite.value
                        ),
                    );
                }
                self.not_here(
                    context,
                    Transport::Plain,
                    "the key exchange looks for NATs by itself",
                );
                ike.resolve(context, of, &mut files.ike)
                    .map(|ike| Keys::Ike(Box::new(ike)))
            }
            None => {
                context.error(
                    of.span,
                    format!(
                        "tunnel `{}` has no keys, so it could not carry anything",
                        of.tunnel
                    ),
                    "add [connection.ike] (`hawser help config` has an example), or \
                     [connection.manual] with key_file = \"…\" (`hawser manual-keys` makes one)",
                );
                None
            }
        }
    }

    fn not_here(&self, context: &Context<'_>, transport: Transport, why: &str) {
        if let Some(said) = &self.encapsulation
            && said.value == transport
        {
            context.error(&said.span, why, "remove `encapsulation`, or write \"udp\"");
        }
    }
}
