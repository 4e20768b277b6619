//! The memory that packets are received into and sent from without a copy in this process.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::area::Area;
use crate::mapping::Mapping;
use crate::options::Granted;
use crate::pool::FramePool;
use crate::sys;

/// Packet memory shared with the kernel, cut into frames of one size.
///
/// All sockets of a data plane share one UMEM, so a frame received on one interface is sent on
/// another as it is. The first socket registers the memory, the later ones join it. It lives until
/// the process ends (frames carry no reference count because of that): make one at start.
///
/// The kernel counts registered memory against `RLIMIT_MEMLOCK` unless the process has
/// `CAP_IPC_LOCK`.
#[derive(Clone, Copy)]
pub struct Umem {
    inner: &'static Inner,
}

struct Inner {
    area: &'static Area,
    huge_pages: bool,
    sharers: Mutex<Sharers>,
}

/// The sockets that are bound to the UMEM, through any of which another can join.
#[derive(Default)]
pub(crate) struct Sharers {
    sockets: Vec<Weak<OwnedFd>>,
    sharing: Option<Granted>,
}

impl Umem {
    /// `frames` frames of `chunk` bytes (2048, or 4096 for fewer descriptors per jumbo packet) in
    /// fresh memory, and the pool with all of them.
    ///
    /// # Errors
    /// When the memory is not to be had, or with `InvalidInput` when the sizes are not possible.
    pub fn new(frames: u32, chunk: u32) -> io::Result<(Umem, FramePool)> {
        Umem::map(frames, chunk, false)
    }

    /// As [`new`](Umem::new), on huge pages of 2 MiB if the system has enough of them reserved
    /// (`vm.nr_hugepages`), else on ordinary ones: ask [`huge_pages`](Umem::huge_pages).
    ///
    /// # Errors
    /// As [`new`](Umem::new).
    pub fn with_huge_pages(frames: u32, chunk: u32) -> io::Result<(Umem, FramePool)> {
        Umem::map(frames, chunk, true)
    }

    fn map(frames: u32, chunk: u32, huge: bool) -> io::Result<(Umem, FramePool)> {
        if frames == 0 || !matches!(chunk, 2048 | 4096) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "a UMEM has at least one frame, of 2048 or 4096 bytes; asked for {frames} of {chunk}"
                ),
            ));
        }
        let (mapping, huge_pages) = Mapping::anonymous(frames as usize * chunk as usize, huge)?;
        // SAFETY: fresh, zeroed, leaked, and known to nobody else.
        let area = unsafe { Area::leak(mapping.leak(), frames, chunk) };
        let inner = Box::leak(Box::new(Inner {
            area,
            huge_pages,
            sharers: Mutex::default(),
        }));
        // SAFETY: the area is new.
        Ok((Umem { inner }, unsafe { FramePool::whole(area) }))
    }

    /// Whether the memory is on huge pages.
    pub fn huge_pages(&self) -> bool {
        self.inner.huge_pages
    }

    /// Number of frames.
    pub fn frames(&self) -> u32 {
        self.inner.area.count()
    }

    /// Bytes in a frame.
    pub fn chunk(&self) -> u32 {
        self.inner.area.chunk()
    }

    #[inline]
    pub(crate) fn area(&self) -> &'static Area {
        self.inner.area
    }

    /// The sockets bound to this UMEM. Opening holds the lock, so that two first sockets cannot
    /// both register it.
    pub(crate) fn sharers(&self) -> MutexGuard<'_, Sharers> {
        self.inner
            .sharers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers the memory with a new socket.
    pub(crate) fn register(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let area = self.inner.area;
        let registration = libc::xdp_umem_reg {
            addr: area.base().as_ptr() as u64,
            len: area.bytes() as u64,
            chunk_size: area.chunk(),
            // On top of the kernel's own 256 bytes.
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        sys::set_option(fd, libc::SOL_XDP, libc::XDP_UMEM_REG, registration)
    }
}

impl Sharers {
    /// How the UMEM is shared, and a socket to join it through; none when there is no socket.
    pub(crate) fn find(&mut self) -> Option<(Granted, Vec<Arc<OwnedFd>>)> {
        self.sockets.retain(|socket| socket.strong_count() > 0);
        let sockets: Vec<_> = self.sockets.iter().filter_map(Weak::upgrade).collect();
        if sockets.is_empty() {
            self.sharing = None;
        }
        Some((self.sharing?, sockets))
    }

    pub(crate) fn add(&mut self, socket: Weak<OwnedFd>, sharing: Granted) {
        self.sockets.push(socket);
        self.sharing = Some(sharing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_a_wish() {
        let (umem, mut pool) = Umem::with_huge_pages(700, 4096).unwrap();
        assert_eq!((umem.frames(), umem.chunk(), pool.len()), (700, 4096, 700));
        // Granted or not, all of it is there.
        let mut frames: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        for frame in &mut frames {
            assert!(frame.set(&[7; 3840]));
        }
        assert_eq!(frames.len(), 700);
        assert!(!Umem::new(1, 2048).unwrap().0.huge_pages());
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for (frames, chunk) in [(0, 2048), (1, 1024), (1, 8192), (1, 3000)] {
            let error = Umem::new(frames, chunk).map(drop).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
