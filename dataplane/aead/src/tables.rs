//! How much of a key's tables is used: all of it with few keys, a part with thousands.
//!
//! GHASH needs a power of the hash key for each block between two reductions. Long stretches
//! save reductions; but with more keys than the caches hold, every line of a table that a packet
//! needs comes from far away, and a reduction costs less than that. The tables are the same: only
//! the stretches differ, so the choice is made anew with each batch.

use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Which stretches AES-GCM's vector kernels hash in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tables {
    /// 64 blocks: 2 KiB of a key's tables serve a packet of full size.
    Full,
    /// 16 blocks: 0.5 KiB do.
    Compact,
}

impl Tables {
    /// Both, the larger first.
    pub const ALL: [Tables; 2] = [Tables::Full, Tables::Compact];

    /// Blocks between two reductions.
    #[inline(always)]
    pub(crate) const fn stretch(self) -> usize {
        match self {
            Tables::Full => FULL,
            Tables::Compact => 16,
        }
    }
}

impl fmt::Display for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Tables::Full => "full",
            Tables::Compact => "compact",
        })
    }
}

/// Blocks of the longest stretch: what the tables have room for.
pub(crate) const FULL: usize = 64;

/// Keys of AES-GCM's vector kernels that exist.
static KEYS: AtomicUsize = AtomicUsize::new(0);

/// 0: by the number of keys; else 1 more than the place in [`Tables::ALL`].
static FORCED: AtomicU8 = AtomicU8::new(0);

/// Has all batches use these tables, or with `None` those that the number of keys suggests: for
/// tests and comparisons.
pub fn force_tables(tables: Option<Tables>) {
    let value = match tables {
        None => 0,
        Some(Tables::Full) => 1,
        Some(Tables::Compact) => 2,
    };
    FORCED.store(value, Ordering::Relaxed);
}

/// The tables to use now.
#[inline]
pub(crate) fn tables() -> Tables {
    match FORCED.load(Ordering::Relaxed) {
        0 if KEYS.load(Ordering::Relaxed) > MANY => Tables::Compact,
        0 | 1 => Tables::Full,
        _ => Tables::Compact,
    }
}

/// Counts a key as long as it exists.
pub(crate) struct Counted(());

impl Counted {
    pub(crate) fn new() -> Self {
        KEYS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        KEYS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Keys above which the compact tables are used.
///
/// Measured with 4,096 packets of as many random keys (Zen 4, 1 MiB of second-level cache): at
/// 1424 bytes full tables are 9 % ahead with one key and 15 % with 512, compact ones 30 % with
/// 1,024 and 25 % with 4,096. Wrong by half, it costs that much.
const MANY: usize = 768;
