//! Elliptic curve groups, by aws-lc.
//!
//! The library checks that a point is on its curve (RFC 6989, section 2.3) and refuses an X25519
//! secret of zeros (RFC 8031, section 5).

use aws_lc_rs::agreement::{self, Algorithm, UnparsedPublicKey};
use zeroize::Zeroizing;

use super::Group;
use crate::random::Random;
use crate::secret::Secret;

pub(super) use aws_lc_rs::agreement::PrivateKey;

/// What the library writes before the coordinates of a point, and RFC 5903 leaves out.
const UNCOMPRESSED: u8 = 0x04;

struct Curve {
    algorithm: &'static Algorithm,
    /// Octets of a private key.
    private_len: usize,
    /// The bits of its first octet that may be set.
    first_octet: u8,
    /// Whether public values are points with two coordinates.
    point: bool,
}

const fn curve(group: Group) -> Curve {
    let (algorithm, private_len, first_octet, point) = match group {
        Group::Ecp256 => (&agreement::ECDH_P256, 32, 0xff, true),
        Group::Ecp384 => (&agreement::ECDH_P384, 48, 0xff, true),
        Group::Ecp521 => (&agreement::ECDH_P521, 66, 0x01, true),
        // The modular groups never come here.
        _ => (&agreement::X25519, 32, 0xff, false),
    };
    Curve {
        algorithm,
        private_len,
        first_octet,
        point,
    }
}

/// A private key and its public value as a KE payload carries it.
pub(super) fn generate(group: Group, random: &mut dyn Random) -> (PrivateKey, Vec<u8>) {
    let curve = curve(group);
    loop {
        let mut scalar = Zeroizing::new(vec![0; curve.private_len]);
        random.fill(&mut scalar);
        scalar[0] &= curve.first_octet;
        // A number that is zero or not below the curve's order is refused: draw again.
        if let Some(pair) = from_private(group, &scalar) {
            return pair;
        }
    }
}

pub(super) fn from_private(group: Group, scalar: &[u8]) -> Option<(PrivateKey, Vec<u8>)> {
    let curve = curve(group);
    let private = PrivateKey::from_private_key(curve.algorithm, scalar).ok()?;
    let public = private.compute_public_key().ok()?;
    let public = if curve.point {
        public.as_ref().strip_prefix(&[UNCOMPRESSED])?
    } else {
        public.as_ref()
    };
    let public = public.to_vec();
    Some((private, public))
}

/// The shared secret: of a point its first coordinate (RFC 5903, section 7).
pub(super) fn agree(group: Group, private: &PrivateKey, peer: &[u8]) -> Option<Secret> {
    let curve = curve(group);
    let mut public = Vec::with_capacity(peer.len() + 1);
    if curve.point {
        public.push(UNCOMPRESSED);
    }
    public.extend_from_slice(peer);
    let peer = UnparsedPublicKey::new(curve.algorithm, public);
    let secret = agreement::agree(private, peer, (), |secret| Ok(Secret::new(secret.to_vec())));
    let secret = secret.ok()?;
    let zero = secret.expose().iter().fold(0, |all, octet| all | octet) == 0;
    (!zero).then_some(secret)
}
