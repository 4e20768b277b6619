//! Proof of a shared key (RFC 7296, section 2.15).

use subtle::ConstantTimeEq as _;

use crate::secret::Secret;
use crate::transform::Prf;

const PAD: &[u8] = b"Key Pad for IKEv2";

/// The authentication data of method 2 (shared key): of `octets` as
/// [`IkeKeys::signed_octets`](crate::IkeKeys::signed_octets) gives them, under the key that both
/// sides have.
#[must_use]
pub fn sign(prf: Prf, key: &Secret, octets: &[u8]) -> Vec<u8> {
    let key = prf.mac(key.expose(), &[PAD]);
    prf.mac(key.expose(), &[octets]).expose().to_vec()
}

/// Whether the peer has the same key, in constant time.
#[must_use]
pub fn verify(prf: Prf, key: &Secret, octets: &[u8], auth: &[u8]) -> bool {
    sign(prf, key, octets).ct_eq(auth).into()
}
