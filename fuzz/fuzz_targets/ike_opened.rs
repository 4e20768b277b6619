//! Encrypted payloads: from anybody, and with what an authentic peer put into them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hawser_ike_crypto::harness::opened(data));
