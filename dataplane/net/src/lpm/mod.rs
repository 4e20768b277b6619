//! Longest prefix match: a destination address to a value, usually an index of next-hop groups.
//!
//! A Poptrie (Asai and Ohara, "Poptrie: A Compressed Trie with Population Count for Fast and
//! Scalable Software IP Routing Table Lookup", SIGCOMM 2015): the first bits index a flat table,
//! the rest is walked six bits a step through nodes that hold two 64-bit maps; a child or leaf is
//! found by counting bits, so a node's children lie next to each other and equal neighbouring
//! leaves are stored once.
//!
//! IPv4 indexes 18 bits, so that a /24 is one node away. IPv6 indexes 16 bits and adds path
//! compression: where routes share bits, a node skips them at one comparison, since a walk of six
//! bits a step through 2001:db8::/32 to a /48 would touch six nodes for nothing.
//!
//! A table is built once from all its routes and then only read: [`Lpm`] is `Sync` and is replaced
//! as a whole. Not here: per-route state, next-hop resolution, more than one table.
//!
//! Limits: values up to [`MAX_VALUE`]; 2^31 nodes and leaves.

mod build;
mod trie;
mod v4;
mod v6;

pub use v4::Lpm4;
pub use v6::Lpm6;

use crate::parse::{Family, IpHeader};
use crate::prefix::Prefix;

/// The largest value a route may hold: the top bit marks leaves, the value below it "no route".
pub const MAX_VALUE: u32 = 0x7fff_fffe;

/// What a batch lookup writes for an address without a route.
pub const NO_ROUTE: u32 = 0x7fff_ffff;

/// Marks an entry that holds a value rather than a node's index.
const LEAF: u32 = 0x8000_0000;

/// Bits a node consumes.
const STRIDE: u32 = 6;

/// A route table of both families.
#[derive(Clone, Debug)]
pub struct Lpm {
    /// IPv4 routes.
    pub v4: Lpm4,
    /// IPv6 routes.
    pub v6: Lpm6,
}

impl Lpm {
    /// Builds the table of `routes`. Of two routes to one prefix the later wins.
    ///
    /// # Panics
    /// If a value is above [`MAX_VALUE`]: values are indices of tables that fit in memory.
    pub fn build(routes: impl IntoIterator<Item = (Prefix, u32)>) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for (prefix, value) in routes {
            match prefix {
                Prefix::V4(prefix) => v4.push((prefix, value)),
                Prefix::V6(prefix) => v6.push((prefix, value)),
            }
        }
        Self {
            v4: Lpm4::build(v4),
            v6: Lpm6::build(v6),
        }
    }

    /// The value of the longest prefix that contains the packet's destination.
    #[must_use]
    #[inline]
    pub fn lookup(&self, ip: &IpHeader) -> Option<u32> {
        match ip.family {
            Family::V4 => self.v4.lookup(ip.dst4()),
            Family::V6 => self.v6.lookup(ip.dst),
        }
    }

    /// Memory of the table in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.v4.memory() + self.v6.memory()
    }
}

impl Default for Lpm {
    fn default() -> Self {
        Self::build([])
    }
}

/// A leaf entry's value.
#[inline]
const fn route(value: u32) -> Option<u32> {
    if value == NO_ROUTE { None } else { Some(value) }
}

#[cfg(test)]
mod tests;
