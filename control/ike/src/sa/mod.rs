//! An IKE SA: its SPIs, its path, its window of requests, its children.
//!
//! What only one phase needs is in that phase's type ([`Phase`]), which is consumed when the phase
//! ends: keys do not exist before they are derived, and a half-open SA has no children.

pub(crate) mod child;
pub(crate) mod pending;
pub(crate) mod window;

use std::{sync::Arc, time::Instant};

use hawser_ike_crypto::{IkeKeys, IkeSuite, KeyExchange, Opener, Role, Sealer};
use hawser_ike_wire::{Identity, IkeSpi, MessageId};

pub(crate) use child::ChildSa;

use self::{pending::Task, window::Window};
use crate::{config::ConnectionId, event::Path, nat::Nat};

/// The number of an IKE SA in this endpoint; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SaId(pub(crate) u64);

pub(crate) struct IkeSa {
    pub(crate) id: SaId,
    /// Whose; of a half-open SA that a peer began, the first candidate.
    pub(crate) connection: ConnectionId,
    /// Our part in this SA's making: the initiator's flag in all our messages.
    pub(crate) role: Role,
    /// We began its first ancestor: RFC 4555, section 1.3, calls that the initiator, whoever rekeyed
    /// since.
    pub(crate) began_first: bool,
    pub(crate) initiator_spi: IkeSpi,
    pub(crate) responder_spi: IkeSpi,
    pub(crate) path: Path,
    pub(crate) nat: Nat,
    /// The peer's capabilities.
    pub(crate) peer: Capabilities,
    /// Hash algorithms that the peer accepts in signatures (RFC 7427).
    pub(crate) peer_hashes: Vec<u16>,
    pub(crate) phase: Phase,
    pub(crate) window: Window,
    /// What we want to do when the window is free, in order.
    pub(crate) tasks: Vec<Task>,
    pub(crate) children: Vec<ChildSa>,
    /// When the first message of this SA (or of its first ancestor) was sent or came.
    pub(crate) begun: Instant,
    /// When it became usable.
    pub(crate) established: Option<Instant>,
    /// The last authentic sign of life.
    pub(crate) heard: Instant,
    /// The last datagram or ESP packet to the peer.
    pub(crate) spoke: Instant,
    /// The lower of the nonces that made it: of two SAs made at once, the one with the lowest of
    /// the four nonces goes.
    pub(crate) lowest_nonce: Vec<u8>,
    /// The peer's hints that it does not know us are followed up once in a while only.
    pub(crate) hinted: Option<Instant>,
    /// Made by the peer's rekeying of this SA while ours is under way: which of the two stays is
    /// not decided yet, and the children are still there.
    pub(crate) undecided: Option<SaId>,
    /// Its initiator, whichever side, says that this is its only SA with the other.
    pub(crate) initial_contact: bool,
    /// We answered IKE_AUTH, and the peer has not shown yet that it has the answer: it may not
    /// receive on this SA's child, and decides nothing for it.
    pub(crate) unproven: bool,
    /// The peer says that it has moved to `path`, and has not shown yet that it receives there:
    /// ESP still goes where it went (RFC 4555, section 3.7).
    pub(crate) unchecked: bool,
    /// Our address as the peer saw it last, as the hash of NAT detection: when it changes, a NAT in
    /// front of us has another mapping.
    pub(crate) seen_as: Option<Vec<u8>>,
}

/// What the peer said it can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) fragmentation: bool,
    pub(crate) mobike: bool,
    pub(crate) childless: bool,
}

/// Where an SA is in its life. A phase is taken out, consumed, and another put in its place.
pub(crate) enum Phase {
    /// Ours: IKE_SA_INIT is sent.
    InitSent(Box<InitSent>),
    /// The peer's: IKE_SA_INIT is answered.
    AwaitAuth(Box<AwaitAuth>),
    /// Ours: IKE_AUTH is sent.
    AuthSent(Box<AuthSent>),
    /// In use.
    Established(Box<Established>),
    /// Succeeded by another SA that has the children now; a DELETE is to come.
    Replaced(Box<Established>),
    /// We sent, or will send, a DELETE.
    Closing(Box<Established>),
    /// Refused or deleted: only copies of the peer's last request are answered, for a while.
    Gone(Box<Protection>),
    /// Not to be put back into the table.
    Dead,
}

impl Phase {
    /// Takes the phase out, leaving a dead one.
    pub(crate) fn take(&mut self) -> Phase {
        std::mem::replace(self, Phase::Dead)
    }
}

/// What the initiator remembers of IKE_SA_INIT.
pub(crate) struct InitSent {
    pub(crate) key_exchange: KeyExchange,
    pub(crate) nonce: Vec<u8>,
    pub(crate) cookie: Option<Vec<u8>>,
    /// Cookies and groups that the peer asked for so far.
    pub(crate) detours: u8,
    /// The datagram as last sent: AUTH is computed over it.
    pub(crate) request: Vec<u8>,
}

