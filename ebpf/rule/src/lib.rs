//! The rule which packets are Hawser's, for kernel and user space.
