//! Sequences of IKE fragments, authentic but in any disorder.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hawser_ike_crypto::harness::fragments(data));
