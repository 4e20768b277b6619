//! Every table against a list of routes searched one by one.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::prefix::{Prefix4, Prefix6};

fn oracle4(routes: &[(Prefix4, u32)], addr: u32) -> Option<u32> {
    let addr = Ipv4Addr::from_bits(addr);
    // `max_by_key` returns the last of equal elements: the later route to one prefix.
    routes
        .iter()
        .filter(|(p, _)| p.contains(addr))
        .max_by_key(|(p, _)| p.len())
        .map(|(_, v)| *v)
}

fn oracle6(routes: &[(Prefix6, u32)], addr: u128) -> Option<u32> {
    let addr = Ipv6Addr::from_bits(addr);
    routes
        .iter()
        .filter(|(p, _)| p.contains(addr))
        .max_by_key(|(p, _)| p.len())
        .map(|(_, v)| *v)
}

/// Routes that nest and collide: few distinct high bits, all lengths, small values.
fn routes4() -> impl Strategy<Value = Vec<(Prefix4, u32)>> {
    let addr = prop_oneof![
        any::<u32>(),
        any::<u32>().prop_map(|low| 0x0a00_0000 | low & 0x0003_ffff),
        any::<u8>().prop_map(|low| 0xc0a8_0000 | u32::from(low)),
    ];
    let route = (addr, 0u8..=32, 0u32..5).prop_map(|(addr, len, value)| {
        (Prefix4::containing(Ipv4Addr::from_bits(addr), len), value)
    });
    proptest::collection::vec(route, 0..60)
}

fn routes6() -> impl Strategy<Value = Vec<(Prefix6, u32)>> {
    let addr = prop_oneof![
        any::<u128>(),
        // One site: shared bits to skip.
        any::<u128>().prop_map(|low| 0x2001_0db8 << 96 | low & ((1 << 80) - 1)),
        // Around the middle of the address.
        any::<u128>().prop_map(|bits| 0x2001_0db8 << 96 | bits & (0xfff << 58)),
        any::<u8>().prop_map(|low| 0xfd00 << 112 | u128::from(low)),
    ];
    let route = (addr, 0u8..=128, 0u32..5).prop_map(|(addr, len, value)| {
        (Prefix6::containing(Ipv6Addr::from_bits(addr), len), value)
    });
    proptest::collection::vec(route, 0..60)
}

proptest! {
    #[test]
    fn v4_equals_the_oracle(routes in routes4(), random in proptest::collection::vec(any::<u32>(), 20)) {
        let table = Lpm4::build(routes.iter().copied());
        let compressed = table.clone().compressed();
        let mut addrs = random;
        for (prefix, _) in &routes {
            let (first, last) = (prefix.bits(), prefix.last().to_bits());
            addrs.extend([first, last, first.wrapping_sub(1), last.wrapping_add(1)]);
        }
        for table in [table, compressed] {
            let mut values = vec![0; addrs.len()];
            table.lookup_batch(&addrs, &mut values);
            for (addr, value) in addrs.iter().zip(values) {
                let expected = oracle4(&routes, *addr);
                prop_assert_eq!(table.lookup(*addr), expected, "{}", Ipv4Addr::from_bits(*addr));
                prop_assert_eq!(value, expected.unwrap_or(NO_ROUTE));
            }
        }
    }

    #[test]
    fn v6_equals_the_oracle(
        routes in routes6(),
        random in proptest::collection::vec(any::<u128>(), 20),
        flips in proptest::collection::vec(0u32..128, 20),
    ) {
        let table = Lpm6::build(routes.iter().copied());
        let mut addrs = random;
        for (prefix, _) in &routes {
            let (first, last) = (prefix.bits(), prefix.last().to_bits());
            addrs.extend([first, last, first.wrapping_sub(1), last.wrapping_add(1)]);
            // Differ in a bit that a node may skip.
            addrs.extend(flips.iter().map(|bit| first ^ 1 << bit));
        }
        let mut values = vec![0; addrs.len()];
        table.lookup_batch(&addrs, &mut values);
        for (addr, value) in addrs.iter().zip(values) {
            let expected = oracle6(&routes, *addr);
            prop_assert_eq!(table.lookup(*addr), expected, "{}", Ipv6Addr::from_bits(*addr));
            prop_assert_eq!(value, expected.unwrap_or(NO_ROUTE));
        }
    }
}

#[test]
fn examples() {
    let table = Lpm::build(
        [
            ("0.0.0.0/0", 1),
            ("10.0.0.0/8", 2),
            ("10.1.0.0/16", 3),
            ("10.1.2.0/24", 4),
            ("10.1.2.3/32", 5),
            ("2001:db8::/32", 6),
            ("2001:db8:1::/48", 7),
            ("2001:db8:1::1/128", 8),
            ("10.1.2.3/32", 9),
        ]
        .map(|(text, value)| (text.parse::<Prefix>().expect("valid"), value)),
    );
    for (addr, expected) in [
        ([192, 0, 2, 1], 1),
        ([10, 9, 9, 9], 2),
        ([10, 1, 9, 9], 3),
        ([10, 1, 2, 9], 4),
        ([10, 1, 2, 3], 9),
    ] {
        assert_eq!(
            table.v4.lookup(Ipv4Addr::from(addr).to_bits()),
            Some(expected),
            "{addr:?}"
        );
    }
    for (addr, expected) in [
        ("2001:db8:2::1", Some(6)),
        ("2001:db8:1::2", Some(7)),
        ("2001:db8:1::1", Some(8)),
        ("2001:db9::1", None),
        ("::", None),
    ] {
        let bits = addr.parse::<Ipv6Addr>().expect("valid").to_bits();
        assert_eq!(table.v6.lookup(bits), expected, "{addr}");
    }
    assert_eq!(Lpm::default().v4.lookup(0), None);
}

#[test]
#[should_panic(expected = "is above")]
fn a_value_that_would_look_like_a_mark_is_refused() {
    let _ = Lpm4::build([(Prefix4::DEFAULT, MAX_VALUE + 1)]);
}

/// A million routes of the lengths that the Internet has most.
#[test]
fn a_million_routes_fit_and_are_found() {
    let mut state = 1u64;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 32) as u32
    };
    let routes: Vec<_> = (0..1_000_000)
        .map(|i| {
            let len = [24, 24, 24, 23, 22, 22, 20, 19, 16, 24][next() as usize % 10];
            (
                Prefix4::containing(Ipv4Addr::from_bits(next()), len),
                i % 1000,
            )
        })
        .collect();
    let table = Lpm4::build(routes.iter().copied());
    assert!(table.memory() < 50 << 20, "{} bytes", table.memory());
    // Whatever the longest match is, it is at least as long as the route itself.
    for (prefix, value) in routes.iter().step_by(997) {
        if table.lookup(prefix.bits()) != Some(*value) {
            let longer = routes
                .iter()
                .filter(|(p, _)| p.contains(prefix.addr()) && p.len() >= prefix.len())
                .max_by_key(|(p, _)| p.len());
            assert_eq!(table.lookup(prefix.bits()), longer.map(|(_, v)| *v));
        }
    }
}
