//! What stands at the end of a decrypted ESP packet.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hawser_net::harness::trailer(data));
