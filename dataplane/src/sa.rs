//! Security associations as the workers see them.
//!
//! What is fixed for the life of an SA is here and shared by all workers; what changes with every
//! packet is not: the sequence counter is inside the [`SealingKey`] (one atomic add a batch), the
//! replay window belongs to the owning worker.

use std::net::IpAddr;

use hawser_aead::{KeyError, OpeningKey, SealingKey, Suite};
use hawser_api::{self as api, Spi, TunnelId};
use hawser_net::{
    mtu::EspLengths,
    parse::Family,
    selector::{Ports, SelectorSet, TrafficSelector},
};

use crate::checkpoint::SaKey;

/// The last sequence number that may be used (RFC 4303, section 3.3.3): without ESN the counter
/// must not cycle, with ESN 2^63 packets outlast everything.
#[must_use]
pub fn hard_limit(esn: bool) -> u64 {
    if esn { 1 << 63 } else { u64::from(u32::MAX) }
}

/// An SA for sending, shared by all workers.
pub struct OutboundSa {
    /// The tunnel.
    pub tunnel: TunnelId,
    /// The peer's SPI.
    pub spi: Spi,
    /// Cipher, keys and the sequence counter.
    pub key: SealingKey,
    /// Extended sequence numbers.
    pub esn: bool,
    /// What may be sent.
    pub selectors: SelectorSet,
    /// Where its sequence numbers are kept.
    pub checkpoint: SaKey,
}

impl OutboundSa {
    /// Makes the SA; its first sequence number is `first`, and none above the limit set later may
    /// be used.
    ///
    /// # Errors
    /// When the key material does not fit the suite.
    pub fn new(config: &api::OutboundSa, first: u64) -> Result<Self, KeyError> {
        Ok(Self {
            tunnel: config.tunnel,
            spi: config.spi,
            // The lease comes from the checkpoint: nothing may be sent before it is written.
            key: SealingKey::new(
                config.suite,
                config.key.expose(),
                config.esn,
                first,
                first - 1,
            )?,
            esn: config.esn,
            selectors: selectors(&config.selectors),
            checkpoint: SaKey::outbound(config),
        })
    }

    /// Whether `config` describes this very SA, so that it can go on as it is.
    #[must_use]
    pub fn is(&self, config: &api::OutboundSa) -> bool {
        self.tunnel == config.tunnel
            && self.key.suite() == config.suite
            && self.esn == config.esn
            && self.checkpoint == SaKey::outbound(config)
            && self.selectors == selectors(&config.selectors)
    }
}

/// An SA for receiving.
pub struct InboundSa {
    /// Dense index; a new SA may reuse the slot of one long gone.
    pub slot: u32,
    /// Tells SAs of one slot apart.
    pub generation: u64,
    /// The tunnel.
    pub tunnel: TunnelId,
    /// Our SPI.
    pub spi: Spi,
    /// Cipher and keys.
    pub key: OpeningKey,
    /// The cipher's lengths.
    pub esp: EspLengths,
    /// Extended sequence numbers.
    pub esn: bool,
    /// Replay window in packets.
    pub replay_window: u32,
    /// What may arrive.
    pub selectors: SelectorSet,
    /// Everything up to here was seen in an earlier life of the data plane.
    pub seen: u64,
    /// Where its highest sequence number is kept.
    pub checkpoint: SaKey,
}

impl InboundSa {
    /// Makes the SA.
    ///
    /// # Errors
    /// When the key material does not fit the suite.
    pub fn new(config: &api::InboundSa, seen: u64) -> Result<Self, KeyError> {
        Ok(Self {
            slot: 0,
            generation: 0,
            tunnel: config.tunnel,
            spi: config.spi,
            key: OpeningKey::new(config.suite, config.key.expose(), config.esn)?,
            esp: esp_lengths(config.suite),
            esn: config.esn,
            replay_window: config.replay_window,
            selectors: selectors(&config.selectors),
            seen,
            checkpoint: SaKey::inbound(config),
        })
    }

    /// Whether `config` describes this very SA, so that it can go on as it is.
    #[must_use]
    pub fn is(&self, config: &api::InboundSa) -> bool {
        self.tunnel == config.tunnel
            && self.suite() == config.suite
            && self.esn == config.esn
            && self.replay_window == config.replay_window
            && self.checkpoint == SaKey::inbound(config)
            && self.selectors == selectors(&config.selectors)
    }

    /// Cipher and integrity.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.key.suite()
    }
}

/// A suite's lengths as the MTU arithmetic and the packet path want them.
pub(crate) fn esp_lengths(suite: Suite) -> EspLengths {
    EspLengths {
        iv: suite.iv_len(),
        icv: suite.icv_len(),
        block: suite.block_len(),
    }
}

/// An empty side means everything.
fn selectors(config: &api::Selectors) -> SelectorSet {
    let any = SelectorSet::any();
    let side = |side: &[api::TrafficSelector], any: &[TrafficSelector]| match side {
        [] => any.to_vec(),
        side => side.iter().filter_map(selector).collect(),
    };
    SelectorSet::new(
        &side(&config.local, any.local()),
        &side(&config.remote, any.remote()),
    )
}

/// `None` for one that the validation refuses.
pub(crate) fn selector(config: &api::TrafficSelector) -> Option<TrafficSelector> {
    let (family, first, last) = match config.addresses {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            (Family::V4, first.to_bits().into(), last.to_bits().into())
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => (Family::V6, first.to_bits(), last.to_bits()),
        _ => return None,
    };
    let protocol = Some(config.protocol).filter(|&p| p != 0);
    let ports = Ports::from_ike(config.ports.0, config.ports.1)?;
    (first <= last).then_some(TrafficSelector {
        family,
        first,
        last,
        protocol,
        ports,
    })
}
