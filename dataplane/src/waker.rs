//! Wakes a thread that sleeps in poll(2).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering, fence},
};

use rustix::event::{EventfdFlags, eventfd};

/// An eventfd, written only when its owner sleeps.
pub struct Waker {
    fd: OwnedFd,
    asleep: AtomicBool,
}

impl Waker {
    /// A waker for one thread.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            fd,
            asleep: AtomicBool::new(false),
        })
    }

    /// Says that the owner is about to sleep. It must look for work once more after this, and
    /// before it sleeps: work announced before was not signalled.
    pub fn going_to_sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        // Pairs with the fence in `wake`: either the owner sees the work, or the other side sees
        // that it sleeps.
        fence(Ordering::SeqCst);
    }

    /// Says that the owner is awake, and empties the eventfd.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        let mut count = [0; 8];
        // Fails with EAGAIN when nobody has signalled.
        let _ = rustix::io::read(&self.fd, &mut count);
    }

    /// Wakes the owner if it sleeps. The work must be visible to it already.
    #[inline]
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            // Fails only when the counter is full: then the owner wakes anyway.
            let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        }
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
