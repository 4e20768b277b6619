//! The sink: reads the generator's payload header, counts, drops.

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    helpers::{bpf_ktime_get_ns, bpf_xdp_get_buff_len},
    programs::XdpContext,
};
use hawser_lab_layout::{FLOW_WORDS, MAGIC, SinkStat, WINDOW_WORDS, flow_word, latency_bucket};

use crate::{
    FLOWS, LATENCY, SINK_COUNTERS, count,
    frame::{ETHER_IPV4, ETHER_IPV6, ETHER_TAG, Frame, UDP},
    meter::{self, Mark},
};

/// The payload header of one of the generator's packets.
struct Stamp {
    flow: u32,
    sequence: u64,
    sent: u64,
}

#[inline(always)]
pub(crate) fn run(ctx: &XdpContext) -> u32 {
    let Some(stamp) = read(&Frame::new(ctx)) else {
        count(&SINK_COUNTERS, SinkStat::Foreign as u32);
        return XDP_PASS;
    };
    let Some(flow) = FLOWS.get_ptr_mut(stamp.flow) else {
        count(&SINK_COUNTERS, SinkStat::FlowRange as u32);
        return XDP_DROP;
    };
    count(&SINK_COUNTERS, SinkStat::Counted as u32);
    // SAFETY: the context is this run's own; all buffers of the packet count.
    let length = unsafe { bpf_xdp_get_buff_len(ctx.ctx) };
    // SAFETY: `flow` is a value of FLOWS, which this program changes only atomically.
    record(unsafe { meter::words(flow) }, &stamp, length);
    // SAFETY: the helper has no conditions.
    let now = unsafe { bpf_ktime_get_ns() };
    count(&LATENCY, latency_bucket(now.saturating_sub(stamp.sent)));
    XDP_DROP
}

#[inline(always)]
fn record(flow: &[core::sync::atomic::AtomicU64; FLOW_WORDS], stamp: &Stamp, length: u64) {
    meter::add(&flow[flow_word::RECEIVED], 1);
    meter::add(&flow[flow_word::BYTES], length);
    let block = stamp.sequence >> 5;
    let slot = &flow[flow_word::WINDOW + block as usize % WINDOW_WORDS];
    // Block numbers count from 1, so that an empty slot is older than any.
    let mark = meter::mark(slot, block as u32 + 1, stamp.sequence as u32 & 31);
    match mark {
        Mark::New => {}
        Mark::Duplicate => return meter::add(&flow[flow_word::DUPLICATES], 1),
        Mark::Late => meter::add(&flow[flow_word::LATE], 1),
        Mark::Contended => meter::add(&flow[flow_word::CONTENDED], 1),
    }
    if !meter::raise(&flow[flow_word::NEXT], stamp.sequence + 1) {
        meter::add(&flow[flow_word::REORDERED], 1);
    }
}

/// The payload header, if the packet is unfragmented UDP with the generator's mark.
#[inline(always)]
fn read(frame: &Frame) -> Option<Stamp> {
    let mut ether_type = frame.be16(12)?;
    let mut ip = 14;
    if ether_type == ETHER_TAG {
        ether_type = frame.be16(16)?;
        ip = 18;
    }
    let payload = match ether_type {
        ETHER_IPV4 => {
            let version_length = frame.be16(ip)?;
            let protocol = frame.be16(ip + 8)? as u8;
            if version_length >> 8 != 0x45 || frame.be16(ip + 6)? & 0x3fff != 0 || protocol != UDP {
                return None;
            }
            ip + 28
        }
        ETHER_IPV6 => {
            let next = frame.be16(ip + 6)? >> 8;
            if next != u16::from(UDP) {
                return None;
            }
            ip + 48
        }
        _ => return None,
    };
    if frame.be16(payload)? != MAGIC {
        return None;
    }
    let sequence_high = u64::from(frame.be16(payload + 4)?);
    let sequence_low = u64::from(u32::from_be_bytes(frame.load(payload + 6)?));
    Some(Stamp {
        flow: u32::from(frame.be16(payload + 2)?),
        sequence: sequence_high << 32 | sequence_low,
        sent: frame.be64(payload + 10)?,
    })
}
