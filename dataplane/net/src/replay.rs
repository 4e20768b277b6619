//! The anti-replay window of an inbound SA (RFC 4303 3.4.3, extended sequence numbers by appendix
//! A).
//!
//! A packet meets the window twice: [`ReplayWindow::check`] before decryption, which rejects what
//! is certainly old and changes nothing, and [`ReplayWindow::commit`] after the integrity check,
//! which moves the window. Only a proof of authenticity can commit, so a forged packet cannot move
//! the window by any mistake of a caller. Commit checks again, because the same sequence number
//! may come twice in one batch, between check and commit.
//!
//! The window is a ring of 64-bit words indexed by the sequence number itself (RFC 6479), one block
//! larger than the window, so that advancing clears whole words and nothing is ever shifted.
//!
//! Sequence numbers here are the full 64 bits; without ESN the high half is zero.

use hawser_aead::{Authenticated, prefetch};
use thiserror::Error;

/// Smallest window, in packets.
pub const MIN_WINDOW: u32 = 64;

/// Largest window, in packets.
pub const MAX_WINDOW: u32 = 4096;

/// The window AWS uses unless told otherwise, in packets.
pub const DEFAULT_WINDOW: u32 = 1024;

/// Why a sequence number was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum ReplayError {
    /// Left of the window.
    #[error("sequence number is left of the replay window")]
    TooOld,
    /// Seen before.
    #[error("sequence number was seen before")]
    Duplicate,
    /// Sequence number 0, which no sender uses (RFC 4303 3.3.3).
    #[error("sequence number is zero")]
    Zero,
    /// Above 2^32 - 1 without ESN.
    #[error("sequence number does not fit without ESN")]
    Overflow,
}

/// A window size that is not from [`MIN_WINDOW`] to [`MAX_WINDOW`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("replay window of {0} packets: must be {MIN_WINDOW} to {MAX_WINDOW}")]
pub struct WindowSizeError(pub u32);

/// The anti-replay window of one inbound SA.
#[derive(Clone)]
pub struct ReplayWindow {
    /// Highest sequence number committed; 0 before the first.
    top: u64,
    size: u32,
    esn: bool,
    /// Bit `seq % 64` of word `seq / 64 % words.len()`; a power of two words.
    words: Box<[u64]>,
}

impl ReplayWindow {
    /// A window of `size` packets in which nothing was seen.
    ///
    /// # Errors
    /// If `size` is not from [`MIN_WINDOW`] to [`MAX_WINDOW`].
    pub fn new(size: u32, esn: bool) -> Result<Self, WindowSizeError> {
        if !(MIN_WINDOW..=MAX_WINDOW).contains(&size) {
            return Err(WindowSizeError(size));
        }
        // One word more than the window, because the word of the top is only partly in use.
        let words = (size as usize).div_ceil(64) + 1;
        Ok(Self {
            top: 0,
            size,
            esn,
            words: vec![0; words.next_power_of_two()].into_boxed_slice(),
        })
    }

    /// Continues behind a checkpoint: everything up to `top` counts as seen.
    ///
    /// For a window whose bits were lost: to accept an old packet twice is worse than to lose the
    /// few that were on their way.
    ///
    /// # Errors
    /// As [`ReplayWindow::new`].
    pub fn resume(size: u32, esn: bool, top: u64) -> Result<Self, WindowSizeError> {
        let mut window = Self::new(size, esn)?;
        window.top = top;
        window.words.fill(u64::MAX);
        // The bits above the top belong to numbers not yet seen.
        let word = window.word(top);
        window.words[word] = (2u64 << (top & 63)).wrapping_sub(1);
        Ok(window)
    }

    /// Highest sequence number committed; 0 before the first.
    #[must_use]
    #[inline]
    pub const fn top(&self) -> u64 {
        self.top
    }

