//! Two endpoints in virtual time.

mod basics;
mod collisions;
mod flood;
mod peers;
mod world;
