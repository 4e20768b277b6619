//! Numbers for names: the data plane knows tunnels, groups and route tables by number, people by
//! name.
//!
//! A name keeps its number for as long as it is configured, over reloads and over a restart of
//! control (the numbers are kept in a file), so that counters, buckets and sequence numbers go on.
//! A number that becomes free is not given away in the same reload, so that no update of one
//! transaction can be taken for the other tunnel's.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use hawser_api::{GroupId, TableId, TunnelId};
use serde::{Deserialize, Serialize};

use crate::config::{Config, MAIN_TABLE, Via};

/// Numbers by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    tunnels: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
    tables: BTreeMap<String, u32>,
}

/// The name of the group that a route over these tunnels uses: routes with the same members share
/// one. A connection's whole set keeps its group when tunnels join or leave it.
#[must_use]
pub fn group_name(config: &Config, members: &[String]) -> String {
    let mut rest: BTreeSet<&str> = members.iter().map(String::as_str).collect();
    let mut parts = Vec::new();
    for connection in &config.connections {
        let all: Vec<&str> = config
            .tunnels
            .iter()
            .filter(|t| t.connection == *connection)
            .map(|t| t.name.as_str())
            .collect();
        if !all.is_empty() && all.iter().all(|t| rest.contains(t)) {
            for tunnel in all {
                rest.remove(tunnel);
            }
            parts.push(connection.as_str());
        }
    }
    parts.extend(rest);
    parts.sort_unstable();
    parts.join(" ")
}

impl Ids {
    /// The numbers for a configuration: those that names have already, and new ones.
    #[must_use]
    pub fn assigned(&self, config: &Config) -> Self {
        let groups: BTreeSet<String> = config
            .routes
            .iter()
            .filter_map(|route| match &route.via {
                Via::Tunnels(members) if members.len() != 1 => Some(group_name(config, members)),
                _ => None,
            })
            .collect();
        let mut tables = assign(
            &self.tables,
            config
                .table_names()
                .into_iter()
                .filter(|name| *name != MAIN_TABLE),
            1,
        );
        tables.insert(MAIN_TABLE.to_owned(), TableId::MAIN.0.into());
        Self {
            tunnels: assign(
                &self.tunnels,
                config.tunnels.iter().map(|t| t.name.as_str()),
                0,
            ),
            groups: assign(&self.groups, groups.iter().map(String::as_str), 0),
            tables,
        }
    }

    /// The number of a tunnel.
    #[must_use]
    pub fn tunnel(&self, name: &str) -> Option<TunnelId> {
        self.tunnels.get(name).copied().map(TunnelId)
    }

    /// The number of a group.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<GroupId> {
        self.groups.get(name).copied().map(GroupId)
    }

    /// The number of a route table.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<TableId> {
        self.tables
            .get(name)
            .and_then(|n| u16::try_from(*n).ok())
            .map(TableId)
    }

    /// Tunnel names by number.
    #[must_use]
    pub fn tunnel_names(&self) -> BTreeMap<TunnelId, &str> {
        self.tunnels
            .iter()
            .map(|(name, id)| (TunnelId(*id), name.as_str()))
            .collect()
    }

    /// Reads the numbers that an earlier control gave; none when there is no such file.
    #[must_use]
    pub fn load(path: &Path) -> Self {
        std::fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// Writes the numbers down for a control that comes after us.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(self)?)?;
        std::fs::rename(new, path)
    }
}

fn assign<'n>(
    old: &BTreeMap<String, u32>,
    names: impl Iterator<Item = &'n str>,
    first: u32,
) -> BTreeMap<String, u32> {
    let mut taken: BTreeSet<u32> = old.values().copied().collect();
    let mut next = first;
    let mut new = BTreeMap::new();
    for name in names {
        let id = old.get(name).copied().unwrap_or_else(|| {
            while taken.contains(&next) {
                next += 1;
            }
            taken.insert(next);
            next
        });
        new.insert(name.to_owned(), id);
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_numbers_and_freed_ones_wait_a_reload() {
        let first = assign(&BTreeMap::new(), ["a", "b", "c"].into_iter(), 0);
        assert_eq!(first.values().copied().collect::<Vec<_>>(), [0, 1, 2]);
        let second = assign(&first, ["c", "d"].into_iter(), 0);
        assert_eq!((second["c"], second["d"]), (2, 3));
        let third = assign(&second, ["c", "d", "e"].into_iter(), 0);
        assert_eq!(third["e"], 0);
    }
}
