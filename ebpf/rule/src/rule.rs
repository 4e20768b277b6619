//! The rule itself.

use crate::{
    frame::Packet,
    map::{Action, Port},
    verdict::{Passed, Taken, Verdict},
};

const ETHERNET_HEADER: usize = 14;
const VLAN_TAG: usize = 4;
const VLAN_TAGS: usize = 2;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: u16 = 8;
/// SPI and sequence number: less cannot be ESP.
const ESP_HEADER: u16 = 8;

const ETHER_IPV4: u16 = 0x0800;
const ETHER_IPV6: u16 = 0x86dd;
const ETHER_CUSTOMER_TAG: u16 = 0x8100;
const ETHER_SERVICE_TAG: u16 = 0x88a8;

const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ESP: u8 = 50;
const EXTENSION_HOP_BY_HOP: u8 = 0;
const EXTENSION_ROUTING: u8 = 43;
const EXTENSION_FRAGMENT: u8 = 44;
const EXTENSION_DESTINATION: u8 = 60;

/// IKE and ESP share this port when there is a NAT (RFC 3948).
const PORT_NAT_T: u16 = 4500;

/// More fragments follow, or this is not the first one.
const IPV4_FRAGMENT: u16 = 0x3fff;

/// How many IPv6 extension headers are walked. RFC 8200, 4.1 recommends an order with at most five
/// before ESP or UDP (destination options twice), fragment header included.
const EXTENSIONS: usize = 6;

/// Where addresses are looked up; an address is the number its bytes make, the first the highest
/// (as in `Ipv4Addr::to_bits`).
pub trait Tables {
    /// Whether inside traffic with this 802.1Q tag is ours on the port the frame arrived on.
    fn is_inside_vlan(&self, number: u16) -> bool;
    /// Whether this is an outside address of one of our tunnels.
    fn is_local_v4(&self, address: u32) -> bool;
    /// Whether this is an outside address of one of our tunnels.
    fn is_local_v6(&self, address: u128) -> bool;
    /// What the longest prefix that holds this destination says, if there is one.
    fn inside_v4(&self, destination: u32) -> Option<Action>;
    /// What the longest prefix that holds this destination says, if there is one.
    fn inside_v6(&self, destination: u128) -> Option<Action>;
}

/// The VLAN a frame belongs to, as far as inside traffic is concerned.
#[derive(Clone, Copy)]
enum Vlan {
    Untagged,
    Tagged(u16),
    /// Two tags: never an inside VLAN of ours.
    Stacked,
}

impl Vlan {
    const NUMBER: u16 = 0xfff;

    /// With one more tag inside; number 0 only carries a priority (802.1Q, 9.6).
    #[inline(always)]
    const fn with_tag(self, tag: u16) -> Self {
        match (self, tag & Self::NUMBER) {
            (same, 0) => same,
            (Self::Untagged, number) => Self::Tagged(number),
            _ => Self::Stacked,
        }
    }

    #[inline(always)]
    fn is_inside<T: Tables>(self, port: &Port, tables: &T) -> bool {
        match self {
            Self::Untagged => port.is_inside(),
            Self::Tagged(number) => tables.is_inside_vlan(number),
            Self::Stacked => false,
        }
    }
}

/// Decides whose a frame is that arrived on `port`.
///
/// Never returns [`Passed::NoSocket`] or [`Passed::NoPort`]: those are found by the program around
/// it, which counts a take without a socket under both.
#[inline(always)]
pub fn judge<P: Packet + ?Sized, T: Tables>(frame: &P, port: &Port, tables: &T) -> Verdict {
    match decide(frame, port, tables) {
        Some(verdict) => verdict,
        // A load failed: the frame ends within a header.
        None => Verdict::Pass(Passed::Malformed),
    }
}

#[inline(always)]
fn decide<P: Packet + ?Sized, T: Tables>(frame: &P, port: &Port, tables: &T) -> Option<Verdict> {
    let station = [frame.be16(0)?, frame.be16(2)?, frame.be16(4)?];
    if !port.is_station(station) {
        return Some(Verdict::Pass(Passed::OtherStation));
    }
    let mut ether_type = frame.be16(ETHERNET_HEADER - 2)?;
    let mut at = ETHERNET_HEADER;
    let mut vlan = Vlan::Untagged;
    for _ in 0..VLAN_TAGS {
        if ether_type != ETHER_CUSTOMER_TAG && ether_type != ETHER_SERVICE_TAG {
            break;
        }
        vlan = vlan.with_tag(frame.be16(at)?);
        ether_type = frame.be16(at + 2)?;
        at += VLAN_TAG;
    }
    match ether_type {
        ETHER_IPV4 => ipv4(frame, at, port, vlan, tables),
        ETHER_IPV6 => ipv6(frame, at, port, vlan, tables),
        _ => Some(Verdict::Pass(Passed::NotIp)),
    }
}

