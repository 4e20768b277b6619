//! AF_XDP: packet buffers, rings and sockets with a safe interface.
//!
//! The unit of everything is the [`Frame`], an exclusively owned packet buffer. A frame is in
//! exactly one place: in a [`FramePool`], with the kernel (in one of a socket's rings), or in the
//! hands of the code that works on the packet. Moving it from one place to the next moves the
//! value, so a frame cannot be sent twice, and one that is dropped goes back to its memory area
//! by itself.
//!
//! ```text
//!             refill                      receive
//!   FramePool ------> fill ring | kernel | receive ring ------> Frame
//!       ^                                                         |
//!       | recycle                         transmit, kick          v
//!       +---- completion ring | kernel | transmit ring <------- Frame
//! ```
//!
//! A [`Umem`] is the memory, shared by all sockets of a process; a [`Socket`] is one queue of one
//! interface and belongs to one worker. Nothing here is behind a lock in the packet path, and
//! nothing allocates there.
//!
//! # Why our own rings
//! xsk-rs 0.11, the obvious base, does not fit in two places. Its `FrameDesc` has no public way to
//! set the address and length to send (both fields are `pub(crate)`), so a header cannot be put in
//! front of a received packet without copying the packet: what a tunnel gateway does with each
//! one. And its `wakeup` makes `EAGAIN`, `EBUSY` and `ENETDOWN` all `Ok`, so neither a lost packet
//! nor a dead link is seen. It also builds libxdp, libbpf and libelf from C. The rings are small:
//! here they are on `libc` alone.
//!
//! # Limits
//! Aligned chunks of 2048 or 4096 bytes; no transmit metadata (checksum offload); no busy polling.
//! Zero copy is asked for and reported, but has been run on no NIC yet: veth refuses it.

mod area;
mod audit;
mod counters;
mod frame;
mod held;
mod mapping;
mod options;
mod pool;
mod receive;
mod ring;
mod socket;
mod sys;
mod transmit;
mod umem;
mod wakeup;

pub use audit::Census;
pub use counters::{Counters, KernelCounters, Rings};
pub use frame::{Frame, HEADROOM};
pub use options::{CopyMode, Granted, Interface, OpenError, Options, QueueId};
pub use pool::{FramePool, JUMBO};
pub use receive::FrameSink;
pub use socket::{Link, Socket};
pub use transmit::Refusal;
pub use umem::Umem;
pub use wakeup::{
    LONGEST_SLEEP, PollSet, RETRY, Rest, Round, SPIN, UnknownMode, Wakeup, WakeupMode,
};

/// Workers are threads: what they own moves there.
const _: () = {
    const fn moves<T: Send>() {}
    const fn is_shared<T: Send + Sync>() {}
    moves::<Frame>();
    moves::<FramePool>();
    moves::<Socket>();
    moves::<PollSet>();
    is_shared::<Umem>();
};
