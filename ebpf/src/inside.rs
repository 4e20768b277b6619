//! The IPv4 inside table as user space keeps it, and what a change means for the kernel's maps.
//!
//! The kernel's three levels are described in `hawser_steer`'s `block` module. Here are the prefixes
//! themselves, and for each slot of the two block levels the longest prefix that fills it, so that a
//! change touches only the slots it changes. Pure: changes come out as a list of [`Write`]s, in such
//! an order that at any moment every address is judged by the table before or after the change.
//!
//! Memory: 16 MiB reserved for the slots of the second level, of which only the /16s with longer
//! prefixes are ever touched, and about 20 bytes a prefix.

use std::collections::{BTreeSet, HashMap};

use hawser_steer::{Action, Block, Slot};

/// One change of a kernel map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// `COARSE_V4`, by first octet.
    Coarse(u8, Block),
    /// `FINE_V4`, by the first two octets.
    Fine(u16, Block),
    /// Into the trie: address, length.
    Insert(u32, u8, Action),
    /// Out of the trie.
    Remove(u32, u8),
}

/// The longest prefix (up to the level's own length) that fills a slot; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
struct Fill(u8);

impl Fill {
    const NONE: Self = Self(0);

    const fn new(length: u8, action: Action) -> Self {
        Self(1 + length * 2 + action as u8)
    }

    fn action(self) -> Option<Action> {
        match self {
            Self::NONE => None,
            Self(bits) => Some(Action::decode(u32::from((bits - 1) & 1))),
        }
    }

    /// Whether a prefix of this length takes precedence here or replaces an equal one.
    fn yields_to(self, length: u8) -> bool {
        self == Self::NONE || (self.0 - 1) / 2 <= length
    }

    fn is_of(self, length: u8) -> bool {
        self != Self::NONE && (self.0 - 1) / 2 == length
    }
}

/// All IPv4 inside prefixes.
pub(crate) struct InsideV4 {
    prefixes: HashMap<(u32, u8), Action>,
    /// Per /16: the longest prefix up to /16.
    coarse: Vec<Fill>,
    /// Per /16: how many prefixes are longer.
    coarse_longer: Vec<u32>,
    /// Per /24: the longest prefix up to /24, a [`Fill`]. Kept only where the /16 has longer
    /// prefixes. Plain bytes, since only of those is a zeroed vector made without touching it.
    fine: Vec<u8>,
    /// Per /24 that has any: how many prefixes are longer.
    fine_longer: HashMap<u32, u32>,
    dirty: Dirty,
}

/// What a change touched and was not written yet.
#[derive(Default)]
struct Dirty {
    coarse: BTreeSet<u8>,
    fine: BTreeSet<u16>,
    /// /24s whose own entry in the trie may have changed.
    bases: BTreeSet<u32>,
    trie: Vec<Write>,
}

impl InsideV4 {
    pub(crate) fn new() -> Self {
        Self {
            prefixes: HashMap::new(),
            coarse: vec![Fill::NONE; 1 << 16],
            coarse_longer: vec![0; 1 << 16],
            fine: vec![0; 1 << 24],
            fine_longer: HashMap::new(),
            dirty: Dirty::default(),
        }
    }

    /// Adds or changes prefixes (without host bits) and says what to write, in order.
    pub(crate) fn insert(
        &mut self,
        prefixes: impl IntoIterator<Item = (u32, u8, Action)>,
    ) -> Vec<Write> {
        for (address, length, action) in prefixes {
            let before = self.prefixes.insert((address, length), action);
            if before == Some(action) {
                continue;
            }
            if before.is_none() {
                self.count_longer(address, length);
            }
            let fill = Fill::new(length.min(24), action);
            if length > 24 {
                self.dirty.trie.push(Write::Insert(address, length, action));
            } else {
                self.fill(address, length, |old| old.yields_to(length), fill);
            }
        }
        // Deepest level first: whoever is sent deeper finds the new state there.
        let dirty = std::mem::take(&mut self.dirty);
        let mut writes = dirty.trie;
        self.write_bases(&dirty.bases, &mut writes);
        writes.extend(dirty.fine.iter().map(|&block| self.fine_block(block)));
        writes.extend(dirty.coarse.iter().map(|&block| self.coarse_block(block)));
        writes
    }

    /// Removes prefixes and says what to write, in order; unknown ones are ignored.
    pub(crate) fn remove(&mut self, prefixes: impl IntoIterator<Item = (u32, u8)>) -> Vec<Write> {
        for (address, length) in prefixes {
            if self.prefixes.remove(&(address, length)).is_none() {
                continue;
            }
            if length > 24 {
                self.dirty.trie.push(Write::Remove(address, length));
            } else {
                let fill = self.covering(address, length);
                self.fill(address, length, |old| old.is_of(length), fill);
            }
            self.discount_longer(address, length);
        }
        // Highest level first: nobody is sent deeper any more when the deeper level changes.
        let dirty = std::mem::take(&mut self.dirty);
        let mut writes: Vec<Write> = dirty
            .coarse
            .iter()
            .map(|&block| self.coarse_block(block))
            .collect();
        writes.extend(dirty.fine.iter().map(|&block| self.fine_block(block)));
        self.write_bases(&dirty.bases, &mut writes);
        writes.extend(dirty.trie);
        writes
    }

