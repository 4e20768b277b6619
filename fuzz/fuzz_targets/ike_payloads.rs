//! Chains of IKE payloads, as they come out of an Encrypted payload.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hawser_ike_wire::harness::payloads(data));
