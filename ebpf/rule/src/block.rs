//! The IPv4 inside table as the kernel program reads it: two levels of blocks, then a trie.
//!
//! The kernel's trie costs a dependent memory access per branching bit: at a million routes and
//! many destinations that was measured as 1.8 µs a packet, five times the cost with a thousand.
//! So prefixes up to /24 are kept as in DIR-24-8 (Gupta, Lin, McKeown: "Routing Lookups in Hardware
//! at Memory Access Speeds", 1998): an address picks two bits by its first two octets, and two more
//! by its third only if there is any prefix longer than /16. Only /24s with longer prefixes inside
//! lead to the trie. Two bits are enough, since all the program wants to know is take, pass, or
//! nothing.
//!
//! ```text
//! COARSE_V4[first octet], slot second octet ---- decided
//!     `-- deeper: FINE_V4[first two octets], slot third octet ---- decided
//!             `-- deeper: INSIDE_V4, the trie
//! ```
//!
//! Memory: 16 KiB and 4 MiB. A block is one cache line.

use crate::map::Action;

/// Words in a block of 256 slots.
pub const BLOCK_WORDS: usize = 8;
/// Blocks of the first level, one for each value of the first octet.
pub const COARSE_BLOCKS: u32 = 1 << 8;
/// Blocks of the second level, one for each value of the first two octets.
pub const FINE_BLOCKS: u32 = 1 << 16;

const SLOTS_A_WORD: usize = 32;

/// What a level says of 1/256th of a block's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The same for all of them: an action, or that no prefix holds them.
    Decided(Option<Action>),
    /// Ask the next level.
    Deeper,
}

/// 256 slots, one for each value of an octet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Block([u64; BLOCK_WORDS]);

impl Block {
    /// The map value.
    #[must_use]
    pub const fn encode(&self) -> [u64; BLOCK_WORDS] {
        self.0
    }

    /// What a map value says of an octet.
    #[must_use]
    #[inline(always)]
    pub const fn slot(words: &[u64; BLOCK_WORDS], octet: u8) -> Slot {
        let octet = octet as usize;
        let word = words[octet / SLOTS_A_WORD % BLOCK_WORDS];
        match word >> (octet % SLOTS_A_WORD * 2) & 3 {
            0 => Slot::Decided(None),
            1 => Slot::Decided(Some(Action::Take)),
            2 => Slot::Decided(Some(Action::Pass)),
            _ => Slot::Deeper,
        }
    }

    /// Changes what a block says of an octet.
    pub const fn set(&mut self, octet: u8, slot: Slot) {
        let octet = octet as usize;
        let bits = match slot {
            Slot::Decided(None) => 0,
            Slot::Decided(Some(Action::Take)) => 1,
            Slot::Decided(Some(Action::Pass)) => 2,
            Slot::Deeper => 3,
        };
        let word = &mut self.0[octet / SLOTS_A_WORD];
        let shift = octet % SLOTS_A_WORD * 2;
        *word = *word & !(3 << shift) | bits << shift;
    }
}

/// The levels of the IPv4 inside table.
pub trait Levels {
    /// `COARSE_V4` for a first octet.
    fn coarse(&self, first: u8) -> Option<&[u64; BLOCK_WORDS]>;
    /// `FINE_V4` for the first two octets.
    fn fine(&self, first_two: u16) -> Option<&[u64; BLOCK_WORDS]>;
    /// `INSIDE_V4`: the longest prefix of the trie that holds the address.
    fn trie(&self, address: u32) -> Option<Action>;
}

/// The action of the longest prefix that holds an address.
#[inline(always)]
pub fn longest_prefix_v4<L: Levels>(levels: &L, address: u32) -> Option<Action> {
    let coarse = levels.coarse((address >> 24) as u8)?;
    if let Slot::Decided(action) = Block::slot(coarse, (address >> 16) as u8) {
        return action;
    }
    let fine = levels.fine((address >> 16) as u16)?;
    if let Slot::Decided(action) = Block::slot(fine, (address >> 8) as u8) {
        return action;
    }
    levels.trie(address)
}