    /// Window size in packets.
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// Whether the SA uses extended sequence numbers.
    #[must_use]
    pub const fn esn(&self) -> bool {
        self.esn
    }

    /// Asks the processor for the window's words near its top.
    #[inline]
    pub fn prefetch(&self) {
        prefetch(&self.words[self.word(self.top)]);
    }

    /// The full sequence number of a packet that carries `low`: with ESN, the one nearest to the
    /// window (RFC 4303 A2.2); the integrity check tells whether it was right.
    #[must_use]
    #[inline]
    pub const fn infer(&self, low: u32) -> u64 {
        if !self.esn {
            return low as u64;
        }
        let top_low = self.top as u32;
        let top_high = (self.top >> 32) as u32;
        // The lower edge, modulo 2^32: above the top if the window spans two subspaces.
        let bottom = top_low.wrapping_sub(self.size - 1);
        let high = if top_low >= self.size - 1 {
            // Case A: the window is in one subspace. What is below it must be from the next.
            if low >= bottom {
                top_high
            } else {
                top_high.wrapping_add(1)
            }
        } else if low >= bottom && top_high > 0 {
            // Case B: the window spans two subspaces, and this is the upper end of the earlier.
            // In the first subspace there is no earlier one.
            top_high - 1
        } else {
            top_high
        };
        (high as u64) << 32 | low as u64
    }

    /// Whether `seq` could be new. Changes nothing.
    ///
    /// # Errors
    /// See [`ReplayError`].
    #[inline(always)]
    pub fn check(&self, seq: u64) -> Result<(), ReplayError> {
        if seq > self.top {
            if !self.esn && seq > u64::from(u32::MAX) {
                return Err(ReplayError::Overflow);
            }
            return Ok(());
        }
        self.check_old(seq)
    }

    /// As [`ReplayWindow::check`], of a number that is not above the top.
    #[inline(never)]
    fn check_old(&self, seq: u64) -> Result<(), ReplayError> {
        if self.top - seq >= u64::from(self.size) {
            return Err(if seq == 0 {
                ReplayError::Zero
            } else {
                ReplayError::TooOld
            });
        }
        if self.words[self.word(seq)] >> (seq & 63) & 1 != 0 {
            // A window that was resumed counts 0 as seen too, yet it was never a sequence number.
            return Err(if seq == 0 {
                ReplayError::Zero
            } else {
                ReplayError::Duplicate
            });
        }
        if seq == 0 {
            return Err(ReplayError::Zero);
        }
        Ok(())
    }

    /// Marks an authenticated packet as seen, and moves the window if it is the newest.
    ///
    /// # Errors
    /// As [`ReplayWindow::check`]: the packet must then be dropped. The window is unchanged.
    #[inline]
    pub fn commit(&mut self, packet: Authenticated) -> Result<(), ReplayError> {
        self.mark(packet.sequence())
    }

    #[inline]
    pub(crate) fn mark(&mut self, seq: u64) -> Result<(), ReplayError> {
        self.check(seq)?;
        if seq > self.top {
            self.advance(seq);
        }
        let word = self.word(seq);
        self.words[word] |= 1 << (seq & 63);
        Ok(())
    }

    /// Makes `seq` the top: clears the words between the old top's and its own.
    #[inline]
    fn advance(&mut self, seq: u64) {
        let old = self.top >> 6;
        let new = seq >> 6;
        if new != old {
            // A jump beyond the ring clears each word once.
            let count = (new - old).min(self.words.len() as u64);
            for block in new - count + 1..=new {
                let word = self.word(block << 6);
                self.words[word] = 0;
            }
        }
        self.top = seq;
    }

    #[inline]
    fn word(&self, seq: u64) -> usize {
        (seq >> 6) as usize & (self.words.len() - 1)
    }
}

impl std::fmt::Debug for ReplayWindow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplayWindow")
            .field("top", &self.top)
            .field("size", &self.size)
            .field("esn", &self.esn)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
