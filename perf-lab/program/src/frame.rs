//! Bounds-checked access to a packet's first buffer.

use aya_ebpf::programs::XdpContext;

/// How far into a packet the programs look; the verifier wants a bound.
const REACH: usize = 256;

pub(crate) const ETHER_IPV4: u16 = 0x0800;
pub(crate) const ETHER_IPV6: u16 = 0x86dd;
pub(crate) const ETHER_TAG: u16 = 0x8100;
pub(crate) const UDP: u8 = 17;
pub(crate) const ESP: u8 = 50;

pub(crate) struct Frame {
    start: usize,
    end: usize,
}

impl Frame {
    #[inline(always)]
    pub(crate) fn new(ctx: &XdpContext) -> Self {
        Self {
            start: ctx.data(),
            end: ctx.data_end(),
        }
    }

    /// Length of the first buffer.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    pub(crate) fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let from = self.check(at, N)?;
        // SAFETY: `check` proved, to the verifier too, that these bytes are within the packet.
        Some(unsafe { (from as *const [u8; N]).read_unaligned() })
    }

    /// Overwrites `N` bytes, or nothing if the packet is shorter.
    #[inline(always)]
    pub(crate) fn store<const N: usize>(&mut self, at: usize, bytes: [u8; N]) -> Option<()> {
        let from = self.check(at, N)?;
        // SAFETY: `check` proved that these bytes are within the packet, which is this run's alone.
        unsafe { (from as *mut [u8; N]).write_unaligned(bytes) };
        Some(())
    }

    #[inline(always)]
    pub(crate) fn be16(&self, at: usize) -> Option<u16> {
        Some(u16::from_be_bytes(self.load(at)?))
    }

    #[inline(always)]
    pub(crate) fn be64(&self, at: usize) -> Option<u64> {
        Some(u64::from_be_bytes(self.load(at)?))
    }

    #[inline(always)]
    fn check(&self, at: usize, length: usize) -> Option<usize> {
        if at > REACH {
            return None;
        }
        let from = self.start + at;
        if from + length > self.end {
            None
        } else {
            Some(from)
        }
    }
}
