//! Keys of a security association, one type per direction.

use crate::cbc::{CbcOpener, CbcSealer};
use crate::gcm::{GcmKey, VectorKey};
use crate::packet::Packet;
use crate::prefetch::prefetch;
use crate::rung::Rung;
use crate::sequence::{Counter, KeyId, SequenceBlock};
use crate::suite::{Shape, Suite};

/// Why a key could not be made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// The caller passed key material of the wrong length.
    #[error("{suite} takes {expected} bytes of key material (cipher key, then {second}), got {got}",
            second = if suite.is_gcm() { "4 bytes of salt" } else { "integrity key" })]
    Length {
        /// The suite the key was meant for.
        suite: Suite,
        /// Bytes it takes.
        expected: usize,
        /// Bytes that were passed.
        got: usize,
    },
    /// The first sequence number is 0, or does not fit the sequence number's width.
    #[error("first sequence number {0} is out of range: 1 to 2^32-1, or below 2^64-2^48 with ESN")]
    FirstSequence(u64),
    /// The operating system gave no random bytes for the secret behind the CBC IVs.
    #[error("the operating system gave no random bytes: {0}")]
    Random(String),
}

/// The outbound key of a security association: seals packets, and hands out the sequence
/// numbers to seal them with. Shared by all workers.
pub struct SealingKey {
    cipher: Sealer,
    suite: Suite,
    shape: Shape,
    counter: Counter,
}

enum Sealer {
    Gcm(GcmKey),
    Cbc(Box<CbcSealer>),
}

impl SealingKey {
    /// `key_material` is [`Suite::key_len`] bytes; `first` is the next sequence number to use
    /// (1 for a fresh key); `limit` the last one, which is never more than 2^32-1 without `esn`.
    ///
    /// Two keys made of the same material repeat nonces: a key that moves (restart, hand-over)
    /// must start with a `first` beyond everything used.
    pub fn new(
        suite: Suite,
        key_material: &[u8],
        esn: bool,
        first: u64,
        limit: u64,
    ) -> Result<Self, KeyError> {
        Self::on_rung(crate::rung(), suite, key_material, esn, first, limit)
    }

    /// As [`new`](Self::new), on a given rung: for tests and comparisons.
    /// A rung this processor cannot run falls to the next one it can.
    pub fn on_rung(
        rung: Rung,
        suite: Suite,
        key_material: &[u8],
        esn: bool,
        first: u64,
        limit: u64,
    ) -> Result<Self, KeyError> {
        let (cipher_key, rest) = split(suite, key_material)?;
        let counter = Counter::new(esn, first, limit).ok_or(KeyError::FirstSequence(first))?;
        let cipher = if suite.is_gcm() {
            Sealer::Gcm(GcmKey::new(rung, cipher_key, rest, esn))
        } else {
            Sealer::Cbc(Box::new(CbcSealer::new(suite, cipher_key, rest, esn)?))
        };
        Ok(Self {
            cipher,
            suite,
            shape: suite.shape(),
            counter,
        })
    }

    /// Takes `n` consecutive sequence numbers by one atomic addition; `None` when they would
    /// pass the limit. The at most `n - 1` numbers left below the limit are then given up.
    #[inline]
    pub fn reserve(&self, n: u32) -> Option<SequenceBlock> {
        self.counter.reserve(n)
    }

    /// Changes the last sequence number that may be used. The hard limit stays.
    pub fn set_limit(&self, limit: u64) {
        self.counter.set_limit(limit);
    }

