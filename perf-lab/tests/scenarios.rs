//! Every scenario, on real packets. They take turns: each has the machine for itself.

use std::sync::Mutex;

use hawser_lab::{gateway, scenario::Scenario};

static TURN: Mutex<()> = Mutex::new(());

/// Runs a scenario, or says why it cannot.
fn run(name: &str) {
    if let Some(reason) = gateway::unavailable() {
        println!("skipped: {reason}");
        return;
    }
    // A scenario that failed says nothing about the next.
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let scenario = Scenario::named(name).unwrap();
    match scenario.run() {
        Ok(findings) => println!("{name}\n{findings}"),
        Err(error) => panic!("{error:#}"),
    }
}

macro_rules! scenarios {
    ($($test:ident = $name:literal,)+) => {
        $(
            #[test]
            fn $test() {
                run($name);
            }
        )+

        #[test]
        fn every_scenario_has_a_test() {
            let tested = [$($name),+];
            let all: Vec<_> = hawser_lab::scenario::ALL.iter().map(|s| s.name).collect();
            assert_eq!(tested.to_vec(), all);
        }
    };
}

scenarios! {
    basic = "basic",
    malformed_outside = "malformed-outside",
    malformed_inside = "malformed-inside",
    dataplane_killed = "dataplane-killed",
    control_killed = "control-killed",
    interface_lost = "interface-lost",
    overload = "overload",
    path_mtu = "path-mtu",
    hop_limit = "hop-limit",
    mss = "mss",
    jumbo = "jumbo",
    vlan = "vlan",
    reload = "reload",
    resilience = "resilience",
    hand_over = "hand-over",
    ike_basic = "ike-basic",
    ike_rekey = "ike-rekey",
    ike_1000 = "ike-1000",
    ike_1000_rekey = "ike-1000-rekey",
    ike_mobike = "ike-mobike",
    ike_any = "ike-any",
    ike_flood = "ike-flood",
    ike_restart = "ike-restart",
    ike_control_killed = "ike-control-killed",
    ike_reload = "ike-reload",
    strongswan = "strongswan",
    strongswan_proposals = "strongswan-proposals",
    strongswan_rekeys = "strongswan-rekeys",
    strongswan_collisions = "strongswan-collisions",
    strongswan_options = "strongswan-options",
    strongswan_certificates = "strongswan-certificates",
    strongswan_refusals = "strongswan-refusals",
    strongswan_refused_certificates = "strongswan-refused-certificates",
    strongswan_cookies = "strongswan-cookies",
    strongswan_death = "strongswan-death",
    strongswan_at_once = "strongswan-at-once",
    strongswan_mobike = "strongswan-mobike",
    strongswan_nat_we = "strongswan-nat-we",
    strongswan_nat_peer = "strongswan-nat-peer",
    strongswan_decoded = "strongswan-decoded",
    strongswan_64 = "strongswan-64",
    scale = "scale",
}
