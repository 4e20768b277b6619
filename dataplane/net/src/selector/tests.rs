use super::*;
use crate::testing::{V4, V6};

fn selector(first: &str, last: &str, protocol: u8, ports: (u16, u16)) -> TrafficSelector {
    let addresses = (first.parse().expect("valid"), last.parse().expect("valid"));
    TrafficSelector::from_ike(addresses, protocol, ports).expect("valid")
}

const ALL: (u16, u16) = (0, 65535);

#[test]
fn table() {
    // The packet: 192.0.2.1:40000 to 198.51.100.2:4500, UDP.
    let (_, udp) = V4::default().parsed();
    for (local, remote, expected) in [
        (
            ("0.0.0.0", "255.255.255.255", 0, ALL),
            ("0.0.0.0", "255.255.255.255", 0, ALL),
            true,
        ),
        (
            ("192.0.2.0", "192.0.2.255", 0, ALL),
            ("198.51.100.0", "198.51.100.255", 0, ALL),
            true,
        ),
        (
            ("192.0.2.1", "192.0.2.1", 17, (40000, 40000)),
            ("198.51.100.2", "198.51.100.2", 17, (4500, 4500)),
            true,
        ),
        (
            ("192.0.2.2", "192.0.2.255", 0, ALL),
            ("0.0.0.0", "255.255.255.255", 0, ALL),
            false,
        ),
        (
            ("0.0.0.0", "192.0.2.0", 0, ALL),
            ("0.0.0.0", "255.255.255.255", 0, ALL),
            false,
        ),
        (
            ("0.0.0.0", "255.255.255.255", 0, ALL),
            ("198.51.100.3", "198.51.100.9", 0, ALL),
            false,
        ),
        (
            ("0.0.0.0", "255.255.255.255", 6, ALL),
            ("0.0.0.0", "255.255.255.255", 0, ALL),
            false,
        ),
        (
            ("0.0.0.0", "255.255.255.255", 17, (0, 39999)),
            ("0.0.0.0", "255.255.255.255", 0, ALL),
            false,
        ),
        (
            ("0.0.0.0", "255.255.255.255", 0, ALL),
            ("0.0.0.0", "255.255.255.255", 17, (4501, 9999)),
            false,
        ),
        (
            ("0.0.0.0", "255.255.255.255", 17, (65535, 0)),
            ("0.0.0.0", "255.255.255.255", 17, (65535, 0)),
            false,
        ),
        (
            ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 0, ALL),
            ("0.0.0.0", "255.255.255.255", 0, ALL),
            false,
        ),
    ] {
        let (l, r) = (
            selector(local.0, local.1, local.2, local.3),
            selector(remote.0, remote.1, remote.2, remote.3),
        );
        assert_eq!(
            SelectorSet::new(&[l], &[r]).allows_outbound(&udp),
            expected,
            "{local:?} {remote:?}"
        );
        // The same packet, as the peer receives it.
        assert_eq!(
            SelectorSet::new(&[r], &[l]).allows_inbound(&udp),
            expected,
            "{local:?} {remote:?}"
        );
    }
}

#[test]
fn any_selector_of_a_side_will_do() {
    let (_, ip) = V4::default().parsed();
    let other = selector("10.0.0.0", "10.255.255.255", 0, ALL);
    let local = selector("192.0.2.0", "192.0.2.255", 0, ALL);
    let six = selector("2001:db8::", "2001:db8::ffff", 0, ALL);
    let remote = selector("198.51.100.0", "198.51.100.255", 0, ALL);
    let set = SelectorSet::new(&[other, six, local], &[other, remote]);
    assert!(set.allows_outbound(&ip));
    assert!(!set.allows_inbound(&ip));
    assert_eq!((set.local().len(), set.remote().len()), (3, 2));
    assert!(!SelectorSet::new(&[other, six], &[other, remote]).allows_outbound(&ip));
}

#[test]
fn hidden_ports() {
    // A later fragment has no ports: only "any" and "opaque" hold it.
    let (_, fragment) = V4 {
        flags: 0x0010,
        data: &[0; 8],
        ..V4::default()
    }
    .parsed();
    let side = |ports| selector("0.0.0.0", "255.255.255.255", 17, ports);
    for (ports, expected) in [
        (ALL, true),
        ((65535, 0), true),
        ((0, 65534), false),
        ((1, 65535), false),
    ] {
        let set = SelectorSet::new(&[side(ports)], &[side(ALL)]);
        assert_eq!(set.allows_outbound(&fragment), expected, "{ports:?}");
    }
}

#[test]
fn icmp_type_and_code() {
    let (_, echo) = V4 {
        protocol: 1,
        data: &[8, 0, 0, 0, 0, 0, 0, 0],
        ..V4::default()
    }
    .parsed();
    for (ports, expected) in [
        ((0x0800, 0x08ff), true),
        ((0x0800, 0x0800), true),
        ((0x0000, 0x00ff), false),
    ] {
        let side = selector("0.0.0.0", "255.255.255.255", 1, ports);
        assert_eq!(
            SelectorSet::new(&[side], &[side]).allows_outbound(&echo),
            expected,
            "{ports:x?}"
        );
    }
}

#[test]
fn empty_sides_are_unrestricted() {
    let (_, four) = V4::default().parsed();
    let (_, six) = V6::default().parsed();
    for set in [SelectorSet::any(), SelectorSet::new(&[], &[])] {
        assert!(
            [four, six]
                .iter()
                .all(|ip| set.allows_inbound(ip) && set.allows_outbound(ip))
        );
    }
    let one = SelectorSet::new(&[], &[selector("198.51.100.2", "198.51.100.2", 0, ALL)]);
    assert!(one.allows_outbound(&four));
    assert!(!one.allows_inbound(&four) && !one.allows_outbound(&six));
}

#[test]
fn prefixes_and_refusals() {
    let prefix: Prefix = "10.1.0.0/16".parse().expect("valid");
    assert_eq!(
        TrafficSelector::prefix(prefix),
        selector("10.1.0.0", "10.1.255.255", 0, ALL)
    );
    let (low, high) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
    let six = IpAddr::from([0u16; 8]);
    for ((first, last), ports, error) in [
        ((high, low), ALL, SelectorError::Addresses(high, low)),
        ((low, six), ALL, SelectorError::Addresses(low, six)),
        ((low, high), (2, 1), SelectorError::Ports(2, 1)),
        ((low, high), (65535, 1), SelectorError::Ports(65535, 1)),
    ] {
        assert_eq!(
            TrafficSelector::from_ike((first, last), 0, ports),
            Err(error)
        );
    }
}
