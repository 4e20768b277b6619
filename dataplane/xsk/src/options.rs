//! What to open, how, and why it may fail.

use std::io;
use std::num::NonZeroU32;

use crate::sys;

/// An interface by its index, in the network namespace of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Interface(NonZeroU32);

impl Interface {
    /// The interface with this index.
    pub fn new(index: NonZeroU32) -> Interface {
        Interface(index)
    }

    /// The interface with this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(name: &str) -> io::Result<Interface> {
        let index = sys::interface_index(name)?;
        NonZeroU32::new(index)
            .map(Interface)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The index.
    pub fn index(self) -> u32 {
        self.0.get()
    }
}

/// A queue of an interface, counted from 0.
///
/// A socket receives what the interface puts in that queue and sends through the transmit queue of
/// the same number. On veth, what one end sends on a queue the other receives on the queue of the
/// same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u32);

/// Who moves packet bytes between the driver and the UMEM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CopyMode {
    /// The NIC itself where the driver can (zero copy), else the kernel by copying. The first
    /// socket of a UMEM decides for all.
    #[default]
    PreferZeroCopy,
    /// The NIC itself, or the open fails.
    ZeroCopy,
    /// The kernel, by copying.
    Copy,
}

/// How to open a socket. Ring sizes are in descriptors and powers of two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Who copies. Shared by all sockets of a UMEM.
    pub copy: CopyMode,
    /// Let the driver sleep and ask for system calls (`XDP_USE_NEED_WAKEUP`). Without it a
    /// zero-copy driver must be served from another core. Shared by all sockets of a UMEM.
    pub need_wakeup: bool,
    /// Accept packets that span several frames (`XDP_USE_SG`, Linux 6.6). Needs an XDP program
    /// with fragment support, and pools with jumbo frames. Shared by all sockets of a UMEM.
    pub multi_buffer: bool,
    /// Frames offered to the kernel for receiving, and the size of the fill ring. Too few: bursts
    /// are dropped. Too many: memory, and frames that are cold in the cache when they return.
    pub fill_ring: u32,
    /// Packets that wait between two visits of the worker. No more arrive than frames were offered.
    pub receive_ring: u32,
    /// Packets that wait for the kernel to send them.
    pub transmit_ring: u32,
    /// Packets the kernel sends in one system call in copy mode; 32 on kernels before 6.17, which
    /// do not know the option. Clamped to 32 and the size of the transmit ring.
    pub transmit_budget: u32,
    /// Bytes of kernel buffers that may be on their way in copy mode. A packet counts with all of
    /// its buffer: roughly 800 bytes for the smallest, 2300 for 1500 bytes. With less than a
    /// transmit ring's worth the kernel takes packets later (`EAGAIN`), which costs calls, not
    /// packets. Beyond the system's `net.core.wmem_max` only with `CAP_NET_ADMIN`.
    pub send_buffer: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            copy: CopyMode::default(),
            need_wakeup: true,
            multi_buffer: false,
            fill_ring: 2048,
            receive_ring: 2048,
            transmit_ring: 2048,
            transmit_budget: 2048,
            send_buffer: 8 << 20,
        }
    }
}

/// What the kernel granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The NIC reads and writes the frames itself.
    pub zero_copy: bool,
    /// The kernel says when it wants a system call.
    pub need_wakeup: bool,
    /// Packets may span several frames.
    pub multi_buffer: bool,
}

/// Why a socket could not be opened, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The process lacks rights.
    #[error("not permitted to open AF_XDP sockets: run with CAP_NET_RAW, or as root")]
    NotPermitted,
    /// The interface is not there.
    #[error("there is no interface with index {0} in this network namespace")]
    NoInterface(u32),
    /// The interface has fewer queues.
    #[error("interface {interface} has no queue {queue}: see `ethtool -l`")]
    NoQueue {
        /// Index of the interface.
        interface: u32,
        /// The queue asked for.
        queue: u32,
    },
    /// Somebody else has the queue.
    #[error("queue {queue} of interface {interface} is in use by another AF_XDP socket")]
    Busy {
        /// Index of the interface.
        interface: u32,
        /// The queue asked for.
        queue: u32,
    },
    /// The kernel refuses to lock that much memory.
    #[error("the UMEM exceeds RLIMIT_MEMLOCK: raise it, or run with CAP_IPC_LOCK")]
    MemoryLimit,
    /// Zero copy was required, or the UMEM's other sockets have it.
    #[error(
        "interface {interface} cannot do zero copy (with these options), and the UMEM's sockets \
         must be alike: open all of them in copy mode"
    )]
    NoZeroCopy {
        /// Index of the interface.
        interface: u32,
    },
    /// The UMEM is shared with other properties.
    #[error(
        "the UMEM's sockets share one copy mode, wake-up mode and multi-buffer mode; \
         they have {granted:?}, which is not what was asked for"
    )]
    Differs {
        /// What the UMEM's sockets have.
        granted: Granted,
    },
    /// A ring size is not possible.
    #[error("ring sizes are powers of two from 64 to 65536, not {0}")]
    RingSize(u32),
    /// Something else.
    #[error("AF_XDP {call} failed")]
    System {
        /// The call.
        call: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}
