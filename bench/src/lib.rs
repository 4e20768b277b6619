//! Microbenchmarks of the packet path.
//!
//! `cargo bench -p hawser-bench` runs the criterion benchmarks: of each step (`net`), of the ciphers
//! (`ciphers`) and of the whole path in memory (`pipeline`). `cargo run --release -p hawser-bench
//! --bin pipeline` measures the whole path and the cipher alone in turns, for the difference.
#![forbid(unsafe_code)]

pub mod cipher;
pub mod load;
pub mod path;
pub mod processor;
pub mod world;
