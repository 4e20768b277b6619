//! ICMP errors: what the sender of a packet is told when the gateway cannot forward it.
//!
//! RFC 792, RFC 1191 (next-hop MTU), RFC 1812 4.3.2 (IPv4); RFC 4443 (IPv6). [`build`] writes a
//! whole IP packet, without Ethernet, into the caller's buffer and refuses where the RFCs say
//! silence: about ICMP errors, later fragments, multicast and broadcast, and sources that name no
//! single host. [`RateLimit`] bounds how many go out (RFC 1812 4.3.2.8, RFC 4443 2.4 f).
//!
//! Not here: broadcasts of a subnet or of the link layer, which only the caller can know.

use std::net::IpAddr;

use thiserror::Error;

use crate::parse::{Family, Fragment, IpHeader};
use crate::{checksum, protocol};

/// The largest IPv4 error: RFC 1812 4.3.2.3.
pub const MAX_LEN4: usize = 576;

/// The largest IPv6 error: the minimum MTU, RFC 4443 2.4 c.
pub const MAX_LEN6: usize = 1280;

/// Precedence "internetwork control" (RFC 1812 4.3.2.5), as a TOS byte.
const TOS: u8 = 0xc0;

/// TTL and hop limit of what we originate (RFC 1340's default).
const TTL: u8 = 64;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const ICMP_HEADER: usize = 8;

/// What the sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No route to the destination: IPv4 3/0, IPv6 1/0.
    NoRoute,
    /// The next hop does not answer: IPv4 3/1, IPv6 1/3.
    HostUnreachable,
    /// Forbidden, for example by the tunnel's selectors: IPv4 3/13, IPv6 1/1.
    Prohibited,
    /// Larger than `mtu` and not to be fragmented: IPv4 3/4, IPv6 2/0.
    TooBig {
        /// The largest packet that would have passed, in bytes.
        mtu: u16,
    },
    /// TTL or hop limit used up: IPv4 11/0, IPv6 3/0.
    Expired,
}

/// Why no error is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Silence {
    /// The packet is an ICMP error, or ICMP of unknown type.
    #[error("never about an ICMP error")]
    AboutError,
    /// The packet is a fragment other than the first.
    #[error("never about a later fragment")]
    LaterFragment,
    /// The packet went to a multicast or broadcast address.
    #[error("never about multicast or broadcast")]
    Multicast,
    /// The packet's source names no single host.
    #[error("the source names no single host")]
    BadSource,
    /// `from` is of the other family, or the slice is not the packet that the header describes.
    #[error("packet, header and source address do not belong together")]
    Mismatch,
    /// The buffer is too small for the headers.
    #[error("the buffer is too small")]
    NoRoom,
}

/// Writes the error about `packet` (described by `ip`) from our address `from` into `out` and
/// returns its length: at most [`MAX_LEN4`] or [`MAX_LEN6`], less where `out` is shorter.
///
/// # Errors
/// See [`Silence`]; `out` is then unchanged.
pub fn build(
    problem: Problem,
    packet: &[u8],
    ip: &IpHeader,
    from: IpAddr,
    out: &mut [u8],
) -> Result<usize, Silence> {
    may_answer(problem, ip)?;
    let packet = packet
        .get(..ip.total_len as usize)
        .ok_or(Silence::Mismatch)?;
    match (ip.family, from) {
        (Family::V4, IpAddr::V4(from)) => build4(problem, packet, ip, from.to_bits(), out),
        (Family::V6, IpAddr::V6(from)) => build6(problem, packet, ip, from.to_bits(), out),
        _ => Err(Silence::Mismatch),
    }
}

