//! The IPv4 table.

use hawser_aead::prefetch;

use super::build::{Key, Route, Slots, paint, sorted};
use super::{LEAF, NO_ROUTE, STRIDE, route};
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

#[derive(Clone, Copy, Default)]
struct Node {
    /// Slots that lead to a node.
    children: u64,
    /// Slots that start a run of equal leaves.
    runs: u64,
    first_leaf: u32,
    first_child: u32,
}

/// An IPv4 longest prefix match table.
#[derive(Clone)]
pub struct Lpm4 {
    direct: Box<[u32; 1 << DIRECT_BITS]>,
    nodes: Vec<Node>,
    leaves: Vec<u32>,
}

impl Lpm4 {
    /// Builds the table of `routes`. Of two routes to one prefix the later wins.
    ///
    /// # Panics
    /// If a value is above [`super::MAX_VALUE`].
    pub fn build(routes: impl IntoIterator<Item = (Prefix4, u32)>) -> Self {
        let routes = sorted(
            routes
                .into_iter()
                .map(|(prefix, value)| (prefix.bits(), prefix.len(), value)),
        );
        let direct = vec![LEAF | NO_ROUTE; 1 << DIRECT_BITS].into_boxed_slice();
        let direct = direct
            .try_into()
            .unwrap_or_else(|_| unreachable!("the length is constant"));
        let mut table = Self {
            direct,
            nodes: Vec::new(),
            leaves: Vec::new(),
        };
        let mut below: Vec<(usize, &[Route<u32>])> = Vec::new();
        paint(
            &routes,
            0,
            DIRECT_BITS,
            |slot, count, value| table.direct[slot..slot + count].fill(LEAF | value),
            |slot, longer| below.push((slot, longer)),
        );
        for (slot, longer) in below {
            // Painting is complete: the entry holds the value that the node inherits.
            let inherited = table.direct[slot] & !LEAF;
            let node = table.nodes.len();
            table.nodes.push(Node::default());
            table.direct[slot] = node as u32;
            table.fill(node, longer, DIRECT_BITS, inherited);
        }
        table.nodes.shrink_to_fit();
        table.leaves.shrink_to_fit();
        table
    }

    fn fill(&mut self, at: usize, routes: &[Route<u32>], depth: u32, inherited: u32) {
        let slots = Slots::lay(routes, depth, inherited);
        let mut node = Node {
            first_leaf: self.leaves.len() as u32,
            first_child: self.nodes.len() as u32,
            ..Node::default()
        };
        let mut previous = None;
        for (slot, (&value, longer)) in slots.values.iter().zip(&slots.longer).enumerate() {
            if !longer.is_empty() {
                node.children |= 1 << slot;
            } else if previous != Some(value) {
                node.runs |= 1 << slot;
                self.leaves.push(value);
                previous = Some(value);
            }
        }
        self.nodes[at] = node;
        let first = self.nodes.len();
        self.nodes
            .resize(first + node.children.count_ones() as usize, Node::default());
        let children = slots
            .values
            .iter()
            .zip(&slots.longer)
            .filter(|(_, l)| !l.is_empty());
        for (child, (&value, longer)) in children.enumerate() {
            self.fill(first + child, longer, depth + STRIDE, value);
        }
    }

    /// The value of the longest prefix that contains `addr` (host byte order).
    #[must_use]
    #[inline]
    pub fn lookup(&self, addr: u32) -> Option<u32> {
        route(self.find(addr))
    }

    #[inline]
    fn find(&self, addr: u32) -> u32 {
        self.descend(self.direct[(addr >> (32 - DIRECT_BITS)) as usize], addr)
    }

    /// From an entry of the flat table to the value.
    #[inline]
    fn descend(&self, mut entry: u32, addr: u32) -> u32 {
        let mut depth = DIRECT_BITS;
        while entry & LEAF == 0 {
            entry = self.step(entry, addr.bits(depth, STRIDE));
            depth += STRIDE;
        }
        entry & !LEAF
    }

    /// From a node to the entry of its `slot`: a child's index, or a leaf's value with [`LEAF`].
    #[inline]
    fn step(&self, node: u32, slot: u32) -> u32 {
        let node = &self.nodes[node as usize];
        // The slot and all below it.
        let upto = (2u64 << slot).wrapping_sub(1);
        if node.children >> slot & 1 != 0 {
            node.first_child + (node.children & upto).count_ones() - 1
        } else {
            LEAF | self.leaves[(node.first_leaf + (node.runs & upto).count_ones() - 1) as usize]
        }
    }

    /// Looks up many addresses at once; `values[i]` becomes the value for `addrs[i]`, or
    /// [`NO_ROUTE`].
    ///
    /// Goes level by level where that lets cache misses overlap.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn lookup_batch(&self, addrs: &[u32], values: &mut [u32]) {
        assert_eq!(addrs.len(), values.len(), "one value per address");
        // All the flat table's entries first: these loads depend on nothing and overlap.
        for (value, addr) in values.iter_mut().zip(addrs) {
            *value = self.direct[(addr >> (32 - DIRECT_BITS)) as usize];
        }
        if self.nodes.len() > MANY_NODES {
            for &entry in &*values {
                if let Some(node) = self.nodes.get(entry as usize) {
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
        size_of_val(&*self.direct)
            + size_of_val(self.nodes.as_slice())
            + size_of_val(self.leaves.as_slice())
    }
}

impl std::fmt::Debug for Lpm4 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lpm4")
            .field("nodes", &self.nodes.len())
            .field("leaves", &self.leaves.len())
            .finish()
    }
}
