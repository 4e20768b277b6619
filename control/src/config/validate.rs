//! What several keys of a configuration say together, and what the host says to it.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use hawser_api::{Encapsulation, Role};
use ipnet::{IpNet, Ipv4Net};

use super::{
    diagnostic::Diagnostics,
    ike::Startup,
    model::{Config, MAIN_TABLE, Tunnel, Via},
    reader::Context,
    words::{did_you_mean, listed},
};

/// Inside networks that AWS keeps for itself.
const AWS_RESERVED: [&str; 7] = [
    "169.254.0.0/30",
    "169.254.1.0/30",
    "169.254.2.0/30",
    "169.254.3.0/30",
    "169.254.4.0/30",
    "169.254.5.0/30",
    "169.254.169.252/30",
];
/// The smallest MTU of a link that carries IPv6 (RFC 8200, section 5).
const IPV6_MIN_MTU: u16 = 1280;

/// Checks a configuration against itself.
pub(super) fn validate(config: &Config, context: &Context<'_>) {
    interfaces(config, context);
    for tunnel in &config.tunnels {
        tunnel_alone(config, tunnel, context);
    }
    inside_networks(config, context);
    told_apart(config, context);
    routes(config, context);
    tables(config, context);
}

fn interfaces(config: &Config, context: &Context<'_>) {
    for (i, interface) in config.interfaces.iter().enumerate() {
        let name = &interface.name;
        if let Some(first) = config.interfaces[..i]
            .iter()
            .find(|f| f.name.value == name.value)
        {
            context.error(
                &name.span,
                format!(
                    "interface `{}` is there already, at {}",
                    name.value,
                    context.place(&first.name.span)
                ),
                "describe each interface once; VLANs go into [[interface.vlan]]",
            );
        }
        // IFNAMSIZ with its final zero.
        if name.value.is_empty() || name.value.len() > 15 {
            context.error(
                &name.span,
                format!("`{}` cannot be an interface's name", name.value),
                "Linux names interfaces with 1 to 15 characters",
            );
        }
        if config.gateway.tun.as_deref() == Some(name.value.as_str()) {
            context.error(
                &name.span,
                format!("`{}` is the name of the TUN device", name.value),
                "choose another name for `tun` in [gateway]",
            );
        }
    }
    let has = |role| {
        config
            .interfaces
            .iter()
            .any(|i| i.role == role || i.role == Role::Both)
    };
    if !has(Role::Outside) {
        context.error(
            &(0..0),
            "no interface faces outside",
            "add an [[interface]] with role = \"outside\" (or \"both\")",
        );
    }
    if let Some(tun) = &config.gateway.tun
        && (tun.is_empty() || tun.len() > 15)
    {
        context.error(
            &(0..0),
            format!("`{tun}` cannot be an interface's name"),
            "write `tun` in [gateway] with 1 to 15 characters",
        );
    }
    for neighbour in &config.neighbours {
        if config.interface(&neighbour.interface).is_none() {
            context.error(
                &(0..0),
                format!(
                    "the neighbour {} is on `{}`, which is no [[interface]]",
                    neighbour.address, neighbour.interface
                ),
                "correct its `interface`",
            );
        }
    }
}

