//! The rungs with vector AES: which instructions they enable, and in which order the packets
//! of one key are worked on.

use arrayvec::ArrayVec;

use super::expand::Key;
use super::job::Job;
use super::simd::{Simd, Xmm, Ymm};
use super::{HEADER, IV, Packet, TAG};
use super::{long, short};
use crate::BATCH;

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

/// Packets of one key by the number of vectors of data they have, the short ones in teams.
struct Plan {
    /// Indices of the packets with `i + 1` vectors.
    short: [ArrayVec<u8, BATCH>; short::MOST],
}

impl Plan {
    /// Sorts out the short packets of a run; `long` is called for each of the others.
    #[inline(always)]
    fn new<S: Simd>(
        packets: &mut [Packet<'_>],
        mut long: impl FnMut(usize, &mut Packet<'_>),
    ) -> Self {
        let mut plan = Self {
            short: [const { ArrayVec::new_const() }; short::MOST],
        };
        for (i, packet) in packets.iter_mut().enumerate() {
            let vectors = (packet.bytes.len() - HEADER - IV - TAG).div_ceil(S::BYTES);
            match vectors {
                1..=short::MOST => plan.short[vectors - 1].push(i as u8),
                _ => long(i, packet),
            }
        }
        // Who finds no full team goes alone.
        for indices in &mut plan.short {
            while !indices.len().is_multiple_of(S::LANES)
                && let Some(i) = indices.pop()
            {
                long(usize::from(i), &mut packets[usize::from(i)]);
            }
        }
        plan
    }
}

/// Calls `$kernel::<S, R, U, N>` for each length class: `U` vectors, `N` states of a team.
macro_rules! each_class {
    ($simd:ident, $plan:ident, |$indices:ident, $vectors:ident, $states:ident| $body:expr) => {{
        each_class!(@ $plan, $indices, $vectors, $states, $body, $simd::LANES == 1; 1 2, 2 3, 3 4, 4 5);
        each_class!(@ $plan, $indices, $vectors, $states, $body, $simd::LANES == 2; 1 3, 2 5, 3 7, 4 9);
    }};
    (@ $plan:ident, $indices:ident, $vectors:ident, $states:ident, $body:expr, $lanes:expr;
     $($u:literal $n:literal),*) => {
        if $lanes {
            $({
                const $vectors: usize = $u;
                const $states: usize = $n;
                let $indices = &$plan.short[$u - 1];
                $body
            })*
        }
    };
}

#[inline(always)]
fn seal<S: Simd, const R: usize>(s: S, key: &Key, packets: &mut [Packet<'_>]) {
    let plan = Plan::new::<S>(packets, |_, packet| {
        let job = Job::seal(s, key, packet);
        long::seal::<S, R>(s, key, &job);
    });
    each_class!(S, plan, |indices, VECTORS, STATES| {
        let mut teams = indices.chunks_exact(S::LANES);
        short::seal::<S, R, VECTORS, STATES>(s, key, || {
            let team = teams.next()?;
            let mut jobs = [Job::seal(s, key, &mut packets[usize::from(team[0])]); 4];
            for (job, i) in jobs.iter_mut().zip(team).skip(1) {
                *job = Job::seal(s, key, &mut packets[usize::from(*i)]);
            }
            Some(jobs)
        });
    });
}

#[inline(always)]
fn open<S: Simd, const R: usize>(s: S, key: &Key, packets: &mut [Packet<'_>]) -> u64 {
    let mut authentic = 0;
    let plan = Plan::new::<S>(packets, |i, packet| {
        let job = Job::open(s, key, packet);
        authentic |= u64::from(long::open::<S, R>(s, key, &job)) << i;
    });
    each_class!(S, plan, |indices, VECTORS, STATES| {
        for team in indices.chunks_exact(S::LANES) {
            let mut jobs = [Job::open(s, key, &mut packets[usize::from(team[0])]); 4];
            for (job, i) in jobs.iter_mut().zip(team).skip(1) {
                *job = Job::open(s, key, &mut packets[usize::from(*i)]);
            }
            let verdicts = short::open::<S, R, VECTORS, STATES>(s, key, &jobs);
            for (i, &packet) in team.iter().enumerate() {
                authentic |= (verdicts >> i & 1) << packet;
            }
        }
    });
    authentic
}
