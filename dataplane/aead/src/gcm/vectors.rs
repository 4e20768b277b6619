//! Published vectors on every rung: NIST CAVP, the ESP packets of draft-mcgrew-gcm-test-01, and
//! Wycheproof. Each vector stands alone and in runs of several, as other code serves those.

use super::{GcmKey, HEADER, IV, TAG};
use crate::packet::Packet;
use crate::rung::Rung;
use crate::test_hex::bytes;

/// Packets side by side: alone, teams of two and four, and more than those.
const RUNS: [usize; 6] = [1, 2, 3, 4, 5, 9];

struct Vector {
    name: String,
    key: Vec<u8>,
    nonce: Vec<u8>,
    plain: Vec<u8>,
    aad: Vec<u8>,
    sealed: Vec<u8>,
    tag: Vec<u8>,
    valid: bool,
}

impl Vector {
    fn parse_file(name: &str, text: &str) -> Vec<Self> {
        let lines = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.starts_with('#'));
        lines
            .map(|(number, line)| {
                let fields: Vec<_> = line.split(' ').map(bytes).collect();
                let [key, nonce, plain, aad, sealed, tag] = fields.try_into().expect("six fields");
                let name = format!("{name}:{}", number + 1);
                Self {
                    name,
                    key,
                    nonce,
                    plain,
                    aad,
                    sealed,
                    tag,
                    valid: true,
                }
            })
            .collect()
    }

    /// Header, IV, `data`, tag.
    fn packet(&self, data: &[u8]) -> Vec<u8> {
        [&[0; HEADER], &self.nonce[4..], data, &self.tag].concat()
    }

    fn check(&self, rung: Rung) {
        let key = GcmKey::new(rung, &self.key, &self.nonce[..4], false);
        let sequence = u64::from_be_bytes(self.nonce[4..].try_into().unwrap());
        let mut aad = [0; 16];
        aad[..self.aad.len()].copy_from_slice(&self.aad);
        let data = HEADER + IV..HEADER + IV + self.plain.len();
        for count in RUNS {
            let context = format!("{} on {rung}, {count} side by side", self.name);
            if self.valid {
                let mut memory = vec![self.packet(&self.plain); count];
                memory
                    .iter_mut()
                    .for_each(|packet| packet[data.end..].fill(0));
                match key.vector() {
                    #[cfg(target_arch = "x86_64")]
                    Some(key) => {
                        let mut jobs = super::Jobs::default();
                        for packet in &mut memory {
                            jobs.push_to_seal(key, sequence, packet);
                            jobs.set_aad(aad, self.aad.len());
                        }
                        jobs.seal();
                    }
                    _ => {
                        for packet in &mut memory {
                            let mut packet = Packet::new(packet, sequence);
                            packet.other_aad = Some((aad, self.aad.len()));
                            key.seal_portably(&mut packet);
                        }
                    }
                }
                for packet in &memory {
                    assert_eq!(packet[data.clone()], self.sealed, "{context}");
                    assert_eq!(packet[data.end..], self.tag, "{context}");
                }
            }
            let mut memory = vec![self.packet(&self.sealed); count];
            let mut verdicts = 0;
            match key.vector() {
                #[cfg(target_arch = "x86_64")]
                Some(key) => {
                    let mut jobs = super::Jobs::default();
                    for packet in &mut memory {
                        jobs.push_to_open(key, sequence, packet);
                        jobs.set_aad(aad, self.aad.len());
                    }
                    verdicts = jobs.open();
                }
                _ => {
                    for (i, packet) in memory.iter_mut().enumerate() {
                        let mut packet = Packet::new(packet, sequence);
                        packet.other_aad = Some((aad, self.aad.len()));
                        verdicts |= u64::from(key.open_portably(&mut packet)) << i;
                    }
                }
            }
            assert_eq!(
                verdicts,
                if self.valid { (1 << count) - 1 } else { 0 },
                "{context}"
            );
            let expected = if self.valid {
                self.plain.clone()
            } else {
                vec![0; self.plain.len()]
            };
            for packet in &memory {
                assert_eq!(packet[data.clone()], expected, "{context}");
                assert_eq!(packet[data.end..], self.tag, "{context}: the tag stays");
            }
        }
    }
}

/// Checks all vectors on all rungs this processor has; at least `at_least` there must be.
fn check_all(vectors: &[Vector], at_least: usize) {
    assert!(vectors.len() >= at_least, "only {} vectors", vectors.len());
    assert!(
        vectors
            .iter()
            .all(|v| v.tag.len() == TAG && v.nonce.len() == 12)
    );
    for rung in Rung::ALL {
        if !rung.is_available() {
            println!("skipped: rung {rung}: this processor lacks its instructions");
            continue;
        }
        vectors.iter().for_each(|vector| vector.check(rung));
        println!("{} vectors on rung {rung}", vectors.len());
    }
}

#[test]
fn nist_cavp() {
    let text = include_str!("data/nist_cavp_gcm.txt");
    check_all(&Vector::parse_file("nist_cavp_gcm.txt", text), 300);
}

#[test]
fn draft_mcgrew_esp_packets() {
    let text = include_str!("data/draft_mcgrew_gcm_test_01.txt");
    check_all(
        &Vector::parse_file("draft_mcgrew_gcm_test_01.txt", text),
        13,
    );
}

#[test]
fn wycheproof() {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesGcm).unwrap();
    let (mut vectors, mut left_out) = (Vec::new(), 0);
    for group in &set.test_groups {
        for test in &group.tests {
            // ESP has 96-bit nonces, 128-bit tags, no AES-192, and never more than 12 bytes
            // of AAD, of which the kernels take one block.
            let fits = group.nonce_size == 96
                && group.tag_size == 128
                && group.key_size != 192
                && test.aad.len() <= 16
                && test.ct.len() == test.pt.len();
            if !fits {
                left_out += 1;
                continue;
            }
            vectors.push(Vector {
                name: format!("Wycheproof aes_gcm {}", test.tc_id),
                key: test.key.to_vec(),
                nonce: test.nonce.to_vec(),
                plain: test.pt.to_vec(),
                aad: test.aad.to_vec(),
                sealed: test.ct.to_vec(),
                tag: test.tag.to_vec(),
                valid: test.result == wycheproof::TestResult::Valid,
            });
        }
    }
    println!(
        "{} vectors, {left_out} of forms that ESP does not have",
        vectors.len()
    );
    assert!(vectors.iter().any(|v| !v.valid));
    check_all(&vectors, 100);
}
