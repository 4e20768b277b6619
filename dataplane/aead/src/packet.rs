//! The layout of an ESP packet, as the ciphers see it.

/// Bytes of SPI and sequence number before the IV.
pub(crate) const HEADER: usize = 8;

/// A packet from SPI to ICV, and its full sequence number.
pub(crate) struct Packet<'a> {
    pub(crate) bytes: &'a mut [u8],
    pub(crate) sequence: u64,
    /// Other AAD than ESP's, and its length, for published vectors. Padded with zeros.
    #[cfg(test)]
    pub(crate) other_aad: Option<([u8; 16], usize)>,
}

impl<'a> Packet<'a> {
    pub(crate) fn new(bytes: &'a mut [u8], sequence: u64) -> Self {
        Self {
            bytes,
            sequence,
            #[cfg(test)]
            other_aad: None,
        }
    }
}

impl Packet<'_> {
    /// Writes the low half of the sequence number into the header.
    pub(crate) fn write_sequence(&mut self) {
        self.bytes[4..HEADER].copy_from_slice(&(self.sequence as u32).to_be_bytes());
    }

    /// The additional authenticated data of RFC 4106 section 5. The sequence number is the
    /// full one we hold, not the bytes in the packet: what is authenticated is then the very
    /// number that the replay window will see.
    pub(crate) fn aad(&self, esn: bool) -> Aad {
        let mut bytes = [0; 16];
        #[cfg(test)]
        if let Some((bytes, len)) = self.other_aad {
            return Aad { bytes, len };
        }
        bytes[..4].copy_from_slice(&self.bytes[..4]);
        if esn {
            bytes[4..12].copy_from_slice(&self.sequence.to_be_bytes());
            Aad { bytes, len: 12 }
        } else {
            bytes[4..8].copy_from_slice(&(self.sequence as u32).to_be_bytes());
            Aad { bytes, len: 8 }
        }
    }
}

/// Additional authenticated data: 8 or 12 bytes (up to 16 in tests), and zeros after them.
pub(crate) struct Aad {
    bytes: [u8; 16],
    len: usize,
}

impl core::ops::Deref for Aad {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
