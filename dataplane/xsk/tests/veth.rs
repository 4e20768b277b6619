//! Sockets on real (virtual) interfaces. Needs root and `ip`; says so and passes without.

mod support;

use std::time::{Duration, Instant};

use hawser_xsk::{
    CopyMode, Frame, FramePool, HEADROOM, Interface, Link, OpenError, Options, PollSet, QueueId,
    Refusal, Socket, Umem,
};
use support::{Pair, Redirect};

const FRAMES: u32 = 4096;

/// Small rings, so that their ends are met.
fn options() -> Options {
    Options {
        fill_ring: 256,
        receive_ring: 256,
        transmit_ring: 256,
        ..Options::default()
    }
}

fn packet(tag: u8, len: usize) -> Vec<u8> {
    let mut packet = vec![0xff; 6];
    packet.extend([2, 0, 0, 0, 0, tag, 0x88, 0xb5]);
    packet.extend((packet.len()..len).map(|i| (i as u8).wrapping_mul(tag)));
    packet
}

fn frame(pool: &mut FramePool, packet: &[u8]) -> Frame {
    let mut frame = pool.take().expect("a free frame");
    assert!(frame.set(packet));
    frame
}

/// Opens a socket that offers its frames, and redirects its queue to it.
fn listen(
    umem: &Umem,
    pool: &mut FramePool,
    redirect: &Redirect,
    interface: Interface,
    queue: u32,
    options: &Options,
) -> Socket {
    let mut socket = Socket::open(umem, interface, QueueId(queue), options).unwrap();
    assert_eq!(socket.refill(pool), options.fill_ring as usize);
    redirect.insert(queue, std::os::fd::AsFd::as_fd(&socket));
    socket
}

/// Receives until `n` packets are there, or two seconds are over.
fn receive(socket: &mut Socket, pool: &mut FramePool, n: usize) -> Vec<Frame> {
    let mut got = Vec::with_capacity(n);
    let until = Instant::now() + Duration::from_secs(2);
    while got.len() < n && Instant::now() < until {
        socket.receive(pool, &mut got);
        socket.refill(pool);
    }
    got
}

/// Sends, and waits for the frames to return.
fn send(socket: &mut Socket, pool: &mut FramePool, frames: Vec<Frame>) {
    let n = frames.len();
    assert_eq!(socket.transmit(pool, frames), n);
    flush(socket, pool);
}

fn flush(socket: &mut Socket, pool: &mut FramePool) {
    let until = Instant::now() + Duration::from_secs(2);
    while (socket.pending() > 0 || socket.rings().device > 0) && Instant::now() < until {
        assert_eq!(socket.kick(), Link::Up);
        socket.recycle(pool);
        if socket.pending() == 0 {
            break;
        }
    }
    assert_eq!(socket.pending(), 0);
}

fn contents(frames: &[Frame]) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| frame.bytes().to_vec()).collect()
}

/// All frames are somewhere, and with the rings empty, free.
fn check_census(pool: &FramePool) {
    if let Some(census) = pool.audit() {
        assert_eq!(census.total(), FRAMES, "{census:?}");
    }
}

/// One UMEM, two interfaces, two queues each: packets go both ways and stay on their queue.
#[test]
fn round_trips_over_shared_umem() {
    let Some(Pair { a, b }) = support::pair(2, 1500) else {
        return;
    };
    let (umem, mut pool) = Umem::new(FRAMES, 2048).unwrap();
    let redirects = [Redirect::attach(a, false), Redirect::attach(b, false)];
    let mut open = |end: usize, interface, queue| {
        listen(
            &umem,
            &mut pool,
            &redirects[end],
            interface,
            queue,
            &options(),
        )
    };
    let mut a_sockets = [open(0, a, 0), open(0, a, 1)];
    let mut b_sockets = [open(1, b, 0), open(1, b, 1)];
    assert!(!a_sockets[0].granted().zero_copy, "veth has none");

    for round in 0..20 {
        for queue in 0..2u8 {
            let sent: Vec<_> = (0..40)
                .map(|i| packet(queue * 100 + i + 1, 60 + 7 * usize::from(i)))
                .collect();
            let (from, to) = if round % 2 == 0 {
                (
                    &mut a_sockets[usize::from(queue)],
                    &mut b_sockets[usize::from(queue)],
                )
            } else {
                (
                    &mut b_sockets[usize::from(queue)],
                    &mut a_sockets[usize::from(queue)],
                )
            };
            let frames = sent.iter().map(|packet| frame(&mut pool, packet)).collect();
            send(from, &mut pool, frames);
            let got = receive(to, &mut pool, sent.len());
            assert_eq!(contents(&got), sent);
            assert!(got.iter().all(|frame| frame.headroom() == HEADROOM));
            pool.give_all(got);
        }
    }
    for socket in a_sockets.iter().chain(&b_sockets) {
        let counters = socket.counters();
        assert_eq!((counters.received, counters.transmitted), (400, 400));
        assert_eq!(counters.foreign_addresses + counters.kicks_failed, 0);
        assert_eq!(socket.link(), Link::Up);
    }
    drop((a_sockets, b_sockets));
    check_census(&pool);
}

