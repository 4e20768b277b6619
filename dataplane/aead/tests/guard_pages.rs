//! Nothing is read or written beyond a packet: each one ends, or begins, right at a page that
//! cannot be accessed. A stray access would kill the test.

mod common;

use common::*;
use hawser_aead::{OpenBatch, OpeningKey, SealBatch, SealingKey, Suite};

const PAGE: usize = 4096;

/// Memory of a packet between two forbidden pages.
struct Guarded {
    base: *mut u8,
    pages: usize,
}

impl Guarded {
    fn new(len: usize) -> Self {
        let pages = len.div_ceil(PAGE).max(1);
        let size = (pages + 2) * PAGE;
        // SAFETY: a fresh anonymous mapping; only its inner pages are made accessible.
        let base = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let base = libc::mmap(std::ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0);
            assert!(
                base != libc::MAP_FAILED,
                "mmap: {}",
                std::io::Error::last_os_error()
            );
            let inner = base.cast::<u8>().add(PAGE);
            let access = libc::PROT_READ | libc::PROT_WRITE;
            assert_eq!(libc::mprotect(inner.cast(), pages * PAGE, access), 0);
            base.cast::<u8>()
        };
        Self { base, pages }
    }

    /// `len` bytes that touch the page after them, or the one before.
    fn slice(&mut self, len: usize, at_end: bool) -> &mut [u8] {
        let room = self.pages * PAGE;
        assert!(len <= room);
        // SAFETY: inside the accessible pages, borrowed mutably with `self`.
        unsafe {
            let at = self.base.add(PAGE + if at_end { room - len } else { 0 });
            std::slice::from_raw_parts_mut(at, len)
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`.
        unsafe { libc::munmap(self.base.cast(), (self.pages + 2) * PAGE) };
    }
}

/// Seals, opens, and opens as a forgery packets of these plaintext lengths, side by side.
fn check(sealing: &SealingKey, opening: &OpeningKey, lengths: &[usize], at_end: bool) {
    let suite = sealing.suite();
    let text = |len: usize| (0..len).map(|i| i as u8 ^ 0x35).collect::<Vec<_>>();
    let sizes: Vec<_> = lengths.iter().map(|len| len + suite.overhead()).collect();
    let mut memory: Vec<_> = sizes.iter().map(|&size| Guarded::new(size)).collect();
    let mut packets: Vec<_> = memory
        .iter_mut()
        .zip(&sizes)
        .map(|(memory, &size)| memory.slice(size, at_end))
        .collect();
    for (packet, &len) in packets.iter_mut().zip(lengths) {
        packet.copy_from_slice(&unsealed(suite, &text(len)));
    }

    let mut sequences = Vec::new();
    let mut batch = SealBatch::new();
    let numbers = sealing.reserve(lengths.len() as u32).unwrap();
    for (packet, sequence) in packets.iter_mut().zip(numbers) {
        sequences.push(sequence.value());
        batch.push(sealing, sequence, packet);
    }
    batch.seal();
    drop(batch);

    for forged in [false, true] {
        let sealed: Vec<_> = packets.iter().map(|packet| packet.to_vec()).collect();
        let mut batch = OpenBatch::new();
        for (packet, &sequence) in packets.iter_mut().zip(&sequences) {
            let last = packet.len() - 1;
            packet[last] ^= u8::from(forged);
            batch.push(opening, sequence, packet);
        }
        let verdicts = batch.open();
        drop(batch);
        let data =
            |packet: &[u8]| packet[8 + suite.iv_len()..packet.len() - suite.icv_len()].to_vec();
        for (i, packet) in packets.iter_mut().enumerate() {
            assert_eq!(verdicts.get(i).is_some(), !forged, "{suite} {lengths:?}");
            let expected = if forged {
                vec![0; lengths[i]]
            } else {
                text(lengths[i])
            };
            assert_eq!(data(packet), expected, "{suite} {lengths:?}");
            packet.copy_from_slice(&sealed[i]);
        }
    }
}

#[test]
fn no_access_beyond_a_packet() {
    for rung in rungs() {
        for suite in [Suite::Aes128Gcm16, Suite::Aes256Gcm16] {
            let material = material(suite, 1);
            let sealing = SealingKey::on_rung(rung, suite, &material, true, 1, u64::MAX).unwrap();
            let opening = OpeningKey::on_rung(rung, suite, &material, true).unwrap();
            for at_end in [true, false] {
                let lengths = if nightly() { 0..2049 } else { 0..300 };
                for len in lengths.chain([511, 512, 513, 1424, 4063, 4064, 4065, 8960, 9216]) {
                    check(&sealing, &opening, &[len], at_end);
                    if len <= 160 {
                        check(&sealing, &opening, &[len; 5], at_end);
                    }
                }
            }
        }
    }
}

#[test]
fn no_access_beyond_a_packet_with_cbc() {
    for suite in Suite::ALL.into_iter().filter(|suite| !suite.is_gcm()) {
        let material = material(suite, 2);
        let sealing = SealingKey::new(suite, &material, true, 1, u64::MAX).unwrap();
        let opening = OpeningKey::new(suite, &material, true).unwrap();
        for at_end in [true, false] {
            for blocks in [0, 1, 2, 3, 7, 8, 9, 89] {
                check(&sealing, &opening, &[blocks * 16; 9], at_end);
            }
        }
    }
}
