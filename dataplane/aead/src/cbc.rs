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
