//! TCP segments whose MSS is clamped.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hawser_net::harness::clamp_mss(data));
