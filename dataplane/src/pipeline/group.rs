//! Groups the packets of a batch by SA without moving them.
//!
//! The cipher is fastest when the packets of one key stand together, a sequence block is reserved
//! per SA and batch, and what belongs to an SA is read once for all its packets. Each group is a
//! chain through the batch, grown packet by packet; packets of one group keep their order, so
//! flows do.

use arrayvec::ArrayVec;
use hawser_aead::BATCH;

/// Marks a key without a group and the end of a chain: no packet and no group has this number.
const NONE: u8 = u8::MAX;

const _: () = assert!(BATCH < NONE as usize);

/// A batch in groups.
pub(super) struct Groups {
    /// By key: the number of its group in this batch. Keys are dense, so a byte for each is less
    /// than what a packet reads of its SA, and finds the group without a probe.
    of_key: Vec<u8>,
    groups: ArrayVec<Group, BATCH>,
    /// By packet: the next one of its group.
    next: [u8; BATCH],
    len: u8,
}

/// The packets of one key.
#[derive(Clone, Copy)]
pub(super) struct Group {
    pub(super) key: u32,
    pub(super) count: u32,
    first: u8,
    last: u8,
}

impl Group {
    /// Its first packet; there always is one.
    #[inline]
    pub(super) fn first(self) -> Option<usize> {
        known(self.first)
    }
}

#[inline]
fn known(packet: u8) -> Option<usize> {
    (packet != NONE).then_some(usize::from(packet))
}

impl Groups {
    pub(super) fn new() -> Self {
        Self {
            of_key: Vec::new(),
            groups: ArrayVec::new(),
            next: [NONE; BATCH],
            len: 0,
        }
    }

    /// Packets in the batch.
    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Makes room for keys below `keys`.
    pub(super) fn grow(&mut self, keys: usize) {
        if self.of_key.len() < keys {
            self.of_key.resize(keys, NONE);
        }
    }

    /// Adds the batch's next packet to the group of its key; its number in the batch.
    ///
    /// # Panics
    /// When the batch is full, or the key is one that there is no room for.
    #[inline(always)]
    pub(super) fn add(&mut self, key: u32) -> usize {
        let packet = self.len;
        self.len += 1;
        self.next[usize::from(packet)] = NONE;
        let number = &mut self.of_key[key as usize];
        if let Some(group) = self.groups.get_mut(usize::from(*number)) {
            self.next[usize::from(group.last)] = packet;
            group.last = packet;
            group.count += 1;
        } else {
            *number = self.groups.len() as u8;
            self.groups.push(Group {
                key,
                count: 1,
                first: packet,
                last: packet,
            });
        }
        usize::from(packet)
    }

    /// The group with this number, in order of their first packets.
    #[inline]
    pub(super) fn get(&self, number: usize) -> Option<Group> {
        self.groups.get(number).copied()
    }

    /// The packets of a group: their numbers in the batch, rising.
    #[inline]
    pub(super) fn packets(&self, group: Group) -> impl Iterator<Item = usize> {
        let mut at = group.first();
        std::iter::from_fn(move || {
            let packet = at?;
            at = self.after(packet);
            Some(packet)
        })
    }

    /// The packet after this one in its group: [`Groups::packets`] for a caller that cannot lend
    /// the groups out for so long.
    #[inline]
    pub(super) fn after(&self, packet: usize) -> Option<usize> {
        known(*self.next.get(packet)?)
    }

    /// Begins another batch.
    #[inline]
    pub(super) fn clear(&mut self) {
        for group in self.groups.drain(..) {
            self.of_key[group.key as usize] = NONE;
        }
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chains_are_a_stable_grouping(
            batches in proptest::collection::vec(
                proptest::collection::vec(0u32..300, 0..=BATCH), 1..4),
        ) {
            let mut groups = Groups::new();
            groups.grow(300);
            for keys in batches {
                groups.clear();
                for &key in &keys {
                    groups.add(key);
                }
                let mut expected: Vec<(u32, Vec<usize>)> = Vec::new();
                for (i, &key) in keys.iter().enumerate() {
                    match expected.iter_mut().find(|(k, _)| *k == key) {
                        Some((_, packets)) => packets.push(i),
                        None => expected.push((key, vec![i])),
                    }
                }
                let got: Vec<(u32, Vec<usize>)> = (0..)
                    .map_while(|n| groups.get(n))
                    .map(|group| (group.key, groups.packets(group).collect()))
                    .collect();
                for (n, (_, packets)) in got.iter().enumerate() {
                    prop_assert_eq!(groups.get(n).map(|g| g.count as usize), Some(packets.len()));
                }
                prop_assert_eq!(got, expected);
            }
        }
    }
}
