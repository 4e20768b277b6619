//! The rungs with vector AES: which instructions they enable, and in which order the packets
//! of a batch are worked on.

use arrayvec::ArrayVec;

use super::expand::Key;
use super::job::Job;
use super::simd::{Simd, Xmm, Ymm, Zmm};
use super::{HEADER, IV, Packet, TAG};
use super::{long, short};
use crate::BATCH;
use crate::rung::Rung;

/// Whether this processor has the instructions of `rung`, which must be one of those here.
pub(super) fn is_available(rung: Rung) -> bool {
    match rung {
        Rung::Portable => false,
        Rung::AesNi => Xmm::is_available(),
        Rung::Vaes => Ymm::is_available(),
        Rung::Avx512 => Zmm::is_available(),
    }
}

/// A key expanded for one of the rungs here.
pub(crate) struct VectorKey {
    kernel: Kernel,
    key: Box<Key>,
}

/// The code a key needs: packets whose keys need the same go through it together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Kernel {
    /// Never `Portable`, and available: seen to by [`VectorKey::new`].
    rung: Rung,
    /// AES-256.
    long: bool,
}

impl VectorKey {
    /// `None` if the processor lacks the instructions of `rung`, or `rung` is not one of those
    /// here. `key` is 16 or 32 bytes, `salt` 4.
    pub(super) fn new(rung: Rung, key: &[u8], salt: &[u8], esn: bool) -> Option<Self> {
        is_available(rung).then(|| Self {
            kernel: Kernel {
                rung,
                long: key.len() == 32,
            },
            // SAFETY: every rung here includes what `Xmm` needs.
            key: Key::new(unsafe { Xmm::new() }, key, salt, esn, rung == Rung::Avx512),
        })
    }

    #[inline]
    pub(super) fn prefetch(&self, len: usize) {
        self.key.prefetch(len);
    }

    #[inline]
    pub(super) fn kernel(&self) -> Kernel {
        self.kernel
    }

    #[inline]
    pub(super) fn expanded(&self) -> &Key {
        &self.key
    }
}

