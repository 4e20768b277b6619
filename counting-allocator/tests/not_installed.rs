//! Without the allocator in place, counting fails instead of finding everything free.

use hawser_counting_allocator::allocated;

#[test]
#[should_panic(expected = "#[global_allocator]")]
fn refuses_to_count() {
    let _ = allocated(|| ());
}
