//! What a socket counts, and what the kernel counts for it.

/// Counts of one socket since it was opened. Plain numbers: the worker that owns the socket
/// publishes them as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets received.
    pub received: u64,
    /// Packets received that spanned several frames.
    pub received_jumbo: u64,
    /// Packets dropped because no jumbo frame was free to gather them.
    pub jumbo_without_frame: u64,
    /// Packets dropped because they exceed a jumbo frame.
    pub jumbo_too_long: u64,
    /// Packets given to the kernel to send.
    pub transmitted: u64,
    /// Packets not sent: the transmit ring was full.
    pub refused_ring_full: u64,
    /// Packets not sent: no frame was free to copy them into (jumbo and heap frames only).
    pub refused_no_frame: u64,
    /// Packets not sent: shorter than an Ethernet header.
    pub refused_too_short: u64,
    /// Packets not sent: longer than a frame without multi-buffer, or than 17 fragments.
    pub refused_too_long: u64,
    /// Packets the kernel took and dropped, because the device's queue was full or it had no
    /// carrier (`EBUSY`).
    pub dropped_by_device: u64,
    /// System calls made to send.
    pub kicks: u64,
    /// Of these, how many the kernel could not finish (`EAGAIN`): buffers used up, or its budget.
    pub kicks_unfinished: u64,
    /// Of these, how many failed otherwise; see [`Socket::last_error`](crate::Socket::last_error).
    pub kicks_failed: u64,
    /// Times the pool could not fill up the fill ring.
    pub fill_short: u64,
    /// Times that left the kernel without a single frame to receive into.
    pub fill_starved: u64,
    /// Addresses the kernel returned that it had not been given: a driver's bug. Ignored.
    pub foreign_addresses: u64,
}

/// Counts the kernel keeps for a socket (`XDP_STATISTICS`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCounters {
    /// Packets dropped although the fill ring was not empty: too long for a frame, or of several
    /// frames of which there were too few.
    pub receive_dropped: u64,
    /// Fill ring addresses that were invalid.
    pub receive_invalid: u64,
    /// Packets dropped because the receive ring was full.
    pub receive_ring_full: u64,
    /// Times the fill ring was found empty. In copy mode every time is a packet dropped; with zero
    /// copy the driver fills its own ring from ours and counts the packets it drops itself.
    pub fill_ring_empty: u64,
    /// Transmit descriptors that were invalid.
    pub transmit_invalid: u64,
    /// Times the transmit ring was found empty.
    pub transmit_ring_empty: u64,
}

impl KernelCounters {
    /// From what the kernel says. In copy mode it counts a packet that finds the fill ring empty
    /// twice: as `rx_fill_ring_empty_descs`, and as `rx_dropped` (`__xsk_rcv` and `__xp_alloc` in
    /// net/xdp). Here it is in one of the counts only.
    pub(crate) fn new(kernel: &libc::xdp_statistics, zero_copy: bool) -> Self {
        let twice = if zero_copy {
            0
        } else {
            kernel.rx_fill_ring_empty_descs
        };
        Self {
            receive_dropped: kernel.rx_dropped.saturating_sub(twice),
            receive_invalid: kernel.rx_invalid_descs,
            receive_ring_full: kernel.rx_ring_full,
            fill_ring_empty: kernel.rx_fill_ring_empty_descs,
            transmit_invalid: kernel.tx_invalid_descs,
            transmit_ring_empty: kernel.tx_ring_empty_descs,
        }
    }
}

/// Which of a socket's rings its frames are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rings {
    /// Offered for receiving, in the fill ring.
    pub fill: u32,
    /// Received, in the receive ring.
    pub receive: u32,
    /// To be sent, in the transmit ring.
    pub transmit: u32,
    /// Sent, in the completion ring.
    pub completion: u32,
    /// With the kernel or the driver in none of the rings: being received into or sent.
    pub device: u32,
}
