//! Both ends of a ring in ordinary memory, against a queue that cannot be wrong.

use std::collections::VecDeque;
use std::thread;

use proptest::prelude::*;

use super::*;

/// The kernel's layout: each index on a cache line of its own.
const LAYOUT: Layout = Layout {
    producer: 0,
    consumer: 64,
    flags: 128,
    entries: 192,
};

/// Both ends of one ring, with the indexes starting at `start`.
fn ring<T: Entry>(size: u32, start: u32) -> (Producer<T>, Consumer<T>) {
    let len = LAYOUT.entries + size as usize * size_of::<T>();
    let (memory, _) = Mapping::anonymous(len, false).unwrap();
    let memory = Arc::new(memory);
    let shared: Shared<T> = Shared::new(memory.clone(), LAYOUT, size);
    shared.producer().store(start, Ordering::Relaxed);
    shared.consumer().store(start, Ordering::Relaxed);
    // SAFETY: one of each.
    unsafe {
        (
            Producer::new(memory.clone(), LAYOUT, size),
            Consumer::new(memory, LAYOUT, size),
        )
    }
}

fn produce(producer: &mut Producer<u64>, values: impl IntoIterator<Item = u64>) -> u32 {
    let mut slots = producer.slots();
    let mut n = 0;
    for value in values {
        if slots.left() == 0 {
            break;
        }
        slots.put(value);
        n += 1;
    }
    producer.release(n);
    n
}

fn consume(consumer: &mut Consumer<u64>, most: u32) -> Vec<u64> {
    let n = consumer.acquire(most).min(most);
    let (first, second) = consumer.entries(n);
    let values = [first, second].concat();
    consumer.release(n);
    values
}

proptest! {
    /// Random bursts, with indexes that wrap at 2^32 on the way: same values, same order, same
    /// counts as in a queue of the same capacity.
    #[test]
    fn a_ring_is_a_queue(
        bits in 0u32..7,
        before_wrap in 0u32..200,
        steps in prop::collection::vec((any::<bool>(), 0u32..80), 1..200),
    ) {
        let size = 1 << bits;
        let (mut producer, mut consumer) = ring::<u64>(size, 0u32.wrapping_sub(before_wrap));
        let mut model = VecDeque::new();
        let mut next = 0u64;
        for (produces, n) in steps {
            if produces {
                let free = size - model.len() as u32;
                let seen = producer.acquire(n);
                // A look is only needed, and only promised, when the last one does not suffice.
                prop_assert!(seen <= free && (seen == free || seen >= n));
                let put = produce(&mut producer, (next..).take(n as usize));
                prop_assert_eq!(put, n.min(free));
                model.extend(next..next + u64::from(put));
                next += u64::from(put);
            } else {
                let got = consume(&mut consumer, n);
                let expected: Vec<u64> = model.drain(..model.len().min(n as usize)).collect();
                prop_assert_eq!(got, expected);
            }
            prop_assert_eq!(producer.pending(), model.len() as u32);
            prop_assert_eq!(consumer.pending(), model.len() as u32);
        }
    }

    /// An index that makes no sense must not lead outside the ring.
    #[test]
    fn nonsense_from_the_other_side_stays_inside(index in any::<u32>(), start in any::<u32>()) {
        let (mut producer, mut consumer) = ring::<u64>(8, start);
        producer.shared.consumer().store(index, Ordering::Relaxed);
        // More than there can be, so that it does look.
        prop_assert!(producer.acquire(9) <= 8);
        prop_assert!(producer.slots().left() <= 8);
        consumer.shared.producer().store(index, Ordering::Relaxed);
        let filled = consumer.acquire(9);
        prop_assert!(filled <= 8);
        let (first, second) = consumer.entries(filled);
        prop_assert_eq!((first.len() + second.len()) as u32, filled);
    }
}

#[test]
fn nothing_is_visible_before_release() {
    let (mut producer, mut consumer) = ring::<Descriptor>(4, u32::MAX - 1);
    let sent = Descriptor {
        address: 4096 + 256,
        len: 60,
        options: 1,
    };
    assert_eq!(producer.acquire(4), 4);
    producer.slots().put(sent);
    assert_eq!(consumer.acquire(1), 0);
    producer.release(1);
    assert_eq!(consumer.acquire(1), 1);
    assert_eq!(consumer.entries(1).0, [sent]);
    assert_eq!(producer.acquire(4), 3);
    consumer.release(1);
    assert_eq!(producer.acquire(4), 4);
}

#[test]
fn slices_cover_the_end_and_the_start() {
    let (mut producer, mut consumer) = ring::<u64>(4, 3);
    producer.acquire(4);
    assert_eq!(produce(&mut producer, 10..20), 4);
    consumer.acquire(4);
    assert_eq!(consumer.entries(4), (&[10][..], &[11, 12, 13][..]));
}

#[test]
#[should_panic(expected = "acquired before they are released")]
fn a_producer_cannot_release_more_than_is_free() {
    let (mut producer, _consumer) = ring::<u64>(4, 0);
    producer.release(5);
}

#[test]
#[should_panic(expected = "acquired before they are read")]
fn a_consumer_cannot_read_what_is_not_there() {
    let (_producer, consumer) = ring::<u64>(4, 0);
    consumer.entries(1);
}

#[test]
#[should_panic(expected = "powers of two")]
fn odd_sizes_are_refused() {
    ring::<u64>(6, 0);
}

#[test]
fn the_wakeup_flag_is_read() {
    let (producer, _consumer) = ring::<u64>(4, 0);
    assert!(!producer.needs_wakeup());
    producer
        .shared
        .flags()
        .store(NEED_WAKEUP, Ordering::Relaxed);
    assert!(producer.needs_wakeup());
}

/// Two threads, a small ring, many laps across the 2^32 wrap: every value arrives once, in order
/// and whole.
#[test]
fn two_threads_lose_nothing() {
    const VALUES: u64 = 300_000;
    let (mut producer, mut consumer) = ring::<Descriptor>(64, u32::MAX - 100_000);
    let sender = thread::spawn(move || {
        let mut next = 0;
        while next < VALUES {
            let n = producer
                .acquire(1 + (next % 40) as u32)
                .min((VALUES - next) as u32);
            let mut slots = producer.slots();
            for i in next..next + u64::from(n) {
                slots.put(Descriptor {
                    address: i,
                    len: i as u32,
                    options: !i as u32,
                });
            }
            producer.release(n);
            next += u64::from(n);
            if n == 0 {
                thread::yield_now();
            }
        }
    });
    let mut expected = 0;
    while expected < VALUES {
        let n = consumer.acquire(1 + (expected % 50) as u32);
        let (first, second) = consumer.entries(n);
        for entry in first.iter().chain(second) {
            let whole = Descriptor {
                address: expected,
                len: expected as u32,
                options: !expected as u32,
            };
            assert_eq!(*entry, whole);
            expected += 1;
        }
        consumer.release(n);
        if n == 0 {
            thread::yield_now();
        }
    }
    sender.join().unwrap();
    assert_eq!(consumer.acquire(1), 0);
}