/// The two entry points of a rung, for AES-128 and AES-256.
macro_rules! entry_points {
    ($seal:ident, $open:ident, $simd:ident, $features:literal) => {
        #[target_feature(enable = $features)]
        fn $seal<const R: usize>(keys: &[&Key], packets: &mut [Packet<'_>]) {
            // SAFETY: this function has the features.
            seal::<_, R>(unsafe { $simd::new() }, keys, packets);
        }

        #[target_feature(enable = $features)]
        fn $open<const R: usize>(keys: &[&Key], packets: &mut [Packet<'_>]) -> u64 {
            // SAFETY: this function has the features.
            open::<_, R>(unsafe { $simd::new() }, keys, packets)
        }
    };
}

entry_points!(seal_aesni, open_aesni, Xmm, "avx,aes,pclmulqdq");
entry_points!(
    seal_vaes,
    open_vaes,
    Ymm,
    "avx2,aes,pclmulqdq,vaes,vpclmulqdq"
);

entry_points!(
    seal_avx512,
    open_avx512,
    Zmm,
    "avx2,bmi2,avx512f,avx512bw,avx512dq,avx512vl,aes,pclmulqdq,vaes,vpclmulqdq"
);

impl Kernel {
    /// Seals each packet with the key at its place; all keys are for this kernel.
    pub(super) fn seal(self, keys: &[&Key], packets: &mut [Packet<'_>]) {
        // SAFETY: a kernel exists only if its rung is available.
        unsafe {
            match (self.rung, self.long) {
                (Rung::Avx512, false) => seal_avx512::<10>(keys, packets),
                (Rung::Avx512, true) => seal_avx512::<14>(keys, packets),
                (Rung::Vaes, false) => seal_vaes::<10>(keys, packets),
                (Rung::Vaes, true) => seal_vaes::<14>(keys, packets),
                (_, false) => seal_aesni::<10>(keys, packets),
                (_, true) => seal_aesni::<14>(keys, packets),
            }
        }
    }

    /// Opens each packet with the key at its place; all keys are for this kernel. Bit `i` of
    /// the answer says that packet `i` is authentic.
    pub(super) fn open(self, keys: &[&Key], packets: &mut [Packet<'_>]) -> u64 {
        // SAFETY: a kernel exists only if its rung is available.
        unsafe {
            match (self.rung, self.long) {
                (Rung::Avx512, false) => open_avx512::<10>(keys, packets),
                (Rung::Avx512, true) => open_avx512::<14>(keys, packets),
                (Rung::Vaes, false) => open_vaes::<10>(keys, packets),
                (Rung::Vaes, true) => open_vaes::<14>(keys, packets),
                (_, false) => open_aesni::<10>(keys, packets),
                (_, true) => open_aesni::<14>(keys, packets),
            }
        }
    }
}

/// The packets of a batch by the number of vectors of data they have: indices into the batch.
struct Plan {
    /// Packets with `i + 1` vectors, in whole teams.
    short: [ArrayVec<u8, BATCH>; short::MOST],
    /// All others.
    long: ArrayVec<u8, BATCH>,
}

impl Plan {
    #[inline(always)]
    fn new<S: Simd>(_: S, jobs: &[Job<'_>]) -> Self {
        let mut plan = Self {
            short: [const { ArrayVec::new_const() }; short::MOST],
            long: ArrayVec::new_const(),
        };
        for (i, job) in jobs.iter().enumerate() {
            let vectors = job.vectors::<S>();
            if (1..=S::SIDE_BY_SIDE).contains(&vectors) {
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

/// Runs `$body` for each class of short packets, with their indices, their number of vectors,
/// and the number of data vectors and AES states of a team.
macro_rules! each_class {
    ($plan:ident, |$indices:ident, $vectors:ident, $data:ident, $states:ident| $body:expr) => {
        if S::LANES == 4 {
            each_class!(@ $plan, $indices, $vectors, $data, $states, $body; 1 4 5, 2 8 9);
        } else if S::LANES == 2 {
            each_class!(@ $plan, $indices, $vectors, $data, $states, $body;
                        1 2 3, 2 4 5, 3 6 7, 4 8 9);
        }
    };
    (@ $plan:ident, $indices:ident, $vectors:ident, $data:ident, $states:ident, $body:expr;
     $($u:literal $n:literal $x:literal),*) => {
        $(
            let $indices = &$plan.short[$u - 1];
            if !$indices.is_empty() {
                const $vectors: usize = $u;
                const $data: usize = $n;
                const $states: usize = $x;
                $body
            }
        )*
    };
}

/// Whether all packets have one key.
#[inline(always)]
fn same_key(keys: &[&Key]) -> bool {
    keys.iter().all(|key| core::ptr::eq(*key, keys[0]))
}

#[inline(always)]
fn seal<S: Simd, const R: usize>(s: S, keys: &[&Key], packets: &mut [Packet<'_>]) {
    let mut jobs = ArrayVec::<_, BATCH>::new_const();
    for (key, packet) in keys.iter().zip(packets) {
        jobs.push(Job::seal(key, packet));
    }
    let plan = Plan::new(s, &jobs);
    let same = same_key(keys);
    long::seal::<S, R>(s, &jobs, &plan.long);
    each_class!(plan, |indices, VECTORS, DATA, STATES| {
        if same {
            short::seal::<S, R, VECTORS, DATA, STATES, true>(s, &jobs, indices);
        } else {
            short::seal::<S, R, VECTORS, DATA, STATES, false>(s, &jobs, indices);
        }
    });
}

#[inline(always)]
fn open<S: Simd, const R: usize>(s: S, keys: &[&Key], packets: &mut [Packet<'_>]) -> u64 {
    let mut jobs = ArrayVec::<_, BATCH>::new_const();
    for (key, packet) in keys.iter().zip(packets) {
        jobs.push(Job::open(key, packet));
    }
    let plan = Plan::new(s, &jobs);
    let same = same_key(keys);
    let mut authentic = long::open::<S, R>(s, &jobs, &plan.long);
    each_class!(plan, |indices, VECTORS, DATA, STATES| {
        authentic |= if same {
            short::open::<S, R, VECTORS, DATA, STATES, true>(s, &jobs, indices)
        } else {
            short::open::<S, R, VECTORS, DATA, STATES, false>(s, &jobs, indices)
        };
    });
    authentic
}