#[inline(always)]
fn ipv4<P: Packet + ?Sized, T: Tables>(
    frame: &P,
    at: usize,
    port: &Port,
    vlan: Vlan,
    tables: &T,
) -> Option<Verdict> {
    // The last field first: one failed load says that the header is cut short.
    let destination = frame.be32(at + 16)?;
    let version_length = frame.u8(at)?;
    if version_length >> 4 != 4 {
        return Some(Verdict::Pass(Passed::Malformed));
    }
    // A length that no header has is read as the shortest: whoever the packet would be for drops
    // it, and the data plane counts what it drops.
    let header = (usize::from(version_length & 0xf) * 4).max(IPV4_HEADER);
    if tables.is_local_v4(destination) {
        if !port.is_outside() {
            return Some(Verdict::Pass(Passed::Local));
        }
        let protocol = frame.u8(at + 9)?;
        let is_fragment = frame.be16(at + 6)? & IPV4_FRAGMENT != 0;
        return local(frame, at + header, protocol, is_fragment);
    }
    if !vlan.is_inside(port, tables) {
        return Some(Verdict::Pass(Passed::NoRoute));
    }
    if is_special_v4(destination) {
        return Some(Verdict::Pass(Passed::Special));
    }
    Some(inside(tables.inside_v4(destination)))
}

#[inline(always)]
fn ipv6<P: Packet + ?Sized, T: Tables>(
    frame: &P,
    at: usize,
    port: &Port,
    vlan: Vlan,
    tables: &T,
) -> Option<Verdict> {
    let destination = frame.be128(at + 24)?;
    if frame.u8(at)? >> 4 != 6 {
        return Some(Verdict::Pass(Passed::Malformed));
    }
    if tables.is_local_v6(destination) {
        if !port.is_outside() {
            return Some(Verdict::Pass(Passed::Local));
        }
        return ipv6_local(frame, at);
    }
    if !vlan.is_inside(port, tables) {
        return Some(Verdict::Pass(Passed::NoRoute));
    }
    if is_special_v6(destination) {
        return Some(Verdict::Pass(Passed::Special));
    }
    Some(inside(tables.inside_v6(destination)))
}

/// Walks the extension headers of a packet for one of our outside addresses (RFC 8200, 4).
#[inline(always)]
fn ipv6_local<P: Packet + ?Sized>(frame: &P, at: usize) -> Option<Verdict> {
    let mut next = frame.u8(at + 6)?;
    let mut at = at + IPV6_HEADER;
    for _ in 0..=EXTENSIONS {
        match next {
            EXTENSION_HOP_BY_HOP | EXTENSION_DESTINATION | EXTENSION_ROUTING => {
                // Segments left: this is not the packet's last stop, so the kernel's business.
                if next == EXTENSION_ROUTING && frame.u8(at + 3)? != 0 {
                    return Some(Verdict::Pass(Passed::Extension));
                }
                let [following, length] = frame.load(at)?;
                next = following;
                at += usize::from(length) * 8 + 8;
            }
            // Behind it may be anything, so no further look; even a fragment that is whole
            // (RFC 6946) is none of what our peers send.
            EXTENSION_FRAGMENT => {
                // Two bytes, for the verifier does not follow the check that a compiler makes of one
                // at a variable offset.
                let [protocol, _reserved] = frame.load(at)?;
                return local(frame, at, protocol, true);
            }
            protocol => return local(frame, at, protocol, false),
        }
    }
    Some(Verdict::Pass(Passed::Extension))
}

/// A packet for one of our outside addresses on an outside port; `at` is its transport header.
#[inline(always)]
fn local<P: Packet + ?Sized>(
    frame: &P,
    at: usize,
    protocol: u8,
    is_fragment: bool,
) -> Option<Verdict> {
    if protocol == PROTOCOL_ESP {
        let taken = if is_fragment {
            Taken::EspFragment
        } else {
            Taken::Esp
        };
        return Some(Verdict::Take(taken));
    }
    if is_fragment {
        return Some(Verdict::Pass(Passed::Fragment));
    }
    if protocol != PROTOCOL_UDP || frame.be16(at + 2)? != PORT_NAT_T {
        return Some(Verdict::Pass(Passed::Local));
    }
    // The length field, not the frame's end: a keepalive is padded to Ethernet's minimum.
    if frame.be16(at + 4)? < UDP_HEADER + ESP_HEADER {
        return Some(Verdict::Pass(Passed::Keepalive));
    }
    if frame.be32(at + UDP_HEADER as usize)? == 0 {
        return Some(Verdict::Pass(Passed::Ike));
    }
    Some(Verdict::Take(Taken::EspInUdp))
}

#[inline(always)]
fn inside(action: Option<Action>) -> Verdict {
    match action {
        Some(Action::Take) => Verdict::Take(Taken::Inside),
        Some(Action::Pass) => Verdict::Pass(Passed::Exception),
        None => Verdict::Pass(Passed::NoRoute),
    }
}

/// Destinations a router does not forward: 0/8, 127/8, 169.254/16 (RFC 3927, 7), 224/4 and
/// 255.255.255.255.
#[inline(always)]
const fn is_special_v4(address: u32) -> bool {
    matches!(address >> 24, 0 | 127 | 224..=239) || address >> 16 == 0xa9fe || address == u32::MAX
}

/// Destinations a router does not forward: `::/127` (unspecified and loopback), `fe80::/10` and
/// `ff00::/8`.
#[inline(always)]
const fn is_special_v6(address: u128) -> bool {
    address >> 120 == 0xff || address >> 118 == 0xfe80 >> 6 || address <= 1
}
