//! The packet loop does not allocate: counted, on real interfaces.

mod support;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use hawser_counting_allocator::{CountingAllocator, allocated};
use hawser_xsk::{Frame, Options, QueueId, Rest, Round, Socket, Umem, Wakeup, WakeupMode};
use support::{Pair, Redirect};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Forwards packets, jumbo ones included, from `b` back to `a`, and sleeps in between.
#[test]
fn forwarding_does_not_allocate() {
    let Some(Pair { a, b }) = support::pair(1, 9000) else {
        return;
    };
    let options = Options {
        multi_buffer: true,
        ..Options::default()
    };
    let (umem, pool) = Umem::new(16384, 2048).unwrap();
    let mut pools = pool.split(2).into_iter().map(|pool| pool.with_jumbos(32));
    let (mut source, mut pool) = (pools.next().unwrap(), pools.next().unwrap());
    let (to_a, to_b) = (Redirect::attach(a, true), Redirect::attach(b, true));
    let mut a_socket = Socket::open(&umem, a, QueueId(0), &options).unwrap();
    let mut b_socket = Socket::open(&umem, b, QueueId(0), &options).unwrap();
    a_socket.refill(&mut source);
    b_socket.refill(&mut pool);
    to_a.insert(0, a_socket.as_fd());
    to_b.insert(0, b_socket.as_fd());
    let mut wakeup = Wakeup::new(WakeupMode::Poll);
    let mut batch: Vec<Frame> = Vec::with_capacity(64);
    let mut set = hawser_xsk::PollSet::new();
    set.add(a_socket.as_fd());

    let ((), cost) = allocated(|| {
        let until = Instant::now() + Duration::from_secs(20);
        let mut returned = 0;
        while returned < 10_000 {
            assert!(Instant::now() < until, "only {returned} packets returned");
            for i in 0..16 {
                let jumbo = i % 8 == 0;
                let Some(mut frame) = (if jumbo {
                    source.take_jumbo()
                } else {
                    source.take()
                }) else {
                    break;
                };
                assert!(frame.set(&[0xff; 60]) && frame.grow_back(if jumbo { 8000 } else { 100 }));
                batch.push(frame);
            }
            a_socket.transmit(&mut source, batch.drain(..));
            a_socket.kick();
            a_socket.recycle(&mut source);

            // The frames wander: what `b` forwards comes from the pool of one and goes to the other's.
            b_socket.receive(&mut pool, &mut batch);
            b_socket.refill(&mut pool);
            b_socket.transmit(&mut source, batch.drain(..));
            b_socket.kick();
            b_socket.recycle(&mut source);

            returned += a_socket.receive(&mut pool, &mut batch);
            pool.give_all(batch.drain(..));
            a_socket.refill(&mut source);
            let round = Round {
                work: 0,
                unfinished: true,
            };
            if let Rest::Sleep(longest) = wakeup.after(round, Instant::now()) {
                set.sleep(longest / 100).unwrap();
            }
        }
    });
    assert!(a_socket.counters().received_jumbo > 100);
    assert_eq!(cost.calls, 0);
}
