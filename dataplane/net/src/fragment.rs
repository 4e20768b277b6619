//! Cuts an IPv4 packet into fragments (RFC 791 3.2).
//!
//! For packets that are too large for a tunnel and may be fragmented: before encryption, so that
//! the peer's site reassembles and its gateway does not. A packet that is a fragment already can be
//! cut again. The first piece carries all options, the others those with the copied flag.
//!
//! Not here: DF (the caller looks first), reassembly, IPv6 (routers never fragment it, RFC 8200
//! 4.5).

use thiserror::Error;

use crate::checksum;
use crate::parse::{Family, IpHeader};

/// Why a packet cannot be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FragmentError {
    /// Not IPv4.
    #[error("only IPv4 packets are fragmented by a router")]
    NotIpv4,
    /// The MTU does not hold the header and eight bytes of data.
    #[error("the MTU does not hold a header and eight bytes")]
    MtuTooSmall,
    /// The slice is shorter than the packet.
    #[error("the bytes end before the packet does")]
    Truncated,
}

const HEADER_MAX: usize = 60;
const HEADER_MIN: usize = 20;
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const COPIED: u8 = 0x80;
const MORE_FRAGMENTS: u16 = 0x2000;
const FLAGS_KEPT: u16 = 0xc000;

/// The fragments of one packet, written one after the other into the caller's buffers.
#[derive(Clone, Debug)]
pub struct Fragments<'a> {
    data: &'a [u8],
    first_header: &'a [u8],
    /// The header of the second and later fragments.
    later_header: [u8; HEADER_MAX],
    later_len: usize,
    mtu: usize,
    /// Bytes of `data` written so far.
    done: usize,
    /// The packet's own offset in the original, in bytes.
    base: usize,
    /// The packet's own "more fragments".
    more: bool,
    flags: u16,
}

impl<'a> Fragments<'a> {
    /// The fragments of `packet` (as `ip` describes it), each at most `mtu` bytes.
    ///
    /// A packet that fits comes out as one piece, unchanged.
    ///
    /// # Errors
    /// See [`FragmentError`].
    pub fn new(packet: &'a [u8], ip: &IpHeader, mtu: u16) -> Result<Self, FragmentError> {
        if ip.family != Family::V4 {
            return Err(FragmentError::NotIpv4);
        }
        let packet = packet
            .get(..ip.total_len as usize)
            .ok_or(FragmentError::Truncated)?;
        let (first_header, data) = packet
            .split_at_checked(usize::from(ip.l4_offset))
            .filter(|(header, _)| (HEADER_MIN..=HEADER_MAX).contains(&header.len()))
            .ok_or(FragmentError::Truncated)?;
        let mtu = usize::from(mtu);
        if mtu < packet.len() && mtu < first_header.len() + 8 {
            return Err(FragmentError::MtuTooSmall);
        }
        let (later_header, later_len) = copied(first_header);
        Ok(Self {
            data,
            first_header,
            later_header,
            later_len,
            mtu,
            done: 0,
            base: usize::from(ip.fragment_offset),
            more: ip.more_fragments,
            flags: u16::from_be_bytes([first_header[6], first_header[7]]) & FLAGS_KEPT,
        })
    }

    /// Length of the next fragment in bytes; none when all are written.
    #[must_use]
    pub fn next_len(&self) -> Option<usize> {
        let header = self.header().len();
        // A packet without data is one piece of header only.
        if self.done == self.data.len() && self.done > 0 {
            return None;
        }
        if self.done > self.data.len() {
            return None;
        }
        Some(header + self.next_data(header))
    }

    /// Writes the next fragment to the front of `out` and returns its length. None when all are
    /// written, or `out` is shorter than [`Fragments::next_len`].
    #[must_use]
    pub fn write_next(&mut self, out: &mut [u8]) -> Option<usize> {
        let len = self.next_len()?;
        let out = out.get_mut(..len)?;
        let header = self.header();
        let header_len = header.len();
        out[..header_len].copy_from_slice(header);
        let end = self.done + len - header_len;
        out[header_len..].copy_from_slice(&self.data[self.done..end]);

        let more = self.more || end < self.data.len();
        let offset = ((self.base + self.done) / 8) as u16;
        let flags = self.flags | if more { MORE_FRAGMENTS } else { 0 } | offset;
        out[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        out[6..8].copy_from_slice(&flags.to_be_bytes());
        out[10..12].fill(0);
        let sum = checksum::of(&out[..header_len]);
        out[10..12].copy_from_slice(&sum.to_be_bytes());

        // An empty packet is done after its one piece.
        self.done = if end == 0 { 1 } else { end };
        Some(len)
    }

    fn header(&self) -> &[u8] {
        if self.done == 0 {
            self.first_header
        } else {
            &self.later_header[..self.later_len]
        }
    }

    /// Bytes of data in the next fragment: all but the last hold a multiple of eight.
    fn next_data(&self, header: usize) -> usize {
        let left = self.data.len() - self.done;
        let room = self.mtu.saturating_sub(header);
        if left <= room { left } else { room / 8 * 8 }
    }
}

/// The header with only the options that every fragment carries. Malformed options end the copy.
fn copied(first: &[u8]) -> ([u8; HEADER_MAX], usize) {
    let mut header = [0; HEADER_MAX];
    header[..HEADER_MIN].copy_from_slice(&first[..HEADER_MIN]);
    let mut len = HEADER_MIN;
    let mut at = HEADER_MIN;
    while let Some(&kind) = first.get(at) {
        match kind {
            OPTION_END => break,
            OPTION_NOP => at += 1,
            _ => {
                let Some(&size) = first.get(at + 1) else {
                    break;
                };
                let size = usize::from(size);
                let Some(option) = first.get(at..at + size).filter(|_| size >= 2) else {
                    break;
                };
                if kind & COPIED != 0 {
                    header[len..len + size].copy_from_slice(option);
                    len += size;
                }
                at += size;
            }
        }
    }
    // Padding is "end of options", 0, which the array holds already.
    let len = len.next_multiple_of(4);
    header[0] = 0x40 | (len / 4) as u8;
    (header, len)
}

#[cfg(test)]
mod tests;
