//! The cryptography of IKEv2 (RFC 7296, sections 2.10 to 2.18 and 3.14): what is between messages as
//! types and the state machine.
//!
//! | Step | Here |
//! |---|---|
//! | algorithms and their names | [`Encr`], [`Integ`], [`Prf`], [`Group`], [`Cipher`], [`IkeSuite`] |
//! | Diffie-Hellman | [`KeyExchange`] |
//! | keys of an IKE SA, of its successor, of its children | [`IkeKeys`] |
//! | Encrypted payloads and fragments (RFC 5282, RFC 7383) | [`Sealer`], [`Opener`], [`Reassembly`] |
//! | proof of a shared key | [`psk`] |
//! | our certificate, signing | [`LocalCertificate`] |
//! | the peer's certificate, verifying | [`TrustAnchors`], [`PeerCertificate`] |
//! | identities and distinguished names | [`name`] |
//!
//! No sockets, clocks or files; randomness comes in as a [`Random`]. Secrets are wiped when they
//! are dropped, and have no `Debug` that shows them.
//!
//! Primitives: AES-GCM, ECDH and X25519 of aws-lc; HMAC and AES of RustCrypto; modular
//! exponentiation of crypto-bigint. AES-CBC is chained here, because aws-lc's binding pads in
//! another way than ESP and IKE do.

#![forbid(unsafe_code)]

mod cbc;
mod certificate;
mod der;
mod dh;
mod fragment;
#[cfg(any(test, feature = "harness"))]
pub mod harness;
mod keys;
mod local;
pub mod name;
mod prf;
mod protect;
pub mod psk;
mod random;
mod secret;
mod signature;
mod transform;
mod trust;
#[cfg(test)]
mod vectors;

pub use dh::{Group, KeyExchange, KeyExchangeError};
pub use fragment::{Fragment, FragmentError, MAX_FRAGMENTS, Progress, Reassembly};
pub use keys::{ChildKeys, IkeKeys, Nonces, Role};
pub use local::{LocalCertificate, SignError};
pub use protect::{OpenError, Opener, SealError, Sealer};
pub use random::{Random, SystemRandom};
pub use secret::Secret;
pub use signature::{SIGNATURE_HASHES, Scheme, SignatureError, SignaturePolicy};
pub use transform::{Cipher, CipherError, Encr, IkeSuite, Integ, NameError, Prf};
pub use trust::{
    CertificateError, LoadError, MAX_CERTIFICATES, PeerCertificate, TrustAnchors, TrustPolicy,
};
