//! AES-GCM in ESP (RFC 4106), on the rung chosen for this process.
//!
//! # How the vector rungs are built
//! `simd` names the instructions, one implementation for each width; `ghash` is the algebra;
//! `expand` sets up a key; `job` takes a packet apart; `long` works on one packet, `short` on
//! two short ones at once; `vector` sorts a batch and enters the code of the right rung. One
//! kernel serves all widths.
//!
//! An AVX-512 rung would be one more implementation of `Simd`. There is none: code that was
//! never executed has no place here, and it has not been run on a processor that has it.
//!
//! # Side channels
//! Secrets decide no branch and no address: AES and multiplication are instructions, tables
//! are indexed by block numbers only, key set-up has a mask where the algebra has a case, and
//! tags are compared as whole vectors. This was read in the source and, for key set-up, in the
//! generated code; `constant_time` in `bench` looks for a dependence by statistics, and its head
//! says what that can show. Nothing is said of power or electromagnetic traces.
//! Keys and tables are wiped on drop. Round keys and hash sums that the compiler put on the
//! stack during a call are not wiped.

mod portable;
#[cfg(test)]
mod vectors;

#[cfg(target_arch = "x86_64")]
mod expand;
#[cfg(target_arch = "x86_64")]
mod ghash;
#[cfg(target_arch = "x86_64")]
mod job;
#[cfg(target_arch = "x86_64")]
mod long;
#[cfg(target_arch = "x86_64")]
mod short;
#[cfg(target_arch = "x86_64")]
mod simd;
#[cfg(target_arch = "x86_64")]
mod team;
#[cfg(target_arch = "x86_64")]
mod vector;

use arrayvec::ArrayVec;

use crate::BATCH;
use crate::packet::{HEADER, Packet};
use crate::rung::Rung;

/// Bytes of explicit IV in the packet.
const IV: usize = 8;
/// Bytes of tag.
const TAG: usize = 16;

/// An AES-GCM key with its salt, expanded for one rung.
pub(crate) enum GcmKey {
    Portable(Box<portable::Key>),
    #[cfg(target_arch = "x86_64")]
    Vector(vector::VectorKey),
}

/// Whether this processor has the instructions of `rung`.
pub(crate) fn is_available(rung: Rung) -> bool {
    #[cfg(target_arch = "x86_64")]
    if vector::is_available(rung) {
        return true;
    }
    rung == Rung::Portable
}

impl GcmKey {
    /// `key` is 16 or 32 bytes and `salt` 4: the suite's lengths were checked. A rung that the
    /// processor lacks falls to the next.
    pub(crate) fn new(rung: Rung, key: &[u8], salt: &[u8], esn: bool) -> Self {
        #[cfg(target_arch = "x86_64")]
        for candidate in Rung::ALL
            .into_iter()
            .rev()
            .filter(|candidate| *candidate <= rung)
        {
            if let Some(key) = vector::VectorKey::new(candidate, key, salt, esn) {
                return Self::Vector(key);
            }
        }
        let _ = rung;
        Self::Portable(Box::new(portable::Key::new(key, salt, esn)))
    }

    /// Asks the processor for what a packet of `len` bytes needs of the tables of a vector rung.
    #[inline]
    pub(crate) fn prefetch(&self, len: usize) {
        match self {
            Self::Portable(_) => {}
            #[cfg(target_arch = "x86_64")]
            Self::Vector(key) => key.prefetch(len),
        }
    }

    /// Seals the first packets, each with the key at its place, as far as one kernel can take
    /// them; says how many that were. `keys` gives as many keys as there are packets, and
    /// `None` where a packet is not for AES-GCM; the first is.
    #[inline]
    pub(crate) fn seal<'k>(
        keys: impl Iterator<Item = Option<&'k GcmKey>>,
        packets: &mut [Packet<'_>],
    ) -> usize {
        match Run::first_of(keys) {
            Run::Portable(key) => {
                key.seal(&mut packets[..1]);
                1
            }
            #[cfg(target_arch = "x86_64")]
            Run::Vector(kernel, keys) => {
                kernel.seal(&keys, &mut packets[..keys.len()]);
                keys.len()
            }
        }
    }

    /// Opens packets as [`seal`](Self::seal) seals them; the second value has a bit for each
    /// packet that is authentic.
    #[inline]
    pub(crate) fn open<'k>(
        keys: impl Iterator<Item = Option<&'k GcmKey>>,
        packets: &mut [Packet<'_>],
    ) -> (usize, u64) {
        match Run::first_of(keys) {
            Run::Portable(key) => (1, key.open(&mut packets[..1])),
            #[cfg(target_arch = "x86_64")]
            Run::Vector(kernel, keys) => {
                (keys.len(), kernel.open(&keys, &mut packets[..keys.len()]))
            }
        }
    }
}

/// The first keys of a batch that one kernel serves.
#[expect(
    clippy::large_enum_variant,
    reason = "lives for one call, on the stack"
)]
enum Run<'k> {
    Portable(&'k portable::Key),
    #[cfg(target_arch = "x86_64")]
    Vector(vector::Kernel, ArrayVec<&'k expand::Key, BATCH>),
}

impl<'k> Run<'k> {
    #[inline(always)]
    fn first_of(mut keys: impl Iterator<Item = Option<&'k GcmKey>>) -> Self {
        let Some(Some(first)) = keys.next() else {
            unreachable!("the first packet is for AES-GCM");
        };
        let first = match first {
            GcmKey::Portable(key) => return Self::Portable(key),
            #[cfg(target_arch = "x86_64")]
            GcmKey::Vector(key) => key,
        };
        #[cfg(target_arch = "x86_64")]
        {
            let mut run = ArrayVec::new_const();
            run.push(first.expanded());
            while let Some(Some(GcmKey::Vector(key))) = keys.next()
                && key.kernel() == first.kernel()
            {
                run.push(key.expanded());
            }
            Self::Vector(first.kernel(), run)
        }
    }
}