/// What the responder remembers of IKE_SA_INIT.
pub(crate) struct AwaitAuth {
    pub(crate) keys: Protection,
    /// Connections that may be meant, best first.
    pub(crate) candidates: Arc<[ConnectionId]>,
    pub(crate) initiator_nonce: Vec<u8>,
    pub(crate) responder_nonce: Vec<u8>,
    /// The initiator's datagram.
    pub(crate) request: Vec<u8>,
    /// Ours.
    pub(crate) response: Vec<u8>,
}

/// What the initiator remembers until IKE_AUTH is answered.
pub(crate) struct AuthSent {
    pub(crate) keys: Protection,
    pub(crate) initiator_nonce: Vec<u8>,
    pub(crate) responder_nonce: Vec<u8>,
    /// Our datagram.
    pub(crate) init_request: Vec<u8>,
    /// The responder's.
    pub(crate) init_response: Vec<u8>,
    /// The SPI that the child will have; none when no child is made.
    pub(crate) child_spi: Option<hawser_api::Spi>,
}

/// What an SA in use has.
pub(crate) struct Established {
    pub(crate) keys: Protection,
    pub(crate) peer_identity: Identity,
}

/// Keys of an IKE SA.
pub(crate) struct Protection {
    pub(crate) keys: IkeKeys,
    pub(crate) sealer: Sealer,
    pub(crate) opener: Opener,
    pub(crate) suite: IkeSuite,
}

impl Protection {
    /// `role`: ours.
    pub(crate) fn new(keys: IkeKeys, suite: IkeSuite, role: Role) -> Self {
        Self {
            sealer: keys.sealer(role),
            opener: keys.opener(role.other()),
            keys,
            suite,
        }
    }
}

impl IkeSa {
    /// The SPI by which datagrams find this SA.
    pub(crate) fn our_spi(&self) -> IkeSpi {
        match self.role {
            Role::Initiator => self.initiator_spi,
            Role::Responder => self.responder_spi,
        }
    }

    pub(crate) fn is_initiator(&self) -> bool {
        self.role == Role::Initiator
    }

    /// Keys, once there are any.
    pub(crate) fn protection(&mut self) -> Option<&mut Protection> {
        match &mut self.phase {
            Phase::InitSent(_) | Phase::Dead => None,
            Phase::AwaitAuth(p) => Some(&mut p.keys),
            Phase::AuthSent(p) => Some(&mut p.keys),
            Phase::Gone(keys) => Some(keys),
            Phase::Established(e) | Phase::Replaced(e) | Phase::Closing(e) => Some(&mut e.keys),
        }
    }

    pub(crate) fn opener(&self) -> Option<&Opener> {
        match &self.phase {
            Phase::InitSent(_) | Phase::Dead => None,
            Phase::AwaitAuth(p) => Some(&p.keys.opener),
            Phase::AuthSent(p) => Some(&p.keys.opener),
            Phase::Gone(keys) => Some(&keys.opener),
            Phase::Established(e) | Phase::Replaced(e) | Phase::Closing(e) => Some(&e.keys.opener),
        }
    }

    pub(crate) fn in_use(&self) -> Option<&Established> {
        match &self.phase {
            Phase::Established(e) | Phase::Replaced(e) | Phase::Closing(e) => Some(e),
            _ => None,
        }
    }

    pub(crate) fn is_established(&self) -> bool {
        matches!(self.phase, Phase::Established(_))
    }

    pub(crate) fn is_half_open(&self) -> bool {
        matches!(self.phase, Phase::AwaitAuth(_))
    }

    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.phase, Phase::Dead)
    }

    pub(crate) fn child(&self, inbound: hawser_api::Spi) -> Option<&ChildSa> {
        self.children.iter().find(|c| c.inbound == inbound)
    }

    pub(crate) fn child_mut(&mut self, inbound: hawser_api::Spi) -> Option<&mut ChildSa> {
        self.children.iter_mut().find(|c| c.inbound == inbound)
    }

    /// By the SPI that the peer chose, which is how the peer names it.
    pub(crate) fn child_of_peer(&self, outbound: hawser_api::Spi) -> Option<&ChildSa> {
        self.children.iter().find(|c| c.outbound == outbound)
    }

    /// Puts a task in line unless it is there.
    pub(crate) fn want(&mut self, task: Task) {
        if !self.tasks.contains(&task) {
            self.tasks.push(task);
        }
    }

    /// The header of our next request or of our response to request `id`.
    pub(crate) fn header(
        &self,
        exchange: hawser_ike_wire::ExchangeType,
        response: bool,
        id: MessageId,
    ) -> hawser_ike_wire::Header {
        hawser_ike_wire::Header {
            initiator_spi: self.initiator_spi,
            responder_spi: self.responder_spi,
            exchange,
            initiator: self.is_initiator(),
            response,
            higher_version: false,
            message_id: id,
        }
    }
}
