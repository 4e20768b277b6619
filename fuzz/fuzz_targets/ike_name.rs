//! Distinguished names in identities.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hawser_ike_crypto::harness::distinguished_name(data));
