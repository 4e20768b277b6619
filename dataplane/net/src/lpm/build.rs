//! The part of building that both families share: laying sorted routes over the slots of a node.

use super::{MAX_VALUE, STRIDE};

/// An address as a number: `u32` or `u128`.
pub(super) trait Key: Copy + Ord {
    /// `count` (at most 32) bits from bit `at`, counted from the most significant; bits behind the
    /// end read as zero.
    fn bits(self, at: u32, count: u32) -> u32;

    /// How many leading bits two keys share.
    fn common(self, other: Self) -> u32;
}

impl Key for u32 {
    #[inline]
    fn bits(self, at: u32, count: u32) -> u32 {
        // In 64 bits, so that a window which reaches past the end needs no special case.
        (((u64::from(self) << 32) << at) >> (64 - count)) as u32
    }

    fn common(self, other: Self) -> u32 {
        (self ^ other).leading_zeros()
    }
}

impl Key for u128 {
    #[inline]
    fn bits(self, at: u32, count: u32) -> u32 {
        ((self << at) >> (128 - count)) as u32
    }

    fn common(self, other: Self) -> u32 {
        (self ^ other).leading_zeros()
    }
}

/// One route.
#[derive(Clone, Copy)]
pub(super) struct Route<K> {
    pub(super) key: K,
    pub(super) len: u32,
    pub(super) value: u32,
}

/// Sorts by address, then length, and keeps the last given of equal prefixes.
pub(super) fn sorted<K: Key>(routes: impl Iterator<Item = (K, u8, u32)>) -> Vec<Route<K>> {
    let mut routes: Vec<_> = routes
        .map(|(key, len, value)| {
            assert!(
                value <= MAX_VALUE,
                "route value {value} is above {MAX_VALUE}"
            );
            Route {
                key,
                len: u32::from(len),
                value,
            }
        })
        .collect();
    // Stable, so that of equal prefixes the last given is the last of its run.
    routes.sort_by_key(|route| (route.key, route.len));
    let mut kept = 0;
    for i in 0..routes.len() {
        let last = routes
            .get(i + 1)
            .is_none_or(|next| (next.key, next.len) != (routes[i].key, routes[i].len));
        if last {
            routes[kept] = routes[i];
            kept += 1;
        }
    }
    routes.truncate(kept);
    routes
}

/// The slots of one node: what each resolves to unless a longer route exists, and which routes are
/// longer.
pub(super) struct Slots<'a, K> {
    /// Value by slot, from the routes that end within this node.
    pub(super) values: [u32; 1 << STRIDE],
    /// Routes longer than this node, by slot; empty for a leaf.
    pub(super) longer: [&'a [Route<K>]; 1 << STRIDE],
}

impl<'a, K: Key> Slots<'a, K> {
    /// Lays `routes`, all longer than `depth` bits and equal in their first `depth` bits, over the
    /// 64 slots of the node at `depth`. `inherited` is the value of the longest shorter route.
    pub(super) fn lay(routes: &'a [Route<K>], depth: u32, inherited: u32) -> Self {
        let mut slots = Self {
            values: [inherited; 1 << STRIDE],
            longer: [&[]; 1 << STRIDE],
        };
        paint(
            routes,
            depth,
            STRIDE,
            |slot, count, value| {
                slots.values[slot..slot + count].fill(value);
            },
            |slot, longer| slots.longer[slot] = longer,
        );
        slots
    }
}

/// Calls `cover(first slot, number of slots, value)` for each route that ends within the `stride`
/// bits from `depth`, shorter ones first where they nest, and `longer(slot, routes)` for each slot
/// with longer routes.
///
/// Routes are sorted by (address, length), so a slot's run is: routes that end in this node and
/// start at the slot, then all that are longer.
pub(super) fn paint<'a, K: Key>(
    routes: &'a [Route<K>],
    depth: u32,
    stride: u32,
    mut cover: impl FnMut(usize, usize, u32),
    mut longer: impl FnMut(usize, &'a [Route<K>]),
) {
    let mut rest = routes;
    while let Some((first, behind)) = rest.split_first() {
        let slot = first.key.bits(depth, stride);
        if first.len <= depth + stride {
            cover(
                slot as usize,
                1 << (depth + stride - first.len),
                first.value,
            );
            rest = behind;
            continue;
        }
        let run = rest.partition_point(|route| route.key.bits(depth, stride) == slot);
        let (inside, behind) = rest.split_at(run);
        longer(slot as usize, inside);
        rest = behind;
    }
}
