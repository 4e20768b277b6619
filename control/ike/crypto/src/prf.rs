//! HMAC, the pseudorandom functions over it, and prf+ (RFC 7296, section 2.13).

use hmac::digest::block_api::EagerHash;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::secret::Secret;
use crate::transform::{Integ, Prf};

/// A hash function, as HMAC uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha1,
    Sha2_256,
    Sha2_384,
    Sha2_512,
}

impl Hash {
    /// Octets of its output, which is also the length of the keys that IKEv2 makes for it.
    pub(crate) const fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha2_256 => 32,
            Self::Sha2_384 => 48,
            Self::Sha2_512 => 64,
        }
    }
}

/// HMAC over the concatenation of `parts`.
pub(crate) fn hmac(hash: Hash, key: &[u8], parts: &[&[u8]]) -> Secret {
    match hash {
        Hash::Sha1 => hmac_with::<Sha1>(key, parts),
        Hash::Sha2_256 => hmac_with::<Sha256>(key, parts),
        Hash::Sha2_384 => hmac_with::<Sha384>(key, parts),
        Hash::Sha2_512 => hmac_with::<Sha512>(key, parts),
    }
}

fn hmac_with<H>(key: &[u8], parts: &[&[u8]]) -> Secret
where
    H: EagerHash,
    Hmac<H>: hmac::Mac + hmac::KeyInit,
{
    let mut mac = Hmac::<H>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    let mut octets = mac.finalize().into_bytes();
    let secret = Secret::new(octets.to_vec());
    octets.as_mut_slice().zeroize();
    secret
}

impl Prf {
    /// `prf(key, parts)`, the parts concatenated.
    #[must_use]
    pub fn mac(self, key: &[u8], parts: &[&[u8]]) -> Secret {
        hmac(self.hash(), key, parts)
    }

    /// The first `len` octets of `prf+(key, seed)`, the seed's parts concatenated.
    ///
    /// # Panics
    /// Beyond 255 blocks, where prf+ is not defined. All lengths in IKEv2 follow from algorithms,
    /// and the longest is far below.
    #[must_use]
    pub fn plus(self, key: &[u8], seed: &[&[u8]], len: usize) -> Secret {
        let block = self.hash().len();
        assert!(len <= 255 * block, "prf+ has 255 blocks at most");
        let mut out = Zeroizing::new(Vec::with_capacity(len.next_multiple_of(block)));
        let mut last = Secret::new(Vec::new());
        for number in 1..=255u8 {
            if out.len() >= len {
                break;
            }
            let number = [number];
            let mut parts = vec![last.expose()];
            parts.extend_from_slice(seed);
            parts.push(&number);
            last = self.mac(key, &parts);
            out.extend_from_slice(last.expose());
        }
        // What is cut off stays in the buffer's spare room, which is wiped with it.
        out.truncate(len);
        out.into()
    }
}

impl Integ {
    /// The integrity check value over the concatenation of `parts`.
    pub(crate) fn icv(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        let mac = hmac(self.hash(), key, parts);
        mac.expose()[..self.icv_len()].to_vec()
    }

    /// Whether `icv` is the integrity check value of `octets`, in constant time.
    pub(crate) fn verify(self, key: &[u8], octets: &[u8], icv: &[u8]) -> bool {
        self.icv(key, &[octets]).ct_eq(icv).into()
    }
}
