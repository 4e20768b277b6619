//! A live tunnel between two IKE endpoints, fed with damaged, repeated and nonsensical messages.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hawser_ike::harness::hostile(data));
