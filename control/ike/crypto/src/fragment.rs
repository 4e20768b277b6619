//! Putting fragments together again (RFC 7383, section 2.6).
//!
//! Only authentic fragments come here, so that nobody but the peer can fill the buffer, and the
//! peer not beyond [`MAX_FRAGMENTS`] and the longest message.

use hawser_ike_wire::{FragmentNumber, MAX_MESSAGE_LEN, ParseError, PayloadType, Payloads};
use zeroize::Zeroizing;

/// How many fragments a message may have, either way.
///
/// Unit: fragments. The longest message in the smallest datagrams that every IPv4 host must take
/// (576 octets with their headers) has about 130. Too small refuses honest peers behind narrow
/// links; too large lets a peer make us keep many small buffers.
pub const MAX_FRAGMENTS: u16 = 255;

/// An opened fragment.
pub struct Fragment {
    number: FragmentNumber,
    first: PayloadType,
    content: Zeroizing<Vec<u8>>,
}

impl Fragment {
    pub(crate) const fn new(
        number: FragmentNumber,
        first: PayloadType,
        content: Zeroizing<Vec<u8>>,
    ) -> Self {
        Self {
            number,
            first,
            content,
        }
    }

    /// Which fragment it is.
    #[must_use]
    pub const fn number(&self) -> FragmentNumber {
        self.number
    }
}

/// Why fragments make no message. The peer is to blame: INVALID_SYNTAX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// More than [`MAX_FRAGMENTS`].
    #[error("a message of {0} fragments, where {MAX_FRAGMENTS} are accepted")]
    TooMany(u16),
    /// Together they are longer than a message can be.
    #[error("fragments of more than {MAX_MESSAGE_LEN} octets")]
    TooLong,
    /// Together they are no chain of payloads.
    #[error("inside the fragments: {0}")]
    Malformed(#[from] ParseError),
}

/// How far a message has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// The fragment is new, others are missing.
    Waiting,
    /// The fragment was there already, or belongs to a way of cutting the message that the peer
    /// has given up: it changes nothing.
    Ignored,
    /// The message is whole.
    Complete(Payloads),
}

/// The fragments of one message: of one message ID, in one direction.
#[derive(Default)]
pub struct Reassembly {
    first: Option<PayloadType>,
    /// By number; as many as the message has.
    parts: Vec<Option<Zeroizing<Vec<u8>>>>,
    octets: usize,
}

impl Reassembly {
    /// No fragments yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            first: None,
            parts: Vec::new(),
            octets: 0,
        }
    }

    /// Takes in a fragment. A larger total than before means that the peer cuts the message anew,
    /// into smaller pieces: what was there is forgotten, and a smaller total is an old fragment.
    ///
    /// After an error or a whole message the collection is empty again.
    ///
    /// # Errors
    /// Too many or too long fragments, or a whole that is no chain of payloads.
    pub fn add(&mut self, fragment: Fragment) -> Result<Progress, FragmentError> {
        let FragmentNumber { number, total } = fragment.number;
        if total > MAX_FRAGMENTS {
            *self = Self::new();
            return Err(FragmentError::TooMany(total));
        }
        let (index, total) = (usize::from(number.saturating_sub(1)), usize::from(total));
        if number == 0 || index >= total {
            return Ok(Progress::Ignored);
        }
        if total > self.parts.len() {
            *self = Self::new();
            self.parts.resize(total, None);
        }
        if total < self.parts.len() || self.parts[index].is_some() {
            return Ok(Progress::Ignored);
        }
        self.octets += fragment.content.len();
        if self.octets > MAX_MESSAGE_LEN {
            *self = Self::new();
            return Err(FragmentError::TooLong);
        }
        if number == 1 {
            self.first = Some(fragment.first);
        }
        self.parts[index] = Some(fragment.content);
        self.complete()
    }

    #[cfg(any(test, feature = "harness"))]
    pub(crate) const fn octets(&self) -> usize {
        self.octets
    }

    /// The message, if no fragment is missing.
    fn complete(&mut self) -> Result<Progress, FragmentError> {
        let Some(first) = self.first else {
            return Ok(Progress::Waiting);
        };
        if self.parts.iter().any(Option::is_none) {
            return Ok(Progress::Waiting);
        }
        let mut whole = Zeroizing::new(Vec::with_capacity(self.octets));
        for part in self.parts.iter().flatten() {
            whole.extend_from_slice(part);
        }
        *self = Self::new();
        Ok(Progress::Complete(Payloads::parse(first, &whole)?))
    }
}
