//! AES-CBC with HMAC in ESP (RFC 3602, RFC 2404, RFC 4868): encrypt, then authenticate.
//!
//! CBC encryption is serial within a packet: each block waits for the one before it, which
//! leaves the AES unit idle most of the time. So up to [`LANES`] packets of a key are
//! encrypted side by side, a block of each in turn. Decryption is parallel within a packet.
//!
//! The IV must be unpredictable. NIST SP 800-38A appendix C makes one by encrypting a nonce:
//! here the sequence number, under a random AES key of its own for every sealing key.

use aes::cipher::consts::U16;
use aes::cipher::{Block, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit as _};
use aes::{Aes128Dec, Aes128Enc, Aes256Dec, Aes256Enc};
use hmac::{Hmac, Mac as _};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use crate::key::KeyError;
use crate::packet::{HEADER, Packet};
use crate::suite::{Integrity, Suite};

/// Bytes of IV and of an AES block.
const BLOCK: usize = 16;

/// Packets encrypted side by side. AES-NI takes about 4 cycles a round and starts one or two
/// per cycle; 8 is also what the `aes` crate interleaves. Fewer would leave the unit idle.
const LANES: usize = 8;

type AesBlock = aes::Block;

/// AES-CBC-HMAC for outbound packets.
pub(crate) struct CbcSealer {
    cipher: Encryptor,
    iv_cipher: Aes128Enc,
    mac: Mac,
}

enum Encryptor {
    Aes128(Aes128Enc),
    Aes256(Aes256Enc),
}

impl CbcSealer {
    pub(crate) fn new(
        suite: Suite,
        cipher_key: &[u8],
        mac_key: &[u8],
        esn: bool,
    ) -> Result<Self, KeyError> {
        let mut iv_key = Zeroizing::new([0; 16]);
        getrandom::fill(&mut *iv_key).map_err(|e| KeyError::Random(e.to_string()))?;
        let cipher = match cipher_key.len() {
            16 => Encryptor::Aes128(Aes128Enc::new_from_slice(cipher_key).expect("16 bytes")),
            _ => Encryptor::Aes256(Aes256Enc::new_from_slice(cipher_key).expect("32 bytes")),
        };
        let iv_cipher = Aes128Enc::new_from_slice(&*iv_key).expect("16 bytes");
        Ok(Self {
            cipher,
            iv_cipher,
            mac: Mac::new(suite, mac_key, esn),
        })
    }

    pub(crate) fn seal(&self, packets: &mut [Packet<'_>]) {
        for packet in &mut *packets {
            packet.write_sequence();
            let mut iv = AesBlock::default();
            iv[8..].copy_from_slice(&packet.sequence.to_be_bytes());
            self.iv_cipher.encrypt_block(&mut iv);
            packet.bytes[HEADER..HEADER + BLOCK].copy_from_slice(&iv);
        }
        match &self.cipher {
            Encryptor::Aes128(cipher) => encrypt_side_by_side(cipher, self.mac.icv_len, packets),
            Encryptor::Aes256(cipher) => encrypt_side_by_side(cipher, self.mac.icv_len, packets),
        }
        for packet in packets {
            self.mac.write(packet);
        }
    }
}

/// AES-CBC-HMAC for inbound packets.
pub(crate) struct CbcOpener {
    cipher: Decryptor,
    mac: Mac,
}

enum Decryptor {
    Aes128(Aes128Dec),
    Aes256(Aes256Dec),
}

impl CbcOpener {
    pub(crate) fn new(suite: Suite, cipher_key: &[u8], mac_key: &[u8], esn: bool) -> Self {
        let cipher = match cipher_key.len() {
            16 => Decryptor::Aes128(Aes128Dec::new_from_slice(cipher_key).expect("16 bytes")),
            _ => Decryptor::Aes256(Aes256Dec::new_from_slice(cipher_key).expect("32 bytes")),
        };
        Self {
            cipher,
            mac: Mac::new(suite, mac_key, esn),
        }
    }

