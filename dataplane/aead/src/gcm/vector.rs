//! The rungs with vector AES: which instructions they enable, and in which order the packets
//! of one key are worked on.

use arrayvec::ArrayVec;

use super::expand::Key;
use super::job::Job;
use super::simd::{Simd, Xmm, Ymm, Zmm};
use super::{HEADER, IV, Packet, TAG};
use super::{long, short};
use crate::BATCH;

/// AES-NI and PCLMULQDQ.
pub(crate) struct AesNi(Box<Key>);

/// VAES and VPCLMULQDQ, 256 bits wide.
pub(crate) struct Vaes(Box<Key>);

/// VAES and VPCLMULQDQ, 512 bits wide.
pub(crate) struct Avx512(Box<Key>);

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
rung!(
    Avx512,
    Zmm,
    "avx512f,avx512bw,avx512dq,avx512vl,avx2,aes,pclmulqdq,vaes,vpclmulqdq,bmi2"
);

/// The packets of a run by the number of vectors of data they have: indices into the run.
struct Plan {
    /// Packets with `i + 1` vectors, in whole teams.
    short: [ArrayVec<u8, BATCH>; short::MOST],
    /// Packets that go alone.
    long: ArrayVec<u8, BATCH>,
}

impl Plan {
    fn new<S: Simd>(packets: &[Packet<'_>]) -> Self {
        let mut plan = Self {
            short: [const { ArrayVec::new_const() }; short::MOST],
            long: ArrayVec::new_const(),
        };
        for (i, packet) in packets.iter().enumerate() {
            let vectors = (packet.bytes.len() - HEADER - IV - TAG).div_ceil(S::BYTES);
            if (1..=S::TEAM).contains(&vectors) {
                plan.short[vectors - 1].push(i as u8);
            } else {
                plan.long.push(i as u8);
            }
        }
        for indices in &mut plan.short {
            while !indices.len().is_multiple_of(S::LANES)
                && let Some(i) = indices.pop()
            {
                plan.long.push(i);
            }
        }
        plan
    }
}

/// Runs `$body` for each class of short packets, with their indices, their number of vectors
/// and the number of AES states of a team.
macro_rules! each_class {
    ($simd:ident, $plan:ident, |$indices:ident, $vectors:ident, $states:ident| $body:expr) => {{
        each_class!(@ $plan, $indices, $vectors, $states, $body, $simd::LANES == 1; 1 2, 2 3, 3 4, 4 5);
        each_class!(@ $plan, $indices, $vectors, $states, $body, $simd::LANES == 2; 1 3, 2 5, 3 7, 4 9);
        each_class!(@ $plan, $indices, $vectors, $states, $body, $simd::LANES == 4; 1 5, 2 9);
    }};
    (@ $plan:ident, $indices:ident, $vectors:ident, $states:ident, $body:expr, $lanes:expr;
     $($u:literal $n:literal),*) => {
        if $lanes {
            $(
                let $indices = &$plan.short[$u - 1];
                if !$indices.is_empty() {
                    const $vectors: usize = $u;
                    const $states: usize = $n;
                    $body
                }
            )*
        }
    };
}

#[inline(always)]
fn seal<S: Simd, const R: usize>(s: S, key: &Key, packets: &mut [Packet<'_>]) {
    let plan = Plan::new::<S>(packets);
    for &i in &plan.long {
        let job = Job::seal(s, key, &mut packets[usize::from(i)]);
        long::seal::<S, R>(s, key, &job);
    }
    each_class!(S, plan, |indices, VECTORS, STATES| {
        short::seal::<S, R, VECTORS, STATES>(s, key, packets, indices);
    });
}

#[inline(always)]
fn open<S: Simd, const R: usize>(s: S, key: &Key, packets: &mut [Packet<'_>]) -> u64 {
    let plan = Plan::new::<S>(packets);
    let mut authentic = 0;
    for &i in &plan.long {
        let job = Job::open(s, key, &mut packets[usize::from(i)]);
        authentic |= u64::from(long::open::<S, R>(s, key, &job)) << i;
    }
    each_class!(S, plan, |indices, VECTORS, STATES| {
        authentic |= short::open::<S, R, VECTORS, STATES>(s, key, packets, indices);
    });
    authentic
}
