//! Reading a frame: bounds-checked loads.

/// How far into a frame the rule looks, in bytes.
///
/// Two VLAN tags, a full IPv6 extension header chain of usual size and a UDP header fit several
/// times over. The verifier needs some bound on a variable offset; a small one keeps the state it
/// must track small. A header beyond it makes the packet pass.
pub const REACH: usize = 512;

/// The bytes of a frame, starting at its destination MAC.
///
/// In the kernel only the first buffer of a multi-buffer packet is visible.
pub trait Packet {
    /// `N` bytes from offset `at`, or `None` if the frame is shorter.
    ///
    /// `at` is at most [`REACH`]; an implementation may refuse anything beyond.
    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// A byte.
    #[inline(always)]
    fn u8(&self, at: usize) -> Option<u8> {
        Some(self.load::<1>(at)?[0])
    }

    /// A 16-bit field in network byte order.
    #[inline(always)]
    fn be16(&self, at: usize) -> Option<u16> {
        Some(u16::from_be_bytes(self.load(at)?))
    }

    /// A 32-bit field in network byte order.
    #[inline(always)]
    fn be32(&self, at: usize) -> Option<u32> {
        Some(u32::from_be_bytes(self.load(at)?))
    }

    /// A 128-bit field in network byte order.
    #[inline(always)]
    fn be128(&self, at: usize) -> Option<u128> {
        // In halves: eBPF loads at most 64 bits at once, and one 16-byte load becomes a call of
        // `memcpy`.
        let low = u64::from_be_bytes(self.load(at + 8)?);
        let high = u64::from_be_bytes(self.load(at)?);
        Some(u128::from(high) << 64 | u128::from(low))
    }
}

impl Packet for [u8] {
    #[inline]
    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        if at > REACH {
            return None;
        }
        self.get(at..)?.first_chunk().copied()
    }
}
