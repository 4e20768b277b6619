//! All orders in which messages can arrive, some of them lost; and what becomes of two sides that
//! initiate at once.

use std::time::Duration;

use super::world::{World, pair};
use crate::Startup;

const SECOND: Duration = Duration::from_secs(1);

/// Every sequence of `depth` deliveries, with up to `losses` of them lost. Says how many.
pub(crate) fn every_order(depth: usize, losses: usize, mut try_one: impl FnMut(&[&str])) -> usize {
    const WORDS: [&str; 4] = [">", "<", "!>", "!<"];
    let mut tried = 0;
    let mut path = vec![0usize; depth];
    loop {
        let lost = path.iter().filter(|w| **w >= 2).count();
        if lost <= losses {
            let words: Vec<&str> = path.iter().map(|w| WORDS[*w]).collect();
            try_one(&words);
            tried += 1;
        }
        // The next path, as a number of base four.
        let Some(position) = path.iter().rposition(|w| *w < WORDS.len() - 1) else {
            return tried;
        };
        path[position] += 1;
        path[position + 1..].fill(0);
    }
}

/// Both sides initiate at once, and no tunnel is there yet: whatever the order, one is left.
#[test]
fn every_order_of_two_initiations_ends_with_one_tunnel() {
    for seed in [2_100, 2_101, 2_102] {
        let tried = every_order(6, 1, |words| {
            let (a, mut b) = pair();
            b.startup = Startup::Start;
            let mut world = World::new(seed, 2);
            world.hold = true;
            world.configure(0, vec![a]);
            world.configure(1, vec![b]);
            for word in words {
                let side = usize::from(word.contains('<'));
                let Some(packet) = world.held[side].pop_front() else {
                    continue;
                };
                if !word.starts_with('!') {
                    world.deliver(&packet);
                }
            }
            world.release();
            world.run(45 * SECOND);
            let label = format!("{}, seed {seed}", words.join(" "));
            for (i, node) in world.nodes.iter().enumerate() {
                assert_eq!(node.endpoint.sas.len(), 1, "{label}: {i}: {:#?}", node.log);
                assert_eq!(node.inbound.len(), 1, "{label}: {i}: {:#?}", node.log);
                assert!(node.failures.is_empty(), "{label}: {:?}", node.failures);
            }
            world.expect_up();
        });
        assert_eq!(tried, 64 + 6 * 64);
    }
}
