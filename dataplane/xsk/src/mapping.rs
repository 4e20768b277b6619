//! Memory maps that unmap themselves.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

/// Size of the huge pages asked for; the default size on x86-64 and most arm64 kernels.
const HUGE_PAGE: usize = 2 << 20;

/// One mapping of zeroed or kernel-shared memory.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread, and this type only keeps its address.
unsafe impl Send for Mapping {}
// SAFETY: as above; there is no access through `&Mapping`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `len` bytes of zeroed memory, on huge pages if `huge` and the system has enough of them
    /// reserved. Tells whether it got them.
    pub(crate) fn anonymous(len: usize, huge: bool) -> io::Result<(Mapping, bool)> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        if huge {
            let rounded = len.next_multiple_of(HUGE_PAGE);
            // Populated at once: with overcommitted huge pages the fault would kill us later.
            let flags = flags | libc::MAP_HUGETLB | libc::MAP_POPULATE;
            if let Ok(mapping) = Mapping::map(rounded, flags, -1, 0) {
                return Ok((mapping, true));
            }
        }
        Mapping::map(len, flags, -1, 0).map(|mapping| (mapping, false))
    }

    /// `len` bytes of what the kernel shares at `offset` of a socket.
    pub(crate) fn shared(fd: BorrowedFd<'_>, len: usize, offset: i64) -> io::Result<Mapping> {
        Mapping::map(
            len,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            fd.as_raw_fd(),
            offset,
        )
    }

    fn map(len: usize, flags: i32, fd: i32, offset: i64) -> io::Result<Mapping> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses a free address range, so no memory in use is touched.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { start, len })
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Keeps the memory mapped until the process ends.
    pub(crate) fn leak(self) -> NonNull<u8> {
        std::mem::ManuallyDrop::new(self).start
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `mmap` gave. Users of the memory own the mapping (rings) or leak it
        // (areas), so nothing points into it any more. Failure would leave it mapped, harmlessly.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
