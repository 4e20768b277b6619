//! Traffic selectors and packets.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hawser_net::harness::selectors(data));
