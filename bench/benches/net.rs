//! What each step of the packet path costs beside the cipher: parse, route lookup, flow hash and
//! bucket, replay window, headers and trailer, MSS.
//!
//! One iteration is one pass over 4,096 different inputs, so that branch predictors and caches see
//! traffic and not one packet; criterion's throughput line gives elements, that is packets, per
//! second, and its inverse is the cost of a packet.

#![allow(
    missing_docs,
    reason = "criterion's macro makes a public function without any"
)]

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use hawser_net::ecmp::{Group, MemberId};
use hawser_net::encap::OuterTemplate;
use hawser_net::hash::FlowHash;
use hawser_net::lpm::{Lpm4, Lpm6};
use hawser_net::replay::ReplayWindow;
use hawser_net::{Family, Prefix4, Prefix6, ecn, esp_trailer, harness, mss, parse, rewrite};

const PACKETS: usize = 4096;

/// A reproducible stream of numbers (Knuth's MMIX multiplier).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.0 ^ self.0 >> 29
    }
}

fn group<'c>(c: &'c mut Criterion, name: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(PACKETS as u64));
    group
}

/// Frames of 100 bytes: TCP from random hosts to random hosts, in IPv4 or IPv6.
fn frames(family: Family, options: bool) -> Vec<Vec<u8>> {
    let mut numbers = Numbers(1);
    (0..PACKETS)
        .map(|_| {
            let mut frame = vec![0; 100];
            let (src, dst) = (numbers.next(), numbers.next());
            let l4 = match family {
                Family::V4 => {
                    frame[12..14].copy_from_slice(&[0x08, 0x00]);
                    let header = if options { 24 } else { 20 };
                    let ip = &mut frame[14..];
                    ip[0] = 0x40 | (header / 4) as u8;
                    ip[3] = 86;
                    ip[8] = 64;
                    ip[9] = 6;
                    ip[12..16].copy_from_slice(&(src as u32).to_be_bytes());
                    ip[16..20].copy_from_slice(&(dst as u32).to_be_bytes());
                    ip[20..header].fill(1);
                    rewrite::set_checksum4(ip, header);
                    14 + header
                }
                Family::V6 => {
                    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
                    let ip = &mut frame[14..];
                    ip[0] = 0x60;
                    ip[5] = 46;
                    ip[6] = 6;
                    ip[7] = 64;
                    ip[8..16].copy_from_slice(&src.to_be_bytes());
                    ip[24..32].copy_from_slice(&dst.to_be_bytes());
                    54
                }
            };
            frame[l4..l4 + 4].copy_from_slice(&(numbers.next() as u32).to_be_bytes());
            frame[l4 + 12] = 0x50;
            frame
        })
        .collect()
}

fn parsing(c: &mut Criterion) {
    let mut group = group(c, "parse");
    for (name, frames) in [
        ("v4", frames(Family::V4, false)),
        ("v4_options", frames(Family::V4, true)),
        ("v6", frames(Family::V6, false)),
    ] {
        assert!(frames.iter().all(|frame| parse(frame).is_ok()));
        group.bench_function(name, |b| {
            b.iter(|| {
                for frame in &frames {
                    black_box(&parse(black_box(frame)));
                }
            });
        });
    }
}

/// `count` IPv4 routes of the lengths that the Internet has most.
fn routes4(count: u32) -> Vec<(Prefix4, u32)> {
    let mut numbers = Numbers(2);
    (0..count)
        .map(|i| {
            let random = numbers.next();
            let len = [24, 24, 24, 24, 24, 24, 23, 22, 20, 16][(random >> 40) as usize % 10];
            (Prefix4::containing((random as u32).into(), len), i % 64)
        })
        .collect()
}

/// `count` IPv6 routes, /29 to /48, out of 2000::/3.
fn routes6(count: u32) -> Vec<(Prefix6, u32)> {
    let mut numbers = Numbers(3);
    (0..count)
        .map(|i| {
            let random = numbers.next();
            let len = [48, 48, 48, 48, 44, 40, 36, 32, 32, 29][(random >> 8) as usize % 10];
            let bits = u128::from(random >> 3 | 1 << 61) << 64;
            (Prefix6::containing(bits.into(), len), i % 64)
        })
        .collect()
}

