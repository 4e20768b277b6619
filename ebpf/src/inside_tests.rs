//! The table against a list searched from end to end, after and *during* every change.

use std::collections::HashMap;

use hawser_steer::{BLOCK_WORDS, Levels, longest_prefix_v4};
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

/// The kernel's maps, as the writes make them.
#[derive(Default)]
struct Kernel {
    coarse: HashMap<u8, [u64; BLOCK_WORDS]>,
    fine: HashMap<u16, [u64; BLOCK_WORDS]>,
    trie: HashMap<(u32, u8), Action>,
}

impl Kernel {
    fn apply(&mut self, write: Write) {
        match write {
            Write::Coarse(first, block) => {
                self.coarse.insert(first, block.encode());
            }
            Write::Fine(first_two, block) => {
                self.fine.insert(first_two, block.encode());
            }
            Write::Insert(address, length, action) => {
                self.trie.insert((address, length), action);
            }
            Write::Remove(address, length) => {
                self.trie.remove(&(address, length));
            }
        }
    }
}

const EMPTY: [u64; BLOCK_WORDS] = [0; BLOCK_WORDS];

impl Levels for Kernel {
    fn coarse(&self, first: u8) -> Option<&[u64; BLOCK_WORDS]> {
        Some(self.coarse.get(&first).unwrap_or(&EMPTY))
    }

    fn fine(&self, first_two: u16) -> Option<&[u64; BLOCK_WORDS]> {
        Some(self.fine.get(&first_two).unwrap_or(&EMPTY))
    }

    fn trie(&self, address: u32) -> Option<Action> {
        longest(&self.trie, address)
    }
}

fn longest(list: &HashMap<(u32, u8), Action>, address: u32) -> Option<Action> {
    list.iter()
        .filter(|((network, length), _)| address & mask(*length) == *network)
        .max_by_key(|((_, length), _)| *length)
        .map(|(_, action)| *action)
}

#[derive(Clone, Debug)]
enum Change {
    Insert(Vec<(u32, u8, Action)>),
    Remove(Vec<(u32, u8)>),
}

/// Few networks, nested and side by side, so that changes meet.
fn prefix() -> impl Strategy<Value = (u32, u8)> {
    let length = prop_oneof![0..=32_u8, select(vec![0, 8, 15, 16, 17, 23, 24, 25, 32])];
    let address = (select(vec![10_u8, 11, 255]), 0..3_u8, 0..3_u8, any::<u8>());
    (address, length).prop_map(|((a, b, c, d), length)| {
        (u32::from_be_bytes([a, b, c, d]) & mask(length), length)
    })
}

fn change() -> impl Strategy<Value = Change> {
    let action = select(vec![Action::Take, Action::Pass]);
    prop_oneof![
        3 => vec((prefix(), action).prop_map(|((a, l), action)| (a, l, action)), 1..6)
            .prop_map(Change::Insert),
        2 => vec(prefix(), 1..6).prop_map(Change::Remove),
    ]
}

/// Addresses at and around the edges of all prefixes there ever were.
fn probes(changes: &[Change]) -> Vec<u32> {
    let mut prefixes = vec![];
    for change in changes {
        match change {
            Change::Insert(list) => prefixes.extend(list.iter().map(|(a, l, _)| (*a, *l))),
            Change::Remove(list) => prefixes.extend(list),
        }
    }
    let mut probes: Vec<u32> = prefixes
        .into_iter()
        .flat_map(|(first, length)| {
            let last = first | !mask(length);
            [
                first.wrapping_sub(1),
                first,
                first ^ 0x100,
                last,
                last.wrapping_add(1),
            ]
        })
        .collect();
    probes.sort_unstable();
    probes.dedup();
    probes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_address_is_judged_by_the_old_table_or_the_new(changes in vec(change(), 1..12)) {
        let probes = probes(&changes);
        let mut table = InsideV4::new();
        let mut kernel = Kernel::default();
        let mut list: HashMap<(u32, u8), Action> = HashMap::new();
        for change in &changes {
            let old: Vec<_> = probes.iter().map(|probe| longest(&list, *probe)).collect();
            // A removal in one call with others: each prefix may go on its own.
            let mut between = vec![];
            let writes = match change {
                Change::Insert(prefixes) => {
                    for (address, length, action) in prefixes {
                        list.insert((*address, *length), *action);
                        between.push(list.clone());
                    }
                    table.insert(prefixes.iter().copied())
                }
                Change::Remove(prefixes) => {
                    for key in prefixes {
                        list.remove(key);
                        between.push(list.clone());
                    }
                    table.remove(prefixes.iter().copied())
                }
            };
            for write in writes {
                kernel.apply(write);
                if between.len() == 1 {
                    for (probe, old) in probes.iter().zip(&old) {
                        let now = longest_prefix_v4(&kernel, *probe);
                        let new = longest(&list, *probe);
                        prop_assert!(
                            now == *old || now == new,
                            "{:08x}: {:?}, neither {:?} nor {:?} after {:x?}", probe, now, old, new, write
                        );
                    }
                }
            }
            for probe in &probes {
                prop_assert_eq!(longest_prefix_v4(&kernel, *probe), longest(&list, *probe));
            }
            prop_assert_eq!(table.len(), list.len());
        }
        // What nothing leads to is not left behind.
        let keys: Vec<_> = list.into_keys().collect();
        for write in table.remove(keys) {
            kernel.apply(write);
        }
        prop_assert!(kernel.trie.is_empty(), "{:?}", kernel.trie);
        prop_assert!(kernel.coarse.values().all(|block| *block == EMPTY));
    }
}
