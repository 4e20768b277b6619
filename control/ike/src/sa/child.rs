//! A child SA: a pair of ESP SAs.

use std::time::Instant;

use hawser_aead::Suite;
use hawser_api::{Secret, Selectors, Spi};
use hawser_ike_crypto::Group;

pub(crate) struct ChildSa {
    /// Which of the connection's configured children.
    pub(crate) config: u16,
    /// The SPI that we chose: how the child is named here.
    pub(crate) inbound: Spi,
    /// The SPI that the peer chose.
    pub(crate) outbound: Spi,
    pub(crate) suite: Suite,
    pub(crate) group: Option<Group>,
    pub(crate) esn: bool,
    pub(crate) selectors: Selectors,
    /// Kept so that an earlier child can be sent with again when a later one goes.
    pub(crate) outbound_key: Secret,
    pub(crate) born: Instant,
    pub(crate) stage: ChildStage,
}

/// Where a child is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildStage {
    /// In use, or about to be.
    Live,
    /// Succeeded by another; whoever rekeyed deletes it.
    Replaced,
    /// We sent, or will send, a DELETE for it.
    Closing,
}
