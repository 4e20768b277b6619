//! Transform IDs by name (RFC 7296, section 3.3.2, and the IANA registry of IKEv2 parameters).

use crate::transform::TransformType;

macro_rules! ids {
    ($($kind:ident { $($(#[$doc:meta])* $constant:ident = $number:literal, $name:literal;)* })*) => {
        $($($(#[$doc])* pub const $constant: u16 = $number;)*)*

        /// The name of a transform, where it has one here.
        #[must_use]
        pub const fn name(kind: TransformType, id: u16) -> Option<&'static str> {
            match (kind, id) {
                $($((TransformType::$kind, $number) => Some($name),)*)*
                (TransformType::AdditionalKe(_), id) => match id {
                    0 => Some("NONE"),
                    _ => name(TransformType::Dh, id),
                },
                _ => None,
            }
        }
    };
}

ids! {
    Encr {
        /// DES, broken.
        ENCR_DES = 2, "DES";
        /// Triple DES.
        ENCR_3DES = 3, "3DES";
        /// No encryption.
        ENCR_NULL = 11, "NULL";
        /// AES-CBC (RFC 3602).
        ENCR_AES_CBC = 12, "AES_CBC";
        /// AES-CTR (RFC 5930).
        ENCR_AES_CTR = 13, "AES_CTR";
        /// AES-CCM, ICV of 8 octets.
        ENCR_AES_CCM_8 = 14, "AES_CCM_8";
        /// AES-CCM, ICV of 12 octets.
        ENCR_AES_CCM_12 = 15, "AES_CCM_12";
        /// AES-CCM, ICV of 16 octets.
        ENCR_AES_CCM_16 = 16, "AES_CCM_16";
        /// AES-GCM, ICV of 8 octets (RFC 4106, RFC 5282).
        ENCR_AES_GCM_8 = 18, "AES_GCM_8";
        /// AES-GCM, ICV of 12 octets.
        ENCR_AES_GCM_12 = 19, "AES_GCM_12";
        /// AES-GCM, ICV of 16 octets.
        ENCR_AES_GCM_16 = 20, "AES_GCM_16";
        /// Camellia-CBC.
        ENCR_CAMELLIA_CBC = 23, "CAMELLIA_CBC";
        /// ChaCha20 with Poly1305 (RFC 7634).
        ENCR_CHACHA20_POLY1305 = 28, "CHACHA20_POLY1305";
    }
    Prf {
        /// HMAC-MD5, broken.
        PRF_HMAC_MD5 = 1, "PRF_HMAC_MD5";
        /// HMAC-SHA1 (RFC 2104).
        PRF_HMAC_SHA1 = 2, "PRF_HMAC_SHA1";
        /// AES-XCBC.
        PRF_AES128_XCBC = 4, "PRF_AES128_XCBC";
        /// HMAC-SHA-256 (RFC 4868).
        PRF_HMAC_SHA2_256 = 5, "PRF_HMAC_SHA2_256";
        /// HMAC-SHA-384.
        PRF_HMAC_SHA2_384 = 6, "PRF_HMAC_SHA2_384";
        /// HMAC-SHA-512.
        PRF_HMAC_SHA2_512 = 7, "PRF_HMAC_SHA2_512";
        /// AES-CMAC.
        PRF_AES128_CMAC = 8, "PRF_AES128_CMAC";
    }
    Integ {
        /// None: with an AEAD.
        INTEG_NONE = 0, "NONE";
        /// HMAC-MD5-96, broken.
        INTEG_HMAC_MD5_96 = 1, "HMAC_MD5_96";
        /// HMAC-SHA1-96 (RFC 2404).
        INTEG_HMAC_SHA1_96 = 2, "HMAC_SHA1_96";
        /// AES-XCBC-96.
        INTEG_AES_XCBC_96 = 5, "AES_XCBC_96";
        /// AES-CMAC-96.
        INTEG_AES_CMAC_96 = 8, "AES_CMAC_96";
        /// HMAC-SHA-256-128 (RFC 4868).
        INTEG_HMAC_SHA2_256_128 = 12, "HMAC_SHA2_256_128";
        /// HMAC-SHA-384-192.
        INTEG_HMAC_SHA2_384_192 = 13, "HMAC_SHA2_384_192";
        /// HMAC-SHA-512-256.
        INTEG_HMAC_SHA2_512_256 = 14, "HMAC_SHA2_512_256";
    }
    Dh {
        /// No new key exchange.
        DH_NONE = 0, "NONE";
        /// 768-bit MODP.
        DH_MODP_768 = 1, "MODP_768";
        /// 1024-bit MODP (RFC 2409).
        DH_MODP_1024 = 2, "MODP_1024";
        /// 1536-bit MODP (RFC 3526).
        DH_MODP_1536 = 5, "MODP_1536";
        /// 2048-bit MODP.
        DH_MODP_2048 = 14, "MODP_2048";
        /// 3072-bit MODP.
        DH_MODP_3072 = 15, "MODP_3072";
        /// 4096-bit MODP.
        DH_MODP_4096 = 16, "MODP_4096";
        /// 6144-bit MODP.
        DH_MODP_6144 = 17, "MODP_6144";
        /// 8192-bit MODP.
        DH_MODP_8192 = 18, "MODP_8192";
        /// NIST P-256 (RFC 5903).
        DH_ECP_256 = 19, "ECP_256";
        /// NIST P-384.
        DH_ECP_384 = 20, "ECP_384";
        /// NIST P-521.
        DH_ECP_521 = 21, "ECP_521";
        /// 1024-bit MODP with a 160-bit subgroup (RFC 5114).
        DH_MODP_1024_160 = 22, "MODP_1024_160";
        /// 2048-bit MODP with a 224-bit subgroup.
        DH_MODP_2048_224 = 23, "MODP_2048_224";
        /// 2048-bit MODP with a 256-bit subgroup.
        DH_MODP_2048_256 = 24, "MODP_2048_256";
        /// X25519 (RFC 8031).
        DH_CURVE25519 = 31, "CURVE_25519";
        /// X448.
        DH_CURVE448 = 32, "CURVE_448";
        /// ML-KEM-512.
        KE_ML_KEM_512 = 35, "ML_KEM_512";
        /// ML-KEM-768.
        KE_ML_KEM_768 = 36, "ML_KEM_768";
        /// ML-KEM-1024.
        KE_ML_KEM_1024 = 37, "ML_KEM_1024";
    }
    Esn {
        /// 32-bit sequence numbers.
        ESN_NO = 0, "NO_ESN";
        /// 64-bit sequence numbers.
        ESN_YES = 1, "ESN";
    }
}
