//! Small arrays in front of hash maps.
//!
//! A lookup in a kernel hash map is a call that was measured as 25 ns; one in an array is a bounds
//! check and a load, made in place. Every packet asks which port it came in on and whether its
//! destination is one of our few outside addresses. So an array answers first: each key has one
//! place in it, and only keys that share a place with another need the map.

use crate::map::{PORT_WORDS, Port};

/// Entries of `PORT_FRONT`.
pub const PORT_FRONT: u32 = 64;
/// Words of an entry of `PORT_FRONT`: the interface, then its port.
pub const PORT_FRONT_WORDS: usize = 1 + PORT_WORDS;
/// Entries of `LOCAL_FRONT`. With some 40 addresses one in 25 shares its place.
pub const LOCAL_FRONT: u32 = 1 << LOCAL_FRONT_BITS;

const LOCAL_FRONT_BITS: u32 = 10;
const ONE: u64 = 1 << 32;
const MORE: u64 = 1 << 33;

/// The place of an interface in `PORT_FRONT`.
#[must_use]
#[inline(always)]
pub const fn port_place(interface: u32) -> u32 {
    interface % PORT_FRONT
}

/// The entry for a port. Interfaces count from 1, so zeros are no port.
#[must_use]
pub const fn port_entry(interface: u32, port: &Port) -> [u32; PORT_FRONT_WORDS] {
    let [role, slot, mac_high, mac_low] = port.encode();
    [interface, role, slot, mac_high, mac_low]
}

/// The port of an interface, if the entry at its place is its own; otherwise ask the map.
#[must_use]
#[inline(always)]
pub const fn port_of(entry: &[u32; PORT_FRONT_WORDS], interface: u32) -> Option<Port> {
    let [owner, role, slot, mac_high, mac_low] = *entry;
    if owner == interface {
        Some(Port::decode(&[role, slot, mac_high, mac_low]))
    } else {
        None
    }
}

/// The place of an IPv4 address in `LOCAL_FRONT`.
#[must_use]
#[inline(always)]
pub const fn local_place(address: u32) -> u32 {
    // Fibonacci hashing: neighbouring addresses, as an AWS customer's own are, go far apart.
    address.wrapping_mul(0x9e37_79b1) >> (32 - LOCAL_FRONT_BITS)
}

/// An entry with one more address.
#[must_use]
pub const fn local_entry_with(entry: u64, address: u32) -> u64 {
    if entry == 0 {
        ONE | address as u64
    } else {
        entry | MORE
    }
}

/// Whether an address is local, if the entry at its place can tell; otherwise ask the map.
#[must_use]
#[inline(always)]
pub const fn is_local(entry: u64, address: u32) -> Option<bool> {
    if entry == 0 {
        Some(false)
    } else if entry as u32 == address {
        Some(true)
    } else if entry & MORE == 0 {
        Some(false)
    } else {
        None
    }
}
