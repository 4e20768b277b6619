//! Microbenchmarks of the packet path.
//!
//! `cargo bench -p hawser-bench` runs the criterion benchmarks of each step;
//! `cargo run --release -p hawser-bench --bin pipeline` measures the whole path in memory beside
//! the cipher alone.
#![forbid(unsafe_code)]

pub mod world;