/// The gateway's work: a received packet gets a header in front and leaves, in the same memory.
#[test]
fn forwards_with_a_header_without_a_copy() {
    let Some(Pair { a, b }) = support::pair(1, 1500) else {
        return;
    };
    let (umem, mut pool) = Umem::new(FRAMES, 2048).unwrap();
    let (to_a, to_b) = (Redirect::attach(a, false), Redirect::attach(b, false));
    let mut a_socket = listen(&umem, &mut pool, &to_a, a, 0, &options());
    let mut b_socket = listen(&umem, &mut pool, &to_b, b, 0, &options());

    let sent = frame(&mut pool, &packet(7, 1000));
    send(&mut a_socket, &mut pool, vec![sent]);
    let mut got = receive(&mut b_socket, &mut pool, 1)
        .pop()
        .expect("one packet");
    let memory = got.bytes().as_ptr();
    let header = packet(9, 94);
    assert!(got.grow_front(header.len()));
    got.bytes_mut()[..header.len()].copy_from_slice(&header);
    assert_eq!(got.bytes()[header.len()..].as_ptr(), memory);
    send(&mut b_socket, &mut pool, vec![got]);
    let back = receive(&mut a_socket, &mut pool, 1);
    assert_eq!(contents(&back), [[header, packet(7, 1000)].concat()]);
}

/// 9000 bytes arrive in several chunks and leave in several, whatever the chunk size, and a sink
/// that holds one frame does not tear a packet.
#[test]
fn jumbo_packets_both_ways() {
    let Some(Pair { a, b }) = support::pair(1, 9000) else {
        return;
    };
    let options = Options {
        multi_buffer: true,
        ..options()
    };
    for chunk in [2048, 4096] {
        let (umem, pool) = Umem::new(FRAMES, chunk).unwrap();
        let mut pool = pool.with_jumbos(8);
        let (to_a, to_b) = (Redirect::attach(a, true), Redirect::attach(b, true));
        let mut a_socket = listen(&umem, &mut pool, &to_a, a, 0, &options);
        let mut b_socket = listen(&umem, &mut pool, &to_b, b, 0, &options);
        assert!(a_socket.granted().multi_buffer);

        let sent: Vec<_> = [
            9014, 60, 5000, 1514, 9014, 1792, 1793, 3840, 3841, 4096, 4097, 8192,
        ]
        .into_iter()
        .zip(1..)
        .map(|(len, tag)| packet(tag, len))
        .collect();
        for packets in sent.chunks(4) {
            let jumbo = |packet: &Vec<u8>| {
                let mut jumbo = pool.take_jumbo().expect("a free jumbo frame");
                assert!(jumbo.set(packet));
                jumbo
            };
            let frames: Vec<Frame> = packets.iter().map(jumbo).collect();
            send(&mut a_socket, &mut pool, frames);
            let mut got = Vec::new();
            let until = Instant::now() + Duration::from_secs(2);
            while got.len() < packets.len() && Instant::now() < until {
                let mut one = Vec::with_capacity(1);
                b_socket.receive(&mut pool, &mut one);
                got.append(&mut one);
                b_socket.refill(&mut pool);
            }
            assert_eq!(contents(&got), packets, "chunk {chunk}");
            // And back, as received.
            send(&mut b_socket, &mut pool, got);
            let back = receive(&mut a_socket, &mut pool, packets.len());
            assert_eq!(contents(&back), packets, "chunk {chunk}");
            pool.give_all(back);
        }
        assert_eq!(pool.jumbos(), 8);
        assert!(b_socket.counters().received_jumbo >= 5);
        assert_eq!(b_socket.kernel_counters().unwrap().transmit_invalid, 0);
        drop((a_socket, b_socket, to_a, to_b));
        check_census(&pool);
    }
}

