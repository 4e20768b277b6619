//! Every suite, with and without ESN: what one side seals the other opens, and nothing else.

mod common;

use common::*;
use hawser_aead::{OpenBatch, OpeningKey, SealBatch, SealingKey, Suite};

fn plaintext(suite: Suite, blocks: usize) -> Vec<u8> {
    (0..blocks * suite.block_len())
        .map(|i| (i * 7 + blocks) as u8)
        .collect()
}

#[test]
fn what_is_sealed_opens_to_the_same() {
    for suite in Suite::ALL {
        for esn in [false, true] {
            let first = if esn { 0x1_0000_0005 } else { 5 };
            let sealing =
                SealingKey::new(suite, &material(suite, 1), esn, first, u64::MAX).unwrap();
            let opening = OpeningKey::new(suite, &material(suite, 1), esn).unwrap();
            let texts: Vec<_> = (0..64).map(|i| plaintext(suite, i)).collect();
            let mut packets: Vec<_> = texts.iter().map(|text| unsealed(suite, text)).collect();

            let mut batch = SealBatch::new();
            for (packet, sequence) in packets.iter_mut().zip(sealing.reserve(64).unwrap()) {
                batch.push(&sealing, sequence, packet);
            }
            assert!(batch.is_full());
            batch.seal();
            drop(batch);
            for (i, packet) in packets.iter().enumerate() {
                assert_eq!(packet[..4], SPI);
                assert_eq!(packet[4..8], (5 + i as u32).to_be_bytes());
            }

            let mut batch = OpenBatch::new();
            for (i, packet) in packets.iter_mut().enumerate() {
                batch.push(&opening, first + i as u64, packet);
            }
            let verdicts = batch.open();
            drop(batch);
            for (i, (packet, text)) in packets.iter().zip(&texts).enumerate() {
                let proof = verdicts
                    .get(i)
                    .unwrap_or_else(|| panic!("{suite} esn {esn} packet {i}"));
                assert_eq!(proof.sequence(), first + i as u64);
                let from = 8 + suite.iv_len();
                assert_eq!(
                    &packet[from..from + text.len()],
                    text,
                    "{suite} esn {esn} packet {i}"
                );
            }
            assert!(verdicts.get(64).is_none());
        }
    }
}

#[test]
fn any_flipped_bit_and_any_other_sequence_number_is_refused_and_wiped() {
    for suite in Suite::ALL {
        for esn in [false, true] {
            let first = if esn { 0x7_0000_0005 } else { 5 };
            let sealing =
                SealingKey::new(suite, &material(suite, 2), esn, first, u64::MAX).unwrap();
            let opening = OpeningKey::new(suite, &material(suite, 2), esn).unwrap();
            let mut sealed = unsealed(suite, &plaintext(suite, 3));
            let sequence = seal_one(&sealing, &mut sealed);
            let payload = 8 + suite.iv_len()..sealed.len() - suite.icv_len();

            for bit in 0..sealed.len() * 8 {
                let mut packet = sealed.clone();
                packet[bit / 8] ^= 1 << (bit % 8);
                // A flipped bit in the sequence number comes with the number it then says.
                let said = u32::from_be_bytes(packet[4..8].try_into().unwrap());
                let claimed = sequence & !0xffff_ffff | u64::from(said);
                assert!(
                    open_one(&opening, claimed, &mut packet).is_none(),
                    "{suite} bit {bit}"
                );
                assert!(
                    packet[payload.clone()].iter().all(|&b| b == 0),
                    "{suite} bit {bit}"
                );
            }
            // The packet as it was sent, with a number it does not bear.
            let mut packet = sealed.clone();
            assert!(open_one(&opening, sequence + 1, &mut packet).is_none());
            if esn {
                let mut packet = sealed.clone();
                assert!(open_one(&opening, sequence + (1 << 32), &mut packet).is_none());
            }
            let other = OpeningKey::new(suite, &material(suite, 3), esn).unwrap();
            assert!(open_one(&other, sequence, &mut sealed.clone()).is_none());
            assert_eq!(open_one(&opening, sequence, &mut sealed), Some(sequence));
        }
    }
}

#[test]
fn packets_of_impossible_length_are_forgeries_and_spoil_nothing() {
    for suite in Suite::ALL {
        let sealing = SealingKey::new(suite, &material(suite, 4), false, 1, u64::MAX).unwrap();
        let opening = OpeningKey::new(suite, &material(suite, 4), false).unwrap();
        let mut good = unsealed(suite, &plaintext(suite, 4));
        let sequence = seal_one(&sealing, &mut good);
        for len in 0..suite.overhead() {
            let (mut short, mut good) = (vec![0xaa; len], good.clone());
            let mut batch = OpenBatch::new();
            batch.push(&opening, 9, &mut short);
            batch.push(&opening, sequence, &mut good);
            let verdicts = batch.open();
            drop(batch);
            assert!(verdicts.get(0).is_none());
            assert!(verdicts.get(1).is_some());
        }
        if !suite.is_gcm() {
            good.push(0);
            assert!(open_one(&opening, sequence, &mut good).is_none());
        }
    }
}

#[test]
fn cbc_ivs_do_not_repeat_and_differ_between_keys_of_one_material() {
    let suite = Suite::Aes128CbcSha256_128;
    let mut ivs = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let key = SealingKey::new(suite, &material(suite, 5), false, 1, 100).unwrap();
        for _ in 0..100 {
            let mut packet = unsealed(suite, &plaintext(suite, 1));
            seal_one(&key, &mut packet);
            ivs.insert(packet[8..24].to_vec());
        }
    }
    assert_eq!(ivs.len(), 200);
}

#[test]
fn key_errors_name_the_mistake() {
    let short = SealingKey::new(Suite::Aes256Gcm16, &[0; 32], false, 1, 9)
        .err()
        .unwrap();
    assert!(short.to_string().contains("36 bytes"), "{short}");
    let zero = SealingKey::new(Suite::Aes128Gcm16, &[0; 20], false, 0, 9)
        .err()
        .unwrap();
    assert!(zero.to_string().contains("out of range"), "{zero}");
}

#[test]
#[should_panic(expected = "no room")]
fn a_packet_without_room_for_the_icv_is_the_callers_mistake() {
    let key = SealingKey::new(Suite::Aes128Gcm16, &[0; 20], false, 1, 9).unwrap();
    seal_one(&key, &mut [0; 31]);
}
