//! The rungs with vector AES: which instructions they enable, and which packets of a batch are
//! worked on together.

use arrayvec::ArrayVec;

use super::expand::{Kernel, Key};
use super::job::Job;
use super::simd::{Simd, Xmm, Ymm, Zmm};
use super::team::take_lowest;
use super::{long, short};
use crate::BATCH;
use crate::rung::Rung;
use crate::tables::tables;

/// Whether this processor has the instructions of `rung`, which must be one of those here.
pub(super) fn is_available(rung: Rung) -> bool {
    match rung {
        Rung::Portable => false,
        Rung::AesNi => Xmm::is_available(),
        Rung::Vaes => Ymm::is_available(),
        Rung::Avx512 => Zmm::is_available(),
    }
}

/// A key expanded for one of the rungs here. `None` if the processor lacks its instructions, or it
/// is not one of those here. `key` is 16 or 32 bytes, `salt` 4.
pub(super) fn new_key(rung: Rung, key: &[u8], salt: &[u8], esn: bool) -> Option<Box<Key>> {
    is_available(rung).then(|| {
        // SAFETY: every rung here includes what `Xmm` needs.
        Key::new(unsafe { Xmm::new() }, key, salt, esn, rung)
    })
}

/// Packets for the kernels here, each with its key. What a kernel needs to know of a packet is
/// worked out as it comes in.
#[derive(Default)]
pub(crate) struct Jobs<'k>(ArrayVec<Job<'k>, BATCH>);

impl<'k> Jobs<'k> {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes a packet to be sealed, and writes its sequence number and IV. From SPI to tag its
    /// length was checked.
    #[inline]
    pub(crate) fn push_to_seal(&mut self, key: &'k Key, sequence: u64, packet: &'k mut [u8]) {
        self.0.push(Job::seal(key, sequence, packet));
    }

    /// Takes a packet to be opened, whose length was checked.
    #[inline]
    pub(crate) fn push_to_open(&mut self, key: &'k Key, sequence: u64, packet: &'k mut [u8]) {
        self.0.push(Job::open(key, sequence, packet));
    }

    /// Gives the last packet other AAD than ESP's, for published vectors.
    #[cfg(test)]
    pub(super) fn set_aad(&mut self, aad: [u8; 16], len: usize) {
        self.0.last_mut().expect("a packet").set_aad(aad, len);
    }

    /// Seals them, and gives them up.
    pub(crate) fn seal(&mut self) {
        for jobs in self.runs() {
            jobs[0].key.kernel.seal(jobs);
        }
        self.0.clear();
    }

    /// Opens them, and gives them up. Bit `i` of the answer says that packet `i` is authentic; the
    /// data of the others is wiped.
    pub(crate) fn open(&mut self) -> u64 {
        let mut authentic = 0;
        let mut start = 0;
        for jobs in self.runs() {
            authentic |= jobs[0].key.kernel.open(jobs) << start;
            start += jobs.len();
        }
        self.0.clear();
        authentic
    }

    /// Stretches of packets that one kernel serves.
    fn runs(&self) -> impl Iterator<Item = &[Job<'k>]> {
        self.0.chunk_by(|a, b| a.key.kernel == b.key.kernel)
    }
}

