//! ESP ciphers over batches of packets.
//!
//! A packet is a mutable slice that starts at the SPI and ends with the integrity check value:
//!
//! ```text
//! SPI (4) | sequence number (4) | IV | payload | padding | pad length (1) | next header (1) | ICV
//!         |<----------- AAD: SPI and sequence number, 8 bytes, or 12 with ESN ----------->|
//! ```
//!
//! The unit of work is a *batch*: up to [`BATCH`] packets, each with its own security
//! association, encrypted or decrypted in place by one call. The gain over packet-by-packet
//! calls is in AES-GCM with short packets, where several packets of one key are finished
//! together; so packets of one key should stand next to each other in a batch.
//!
//! Three rules are kept by types:
//! * A [`Sequence`] can be used once: it is neither `Copy` nor `Clone`, only
//!   [`SealingKey::reserve`] makes one, and sealing consumes it. With AES-GCM it is the nonce.
//! * An [`Authenticated`] exists only for a packet whose tag was right, so whatever may happen
//!   only after authentication (moving a replay window) takes one as its argument.
//! * Keys have no `Debug`, and their memory is wiped on drop.
//!
//! # What it is not
//! No padding, no replay window, no choice of the high sequence bits: those belong to the
//! caller. No algorithm negotiation and no key derivation.
//!
//! # Sources
//! RFC 4303 (ESP, section 2.2.1 for extended sequence numbers), RFC 4106 (AES-GCM in ESP),
//! RFC 3602 (AES-CBC), RFC 2404 (HMAC-SHA1-96), RFC 4868 (HMAC-SHA2), NIST SP 800-38A and
//! SP 800-38D.

mod batch;
mod cbc;
mod gcm;
mod key;
mod packet;
mod prefetch;
mod rung;
mod sequence;
mod suite;
mod tables;
#[cfg(test)]
mod test_hex;

pub use batch::{Authenticated, BATCH, MAX_PACKET, OpenBatch, SealBatch, Verdicts};
pub use key::{KeyError, OpeningKey, SealingKey};
pub use prefetch::{prefetch, prefetch_all};
pub use rung::{Rung, rung};
pub use sequence::{Sequence, SequenceBlock};
pub use suite::{ParseSuiteError, Shape, Suite};
pub use tables::{Tables, force_tables};
