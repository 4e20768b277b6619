//! The IPv6 table.

use super::build::{Key, Route, Slots, paint, sorted};
use super::{LEAF, NO_ROUTE, STRIDE, route};
use crate::prefix::Prefix6;

/// Bits of the flat table.
///
/// Unit: bits; the table has 2^16 entries of 4 bytes, 256 KiB. Registries allocate from /12 and
/// site prefixes begin at /29, so 16 bits separate regions and the nodes do the rest.
const DIRECT_BITS: u32 = 16;

/// How many lookups of a batch advance together; see the IPv4 table.
const LANES: usize = 8;

/// A node reads one 64-bit half of the address: its skipped bits and its slot never cross the
/// middle, so a walk needs no 128-bit shift. Nodes near the middle re-read bits instead.
#[derive(Clone, Copy, Default)]
struct Node {
    /// The bits of the half that all routes below share and that no node above has looked at.
    mask: u64,
    expected: u64,
    /// Slots that lead to a node.
    children: u64,
    /// Slots that start a run of equal leaves.
    runs: u64,
    first_leaf: u32,
    first_child: u32,
    /// What an address that differs in the masked bits resolves to.
    otherwise: u32,
    /// How far the slot number's low bit is from the half's low bit.
    shift: u8,
    /// 0 for the high half, 1 for the low half.
    half: u8,
}

/// An IPv6 longest prefix match table.
#[derive(Clone)]
pub struct Lpm6 {
    direct: Box<[u32; 1 << DIRECT_BITS]>,
    nodes: Vec<Node>,
    leaves: Vec<u32>,
}

impl Lpm6 {
    /// Builds the table of `routes`. Of two routes to one prefix the later wins.
    ///
    /// # Panics
    /// If a value is above [`super::MAX_VALUE`].
    pub fn build(routes: impl IntoIterator<Item = (Prefix6, u32)>) -> Self {
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
        let mut below: Vec<(usize, &[Route<u128>])> = Vec::new();
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

    /// Fills node `at` with `routes`, which share their first `start` bits and are all longer.
    fn fill(&mut self, at: usize, routes: &[Route<u128>], start: u32, inherited: u32) {
        let depth = node_depth(routes, start);
        let slots = Slots::lay(routes, depth, inherited);
        let mask = span(start, depth);
        let half = depth / 64;
        let mut node = Node {
            mask: half_of(mask, half),
            expected: half_of(mask & routes[0].key, half),
            first_leaf: self.leaves.len() as u32,
            first_child: self.nodes.len() as u32,
            otherwise: inherited,
            shift: (64 - STRIDE - depth % 64) as u8,
            half: half as u8,
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
    pub fn lookup(&self, addr: u128) -> Option<u32> {
        route(self.find(addr))
    }

    #[inline]
    fn find(&self, addr: u128) -> u32 {
        let halves = [(addr >> 64) as u64, addr as u64];
        let mut entry = self.direct[(addr >> (128 - DIRECT_BITS)) as usize];
        while entry & LEAF == 0 {
            entry = self.step(entry, halves);
        }
        entry & !LEAF
    }

    /// From a node to the next entry: a child's index, or a value with [`LEAF`].
    #[inline]
    fn step(&self, node: u32, halves: [u64; 2]) -> u32 {
        let node = &self.nodes[node as usize];
        let half = halves[usize::from(node.half & 1)];
        if half & node.mask != node.expected {
            return LEAF | node.otherwise;
        }
        let slot = half >> (node.shift & 63) & 63;
        // The slot and all below it.
        let upto = (2u64 << slot).wrapping_sub(1);
        if node.children >> slot & 1 != 0 {
            node.first_child + (node.children & upto).count_ones() - 1
        } else {
            LEAF | self.leaves[(node.first_leaf + (node.runs & upto).count_ones() - 1) as usize]
        }
    }

    /// Looks up many addresses at once; `values[i]` becomes the value for `addrs[i]`, or
    /// [`NO_ROUTE`]. See the IPv4 table's.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn lookup_batch(&self, addrs: &[u128], values: &mut [u32]) {
        assert_eq!(addrs.len(), values.len(), "one value per address");
        let (addrs, addrs_rest) = addrs.as_chunks::<LANES>();
        let (values, values_rest) = values.as_chunks_mut::<LANES>();
        for (addrs, values) in addrs.iter().zip(values) {
            for (value, addr) in values.iter_mut().zip(addrs) {
                *value = self.direct[(addr >> (128 - DIRECT_BITS)) as usize];
            }
            while values.iter().any(|value| value & LEAF == 0) {
                for (value, addr) in values.iter_mut().zip(addrs) {
                    if *value & LEAF == 0 {
                        *value = self.step(*value, [(addr >> 64) as u64, *addr as u64]);
                    }
                }
            }
            for value in values {
                *value &= !LEAF;
            }
        }
        for (value, addr) in values_rest.iter_mut().zip(addrs_rest) {
            *value = self.find(*addr);
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

/// Where the slot of a node for `routes` begins: behind the bits that they all share, but before
/// the end of the shortest, and with skipped bits and slot in one half of the address.
fn node_depth(routes: &[Route<u128>], start: u32) -> u32 {
    let shared = routes[0].key.common(routes[routes.len() - 1].key);
    let depth = if shared > start {
        let shortest = routes.iter().map(|route| route.len).min().unwrap_or(start);
        // Each route is longer than `start`, so this does not go below it.
        shared.min(shortest - 1)
    } else {
        start
    };
    let last_in_half = if start < 64 {
        64 - STRIDE
    } else {
        128 - STRIDE
    };
    depth.min(last_in_half)
}

/// Ones in bits `start..end`, counted from the most significant; none if `end <= start`.
fn span(start: u32, end: u32) -> u128 {
    let from = |bit: u32| u128::MAX.checked_shr(bit).unwrap_or(0);
    from(start) & !from(end)
}

fn half_of(bits: u128, half: u32) -> u64 {
    if half == 0 {
        (bits >> 64) as u64
    } else {
        bits as u64
    }
}

impl std::fmt::Debug for Lpm6 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lpm6")
            .field("nodes", &self.nodes.len())
            .field("leaves", &self.leaves.len())
            .finish()
    }
}
