//! What we want to do on an IKE SA, and what we remember while the peer has not answered.

use hawser_api::Spi;
use hawser_ike_crypto::{Group, KeyExchange};
use hawser_ike_wire::IkeSpi;

use super::SaId;
use crate::{event::Path, fault::During};

/// Something to do when the window is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    CloseIke,
    /// By the SPI that we chose, as all children here.
    CloseChild(Spi),
    RekeyChild(Spi),
    RekeyIke,
    /// Makes the configured child with this number.
    MakeChild(u16),
    Liveness,
    /// Has the peer show that it has our answer to IKE_AUTH.
    Prove,
    /// Tells the peer our new address (MOBIKE).
    MoveAddress,
    /// Has the peer show that it receives at its new address (MOBIKE).
    CheckAddress,
}

impl Task {
    /// Lower first: what ends an SA before what extends it, a child's rekeying before the IKE SA's
    /// so that the children's time does not run out behind it.
    pub(crate) fn rank(self) -> u8 {
        match self {
            Task::CloseIke => 0,
            Task::Prove => 1,
            Task::MoveAddress | Task::CheckAddress => 2,
            Task::CloseChild(_) => 3,
            Task::RekeyChild(_) => 4,
            Task::RekeyIke => 5,
            Task::MakeChild(_) => 6,
            Task::Liveness => 7,
        }
    }
}

/// The request that is under way.
pub(crate) enum Pending {
    Init,
    Auth,
    Child(Box<PendingChild>),
    Rekey(Box<PendingRekey>),
    CloseChild(Spi),
    CloseIke,
    Liveness,
    Prove,
    MoveAddress,
    CheckAddress(Box<AddressCheck>),
}

impl Pending {
    pub(crate) fn during(&self) -> During {
        match self {
            Pending::Init => During::Init,
            Pending::Auth => During::Auth,
            Pending::Child(p) if p.replaces.is_some() => During::ChildRekey,
            Pending::Child(_) => During::Child,
            Pending::Rekey(_) => During::IkeRekey,
            Pending::CloseChild(_)
            | Pending::CloseIke
            | Pending::Liveness
            | Pending::Prove
            | Pending::MoveAddress
            | Pending::CheckAddress(_) => During::Informational,
        }
    }
}

/// Our COOKIE2 (RFC 4555, section 3.7).
pub(crate) struct AddressCheck {
    pub(crate) cookie: Vec<u8>,
    /// Where the peer was when it was sent first.
    pub(crate) path: Path,
}

/// Our CREATE_CHILD_SA for a child.
pub(crate) struct PendingChild {
    /// Which of the configured children.
    pub(crate) child: u16,
    /// The child it will succeed.
    pub(crate) replaces: Option<Spi>,
    /// The SPI that we chose.
    pub(crate) spi: Spi,
    pub(crate) nonce: Vec<u8>,
    /// None without forward secrecy.
    pub(crate) key_exchange: Option<KeyExchange>,
    /// Groups tried, so that a peer cannot send us in circles.
    pub(crate) tried: Vec<Group>,
    /// The peer rekeyed the same child meanwhile.
    pub(crate) collision: Option<ChildCollision>,
    /// Children that the peer deleted meanwhile and that we do not know: the one that we ask for
    /// may be among them, if its deletion overtook the answer.
    pub(crate) deleted: Vec<Spi>,
}

/// The peer's rekeying of the child that we are rekeying.
pub(crate) struct ChildCollision {
    /// The lower of its exchange's nonces.
    pub(crate) lowest_nonce: Vec<u8>,
    /// The child that it made.
    pub(crate) made: Spi,
}

/// Our CREATE_CHILD_SA for the IKE SA.
pub(crate) struct PendingRekey {
    /// The SPI that we chose for the new SA.
    pub(crate) spi: IkeSpi,
    pub(crate) nonce: Vec<u8>,
    pub(crate) key_exchange: KeyExchange,
    pub(crate) tried: Vec<Group>,
    /// The SA that the peer's rekeying made meanwhile, and the lower of that exchange's nonces.
    pub(crate) collision: Option<RekeyCollision>,
}

/// The peer's rekeying of the IKE SA that we are rekeying.
pub(crate) struct RekeyCollision {
    pub(crate) lowest_nonce: Vec<u8>,
    pub(crate) made: SaId,
}
