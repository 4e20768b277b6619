//! The algorithm that stands before a digital signature.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hawser_ike_crypto::harness::algorithm_identifier(data));
