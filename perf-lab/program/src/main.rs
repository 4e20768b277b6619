//! The XDP programs of the lab.
//!
//! | program | where | what |
//! |---|---|---|
//! | `policer` | both ports of the outside network | forwards between them; caps and meters each tunnel |
//! | `generator` | nowhere: live-frame test runs | makes the flows' packets and sends them from a port |
//! | `sink` | the receiving site | counts loss, duplication, reordering and latency per flow |
//! | `pass` | any veth end | nothing; a veth takes redirected frames only if its peer has a program |
//!
//! Map layouts are those of `hawser-lab-layout`. Sizes here are defaults; the lab replaces them.
//! Each loaded object has its own maps.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "compare-and-swap, see `meter`")]

mod frame;
mod generator;
mod meter;
mod policer;
mod sink;

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    macros::{map, xdp},
    maps::{Array, DevMap, DevMapHash, HashMap, PerCpuArray},
    programs::XdpContext,
};
use hawser_lab_layout::{
    FLOW_WORDS, GeneratorState, LATENCY_BUCKETS, LIMIT_WORDS, METER_WORDS, POLICER_STATS,
    SINK_STATS, SIZES_MAX, TEMPLATE_BYTES, TUNNEL_KEY_BYTES, generator_word,
};

/// Words of an encoded tunnel key.
const KEY_WORDS: usize = TUNNEL_KEY_BYTES / 8;

#[map]
static PEERS: DevMapHash = DevMapHash::with_max_entries(8, 0);
#[map]
static DEFAULT_LIMIT: Array<[u64; LIMIT_WORDS]> = Array::with_max_entries(1, 0);
#[map]
static LIMITS: HashMap<[u64; KEY_WORDS], [u64; LIMIT_WORDS]> = HashMap::with_max_entries(4096, 0);
#[map]
static METERS: HashMap<[u64; KEY_WORDS], [u64; METER_WORDS]> = HashMap::with_max_entries(4096, 0);
#[map(name = "POLICER_STATS")]
static POLICER_COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(POLICER_STATS, 0);

#[map]
static GENERATOR: Array<[u64; generator_word::COUNT]> = Array::with_max_entries(1, 0);
#[map]
static GENERATOR_STATE: Array<[u64; GeneratorState::WORDS]> = Array::with_max_entries(1, 0);
#[map]
static SIZES: Array<u32> = Array::with_max_entries(SIZES_MAX, 0);
#[map]
static TEMPLATES: Array<[u64; TEMPLATE_BYTES / 8]> = Array::with_max_entries(4096, 0);
#[map]
static SEQUENCES: Array<u64> = Array::with_max_entries(4096, 0);
#[map]
static PORTS: DevMap = DevMap::with_max_entries(8, 0);

#[map]
static FLOWS: Array<[u64; FLOW_WORDS]> = Array::with_max_entries(4096, 0);
#[map]
static LATENCY: PerCpuArray<u64> = PerCpuArray::with_max_entries(LATENCY_BUCKETS, 0);
#[map(name = "SINK_STATS")]
static SINK_COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(SINK_STATS, 0);

/// Forwards between the ports of the outside network, each tunnel within its limit.
#[xdp(frags)]
pub fn policer(ctx: XdpContext) -> u32 {
    policer::run(&ctx)
}

/// Makes the next packet that is due, or none.
#[xdp(frags)]
pub fn generator(ctx: XdpContext) -> u32 {
    generator::run(&ctx)
}

/// Counts and drops the generator's packets.
#[xdp(frags)]
pub fn sink(ctx: XdpContext) -> u32 {
    sink::run(&ctx)
}

/// Lets everything pass.
#[xdp(frags)]
pub fn pass(_: XdpContext) -> u32 {
    XDP_PASS
}

/// Adds 1 to this processor's own counter.
#[inline(always)]
fn count(counters: &PerCpuArray<u64>, index: u32) {
    if let Some(counter) = counters.get_ptr_mut(index) {
        // SAFETY: the pointer is to this processor's own counter, and a program is not preempted
        // by another run of itself.
        unsafe { *counter += 1 };
    }
}

/// Nothing here panics; if it could, the verifier would refuse this loop.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// None of the helpers used needs a GPL-compatible program; the kernel wants a licence all the same.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
