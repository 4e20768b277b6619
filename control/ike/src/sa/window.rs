//! The window of requests (RFC 7296, sections 2.1 to 2.3): one under way in each direction.
//!
//! No SET_WINDOW_SIZE is sent, so the peer has one request under way at most. A request with the
//! expected number is new; one with the number before it is a copy, and gets the same answer
//! again; all others are dropped.

use std::{
    hash::{BuildHasher, RandomState},
    time::Instant,
};

use hawser_ike_crypto::Reassembly;
use hawser_ike_wire::MessageId;

use super::pending::Pending;

/// A request of ours that is not answered.
pub(crate) struct Outstanding {
    pub(crate) id: MessageId,
    pub(crate) datagrams: Vec<Vec<u8>>,
    pub(crate) first_sent: Instant,
    pub(crate) copies: u32,
    pub(crate) pending: Pending,
}

pub(crate) struct Window {
    /// The number of our next request; none when they are used up.
    pub(crate) next: Option<MessageId>,
    pub(crate) outstanding: Option<Outstanding>,
    /// The number of the peer's next request; none when they are used up.
    pub(crate) expected: Option<MessageId>,
    answered: Option<Answered>,
    /// A request and a response that come in fragments.
    pub(crate) request_parts: Option<Parts>,
    pub(crate) response_parts: Option<Parts>,
    hasher: RandomState,
}

/// A message of which some fragments came (RFC 7383).
pub(crate) struct Parts {
    pub(crate) id: MessageId,
    pub(crate) reassembly: Reassembly,
    /// Of the first fragment's datagram: by it a copy of the request is known. Until that comes, of
    /// another's.
    pub(crate) digest: u64,
}

/// The peer's last request, and what we answered.
struct Answered {
    id: MessageId,
    /// Of the request's first datagram ([`Window::digest`]): a copy is identical (RFC 7296, section 2.1), so that
    /// nothing has to be decrypted to tell it from a forgery.
    digest: u64,
    datagrams: Vec<Vec<u8>>,
}

/// What a request's number says.
pub(crate) enum Arrival<'a> {
    New,
    /// Send these again.
    Copy(&'a [Vec<u8>]),
    Foreign,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self {
            next: Some(MessageId(0)),
            outstanding: None,
            expected: Some(MessageId(0)),
            answered: None,
            request_parts: None,
            response_parts: None,
            hasher: RandomState::new(),
        }
    }

    pub(crate) fn judge(&self, id: MessageId, datagram: &[u8]) -> Arrival<'_> {
        if Some(id) == self.expected {
            return Arrival::New;
        }
        match &self.answered {
            Some(a) if a.id == id && a.digest == self.digest(datagram) => {
                Arrival::Copy(&a.datagrams)
            }
            _ => Arrival::Foreign,
        }
    }

    /// Notes the answer to the expected request and expects the next.
    pub(crate) fn answer(&mut self, digest: u64, datagrams: Vec<Vec<u8>>) {
        let Some(id) = self.expected else {
            return;
        };
        self.answered = Some(Answered {
            id,
            digest,
            datagrams,
        });
        self.expected = id.next();
        self.request_parts = None;
    }

    pub(crate) fn digest(&self, datagram: &[u8]) -> u64 {
        self.hasher.hash_one(datagram)
    }

    pub(crate) fn is_free(&self) -> bool {
        self.outstanding.is_none()
    }

    pub(crate) fn pending(&self) -> Option<&Pending> {
        self.outstanding.as_ref().map(|o| &o.pending)
    }

    pub(crate) fn pending_mut(&mut self) -> Option<&mut Pending> {
        self.outstanding.as_mut().map(|o| &mut o.pending)
    }
}
