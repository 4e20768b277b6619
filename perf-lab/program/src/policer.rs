//! The outside network: forwards between its ports and holds each tunnel to its ceiling.

use aya_ebpf::{
    bindings::{
        BPF_NOEXIST,
        xdp_action::{XDP_DROP, XDP_PASS},
    },
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns},
    programs::XdpContext,
};
use hawser_lab_layout::{METER_WORDS, PolicerStat, limit_word, meter_word};

use crate::{
    DEFAULT_LIMIT, KEY_WORDS, LIMITS, METERS, PEERS, POLICER_COUNTERS, count,
    frame::{ESP, ETHER_IPV4, ETHER_IPV6, Frame, UDP},
    meter::{self, Outcome},
};

const NAT_T: [u8; 2] = 4500_u16.to_be_bytes();

#[inline(always)]
pub(crate) fn run(ctx: &XdpContext) -> u32 {
    match classify(&Frame::new(ctx)) {
        None => count(&POLICER_COUNTERS, PolicerStat::Other as u32),
        Some(packet) => {
            count(&POLICER_COUNTERS, PolicerStat::Policed as u32);
            if !is_admitted(&packet) {
                return XDP_DROP;
            }
        }
    }
    let ingress = ctx.ingress_ifindex() as u32;
    PEERS
        .redirect(ingress, u64::from(XDP_PASS))
        .unwrap_or_else(|action| {
            count(&POLICER_COUNTERS, PolicerStat::NoPeer as u32);
            action
        })
}

/// [`TunnelKey::encode`](hawser_lab_layout::TunnelKey::encode) by words: the verifier wants keys on
/// 8-byte boundaries of the stack.
type Key = [u64; KEY_WORDS];

/// A tunnel's packet.
struct Packet {
    key: Key,
    /// Bytes of the outer IP packet.
    bytes: u64,
}

/// The tunnel of an unfragmented packet, if it is ESP, plain or in UDP.
#[inline(always)]
fn classify(frame: &Frame) -> Option<Packet> {
    let mut key = [0; KEY_WORDS];
    let (protocol, bytes, at) = match frame.be16(12)? {
        ETHER_IPV4 => {
            let destination: [u8; 4] = frame.load(30)?;
            let source: [u8; 4] = frame.load(26)?;
            let [version_length] = frame.load(14)?;
            if frame.be16(20)? & 0x3fff != 0 {
                return None;
            }
            key[1] = mapped(source);
            key[3] = mapped(destination);
            let [protocol] = frame.load(23)?;
            (
                protocol,
                u64::from(frame.be16(16)?),
                14 + usize::from(version_length & 0xf) * 4,
            )
        }
        // Lab peers send no extension headers.
        ETHER_IPV6 => {
            key[3] = u64::from_ne_bytes(frame.load(46)?);
            key[2] = u64::from_ne_bytes(frame.load(38)?);
            key[1] = u64::from_ne_bytes(frame.load(30)?);
            key[0] = u64::from_ne_bytes(frame.load(22)?);
            let [protocol] = frame.load(20)?;
            (protocol, u64::from(frame.be16(18)?) + 40, 54)
        }
        _ => return None,
    };
    let [a, b, c, d] = match protocol {
        ESP => [0; 4],
        UDP => {
            let ports: [u8; 4] = frame.load(at)?;
            let spi: [u8; 4] = frame.load(at + 8)?;
            let [a, b, c, d] = ports;
            let is_nat_t = [a, b] == NAT_T || [c, d] == NAT_T;
            if !is_nat_t || u32::from_ne_bytes(spi) == 0 {
                return None;
            }
            ports
        }
        _ => return None,
    };
    key[4] = u64::from_ne_bytes([a, b, c, d, protocol, 0, 0, 0]);
    Some(Packet { key, bytes })
}

/// The second half of an IPv4 address as `::ffff:a.b.c.d`.
#[inline(always)]
fn mapped([a, b, c, d]: [u8; 4]) -> u64 {
    u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d])
}

#[inline(always)]
fn is_admitted(packet: &Packet) -> bool {
    // SAFETY: the lab changes limits rarely; a value read half old, half new would only misjudge
    // this packet.
    let limit = match unsafe { LIMITS.get(&packet.key) } {
        Some(limit) => limit,
        None => match DEFAULT_LIMIT.get(0) {
            Some(limit) => limit,
            None => return true,
        },
    };
    let Some(meter) = meter_of(&packet.key) else {
        count(&POLICER_COUNTERS, PolicerStat::TableFull as u32);
        return true;
    };
    // SAFETY: `meter` is a value of METERS, which only this program changes, and only atomically.
    let meter = unsafe { meter::words(meter) };
    // SAFETY: the helpers have no conditions.
    let (now_ns, random) = unsafe { (bpf_ktime_get_ns(), bpf_get_prandom_u32()) };
    meter::raise(&meter[meter_word::LAST], now_ns);

    let refused = if u64::from(random) * 1_000_000 >> 32 < limit[limit_word::LOSS_PPM] {
        Some(meter_word::LOST_PACKETS)
    } else {
        let now = now_ns << 8;
        let depth = limit[limit_word::DEPTH];
        // 2^-16 ns a byte to 2^-8 ns.
        let byte_cost = packet.bytes * limit[limit_word::BYTE_COST] >> 8;
        let packet_cost = limit[limit_word::PACKET_COST];
        let bits = meter::charge(&meter[meter_word::BITS_DUE], byte_cost, depth, now);
        match bits {
            Outcome::Over => Some(meter_word::OVER_BITS),
            Outcome::Contended => Some(meter_word::CONTENDED),
            Outcome::Within => {
                let due = &meter[meter_word::PACKETS_DUE];
                let packets = meter::charge(due, packet_cost, depth, now);
                if packets != Outcome::Within {
                    meter::refund(&meter[meter_word::BITS_DUE], byte_cost);
                }
                match packets {
                    Outcome::Within => None,
                    Outcome::Over => Some(meter_word::OVER_PACKETS),
                    Outcome::Contended => Some(meter_word::CONTENDED),
                }
            }
        }
    };
    match refused {
        None => {
            meter::add(&meter[meter_word::PASSED_PACKETS], 1);
            meter::add(&meter[meter_word::PASSED_BYTES], packet.bytes);
            true
        }
        Some(word) => {
            meter::add(&meter[word], 1);
            meter::add(&meter[meter_word::DROPPED_BYTES], packet.bytes);
            false
        }
    }
}

/// The meter of a tunnel, made at first sight.
#[inline(always)]
fn meter_of(key: &Key) -> Option<*mut [u64; METER_WORDS]> {
    if let Some(meter) = METERS.get_ptr_mut(key) {
        return Some(meter);
    }
    // Another processor may have been faster: then its meter is the one.
    let _ = METERS.insert(key, [0; METER_WORDS], u64::from(BPF_NOEXIST));
    METERS.get_ptr_mut(key)
}
