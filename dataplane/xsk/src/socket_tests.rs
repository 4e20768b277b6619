//! A socket over rings in ordinary memory, with the kernel's side played by the test: no root, no
//! interface, and the kernel may misbehave.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::*;
use crate::area::Area;
use crate::frame::Frame;
use crate::pool::FramePool;

const RING: u32 = 16;
const LAYOUT: Layout = Layout {
    producer: 0,
    consumer: 64,
    flags: 128,
    entries: 192,
};

/// The other side of a socket's four rings.
struct Kernel {
    area: &'static Area,
    rx: Producer<Descriptor>,
    tx: Consumer<Descriptor>,
    fill: Consumer<u64>,
    completion: Producer<u64>,
    /// Taken from the fill ring, to receive into.
    empty: VecDeque<u64>,
    /// Taken from the transmit ring, not completed yet.
    sending: VecDeque<u64>,
}

/// Both sides of a ring whose indexes wrap soon.
macro_rules! ring {
    ($size:expr) => {{
        let (memory, _) = Mapping::anonymous(192 + $size as usize * 16, false).unwrap();
        let memory = Arc::new(memory);
        for index in [LAYOUT.producer, LAYOUT.consumer] {
            // SAFETY: aligned, inside the mapping, and not used otherwise yet.
            let index = unsafe { memory.start().add(index).cast::<AtomicU32>().as_ref() };
            index.store(u32::MAX - 20, Ordering::Relaxed);
        }
        // SAFETY: one of each.
        unsafe {
            (
                Producer::new(memory.clone(), LAYOUT, $size),
                Consumer::new(memory, LAYOUT, $size),
            )
        }
    }};
}

fn socket(frames: u32, multi_buffer: bool) -> (Socket, Kernel, FramePool) {
    let (umem, pool) = Umem::new(frames, 2048).unwrap();
    let (kernel_rx, rx) = ring!(RING);
    let (tx, kernel_tx) = ring!(RING);
    let (fill, kernel_fill) = ring!(RING);
    let (kernel_completion, completion) = ring!(RING * 2);
    // Never used: the rings ask for no wake-up.
    let fd = std::fs::File::open("/dev/null").unwrap();
    let socket = Socket {
        rx,
        tx,
        completion,
        fd: Arc::new(fd.into()),
        held: Held::new(umem.area()),
        umem,
        gathering: Gathering::default(),
        fill_debt: fill.size(),
        fill,
        unkicked: false,
        counters: Counters::default(),
        last_error: None,
        interface: Interface::new(std::num::NonZeroU32::MIN),
        queue: QueueId(0),
        granted: Granted {
            zero_copy: false,
            need_wakeup: true,
            multi_buffer,
        },
    };
    let kernel = Kernel {
        area: umem.area(),
        rx: kernel_rx,
        tx: kernel_tx,
        fill: kernel_fill,
        completion: kernel_completion,
        empty: VecDeque::new(),
        sending: VecDeque::new(),
    };
    (socket, kernel, pool)
}

/// Memory at an address of the UMEM, whose frame must be with the kernel.
fn memory<'a>(area: &'static Area, address: u64, len: usize) -> &'a mut [u8] {
    assert!(address as usize + len <= area.bytes());
    // SAFETY: inside the area, and in these tests nobody else uses the kernel's frames.
    unsafe {
        let start = area.base().add(address as usize);
        std::slice::from_raw_parts_mut(start.as_ptr(), len)
    }
}

impl Kernel {
    /// Receives a packet in parts of at most 1792 bytes; false, dropping it, without the room.
    fn receive(&mut self, packet: &[u8]) -> bool {
        let n = self.fill.acquire(RING);
        let (first, second) = self.fill.entries(n);
        self.empty.extend(first.iter().chain(second));
        self.fill.release(n);
        let parts = packet.chunks(1792).count();
        if self.empty.len() < parts || (self.rx.acquire(parts as u32) as usize) < parts {
            return false;
        }
        for (i, part) in packet.chunks(1792).enumerate() {
            let address = self.empty.pop_front().unwrap() + 256;
            memory(self.area, address, part.len()).copy_from_slice(part);
            let options = u32::from(i + 1 < parts);
            self.rx.slots().put(Descriptor {
                address,
                len: part.len() as u32,
                options,
            });
            self.rx.release(1);
        }
        true
    }