    pub(crate) fn open(&self, packets: &mut [Packet<'_>]) -> u64 {
        let mut authentic = 0;
        for (i, packet) in packets.iter_mut().enumerate() {
            let verdict = self.mac.verify(packet);
            let end = packet.bytes.len() - self.mac.icv_len;
            if verdict {
                let data = &mut packet.bytes[HEADER..end];
                match &self.cipher {
                    Decryptor::Aes128(cipher) => decrypt(cipher, data),
                    Decryptor::Aes256(cipher) => decrypt(cipher, data),
                }
                authentic |= 1 << i;
            } else {
                packet.bytes[HEADER + BLOCK..end].fill(0);
            }
        }
        authentic
    }
}

/// One packet on its way through CBC: which, and how far.
#[derive(Clone, Copy)]
struct Lane {
    packet: usize,
    at: usize,
    end: usize,
}

/// CBC-encrypts every packet in place, behind the IV that stands in it.
fn encrypt_side_by_side<C>(cipher: &C, icv_len: usize, packets: &mut [Packet<'_>])
where
    C: BlockCipherEncrypt<BlockSize = U16>,
{
    let mut waiting = (0..packets.len())
        .map(|packet| Lane {
            packet,
            at: HEADER + BLOCK,
            end: packets[packet].bytes.len() - icv_len,
        })
        .filter(|lane| lane.at < lane.end)
        .collect::<arrayvec::ArrayVec<Lane, { crate::BATCH }>>();
    let mut lanes = arrayvec::ArrayVec::<Lane, LANES>::new();
    // What the block before came out as: the IV at first. Unused lanes compute nonsense, which
    // costs nothing, as the unit has nothing else to do.
    let mut chain = [AesBlock::default(); LANES];
    loop {
        while !lanes.is_full()
            && let Some(lane) = waiting.pop()
        {
            let iv = &packets[lane.packet].bytes[HEADER..HEADER + BLOCK];
            chain[lanes.len()].copy_from_slice(iv);
            lanes.push(lane);
        }
        // As many steps as the shortest lane has blocks left.
        let Some(steps) = lanes.iter().map(|lane| (lane.end - lane.at) / BLOCK).min() else {
            return;
        };
        for _ in 0..steps {
            for (lane, state) in lanes.iter().zip(&mut chain) {
                xor(state, &packets[lane.packet].bytes[lane.at..lane.at + BLOCK]);
            }
            cipher.encrypt_blocks(&mut chain);
            for (lane, state) in lanes.iter_mut().zip(&chain) {
                packets[lane.packet].bytes[lane.at..lane.at + BLOCK].copy_from_slice(state);
                lane.at += BLOCK;
            }
        }
        for i in (0..lanes.len()).rev() {
            if lanes[i].at == lanes[i].end {
                chain[i] = chain[lanes.len() - 1];
                lanes.swap_remove(i);
            }
        }
    }
}

/// CBC-decrypts `data` (IV, then ciphertext) in place.
fn decrypt<C>(cipher: &C, data: &mut [u8])
where
    C: BlockCipherDecrypt<BlockSize = U16>,
{
    let (iv, ciphertext) = data.split_at_mut(BLOCK);
    let (blocks, _) = Block::<C>::slice_as_chunks_mut(ciphertext);
    let mut before = AesBlock::default();
    before.copy_from_slice(iv);
    for chunk in blocks.chunks_mut(LANES) {
        let mut kept = [AesBlock::default(); LANES];
        kept[..chunk.len()].copy_from_slice(chunk);
        cipher.decrypt_blocks(chunk);
        for (block, ciphertext) in chunk.iter_mut().zip(&kept) {
            xor(block, &before);
            before = *ciphertext;
        }
    }
}

fn xor(a: &mut AesBlock, b: &[u8]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a ^= b;
    }
}

/// HMAC over SPI, sequence number, IV and ciphertext, and with ESN the high half of the
/// sequence number after them (RFC 4303 section 2.2.1).
struct Mac {
    keyed: Keyed,
    esn: bool,
    icv_len: usize,
}

/// HMAC states that have already absorbed the key; cloned for each packet.
enum Keyed {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

/// The same expression for each of the hash functions.
macro_rules! with_mac {
    ($self:ident, $mac:ident => $body:expr) => {
        match &$self.keyed {
            Keyed::Sha1($mac) => $body,
            Keyed::Sha256($mac) => $body,
            Keyed::Sha384($mac) => $body,
            Keyed::Sha512($mac) => $body,
        }
    };
}

impl Mac {
    fn new(suite: Suite, key: &[u8], esn: bool) -> Self {
        use hmac::KeyInit as _;
        let any = "HMAC takes a key of any length";
        let keyed = match suite.integrity() {
            Integrity::Sha1 => Keyed::Sha1(Hmac::new_from_slice(key).expect(any)),
            Integrity::Sha256 => Keyed::Sha256(Hmac::new_from_slice(key).expect(any)),
            Integrity::Sha384 => Keyed::Sha384(Hmac::new_from_slice(key).expect(any)),
            Integrity::Sha512 => Keyed::Sha512(Hmac::new_from_slice(key).expect(any)),
            Integrity::Gcm => unreachable!("a GCM suite has no HMAC"),
        };
        Self {
            keyed,
            esn,
            icv_len: suite.icv_len(),
        }
    }

    /// What is authenticated: the packet up to the ICV, and the bytes that follow it unsent.
    fn input<'p>(&self, packet: &'p Packet<'_>) -> (&'p [u8], [u8; 4], usize) {
        let covered = &packet.bytes[..packet.bytes.len() - self.icv_len];
        let high = ((packet.sequence >> 32) as u32).to_be_bytes();
        (covered, high, if self.esn { 4 } else { 0 })
    }

    fn write(&self, packet: &mut Packet<'_>) {
        let (covered, high, high_len) = self.input(packet);
        let end = covered.len();
        with_mac!(self, mac => {
            let tag = mac.clone().chain_update(covered).chain_update(&high[..high_len]).finalize();
            packet.bytes[end..].copy_from_slice(&tag.as_bytes()[..self.icv_len]);
        });
    }

    /// Whether the ICV is right, compared in constant time. The sequence number in the packet
    /// must be the one given, as that is the one the caller will believe.
    fn verify(&self, packet: &Packet<'_>) -> bool {
        let (covered, high, high_len) = self.input(packet);
        let icv = &packet.bytes[covered.len()..];
        let authentic = with_mac!(self, mac => {
            mac.clone().chain_update(covered).chain_update(&high[..high_len]).verify_truncated_left(icv).is_ok()
        });
        authentic && packet.bytes[4..HEADER] == (packet.sequence as u32).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_hex::bytes;

    /// RFC 3602 section 4, cases 1 to 4: key, IV, plaintext, ciphertext.
    const RFC_3602: [[&str; 4]; 4] = [
        [
            "06a9214036b8a15b512e03d534120006",
            "3dafba429d9eb430b422da802c9fac41",
            "53696e676c6520626c6f636b206d7367",
            "e353779c1079aeb82708942dbe77181a",
        ],
        [
            "c286696d887c9aa0611bbb3e2025a45a",
            "562e17996d093d28ddb3ba695a2e6f58",
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1",
        ],
        [
            "6c3ea0477630ce21a2ce334aa746c2cd",
            "c782dc4c098c66cbd9cd27d825682c81",
            "5468697320697320612034382d62797465206d657373616765202865786163746c7920\
             332041455320626c6f636b7329",
            "d0a02b3836451753d493665d33f0e8862dea54cdb293abc7506939276772f8d5\
             021c19216bad525c8579695d83ba2684",
        ],
        [
            "56e47a38c5598974bc46903dba290349",
            "8ce82eefbea0da3c44699ed7db51b7d9",
            "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf\
             c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf",
            "c30e32ffedc0774e6aff6af0869f71aa0f3af07a9a31a9c684db207eb0ef8e4e\
             35907aa632c3ffdf868bb7b29d3d46ad83ce9f9a102ee99d49a53e87f4c3da55",
        ],
    ];

    /// A packet as [`encrypt_side_by_side`] sees it, without an ICV.
    fn packet(iv: &str, data: &str) -> Vec<u8> {
        [vec![0; HEADER], bytes(iv), bytes(data)].concat()
    }

    #[test]
    fn rfc_3602_alone_and_beside_others() {
        for [key, iv, plain, sealed] in RFC_3602 {
            let encryptor = Aes128Enc::new_from_slice(&bytes(key)).unwrap();
            let decryptor = Aes128Dec::new_from_slice(&bytes(key)).unwrap();
            for count in [1, 2, 7, 8, 9, 17] {
                // Packets of other lengths before and after ours, which lanes take turns with.
                let mut packets: Vec<_> = (0..count)
                    .map(|i| packet(iv, &"00112233445566778899aabbccddeeff".repeat(i % 5)))
                    .collect();
                for position in 0..count {
                    packets[position] = packet(iv, plain);
                    let mut batch: Vec<_> = packets
                        .iter_mut()
                        .map(|bytes| Packet::new(bytes, 1))
                        .collect();
                    encrypt_side_by_side(&encryptor, 0, &mut batch);
                    assert_eq!(
                        packets[position],
                        packet(iv, sealed),
                        "{position} of {count}"
                    );
                    decrypt(&decryptor, &mut packets[position][HEADER..]);
                    assert_eq!(
                        packets[position],
                        packet(iv, plain),
                        "{position} of {count}"
                    );
                }
            }
        }
    }

    #[test]
    fn rfc_2202_and_rfc_4868_macs() {
        use Suite::*;
        // RFC 2202 section 3 case 1, RFC 4868 section 2.7.2.1 (AUTH256-1, AUTH384-1,
        // AUTH512-1): key of 0b bytes, "Hi There"; the MAC before truncation.
        let table = [
            (Aes128CbcSha1_96, "b617318655057264e28bc0b6fb378c8ef146be00"),
            (
                Aes128CbcSha256_128,
                "198a607eb44bfbc69903a0f1cf2bbdc5ba0aa3f3d9ae3c1c7a3b1696a0b68cf7",
            ),
            (
                Aes128CbcSha384_192,
                "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee9737a959796489bddbc\
                 4c5df61d5b3297b4fb68dab9f1b582c2",
            ),
            (
                Aes128CbcSha512_256,
                "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8\
                 ac2878ebd5803f6f0b61dbce5e251ff8789a4722c1be65aea45fd464e89f8f5b",
            ),
        ];
        for (suite, mac) in table {
            let key = vec![0x0b; suite.key_len() - suite.cipher_key_len()];
            let mut data = b"Hi There".to_vec();
            data.resize(8 + suite.icv_len(), 0);
            Mac::new(suite, &key, false).write(&mut Packet::new(&mut data, 0));
            assert_eq!(data[8..], bytes(mac)[..suite.icv_len()], "{suite}");
        }
    }

    #[test]
    fn with_esn_the_high_half_follows_the_ciphertext() {
        let suite = Suite::Aes128CbcSha256_128;
        let key = [7; 32];
        let mut long = [
            vec![1; 40],
            0xdead_beef_u32.to_be_bytes().to_vec(),
            vec![0; 16],
        ]
        .concat();
        let mut esn = vec![1; 56];
        Mac::new(suite, &key, false).write(&mut Packet::new(&mut long, 0));
        Mac::new(suite, &key, true).write(&mut Packet::new(&mut esn, 0xdead_beef_0000_0001));
        assert_eq!(long[44..], esn[40..]);
    }
}