/// Without jumbo frames a packet of several chunks is dropped and counted, and the next arrives.
#[test]
fn jumbo_packets_without_frames_are_counted() {
    let Some(Pair { a, b }) = support::pair(1, 9000) else {
        return;
    };
    let options = Options {
        multi_buffer: true,
        ..options()
    };
    let (umem, mut pool) = Umem::new(FRAMES, 2048).unwrap();
    let mut heap = FramePool::heap(1, 16384);
    let to_b = Redirect::attach(b, true);
    let mut b_socket = listen(&umem, &mut pool, &to_b, b, 0, &options);
    let mut a_socket = Socket::open(&umem, a, QueueId(0), &options).unwrap();
    let jumbo = frame(&mut heap, &packet(1, 9000));
    let small = frame(&mut pool, &packet(2, 100));
    send(&mut a_socket, &mut pool, vec![jumbo, small]);
    let got = receive(&mut b_socket, &mut pool, 1);
    assert_eq!(contents(&got), [packet(2, 100)]);
    assert_eq!(b_socket.counters().jumbo_without_frame, 1);
}

/// What cannot be sent comes back with the reason, and nothing is lost on the way.
#[test]
fn refused_frames_come_back() {
    let Some(Pair { a, .. }) = support::pair(1, 1500) else {
        return;
    };
    let (umem, mut pool) = Umem::new(FRAMES, 2048).unwrap();
    let mut socket = Socket::open(&umem, a, QueueId(0), &options()).unwrap();
    let mut heap = FramePool::heap(2, 4096);

    let mut frames = vec![
        frame(&mut pool, &[0; 13]),
        frame(&mut heap, &[0; 3000]),
        frame(&mut heap, &packet(1, 60)),
    ];
    frames.extend((0..300).map(|_| frame(&mut pool, &packet(2, 60))));
    let mut refusals = Vec::new();
    let sent = socket.transmit_or_else(&mut pool, frames, |pool, frame, why| {
        refusals.push(why);
        pool.give(frame);
    });
    assert_eq!(
        sent, 256,
        "one copied heap frame and as many as the ring holds"
    );
    assert_eq!(refusals[..2], [Refusal::TooShort, Refusal::TooLong]);
    assert_eq!(refusals[2..], vec![Refusal::RingFull; 45]);
    let counters = socket.counters();
    assert_eq!(counters.refused_ring_full, 45);
    assert_eq!(
        (counters.refused_too_short, counters.refused_too_long),
        (1, 1)
    );

    // With all frames held elsewhere there is none to copy into; the packet is still counted.
    flush(&mut socket, &mut pool);
    let hoard: Vec<Frame> = std::iter::from_fn(|| pool.take()).collect();
    let orphan = frame(&mut heap, &packet(3, 60));
    assert_eq!(socket.transmit(&mut pool, [orphan]), 0);
    assert_eq!(socket.counters().refused_no_frame, 1);
    pool.give_all(hoard);
    check_census(&pool);
}

/// The receive side out of frames: packets are dropped by the kernel, nothing hangs, and when
/// frames return so does the traffic.
#[test]
fn out_of_frames_and_back() {
    let Some(Pair { a, b }) = support::pair(1, 1500) else {
        return;
    };
    let (umem, mut pool) = Umem::new(FRAMES, 2048).unwrap();
    let to_b = Redirect::attach(b, false);
    let options = Options {
        fill_ring: 64,
        ..options()
    };
    let mut b_socket = listen(&umem, &mut pool, &to_b, b, 0, &options);
    let mut a_socket = Socket::open(&umem, a, QueueId(0), &options).unwrap();

    let burst: Vec<Frame> = (0..100).map(|i| frame(&mut pool, &packet(i, 60))).collect();
    let hoard: Vec<Frame> = std::iter::from_fn(|| pool.take()).collect();
    assert_eq!(a_socket.transmit(&mut pool, burst), 100);
    assert_eq!(a_socket.kick(), Link::Up);
    let mut held = Vec::with_capacity(200);
    let until = Instant::now() + Duration::from_secs(2);
    while held.len() < 64 && Instant::now() < until {
        b_socket.receive(&mut pool, &mut held);
        b_socket.refill(&mut pool);
    }
    assert_eq!(held.len(), 64, "as many as frames were offered");
    assert!(b_socket.counters().fill_short > 0);
    assert!(b_socket.counters().fill_starved > 0);
    let kernel = b_socket.kernel_counters().unwrap();
    assert!(kernel.fill_ring_empty >= 36, "{kernel:?}");
    assert_eq!(kernel.receive_dropped, 0, "counted once: {kernel:?}");

    pool.give_all(hoard);
    pool.give_all(held);
    b_socket.refill(&mut pool);
    flush(&mut a_socket, &mut pool);
    let again = (0..50).map(|i| frame(&mut pool, &packet(i, 80))).collect();
    send(&mut a_socket, &mut pool, again);
    assert_eq!(receive(&mut b_socket, &mut pool, 50).len(), 50);
    check_census(&pool);
}

