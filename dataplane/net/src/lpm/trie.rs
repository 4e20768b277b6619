//! What the tables of both families are made of (a flat table, nodes, leaves), and how they are built.

use std::{fmt, ops::Range};

use super::build::{Key, Route, Slots, paint, sorted};
use super::{LEAF, NO_ROUTE, STRIDE};

/// Where a node's slots lead. All that an IPv4 node has.
#[derive(Clone, Copy, Default)]
pub(super) struct Fan {
    /// Slots that lead to a node.
    children: u64,
    /// Slots that start a run of equal leaves.
    runs: u64,
    first_leaf: u32,
    first_child: u32,
}

impl Fan {
    /// The entry of a slot: a child's index, or a leaf's value with [`LEAF`].
    #[inline]
    pub(super) fn entry(&self, slot: u32, leaves: &[u32]) -> u32 {
        // The slot and all below it.
        let upto = (2u64 << slot).wrapping_sub(1);
        if self.children >> slot & 1 != 0 {
            self.first_child + (self.children & upto).count_ones() - 1
        } else {
            LEAF | leaves[(self.first_leaf + (self.runs & upto).count_ones() - 1) as usize]
        }
    }
}

/// A family's node.
pub(super) trait Node<K>: Clone + Default {
    /// The bit at which the slots of a node for `routes` begin, when they share their first `start`
    /// bits and are all longer.
    fn depth(routes: &[Route<K>], start: u32) -> u32;

    /// That node. `skipped` is from `start` to its depth; an address that differs there resolves to
    /// what the node inherited.
    fn new(fan: Fan, routes: &[Route<K>], skipped: Range<u32>, inherited: u32) -> Self;
}

/// A flat table with an entry for each value of an address's first bits, and what lies below.
#[derive(Clone)]
pub(super) struct Trie<N, const ENTRIES: usize> {
    pub(super) direct: Box<[u32; ENTRIES]>,
    pub(super) nodes: Vec<N>,
    pub(super) leaves: Vec<u32>,
}

impl<N, const ENTRIES: usize> Trie<N, ENTRIES> {
    const DIRECT_BITS: u32 = ENTRIES.ilog2();

    /// Builds the table of `routes`. Of two routes to one prefix the later wins.
    ///
    /// # Panics
    /// If a value is above [`super::MAX_VALUE`].
    pub(super) fn build<K: Key>(routes: impl Iterator<Item = (K, u8, u32)>) -> Self
    where
        N: Node<K>,
    {
        let routes = sorted(routes);
        let direct = vec![LEAF | NO_ROUTE; ENTRIES].into_boxed_slice();
        let direct = direct
            .try_into()
            .unwrap_or_else(|_| unreachable!("the length is constant"));
        let mut table = Self {
            direct,
            nodes: Vec::new(),
            leaves: Vec::new(),
        };
        let mut below: Vec<(usize, &[Route<K>])> = Vec::new();
        paint(
            &routes,
            0,
            Self::DIRECT_BITS,
            |slot, count, value| table.direct[slot..slot + count].fill(LEAF | value),
            |slot, longer| below.push((slot, longer)),
        );
        for (slot, longer) in below {
            // Painting is complete: the entry holds the value that the node inherits.
            let inherited = table.direct[slot] & !LEAF;
            let node = table.nodes.len();
            table.nodes.push(N::default());
            table.direct[slot] = node as u32;
            table.fill(node, longer, Self::DIRECT_BITS, inherited);
        }
        table.nodes.shrink_to_fit();
        table.leaves.shrink_to_fit();
        table
    }

    /// Fills node `at` with `routes`, which share their first `start` bits and are all longer.
    fn fill<K: Key>(&mut self, at: usize, routes: &[Route<K>], start: u32, inherited: u32)
    where
        N: Node<K>,
    {
        let depth = N::depth(routes, start);
        let slots = Slots::lay(routes, depth, inherited);
        let first = self.nodes.len();
        let mut fan = Fan {
            first_leaf: self.leaves.len() as u32,
            first_child: first as u32,
            ..Fan::default()
        };
        let mut previous = None;
        for (slot, (&value, longer)) in slots.values.iter().zip(&slots.longer).enumerate() {
            if !longer.is_empty() {
                fan.children |= 1 << slot;
            } else if previous != Some(value) {
                fan.runs |= 1 << slot;
                self.leaves.push(value);
                previous = Some(value);
            }
        }
        self.nodes[at] = N::new(fan, routes, start..depth, inherited);
        self.nodes
            .resize(first + fan.children.count_ones() as usize, N::default());
        let children = slots
            .values
            .iter()
            .zip(&slots.longer)
            .filter(|(_, l)| !l.is_empty());
        for (child, (&value, longer)) in children.enumerate() {
            self.fill(first + child, longer, depth + STRIDE, value);
        }
    }

    /// Memory in bytes.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.direct)
            + size_of_val(self.nodes.as_slice())
            + size_of_val(self.leaves.as_slice())
    }
}

impl<N, const ENTRIES: usize> fmt::Debug for Trie<N, ENTRIES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trie")
            .field("nodes", &self.nodes.len())
            .field("leaves", &self.leaves.len())
            .finish()
    }
}