fn lookups4(c: &mut Criterion) {
    let mut numbers = Numbers(4);
    for (name, count) in [("1k", 1_000), ("1M", 1_000_000)] {
        let routes = routes4(count);
        let table = Lpm4::build(routes.iter().copied());
        let addrs: Vec<u32> = (0..PACKETS)
            .map(|_| {
                let (prefix, _) = routes[numbers.next() as usize % routes.len()];
                prefix.bits() | numbers.next() as u32 & (prefix.bits() ^ prefix.last().to_bits())
            })
            .collect();
        println!("lpm_v4/{name}: {} KiB", table.memory() >> 10);
        let mut group = group(c, "lpm_v4");
        group.bench_function(name, |b| {
            b.iter(|| {
                for addr in &addrs {
                    black_box(table.lookup(black_box(*addr)));
                }
            });
        });
        let mut values = vec![0; PACKETS];
        group.bench_function(format!("{name}_batch"), |b| {
            b.iter(|| table.lookup_batch(black_box(&addrs), black_box(&mut values)));
        });
        if count == 1_000_000 {
            // Every lookup somewhere else: the table does not stay in the cache.
            let wide: Vec<u32> = (0..1 << 20).map(|_| numbers.next() as u32).collect();
            let mut values = vec![0; 1 << 20];
            group
                .throughput(Throughput::Elements(1 << 20))
                .sample_size(20);
            group.bench_function(format!("{name}_cold"), |b| {
                b.iter(|| {
                    for addr in &wide {
                        black_box(table.lookup(black_box(*addr)));
                    }
                });
            });
            group.bench_function(format!("{name}_cold_batch"), |b| {
                b.iter(|| table.lookup_batch(black_box(&wide), black_box(&mut values)));
            });
            group
                .throughput(Throughput::Elements(u64::from(count)))
                .sample_size(10);
            group.bench_function(format!("{name}_build"), |b| {
                b.iter(|| Lpm4::build(routes.iter().copied()));
            });
        }
    }
}

fn lookups6(c: &mut Criterion) {
    let mut numbers = Numbers(4);
    for (name, count) in [("1k", 1_000), ("200k", 200_000), ("1M", 1_000_000)] {
        let routes = routes6(count);
        let table = Lpm6::build(routes.iter().copied());
        let addrs: Vec<u128> = (0..PACKETS)
            .map(|_| {
                let (prefix, _) = routes[numbers.next() as usize % routes.len()];
                prefix.bits() | u128::from(numbers.next())
            })
            .collect();
        println!("lpm_v6/{name}: {} KiB", table.memory() >> 10);
        let mut group = group(c, "lpm_v6");
        group.bench_function(name, |b| {
            b.iter(|| {
                for addr in &addrs {
                    black_box(table.lookup(black_box(*addr)));
                }
            });
        });
        let mut values = vec![0; PACKETS];
        group.bench_function(format!("{name}_batch"), |b| {
            b.iter(|| table.lookup_batch(black_box(&addrs), black_box(&mut values)));
        });
    }
}

fn spreading(c: &mut Criterion) {
    let hash = FlowHash::new(7);
    let members: Vec<_> = (0..40).map(|id| (MemberId(id), 1)).collect();
    let tunnels = Group::new(&members, Group::default_buckets(40)).expect("valid");
    let mut group = group(c, "hash");
    for (name, family) in [("v4", Family::V4), ("v6", Family::V6)] {
        let headers: Vec<_> = frames(family, false)
            .iter()
            .map(|frame| parse(frame).expect("a valid frame").ip)
            .collect();
        group.bench_function(name, |b| {
            b.iter(|| {
                for ip in &headers {
                    black_box(hash.hash(black_box(ip)));
                }
            });
        });
        group.bench_function(format!("{name}_and_bucket_of_40_tunnels"), |b| {
            b.iter(|| {
                for ip in &headers {
                    let bucket = tunnels.bucket(hash.hash(black_box(ip)));
                    black_box((bucket, tunnels.member(bucket)));
                }
            });
        });
    }
}

