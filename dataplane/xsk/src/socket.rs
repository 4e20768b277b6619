//! One AF_XDP socket: one queue of one interface.
//!
//! Receiving is in `receive.rs`, sending in `transmit.rs`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::counters::{Counters, KernelCounters, Rings};
use crate::held::Held;
use crate::mapping::Mapping;
use crate::options::{CopyMode, Granted, Interface, OpenError, Options, QueueId};
use crate::receive::Gathering;
use crate::ring::{Consumer, Descriptor, Layout, Producer};
use crate::sys;
use crate::umem::{Sharers, Umem};

/// How long to try to get a queue that is busy: the kernel frees a closed socket's queue in a
/// work queue, some milliseconds after `close`. Longer only delays the error when another program
/// has the queue.
const BUSY_PATIENCE: Duration = Duration::from_secs(1);

/// How a socket's interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Up.
    Up,
    /// Set down. Sending and receiving go on when it is set up again.
    Down,
    /// Removed. The socket is dead; drop it to get its frames back.
    Gone,
}

/// A socket on one queue of an interface, owned by one worker.
///
/// Dropping it frees the queue and returns all frames the kernel held to their memory area, from
/// where any pool takes them. (Frames that were on their way out, and all of them in zero-copy
/// mode, rest two seconds before, since a driver may touch them a moment longer.)
pub struct Socket {
    // The order of the fields is the order of dropping: the rings are unmapped, then the socket
    // is closed, and only then the frames return.
    pub(crate) rx: Consumer<Descriptor>,
    pub(crate) tx: Producer<Descriptor>,
    pub(crate) fill: Producer<u64>,
    pub(crate) completion: Consumer<u64>,
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) held: Held,
    pub(crate) umem: Umem,
    /// A packet of several frames of which not all have arrived.
    pub(crate) gathering: Gathering,
    /// Frames the fill ring lacks.
    pub(crate) fill_debt: u32,
    /// There may be packets in the transmit ring that the kernel has not been told of.
    pub(crate) unkicked: bool,
    pub(crate) counters: Counters,
    pub(crate) last_error: Option<i32>,
    interface: Interface,
    queue: QueueId,
    pub(crate) granted: Granted,
}

impl Socket {
    /// Opens a socket on a queue. It receives what an XDP program redirects to it through an
    /// `XSKMAP`, and nothing before [`refill`](Socket::refill).
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        umem: &Umem,
        interface: Interface,
        queue: QueueId,
        options: &Options,
    ) -> Result<Socket, OpenError> {
        for size in [
            options.fill_ring,
            options.receive_ring,
            options.transmit_ring,
        ] {
            if !size.is_power_of_two() || !(64..=65536).contains(&size) {
                return Err(OpenError::RingSize(size));
            }
        }
        let mut sharers = umem.sharers();
        umem.area().end_quarantine();
        let fd = sys::socket().map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => OpenError::NotPermitted,
            _ => OpenError::System {
                call: "socket",
                source: error,
            },
        })?;
        let fd = Arc::new(fd);
        let rings = map_rings(&fd, options).map_err(|source| OpenError::System {
            call: "ring set-up",
            source,
        })?;
        let granted = bind(umem, &mut sharers, &fd, interface, queue, options)?;
        tune(fd.as_fd(), options);
        let mut held = Held::new(umem.area());
        held.zero_copy = granted.zero_copy;
        let (rx, tx, fill, completion) = rings;
        Ok(Socket {
            rx,
            tx,
            completion,
            fd,
            held,
            umem: *umem,
            gathering: Gathering::default(),
            fill_debt: fill.size(),
            fill,
            unkicked: false,
            counters: Counters::default(),
            last_error: None,
            interface,
            queue,
            granted,
        })
    }

    /// The interface.
    pub fn interface(&self) -> Interface {
        self.interface
    }

    /// The queue.
    pub fn queue(&self) -> QueueId {
        self.queue
    }

    /// What the kernel granted.
    pub fn granted(&self) -> Granted {
        self.granted
    }

    /// The socket's counts so far.
    #[inline]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The kernel's counts for this socket. A system call.
    ///
    /// # Errors
    /// The kernel's.
    pub fn kernel_counters(&self) -> io::Result<KernelCounters> {
        let kernel = sys::get_option::<libc::xdp_statistics>(
            self.fd.as_fd(),
            libc::SOL_XDP,
            libc::XDP_STATISTICS,
        )?;
        Ok(KernelCounters::new(&kernel, self.granted().zero_copy))
    }

    /// Which rings the socket's frames are in, at this moment.
    pub fn rings(&mut self) -> Rings {
        let mut rings = Rings {
            fill: self.fill.pending(),
            receive: self.rx.pending(),
            transmit: self.tx.pending(),
            completion: self.completion.pending(),
            device: 0,
        };
        let seen = rings.fill + rings.receive + rings.transmit + rings.completion;
        rings.device = (self.held.receive() + self.held.transmit()).saturating_sub(seen);
        rings
    }

    /// Asks the kernel how the interface is. A system call: for housekeeping, not for the packet
    /// loop.
    pub fn link(&self) -> Link {
        match sys::wake_receive(self.fd.as_fd()) {
            Ok(()) => Link::Up,
            Err(error) => link_of(&error).unwrap_or(Link::Up),
        }
    }

    /// The last unexpected answer (`errno`) of the kernel to a call of this socket.
    pub fn last_error(&self) -> Option<io::Error> {
        self.last_error.map(io::Error::from_raw_os_error)
    }
}

