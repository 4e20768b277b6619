//! The Hawser daemon and command line.