/// A queue can be had again at once, and the frames of the old socket are back.
#[test]
fn a_queue_is_closed_and_opened_again() {
    let Some(Pair { a, b }) = support::pair(1, 1500) else {
        return;
    };
    let (umem, mut pool) = Umem::new(300, 2048).unwrap();
    let to_b = Redirect::attach(b, false);
    for round in 0..5 {
        // 300 frames: without those of the last round the fill ring could not be filled.
        let mut b_socket = Socket::open(&umem, b, QueueId(0), &options()).unwrap();
        assert_eq!(b_socket.refill(&mut pool), 256, "round {round}");
        to_b.insert(0, std::os::fd::AsFd::as_fd(&b_socket));
        let mut a_socket = Socket::open(&umem, a, QueueId(0), &options()).unwrap();
        let sent = frame(&mut pool, &packet(round, 100));
        send(&mut a_socket, &mut pool, vec![sent]);
        assert_eq!(receive(&mut b_socket, &mut pool, 1).len(), 1);
        a_socket.recycle(&mut pool);
    }
}

/// Set down, the interface refuses; set up again, what waited is sent.
#[test]
fn a_link_goes_down_and_up() {
    let Some(Pair { a, b }) = support::pair(1, 1500) else {
        return;
    };
    let (umem, mut pool) = Umem::new(FRAMES, 2048).unwrap();
    let to_b = Redirect::attach(b, false);
    let mut b_socket = listen(&umem, &mut pool, &to_b, b, 0, &options());
    let mut a_socket = Socket::open(&umem, a, QueueId(0), &options()).unwrap();
    support::ip("link set dev a down");
    let sent = frame(&mut pool, &packet(1, 100));
    assert_eq!(a_socket.transmit(&mut pool, [sent]), 1);
    assert_eq!(a_socket.kick(), Link::Down);
    assert_eq!(a_socket.link(), Link::Down);
    assert_eq!(a_socket.pending(), 1);
    support::ip("link set dev a up");
    flush(&mut a_socket, &mut pool);
    assert_eq!(receive(&mut b_socket, &mut pool, 1).len(), 1);
    assert_eq!(a_socket.link(), Link::Up);

    // The peer down: no carrier, so the kernel takes packets and drops them.
    support::ip("link set dev b down");
    let sent = frame(&mut pool, &packet(1, 100));
    assert_eq!(a_socket.transmit(&mut pool, [sent]), 1);
    assert_eq!(a_socket.kick(), Link::Up);
    assert_eq!(a_socket.counters().dropped_by_device, 1);
    a_socket.recycle(&mut pool);
    assert_eq!(a_socket.rings().device + a_socket.rings().transmit, 0);
    check_census(&pool);
}

/// The interface is deleted under the sockets: they say so and do not hang, their frames return,
/// and the same UMEM serves the next interface.
#[test]
fn an_interface_is_deleted() {
    let Some(Pair { a, b }) = support::pair(1, 1500) else {
        return;
    };
    let (umem, mut pool) = Umem::new(FRAMES, 2048).unwrap();
    let to_b = Redirect::attach(b, false);
    let mut b_socket = listen(&umem, &mut pool, &to_b, b, 0, &options());
    let mut a_socket = listen_without_program(&umem, &mut pool, a);
    support::ip("link del dev a");

    let sent = frame(&mut pool, &packet(1, 100));
    assert_eq!(a_socket.transmit(&mut pool, [sent]), 1);
    assert_eq!(a_socket.kick(), Link::Gone);
    assert_eq!((a_socket.link(), b_socket.link()), (Link::Gone, Link::Gone));
    let mut none = Vec::with_capacity(1);
    assert_eq!(b_socket.receive(&mut pool, &mut none), 0);

    // While the dead sockets are still there, and after.
    let Pair { a, b } = support::add_pair(1, 1500);
    let mut new_a = Socket::open(&umem, a, QueueId(0), &options()).unwrap();
    drop((a_socket, b_socket, to_b));
    let to_b = Redirect::attach(b, false);
    let mut new_b = listen(&umem, &mut pool, &to_b, b, 0, &options());
    let sent = frame(&mut pool, &packet(2, 100));
    send(&mut new_a, &mut pool, vec![sent]);
    assert_eq!(
        contents(&receive(&mut new_b, &mut pool, 1)),
        [packet(2, 100)]
    );
    check_census(&pool);
}

