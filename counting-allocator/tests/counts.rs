//! The counts are right: none for what allocates nothing, each growth for a list that grows.

use hawser_counting_allocator::{Allocated, CountingAllocator, allocated};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn what_allocates_nothing_costs_nothing() {
    let mut room = Vec::with_capacity(8);
    let ((), cost) = allocated(|| room.extend([1_u64; 8]));
    assert_eq!(cost, Allocated::default());
}

#[test]
fn growth_and_what_was_given_back_count() {
    let ((), cost) = allocated(|| {
        let mut list = Vec::with_capacity(4);
        list.extend([1_u8; 5]);
        drop(list);
        drop(vec![0_u8; 100]);
    });
    assert_eq!((cost.calls, cost.octets), (3, 4 + 8 + 100));
}

#[test]
fn other_threads_do_not_disturb() {
    let ((), cost) = allocated(|| {
        std::thread::scope(|scope| {
            scope.spawn(|| drop(vec![0_u8; 1_000_000]));
        });
    });
    assert!(cost.octets < 100_000, "{cost:?}");
}