fn tunnel_alone(config: &Config, tunnel: &Tunnel, context: &Context<'_>) {
    let (local, remote) = (&tunnel.local, &tunnel.remote);
    if local.value.is_ipv4() != remote.value.is_ipv4() {
        context.error(
            &remote.span,
            format!(
                "local {} and remote {} are of different families",
                local.value, remote.value
            ),
            "give both as IPv4 or both as IPv6: an outer packet has one IP header",
        );
    }
    for address in [local, remote] {
        let ip = address.value;
        if tunnel.ike().is_some() && tunnel.any_remote() && ip == remote.value {
            continue;
        }
        if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
            context.error(
                &address.span,
                format!("{ip} cannot be one end of a tunnel"),
                "write the address of a host",
            );
        }
    }
    if local.value == remote.value {
        context.error(
            &remote.span,
            format!("local and remote are both {}", local.value),
            "write the peer's address as `remote`",
        );
    }
    if let Some(mtu) = &tunnel.outside_mtu
        && local.value.is_ipv6()
        && mtu.value < IPV6_MIN_MTU
    {
        context.error(
            &mtu.span,
            format!("an outside MTU of {} is too small for IPv6", mtu.value),
            format!("write at least {IPV6_MIN_MTU} (RFC 8200, section 5)"),
        );
    }
    if let (Some(owner), Some(workers)) = (&tunnel.owner, &config.dataplane.workers)
        && usize::from(owner.value) >= workers.len()
    {
        context.error(
            &owner.span,
            format!(
                "there is no worker {}: the data plane has {}, numbered from 0",
                owner.value,
                workers.len()
            ),
            "write a smaller number, leave `owner` out, or raise `workers` in [dataplane]",
        );
    }
    if let Some(interface) = &tunnel.interface {
        let outside: Vec<&str> = config
            .interfaces
            .iter()
            .filter(|i| i.role != Role::Inside)
            .map(|i| i.name.value.as_str())
            .collect();
        if !outside.contains(&interface.value.as_str()) {
            context.error(
                &interface.span,
                format!(
                    "`{}` is no [[interface]] that faces outside",
                    interface.value
                ),
                format!(
                    "{}these do: {}",
                    did_you_mean(&interface.value, &outside),
                    listed(&outside)
                ),
            );
        }
    }
    if let Some(next_hop) = &tunnel.next_hop {
        if tunnel.interface.is_none() {
            context.error(
                &next_hop.span,
                "`next_hop` says nothing without `interface`",
                "add interface = \"…\", the outside interface that the next hop is on",
            );
        }
        if next_hop.value.is_ipv4() != remote.value.is_ipv4() {
            context.error(
                &next_hop.span,
                format!(
                    "next hop {} and remote {} are of different families",
                    next_hop.value, remote.value
                ),
                "write a next hop of the tunnel's family",
            );
        }
    }
    if let Encapsulation::Udp {
        local_port: 500, ..
    } = tunnel.encapsulation
    {
        context.error(
            &tunnel.span,
            "port 500 is IKE's own",
            "use port 4500 (RFC 3948, section 2.1)",
        );
    }
}

/// Two tunnels with the same ends and the same names could not be told apart by a responder.
fn told_apart(config: &Config, context: &Context<'_>) {
    let mut seen: HashMap<String, &Tunnel> = HashMap::new();
    for tunnel in &config.tunnels {
        let Some(ike) = tunnel.ike() else { continue };
        let key = format!(
            "{} {} {:?} {:?}",
            tunnel.local.value, tunnel.remote.value, ike.local_id, ike.remote_id
        );
        if let Some(first) = seen.get(&key) {
            context.error(
                &tunnel.span,
                format!(
                    "`{}` has the same ends and identities as `{}` at {}: nobody could tell them \
                     apart",
                    tunnel.name,
                    first.name,
                    context.place(&first.span)
                ),
                "give one of them another `local`, `remote`, `local_id` or `remote_id`",
            );
        } else {
            seen.insert(key, tunnel);
        }
        if tunnel.any_remote() && ike.startup != Startup::Add {
            context.error(
                &tunnel.remote.span,
                format!("`{}` cannot be started from here: its peer may be anywhere", tunnel.name),
                "write startup_action = \"add\" in its `ike` table, or the peer's address as `remote`",
            );
        }
    }
}

