//! Certificates of a peer that is not trusted yet.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hawser_ike_crypto::harness::certificate(data));
