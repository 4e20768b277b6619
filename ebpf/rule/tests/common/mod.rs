//! Frames to judge, and what the verdict must be: shared by the tests of both sides.
//!
//! Two independent statements of the rule stand against the implementation:
//! [`Frame::expected`] knows from a frame's *description* what must become of it, and
//! [`model::verdict`] reads any *bytes*, however damaged, in another way than the rule does.

pub(crate) mod frames;
pub(crate) mod model;
pub(crate) mod world;