/// A sleeping worker wakes up for a packet, and sleep itself sends what waits in the ring.
#[test]
fn a_packet_ends_the_sleep() {
    let Some(Pair { a, b }) = support::pair(1, 1500) else {
        return;
    };
    let (umem, mut pool) = Umem::new(FRAMES, 2048).unwrap();
    let to_b = Redirect::attach(b, false);
    let mut b_socket = listen(&umem, &mut pool, &to_b, b, 0, &options());
    let mut a_socket = Socket::open(&umem, a, QueueId(0), &options()).unwrap();
    let mut set = PollSet::new();
    let position = set.add(std::os::fd::AsFd::as_fd(&b_socket));
    assert_eq!(set.sleep(Duration::from_millis(1)).unwrap(), 0);

    let sent = frame(&mut pool, &packet(1, 100));
    let sender = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        send(&mut a_socket, &mut pool, vec![sent]);
        (a_socket, pool)
    });
    let start = Instant::now();
    assert_eq!(set.sleep(Duration::from_secs(20)).unwrap(), 1);
    assert!(start.elapsed() < Duration::from_secs(10) && set.is_ready(position));
    let (mut a_socket, mut pool) = sender.join().unwrap();
    assert_eq!(receive(&mut b_socket, &mut pool, 1).len(), 1);

    // Never kicked: polling the sender's socket is enough.
    let sent = frame(&mut pool, &packet(2, 100));
    assert_eq!(a_socket.transmit(&mut pool, [sent]), 1);
    set.add(std::os::fd::AsFd::as_fd(&a_socket));
    set.sleep(Duration::from_millis(1)).unwrap();
    assert_eq!(
        contents(&receive(&mut b_socket, &mut pool, 1)),
        [packet(2, 100)]
    );
}

fn listen_without_program(umem: &Umem, pool: &mut FramePool, interface: Interface) -> Socket {
    let mut socket = Socket::open(umem, interface, QueueId(0), &options()).unwrap();
    socket.refill(pool);
    socket
}

/// Each way to fail has its own answer.
#[test]
fn errors_say_what_is_wrong() {
    let Some(Pair { a, b }) = support::pair(1, 1500) else {
        return;
    };
    let (umem, _pool) = Umem::new(FRAMES, 2048).unwrap();
    let open = |interface, queue, options: &Options| {
        Socket::open(&umem, interface, QueueId(queue), options)
            .map(drop)
            .unwrap_err()
    };
    let must = Options {
        copy: CopyMode::ZeroCopy,
        ..options()
    };
    assert!(matches!(open(a, 0, &must), OpenError::NoZeroCopy { .. }));
    let odd = Options {
        fill_ring: 100,
        ..options()
    };
    assert!(matches!(open(a, 0, &odd), OpenError::RingSize(100)));
    assert!(matches!(
        open(a, 1, &options()),
        OpenError::NoQueue { queue: 1, .. }
    ));
    let nowhere = Interface::new(std::num::NonZeroU32::new(9999).unwrap());
    assert!(matches!(
        open(nowhere, 0, &options()),
        OpenError::NoInterface(9999)
    ));

    let _first = Socket::open(&umem, a, QueueId(0), &options()).unwrap();
    let other = Options {
        multi_buffer: true,
        ..options()
    };
    assert!(matches!(open(b, 0, &other), OpenError::Differs { .. }));
    let (stranger, _pool) = Umem::new(64, 2048).unwrap();
    let busy = Socket::open(&stranger, a, QueueId(0), &options())
        .map(drop)
        .unwrap_err();
    assert!(matches!(busy, OpenError::Busy { .. }), "{busy}");
}
