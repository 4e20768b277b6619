//! Groups the packets of a batch by SA without moving them.
//!
//! The cipher is fastest when the packets of one key stand together, and a sequence block is
//! reserved per SA and batch. This finds the groups in one pass and each packet's place in the
//! grouped order in a second; packets of one group keep their order, so flows do.

use arrayvec::ArrayVec;
use hawser_aead::BATCH;

/// Slots of the probe table: at least twice the largest batch, so that probes end soon.
const SLOTS: usize = 2 * BATCH;

/// A batch in groups.
pub(super) struct Groups {
    /// The key of each group and how many packets it has, in order of first appearance.
    pub(super) groups: ArrayVec<(u32, u32), BATCH>,
    /// Each packet's place in the grouped order.
    pub(super) place: ArrayVec<u8, BATCH>,
}

impl Groups {
    /// Groups packets by their keys.
    #[inline]
    pub(super) fn new(keys: impl Iterator<Item = u32>) -> Self {
        let mut slots = [u8::MAX; SLOTS];
        let mut groups: ArrayVec<(u32, u32), BATCH> = ArrayVec::new();
        let mut of: ArrayVec<u8, BATCH> = ArrayVec::new();
        for key in keys {
            let mut at = key as usize % SLOTS;
            let group = loop {
                match groups.get_mut(usize::from(slots[at])) {
                    Some((k, n)) if *k == key => {
                        *n += 1;
                        break slots[at];
                    }
                    Some(_) => at = (at + 1) % SLOTS,
                    None => {
                        slots[at] = groups.len() as u8;
                        groups.push((key, 1));
                        break slots[at];
                    }
                }
            };
            of.push(group);
        }
        let mut next = [0u8; BATCH];
        let mut sum = 0;
        for (place, &(_, n)) in next.iter_mut().zip(&groups) {
            *place = sum;
            sum += n as u8;
        }
        let place = of
            .iter()
            .map(|&group| {
                let place = &mut next[usize::from(group)];
                *place += 1;
                *place - 1
            })
            .collect();
        Self { groups, place }
    }

    /// References to the packets in grouped order.
    #[inline]
    pub(super) fn arrange<'p, P>(&self, packets: &'p mut [P]) -> [Option<&'p mut P>; BATCH] {
        let mut grouped = [const { None }; BATCH];
        for (packet, &place) in packets.iter_mut().zip(&self.place) {
            grouped[usize::from(place)] = Some(packet);
        }
        grouped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_are_a_stable_grouping(keys in proptest::collection::vec(0u32..300, 0..=BATCH)) {
            let groups = Groups::new(keys.iter().copied());
            let mut ordered = vec![None; keys.len()];
            for (i, &place) in groups.place.iter().enumerate() {
                prop_assert!(ordered[usize::from(place)].replace(i).is_none(), "a permutation");
            }
            let mut copies = keys.clone();
            let arranged = groups.arrange(&mut copies);
            let arranged: Vec<u32> = arranged.into_iter().flatten().map(|key| *key).collect();
            let runs: Vec<u32> = groups.groups.iter().flat_map(|&(key, n)| vec![key; n as usize]).collect();
            prop_assert_eq!(arranged, runs);
            let ordered: Vec<usize> = ordered.into_iter().map(Option::unwrap).collect();
            let mut seen = std::collections::HashSet::new();
            for run in ordered.chunk_by(|&a, &b| keys[a] == keys[b]) {
                prop_assert!(seen.insert(keys[run[0]]), "one run a key");
                prop_assert!(run.is_sorted(), "order is kept");
            }
            let total: u32 = groups.groups.iter().map(|g| g.1).sum();
            prop_assert_eq!(total as usize, keys.len());
        }
    }
}
