//! The configuration beside the host: its interfaces, addresses and networks.

use hawser::config;

use crate::support::*;

#[test]
fn the_host_is_compared() {
    let (config, _) = Folder::new(GOOD, &good_keys()).load();
    let view = config::HostView {
        interfaces: vec!["lo".into(), "eth0".into(), "eth2".into()],
        addresses: vec![
            ("eth0".into(), "192.0.2.7/24".parse().unwrap()),
            ("eth2".into(), "169.254.10.1/16".parse().unwrap()),
        ],
    };
    let said = config::against_host(&config.unwrap(), &view).to_string();
    assert!(
        said.contains("there is no interface `eth1` on this host"),
        "{said}"
    );
    assert!(
        said.contains("did you mean `eth0`? ") || said.contains("did you mean `eth2`? "),
        "{said}"
    );
    assert!(
        said.contains("192.0.2.1 is no address of this host"),
        "{said}"
    );
    assert!(said.contains("overlaps 169.254.0.0/16 on `eth2`"), "{said}");
}

#[test]
fn a_route_that_takes_a_part_of_an_inside_network_is_refused() {
    let (config, _) = Folder::new(&broken("10.0.0.0/8", "10.0.1.128/25"), &good_keys()).load();
    let view = config::HostView {
        interfaces: vec!["eth0".into(), "eth1".into()],
        addresses: vec![
            ("eth0".into(), "192.0.2.1/24".parse().unwrap()),
            ("eth1".into(), "10.0.1.1/24".parse().unwrap()),
        ],
    };
    let found = config::against_host(&config.unwrap(), &view);
    assert_eq!(found.0.len(), 1, "{found}");
    assert!(
        found.0[0]
            .reason
            .contains("10.0.1.128/25 is inside network 10.0.1.0/24 of `eth1`")
    );
}
