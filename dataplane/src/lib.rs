//! The Hawser packet path and its process.
