//! The portable rung: the `aes-gcm` crate, packet by packet. Also the oracle of the tests.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use zeroize::Zeroize;

use super::{HEADER, IV, Packet, TAG};

pub(crate) struct Key {
    cipher: Cipher,
    salt: [u8; 4],
    esn: bool,
}

enum Cipher {
    Aes128(Aes128Gcm),
    Aes256(Aes256Gcm),
}

impl Key {
    pub(crate) fn new(key: &[u8], salt: &[u8], esn: bool) -> Self {
        let cipher = match <[u8; 16]>::try_from(key) {
            Ok(mut key128) => {
                let cipher = Cipher::Aes128(Aes128Gcm::new(&key128.into()));
                key128.zeroize();
                cipher
            }
            Err(_) => Cipher::Aes256(Aes256Gcm::new_from_slice(key).expect("16 or 32 bytes")),
        };
        Self {
            cipher,
            salt: salt.try_into().expect("4 bytes"),
            esn,
        }
    }

    pub(crate) fn seal(&self, packet: &mut Packet<'_>) {
        packet.write_sequence();
        let iv = packet.sequence.to_be_bytes();
        let aad = packet.aad(self.esn);
        let (_, rest) = packet.bytes.split_at_mut(HEADER);
        let (iv_field, rest) = rest.split_at_mut(IV);
        let (data, tag) = rest.split_at_mut(rest.len() - TAG);
        iv_field.copy_from_slice(&iv);
        let nonce = self.nonce(iv);
        let sealed = match &self.cipher {
            Cipher::Aes128(c) => c.encrypt_inout_detached(&nonce.into(), &aad, data.into()),
            Cipher::Aes256(c) => c.encrypt_inout_detached(&nonce.into(), &aad, data.into()),
        };
        // The only error is a plaintext of 64 GiB.
        tag.copy_from_slice(&sealed.expect("a packet is short"));
    }

    /// Whether the packet is authentic; else its payload is wiped.
    pub(crate) fn open(&self, packet: &mut Packet<'_>) -> bool {
        let aad = packet.aad(self.esn);
        let (_, rest) = packet.bytes.split_at_mut(HEADER);
        let (iv, rest) = rest.split_at_mut(IV);
        let (data, tag) = rest.split_at_mut(rest.len() - TAG);
        let nonce = self.nonce(iv.try_into().expect("8 bytes")).into();
        let tag = (&*tag).try_into().expect("16 bytes");
        let opened = match &self.cipher {
            Cipher::Aes128(c) => c.decrypt_inout_detached(&nonce, &aad, (&mut *data).into(), tag),
            Cipher::Aes256(c) => c.decrypt_inout_detached(&nonce, &aad, (&mut *data).into(), tag),
        };
        if opened.is_err() {
            data.fill(0);
        }
        opened.is_ok()
    }

    fn nonce(&self, iv: [u8; IV]) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.salt);
        nonce[4..].copy_from_slice(&iv);
        nonce
    }
}
