//! Encrypted payloads: closing and opening them (RFC 7296, section 3.14; RFC 5282; RFC 7383).
//!
//! An opened payload was authenticated before a single octet of it was decrypted or parsed.
//! Nonces of AES-GCM count the messages of a direction; initialization vectors of AES-CBC are
//! random.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use hawser_ike_wire::{
    EmitError, FragmentNumber, Header, MAX_MESSAGE_LEN, Message, ParseError, PayloadType, Payloads,
    Protected, emit_protected_prefix,
};
use zeroize::Zeroizing;

use crate::cbc;
use crate::fragment::{Fragment, MAX_FRAGMENTS};
use crate::random::Random;
use crate::secret::Secret;
use crate::transform::{Cipher, Integ};

/// Octets before the body of an SKF payload in a message without others: header, generic header,
/// fragment number and total.
const FRAGMENT_PREFIX: usize = 28 + 4 + 4;

/// Why an Encrypted payload could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The message has no Encrypted payload, or the other kind of it. To be ignored.
    #[error("the message has no encrypted payload of this kind")]
    NotProtected,
    /// It was not made with the peer's keys, or was changed on its way. To be ignored: it may be
    /// anybody's.
    #[error("the integrity check failed")]
    Integrity,
    /// The peer made it, but its padding is longer than the payload. INVALID_SYNTAX.
    #[error("padding is longer than the encrypted payload")]
    Padding,
    /// The peer made it, but what is inside is no chain of payloads. INVALID_SYNTAX.
    #[error("inside the encrypted payload: {0}")]
    Malformed(#[from] ParseError),
}

impl OpenError {
    /// Whether the peer itself made the message: only then may it be answered.
    #[must_use]
    pub const fn is_authentic(self) -> bool {
        matches!(self, Self::Padding | Self::Malformed(_))
    }
}

/// Why a message could not be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The message does not fit its own fields.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The datagrams are too small to carry anything, or so many would be needed that the peer
    /// will not collect them.
    #[error("the message does not fit into {MAX_FRAGMENTS} datagrams of {0} octets")]
    Datagram(usize),
    /// The direction has used up its nonces. An IKE SA is rekeyed long before.
    #[error("no nonces are left")]
    Exhausted,
}

/// The keys of one direction.
pub(crate) struct DirectionKey {
    cipher: Cipher,
    encryption: Secret,
    integrity: Secret,
    prepared: Prepared,
}

enum Prepared {
    Gcm {
        key: Box<LessSafeKey>,
        salt: [u8; 4],
    },
    Cbc {
        key: cbc::Key,
        integ: Integ,
    },
}

impl DirectionKey {
    /// From SK_e (with its salt) and SK_a, of the lengths that the cipher says.
    pub(crate) fn new(cipher: Cipher, encryption: Secret, integrity: Secret) -> Self {
        let (key, salt) = encryption.expose().split_at(cipher.encr().key_len());
        let prepared = match (cipher.integ(), salt.first_chunk()) {
            (None, Some(salt)) => {
                let algorithm = if key.len() == 16 {
                    &AES_128_GCM
                } else {
                    &AES_256_GCM
                };
                let key = UnboundKey::new(algorithm, key).expect("a key of the cipher's length");
                Prepared::Gcm {
                    key: Box::new(LessSafeKey::new(key)),
                    salt: *salt,
                }
            }
            (integ, _) => Prepared::Cbc {
                key: cbc::Key::new(key).expect("a key of the cipher's length"),
                integ: integ.expect("a cipher without salt has an integrity algorithm"),
            },
        };
        Self {
            cipher,
            encryption,
            integrity,
            prepared,
        }
    }

    pub(crate) const fn encryption(&self) -> &Secret {
        &self.encryption
    }

    pub(crate) const fn integrity(&self) -> &Secret {
        &self.integrity
    }

    /// Octets of the body for a plaintext of `len` octets.
    fn body_len(&self, len: usize) -> usize {
        let encrypted = (len + 1).next_multiple_of(self.cipher.block_len());
        self.cipher.encr().iv_len() + encrypted + self.cipher.icv_len()
    }

    /// The longest plaintext whose body has at most `len` octets.
    fn plaintext_len(&self, len: usize) -> Option<usize> {
        let overhead = self.cipher.encr().iv_len() + self.cipher.icv_len();
        let encrypted = len.checked_sub(overhead)?;
        let block = self.cipher.block_len();
        (encrypted / block * block).checked_sub(1)
    }