fn replaying(c: &mut Criterion) {
    let mut group = group(c, "replay");
    for size in [64, 1024, 4096] {
        for (name, shuffle) in [("in_order", 0), ("reordered", 31)] {
            let mut window = ReplayWindow::new(size, true).expect("valid");
            let mut base = 64;
            group.bench_function(format!("{size}_{name}"), |b| {
                b.iter(|| {
                    for i in 0..PACKETS as u64 {
                        // Exclusive or with a constant permutes every 32 numbers.
                        let seq = window.infer((base + (i ^ shuffle)) as u32);
                        if window.check(seq).is_ok() {
                            black_box(harness::commit(&mut window, seq)).expect("new");
                        }
                    }
                    base += PACKETS as u64;
                });
            });
            assert!(window.top() >= base - 64, "packets were refused");
        }
    }
}

fn headers(c: &mut Criterion) {
    let mut group = group(c, "headers");
    for (name, v6, udp) in [
        ("v4", false, false),
        ("v4_udp", false, true),
        ("v6", true, false),
        ("v6_udp", true, true),
    ] {
        let (src, dst) = if v6 {
            ("2001:db8::1".parse(), "2001:db8::2".parse())
        } else {
            ("192.0.2.1".parse(), "198.51.100.2".parse())
        };
        let ports = udp.then_some((4500, 4500));
        let template =
            OuterTemplate::new([0; 14], src.expect("valid"), dst.expect("valid"), ports, 9)
                .expect("one family");
        let mut packets = vec![vec![0x45; 200]; PACKETS];
        group.bench_function(format!("stamp_{name}"), |b| {
            b.iter(|| {
                for packet in &mut packets {
                    template.stamp(black_box(packet), 0, true, 0);
                }
            });
        });
    }
    let mut packets: Vec<_> = frames(Family::V4, false)
        .iter()
        .map(|f| f[14..].to_vec())
        .collect();
    group.bench_function("ttl_v4", |b| {
        b.iter(|| {
            for packet in &mut packets {
                packet[8] = 64;
                black_box(rewrite::decrement_ttl4(black_box(packet)));
            }
        });
    });
    group.bench_function("ecn_in", |b| {
        b.iter(|| {
            for packet in &packets {
                black_box(ecn::decapsulate(packet[1], black_box(packet[20]) & 2));
            }
        });
    });
    trailers(&mut group);
}

fn trailers(group: &mut BenchmarkGroup<'_, WallTime>) {
    let mut numbers = Numbers(5);
    let lengths: Vec<usize> = (0..PACKETS)
        .map(|_| 20 + numbers.next() as usize % 150)
        .collect();
    for (name, block) in [("gcm", 4), ("cbc", 16)] {
        let mut buffer = vec![0; 256];
        group.bench_function(format!("trailer_write_{name}"), |b| {
            b.iter(|| {
                for &len in &lengths {
                    let trailer = esp_trailer::len(len, block);
                    esp_trailer::write(&mut black_box(&mut buffer)[len..], trailer, 4);
                }
            });
        });
        let plaintexts: Vec<_> = lengths
            .iter()
            .map(|&len| {
                let mut bytes = vec![0; len + esp_trailer::len(len, block)];
                esp_trailer::write(&mut bytes[len..], esp_trailer::len(len, block), 4);
                bytes
            })
            .collect();
        group.bench_function(format!("trailer_parse_{name}"), |b| {
            b.iter(|| {
                for plaintext in &plaintexts {
                    black_box(&esp_trailer::parse(black_box(plaintext)));
                }
            });
        });
    }
}

fn clamping(c: &mut Criterion) {
    // A SYN as Linux sends it: MSS, SACK permitted, timestamps, NOP, window scale.
    let mut syn = vec![0; 40];
    syn[12..14].copy_from_slice(&[0xa0, 0x02]);
    syn[20..40].copy_from_slice(&[
        2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 7,
    ]);
    group(c, "mss").bench_function("clamp", |b| {
        b.iter(|| {
            for _ in 0..PACKETS {
                syn[22..24].copy_from_slice(&1460u16.to_be_bytes());
                black_box(mss::clamp(black_box(&mut syn), 1406));
            }
        });
    });
}

criterion_group!(
    benches, parsing, lookups4, lookups6, spreading, replaying, headers, clamping
);
criterion_main!(benches);
