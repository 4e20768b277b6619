//! The system calls of AF_XDP sockets, each as a safe function.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// `XDP_MAX_TX_SKB_BUDGET`, since Linux 6.17: packets the kernel sends in one `sendto` in copy mode.
pub(crate) const XDP_MAX_TX_SKB_BUDGET: i32 = 9;

/// Plain structures the kernel reads or writes as socket options.
///
/// # Safety
/// `repr(C)` without padding, and valid for any bit pattern.
pub(crate) unsafe trait Plain: Copy {}
// SAFETY: integers only, no padding.
unsafe impl Plain for u32 {}
// SAFETY: integers only, no padding.
unsafe impl Plain for i32 {}
// SAFETY: two `u64` and four `u32`.
unsafe impl Plain for libc::xdp_umem_reg {}
// SAFETY: sixteen `u64`.
unsafe impl Plain for libc::xdp_mmap_offsets {}
// SAFETY: six `u64`.
unsafe impl Plain for libc::xdp_statistics {}
// SAFETY: one `u32`.
unsafe impl Plain for libc::xdp_options {}

/// A new AF_XDP socket.
pub(crate) fn socket() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    check(fd)?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn set_option<T: Plain>(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: T,
) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of `value`, which lives through the call.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            ptr::from_ref(&value).cast(),
            size_of::<T>() as u32,
        )
    })
}

/// What the kernel knows of an option; older kernels fill only the beginning, the rest is zero.
pub(crate) fn get_option<T: Plain>(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>() as u32;
    // SAFETY: the kernel writes at most `len` bytes to `value`.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &mut len,
        )
    })?;
    // SAFETY: zeroed and possibly overwritten, and any bit pattern is a `T`.
    Ok(unsafe { value.assume_init() })
}

pub(crate) fn bind(fd: BorrowedFd<'_>, address: &libc::sockaddr_xdp) -> io::Result<()> {
    // SAFETY: the kernel reads the structure, whose length is passed with it.
    check(unsafe {
        libc::bind(
            fd.as_raw_fd(),
            ptr::from_ref(address).cast(),
            size_of::<libc::sockaddr_xdp>() as u32,
        )
    })
}

/// Makes the kernel look at the transmit ring.
#[inline]
pub(crate) fn wake_transmit(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: an empty message, no memory is passed.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            ptr::null(),
            0,
            libc::MSG_DONTWAIT,
            ptr::null(),
            0,
        )
    };
    check(sent as i32)
}

/// Makes the kernel look at the fill ring, and says how the socket's link is.
#[inline]
pub(crate) fn wake_receive(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: an empty buffer, no memory is passed.
    let got = unsafe {
        libc::recvfrom(
            fd.as_raw_fd(),
            ptr::null_mut(),
            0,
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    check(got as i32)
}

/// Sleeps until a descriptor is ready or the time is over; how many are ready.
pub(crate) fn poll(descriptors: &mut [libc::pollfd], timeout: libc::timespec) -> io::Result<usize> {
    // SAFETY: the array and its length belong together; no signal mask is passed.
    let ready = unsafe {
        libc::ppoll(
            descriptors.as_mut_ptr(),
            descriptors.len() as libc::nfds_t,
            &timeout,
            ptr::null(),
        )
    };
    check(ready)?;
    Ok(ready as usize)
}

/// The index of the interface of that name, in this network namespace.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    let name = std::ffi::CString::new(name)?;
    // SAFETY: a string that ends with a zero and lives through the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
