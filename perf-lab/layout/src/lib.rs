//! Keys and values of the maps that the lab's XDP programs share with user space.
//!
//! Every key and value is a plain array of integers, so that user space needs no `unsafe` to read
//! or write one; the types here turn those arrays into named fields. The programs themselves
//! (`perf-lab/program`) use the same constants, so a layout is written down once.
//!
//! Units: bytes of the **outer IP packet** for the policer, bytes of the **Ethernet frame** for
//! generator and sink, times in nanoseconds of `CLOCK_MONOTONIC` (what `bpf_ktime_get_ns` reads).
//!
//! It is not the loader: nothing here touches the kernel.
#![no_std]
#![forbid(unsafe_code)]

mod generator;
mod policer;
mod sink;

pub use generator::{
    Address, GeneratorConfig, GeneratorState, HEADER_MAX, SIZES_MAX, TEMPLATE_BYTES, Template,
    TemplateError, VlanTag, generator_word, template_byte,
};
pub use policer::{
    LIMIT_WORDS, Limit, METER_WORDS, Meter, POLICER_STATS, PolicerStat, TUNNEL_KEY_BYTES,
    TunnelKey, limit_word, meter_word,
};
pub use sink::{
    FLOW_WORDS, Flow, LATENCY_BUCKETS, SINK_STATS, SinkStat, WINDOW, WINDOW_WORDS, bucket_low_ns,
    flow_word, latency_bucket,
};

/// First two payload bytes (big endian) of every packet the generator makes: "HW".
pub const MAGIC: u16 = 0x4857;

/// Length of the payload header behind the UDP header.
///
/// magic `u16`, flow `u16`, sequence `u48`, timestamp `u64`, all big endian. 18 bytes is what a
/// minimal Ethernet frame (60 bytes without check sum) leaves behind IPv4 and UDP.
pub const PAYLOAD_HEADER: usize = 18;

/// Most flows one sink or generator can tell apart: the flow field has 16 bits.
pub const FLOWS_MAX: u32 = 1 << 16;
