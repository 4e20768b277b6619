//! IKE messages, as they come in a datagram.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hawser_ike_wire::harness::message(data));