impl AsFd for Socket {
    /// For `poll`, and for the entry in an `XSKMAP`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What an error of a wake-up call says about the interface, if anything.
pub(crate) fn link_of(error: &io::Error) -> Option<Link> {
    match error.raw_os_error() {
        Some(libc::ENETDOWN) => Some(Link::Down),
        Some(libc::ENXIO | libc::ENODEV) => Some(Link::Gone),
        _ => None,
    }
}

type RingSet = (
    Consumer<Descriptor>,
    Producer<Descriptor>,
    Producer<u64>,
    Consumer<u64>,
);

/// Makes the kernel allocate the four rings, and maps them. Must come before `bind`.
fn map_rings(fd: &OwnedFd, options: &Options) -> io::Result<RingSet> {
    let fd = fd.as_fd();
    // The kernel sends nothing while the completion ring is full; with room for two transmit rings
    // it never is.
    let completion_ring = options.transmit_ring * 2;
    for (name, size) in [
        (libc::XDP_UMEM_FILL_RING, options.fill_ring),
        (libc::XDP_UMEM_COMPLETION_RING, completion_ring),
        (libc::XDP_RX_RING, options.receive_ring),
        (libc::XDP_TX_RING, options.transmit_ring),
    ] {
        sys::set_option(fd, libc::SOL_XDP, name, size)?;
    }
    let offsets: libc::xdp_mmap_offsets =
        sys::get_option(fd, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS)?;
    let map = |offset: &libc::xdp_ring_offset, size: u32, entry: usize, page: i64| {
        let layout = Layout {
            producer: offset.producer as usize,
            consumer: offset.consumer as usize,
            flags: offset.flags as usize,
            entries: offset.desc as usize,
        };
        let len = layout.entries + size as usize * entry;
        Mapping::shared(fd, len, page).map(|mapping| (Arc::new(mapping), layout, size))
    };
    let descriptor = size_of::<Descriptor>();
    let rx = map(
        &offsets.rx,
        options.receive_ring,
        descriptor,
        libc::XDP_PGOFF_RX_RING,
    )?;
    let tx = map(
        &offsets.tx,
        options.transmit_ring,
        descriptor,
        libc::XDP_PGOFF_TX_RING,
    )?;
    let fill = map(
        &offsets.fr,
        options.fill_ring,
        8,
        libc::XDP_UMEM_PGOFF_FILL_RING as i64,
    )?;
    let completion = map(
        &offsets.cr,
        completion_ring,
        8,
        libc::XDP_UMEM_PGOFF_COMPLETION_RING as i64,
    )?;
    // SAFETY: the rings of a new socket, each mapped once; the kernel is their other side.
    Ok(unsafe {
        (
            Consumer::new(rx.0, rx.1, rx.2),
            Producer::new(tx.0, tx.1, tx.2),
            Producer::new(fill.0, fill.1, fill.2),
            Consumer::new(completion.0, completion.1, completion.2),
        )
    })
}

/// Binds to the queue: as one more user of the UMEM, or as its first.
fn bind(
    umem: &Umem,
    sharers: &mut Sharers,
    fd: &Arc<OwnedFd>,
    interface: Interface,
    queue: QueueId,
    options: &Options,
) -> Result<Granted, OpenError> {
    if let Some((granted, sockets)) = sharers.find() {
        let copy_differs = match options.copy {
            CopyMode::PreferZeroCopy => false,
            CopyMode::ZeroCopy => !granted.zero_copy,
            CopyMode::Copy => granted.zero_copy,
        };
        if copy_differs
            || options.multi_buffer != granted.multi_buffer
            || options.need_wakeup != granted.need_wakeup
        {
            return Err(OpenError::Differs { granted });
        }
        for socket in &sockets {
            let mut address = address(interface, queue, libc::XDP_SHARED_UMEM);
            address.sxdp_shared_umem_fd = std::os::fd::AsRawFd::as_raw_fd(&**socket) as u32;
            match bind_patiently(fd.as_fd(), &address) {
                Ok(()) => {
                    sharers.add(Arc::downgrade(fd), granted);
                    return Ok(granted);
                }
                // That one's interface was removed; another may do.
                Err(error) if error.raw_os_error() == Some(libc::EBADF) => {}
                Err(error) => return Err(bind_error(error, interface, queue)),
            }
        }
        // All sockets lost their interfaces. The memory can be registered again.
    }
    umem.register(fd.as_fd())
        .map_err(|source| match source.raw_os_error() {
            Some(libc::ENOBUFS) => OpenError::MemoryLimit,
            Some(libc::EPERM) => OpenError::NotPermitted,
            _ => OpenError::System {
                call: "UMEM registration",
                source,
            },
        })?;
    let mut flags = match options.copy {
        // Without either flag the kernel tries zero copy and falls back.
        CopyMode::PreferZeroCopy => 0,
        CopyMode::ZeroCopy => libc::XDP_ZEROCOPY,
        CopyMode::Copy => libc::XDP_COPY,
    };
    if options.need_wakeup {
        flags |= libc::XDP_USE_NEED_WAKEUP;
    }
    if options.multi_buffer {
        flags |= libc::XDP_USE_SG;
    }
    bind_patiently(fd.as_fd(), &address(interface, queue, flags))
        .map_err(|error| bind_error(error, interface, queue))?;
    let got: libc::xdp_options = sys::get_option(fd.as_fd(), libc::SOL_XDP, libc::XDP_OPTIONS)
        .map_err(|source| OpenError::System {
            call: "XDP_OPTIONS",
            source,
        })?;
    let granted = Granted {
        zero_copy: got.flags & libc::XDP_OPTIONS_ZEROCOPY != 0,
        need_wakeup: options.need_wakeup,
        multi_buffer: options.multi_buffer,
    };
    sharers.add(Arc::downgrade(fd), granted);
    Ok(granted)
}

fn address(interface: Interface, queue: QueueId, flags: u16) -> libc::sockaddr_xdp {
    libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: flags,
        sxdp_ifindex: interface.index(),
        sxdp_queue_id: queue.0,
        sxdp_shared_umem_fd: 0,
    }
}

