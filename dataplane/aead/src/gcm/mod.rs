//! AES-GCM in ESP (RFC 4106), on the rung chosen for this process.

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
mod vector;

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
    AesNi(vector::AesNi),
    #[cfg(target_arch = "x86_64")]
    Vaes(vector::Vaes),
    #[cfg(target_arch = "x86_64")]
    Avx512(vector::Avx512),
}

/// Whether this processor has the instructions of `rung`.
pub(crate) fn is_available(rung: Rung) -> bool {
    match rung {
        Rung::Portable => true,
        #[cfg(target_arch = "x86_64")]
        Rung::AesNi => vector::AesNi::is_available(),
        #[cfg(target_arch = "x86_64")]
        Rung::Vaes => vector::Vaes::is_available(),
        #[cfg(target_arch = "x86_64")]
        Rung::Avx512 => vector::Avx512::is_available(),
        #[cfg(not(target_arch = "x86_64"))]
        _ => false,
    }
}

impl GcmKey {
    /// `key` is 16 or 32 bytes and `salt` 4: the suite's lengths were checked. A rung that the
    /// processor lacks falls to the next.
    pub(crate) fn new(rung: Rung, key: &[u8], salt: &[u8], esn: bool) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if rung >= Rung::Avx512
                && let Some(key) = vector::Avx512::new(key, salt, esn)
            {
                return Self::Avx512(key);
            }
            if rung >= Rung::Vaes
                && let Some(key) = vector::Vaes::new(key, salt, esn)
            {
                return Self::Vaes(key);
            }
            if rung >= Rung::AesNi
                && let Some(key) = vector::AesNi::new(key, salt, esn)
            {
                return Self::AesNi(key);
            }
        }
        let _ = rung;
        Self::Portable(Box::new(portable::Key::new(key, salt, esn)))
    }

    #[inline]
    pub(crate) fn seal(&self, packets: &mut [Packet<'_>]) {
        match self {
            Self::Portable(key) => key.seal(packets),
            #[cfg(target_arch = "x86_64")]
            Self::AesNi(key) => key.seal(packets),
            #[cfg(target_arch = "x86_64")]
            Self::Vaes(key) => key.seal(packets),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(key) => key.seal(packets),
        }
    }

    #[inline]
    pub(crate) fn open(&self, packets: &mut [Packet<'_>]) -> u64 {
        match self {
            Self::Portable(key) => key.open(packets),
            #[cfg(target_arch = "x86_64")]
            Self::AesNi(key) => key.open(packets),
            #[cfg(target_arch = "x86_64")]
            Self::Vaes(key) => key.open(packets),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(key) => key.open(packets),
        }
    }
}