    /// Appends the body to `out`, which holds everything before it.
    fn seal(
        &self,
        count: u64,
        plaintext: &[u8],
        random: &mut dyn Random,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let len = (plaintext.len() + 1).next_multiple_of(self.cipher.block_len());
        let padding = len - plaintext.len() - 1;
        let mut padded = Zeroizing::new(Vec::with_capacity(len));
        padded.extend_from_slice(plaintext);
        padded.resize(plaintext.len() + padding, 0);
        // A block has 16 octets at most.
        padded.push(padding as u8);
        match &self.prepared {
            Prepared::Gcm { key, salt } => {
                let iv = count.to_be_bytes();
                let nonce = gcm_nonce(*salt, iv);
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::from(&*out), &mut padded)
                    .map_err(|_| SealError::Exhausted)?;
                out.extend_from_slice(&iv);
                out.extend_from_slice(&padded);
                out.extend_from_slice(tag.as_ref());
            }
            Prepared::Cbc { key, integ } => {
                let mut iv = [0; cbc::BLOCK];
                random.fill(&mut iv);
                key.encrypt(iv, &mut padded);
                out.extend_from_slice(&iv);
                out.extend_from_slice(&padded);
                let icv = integ.icv(self.integrity.expose(), &[out]);
                out.extend_from_slice(&icv);
            }
        }
        Ok(())
    }

    /// The plaintext of a datagram whose body begins at `offset`.
    fn open(&self, datagram: &[u8], offset: usize) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (before, body) = datagram
            .split_at_checked(offset)
            .ok_or(OpenError::Integrity)?;
        let encrypted = body
            .len()
            .checked_sub(self.cipher.icv_len())
            .ok_or(OpenError::Integrity)?;
        let (sealed, icv) = body.split_at(encrypted);
        let mut plaintext = match &self.prepared {
            Prepared::Gcm { key, salt } => {
                let (iv, sealed) = sealed.split_first_chunk().ok_or(OpenError::Integrity)?;
                let mut plaintext = Zeroizing::new(sealed.to_vec());
                let nonce = gcm_nonce(*salt, *iv);
                key.open_in_place_separate_tag(nonce, Aad::from(before), icv, &mut plaintext)
                    .map_err(|_| OpenError::Integrity)?;
                plaintext
            }
            Prepared::Cbc { key, integ } => {
                let authenticated = &datagram[..offset + encrypted];
                if !integ.verify(self.integrity.expose(), authenticated, icv) {
                    return Err(OpenError::Integrity);
                }
                let (iv, sealed) = sealed.split_first_chunk().ok_or(OpenError::Padding)?;
                if !sealed.len().is_multiple_of(cbc::BLOCK) {
                    return Err(OpenError::Padding);
                }
                let mut plaintext = Zeroizing::new(sealed.to_vec());
                key.decrypt(*iv, &mut plaintext);
                plaintext
            }
        };
        let padding = plaintext.pop().ok_or(OpenError::Padding)?;
        let len = plaintext
            .len()
            .checked_sub(usize::from(padding))
            .ok_or(OpenError::Padding)?;
        plaintext.truncate(len);
        Ok(plaintext)
    }
}

/// Salt and explicit part (RFC 5282, section 4).
fn gcm_nonce(salt: [u8; 4], iv: [u8; 8]) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&salt);
    nonce[4..].copy_from_slice(&iv);
    Nonce::assume_unique_for_key(nonce)
}

/// Seals the messages of one direction.
pub struct Sealer {
    key: Arc<DirectionKey>,
    sealed: Arc<AtomicU64>,
}

impl Sealer {
    pub(crate) const fn new(key: Arc<DirectionKey>, sealed: Arc<AtomicU64>) -> Self {
        Self { key, sealed }
    }

    /// The datagram of a message whose payloads are all encrypted. To send a message again, send
    /// the same datagram.
    ///
    /// # Errors
    /// Payloads that do not fit their fields.
    pub fn seal(
        &mut self,
        header: &Header,
        payloads: &Payloads,
        random: &mut dyn Random,
    ) -> Result<Vec<u8>, SealError> {
        let (first, plaintext) = payloads.emit()?;
        self.seal_one(header, first, None, &Zeroizing::new(plaintext), random)
    }

