//! `[[route]]`: destinations, from the file itself or from one beside it, and where they lead.

use std::{
    collections::HashSet,
    net::IpAddr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;

use crate::config::{
    model::{MAIN_TABLE, Route, Tunnel, Via},
    reader::{At, Context, Table},
    units::Destination,
    words::did_you_mean,
};

/// What a route's `via` can name.
pub(super) struct Names<'a> {
    pub(super) connections: &'a [At<String>],
    pub(super) tunnels: &'a [Tunnel],
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
                let hint = did_you_mean(name, &names);
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

pub(super) fn route(
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