fn inside_networks(config: &Config, context: &Context<'_>) {
    let mut all: Vec<(IpNet, &str, &std::ops::Range<usize>)> = Vec::new();
    for tunnel in &config.tunnels {
        for inside in &tunnel.inside {
            let net = inside.value;
            let ip = net.addr();
            let host_bits = net.max_prefix_len() - net.prefix_len();
            let edge =
                host_bits >= 2 && (ip == net.network() || (ip.is_ipv4() && ip == net.broadcast()));
            if edge || ip.is_multicast() || ip.is_unspecified() {
                context.error(
                    &inside.span,
                    format!("{ip} cannot be our address in {}", net.trunc()),
                    "write our own address with the prefix length, such as 169.254.10.2/30",
                );
            }
            if let IpNet::V4(net) = net.trunc()
                && AWS_RESERVED.iter().any(|r| r.parse() == Ok(net))
            {
                context.warning(
                    &inside.span,
                    format!("AWS keeps {net} for itself"),
                    "choose another /30 in 169.254.0.0/16 if the peer is AWS",
                );
            }
            // Sorted by its network, an overlap can only be with a neighbour in the order.
            all.push((net.trunc(), &tunnel.name, &inside.span));
        }
    }
    all.sort_by_key(|(net, _, _)| (net.network(), net.prefix_len()));
    let mut widest: Option<(IpNet, &str, &std::ops::Range<usize>)> = None;
    for (net, tunnel, span) in all {
        if let Some((other, first, at)) = widest
            && other.contains(&net)
        {
            context.error(
                span,
                format!(
                    "inside network {net} of `{tunnel}` overlaps {other} of `{first}` at {}",
                    context.place(at)
                ),
                "give every tunnel an inside network of its own",
            );
        } else {
            widest = Some((net, tunnel, span));
        }
    }
}

fn routes(config: &Config, context: &Context<'_>) {
    let mut seen: HashMap<(&str, IpNet), &std::ops::Range<usize>> = HashMap::new();
    let mut inside: HashMap<(&str, IpNet), &str> = HashMap::new();
    for tunnel in &config.tunnels {
        for net in &tunnel.inside {
            for table in [tunnel.route_table.as_str(), MAIN_TABLE] {
                inside.insert((table, net.value.trunc()), &tunnel.name);
            }
        }
    }
    for route in &config.routes {
        for &to in &route.to {
            if let Some(first) = seen.insert((&route.table, to), &route.span) {
                context.error(
                    &route.span,
                    format!(
                        "a route to {to} is there already, at {}",
                        context.place(first)
                    ),
                    "remove one; to spread over several tunnels name them all in one `via`",
                );
            }
            if let Some(tunnel) = inside.get(&(route.table.as_str(), to)) {
                context.error(
                    &route.span,
                    format!("{to} is the inside network of `{tunnel}`"),
                    "remove the route: inside networks are routed by themselves",
                );
            }
        }
        match &route.via {
            Via::Inside {
                interface,
                vlan,
                gateway,
            } => {
                let served = config.interface(interface).filter(|i| match vlan {
                    None => i.untagged.is_some(),
                    Some(id) => i.vlans.iter().any(|v| v.id.value == *id),
                });
                if served.is_none() {
                    let names: Vec<&str> = config
                        .interfaces
                        .iter()
                        .filter(|i| i.role != Role::Outside)
                        .map(|i| i.name.value.as_str())
                        .collect();
                    let vlan = vlan.map_or(String::new(), |id| format!(" with VLAN {id}"));
                    context.error(
                        &route.span,
                        format!("`{interface}`{vlan} is no inside [[interface]]"),
                        format!(
                            "{}these are: {}",
                            did_you_mean(interface, &names),
                            listed(&names)
                        ),
                    );
                }
                if let Some(gateway) = gateway
                    && let Some(to) = route
                        .to
                        .iter()
                        .find(|to| to.addr().is_ipv4() != gateway.is_ipv4())
                {
                    context.error(
                        &route.span,
                        format!("gateway {gateway} is not of the family of {to}"),
                        "write a gateway of the destinations' family",
                    );
                }
            }
            Via::Host if config.gateway.tun.is_none() => context.error(
                &route.span,
                "the host path is off (`host_path = false`), so nothing can go to the host",
                "remove the route or switch the host path on in [gateway]",
            ),
            Via::Tunnels(_) | Via::Host | Via::Blackhole => {}
        }
        if route.host_route
            && (!matches!(route.via, Via::Tunnels(_)) || config.gateway.tun.is_none())
        {
            context.error(
                &route.span,
                "`host_route` only makes sense for a route over tunnels with the host path on",
                "remove `host_route`",
            );
        }
    }
    if config.routes.is_empty() && !config.tunnels.is_empty() {
        context.warning(
            &(0..0),
            "there are no routes, so no traffic of the site enters a tunnel",
            "add a [[route]], such as: to = \"10.0.0.0/8\", via = \"aws-1\"",
        );
    }
}

