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
    /// Tunnels of each group, by the group's name.
    #[serde(default)]
    members: BTreeMap<String, BTreeSet<String>>,
}

/// The name of the group that a route over these tunnels uses: routes with the same members share
/// one. A connection's whole set keeps its group when tunnels join or leave it; so does any other
/// set, whose name changes then, by what [`Ids::assigned`] finds in common.
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
        let members: BTreeMap<String, BTreeSet<String>> = config
            .routes
            .iter()
            .filter_map(|route| match &route.via {
                Via::Tunnels(members) if members.len() != 1 => {
                    let name = group_name(config, members);
                    Some((name, members.iter().cloned().collect()))
                }
                _ => None,
            })
            .collect();
        let inherited = self.inherited(&members);
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
            groups: assign(&inherited, members.keys().map(String::as_str), 0),
            tables,
            members,
        }
    }

    /// The numbers of the groups, those included that a group with a new name takes over from one
    /// that is no longer wanted, because they have tunnels in common: the more, the sooner. So only
    /// the flows of tunnels that left or joined move, and not those of the whole group.
    fn inherited(&self, wanted: &BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, u32> {
        let new = wanted.iter().filter(|(n, _)| !self.groups.contains_key(*n));
        let mut pairs: Vec<(usize, &String, &String)> = new
            .flat_map(|(name, members)| {
                let old = self.members.iter();
                let old = old.filter(|(n, _)| !wanted.contains_key(*n));
                old.map(move |(o, before)| (members.intersection(before).count(), name, o))
            })
            .filter(|(common, ..)| *common > 0)
            .collect();
        pairs.sort_by_key(|&(common, name, old)| (std::cmp::Reverse(common), name, old));
        let mut groups = self.groups.clone();
        for (_, name, old) in pairs {
            if !groups.contains_key(name)
                && let Some(id) = groups.remove(old)
            {
                groups.insert(name.clone(), id);
            }
        }
        groups
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

    fn sets(groups: &[(&str, &str)]) -> BTreeMap<String, BTreeSet<String>> {
        let set = |members: &str| members.split(' ').map(String::from).collect();
        let groups = groups.iter();
        groups.map(|(n, m)| ((*n).to_owned(), set(m))).collect()
    }

    fn ids(groups: &[(&str, &str)]) -> Ids {
        let members = sets(groups);
        Ids {
            groups: assign(&BTreeMap::new(), members.keys().map(String::as_str), 0),
            members,
            ..Ids::default()
        }
    }

    #[test]
    fn a_group_keeps_its_number_while_it_keeps_a_tunnel() {
        let old = ids(&[("lab", "a b c"), ("other", "x y")]);
        // One tunnel less, and so another name.
        let new = old.inherited(&sets(&[("a b", "a b"), ("other", "x y")]));
        assert_eq!((new["a b"], new["other"]), (0, 1));
        // Nothing in common: another group.
        let new = old.inherited(&sets(&[("d e", "d e"), ("other", "x y")]));
        assert!(!new.contains_key("d e"));
        // One that is still wanted gives nothing away.
        let new = old.inherited(&sets(&[("a b", "a b"), ("lab", "a b c")]));
        assert!(!new.contains_key("a b"));
        assert_eq!(new["lab"], 0);
    }

    #[test]
    fn of_several_heirs_the_one_with_most_in_common_inherits() {
        let old = ids(&[("1", "a b c d"), ("2", "e f")]);
        let new = old.inherited(&sets(&[("p", "a e f"), ("q", "b c d")]));
        assert_eq!((new["q"], new["p"]), (0, 1));
        let new = old.inherited(&sets(&[("p", "a"), ("q", "b c d f")]));
        assert_eq!(new["q"], 0);
        assert!(!new.contains_key("p"), "its only choice is taken");
    }
}
