//! The XDP program that picks Hawser's packets.
//!
//! It reads the frame's headers through [`Frame`], asks the rule in `hawser-steer`, counts the
//! verdict and redirects what is ours to the socket of its port and queue. Everything else, and
//! everything for which there is no socket, goes on to the kernel.
//!
//! Multi-buffer packets are taken like others: headers are in the first buffer, and the redirect
//! carries all buffers.
//!
//! The maps are described in `hawser_steer`'s `map` module; their sizes here are defaults that the
//! loader replaces.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    macros::{map, xdp},
    maps::{Array, HashMap, LpmTrie, PerCpuArray, XskMap, lpm_trie},
    programs::XdpContext,
};
use hawser_steer::{
    Action, BLOCK_WORDS, COARSE_BLOCKS, FINE_BLOCKS, LOCAL_FRONT, Levels, PORT_FRONT,
    PORT_FRONT_WORDS, PORT_WORDS, Packet, Passed, Port, REACH, Tables, VERDICTS, Verdict, is_local,
    judge, local_place, longest_prefix_v4, port_of, port_place,
};

#[map]
static PORTS: HashMap<u32, [u32; PORT_WORDS]> = HashMap::with_max_entries(64, 0);
#[map(name = "PORT_FRONT")]
static PORT_FRONT_MAP: Array<[u32; PORT_FRONT_WORDS]> = Array::with_max_entries(PORT_FRONT, 0);
#[map]
static VLANS: HashMap<[u32; 2], u32> = HashMap::with_max_entries(1024, 0);
#[map]
static LOCAL_V4: HashMap<[u8; 4], u32> = HashMap::with_max_entries(1024, 0);
#[map(name = "LOCAL_FRONT")]
static LOCAL_FRONT_MAP: Array<u64> = Array::with_max_entries(LOCAL_FRONT, 0);
#[map]
static LOCAL_V6: HashMap<[u8; 16], u32> = HashMap::with_max_entries(1024, 0);
#[map]
static COARSE_V4: Array<[u64; BLOCK_WORDS]> = Array::with_max_entries(COARSE_BLOCKS, 0);
#[map]
static FINE_V4: Array<[u64; BLOCK_WORDS]> = Array::with_max_entries(FINE_BLOCKS, 0);
#[map]
static INSIDE_V4: LpmTrie<[u8; 4], u32> = LpmTrie::with_max_entries(1 << 20, 0);
#[map]
static INSIDE_V6: LpmTrie<[u8; 16], u32> = LpmTrie::with_max_entries(1 << 20, 0);
#[map]
static XSKS: XskMap = XskMap::with_max_entries(64, 0);
#[map]
static STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(VERDICTS, 0);

/// Entry point; `frags` declares that it copes with multi-buffer packets.
#[xdp(frags)]
pub fn hawser(ctx: XdpContext) -> u32 {
    let interface = ctx.ingress_ifindex() as u32;
    let Some(port) = port(interface) else {
        count(Verdict::Pass(Passed::NoPort));
        return XDP_PASS;
    };
    let verdict = judge(&Frame::new(&ctx), &port, &Maps { interface });
    count(verdict);
    if !verdict.is_take() {
        return XDP_PASS;
    }
    let slot = port.base_slot() + ctx.rx_queue_index();
    XSKS.redirect(slot, u64::from(XDP_PASS))
        .unwrap_or_else(|action| {
            count(Verdict::Pass(Passed::NoSocket));
            action
        })
}

#[inline(always)]
fn port(interface: u32) -> Option<Port> {
    if let Some(port) = PORT_FRONT_MAP
        .get(port_place(interface))
        .and_then(|entry| port_of(entry, interface))
    {
        return Some(port);
    }
    // SAFETY: a port's entry is written before its program is attached and not removed before it
    // is detached; were it replaced meanwhile, a torn value could only misjudge this one packet.
    unsafe { PORTS.get(interface) }.map(Port::decode)
}

#[inline(always)]
fn count(verdict: Verdict) {
    if let Some(counter) = STATS.get_ptr_mut(verdict.index()) {
        // SAFETY: the pointer is to this processor's own counter, and the program is not preempted
        // by another run of itself.
        unsafe { *counter += 1 };
    }
}

/// The linear part of the packet.
struct Frame {
    start: usize,
    end: usize,
}

impl Frame {
    #[inline(always)]
    fn new(ctx: &XdpContext) -> Self {
        Self {
            start: ctx.data(),
            end: ctx.data_end(),
        }
    }
}

impl Packet for Frame {
    #[inline(always)]
    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        if at > REACH {
            return None;
        }
        let from = self.start + at;
        if from + N > self.end {
            return None;
        }
        // SAFETY: `from .. from + N` lies between the packet's start and end, which the check above
        // proves to the verifier too; the kernel keeps the packet while the program runs.
        Some(unsafe { (from as *const [u8; N]).read_unaligned() })
    }
}

/// The kernel's maps as the rule's tables.
struct Maps {
    /// Where the frame arrived.
    interface: u32,
}

impl Tables for Maps {
    #[inline(always)]
    fn is_inside_vlan(&self, number: u16) -> bool {
        VLANS
            .get_ptr(&Aligned([self.interface, u32::from(number)]).0)
            .is_some()
    }

    #[inline(always)]
    fn is_local_v4(&self, address: u32) -> bool {
        LOCAL_FRONT_MAP
            .get(local_place(address))
            .and_then(|entry| is_local(*entry, address))
            .unwrap_or_else(|| {
                LOCAL_V4
                    .get_ptr(&Aligned(address.to_be_bytes()).0)
                    .is_some()
            })
    }

    #[inline(always)]
    fn is_local_v6(&self, address: u128) -> bool {
        LOCAL_V6
            .get_ptr(&Aligned(address.to_be_bytes()).0)
            .is_some()
    }

    #[inline(always)]
    fn inside_v4(&self, destination: u32) -> Option<Action> {
        longest_prefix_v4(self, destination)
    }

    #[inline(always)]
    fn inside_v6(&self, destination: u128) -> Option<Action> {
        let key = TrieKey::new(128, destination.to_be_bytes());
        INSIDE_V6.get(&key.key).map(|value| Action::decode(*value))
    }
}

impl Levels for Maps {
    #[inline(always)]
    fn coarse(&self, first: u8) -> Option<&[u64; BLOCK_WORDS]> {
        COARSE_V4.get(u32::from(first))
    }

    #[inline(always)]
    fn fine(&self, first_two: u16) -> Option<&[u64; BLOCK_WORDS]> {
        FINE_V4.get(u32::from(first_two))
    }

    #[inline(always)]
    fn trie(&self, address: u32) -> Option<Action> {
        let key = TrieKey::new(32, address.to_be_bytes());
        INSIDE_V4.get(&key.key).map(|value| Action::decode(*value))
    }
}

/// Puts a key on an 8-byte boundary of the stack.
///
/// Unaligned packet loads are wanted, so the compiler is told that alignment does not matter; to
/// the verifier it does matter on the stack.
#[repr(align(8))]
struct Aligned<T>(T);

/// A trie's key with its address on an 8-byte boundary, for the same reason.
#[repr(C, align(8))]
struct TrieKey<A> {
    padding: u32,
    key: lpm_trie::Key<A>,
}

impl<A> TrieKey<A> {
    #[inline(always)]
    fn new(length: u32, address: A) -> Self {
        Self {
            padding: 0,
            key: lpm_trie::Key::new(length, address),
        }
    }
}

/// The rule does not panic; if it could, the verifier would refuse this loop.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// None of the helpers used needs a GPL-compatible program; the kernel wants a licence all the same.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
