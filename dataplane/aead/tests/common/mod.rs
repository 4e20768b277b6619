//! Shared by the tests: packets, an oracle, a generator of numbers.
#![allow(dead_code, reason = "each test binary uses its part")]

use aes_gcm::aead::{AeadInOut, KeyInit};
use hawser_aead::{OpenBatch, OpeningKey, Rung, SealBatch, SealingKey, Suite};

pub(crate) const SPI: [u8; 4] = 0xc0de_0001_u32.to_be_bytes();

/// Rungs this processor can run. Says which it cannot.
pub(crate) fn rungs() -> Vec<Rung> {
    Rung::ALL
        .into_iter()
        .filter(|rung| {
            if !rung.is_available() {
                println!("skipped: rung {rung}: this processor lacks its instructions");
            }
            rung.is_available()
        })
        .collect()
}

/// Whether the long sweeps are wanted.
pub(crate) fn nightly() -> bool {
    std::env::var_os("HAWSER_NIGHTLY").is_some_and(|v| v == "1")
}

/// xorshift64*: tests need speed and repeatability, not quality.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| (self.next() >> 32) as u8).collect()
    }
}

pub(crate) fn material(suite: Suite, seed: u8) -> Vec<u8> {
    Random::new(u64::from(seed) + 1).bytes(suite.key_len())
}

/// SPI, room for the header, plaintext, room for the ICV.
pub(crate) fn unsealed(suite: Suite, plaintext: &[u8]) -> Vec<u8> {
    let mut packet = SPI.to_vec();
    packet.resize(8 + suite.iv_len(), 0xee);
    packet.extend_from_slice(plaintext);
    packet.resize(packet.len() + suite.icv_len(), 0xee);
    packet
}

/// RFC 4106 as its text has it, on two libraries that must agree: `aes-gcm`, which the portable rung
/// uses too, and `aws-lc-rs`, which shares nothing with the library under test.
pub(crate) fn oracle_seal(material: &[u8], esn: bool, sequence: u64, packet: &mut [u8]) {
    let (key, salt) = material.split_at(material.len() - 4);
    packet[4..8].copy_from_slice(&(sequence as u32).to_be_bytes());
    packet[8..16].copy_from_slice(&sequence.to_be_bytes());
    let mut aad = packet[..4].to_vec();
    if esn {
        aad.extend_from_slice(&((sequence >> 32) as u32).to_be_bytes());
    }
    aad.extend_from_slice(&packet[4..8]);
    let nonce: [u8; 12] = [salt, &packet[8..16]].concat().try_into().unwrap();
    let end = packet.len() - 16;
    let (data, tag) = packet[16..].split_at_mut(end - 16);
    tag.copy_from_slice(&oracle(key, &nonce, &aad, data));
}

pub(crate) fn oracle(key: &[u8], nonce: &[u8; 12], aad: &[u8], data: &mut [u8]) -> [u8; 16] {
    let mut other = data.to_vec();
    let other_tag = aws_lc(key, nonce, aad, &mut other);
    let tag = aes_gcm(key, nonce, aad, data);
    assert!(tag == other_tag && *data == *other, "the oracles agree");
    tag
}

fn aws_lc(key: &[u8], nonce: &[u8; 12], aad: &[u8], data: &mut [u8]) -> [u8; 16] {
    use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    let algorithm = match key.len() {
        16 => &AES_128_GCM,
        _ => &AES_256_GCM,
    };
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key).unwrap());
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), data);
    tag.unwrap().as_ref().try_into().unwrap()
}

fn aes_gcm(key: &[u8], nonce: &[u8; 12], aad: &[u8], data: &mut [u8]) -> [u8; 16] {
    let nonce = (*nonce).into();
    if key.len() == 16 {
        let cipher = aes_gcm::Aes128Gcm::new_from_slice(key).unwrap();
        cipher
            .encrypt_inout_detached(&nonce, aad, data.into())
            .unwrap()
            .into()
    } else {
        let cipher = aes_gcm::Aes256Gcm::new_from_slice(key).unwrap();
        cipher
            .encrypt_inout_detached(&nonce, aad, data.into())
            .unwrap()
            .into()
    }
}

pub(crate) fn seal_one(key: &SealingKey, packet: &mut [u8]) -> u64 {
    let sequence = key.reserve(1).unwrap().next().unwrap();
    let value = sequence.value();
    let mut batch = SealBatch::new();
    batch.push(key, sequence, packet);
    batch.seal();
    value
}

pub(crate) fn open_one(key: &OpeningKey, sequence: u64, packet: &mut [u8]) -> Option<u64> {
    let mut batch = OpenBatch::new();
    batch.push(key, sequence, packet);
    batch.open().get(0).map(|proof| proof.sequence())
}
