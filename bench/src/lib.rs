//! Microbenchmarks of the packet path.