/// The two entry points of a rung, for AES-128 and AES-256.
macro_rules! entry_points {
    ($seal:ident, $open:ident, $simd:ident, $features:literal) => {
        #[target_feature(enable = $features)]
        fn $seal<const R: usize>(jobs: &[Job<'_>]) {
            // SAFETY: this function has the features.
            seal::<_, R>(unsafe { $simd::new() }, jobs);
        }

        #[target_feature(enable = $features)]
        fn $open<const R: usize>(jobs: &[Job<'_>]) -> u64 {
            // SAFETY: this function has the features.
            open::<_, R>(unsafe { $simd::new() }, jobs)
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
    /// Seals packets, whose keys are for this kernel.
    fn seal(self, jobs: &[Job<'_>]) {
        // SAFETY: a kernel exists only if its rung is available.
        unsafe {
            match (self.rung, self.long) {
                (Rung::Avx512, false) => seal_avx512::<10>(jobs),
                (Rung::Avx512, true) => seal_avx512::<14>(jobs),
                (Rung::Vaes, false) => seal_vaes::<10>(jobs),
                (Rung::Vaes, true) => seal_vaes::<14>(jobs),
                (_, false) => seal_aesni::<10>(jobs),
                (_, true) => seal_aesni::<14>(jobs),
            }
        }
    }

    /// Opens packets, whose keys are for this kernel. Bit `i` of the answer says
    /// that packet `i` is authentic.
    fn open(self, jobs: &[Job<'_>]) -> u64 {
        // SAFETY: a kernel exists only if its rung is available.
        unsafe {
            match (self.rung, self.long) {
                (Rung::Avx512, false) => open_avx512::<10>(jobs),
                (Rung::Avx512, true) => open_avx512::<14>(jobs),
                (Rung::Vaes, false) => open_vaes::<10>(jobs),
                (Rung::Vaes, true) => open_vaes::<14>(jobs),
                (_, false) => open_aesni::<10>(jobs),
                (_, true) => open_aesni::<14>(jobs),
            }
        }
    }
}

/// The packets of a run by how they are worked on: bit `i` stands for packet `i`.
struct Plan {
    /// Packets with `i + 1` vectors of data: whole teams of them go side by side.
    short: [u64; short::MOST],
    /// All others.
    long: u64,
    /// Whether all have one key.
    same: bool,
}

impl Plan {
    #[inline(always)]
    fn new<S: Simd>(_: S, jobs: &[Job<'_>]) -> Self {
        let mut short = [0; short::MOST];
        let mut same = true;
        for (i, job) in jobs.iter().enumerate() {
            let vectors = job.vectors::<S>();
            same &= core::ptr::eq(job.key, jobs[0].key);
            // Without a branch, as lengths come in any order.
            for (u, packets) in short.iter_mut().enumerate().take(S::SIDE_BY_SIDE) {
                *packets |= u64::from(vectors == u + 1) << i;
            }
        }
        let mut long = u64::MAX >> (BATCH - jobs.len());
        for packets in &mut short {
            while !(packets.count_ones() as usize).is_multiple_of(S::LANES) {
                take_lowest(packets);
            }
            long &= !*packets;
        }
        Self { short, long, same }
    }
}

/// Runs `$body` for each class of short packets, their number of vectors of data, that of
/// a team, and a team's number of AES states.
macro_rules! each_class {
    ($plan:ident, |$packets:ident, $vectors:ident, $data:ident, $states:ident| $body:expr) => {
        if S::LANES == 4 {
            each_class!(@ $plan, $packets, $vectors, $data, $states, $body; 1 4 5, 2 8 9);
        } else if S::LANES == 2 {
            each_class!(@ $plan, $packets, $vectors, $data, $states, $body;
                        1 2 3, 2 4 5, 3 6 7, 4 8 9);
        }
    };
    (@ $plan:ident, $packets:ident, $vectors:ident, $data:ident, $states:ident, $body:expr;
     $($u:literal $n:literal $x:literal),*) => {
        $(
            let $packets = $plan.short[$u - 1];
            if $packets != 0 {
                const $vectors: usize = $u;
                const $data: usize = $n;
                const $states: usize = $x;
                $body
            }
        )*
    };
}

#[inline(always)]
fn seal<S: Simd, const R: usize>(s: S, jobs: &[Job<'_>]) {
    let plan = Plan::new(s, jobs);
    long::seal::<S, R>(s, jobs, tables().stretch(), plan.same, plan.long);
    each_class!(plan, |packets, VECTORS, DATA, STATES| {
        if plan.same {
            short::seal::<S, R, VECTORS, DATA, STATES, true>(s, jobs, packets);
        } else {
            short::seal::<S, R, VECTORS, DATA, STATES, false>(s, jobs, packets);
        }
    });
}

#[inline(always)]
fn open<S: Simd, const R: usize>(s: S, jobs: &[Job<'_>]) -> u64 {
    let plan = Plan::new(s, jobs);
    let mut authentic = long::open::<S, R>(s, jobs, tables().stretch(), plan.same, plan.long);
    each_class!(plan, |packets, VECTORS, DATA, STATES| {
        authentic |= if plan.same {
            short::open::<S, R, VECTORS, DATA, STATES, true>(s, jobs, packets)
        } else {
            short::open::<S, R, VECTORS, DATA, STATES, false>(s, jobs, packets)
        };
    });
    authentic
}