fn bind_patiently(fd: BorrowedFd<'_>, address: &libc::sockaddr_xdp) -> io::Result<()> {
    let until = Instant::now() + BUSY_PATIENCE;
    loop {
        match sys::bind(fd, address) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < until => {
                thread::sleep(Duration::from_millis(2));
            }
            done => return done,
        }
    }
}

fn bind_error(source: io::Error, interface: Interface, queue: QueueId) -> OpenError {
    let (interface, queue) = (interface.index(), queue.0);
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => OpenError::NotPermitted,
        Some(libc::ENODEV) => OpenError::NoInterface(interface),
        Some(libc::EINVAL) => OpenError::NoQueue { interface, queue },
        Some(libc::EBUSY) => OpenError::Busy { interface, queue },
        Some(libc::EOPNOTSUPP) => OpenError::NoZeroCopy { interface },
        _ => OpenError::System {
            call: "bind",
            source,
        },
    }
}

/// Settings that only make sending faster; kernels that do not know or permit them do without.
fn tune(fd: BorrowedFd<'_>, options: &Options) {
    let budget = options.transmit_budget.clamp(32, options.transmit_ring);
    let _ = sys::set_option(fd, libc::SOL_XDP, sys::XDP_MAX_TX_SKB_BUDGET, budget);
    let bytes = options.send_buffer.min(i32::MAX as u32) as i32;
    if sys::set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes).is_err() {
        let _ = sys::set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes);
    }
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