fn tables(config: &Config, context: &Context<'_>) {
    let associated = |table: &str| {
        config.tunnels.iter().any(|t| t.route_table == table)
            || config.interfaces.iter().any(|i| {
                i.untagged.as_deref() == Some(table)
                    || i.vlans.iter().any(|v| v.route_table == table)
            })
    };
    for route in &config.routes {
        if route.table != MAIN_TABLE && !associated(&route.table) {
            context.warning(
                &route.span,
                format!("no attachment looks into route table `{}`", route.table),
                "write it as `route_table` of an interface, VLAN, connection or tunnel",
            );
        }
    }
}

/// What the host has: interface names, addresses with their interface.
#[derive(Clone, Debug, Default)]
pub struct HostView {
    /// Names of all interfaces.
    pub interfaces: Vec<String>,
    /// Addresses with their networks and interfaces.
    pub addresses: Vec<(String, IpNet)>,
}

/// Checks a configuration against the host.
#[must_use]
pub fn against_host(config: &Config, host: &HostView) -> Diagnostics {
    let mut found = Diagnostics::default();
    let names: Vec<&str> = host.interfaces.iter().map(String::as_str).collect();
    for interface in &config.interfaces {
        if !names.contains(&interface.name.value.as_str()) {
            found.error(
                Some(config.source.locate(&interface.name.span)),
                format!(
                    "there is no interface `{}` on this host",
                    interface.name.value
                ),
                format!(
                    "{}there are {}",
                    did_you_mean(&interface.name.value, &names),
                    listed(&names)
                ),
            );
        }
    }
    let ours: HashSet<IpAddr> = host.addresses.iter().map(|(_, net)| net.addr()).collect();
    let is_ours = |ip: IpAddr| ours.contains(&ip);
    let mut said = HashSet::new();
    for tunnel in &config.tunnels {
        if !is_ours(tunnel.local.value) && said.insert(tunnel.local.value) {
            found.warning(
                Some(config.source.locate(&tunnel.local.span)),
                format!("{} is no address of this host", tunnel.local.value),
                format!(
                    "run: ip address add {} dev …",
                    IpNet::from(tunnel.local.value)
                ),
            );
        }
        if is_ours(tunnel.remote.value) {
            found.error(
                Some(config.source.locate(&tunnel.remote.span)),
                format!("{} is this host's own address", tunnel.remote.value),
                "write the peer's address as `remote`",
            );
        }
    }
    // Collected once: a gateway may have thousands of addresses and a million routes.
    let connected: Vec<(&String, IpNet)> = host
        .addresses
        .iter()
        .filter(|(name, _)| {
            config
                .interface(name)
                .is_some_and(|i| i.role != Role::Outside)
        })
        .map(|(name, net)| (name, net.trunc()))
        .collect();
    for tunnel in &config.tunnels {
        for inside in &tunnel.inside {
            let net = inside.value;
            if let Some((name, other)) = host.addresses.iter().find(|(name, other)| {
                Some(name.as_str()) != config.gateway.tun.as_deref() && overlap(&net, other)
            }) {
                found.error(
                    Some(config.source.locate(&inside.span)),
                    format!(
                        "inside network {} of `{}` overlaps {} on `{name}`",
                        net.trunc(),
                        tunnel.name,
                        other.trunc()
                    ),
                    "choose another inside network, or remove the address there",
                );
            }
        }
    }
    for route in &config.routes {
        let Via::Tunnels(_) = route.via else { continue };
        for to in &route.to {
            if let Some((name, net)) = connected.iter().find(|(_, net)| net.contains(to)) {
                found.error(
                    Some(config.source.locate(&route.span)),
                    format!("{to} is inside network {net} of `{name}`, but would go into a tunnel"),
                    "route wider networks only: the longest prefix wins, and this one would take \
                     packets away from the interface",
                );
            }
        }
    }
    found.sort();
    found
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    // A link-local network is on every interface: no conflict.
    let link_local =
        |net: &IpNet| matches!(net, IpNet::V6(v6) if v6.addr().is_unicast_link_local());
    let any = |net: &IpNet| matches!(net, IpNet::V4(v4) if *v4 == Ipv4Net::default());
    !link_local(a) && !any(b) && (a.contains(&b.network()) || b.contains(&a.network()))
}
