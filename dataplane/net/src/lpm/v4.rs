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

/// Up to how many nodes a table also has each of them spread out, as plain entries.
///
/// Unit: nodes; spread out they take 256 bytes each, here as much as the flat table. To count bits
/// takes some 20 instructions without a special one, which not every x86-64 processor has; an entry
/// is one load. More nodes would push what else a packet needs out of the caches: then the compressed
/// form wins, whose wait for memory is shorter.
const FEW_NODES: usize = 4096;

/// Entries of a node.
const FAN: usize = 1 << STRIDE;

/// An IPv4 longest prefix match table.
#[derive(Clone, Debug)]
pub struct Lpm4 {
    trie: Trie<Fan, { 1 << DIRECT_BITS }>,
    /// The entries of all nodes, [`FAN`] each; none if they are too many.
    spread: Vec<u32>,
}

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
        let trie = Trie::build(routes);
        let nodes: &[Fan] = match trie.nodes.len() {
            ..=FEW_NODES => &trie.nodes,
            _ => &[],
        };
        let leaves = trie.leaves.as_slice();
        let entries = |fan: &Fan| std::array::from_fn::<_, FAN, _>(|i| fan.entry(i as u32, leaves));
        let spread = nodes.iter().flat_map(entries).collect();
        Self { trie, spread }
    }

    /// The value of the longest prefix that contains `addr` (host byte order).
    #[must_use]
    #[inline]
    pub fn lookup(&self, addr: u32) -> Option<u32> {
        route(self.find(addr))
    }

    #[inline]
    fn find(&self, addr: u32) -> u32 {
        let entry = self.trie.direct[(addr >> (32 - DIRECT_BITS)) as usize];
        match self.spread.is_empty() {
            true => self.descend(entry, addr),
            false => self.descend_spread(entry, addr),
        }
    }

    /// From an entry of the flat table to the value.
    #[inline]
    fn descend(&self, entry: u32, addr: u32) -> u32 {
        let Trie { nodes, leaves, .. } = &self.trie;
        walk(entry, addr, |node, slot| nodes[node].entry(slot, leaves))
    }

    /// As [`Lpm4::descend`], where the nodes are spread out.
    #[inline]
    fn descend_spread(&self, entry: u32, addr: u32) -> u32 {
        walk(entry, addr, |node, slot| {
            self.spread[node * FAN + slot as usize]
        })
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
            *value = self.trie.direct[(addr >> (32 - DIRECT_BITS)) as usize];
        }
        if !self.spread.is_empty() {
            for (value, addr) in values.iter_mut().zip(addrs) {
                *value = self.descend_spread(*value, *addr);
            }
            return;
        }
        if self.trie.nodes.len() > MANY_NODES {
            for &entry in &*values {
                if let Some(node) = self.trie.nodes.get(entry as usize) {
                    prefetch(node);
                }
            }
        }
        for (value, addr) in values.iter_mut().zip(addrs) {
            *value = self.descend(*value, *addr);
        }
    }

    /// The same table without spread-out nodes, as a large one is.
    #[cfg(test)]
    pub(super) fn compressed(mut self) -> Self {
        self.spread.clear();
        self
    }

    /// Memory of the table in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.trie.memory() + size_of_val(self.spread.as_slice())
    }
}

/// From an entry of the flat table to the value; `next` gives the entry of a node's slot.
#[inline]
fn walk(mut entry: u32, addr: u32, next: impl Fn(usize, u32) -> u32) -> u32 {
    let mut depth = DIRECT_BITS;
    while entry & LEAF == 0 {
        entry = next(entry as usize, addr.bits(depth, STRIDE));
        depth += STRIDE;
    }
    entry & !LEAF
}