fn build4(
    problem: Problem,
    packet: &[u8],
    ip: &IpHeader,
    from: u32,
    out: &mut [u8],
) -> Result<usize, Silence> {
    const HEADERS: usize = IPV4_HEADER + ICMP_HEADER;
    let (kind, code, word) = match problem {
        Problem::NoRoute => (3, 0, 0),
        Problem::HostUnreachable => (3, 1, 0),
        Problem::Prohibited => (3, 13, 0),
        Problem::TooBig { mtu } => (3, 4, u32::from(mtu)),
        Problem::Expired => (11, 0, 0),
    };
    let (out, quoted) = room(packet, out, HEADERS, MAX_LEN4, IPV4_HEADER + 8)?;
    let len = out.len();
    out[..IPV4_HEADER].copy_from_slice(&[
        0x45,
        TOS,
        0,
        0,
        0,
        0,
        0x40,
        0,
        TTL,
        protocol::ICMP,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
    out[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    out[12..16].copy_from_slice(&from.to_be_bytes());
    out[16..20].copy_from_slice(&ip.src4().to_be_bytes());
    let sum = checksum::of(&out[..IPV4_HEADER]);
    out[10..12].copy_from_slice(&sum.to_be_bytes());
    message(
        &mut out[IPV4_HEADER..],
        kind,
        code,
        word,
        &packet[..quoted],
        0,
    );
    Ok(len)
}

fn build6(
    problem: Problem,
    packet: &[u8],
    ip: &IpHeader,
    from: u128,
    out: &mut [u8],
) -> Result<usize, Silence> {
    const HEADERS: usize = IPV6_HEADER + ICMP_HEADER;
    let (kind, code, word) = match problem {
        Problem::NoRoute => (1, 0, 0),
        Problem::HostUnreachable => (1, 3, 0),
        Problem::Prohibited => (1, 1, 0),
        Problem::TooBig { mtu } => (2, 0, u32::from(mtu)),
        Problem::Expired => (3, 0, 0),
    };
    let (out, quoted) = room(packet, out, HEADERS, MAX_LEN6, IPV6_HEADER)?;
    let len = out.len();
    let payload = len - IPV6_HEADER;
    out[0] = 0x60 | TOS >> 4;
    out[1] = TOS << 4;
    out[2..4].fill(0);
    out[4..6].copy_from_slice(&(payload as u16).to_be_bytes());
    out[6] = protocol::ICMPV6;
    out[7] = TTL;
    out[8..24].copy_from_slice(&from.to_be_bytes());
    out[24..40].copy_from_slice(&ip.src.to_be_bytes());
    let pseudo = checksum::pseudo6(from, ip.src, protocol::ICMPV6, payload as u32);
    message(
        &mut out[IPV6_HEADER..],
        kind,
        code,
        word,
        &packet[..quoted],
        pseudo,
    );
    Ok(len)
}

/// The part of `out` that the error fills, and how much of `packet` it quotes.
fn room<'a>(
    packet: &[u8],
    out: &'a mut [u8],
    headers: usize,
    maximum: usize,
    least: usize,
) -> Result<(&'a mut [u8], usize), Silence> {
    let room = out.len().min(maximum).saturating_sub(headers);
    let quoted = packet.len().min(room);
    if quoted < packet.len().min(least) {
        return Err(Silence::NoRoom);
    }
    Ok((&mut out[..headers + quoted], quoted))
}

fn message(icmp: &mut [u8], kind: u8, code: u8, word: u32, quoted: &[u8], pseudo: u64) {
    icmp[..4].copy_from_slice(&[kind, code, 0, 0]);
    icmp[4..8].copy_from_slice(&word.to_be_bytes());
    icmp[ICMP_HEADER..].copy_from_slice(quoted);
    let sum = checksum::finish(checksum::add(pseudo, icmp));
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// RFC 1812 4.3.2.7 and RFC 4443 2.4 e.
fn may_answer(problem: Problem, ip: &IpHeader) -> Result<(), Silence> {
    if ip.fragment == Fragment::Later {
        return Err(Silence::LaterFragment);
    }
    let error = match (ip.family, ip.protocol, ip.icmp()) {
        // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
        (Family::V4, protocol::ICMP, Some((kind, _))) => matches!(kind, 3 | 4 | 5 | 11 | 12),
        // Errors have the high bit clear; redirect is 137.
        (Family::V6, protocol::ICMPV6, Some((kind, _))) => kind < 128 || kind == 137,
        (_, protocol::ICMP | protocol::ICMPV6, None) => true,
        _ => false,
    };
    if error {
        return Err(Silence::AboutError);
    }
    match ip.family {
        Family::V4 => {
            if ip.dst4() >> 28 >= 0xe {
                return Err(Silence::Multicast);
            }
            // "This network", loopback, multicast, class E and limited broadcast.
            if matches!(ip.src4() >> 24, 0 | 127) || ip.src4() >> 28 >= 0xe {
                return Err(Silence::BadSource);
            }
        }
        Family::V6 => {
            // "Packet too big" about multicast is what path MTU discovery for it lives on.
            if ip.dst >> 120 == 0xff && !matches!(problem, Problem::TooBig { .. }) {
                return Err(Silence::Multicast);
            }
            // Unspecified, loopback and multicast.
            if ip.src <= 1 || ip.src >> 120 == 0xff {
                return Err(Silence::BadSource);
            }
        }
    }
    Ok(())
}

/// A token bucket for ICMP errors; time comes in as an argument.
///
/// Kept as the time at which the bucket would be full again (the "virtual scheduling" form of the
/// generic cell rate algorithm, ITU-T I.371), so there is no refill to forget.
#[derive(Clone, Debug)]
pub struct RateLimit {
    /// Nanoseconds between two errors at the sustained rate.
    interval: u64,
    /// How far ahead of now `full_at` may run, in nanoseconds.
    depth: u64,
    full_at: u64,
}

impl RateLimit {
    /// Allows `per_second` errors a second and bursts of `burst`. Zero of either allows none.
    #[must_use]
    pub const fn new(per_second: u32, burst: u32) -> Self {
        if per_second == 0 {
            return Self {
                interval: 1,
                depth: 0,
                full_at: 0,
            };
        }
        let interval = 1_000_000_000 / per_second as u64;
        // A rate above one a nanosecond is no limit, but must still be a number.
        let interval = if interval == 0 { 1 } else { interval };
        Self {
            interval,
            depth: interval.saturating_mul(burst as u64),
            full_at: 0,
        }
    }

    /// Whether one more may be sent at `now`, in nanoseconds of any clock that does not run
    /// backwards.
    #[inline]
    pub fn allow(&mut self, now: u64) -> bool {
        let full_at = self.full_at.max(now).saturating_add(self.interval);
        if full_at - now > self.depth {
            return false;
        }
        self.full_at = full_at;
        true
    }
}

#[cfg(test)]
mod tests;