    /// Number of prefixes.
    pub(crate) fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// Fills the slots of a prefix up to /24 on both levels, where `replaces` says so.
    fn fill(&mut self, address: u32, length: u8, replaces: impl Fn(Fill) -> bool, fill: Fill) {
        let first = address >> 16;
        let last = if length >= 16 {
            first
        } else {
            first | 0xffff >> length
        };
        for sixteen in first..=last {
            let slot = &mut self.coarse[sixteen as usize];
            if length <= 16 && replaces(*slot) {
                *slot = fill;
                self.dirty.coarse.insert((sixteen >> 8) as u8);
            }
            if self.coarse_longer[sixteen as usize] == 0 {
                continue;
            }
            let (first, last) = if length <= 16 {
                (sixteen << 8, sixteen << 8 | 0xff)
            } else {
                let first = address >> 8;
                (first, first | 0xff_ffff >> length)
            };
            for slot in first..=last {
                let old = &mut self.fine[slot as usize];
                if replaces(Fill(*old)) {
                    *old = fill.0;
                    self.dirty.fine.insert(sixteen as u16);
                    if self.fine_longer.contains_key(&slot) {
                        self.dirty.bases.insert(slot);
                    }
                }
            }
        }
    }

    /// A new prefix may be the first that makes its slots lead deeper.
    fn count_longer(&mut self, address: u32, length: u8) {
        if length > 16 {
            let sixteen = address >> 16;
            if self.coarse_longer[sixteen as usize] == 0 {
                let slots = (sixteen << 8) as usize..=(sixteen << 8 | 0xff) as usize;
                self.fine[slots].fill(self.coarse[sixteen as usize].0);
                self.dirty.fine.insert(sixteen as u16);
                self.dirty.coarse.insert((sixteen >> 8) as u8);
            }
            self.coarse_longer[sixteen as usize] += 1;
        }
        if length > 24 {
            let count = self.fine_longer.entry(address >> 8).or_insert(0);
            if *count == 0 {
                self.dirty.bases.insert(address >> 8);
                self.dirty.fine.insert((address >> 16) as u16);
            }
            *count += 1;
        }
    }

    fn discount_longer(&mut self, address: u32, length: u8) {
        if length > 16 {
            let count = &mut self.coarse_longer[(address >> 16) as usize];
            *count -= 1;
            if *count == 0 {
                self.dirty.coarse.insert((address >> 24) as u8);
            }
        }
        if length > 24
            && let Some(count) = self.fine_longer.get_mut(&(address >> 8))
        {
            *count -= 1;
            if *count == 0 {
                self.fine_longer.remove(&(address >> 8));
                self.dirty.bases.insert(address >> 8);
                self.dirty.fine.insert((address >> 16) as u16);
            }
        }
    }

    /// The longest prefix that holds a prefix and is shorter.
    fn covering(&self, address: u32, length: u8) -> Fill {
        (0..length)
            .rev()
            .find_map(|length| {
                let network = address & mask(length);
                let action = self.prefixes.get(&(network, length))?;
                Some(Fill::new(length, *action))
            })
            .unwrap_or(Fill::NONE)
    }

    /// A /24 with longer prefixes inside is in the trie itself too, since the trie must know what
    /// holds the addresses between them.
    fn write_bases(&self, bases: &BTreeSet<u32>, writes: &mut Vec<Write>) {
        for &base in bases {
            let action = Fill(self.fine[base as usize]).action();
            writes.push(match action {
                Some(action) if self.fine_longer.contains_key(&base) => {
                    Write::Insert(base << 8, 24, action)
                }
                _ => Write::Remove(base << 8, 24),
            });
        }
    }

    fn coarse_block(&self, first: u8) -> Write {
        let mut block = Block::default();
        for octet in 0..=255 {
            let slot = usize::from(first) << 8 | usize::from(octet);
            block.set(
                octet,
                if self.coarse_longer[slot] > 0 {
                    Slot::Deeper
                } else {
                    Slot::Decided(self.coarse[slot].action())
                },
            );
        }
        Write::Coarse(first, block)
    }

    fn fine_block(&self, first_two: u16) -> Write {
        let mut block = Block::default();
        for octet in 0..=255 {
            let slot = u32::from(first_two) << 8 | u32::from(octet);
            block.set(
                octet,
                if self.fine_longer.contains_key(&slot) {
                    Slot::Deeper
                } else {
                    Slot::Decided(Fill(self.fine[slot as usize]).action())
                },
            );
        }
        Write::Fine(first_two, block)
    }
}

/// The network part of an address.
fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

#[cfg(test)]
#[path = "inside_tests.rs"]
mod tests;
