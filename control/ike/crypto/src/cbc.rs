//! AES in cipher block chaining mode (RFC 3602), over whole blocks.

use aes::cipher::{Block, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit as _};
use aes::{Aes128, Aes256};

/// Octets of a block.
pub(crate) const BLOCK: usize = 16;

/// A key schedule, wiped when dropped.
pub(crate) enum Key {
    Aes128(Box<Aes128>),
    Aes256(Box<Aes256>),
}

impl Key {
    /// `None` of a length that is neither 16 nor 32 octets.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        match key.len() {
            16 => Some(Self::Aes128(Box::new(Aes128::new_from_slice(key).ok()?))),
            32 => Some(Self::Aes256(Box::new(Aes256::new_from_slice(key).ok()?))),
            _ => None,
        }
    }

    /// Encrypts whole blocks in place; what is behind the last whole block stays as it is.
    pub(crate) fn encrypt(&self, iv: [u8; BLOCK], octets: &mut [u8]) {
        let mut before = iv;
        for chunk in octets.chunks_exact_mut(BLOCK) {
            let mut block = Block::<Aes128>::default();
            for ((out, plain), chain) in block.iter_mut().zip(&*chunk).zip(before) {
                *out = plain ^ chain;
            }
            match self {
                Self::Aes128(key) => key.encrypt_block(&mut block),
                Self::Aes256(key) => key.encrypt_block(&mut block),
            }
            chunk.copy_from_slice(&block);
            before = block.into();
        }
    }

    /// Decrypts whole blocks in place; what is behind the last whole block stays as it is.
    pub(crate) fn decrypt(&self, iv: [u8; BLOCK], octets: &mut [u8]) {
        let mut before = iv;
        for chunk in octets.chunks_exact_mut(BLOCK) {
            let mut block = Block::<Aes128>::default();
            block.copy_from_slice(chunk);
            let sealed: [u8; BLOCK] = block.into();
            match self {
                Self::Aes128(key) => key.decrypt_block(&mut block),
                Self::Aes256(key) => key.decrypt_block(&mut block),
            }
            for ((out, plain), chain) in chunk.iter_mut().zip(block).zip(before) {
                *out = plain ^ chain;
            }
            before = sealed;
        }
    }
}
