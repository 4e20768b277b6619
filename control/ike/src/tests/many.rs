//! A thousand tunnels between two endpoints.

use std::time::Duration;

use hawser_api::Secret;

use super::world::{World, connection};
use crate::{Auth, Connection, ConnectionId, IdentityMatch, Startup, State, identity};

const SECOND: Duration = Duration::from_secs(1);
const COUNT: u32 = 1_000;

/// All between the same two addresses, told apart by their identities: the hardest case for
/// finding a connection.
fn side(local: u8, remote: u8, startup: Startup) -> Vec<Connection> {
    (1..=COUNT)
        .map(|n| {
            let name = |side: u8| identity::parse(&format!("t{n}.{side}.example")).expect("good");
            let mut c = connection(local, remote);
            c.id = ConnectionId(n);
            c.local_id = name(local);
            c.remote_id = IdentityMatch::Exact(name(remote));
            c.startup = startup;
            c.auth = Auth::Psk(Secret::new(format!("the key of tunnel {n}").into_bytes()));
            c
        })
        .collect()
}

#[test]
fn a_thousand_tunnels_come_up_at_once_and_stay() {
    let mut world = World::new(600, 2);
    world.configure(1, side(2, 1, Startup::Add));
    world.configure(0, side(1, 2, Startup::Start));
    world.run(2 * SECOND);
    for node in &world.nodes {
        assert_eq!(node.outbound.len(), COUNT as usize);
        assert_eq!(node.inbound.len(), COUNT as usize);
        assert_eq!(node.endpoint.sas.len(), COUNT as usize);
        assert_eq!(node.endpoint.half_open(), 0);
        assert!(node.failures.is_empty());
        let up = (State::Established, State::Established);
        assert!(node.states.values().all(|s| *s == up));
    }
    world.check_traffic();
    assert!(
        world.nodes[1].endpoint.counters().cookies_sent > 0,
        "a burst beyond the threshold proves its address first"
    );
    // The peer restarts: all of them are back at once.
    world.restart(1, 601, side(2, 1, Startup::Start));
    world.run(3 * SECOND);
    assert_eq!(world.nodes[0].outbound.len(), COUNT as usize);
    assert_eq!(world.nodes[1].outbound.len(), COUNT as usize);
    world.check_traffic();
}
