//! The content of one IKE payload, behind a right header.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hawser_ike_wire::harness::payload(data));
