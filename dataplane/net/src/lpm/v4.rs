//! The IPv4 table.

use std::ops::Range;

use hawser_aead::prefetch;

use super::build::{Key, Route};
use super::trie::{Fan, Node, Trie};
use super::{LEAF, STRIDE, route};
use crate::prefix::Prefix4;

/// Bits of the flat table.
///
/// Unit: bits; the table has 2^18 entries of 4 bytes, 1 MiB. 18 puts the /24, the most frequent
/// length of the Internet table, exactly one node below the table. 16 saves 768 KiB and costs a
/// node more for every /23 and /24; 24 would cost 64 MiB.
const DIRECT_BITS: u32 = 18;

/// From how many nodes on a batch asks for all of its nodes before it looks at the first.
///
/// Unit: nodes, 24 bytes each. More than this do not stay in a core's own caches; fewer do, and
/// asking costs a few instructions a packet.
const MANY_NODES: usize = 8192;

/// An IPv4 longest prefix match table.
#[derive(Clone, Debug)]
pub struct Lpm4(Trie<Fan, { 1 << DIRECT_BITS }>);

/// No bits are skipped, so a node is nothing but its slots.
impl Node<u32> for Fan {
    fn depth(_: &[Route<u32>], start: u32) -> u32 {
        start
    }

    fn new(fan: Fan, _: &[Route<u32>], _: Range<u32>, _: u32) -> Self {
        fan
    }
}

impl Lpm4 {
    /// Builds the table of `routes`. Of two routes to one prefix the later wins.
    ///
    /// # Panics
    /// If a value is above [`super::MAX_VALUE`].
    pub fn build(routes: impl IntoIterator<Item = (Prefix4, u32)>) -> Self {
        let routes = routes.into_iter();
        let routes = routes.map(|(prefix, value)| (prefix.bits(), prefix.len(), value));
        Self(Trie::build(routes))
    }

    /// The value of the longest prefix that contains `addr` (host byte order).
    #[must_use]
    #[inline]
    pub fn lookup(&self, addr: u32) -> Option<u32> {
        route(self.find(addr))
    }

    #[inline]
    fn find(&self, addr: u32) -> u32 {
        self.descend(self.0.direct[(addr >> (32 - DIRECT_BITS)) as usize], addr)
    }

    /// From an entry of the flat table to the value.
    #[inline]
    fn descend(&self, mut entry: u32, addr: u32) -> u32 {
        let mut depth = DIRECT_BITS;
        while entry & LEAF == 0 {
            let node = &self.0.nodes[entry as usize];
            entry = node.entry(addr.bits(depth, STRIDE), &self.0.leaves);
            depth += STRIDE;
        }
        entry & !LEAF
    }

    /// Looks up many addresses at once; `values[i]` becomes the value for `addrs[i]`, or
    /// [`super::NO_ROUTE`].
    ///
    /// Goes level by level where that lets cache misses overlap.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn lookup_batch(&self, addrs: &[u32], values: &mut [u32]) {
        assert_eq!(addrs.len(), values.len(), "one value per address");
        // All the flat table's entries first: these loads depend on nothing and overlap.
        for (value, addr) in values.iter_mut().zip(addrs) {
            *value = self.0.direct[(addr >> (32 - DIRECT_BITS)) as usize];
        }
        if self.0.nodes.len() > MANY_NODES {
            for &entry in &*values {
                if let Some(node) = self.0.nodes.get(entry as usize) {
                    prefetch(node);
                }
            }
        }
        for (value, addr) in values.iter_mut().zip(addrs) {
            *value = self.descend(*value, *addr);
        }
    }

    /// Memory of the table in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.0.memory()
    }
}
