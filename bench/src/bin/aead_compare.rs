//! AES-GCM for ESP packets, implementations side by side: ours on each rung, `ring`,
//! `aws-lc-rs`, the `aes-gcm` crate, and intel-ipsec-mb where its library is installed
//! (Debian: `libipsec-mb1`).
//!
//! ```text
//! cargo run --release -p hawser-bench --features compare --bin aead_compare -- --out FILE
//! ```
//! writes FILE (JSON), FILE with `.txt` (the table that is also printed) and `.svg` (the plot).
//! `--rounds N` measures longer or shorter, `--quick` few sizes only.
//!
//! # Method
//! Every implementation works on the same packets in the same memory, in place, and writes or
//! reads the whole of what AES-GCM in ESP needs: sequence number, IV, ciphertext, tag. Before
//! anything is timed each one must open what the others sealed. In each round every
//! implementation is timed once, in turn, so that what disturbs the machine disturbs all; the
//! ratio to ours is taken within a round and its median reported. Absolute figures are the best
//! and the median over the rounds.
//!
//! Workloads: `hot`, 32 packets of one key over and over; `stream`, 4,096 packets with a stride
//! of 2 KiB, which do not fit the caches; `keys`, 512 packets of 64 keys in random order, each
//! batch of 32 sorted by key as the packet path does it; `imix`, 7:4:1 of 64, 576 and 1424
//! bytes. Sizes are those of the encrypted part.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aws_lc_rs::aead as aws;
use hawser_aead::{OpenBatch, OpeningKey, Rung, SealBatch, SealingKey, Suite};
use ring::aead as ring_aead;
use serde_json::json;

/// SPI, sequence number and IV before the data, and the tag behind it.
const HEAD: usize = 16;
const TAG: usize = 16;

/// Packets passed to an implementation at once.
const BATCH: usize = 32;

/// A packet from SPI to tag, and which key is its own.
struct Packet<'m> {
    key: usize,
    bytes: &'m mut [u8],
}

impl Packet<'_> {
    /// Writes the header for sequence number `sequence`.
    fn number(&mut self, sequence: u64) {
        self.bytes[4..8].copy_from_slice(&(sequence as u32).to_be_bytes());
        self.bytes[8..16].copy_from_slice(&sequence.to_be_bytes());
    }

    fn nonce(&self, salt: [u8; 4]) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&salt);
        nonce[4..].copy_from_slice(&self.bytes[8..16]);
        nonce
    }

    fn aad(&self) -> [u8; 8] {
        self.bytes[..8].try_into().expect("8 bytes")
    }
}

