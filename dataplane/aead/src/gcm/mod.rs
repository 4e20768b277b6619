//! AES-GCM in ESP (RFC 4106), on the rung chosen for this process.
//!
//! # How the vector rungs are built
//! `simd` names the instructions, one implementation for each width (AES-NI, VAES with AVX2, VAES
//! with AVX-512); `ghash` is the algebra; `expand` sets up a key; `job` is what a kernel needs of a
//! packet; `long` works on packets one after the other, `short` on as many short ones at once as a
//! vector has lanes; `team` is what those and the ends of all packets share; `vector` sorts a batch
//! and enters the code of the right rung. One kernel serves all widths.
//!
//! # Side channels
//! Secrets decide no branch and no address: AES and multiplication are instructions, tables
//! are indexed by block numbers only, key set-up has a mask where the algebra has a case, and
//! tags are compared as whole vectors. This was read in the source and, for key set-up, in the
//! generated code; `constant_time` in `bench` looks for a dependence by statistics, and its head
//! says what that can show. Nothing is said of power or electromagnetic traces.
//! Keys and tables are wiped on drop. Nonces (which hold the salt), and the round keys and hash
//! sums that the compiler put on the stack during a call, are not.

#[cfg(not(target_arch = "x86_64"))]
mod no_vector;
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

use crate::packet::{HEADER, Packet};
use crate::rung::Rung;

/// Bytes of explicit IV in the packet.
const IV: usize = 8;
/// Bytes of tag.
const TAG: usize = 16;

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use no_vector::{Jobs, VectorKey};
#[cfg(target_arch = "x86_64")]
pub(crate) use {expand::Key as VectorKey, vector::Jobs};

/// An AES-GCM key with its salt, expanded for one rung.
pub(crate) enum GcmKey {
    Portable(Box<portable::Key>),
    Vector(Box<VectorKey>),
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
            if let Some(key) = vector::new_key(candidate, key, salt, esn) {
                return Self::Vector(key);
            }
        }
        let _ = rung;
        Self::Portable(Box::new(portable::Key::new(key, salt, esn)))
    }

    /// The key, if it is a vector kernel's: its packets go into [`Jobs`].
    #[inline]
    pub(crate) fn vector(&self) -> Option<&VectorKey> {
        match self {
            Self::Portable(_) => None,
            Self::Vector(key) => Some(key),
        }
    }

    /// Asks the processor for what a packet of `len` bytes needs of the tables of a vector rung.
    #[inline]
    pub(crate) fn prefetch(&self, len: usize) {
        if let Self::Vector(key) = self {
            key.prefetch(len);
        }
    }

    /// Seals a packet with a key that is no vector kernel's.
    pub(crate) fn seal_portably(&self, packet: &mut Packet<'_>) {
        match self {
            Self::Portable(key) => key.seal(packet),
            Self::Vector(_) => unreachable!("its packets are jobs"),
        }
    }

    /// Opens a packet with a key that is no vector kernel's. Says whether it is authentic; else
    /// its payload is wiped.
    #[must_use]
    pub(crate) fn open_portably(&self, packet: &mut Packet<'_>) -> bool {
        match self {
            Self::Portable(key) => key.open(packet),
            Self::Vector(_) => unreachable!("its packets are jobs"),
        }
    }
}