    /// The datagrams of a message, none longer than `max_datagram` octets (of IKE, without UDP and
    /// the four octets of port 4500): one with an SK payload where that suffices, else fragments
    /// in order (RFC 7383, section 2.5).
    ///
    /// # Errors
    /// Payloads that do not fit their fields, or datagrams that are too small.
    pub fn seal_fragments(
        &mut self,
        header: &Header,
        payloads: &Payloads,
        max_datagram: usize,
        random: &mut dyn Random,
    ) -> Result<Vec<Vec<u8>>, SealError> {
        let (first, plaintext) = payloads.emit()?;
        let plaintext = Zeroizing::new(plaintext);
        let whole = FRAGMENT_PREFIX - 4 + self.key.body_len(plaintext.len());
        if whole <= max_datagram {
            return Ok(vec![
                self.seal_one(header, first, None, &plaintext, random)?,
            ]);
        }
        let piece = max_datagram
            .checked_sub(FRAGMENT_PREFIX)
            .and_then(|len| self.key.plaintext_len(len))
            .filter(|len| *len > 0)
            .ok_or(SealError::Datagram(max_datagram))?;
        let total = plaintext.len().div_ceil(piece);
        let total = u16::try_from(total)
            .ok()
            .filter(|total| *total <= MAX_FRAGMENTS)
            .ok_or(SealError::Datagram(max_datagram))?;
        let mut datagrams = Vec::with_capacity(total.into());
        for (number, piece) in (1..).zip(plaintext.chunks(piece)) {
            let first = if number == 1 {
                first
            } else {
                PayloadType::NoNext
            };
            let fragment = Some(FragmentNumber { number, total });
            datagrams.push(self.seal_one(header, first, fragment, piece, random)?);
        }
        Ok(datagrams)
    }

    /// The datagram of a message with any octets inside.
    #[cfg(any(test, feature = "harness"))]
    pub(crate) fn seal_octets(
        &mut self,
        header: &Header,
        first: PayloadType,
        octets: &[u8],
        random: &mut dyn Random,
    ) -> Result<Vec<u8>, SealError> {
        self.seal_one(header, first, None, octets, random)
    }

    fn seal_one(
        &mut self,
        header: &Header,
        first: PayloadType,
        fragment: Option<FragmentNumber>,
        plaintext: &[u8],
        random: &mut dyn Random,
    ) -> Result<Vec<u8>, SealError> {
        let body_len = self.key.body_len(plaintext.len());
        let mut datagram =
            emit_protected_prefix(header, &Payloads::new(), first, fragment, body_len)?;
        // Far from where the counter would wrap, so that many calls at once cannot reach it.
        let count = self.sealed.fetch_add(1, Ordering::Relaxed);
        if count >= u64::MAX / 2 {
            return Err(SealError::Exhausted);
        }
        self.key.seal(count, plaintext, random, &mut datagram)?;
        debug_assert!(datagram.len() <= MAX_MESSAGE_LEN);
        Ok(datagram)
    }
}

/// Opens the messages of one direction.
pub struct Opener {
    key: Arc<DirectionKey>,
}

impl Opener {
    pub(crate) const fn new(key: Arc<DirectionKey>) -> Self {
        Self { key }
    }

    /// The payloads inside the SK payload of a message; `datagram` is what it was parsed from.
    ///
    /// # Errors
    /// Where there is no SK payload, where it is not authentic, or where what is inside is
    /// malformed: see [`OpenError::is_authentic`].
    pub fn open(&self, datagram: &[u8], message: &Message) -> Result<Payloads, OpenError> {
        match &message.protected {
            Some(Protected {
                first,
                fragment: None,
                offset,
                ..
            }) => {
                let plaintext = self.key.open(datagram, *offset)?;
                Ok(Payloads::parse(*first, &plaintext)?)
            }
            _ => Err(OpenError::NotProtected),
        }
    }

    /// The content of the SKF payload of a message, for a
    /// [`Reassembly`](crate::Reassembly); `datagram` is what it was parsed from.
    ///
    /// # Errors
    /// Where there is no SKF payload, or where it is not authentic.
    pub fn open_fragment(&self, datagram: &[u8], message: &Message) -> Result<Fragment, OpenError> {
        match &message.protected {
            Some(Protected {
                first,
                fragment: Some(number),
                offset,
                ..
            }) => {
                let content = self.key.open(datagram, *offset)?;
                Ok(Fragment::new(*number, *first, content))
            }
            _ => Err(OpenError::NotProtected),
        }
    }
}

#[cfg(test)]
mod tests;
