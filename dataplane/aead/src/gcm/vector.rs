//! The rungs with vector AES: which instructions they enable, and in which order the packets
//! of one key are worked on.

use super::Packet;
use super::expand::Key;
use super::job::Job;
use super::long;
use super::simd::{Simd, Xmm, Ymm};

/// AES-NI and PCLMULQDQ.
pub(crate) struct AesNi(Box<Key>);

/// VAES and VPCLMULQDQ, 256 bits wide.
pub(crate) struct Vaes(Box<Key>);

macro_rules! rung {
    ($name:ident, $simd:ident, $features:literal) => {
        impl $name {
            /// `None` if the processor lacks the instructions. `key` is 16 or 32 bytes,
            /// `salt` 4.
            pub(crate) fn new(key: &[u8], salt: &[u8], esn: bool) -> Option<Self> {
                // SAFETY: asked right before.
                $simd::is_available().then(|| Self(Key::new(unsafe { Xmm::new() }, key, salt, esn)))
            }

            pub(crate) fn is_available() -> bool {
                $simd::is_available()
            }

            #[inline]
            pub(crate) fn seal(&self, packets: &mut [Packet<'_>]) {
                #[target_feature(enable = $features)]
                fn aes128(key: &Key, packets: &mut [Packet<'_>]) {
                    // SAFETY: this function has the features.
                    seal::<_, 10>(unsafe { $simd::new() }, key, packets);
                }
                #[target_feature(enable = $features)]
                fn aes256(key: &Key, packets: &mut [Packet<'_>]) {
                    // SAFETY: this function has the features.
                    seal::<_, 14>(unsafe { $simd::new() }, key, packets);
                }
                // SAFETY: `new` made sure of the features.
                unsafe {
                    if self.0.long {
                        aes256(&self.0, packets)
                    } else {
                        aes128(&self.0, packets)
                    }
                }
            }

            #[inline]
            pub(crate) fn open(&self, packets: &mut [Packet<'_>]) -> u64 {
                #[target_feature(enable = $features)]
                fn aes128(key: &Key, packets: &mut [Packet<'_>]) -> u64 {
                    // SAFETY: this function has the features.
                    open::<_, 10>(unsafe { $simd::new() }, key, packets)
                }
                #[target_feature(enable = $features)]
                fn aes256(key: &Key, packets: &mut [Packet<'_>]) -> u64 {
                    // SAFETY: this function has the features.
                    open::<_, 14>(unsafe { $simd::new() }, key, packets)
                }
                // SAFETY: `new` made sure of the features.
                unsafe {
                    if self.0.long {
                        aes256(&self.0, packets)
                    } else {
                        aes128(&self.0, packets)
                    }
                }
            }
        }
    };
}

rung!(AesNi, Xmm, "avx,aes,pclmulqdq,bmi2");
rung!(Vaes, Ymm, "avx2,aes,pclmulqdq,vaes,vpclmulqdq,bmi2");

#[inline(always)]
fn seal<S: Simd, const R: usize>(s: S, key: &Key, packets: &mut [Packet<'_>]) {
    for packet in packets {
        let job = Job::seal(s, key, packet);
        long::seal::<S, R>(s, key, &job);
    }
}

#[inline(always)]
fn open<S: Simd, const R: usize>(s: S, key: &Key, packets: &mut [Packet<'_>]) -> u64 {
    let mut authentic = 0;
    for (i, packet) in packets.iter_mut().enumerate() {
        let job = Job::open(s, key, packet);
        authentic |= u64::from(long::open::<S, R>(s, key, &job)) << i;
    }
    authentic
}
