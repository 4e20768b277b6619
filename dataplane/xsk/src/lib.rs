//! AF_XDP: packet buffers, rings and sockets with a safe interface.
//!
//! The unit of everything is the [`Frame`], an exclusively owned packet buffer. A frame is in
//! exactly one place: in a [`FramePool`], with the kernel (in one of a socket's rings), or in the
//! hands of the code that works on the packet. Moving it from one place to the next moves the
//! value, so a frame cannot be sent twice, and one that is dropped goes back to its memory area
//! by itself.

mod area;
mod audit;
mod frame;
mod pool;

pub use audit::Census;
pub use frame::{Frame, HEADROOM};
pub use pool::{FramePool, JUMBO};