    /// Takes what is to be sent; the packets.
    fn send(&mut self, descriptors: u32) -> Vec<Vec<u8>> {
        let n = self.tx.acquire(descriptors).min(descriptors);
        let (first, second) = self.tx.entries(n);
        let mut packets = vec![Vec::new()];
        for descriptor in first.iter().chain(second) {
            self.sending.push_back(descriptor.address);
            let bytes = memory(self.area, descriptor.address, descriptor.len as usize);
            packets.last_mut().unwrap().extend_from_slice(bytes);
            if descriptor.options == 0 {
                packets.push(Vec::new());
            }
        }
        assert_eq!(packets.pop(), Some(Vec::new()), "whole packets in one call");
        self.tx.release(n);
        packets
    }

    fn complete(&mut self, most: usize) {
        let n = self
            .sending
            .len()
            .min(most)
            .min(self.completion.acquire(RING * 2) as usize);
        for address in self.sending.drain(..n) {
            self.completion.slots().put(address);
            self.completion.release(1);
        }
    }
}

fn packet(tag: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| tag.wrapping_add(i as u8)).collect()
}

proptest! {
    /// Random traffic both ways with a worker that sometimes forgets to refill, recycle or let go
    /// of its frames: packets arrive whole and in order or are refused, and every frame is
    /// somewhere.
    #[test]
    fn packets_and_frames_are_conserved(
        steps in prop::collection::vec((0u8..8, 1usize..5000, any::<u8>()), 1..300),
        frames in 20u32..80,
    ) {
        let (mut socket, mut kernel, pool) = socket(frames, true);
        let mut pool = pool.with_jumbos(4);
        let mut wire: VecDeque<Vec<u8>> = VecDeque::new();
        let mut to_send: VecDeque<Vec<u8>> = VecDeque::new();
        let mut held: Vec<Frame> = Vec::with_capacity(12);
        let mut sent = Vec::new();
        for (step, len, tag) in steps {
            match step {
                0 | 1 => {
                    let packet = packet(tag, len);
                    if kernel.receive(&packet) {
                        wire.push_back(packet);
                    }
                }
                2 => {
                    let before = held.len();
                    let dropped = socket.counters.jumbo_without_frame;
                    let n = socket.receive(&mut pool, &mut held);
                    prop_assert_eq!(held.len(), before + n);
                    let mut skipped = socket.counters.jumbo_without_frame - dropped;
                    for frame in &held[before..] {
                        let mut expected = wire.pop_front().unwrap();
                        while skipped > 0 && expected != frame.bytes() {
                            skipped -= 1;
                            expected = wire.pop_front().unwrap();
                        }
                        prop_assert_eq!(frame.bytes(), &expected[..]);
                    }
                    while skipped > 0 {
                        skipped -= 1;
                        wire.pop_front().unwrap();
                    }
                }
                3 => {
                    socket.refill(&mut pool);
                }
                4 => {
                    let frames = held.drain(..held.len().min(5));
                    let mut refused = Vec::new();
                    let offered: Vec<Frame> = frames.collect();
                    let contents: Vec<Vec<u8>> =
                        offered.iter().map(|f| f.bytes().to_vec()).collect();
                    let n = socket.transmit_or_else(&mut pool, offered, |pool, frame, _| {
                        refused.push(frame.bytes().to_vec());
                        pool.give(frame);
                    });
                    prop_assert_eq!(n + refused.len(), contents.len());
                    let mut refused = refused.into_iter().peekable();
                    for packet in contents {
                        if refused.peek() == Some(&packet) {
                            refused.next();
                        } else {
                            to_send.push_back(packet);
                        }
                    }
                }
                5 => {
                    for packet in kernel.send(u32::MAX) {
                        prop_assert_eq!(to_send.pop_front(), Some(packet.clone()));
                        sent.push(packet);
                    }
                }
                6 => kernel.complete(len % 8),
                _ => {
                    socket.recycle(&mut pool);
                    pool.give_all(held.drain(..held.len() / 2));
                }
            }
            if let Some(census) = pool.audit() {
                prop_assert_eq!(census.total(), frames);
                prop_assert_eq!(census.receive, socket.held.receive());
                prop_assert_eq!(census.transmit, socket.held.transmit());
                prop_assert_eq!(census.hand as usize, held.iter().filter(|f| {
                    std::ptr::eq(f.area(), kernel.area)
                }).count());
            }
        }
        prop_assert_eq!(socket.counters.foreign_addresses, 0);
        // Everything ends: with the worker and the kernel at work, all frames return.
        for _ in 0..10 {
            pool.give_all(held.drain(..));
            kernel.send(u32::MAX);
            kernel.complete(usize::MAX);
            socket.recycle(&mut pool);
            while socket.receive(&mut pool, &mut held) > 0 {
                pool.give_all(held.drain(..));
            }
        }
        socket.refill(&mut pool);
        prop_assert_eq!(socket.held.receive(), RING, "the kernel has frames to receive into");
        let free = pool.len() as u32 + socket.held.receive();
        prop_assert_eq!(free, frames);
        prop_assert_eq!(socket.held.transmit(), 0);
    }

    /// A kernel that returns addresses it never got, or twice, makes no second owner of a frame.
    #[test]
    fn addresses_that_were_not_given_are_refused(
        addresses in prop::collection::vec(prop_oneof![any::<u64>(), 0u64..(40 * 2048)], 1..16),
    ) {
        let (mut socket, mut kernel, mut pool) = socket(32, false);
        socket.refill(&mut pool);
        for &address in &addresses {
            kernel.completion.acquire(1);
            kernel.completion.slots().put(address);
            kernel.completion.release(1);
            kernel.rx.acquire(1);
            kernel.rx.slots().put(Descriptor { address, len: u32::MAX, options: 0 });
            kernel.rx.release(1);
        }
        prop_assert_eq!(socket.recycle(&mut pool), 0, "nothing was sent, so nothing is looked at");
        let one = pool.take().map(|mut frame| {
            assert!(frame.set(&[0; 60]));
            frame
        });
        prop_assert_eq!(socket.transmit(&mut pool, one), 1);
        let mut got = Vec::with_capacity(16);
        socket.receive(&mut pool, &mut got);
        socket.recycle(&mut pool);
        let mut starts: Vec<u64> = got.iter().map(Frame::chunk_address).collect();
        starts.sort_unstable();
        starts.dedup();
        prop_assert_eq!(starts.len(), got.len(), "each frame once");
        prop_assert!(got.iter().all(|f| f.headroom() + f.len() <= 2048));
        prop_assert!(
            socket.counters.foreign_addresses as usize + got.len() >= addresses.len()
        );
        if let Some(census) = pool.audit() {
            prop_assert_eq!(census.total(), 32);
        }
    }
}

