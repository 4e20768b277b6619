//! What the XDP program costs a packet, and what loading routes costs. Needs root.
//!
//! ```text
//! cargo run --release -p hawser-ebpf --example steering_cost
//! ```
//!
//! The program runs on one frame again and again (`BPF_PROG_TEST_RUN`), so caches are hot; there is
//! no socket, so a take is counted twice and the redirect's own cost is not in it. The program is
//! otherwise complete. Figures are the best and the median of interleaved rounds.
//!
//! "many destinations" is another measurement: 4,096 frames to as many destinations, spread over
//! the routes, one run each, four times over. Each run pays for a system call's cold caches too, so
//! compare these lines only with each other.

use std::{net::Ipv4Addr, time::Instant};

use hawser_ebpf::{Action, PortConfig, Role, Sizes, Steering, SteeringError};
use ipnet::IpNet;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const REPEAT: u32 = 1_000_000;
const ROUNDS: usize = 7;

fn frame(destination: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = MAC.to_vec();
    frame.extend([2, 0, 0, 0, 0, 9, 8, 0, 0x45, 0, 0, 20 + payload.len() as u8]);
    frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0, 198, 51, 100, 7]);
    frame.extend(destination);
    frame.extend(payload);
    frame.resize(128, 0);
    frame
}

/// `/24`s spread over 64.0.0.0/2; the first is 64.0.0.0.
fn network(i: u32) -> u32 {
    0x4000_0000 | i.reverse_bits() >> 2 & 0x3fff_ff00
}

fn routes(count: u32) -> impl Iterator<Item = (IpNet, Action)> {
    (0..count).map(|i| {
        let network = Ipv4Addr::from_bits(network(i));
        (
            IpNet::V4(ipnet::Ipv4Net::new_assert(network, 24)),
            Action::Take,
        )
    })
}

fn loaded(count: u32) -> Result<Steering, SteeringError> {
    let mut steering = Steering::load(&Sizes::default())?;
    steering.put_port(&PortConfig {
        ifindex: 1,
        mac: MAC,
        role: Role::Both,
        base_slot: 0,
    })?;
    steering.set_local_addresses([[192, 0, 2, 1].into()])?;
    let start = Instant::now();
    steering.insert_inside(routes(count))?;
    println!(
        "{count:>9} routes loaded in {:.3} s",
        start.elapsed().as_secs_f64()
    );
    Ok(steering)
}

fn main() -> Result<(), SteeringError> {
    let esp = [0, 0, 1, 0, 0, 0, 0, 1, 9, 9, 9, 9];
    let mut udp = vec![0x11, 0x94, 0x11, 0x94, 0, 20, 0, 0];
    udp.extend(esp);
    let tcp = [0; 20];
    let mut tables = [
        loaded(1)?,
        loaded(1_000)?,
        loaded(100_000)?,
        loaded(1_000_000)?,
    ];
    let mut broadcast = frame([255; 4], 17, &tcp);
    broadcast[..6].fill(0xff);
    let cases = [
        ("ESP", 0, frame([192, 0, 2, 1], 50, &esp)),
        ("ESP in UDP", 0, frame([192, 0, 2, 1], 17, &udp)),
        ("inside, 1 route", 0, frame([64, 0, 0, 9], 6, &tcp)),
        ("inside, 1,000 routes", 1, frame([64, 0, 0, 9], 6, &tcp)),
        ("inside, 100,000 routes", 2, frame([64, 0, 0, 9], 6, &tcp)),
        ("inside, 1,000,000 routes", 3, frame([64, 0, 0, 9], 6, &tcp)),
        ("no route", 2, frame([9, 9, 9, 9], 6, &tcp)),
        ("SSH to us", 0, frame([192, 0, 2, 1], 6, &tcp)),
        ("broadcast", 0, broadcast),
    ];
    let mut times = vec![Vec::new(); cases.len()];
    for _ in 0..ROUNDS {
        for ((_, table, frame), times) in cases.iter().zip(&mut times) {
            times.push(tables[*table].test_run(frame, REPEAT)?.duration.as_nanos());
        }
    }
    const DESTINATIONS: u32 = 4096;
    for (name, table) in [("1,000", 1), ("100,000", 2), ("1,000,000", 3)] {
        let count = [0, 1_000, 100_000, 1_000_000][table];
        let frames: Vec<_> = (0..DESTINATIONS)
            .map(|i| frame((network(i * 40_503 % count) + 9).to_be_bytes(), 6, &tcp))
            .collect();
        let mut sums = Vec::new();
        for _ in 0..4 {
            let mut sum = 0;
            for frame in &frames {
                sum += tables[table].test_run(frame, 1)?.duration.as_nanos();
            }
            sums.push(sum / u128::from(DESTINATIONS));
        }
        println!("many destinations, {name} routes: {sums:?} ns a packet");
    }
    println!("{:<26} best  median   ns a packet", "");
    for ((name, ..), times) in cases.iter().zip(&mut times) {
        times.sort_unstable();
        println!("{name:<26} {:>4} {:>7}", times[0], times[ROUNDS / 2]);
    }
    Ok(())
}
