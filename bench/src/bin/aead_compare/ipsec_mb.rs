//! intel-ipsec-mb, from its shared library.
//!
//! The one module of this package with unsafe code: C functions are found at run time and called,
//! so that the comparison needs no C headers and runs without the library where it is not there.

use crate::contender::{Contender, HEAD, Packet, TAG, split};

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
pub(crate) struct IpsecMb {
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
    pub(crate) fn load(keys: &[Vec<u8>]) -> Option<Self> {
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
