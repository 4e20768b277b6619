//! Damaged and forged ESP packets into a whole gateway.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hawser_dataplane::harness::fuzz_from_outside(data));
