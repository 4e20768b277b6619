//! Other crates.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aws_lc_rs::aead as aws;
use ring::aead as ring_aead;

use crate::contender::{Contender, HEAD, Packet, TAG, split};

/// `ring` and `aws-lc-rs` have the same interface.
macro_rules! ring_like {
    ($contender:ident, $module:ident, $name:literal) => {
        pub(crate) struct $contender {
            keys: Vec<($module::LessSafeKey, [u8; 4])>,
            next: u64,
        }

        impl $contender {
            pub(crate) fn new(keys: &[Vec<u8>]) -> Self {
                let key = |material: &Vec<u8>| {
                    let (key, salt) = split(material);
                    let algorithm = if key.len() == 16 {
                        &$module::AES_128_GCM
                    } else {
                        &$module::AES_256_GCM
                    };
                    let key = $module::UnboundKey::new(algorithm, key).expect("a good key");
                    ($module::LessSafeKey::new(key), salt)
                };
                Self {
                    keys: keys.iter().map(key).collect(),
                    next: 1,
                }
            }
        }

        impl Contender for $contender {
            fn name(&self) -> String {
                $name.to_owned()
            }

            fn seal(&mut self, batch: &mut [Packet<'_>]) {
                for packet in batch {
                    packet.number(self.next);
                    self.next += 1;
                    let (key, salt) = &self.keys[packet.key];
                    let nonce = $module::Nonce::assume_unique_for_key(packet.nonce(*salt));
                    let aad = $module::Aad::from(packet.aad());
                    let end = packet.bytes.len() - TAG;
                    let (data, tag) = packet.bytes[HEAD..].split_at_mut(end - HEAD);
                    let sealed = key.seal_in_place_separate_tag(nonce, aad, data);
                    tag.copy_from_slice(sealed.expect("a short packet").as_ref());
                }
            }

            fn open(&mut self, batch: &mut [Packet<'_>]) -> bool {
                let mut all = true;
                for packet in batch {
                    let (key, salt) = &self.keys[packet.key];
                    let nonce = $module::Nonce::assume_unique_for_key(packet.nonce(*salt));
                    let aad = $module::Aad::from(packet.aad());
                    all &= key
                        .open_in_place(nonce, aad, &mut packet.bytes[HEAD..])
                        .is_ok();
                }
                all
            }
        }
    };
}

ring_like!(Ring, ring_aead, "ring");
ring_like!(AwsLc, aws, "aws-lc-rs");

enum RustCryptoKey {
    Aes128(Box<aes_gcm::Aes128Gcm>),
    Aes256(Box<aes_gcm::Aes256Gcm>),
}

pub(crate) struct RustCrypto {
    keys: Vec<(RustCryptoKey, [u8; 4])>,
    next: u64,
}

impl RustCrypto {
    pub(crate) fn new(keys: &[Vec<u8>]) -> Self {
        let key = |material: &Vec<u8>| {
            let (key, salt) = split(material);
            let key = if key.len() == 16 {
                RustCryptoKey::Aes128(Box::new(KeyInit::new_from_slice(key).expect("16 bytes")))
            } else {
                RustCryptoKey::Aes256(Box::new(KeyInit::new_from_slice(key).expect("32 bytes")))
            };
            (key, salt)
        };
        Self {
            keys: keys.iter().map(key).collect(),
            next: 1,
        }
    }
}

impl Contender for RustCrypto {
    fn name(&self) -> String {
        "aes-gcm".to_owned()
    }

    fn seal(&mut self, batch: &mut [Packet<'_>]) {
        for packet in batch {
            packet.number(self.next);
            self.next += 1;
            let (key, salt) = &self.keys[packet.key];
            let (nonce, aad) = (packet.nonce(*salt).into(), packet.aad());
            let end = packet.bytes.len() - TAG;
            let (data, tag) = packet.bytes[HEAD..].split_at_mut(end - HEAD);
            let sealed = match key {
                RustCryptoKey::Aes128(key) => key.encrypt_inout_detached(&nonce, &aad, data.into()),
                RustCryptoKey::Aes256(key) => key.encrypt_inout_detached(&nonce, &aad, data.into()),
            };
            tag.copy_from_slice(&sealed.expect("a short packet"));
        }
    }

    fn open(&mut self, batch: &mut [Packet<'_>]) -> bool {
        let mut all = true;
        for packet in batch {
            let (key, salt) = &self.keys[packet.key];
            let (nonce, aad) = (packet.nonce(*salt).into(), packet.aad());
            let end = packet.bytes.len() - TAG;
            let (data, tag) = packet.bytes[HEAD..].split_at_mut(end - HEAD);
            let tag = (&*tag).try_into().expect("16 bytes");
            all &= match key {
                RustCryptoKey::Aes128(key) => key
                    .decrypt_inout_detached(&nonce, &aad, data.into(), tag)
                    .is_ok(),
                RustCryptoKey::Aes256(key) => key
                    .decrypt_inout_detached(&nonce, &aad, data.into(), tag)
                    .is_ok(),
            };
        }
        all
    }
}
