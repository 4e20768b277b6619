//! The replay window together with the cipher that feeds it: only what was authenticated moves it.

use hawser_aead::{OpenBatch, OpeningKey, SealBatch, SealingKey, Suite};
use hawser_net::replay::{ReplayError, ReplayWindow};

const SUITE: Suite = Suite::Aes128Gcm16;

fn packets(first: u64, count: u32) -> Vec<Vec<u8>> {
    let material = vec![7; SUITE.key_len()];
    let key = SealingKey::new(SUITE, &material, true, first, u64::MAX).expect("a valid key");
    let mut packets = vec![vec![0u8; 8 + SUITE.iv_len() + 16 + SUITE.icv_len()]; count as usize];
    let mut batch = SealBatch::new();
    for (packet, sequence) in packets
        .iter_mut()
        .zip(key.reserve(count).expect("far from the end"))
    {
        packet[3] = 9;
        batch.push(&key, sequence, packet);
    }
    batch.seal();
    drop(batch);
    packets
}

/// Opens `packets` as one batch and commits what is authentic.
fn receive(
    window: &mut ReplayWindow,
    packets: &mut [Vec<u8>],
) -> Vec<Option<Result<(), ReplayError>>> {
    let key = OpeningKey::new(SUITE, &vec![7; SUITE.key_len()], true).expect("a valid key");
    let mut batch = OpenBatch::new();
    for packet in packets.iter_mut() {
        let low = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        batch.push(&key, window.infer(low), packet);
    }
    let verdicts = batch.open();
    drop(batch);
    (0..packets.len())
        .map(|i| verdicts.get(i).map(|proof| window.commit(proof)))
        .collect()
}

#[test]
fn forged_packets_do_not_move_the_window() {
    let mut window = ReplayWindow::new(64, true).expect("valid");
    let mut good = packets(1, 3);
    assert_eq!(receive(&mut window, &mut good.clone()), [Some(Ok(())); 3]);
    assert_eq!(window.top(), 3);

    // Far ahead, but damaged: in the payload, in the sequence number.
    let mut forged = packets(1_000_000, 2);
    forged[0][20] ^= 1;
    forged[1][7] ^= 1;
    assert_eq!(receive(&mut window, &mut forged), [None, None]);
    assert_eq!(window.top(), 3);

    // The old ones are still duplicates, the next is still new.
    assert_eq!(
        receive(&mut window, &mut good),
        [Some(Err(ReplayError::Duplicate)); 3]
    );
    assert_eq!(receive(&mut window, &mut packets(4, 1)), [Some(Ok(()))]);
}

#[test]
fn twice_in_one_batch() {
    let mut window = ReplayWindow::new(64, true).expect("valid");
    let mut batch = packets(1, 2);
    batch.push(batch[0].clone());
    let duplicate = Some(Err(ReplayError::Duplicate));
    assert_eq!(
        receive(&mut window, &mut batch),
        [Some(Ok(())), Some(Ok(())), duplicate]
    );
}

#[test]
fn the_high_half_is_inferred_across_the_wrap() {
    let mut window = ReplayWindow::new(1024, true).expect("valid");
    let wrap = 1u64 << 32;
    let mut batch = packets(wrap - 20, 40);
    // Late ones from before the wrap, after those behind it.
    batch.rotate_left(10);
    let first = packets(wrap - 30, 1);
    assert_eq!(receive(&mut window, &mut first.clone()), [Some(Ok(()))]);
    assert_eq!(receive(&mut window, &mut batch.clone()), [Some(Ok(())); 40]);
    assert_eq!(window.top(), wrap + 19);
    assert_eq!(
        receive(&mut window, &mut batch),
        [Some(Err(ReplayError::Duplicate)); 40]
    );
}
