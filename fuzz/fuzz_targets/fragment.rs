//! IPv4 packets that are cut into fragments.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hawser_net::harness::fragment(data));
