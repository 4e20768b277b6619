//! Every rung of AES-GCM against `aes-gcm` and `aws-lc-rs`, driven as RFC 4106 says.

mod common;

use common::*;
use hawser_aead::{
    BATCH, OpenBatch, OpeningKey, Rung, SealBatch, SealingKey, Suite, Tables, force_tables,
};

const GCM: [Suite; 2] = [Suite::Aes128Gcm16, Suite::Aes256Gcm16];

/// Bytes around each packet that nobody may touch.
const FENCE: usize = 80;

/// A packet at any alignment, with fences, and what it must become.
struct Case {
    key: usize,
    sequence: u64,
    plain: Vec<u8>,
    sealed: Vec<u8>,
    memory: Vec<u8>,
    at: usize,
}

impl Case {
    fn packet(&mut self) -> &mut [u8] {
        &mut self.memory[self.at..self.at + self.plain.len()]
    }

    fn now(&self) -> &[u8] {
        &self.memory[self.at..self.at + self.plain.len()]
    }

    fn fences_hold(&self) -> bool {
        let end = self.at + self.plain.len();
        self.memory[..self.at]
            .iter()
            .chain(&self.memory[end..])
            .all(|&b| b == 0x5a)
    }
}

struct Keys {
    esn: bool,
    materials: Vec<Vec<u8>>,
    sealing: Vec<SealingKey>,
    opening: Vec<OpeningKey>,
}

impl Keys {
    fn new(rung: Rung, suite: Suite, esn: bool, count: usize, random: &mut Random) -> Self {
        let materials: Vec<_> = (0..count).map(|_| random.bytes(suite.key_len())).collect();
        let first = if esn {
            random.next() >> 8 | 1
        } else {
            random.next() >> 36 | 1
        };
        let sealing =
            |m: &Vec<u8>| SealingKey::on_rung(rung, suite, m, esn, first, u64::MAX).unwrap();
        let opening = |m: &Vec<u8>| OpeningKey::on_rung(rung, suite, m, esn).unwrap();
        Self {
            esn,
            sealing: materials.iter().map(sealing).collect(),
            opening: materials.iter().map(opening).collect(),
            materials,
        }
    }
}

/// Seals and opens one batch with the given plaintext lengths, keys and alignments; some
/// packets are tampered with before opening.
fn check(keys: &Keys, lengths: &[usize], alignment: usize, random: &mut Random, what: &str) {
    let suite = keys.sealing[0].suite();
    let mut cases = Vec::new();
    let mut sequences = Vec::new();
    for (i, &len) in lengths.iter().enumerate() {
        let key = random.below(keys.sealing.len());
        let sequence = keys.sealing[key].reserve(1).unwrap().next().unwrap();
        let mut plain = unsealed(suite, &random.bytes(len));
        plain[..4].copy_from_slice(&random.bytes(4));
        let mut sealed = plain.clone();
        oracle_seal(
            &keys.materials[key],
            keys.esn,
            sequence.value(),
            &mut sealed,
        );
        let mut memory = vec![0x5a; FENCE + 64 + plain.len() + FENCE];
        let skew = (memory.as_ptr() as usize + FENCE) % 64;
        let at = FENCE + (64 + (alignment + 7 * i) % 64 - skew) % 64;
        memory[at..at + plain.len()].copy_from_slice(&plain);
        cases.push(Case {
            key,
            sequence: sequence.value(),
            plain,
            sealed,
            memory,
            at,
        });
        sequences.push(sequence);
    }

    let mut batch = SealBatch::new();
    for (case, sequence) in cases.iter_mut().zip(sequences) {
        let key = &keys.sealing[case.key];
        batch.push(key, sequence, case.packet());
    }
    batch.seal();
    drop(batch);
    for (i, case) in cases.iter().enumerate() {
        assert!(
            case.now() == case.sealed,
            "{what}: sealed packet {i} of {lengths:?}"
        );
        assert!(
            case.fences_hold(),
            "{what}: sealing wrote around packet {i} of {lengths:?}"
        );
    }

    // Every third packet or so is forged: a bit of header, IV, data or tag.
    let forged: Vec<Option<usize>> = cases
        .iter()
        .map(|c| (random.below(3) == 0).then(|| random.below(c.plain.len() * 8)))
        .collect();
    for (case, bit) in cases.iter_mut().zip(&forged) {
        if let Some(bit) = bit {
            case.packet()[bit / 8] ^= 1 << (bit % 8);
        }
    }
    let mut batch = OpenBatch::new();
    for case in &mut cases {
        let key = &keys.opening[case.key];
        let sequence = case.sequence;
        batch.push(key, sequence, case.packet());
    }
    let verdicts = batch.open();
    drop(batch);
    for (i, (case, forged)) in cases.iter().zip(&forged).enumerate() {
        let end = case.plain.len() - 16;
        // The number in the header is covered only through the one we pass: RFC 4303 has the
        // receiver infer the full number from it, which our caller does.
        let unnoticed = forged.is_none_or(|bit| (32..64).contains(&bit));
        let context = || format!("{what}: opened packet {i} of {lengths:?}, forged {forged:?}");
        let verdict = verdicts.get(i).map(|proof| proof.sequence());
        assert!(
            verdict == unnoticed.then_some(case.sequence),
            "{}",
            context()
        );
        if unnoticed {
            assert!(case.now()[16..end] == case.plain[16..end], "{}", context());
        } else {
            assert!(case.now()[16..end].iter().all(|&b| b == 0), "{}", context());
        }
        assert!(case.fences_hold(), "{}: wrote around it", context());
    }
}

