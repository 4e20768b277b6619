//! SPI to inbound SA: a flat open-addressing table.
//!
//! Built whole and then only read, so there are no deletions to leave tombstones. We choose the
//! SPIs ourselves, so nobody else can make them collide; an unknown SPI from the network ends at
//! the first empty slot, and the table is at most half full.

use hawser_aead::prefetch;
use hawser_api::{Spi, WorkerId};

/// Where the state of an inbound SA lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpiEntry {
    /// Dense index of the SA.
    pub slot: u32,
    /// The worker that owns its replay window.
    pub owner: WorkerId,
}

#[derive(Clone, Copy)]
struct Cell {
    spi: u32,
    slot: u32,
    owner: WorkerId,
}

/// SPI 0 is never on the wire as an SA's (RFC 4303, section 2.1), so it marks an empty cell.
const EMPTY: Cell = Cell {
    spi: 0,
    slot: 0,
    owner: WorkerId(0),
};

/// The table.
pub struct SpiTable {
    cells: Box<[Cell]>,
    shift: u32,
}

impl SpiTable {
    /// Builds the table. SPIs are unique and not 0: the model sees to that.
    pub fn build(entries: impl ExactSizeIterator<Item = (Spi, SpiEntry)>) -> Self {
        let capacity = (entries.len() * 2).next_power_of_two().max(16);
        let mut table = Self {
            cells: vec![EMPTY; capacity].into_boxed_slice(),
            shift: 32 - capacity.trailing_zeros(),
        };
        for (spi, entry) in entries {
            let mut at = table.home(spi);
            while table.cells[at].spi != 0 {
                at = (at + 1) & (capacity - 1);
            }
            table.cells[at] = Cell {
                spi: spi.0,
                slot: entry.slot,
                owner: entry.owner,
            };
        }
        table
    }

    /// Fibonacci hashing: SPIs given out in a row spread evenly.
    #[inline]
    fn home(&self, spi: Spi) -> usize {
        (spi.0.wrapping_mul(0x9e37_79b9) >> self.shift) as usize
    }

    /// Asks the processor for the place where this SPI most likely is.
    #[inline]
    pub fn prefetch(&self, spi: Spi) {
        prefetch(&self.cells[self.home(spi) & (self.cells.len() - 1)]);
    }

    /// The SA with this SPI.
    #[inline]
    #[must_use]
    pub fn get(&self, spi: Spi) -> Option<SpiEntry> {
        let mask = self.cells.len() - 1;
        let mut at = self.home(spi);
        loop {
            let cell = self.cells[at & mask];
            if cell.spi == spi.0 && spi.0 != 0 {
                return Some(SpiEntry {
                    slot: cell.slot,
                    owner: cell.owner,
                });
            }
            if cell.spi == 0 {
                return None;
            }
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_map(
            spis in proptest::collection::hash_map(1u32.., any::<u32>(), 0..300),
            probes in proptest::collection::vec(any::<u32>(), 0..300),
        ) {
            let entry = |slot| SpiEntry { slot, owner: WorkerId(slot as u16) };
            let map: HashMap<u32, u32> = spis;
            let table = SpiTable::build(
                map.iter().map(|(&spi, &slot)| (Spi(spi), entry(slot))).collect::<Vec<_>>().into_iter(),
            );
            for (&spi, &slot) in &map {
                prop_assert_eq!(table.get(Spi(spi)), Some(entry(slot)));
            }
            for probe in probes {
                prop_assert_eq!(table.get(Spi(probe)), map.get(&probe).map(|&slot| entry(slot)));
            }
            prop_assert_eq!(table.get(Spi(0)), None);
        }
    }
}
