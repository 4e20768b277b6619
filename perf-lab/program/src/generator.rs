//! The generator: one packet a run, if one is due.
//!
//! It runs as a live-frame test run (`BPF_F_TEST_XDP_LIVE_FRAMES`), so its frame is a page the
//! kernel hands out again and again with whatever the last user left in it. So the whole header is
//! written each time, and what lies behind the payload header does not matter.

use aya_ebpf::{
    bindings::xdp_action::XDP_DROP,
    helpers::{bpf_ktime_get_ns, bpf_xdp_adjust_tail},
    programs::XdpContext,
};
use hawser_lab_layout::{
    GeneratorState, MAGIC, PAYLOAD_HEADER, TEMPLATE_BYTES, generator_word, template_byte,
};

use crate::{GENERATOR, GENERATOR_STATE, PORTS, SEQUENCES, SIZES, TEMPLATES, frame::Frame};

/// How far the generator may run behind and catch up: 1 ms in 2^-8 ns. Less, and each pause of its
/// thread lowers the mean rate; more, and bursts overflow the 256 entries of a veth ring.
const BACKLOG: u64 = 1_000_000 << 8;

const UDP_HEADER: usize = 8;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

#[inline(always)]
pub(crate) fn run(ctx: &XdpContext) -> u32 {
    let (Some(config), Some(state)) = (GENERATOR.get(0), GENERATOR_STATE.get_ptr_mut(0)) else {
        return XDP_DROP;
    };
    // SAFETY: an object has one generator thread, and the kernel keeps the value while it runs.
    let state: &mut [u64; GeneratorState::WORDS] = unsafe { &mut *state };
    let [sent_packets, sent_bytes, idle, refused, due, next_flow] = state;
    // SAFETY: the helper has no conditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if !is_due(config, now, due) {
        *idle += 1;
        return XDP_DROP;
    }
    let flow = if *next_flow < config[generator_word::FLOWS] {
        *next_flow
    } else {
        0
    };
    *next_flow = flow + 1;
    match packet(ctx, config, flow as u32, now) {
        Some((egress, length)) => {
            *sent_packets += 1;
            *sent_bytes += length as u64;
            PORTS
                .redirect(egress, u64::from(XDP_DROP))
                .unwrap_or_else(|action| action)
        }
        None => {
            *refused += 1;
            XDP_DROP
        }
    }
}

/// Whether a packet is due; if so, charges it.
#[inline(always)]
fn is_due(config: &[u64; generator_word::COUNT], now: u64, due: &mut u64) -> bool {
    let deadline = config[generator_word::DEADLINE];
    if now < config[generator_word::START] || (deadline != 0 && now >= deadline) {
        return false;
    }
    let gap = config[generator_word::GAP];
    if gap == 0 {
        return true;
    }
    let now = now << 8;
    if *due > now {
        return false;
    }
    // The first packet starts the clock.
    let base = match *due {
        0 => now,
        due if due + BACKLOG < now => now - BACKLOG,
        due => due,
    };
    *due = base + gap;
    true
}

/// Makes the flow's next packet; returns its egress and length.
#[inline(always)]
fn packet(
    ctx: &XdpContext,
    config: &[u64; generator_word::COUNT],
    flow: u32,
    now: u64,
) -> Option<(u32, usize)> {
    let template = TEMPLATES.get(flow)?;
    let sequence = SEQUENCES.get_ptr_mut(flow)?;
    // SAFETY: as for the state: one thread, and the kernel keeps the value.
    let sequence = unsafe { &mut *sequence };
    let sizes = config[generator_word::SIZES];
    if sizes == 0 {
        return None;
    }
    let length = *SIZES.get((*sequence % sizes) as u32)? as usize;
    let [header_length, egress, ..] = template[0].to_ne_bytes();
    let stamp = Stamp {
        flow: (config[generator_word::FIRST_FLOW] as u32 + flow) as u16,
        sequence: *sequence,
        now,
    };
    let mut frame = resized(ctx, length)?;
    match header_length {
        42 => write::<42, IPV4_HEADER>(&mut frame, template, length, &stamp),
        46 => write::<46, IPV4_HEADER>(&mut frame, template, length, &stamp),
        62 => write::<62, IPV6_HEADER>(&mut frame, template, length, &stamp),
        66 => write::<66, IPV6_HEADER>(&mut frame, template, length, &stamp),
        _ => None,
    }?;
    *sequence += 1;
    Some((u32::from(egress), length))
}

/// Shortens the frame, which arrives at its largest size each time.
#[inline(always)]
fn resized(ctx: &XdpContext, length: usize) -> Option<Frame> {
    let frame = Frame::new(ctx);
    let have = frame.len();
    if length == have {
        return Some(frame);
    }
    if length > have {
        return None;
    }
    // SAFETY: the context is this run's own; pointers into the packet are made anew below.
    let result = unsafe { bpf_xdp_adjust_tail(ctx.ctx, length as i32 - have as i32) };
    if result == 0 {
        Some(Frame::new(ctx))
    } else {
        None
    }
}

struct Stamp {
    flow: u16,
    sequence: u64,
    now: u64,
}

/// Writes a header of `HEADER` bytes that ends with an IP header of `IP` bytes and UDP, and the
/// payload header behind it.
#[inline(always)]
fn write<const HEADER: usize, const IP: usize>(
    frame: &mut Frame,
    template: &[u64; TEMPLATE_BYTES / 8],
    length: usize,
    stamp: &Stamp,
) -> Option<()> {
    if length < HEADER + PAYLOAD_HEADER {
        return None;
    }
    // The last field first: what follows is then within the frame.
    frame.store(HEADER + 10, stamp.now.to_be_bytes())?;
    frame.store(HEADER, MAGIC.to_be_bytes())?;
    frame.store(HEADER + 2, stamp.flow.to_be_bytes())?;
    frame.store(HEADER + 4, ((stamp.sequence >> 32) as u16).to_be_bytes())?;
    frame.store(HEADER + 6, (stamp.sequence as u32).to_be_bytes())?;

    for word in 0..HEADER / 8 {
        frame.store(
            word * 8,
            template[template_byte::HEADER / 8 + word].to_ne_bytes(),
        )?;
    }
    // Every header's length leaves 2 or 6 bytes.
    let last = template[template_byte::HEADER / 8 + HEADER / 8].to_ne_bytes();
    if HEADER % 8 == 6 {
        frame.store(HEADER - 6, [last[0], last[1], last[2], last[3]])?;
        frame.store(HEADER - 2, [last[4], last[5]])?;
    } else {
        frame.store(HEADER - 2, [last[0], last[1]])?;
    }

    let ip = HEADER - UDP_HEADER - IP;
    let datagram = (length - HEADER + UDP_HEADER) as u16;
    frame.store(HEADER - 4, datagram.to_be_bytes())?;
    if IP == IPV4_HEADER {
        let total = (length - ip) as u16;
        frame.store(ip + 2, total.to_be_bytes())?;
        // RFC 1071: the template holds the sum of all other words.
        let [.., a, b, c, d] = template[0].to_ne_bytes();
        let mut sum = u32::from_ne_bytes([a, b, c, d]) + u32::from(total);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        frame.store(ip + 10, (!(sum as u16)).to_be_bytes())?;
    } else {
        frame.store(ip + 4, datagram.to_be_bytes())?;
    }
    Some(())
}