fn each_rung(mut body: impl FnMut(Rung, Suite, bool, &mut Random)) {
    for rung in rungs() {
        for suite in GCM {
            for esn in [false, true] {
                // Cargo's own runner has tests of one process side by side, so which tables a
                // batch gets is then left to chance; cargo-nextest gives each its process.
                for tables in Tables::ALL {
                    force_tables(Some(tables));
                    body(rung, suite, esn, &mut Random::new(7));
                }
            }
        }
    }
}

#[test]
fn every_length_to_2048() {
    each_rung(|rung, suite, esn, random| {
        let keys = Keys::new(rung, suite, esn, 1, random);
        for len in 0..=2048 {
            // Alone, and among others of its length, which other code paths serve.
            let count = [1, 2, 3, 4, 5, 9][len % 6];
            check(
                &keys,
                &vec![len; count],
                len,
                random,
                &format!("{rung} {suite} esn {esn}"),
            );
        }
    });
}

#[test]
fn long_packets() {
    each_rung(|rung, suite, esn, random| {
        let keys = Keys::new(rung, suite, esn, 1, random);
        for _ in 0..if nightly() { 400 } else { 30 } {
            let len = 2048 + random.below(9216 - 2048 + 1);
            check(
                &keys,
                &[len],
                len,
                random,
                &format!("{rung} {suite} esn {esn}"),
            );
        }
        for len in [9216, 16 * 1024 - 33, 16 * 1024 - 32] {
            check(
                &keys,
                &[len],
                len,
                random,
                &format!("{rung} {suite} esn {esn}"),
            );
        }
    });
}

#[test]
fn every_alignment() {
    each_rung(|rung, suite, esn, random| {
        let keys = Keys::new(rung, suite, esn, 1, random);
        for alignment in 0..64 {
            let lengths: Vec<_> = (0..9).map(|_| random.below(400)).collect();
            check(
                &keys,
                &lengths,
                alignment,
                random,
                &format!("{rung} {suite} esn {esn}"),
            );
        }
    });
}

#[test]
fn every_batch_size_with_keys_mixed() {
    each_rung(|rung, suite, esn, random| {
        for count in 1..=BATCH {
            let keys = Keys::new(rung, suite, esn, 1 + count % 8, random);
            for round in 0..if nightly() { 20 } else { 2 } {
                let most = [40, 140, 300, 1500][(count + round) % 4];
                let lengths: Vec<_> = (0..count).map(|_| random.below(most)).collect();
                check(
                    &keys,
                    &lengths,
                    round,
                    random,
                    &format!("{rung} {suite} esn {esn}"),
                );
            }
        }
    });
}

#[test]
fn imix_and_equal_sizes_of_one_key() {
    each_rung(|rung, suite, esn, random| {
        let keys = Keys::new(rung, suite, esn, 1, random);
        for round in 0..if nightly() { 200 } else { 10 } {
            let imix: Vec<_> = (0..BATCH)
                .map(|_| [64, 64, 64, 576, 1424, 68, 33][random.below(7)])
                .collect();
            check(
                &keys,
                &imix,
                round,
                random,
                &format!("{rung} {suite} esn {esn}"),
            );
            let equal = vec![1 + random.below(160); 1 + random.below(BATCH)];
            check(
                &keys,
                &equal,
                round,
                random,
                &format!("{rung} {suite} esn {esn}"),
            );
        }
    });
}
