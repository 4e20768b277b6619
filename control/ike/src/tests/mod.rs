//! Two endpoints in virtual time.

mod basics;
mod certificates;
mod collisions;
mod features;
mod flood;
mod many;
mod orders;
mod peers;
mod rekeys;
mod world;
