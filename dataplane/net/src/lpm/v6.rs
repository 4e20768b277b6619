//! The IPv6 table.

use std::ops::Range;

use super::build::{Key, Route};
use super::trie::{Fan, Node, Trie};
use super::{LEAF, STRIDE, route};
use crate::prefix::Prefix6;

/// Bits of the flat table.
///
/// Unit: bits; the table has 2^16 entries of 4 bytes, 256 KiB. Registries allocate from /12 and
/// site prefixes begin at /29, so 16 bits separate regions and the nodes do the rest.
const DIRECT_BITS: u32 = 16;

/// How many lookups of a batch advance together, so that their cache misses overlap.
const LANES: usize = 8;

/// A node reads one 64-bit half of the address: its skipped bits and its slot never cross the
/// middle, so a walk needs no 128-bit shift. Nodes near the middle re-read bits instead.
#[derive(Clone, Copy, Default)]
struct Node6 {
    /// The bits of the half that all routes below share and that no node above has looked at.
    mask: u64,
    expected: u64,
    fan: Fan,
    /// What an address that differs in the masked bits resolves to.
    otherwise: u32,
    /// How far the slot number's low bit is from the half's low bit.
    shift: u8,
    /// 0 for the high half, 1 for the low half.
    half: u8,
}

/// An IPv6 longest prefix match table.
#[derive(Clone, Debug)]
pub struct Lpm6(Trie<Node6, { 1 << DIRECT_BITS }>);

impl Node<u128> for Node6 {
    /// Behind the bits that the routes all share, but before the end of the shortest, and with skipped
    /// bits and slot in one half of the address.
    fn depth(routes: &[Route<u128>], start: u32) -> u32 {
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

    fn new(fan: Fan, routes: &[Route<u128>], skipped: Range<u32>, inherited: u32) -> Self {
        let depth = skipped.end;
        let half = depth / 64;
        let mask = span(skipped);
        Self {
            mask: half_of(mask, half),
            expected: half_of(mask & routes[0].key, half),
            fan,
            otherwise: inherited,
            shift: (64 - STRIDE - depth % 64) as u8,
            half: half as u8,
        }
    }
}

impl Lpm6 {
    /// Builds the table of `routes`. Of two routes to one prefix the later wins.
    ///
    /// # Panics
    /// If a value is above [`super::MAX_VALUE`].
    pub fn build(routes: impl IntoIterator<Item = (Prefix6, u32)>) -> Self {
        let routes = routes.into_iter();
        let routes = routes.map(|(prefix, value)| (prefix.bits(), prefix.len(), value));
        Self(Trie::build(routes))
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
        let mut entry = self.0.direct[(addr >> (128 - DIRECT_BITS)) as usize];
        while entry & LEAF == 0 {
            entry = self.step(entry, halves);
        }
        entry & !LEAF
    }

    /// From a node to the next entry: a child's index, or a value with [`LEAF`].
    #[inline]
    fn step(&self, node: u32, halves: [u64; 2]) -> u32 {
        let node = &self.0.nodes[node as usize];
        let half = halves[usize::from(node.half & 1)];
        if half & node.mask != node.expected {
            return LEAF | node.otherwise;
        }
        let slot = half >> (node.shift & 63) & 63;
        node.fan.entry(slot as u32, &self.0.leaves)
    }

    /// Looks up many addresses at once; `values[i]` becomes the value for `addrs[i]`, or
    /// [`super::NO_ROUTE`]. See the IPv4 table's.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn lookup_batch(&self, addrs: &[u128], values: &mut [u32]) {
        assert_eq!(addrs.len(), values.len(), "one value per address");
        let (addrs, addrs_rest) = addrs.as_chunks::<LANES>();
        let (values, values_rest) = values.as_chunks_mut::<LANES>();
        for (addrs, values) in addrs.iter().zip(values) {
            for (value, addr) in values.iter_mut().zip(addrs) {
                *value = self.0.direct[(addr >> (128 - DIRECT_BITS)) as usize];
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
        self.0.memory()
    }
}

/// Ones in these bits, counted from the most significant; none if the end is not behind the start.
fn span(bits: Range<u32>) -> u128 {
    let from = |bit: u32| u128::MAX.checked_shr(bit).unwrap_or(0);
    from(bits.start) & !from(bits.end)
}

fn half_of(bits: u128, half: u32) -> u64 {
    if half == 0 {
        (bits >> 64) as u64
    } else {
        bits as u64
    }
}
