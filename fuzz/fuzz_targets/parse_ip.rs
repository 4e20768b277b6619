//! Bare IP packets, and the ICMP errors about them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hawser_net::harness::parse_ip(data));