/// An implementation, with all keys of a workload.
trait Contender {
    fn name(&self) -> String;
    fn seal(&mut self, batch: &mut [Packet<'_>]);
    /// Whether all were authentic.
    fn open(&mut self, batch: &mut [Packet<'_>]) -> bool;
}

struct Ours {
    rung: Rung,
    sealing: Vec<SealingKey>,
    opening: Vec<OpeningKey>,
}

impl Ours {
    fn new(rung: Rung, suite: Suite, keys: &[Vec<u8>]) -> Self {
        let sealing = |k: &Vec<u8>| SealingKey::on_rung(rung, suite, k, false, 1, u64::MAX);
        let opening = |k: &Vec<u8>| OpeningKey::on_rung(rung, suite, k, false);
        Self {
            rung,
            sealing: keys
                .iter()
                .map(sealing)
                .collect::<Result<_, _>>()
                .expect("a good key"),
            opening: keys
                .iter()
                .map(opening)
                .collect::<Result<_, _>>()
                .expect("a good key"),
        }
    }
}

impl Contender for Ours {
    fn name(&self) -> String {
        format!("hawser {}", self.rung)
    }

    fn seal(&mut self, packets: &mut [Packet<'_>]) {
        let mut batch = SealBatch::new();
        let mut rest = packets;
        // One reservation for each stretch of packets of a key, as the packet path has it.
        while let Some(first) = rest.first() {
            let which = first.key;
            let count = rest.iter().take_while(|packet| packet.key == which).count();
            let (stretch, others) = rest.split_at_mut(count);
            let key = &self.sealing[which];
            let numbers = key.reserve(count as u32).expect("numbers left");
            for (packet, number) in stretch.iter_mut().zip(numbers) {
                batch.push(key, number, packet.bytes);
            }
            rest = others;
        }
        batch.seal();
    }

    fn open(&mut self, packets: &mut [Packet<'_>]) -> bool {
        let count = packets.len();
        let mut batch = OpenBatch::new();
        for packet in packets {
            let low = u32::from_be_bytes(packet.bytes[4..8].try_into().expect("4 bytes"));
            batch.push(&self.opening[packet.key], u64::from(low), packet.bytes);
        }
        let verdicts = batch.open();
        (0..count).all(|i| verdicts.get(i).is_some())
    }
}

/// `ring` and `aws-lc-rs` have the same interface.
macro_rules! ring_like {
    ($contender:ident, $module:ident, $name:literal) => {
        struct $contender {
            keys: Vec<($module::LessSafeKey, [u8; 4])>,
            next: u64,
        }

        impl $contender {
            fn new(keys: &[Vec<u8>]) -> Self {
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

struct RustCrypto {
    keys: Vec<(RustCryptoKey, [u8; 4])>,
    next: u64,
}

impl RustCrypto {
    fn new(keys: &[Vec<u8>]) -> Self {
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

/// `void pre(const void *key, struct gcm_key_data *)`
type IpsecMbPre = unsafe extern "C" fn(*const u8, *mut u8);
/// `void enc(key_data, context, out, in, len, iv, aad, aad_len, tag, tag_len)`, and `dec`.
type IpsecMbCrypt = unsafe extern "C" fn(
    *const u8,
    *mut u8,
    *mut u8,
    *const u8,
    u64,
    *const u8,
    *const u8,
    u64,
    *mut u8,
    u64,
);

/// `struct gcm_key_data` (1,008 bytes in version 1.3) with room to spare.
#[repr(C, align(64))]
struct KeyData([u8; 4096]);

/// intel-ipsec-mb's direct interface, which is faster than its job interface for GCM.
struct IpsecMb {
    version: String,
    variant: &'static str,
    enc: IpsecMbCrypt,
    dec: IpsecMbCrypt,
    keys: Vec<(Box<KeyData>, [u8; 4])>,
    context: Box<KeyData>,
    next: u64,
    _library: libloading::Library,
}

impl IpsecMb {
    /// `None`, with a word why, if the library is not there.
    fn load(keys: &[Vec<u8>]) -> Option<Self> {
        // SAFETY: the library's constructors do nothing but detect the processor.
        let library = match unsafe { libloading::Library::new("libIPSec_MB.so.1") } {
            Ok(library) => library,
            Err(error) => {
                static ONCE: std::sync::Once = std::sync::Once::new();
                ONCE.call_once(|| eprintln!("skipped: intel-ipsec-mb: {error}"));
                return None;
            }
        };
        // What its own detection would choose, best first.
        let has_avx512 =
            is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        let variants = [
            (
                "vaes_avx512",
                has_avx512 && is_x86_feature_detected!("vaes"),
            ),
            ("avx512", has_avx512),
            ("avx_gen4", is_x86_feature_detected!("avx2")),
            ("avx_gen2", is_x86_feature_detected!("avx")),
            ("sse", true),
        ];
        let variant = variants.into_iter().find(|(_, has)| *has)?.0;
        let bits = keys[0].len() * 8 - 32;
        // SAFETY: the prototypes above are those of intel-ipsec-mb.h.
        unsafe {
            let crypt = |op: &str| {
                let name = format!("aes_gcm_{op}_{bits}_{variant}\0");
                library
                    .get::<IpsecMbCrypt>(name.as_bytes())
                    .map(|symbol| *symbol)
            };
            let pre = format!("aes_gcm_pre_{bits}_{variant}\0");
            let pre = *library.get::<IpsecMbPre>(pre.as_bytes()).ok()?;
            let (enc, dec) = (crypt("enc").ok()?, crypt("dec").ok()?);
            let version = *library
                .get::<unsafe extern "C" fn() -> *const std::ffi::c_char>(b"imb_get_version_str\0")
                .ok()?;
            let version = std::ffi::CStr::from_ptr(version())
                .to_string_lossy()
                .into_owned();
            let key = |material: &Vec<u8>| {
                let (key, salt) = split(material);
                let mut data = Box::new(KeyData([0; 4096]));
                pre(key.as_ptr(), data.0.as_mut_ptr());
                (data, salt)
            };
            let keys = keys.iter().map(key).collect();
            let context = Box::new(KeyData([0; 4096]));
            Some(Self {
                version,
                variant,
                enc,
                dec,
                keys,
                context,
                next: 1,
                _library: library,
            })
        }
    }
}

impl Contender for IpsecMb {
    fn name(&self) -> String {
        format!("ipsec-mb {} {}", self.version, self.variant)
    }

    fn seal(&mut self, batch: &mut [Packet<'_>]) {
        for packet in batch {
            packet.number(self.next);
            self.next += 1;
            let (key, salt) = &self.keys[packet.key];
            let (nonce, aad) = (packet.nonce(*salt), packet.aad());
            let len = packet.bytes.len() - HEAD - TAG;
            // SAFETY: data and tag are inside the packet; nonce and AAD have their lengths.
            unsafe {
                let data = packet.bytes.as_mut_ptr().add(HEAD);
                let context = self.context.0.as_mut_ptr();
                let (nonce, aad, tag) = (nonce.as_ptr(), aad.as_ptr(), data.add(len));
                (self.enc)(
                    key.0.as_ptr(),
                    context,
                    data,
                    data,
                    len as u64,
                    nonce,
                    aad,
                    8,
                    tag,
                    16,
                );
            }
        }
    }

    fn open(&mut self, batch: &mut [Packet<'_>]) -> bool {
        let mut differ = 0;
        for packet in batch {
            let (key, salt) = &self.keys[packet.key];
            let (nonce, aad) = (packet.nonce(*salt), packet.aad());
            let len = packet.bytes.len() - HEAD - TAG;
            let mut tag = [0_u8; TAG];
            // SAFETY: as in `seal`.
            unsafe {
                let data = packet.bytes.as_mut_ptr().add(HEAD);
                let context = self.context.0.as_mut_ptr();
                let (nonce, aad, tag) = (nonce.as_ptr(), aad.as_ptr(), tag.as_mut_ptr());
                (self.dec)(
                    key.0.as_ptr(),
                    context,
                    data,
                    data,
                    len as u64,
                    nonce,
                    aad,
                    8,
                    tag,
                    16,
                );
            }
            let expected =
                u128::from_ne_bytes(packet.bytes[HEAD + len..].try_into().expect("a tag"));
            differ |= u128::from_ne_bytes(tag) ^ expected;
        }
        differ == 0
    }
}

fn split(material: &[u8]) -> (&[u8], [u8; 4]) {
    let (key, salt) = material.split_at(material.len() - 4);
    (key, salt.try_into().expect("4 bytes"))
}

/// Packets in memory: where each lies, how long it is, whose it is.
struct Workload {
    name: &'static str,
    /// Of the encrypted part; 0 for a mixture.
    size: usize,
    keys: Vec<Vec<u8>>,
    layout: Vec<(usize, usize, usize)>,
    memory: Vec<u8>,
}

impl Workload {
    fn new(
        name: &'static str,
        size: usize,
        suite: Suite,
        keys: usize,
        count: usize,
        stride: usize,
    ) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |n: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as usize % n
        };
        let material = |random: &mut dyn FnMut(usize) -> usize| {
            (0..suite.key_len()).map(|_| random(256) as u8).collect()
        };
        let keys_material = (0..keys).map(|_| material(&mut random)).collect();
        let mut whose: Vec<_> = (0..count).map(|_| random(keys)).collect();
        whose
            .chunks_mut(BATCH)
            .for_each(|batch| batch.sort_unstable());
        let mut layout = Vec::new();
        for (i, key) in whose.into_iter().enumerate() {
            let size = match size {
                0 => [64, 64, 64, 64, 64, 64, 64, 576, 576, 576, 576, 1424][random(12)],
                size => size,
            };
            layout.push((i * stride, HEAD + size + TAG, key));
        }
        let memory = (0..count * stride + 64).map(|i| (i * 31) as u8).collect();
        Self {
            name,
            size,
            keys: keys_material,
            layout,
            memory,
        }
    }

    fn packets(&mut self) -> Vec<Packet<'_>> {
        let skew = self.memory.as_ptr().align_offset(64);
        let mut rest = &mut self.memory[skew..];
        let mut at = 0;
        let mut packets = Vec::with_capacity(self.layout.len());
        for &(offset, len, key) in &self.layout {
            let (_, tail) = rest.split_at_mut(offset - at);
            let (bytes, tail) = tail.split_at_mut(len);
            packets.push(Packet { key, bytes });
            rest = tail;
            at = offset + len;
        }
        packets
    }
}

/// Figures of one implementation on one workload and direction, in ns per packet.
struct Figures {
    contender: String,
    best: f64,
    median: f64,
    /// Median over the rounds of this time over ours.
    ratio: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Each must open what every other sealed.
fn agree(contenders: &mut [Box<dyn Contender>], packets: &mut [Packet<'_>]) {
    let packets = &mut packets[..BATCH];
    for sealer in 0..contenders.len() {
        contenders[sealer].seal(packets);
        let sealed: Vec<_> = packets.iter().map(|packet| packet.bytes.to_vec()).collect();
        for opener in 0..contenders.len() {
            for (packet, sealed) in packets.iter_mut().zip(&sealed) {
                packet.bytes.copy_from_slice(sealed);
            }
            let (a, b) = (contenders[sealer].name(), contenders[opener].name());
            assert!(
                contenders[opener].open(packets),
                "{b} refuses what {a} sealed"
            );
        }
    }
}

/// Times sealing and opening; the first contender is the one the others are compared with.
fn measure(
    contenders: &mut [Box<dyn Contender>],
    packets: &mut [Packet<'_>],
    rounds: usize,
) -> [Vec<Figures>; 2] {
    /// A timing should last this long, or the clock's own cost shows.
    const ENOUGH_NS: usize = 300_000;
    let bytes: usize = packets.iter().map(|packet| packet.bytes.len()).sum();
    let passes = (ENOUGH_NS / (packets.len() * 20 + bytes / 8)).max(1);
    let mut times = vec![[Vec::new(), Vec::new()]; contenders.len()];
    let mut sealed: Vec<Vec<u8>> = packets.iter().map(|packet| packet.bytes.to_vec()).collect();
    for _ in 0..rounds {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let start = Instant::now();
            for _ in 0..passes {
                packets
                    .chunks_mut(BATCH)
                    .for_each(|batch| contender.seal(batch));
            }
            let ns = start.elapsed().as_nanos() as f64;
            times[0].push(ns / (passes * packets.len()) as f64);

            for (kept, packet) in sealed.iter_mut().zip(packets.iter()) {
                kept.copy_from_slice(packet.bytes);
            }
            let mut ns = 0.0;
            for _ in 0..passes {
                for (packet, kept) in packets.iter_mut().zip(&sealed) {
                    packet.bytes.copy_from_slice(kept);
                }
                let start = Instant::now();
                let all = packets.chunks_mut(BATCH).all(|batch| contender.open(batch));
                ns += start.elapsed().as_nanos() as f64;
                assert!(all, "{} refuses its own packets", contender.name());
            }
            times[1].push(ns / (passes * packets.len()) as f64);
        }
    }
    [0, 1].map(|direction| {
        let ours = &times[0][direction];
        let figures = contenders.iter().zip(&times).map(|(contender, times)| {
            let times = &times[direction];
            let ratios = times
                .iter()
                .zip(ours)
                .map(|(time, ours)| time / ours)
                .collect();
            Figures {
                contender: contender.name(),
                best: times.iter().copied().fold(f64::MAX, f64::min),
                median: median(times.clone()),
                ratio: median(ratios),
            }
        });
        figures.collect()
    })
}

fn contenders(suite: Suite, keys: &[Vec<u8>]) -> Vec<Box<dyn Contender>> {
    let mut all: Vec<Box<dyn Contender>> = Vec::new();
    for rung in Rung::ALL.into_iter().rev() {
        // The portable rung is the `aes-gcm` crate, which stands below by itself.
        if rung.is_available() && rung != Rung::Portable {
            all.push(Box::new(Ours::new(rung, suite, keys)));
        }
    }
    if all.is_empty() {
        eprintln!("this processor has no vector AES: only the portable rung to compare");
        all.push(Box::new(Ours::new(Rung::Portable, suite, keys)));
    }
    all.push(Box::new(Ring::new(keys)));
    all.push(Box::new(AwsLc::new(keys)));
    all.push(Box::new(RustCrypto::new(keys)));
    if let Some(ipsec_mb) = IpsecMb::load(keys) {
        all.push(Box::new(ipsec_mb));
    }
    all
}

struct Options {
    out: String,
    rounds: usize,
    quick: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        out: "aead_compare.json".to_owned(),
        rounds: 25,
        quick: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--out" => options.out = value()?,
            "--rounds" => {
                let text = value()?;
                options.rounds = text
                    .parse()
                    .map_err(|_| format!("--rounds {text}: a number"))?;
                if options.rounds == 0 {
                    return Err("--rounds 0: at least 1".to_owned());
                }
            }
            "--quick" => options.quick = true,
            _ => {
                return Err(format!(
                    "unknown option {argument}: --out FILE, --rounds N, --quick"
                ));
            }
        }
    }
    Ok(options)
}

fn main() {
    let options = options().unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(2);
    });
    let hot: &[usize] = if options.quick {
        &[64, 1424]
    } else {
        &[64, 128, 256, 512, 1024, 1424, 4096, 8960]
    };
    let some: &[usize] = if options.quick {
        &[1424]
    } else {
        &[64, 256, 512, 1424]
    };

    let mut table = String::new();
    let mut rows = Vec::new();
    let mut plot = Vec::new();
    for suite in [Suite::Aes128Gcm16, Suite::Aes256Gcm16] {
        let mut workloads = Vec::new();
        for &size in hot {
            let stride = (HEAD + size + TAG).next_multiple_of(64) + 64;
            workloads.push(Workload::new("hot", size, suite, 1, BATCH, stride));
        }
        for &size in some {
            workloads.push(Workload::new("stream", size, suite, 1, 4096, 2048));
        }
        for &size in some {
            workloads.push(Workload::new("keys", size, suite, 64, 512, 2048));
        }
        workloads.push(Workload::new("imix", 0, suite, 1, 512, 2048));

        for mut workload in workloads {
            let (name, size) = (workload.name, workload.size);
            let mut contenders = contenders(suite, &workload.keys);
            let mut packets = workload.packets();
            let mean = packets
                .iter()
                .map(|p| p.bytes.len() - HEAD - TAG)
                .sum::<usize>() as f64
                / packets.len() as f64;
            agree(&mut contenders, &mut packets);
            let figures = measure(&mut contenders, &mut packets, options.rounds);
            for (direction, figures) in ["seal", "open"].into_iter().zip(figures) {
                let what = if size == 0 {
                    String::new()
                } else {
                    format!(" {size} B")
                };
                let _ = write!(table, "{suite} {direction:4} {name}{what}:");
                for f in figures {
                    let _ = write!(
                        table,
                        "  {} {:.1} ns ({:.2})",
                        f.contender, f.median, f.ratio
                    );
                    let gbps = mean * 8.0 / f.median;
                    if suite == Suite::Aes128Gcm16 && direction == "seal" && name == "hot" {
                        plot.push((f.contender.clone(), size, f.median, gbps));
                    }
                    rows.push(json!({
                        "suite": suite.to_string(), "direction": direction, "workload": name,
                        "bytes": mean, "implementation": f.contender,
                        "ns_best": f.best, "ns_median": f.median, "gbps_median": gbps,
                        "ratio_to_first": f.ratio,
                    }));
                }
                table.push('\n');
                eprint!(
                    "{}",
                    table
                        .lines()
                        .next_back()
                        .map(|l| format!("{l}\n"))
                        .unwrap_or_default()
                );
            }
        }
    }
    let report = json!({
        "processor": processor(), "rung": hawser_aead::rung().to_string(),
        "rounds": options.rounds, "batch": BATCH, "rows": rows,
    });
    let out = Path::new(&options.out);
    let text = serde_json::to_string_pretty(&report).expect("plain values");
    let files = [("json", text), ("txt", table), ("svg", svg(&plot))];
    for (extension, content) in files {
        let path = if extension == "json" {
            out.to_owned()
        } else {
            out.with_extension(extension)
        };
        if let Err(error) = std::fs::write(&path, content) {
            eprintln!("{}: {error}", path.display());
            std::process::exit(1);
        }
        println!("{}", path.display());
    }
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(": "))
        .map_or("unknown", |(_, name)| name)
        .to_owned()
}

/// Two charts side by side: ns per packet and Gbps over the packet's size, both axes
/// logarithmic.
fn svg(points: &[(String, usize, f64, f64)]) -> String {
    const COLOURS: [&str; 7] = [
        "#c0392b", "#e67e22", "#2980b9", "#27ae60", "#8e44ad", "#555555", "#16a085",
    ];
    let (width, height, margin) = (400.0, 320.0, 56.0);
    let mut names: Vec<&str> = Vec::new();
    for (name, ..) in points {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let mut out = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1120\" height=\"440\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"1120\" height=\"440\" fill=\"white\"/>\n",
    );
    for (chart, title) in ["ns per packet", "Gbps on one core"]
        .into_iter()
        .enumerate()
    {
        let value = |p: &(String, usize, f64, f64)| if chart == 0 { p.2 } else { p.3 };
        let logs = |values: Vec<f64>| {
            let low = values
                .iter()
                .copied()
                .fold(f64::MAX, f64::min)
                .log2()
                .floor();
            let high = values.iter().copied().fold(1.0, f64::max).log2().ceil();
            (low, high.max(low + 1.0))
        };
        let (x0, x1) = logs(points.iter().map(|p| p.1 as f64).collect());
        let (y0, y1) = logs(points.iter().map(value).collect());
        let left = margin + chart as f64 * (width + margin);
        let x = |v: f64| left + (v.log2() - x0) / (x1 - x0) * width;
        let y = |v: f64| margin + height - (v.log2() - y0) / (y1 - y0) * height;
        let _ = writeln!(
            out,
            "<text x=\"{left}\" y=\"30\" font-size=\"15\">AES-128-GCM, sealing, hot: {title}</text>"
        );
        for exponent in y0 as i32..=y1 as i32 {
            let (at, label) = (y(f64::from(exponent).exp2()), f64::from(exponent).exp2());
            let _ = writeln!(
                out,
                "<path d=\"M{left} {at:.1}h{width}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                left - 6.0,
                at + 4.0
            );
        }
        let mut sizes: Vec<_> = points.iter().map(|p| p.1).collect();
        sizes.sort_unstable();
        sizes.dedup();
        for size in sizes {
            let at = x(size as f64);
            let _ = writeln!(
                out,
                "<path d=\"M{at:.1} {margin}v{height}\" stroke=\"#eee\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{size}</text>",
                margin + height + 18.0
            );
        }
        for (name, colour) in names.iter().zip(COLOURS.iter().cycle()) {
            let line: Vec<_> = points
                .iter()
                .filter(|p| p.0 == *name)
                .map(|p| format!("{:.1},{:.1}", x(p.1 as f64), y(value(p))))
                .collect();
            let _ = writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                line.join(" ")
            );
        }
    }
    for (i, (name, colour)) in names.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let at = margin + 20.0 * i as f64;
        let _ = writeln!(
            out,
            "<path d=\"M960 {at}h20\" stroke=\"{colour}\" stroke-width=\"2\"/><text x=\"986\" y=\"{}\">{name}</text>",
            at + 4.0
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"56\" y=\"425\">bytes of the encrypted part; medians</text>\n</svg>"
    );
    out
}