#[test]
fn a_full_ring_refuses_and_the_frames_return() {
    let (mut socket, mut kernel, mut pool) = socket(64, false);
    let frames: Vec<Frame> = (0..20)
        .map(|i| {
            let mut frame = pool.take().unwrap();
            assert!(frame.set(&packet(i, 60)));
            frame
        })
        .collect();
    assert_eq!(socket.transmit(&mut pool, frames), RING as usize);
    assert_eq!(socket.counters.refused_ring_full, 4);
    assert_eq!(pool.len(), 64 - RING as usize);
    assert_eq!(socket.rings().transmit, RING);
    assert_eq!(socket.kick(), Link::Up);
    assert_eq!(socket.counters.kicks, 0, "nobody asked for a wake-up");
    assert_eq!(kernel.send(u32::MAX).len(), RING as usize);
    assert_eq!(socket.rings().device, RING);
    kernel.complete(usize::MAX);
    assert_eq!(socket.rings().completion, RING);
    assert_eq!(socket.recycle(&mut pool), RING as usize);
    assert_eq!(pool.len(), 64);
}

#[test]
fn an_empty_pool_starves_the_fill_ring_only_for_a_while() {
    let (mut socket, mut kernel, mut pool) = socket(20, false);
    let hoard: Vec<Frame> = std::iter::from_fn(|| pool.take()).collect();
    assert_eq!(socket.refill(&mut pool), 0);
    assert_eq!(
        (socket.counters.fill_short, socket.counters.fill_starved),
        (1, 1)
    );
    assert!(!kernel.receive(&[1; 60]));
    pool.give_all(hoard);
    assert_eq!(socket.refill(&mut pool), RING as usize);
    assert_eq!(socket.refill(&mut pool), 0, "it is full");
    assert_eq!(socket.counters.fill_short, 1);
    assert!(kernel.receive(&[1; 60]));
    let mut got = Vec::with_capacity(4);
    assert_eq!(socket.receive(&mut pool, &mut got), 1);
}

#[test]
fn a_sink_bounds_what_is_received() {
    let (mut socket, mut kernel, mut pool) = socket(32, false);
    socket.refill(&mut pool);
    assert!((0..5).all(|i| kernel.receive(&packet(i, 60))));
    let mut two = arrayvec::ArrayVec::<Frame, 2>::new();
    assert_eq!(socket.receive(&mut pool, &mut two), 2);
    assert_eq!(socket.receive(&mut pool, &mut two), 0);
    pool.give_all(two.drain(..));
    let mut rest = Vec::with_capacity(9);
    assert_eq!(socket.receive(&mut pool, &mut rest), 3);
    assert_eq!(rest[2].bytes(), packet(4, 60));
}

#[test]
#[should_panic(expected = "frames of its own UMEM")]
fn a_pool_of_another_umem_is_refused() {
    let (mut socket, _kernel, _pool) = socket(8, false);
    socket.refill(&mut FramePool::heap(8, 2048));
}
