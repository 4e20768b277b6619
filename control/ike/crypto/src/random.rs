//! Where random octets come from.

/// A source of random octets. What the crate makes at random comes from here, private keys of all
/// groups too, so that a test with its own source repeats itself.
///
/// The exceptions are signatures: the library draws the nonces of ECDSA and the salts of RSA-PSS
/// itself.
pub trait Random {
    /// Fills `out` with octets that nobody can guess.
    fn fill(&mut self, out: &mut [u8]);
}

/// The library's generator, seeded by the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    /// # Panics
    /// When the operating system gives no random octets: no key can be made then, and going on
    /// with guessable ones would be worse than stopping.
    fn fill(&mut self, out: &mut [u8]) {
        assert!(
            aws_lc_rs::rand::fill(out).is_ok(),
            "the operating system gave no random octets"
        );
    }
}
