use proptest::prelude::*;

use super::*;
use crate::protocol;
use crate::testing::{V4, V6};

const SEEDS: [u64; 5] = [0, 1, 42, u64::MAX, 0xdead_beef_0bad_cafe];

/// Pearson's chi-square of `hashes` over `buckets` by their high bits, as a number of standard
/// deviations from its mean.
fn deviation(hashes: impl Iterator<Item = u64>, buckets: usize) -> f64 {
    let mut counts = vec![0u32; buckets];
    let mut total = 0.0;
    for hash in hashes {
        counts[(hash >> (64 - buckets.trailing_zeros())) as usize] += 1;
        total += 1.0;
    }
    let expected = total / buckets as f64;
    let chi: f64 = counts
        .iter()
        .map(|n| (f64::from(*n) - expected).powi(2) / expected)
        .sum();
    // Mean k, variance 2k for k degrees of freedom.
    let freedom = (buckets - 1) as f64;
    (chi - freedom) / (2.0 * freedom).sqrt()
}

/// What traffic really looks like: sequential ports, sequential addresses, both, and a hot server.
/// Five standard deviations are exceeded by chance once in some million runs; a weak hash is off
/// by hundreds. Much too even would be as suspicious.
#[test]
fn buckets_fill_evenly() {
    const N: u32 = 1 << 16;
    type Flow = fn(u32) -> (u32, u32, u32);
    let patterns: [(&str, Flow); 6] = [
        ("source ports", |i| {
            (0x0a00_0001, 0x0a01_0001, i << 16 | 443)
        }),
        ("destination ports", |i| {
            (0x0a00_0001, 0x0a01_0001, 40_000 << 16 | i)
        }),
        ("source addresses", |i| {
            (0x0a00_0000 | i, 0x0a01_0001, 40_000 << 16 | 443)
        }),
        ("destination addresses", |i| {
            (0x0a00_0001, 0x0a01_0000 | i, 40_000 << 16 | 443)
        }),
        ("pairs", |i| {
            (0x0a00_0000 | i, 0x0b00_0000 | i, 5000 << 16 | 5000)
        }),
        ("grid", |i| {
            (
                0x0a00_0000 | i >> 8,
                0x0a01_0000 | i & 0xff,
                4789 << 16 | 4789,
            )
        }),
    ];
    for seed in SEEDS {
        let hash = FlowHash::new(seed);
        for (name, flow) in patterns {
            for buckets in [16, 256, 4096] {
                let four = (0..N).map(|i| {
                    let (src, dst, ports) = flow(i);
                    hash.hash4(src, dst, protocol::UDP, ports)
                });
                let off = deviation(four, buckets);
                assert!(
                    off.abs() < 5.0,
                    "v4 {name}, {buckets} buckets, seed {seed:#x}: {off:.1}"
                );
                let six = (0..N).map(|i| {
                    let (src, dst, ports) = flow(i);
                    let site = 0x2001_0db8 << 96;
                    hash.hash6(
                        site | u128::from(src),
                        site | u128::from(dst),
                        protocol::UDP,
                        ports,
                    )
                });
                let off = deviation(six, buckets);
                assert!(
                    off.abs() < 5.0,
                    "v6 {name}, {buckets} buckets, seed {seed:#x}: {off:.1}"
                );
            }
        }
    }
}

/// Flows that meet in one bucket under one seed are spread again under another.
#[test]
fn seeds_are_independent() {
    let (one, other) = (FlowHash::new(1), FlowHash::new(2));
    let together = (0..1u32 << 20)
        .filter(|i| one.hash4(0x0a00_0001, 0x0a01_0001 + (i >> 16), 6, *i << 16) >> 60 == 0)
        .map(|i| other.hash4(0x0a00_0001, 0x0a01_0001 + (i >> 16), 6, i << 16));
    let off = deviation(together, 256);
    assert!(off.abs() < 5.0, "{off:.1}");
}

