//! What is compared: packets, and those who seal and open them.

/// SPI, sequence number and IV before the data, and the tag behind it.
pub(crate) const HEAD: usize = 16;
pub(crate) const TAG: usize = 16;

/// Packets passed to an implementation at once.
pub(crate) const BATCH: usize = 32;

/// A packet from SPI to tag, and which key is its own.
pub(crate) struct Packet<'m> {
    pub(crate) key: usize,
    pub(crate) bytes: &'m mut [u8],
}

impl Packet<'_> {
    /// Writes the header for sequence number `sequence`.
    pub(crate) fn number(&mut self, sequence: u64) {
        self.bytes[4..8].copy_from_slice(&(sequence as u32).to_be_bytes());
        self.bytes[8..16].copy_from_slice(&sequence.to_be_bytes());
    }

    pub(crate) fn nonce(&self, salt: [u8; 4]) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&salt);
        nonce[4..].copy_from_slice(&self.bytes[8..16]);
        nonce
    }

    pub(crate) fn aad(&self) -> [u8; 8] {
        self.bytes[..8].try_into().expect("8 bytes")
    }
}

/// An implementation, with all keys of a workload.
pub(crate) trait Contender {
    fn name(&self) -> String;
    fn seal(&mut self, batch: &mut [Packet<'_>]);
    /// Whether all were authentic.
    fn open(&mut self, batch: &mut [Packet<'_>]) -> bool;
}

/// Cipher key and salt.
pub(crate) fn split(material: &[u8]) -> (&[u8], [u8; 4]) {
    let (key, salt) = material.split_at(material.len() - 4);
    (key, salt.try_into().expect("4 bytes"))
}
