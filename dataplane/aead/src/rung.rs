//! Which implementation of AES-GCM runs: the best the processor has, chosen once per process.

use core::fmt;
use core::str::FromStr;
use std::sync::OnceLock;

/// A way to compute AES-GCM. All give the same packets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rung {
    /// The `aes-gcm` crate, packet by packet: any processor.
    Portable,
    /// Own kernel, one block to a vector: AES-NI and PCLMULQDQ.
    AesNi,
    /// Own kernel, two blocks to a vector: VAES and VPCLMULQDQ with AVX2.
    Vaes,
    /// Own kernel, four blocks to a vector: VAES and VPCLMULQDQ with AVX-512.
    Avx512,
}

impl Rung {
    /// Every rung, slowest first.
    pub const ALL: [Rung; 4] = [Rung::Portable, Rung::AesNi, Rung::Vaes, Rung::Avx512];

    /// Whether this processor has the instructions the rung needs.
    #[must_use]
    pub fn is_available(self) -> bool {
        crate::gcm::is_available(self)
    }

    const fn name(self) -> &'static str {
        match self {
            Rung::Portable => "portable",
            Rung::AesNi => "aesni",
            Rung::Vaes => "vaes",
            Rung::Avx512 => "avx512",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no rung.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown rung \"{0}\"; known: {names}", names = Rung::ALL.map(Rung::name).join(", "))]
pub struct ParseRungError(String);

impl FromStr for Rung {
    type Err = ParseRungError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Rung::ALL
            .into_iter()
            .find(|rung| rung.name() == name)
            .ok_or_else(|| ParseRungError(name.to_owned()))
    }
}

/// The rung that new keys of this process use: the best available one, or the one that the
/// environment variable `HAWSER_AEAD_RUNG` names when the process first asks.
///
/// # Panics
/// When the variable names no rung, or one this processor lacks: whoever sets it measures or
/// tests one rung, and must not get another one without a word.
pub fn rung() -> Rung {
    static CHOSEN: OnceLock<Rung> = OnceLock::new();
    *CHOSEN.get_or_init(|| match std::env::var("HAWSER_AEAD_RUNG") {
        Ok(name) => {
            let forced: Rung = name
                .parse()
                .unwrap_or_else(|e| panic!("HAWSER_AEAD_RUNG: {e}"));
            assert!(
                forced.is_available(),
                "HAWSER_AEAD_RUNG={forced}: this processor lacks it"
            );
            forced
        }
        Err(_) => best(),
    })
}

fn best() -> Rung {
    Rung::ALL
        .into_iter()
        .rev()
        .find(|rung| rung.is_available())
        .unwrap_or(Rung::Portable)
}
