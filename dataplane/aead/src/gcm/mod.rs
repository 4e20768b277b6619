//! AES-GCM in ESP (RFC 4106), on the rung chosen for this process.

mod portable;

use crate::packet::{HEADER, Packet};
use crate::rung::Rung;

/// Bytes of explicit IV in the packet.
const IV: usize = 8;
/// Bytes of tag.
const TAG: usize = 16;

/// An AES-GCM key with its salt, expanded for one rung.
pub(crate) enum GcmKey {
    Portable(Box<portable::Key>),
}

impl GcmKey {
    /// `key` is 16 or 32 bytes and `salt` 4: the suite's lengths were checked.
    pub(crate) fn new(rung: Rung, key: &[u8], salt: &[u8], esn: bool) -> Self {
        match rung {
            Rung::Portable => Self::Portable(Box::new(portable::Key::new(key, salt, esn))),
        }
    }

    #[inline]
    pub(crate) fn seal(&self, packets: &mut [Packet<'_>]) {
        match self {
            Self::Portable(key) => key.seal(packets),
        }
    }

    #[inline]
    pub(crate) fn open(&self, packets: &mut [Packet<'_>]) -> u64 {
        match self {
            Self::Portable(key) => key.open(packets),
        }
    }
}
