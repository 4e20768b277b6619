//! The rungs with vector AES: which instructions they enable, and in which order the packets
//! of a batch are worked on.

use arrayvec::ArrayVec;

use super::expand::Key;
use super::job::Job;
use super::simd::{Simd, Xmm, Ymm};
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
            key: Key::new(unsafe { Xmm::new() }, key, salt, esn),
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

impl Kernel {
    /// Seals each packet with the key at its place; all keys are for this kernel.
    pub(super) fn seal(self, keys: &[&Key], packets: &mut [Packet<'_>]) {
        // SAFETY: a kernel exists only if its rung is available.
        unsafe {
            match (self.rung, self.long) {
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
            if S::TEAMS && (1..=short::MOST).contains(&vectors) {
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
/// and the number of AES states of a team of two.
macro_rules! each_class {
    ($plan:ident, |$indices:ident, $vectors:ident, $states:ident| $body:expr) => {
        each_class!(@ $plan, $indices, $vectors, $states, $body; 1 3, 2 5, 3 7, 4 9);
    };
    (@ $plan:ident, $indices:ident, $vectors:ident, $states:ident, $body:expr;
     $($u:literal $n:literal),*) => {
        $(
            let $indices = &$plan.short[$u - 1];
            if !$indices.is_empty() {
                const $vectors: usize = $u;
                const $states: usize = $n;
                $body
            }
        )*
    };
}

#[inline(always)]
fn seal<S: Simd, const R: usize>(s: S, keys: &[&Key], packets: &mut [Packet<'_>]) {
    let plan = Plan::new::<S>(packets);
    for &i in &plan.long {
        let i = usize::from(i);
        long::seal::<S, R>(s, &Job::seal(s, keys[i], &mut packets[i]));
    }
    if S::TEAMS {
        each_class!(plan, |indices, VECTORS, STATES| {
            short::seal::<S, R, VECTORS, STATES>(s, keys, packets, indices);
        });
    }
}

#[inline(always)]
fn open<S: Simd, const R: usize>(s: S, keys: &[&Key], packets: &mut [Packet<'_>]) -> u64 {
    let plan = Plan::new::<S>(packets);
    let mut authentic = 0;
    for &i in &plan.long {
        let i = usize::from(i);
        let job = Job::open(s, keys[i], &mut packets[i]);
        authentic |= u64::from(long::open::<S, R>(s, &job)) << i;
    }
    if S::TEAMS {
        each_class!(plan, |indices, VECTORS, STATES| {
            authentic |= short::open::<S, R, VECTORS, STATES>(s, keys, packets, indices);
        });
    }
    authentic
}
