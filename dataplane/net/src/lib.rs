//! Packet parsing, lookup and rewriting as pure functions.
