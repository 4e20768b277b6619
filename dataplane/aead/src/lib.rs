//! ESP ciphers over batches of packets.