/// Each input bit flips each output bit with probability one half.
#[test]
fn avalanche() {
    const ROUNDS: u32 = 4096;
    let hash = FlowHash::new(7);
    for input in 0..64 + 8 + 32 {
        let mut flips = [0u32; 64];
        for round in 0..ROUNDS {
            let src = round.wrapping_mul(0x9e37_79b9);
            let dst = round.wrapping_mul(0x85eb_ca6b) ^ 0x0a00_0000;
            let word = round.wrapping_mul(0xc2b2_ae35);
            let one = |at: i32| {
                if (0..32).contains(&(input - at)) {
                    1u32 << (input - at)
                } else {
                    0
                }
            };
            let proto = if (64..72).contains(&input) {
                1u8 << (input - 64)
            } else {
                0
            };
            let before = hash.hash4(src, dst, 6, word);
            let after = hash.hash4(src ^ one(0), dst ^ one(32), 6 ^ proto, word ^ one(72));
            for (bit, count) in flips.iter_mut().enumerate() {
                *count += ((before ^ after) >> bit & 1) as u32;
            }
        }
        for (bit, count) in flips.iter().enumerate() {
            // Half of 4096 with a standard deviation of 32: within six of them.
            assert!(
                count.abs_diff(ROUNDS / 2) < 6 * 32,
                "input {input}, output {bit}: {count}"
            );
        }
    }
}

#[test]
fn what_is_one_flow() {
    let hash = FlowHash::new(3);
    let of4 = |protocol: u8, flags: u16, data: &[u8]| {
        hash.hash(
            &V4 {
                protocol,
                flags,
                data,
                ..V4::default()
            }
            .parsed()
            .1,
        )
    };
    let a = [0x9c, 0x40, 0x11, 0x94, 0, 0, 0, 0];
    let b = [0x9c, 0x41, 0x11, 0x94, 0, 0, 0, 0];
    // Ports and the protocol tell flows apart; payload does not.
    assert_ne!(of4(17, 0, &a), of4(17, 0, &b));
    assert_ne!(of4(17, 0, &a), of4(132, 0, &a));
    assert_eq!(
        of4(17, 0, &a),
        of4(17, 0x4000, &[0x9c, 0x40, 0x11, 0x94, 9, 9, 9, 9])
    );
    // All fragments of a packet go together, whatever their first bytes look like.
    assert_eq!(of4(17, 0x2000, &a), of4(17, 0x2001, &b));
    assert_eq!(of4(17, 0x2000, &a), of4(17, 0x0002, &b));
    // SPIs tell IPsec flows apart, echo requests do not differ.
    assert_ne!(of4(50, 0, &a), of4(50, 0, &b));
    assert_eq!(
        of4(1, 0, &[8, 0, 0, 0, 0, 1, 0, 1]),
        of4(1, 0, &[0, 0, 0, 0, 0, 2, 0, 9])
    );
    // The same for IPv6.
    let of6 = |next: u8, data: &[u8]| {
        hash.hash(
            &V6 {
                next,
                data,
                ..V6::default()
            }
            .parsed()
            .1,
        )
    };
    assert_ne!(of6(17, &a), of6(17, &b));
    let first = [17, 0, 0, 1, 0, 0, 0, 9, 1, 1, 1, 1, 1, 1, 1, 1];
    let later = [17, 0, 0, 9, 0, 0, 0, 9, 2, 2, 2, 2, 2, 2, 2, 2];
    let foreign = [17, 0, 0, 9, 0, 0, 0, 8, 2, 2, 2, 2, 2, 2, 2, 2];
    assert_eq!(of6(44, &first), of6(44, &later));
    assert_ne!(of6(44, &first), of6(44, &foreign));
}

proptest! {
    #[test]
    fn directions_are_two_flows(seed: u64, a: u128, b: u128) {
        prop_assume!(a != b);
        let hash = FlowHash::new(seed);
        prop_assert_ne!(hash.hash6(a, b, 6, 0), hash.hash6(b, a, 6, 0));
    }
}

#[test]
fn the_key_is_not_printed() {
    let text = format!("{:?}", FlowHash::new(5));
    assert_eq!(text, "FlowHash { .. }");
}