    /// The next sequence number to be given out; beyond the limit when it was reached.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.counter.next()
    }

    /// The suite the key was made for.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Asks the processor for what [`SealingKey::reserve`] and the cipher's first steps need, for
    /// a caller that knows the key some time before it uses it.
    #[inline]
    pub fn prefetch(&self) {
        prefetch(&self.counter);
        prefetch(&self.cipher);
    }

    /// Asks the processor for what a packet of `len` bytes needs of the cipher's tables, once what
    /// [`SealingKey::prefetch`] asked for has come. Worth it when there are more keys than a
    /// second-level cache holds.
    #[inline]
    pub fn prefetch_tables(&self, len: usize) {
        if let Sealer::Gcm(key) = &self.cipher {
            key.prefetch(len);
        }
    }

    #[inline]
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    #[inline]
    pub(crate) fn id(&self) -> KeyId {
        self.counter.owner()
    }

    /// Seals the first packets, each with the key at its place, as many as can go together, and
    /// says how many that were. No key is a vector kernel's, and their lengths were checked.
    #[inline]
    pub(crate) fn seal_run(keys: &[&Self], packets: &mut [Packet<'_>]) -> usize {
        match &keys[0].cipher {
            Sealer::Gcm(key) => {
                key.seal_portably(&mut packets[0]);
                1
            }
            Sealer::Cbc(key) => {
                let run = keys
                    .iter()
                    .take_while(|k| core::ptr::eq(**k, keys[0]))
                    .count();
                key.seal(&mut packets[..run]);
                run
            }
        }
    }

    /// The key, if it is one of AES-GCM's vector kernels.
    #[inline]
    pub(crate) fn vector(&self) -> Option<&VectorKey> {
        match &self.cipher {
            Sealer::Gcm(key) => key.vector(),
            Sealer::Cbc(_) => None,
        }
    }
}

/// The inbound key of a security association. Shared by all workers.
pub struct OpeningKey {
    cipher: Opener,
    suite: Suite,
    shape: Shape,
}

enum Opener {
    Gcm(GcmKey),
    Cbc(Box<CbcOpener>),
}

impl OpeningKey {
    /// `key_material` is [`Suite::key_len`] bytes.
    pub fn new(suite: Suite, key_material: &[u8], esn: bool) -> Result<Self, KeyError> {
        Self::on_rung(crate::rung(), suite, key_material, esn)
    }

    /// As [`new`](Self::new), on a given rung: for tests and comparisons.
    /// A rung this processor cannot run falls to the next one it can.
    pub fn on_rung(
        rung: Rung,
        suite: Suite,
        key_material: &[u8],
        esn: bool,
    ) -> Result<Self, KeyError> {
        let (cipher_key, rest) = split(suite, key_material)?;
        let cipher = if suite.is_gcm() {
            Opener::Gcm(GcmKey::new(rung, cipher_key, rest, esn))
        } else {
            Opener::Cbc(Box::new(CbcOpener::new(suite, cipher_key, rest, esn)))
        };
        Ok(Self {
            cipher,
            suite,
            shape: suite.shape(),
        })
    }

    /// Which lengths its packets may have.
    #[inline]
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// As [`SealingKey::prefetch_tables`].
    #[inline]
    pub fn prefetch_tables(&self, len: usize) {
        if let Opener::Gcm(key) = &self.cipher {
            key.prefetch(len);
        }
    }

    /// The suite the key was made for.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Opens packets as [`SealingKey::seal_run`] seals them. Bit `i` of the second value says that
    /// packet `i` is authentic; the payload of every other packet is zeroed.
    #[inline]
    pub(crate) fn open_run(keys: &[&Self], packets: &mut [Packet<'_>]) -> (usize, u64) {
        match &keys[0].cipher {
            Opener::Gcm(key) => (1, u64::from(key.open_portably(&mut packets[0]))),
            Opener::Cbc(key) => {
                let run = keys
                    .iter()
                    .take_while(|k| core::ptr::eq(**k, keys[0]))
                    .count();
                (run, key.open(&mut packets[..run]))
            }
        }
    }

    /// The key, if it is one of AES-GCM's vector kernels.
    #[inline]
    pub(crate) fn vector(&self) -> Option<&VectorKey> {
        match &self.cipher {
            Opener::Gcm(key) => key.vector(),
            Opener::Cbc(_) => None,
        }
    }
}

fn split(suite: Suite, key_material: &[u8]) -> Result<(&[u8], &[u8]), KeyError> {
    if key_material.len() != suite.key_len() {
        return Err(KeyError::Length {
            suite,
            expected: suite.key_len(),
            got: key_material.len(),
        });
    }
    Ok(key_material.split_at(suite.cipher_key_len()))
}
