//! What AF_XDP costs on this machine: packets per second between veth ends, one worker.
//!
//! ```text
//! cargo run --release -p hawser-xsk --example xsk_pps -- forward size=64,1400 batch=1,8,32,64
//! ```
//!
//! The first word is the measurement:
//! - `tx`: send to a peer without an XDP program, which drops;
//! - `rx`: receive and drop what a sender on the other core sends;
//! - `forward`: receive on one interface, put a header of 44 bytes in front, send on another.
//!
//! Then lists of settings; all combinations are measured, interleaved, `repeat` times:
//! `size` (bytes of a packet), `batch` (packets per round and `sendto`), `budget` (packets the
//! kernel sends in one call), `sndbuf` (bytes), `ring` (descriptors), `wait` (spin, adaptive,
//! poll), `seconds`, `repeat`, `cpu` (the worker's; the sender takes the next one).
//!
//! Columns: the median run's rate with the worst and the best; wall-clock and (median of all runs)
//! processor time of the worker for each packet, the kernel's part included: on a busy machine
//! only the latter means something, and for a receiver only with `wait=poll`, since spinning
//! counts too; packets for each `sendto`; the share lost.
//!
//! Needs root: the interfaces are in a network namespace that ends with the program.

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use hawser_xsk::{
    Frame, FramePool, Interface, Options, PollSet, QueueId, Rest, Round, Socket, Umem, Wakeup,
    WakeupMode,
};
use support::Redirect;

const BATCH: usize = 256;
/// IPv6 outer header less the IPv4 inner one's saving: any figure of a tunnel's order will do.
const HEADER: usize = 44;

#[derive(Clone, Copy)]
enum Measurement {
    Tx,
    Rx,
    Forward,
}

/// One combination of settings.
#[derive(Clone, Copy)]
struct Setting {
    size: usize,
    batch: usize,
    budget: u32,
    sndbuf: u32,
    ring: u32,
    wait: WakeupMode,
    seconds: f64,
    cpu: usize,
}

/// What one worker did in one run.
#[derive(Default)]
struct Outcome {
    packets: u64,
    bytes: u64,
    dropped: u64,
    refused: u64,
    kicks: u64,
    sleeps: u64,
    seconds: f64,
    /// Of these, those the worker ran.
    busy: f64,
}

struct Lab {
    source: Interface,
    near: Interface,
    far: Interface,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let measurement = match arguments.next().as_deref() {
        Some("tx") => Measurement::Tx,
        Some("rx") => Measurement::Rx,
        Some("forward") => Measurement::Forward,
        _ => {
            eprintln!("usage: xsk_pps tx|rx|forward [size=64,1400] [batch=..] ..");
            return ExitCode::FAILURE;
        }
    };
    let given: HashMap<String, String> = arguments
        .filter_map(|argument| argument.split_once('=').map(|(k, v)| (k.into(), v.into())))
        .collect();
    let list = |key: &str, default: &str| -> Vec<String> {
        given
            .get(key)
            .map_or(default, String::as_str)
            .split(',')
            .map(str::to_owned)
            .collect()
    };
    let repeat: usize = list("repeat", "3")[0].parse().expect("a number");

    let mut settings = Vec::new();
    for size in list("size", "64,1400") {
        for batch in list("batch", "64") {
            for budget in list("budget", "2048") {
                for sndbuf in list("sndbuf", "8388608") {
                    for ring in list("ring", "2048") {
                        for wait in list("wait", "spin") {
                            settings.push(Setting {
                                size: size.parse().expect("bytes"),
                                batch: batch.parse::<usize>().expect("packets").clamp(1, BATCH),
                                budget: budget.parse().expect("packets"),
                                sndbuf: sndbuf.parse().expect("bytes"),
                                ring: ring.parse().expect("descriptors"),
                                wait: wait.parse().expect("spin, adaptive or poll"),
                                seconds: list("seconds", "1")[0].parse().expect("seconds"),
                                cpu: list("cpu", "0")[0].parse().expect("a core's number"),
                            });
                        }
                    }
                }
            }
        }
    }

    if !support::enter_namespace() {
        return ExitCode::FAILURE;
    }
    let lab = lab();
    row(&COLUMNS.map(str::to_owned));
    let mut outcomes: Vec<Vec<Outcome>> = settings.iter().map(|_| Vec::new()).collect();
    for _ in 0..repeat {
        for (setting, outcomes) in settings.iter().zip(&mut outcomes) {
            outcomes.push(run(measurement, &lab, *setting));
        }
    }
    for (setting, outcomes) in settings.iter().zip(&mut outcomes) {
        print(setting, outcomes);
    }
    ExitCode::SUCCESS
}

const COLUMNS: [&str; 15] = [
    "size", "batch", "budget", "sndbuf", "ring", "wait", "Mpps", "worst", "best", "Gbps", "ns/pkt",
    "cpu ns", "pkt/call", "lost %", "sleeps",
];

fn row(cells: &[String; COLUMNS.len()]) {
    let line: String = cells.iter().map(|cell| format!("{cell:>9}")).collect();
    println!("{line}");
}

/// The median run, and the spread of all.
fn print(setting: &Setting, outcomes: &mut [Outcome]) {
    let rate = |o: &Outcome| o.packets as f64 / o.seconds / 1e6;
    outcomes.sort_by(|a, b| rate(a).total_cmp(&rate(b)));
    let o = &outcomes[outcomes.len() / 2];
    let packets = o.packets.max(1) as f64;
    let mut busy: Vec<f64> = outcomes
        .iter()
        .map(|o| o.busy * 1e9 / o.packets.max(1) as f64)
        .collect();
    busy.sort_by(f64::total_cmp);
    let lost = (o.dropped + o.refused) as f64;
    row(&[
        setting.size.to_string(),
        setting.batch.to_string(),
        setting.budget.to_string(),
        setting.sndbuf.to_string(),
        setting.ring.to_string(),
        setting.wait.to_string(),
        format!("{:.2}", rate(o)),
        format!("{:.2}", rate(&outcomes[0])),
        format!("{:.2}", rate(&outcomes[outcomes.len() - 1])),
        format!("{:.2}", o.bytes as f64 * 8.0 / o.seconds / 1e9),
        format!("{:.0}", o.seconds * 1e9 / packets),
        format!("{:.0}", busy[busy.len() / 2]),
        format!("{:.1}", packets / o.kicks.max(1) as f64),
        format!("{:.3}", lost * 100.0 / (packets + lost)),
        o.sleeps.to_string(),
    ]);
}

/// source a -- near b, and c -- d, of which only c carries a socket.
fn lab() -> Lab {
    let pair = support::add_pair(1, 1500);
    support::ip("link add name c mtu 1500 type veth peer name d mtu 1500");
    support::ip("link set dev c up");
    support::ip("link set dev d up");
    Lab {
        source: pair.a,
        near: pair.b,
        far: Interface::named("c").expect("just made"),
    }
}

fn options(setting: &Setting) -> Options {
    Options {
        fill_ring: setting.ring,
        receive_ring: setting.ring,
        transmit_ring: setting.ring,
        transmit_budget: setting.budget,
        send_buffer: setting.sndbuf,
        ..Options::default()
    }
}

fn run(measurement: Measurement, lab: &Lab, setting: Setting) -> Outcome {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (redirect, worker) = match measurement {
            Measurement::Tx => (
                None,
                scope.spawn(|| send(lab.far, &setting, setting.cpu, &stop)),
            ),
            Measurement::Rx | Measurement::Forward => {
                let redirect = Redirect::attach(lab.near, false);
                let options = options(&setting);
                let (umem, mut pool) = Umem::new(4 * setting.ring, 2048).expect("memory");
                let mut near =
                    Socket::open(&umem, lab.near, QueueId(0), &options).expect("a socket");
                near.refill(&mut pool);
                redirect.insert(0, near.as_fd());
                let far = matches!(measurement, Measurement::Forward)
                    .then(|| Socket::open(&umem, lab.far, QueueId(0), &options).expect("a socket"));
                let stop = &stop;
                let worker = scope.spawn(move || forward(near, far, pool, &setting, stop));
                let sender = Setting {
                    batch: 64,
                    ..setting
                };
                scope.spawn(move || send(lab.source, &sender, setting.cpu + 1, stop));
                (Some(redirect), worker)
            }
        };
        thread::sleep(Duration::from_secs_f64(setting.seconds));
        stop.store(true, Ordering::Relaxed);
        let outcome = worker.join().expect("the worker ends well");
        drop(redirect);
        outcome
    })
}

/// Sends as fast as the kernel takes it.
fn send(interface: Interface, setting: &Setting, cpu: usize, stop: &AtomicBool) -> Outcome {
    support::pin(cpu);
    let (umem, mut pool) = Umem::new(2 * setting.ring, 2048).expect("memory");
    let mut socket =
        Socket::open(&umem, interface, QueueId(0), &options(setting)).expect("a socket");
    let packet = packet(setting.size);
    let mut batch: ArrayVec<Frame, BATCH> = ArrayVec::new();
    let (start, ran) = (Instant::now(), support::thread_time());
    while !stop.load(Ordering::Relaxed) {
        while batch.len() < setting.batch
            && let Some(mut frame) = pool.take()
        {
            assert!(frame.set(&packet));
            batch.push(frame);
        }
        socket.transmit(&mut pool, batch.drain(..));
        socket.kick();
        socket.recycle(&mut pool);
    }
    let seconds = start.elapsed().as_secs_f64();
    let busy = (support::thread_time() - ran).as_secs_f64();
    let counters = *socket.counters();
    let packets = counters.transmitted - counters.dropped_by_device - u64::from(socket.pending());
    Outcome {
        packets,
        bytes: packets * setting.size as u64,
        dropped: counters.dropped_by_device,
        refused: counters.refused_ring_full,
        kicks: counters.kicks,
        sleeps: 0,
        seconds,
        busy,
    }
}

/// The worker: receives, and forwards if there is somewhere to.
fn forward(
    mut near: Socket,
    mut far: Option<Socket>,
    mut pool: FramePool,
    setting: &Setting,
    stop: &AtomicBool,
) -> Outcome {
    support::pin(setting.cpu);
    let mut wakeup = Wakeup::new(setting.wait);
    let mut set = PollSet::new();
    set.add(near.as_fd());
    let header = packet(HEADER);
    let mut batch: Vec<Frame> = Vec::with_capacity(setting.batch);
    let (mut sleeps, mut bytes) = (0, 0);
    let (start, ran) = (Instant::now(), support::thread_time());
    while !stop.load(Ordering::Relaxed) {
        let mut round = Round {
            work: near.receive(&mut pool, &mut batch),
            ..Round::default()
        };
        bytes += batch.iter().map(|frame| frame.len() as u64).sum::<u64>();
        if let Some(far) = &mut far {
            for frame in &mut batch {
                assert!(frame.grow_front(HEADER));
                frame.bytes_mut()[..HEADER].copy_from_slice(&header);
            }
            far.transmit(&mut pool, batch.drain(..));
            far.kick();
            far.recycle(&mut pool);
            round.unfinished = far.pending() > 0;
        } else {
            pool.give_all(batch.drain(..));
        }
        near.refill(&mut pool);
        if let Rest::Sleep(longest) = wakeup.after(round, Instant::now()) {
            sleeps += 1;
            set.sleep(longest).expect("poll");
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let busy = (support::thread_time() - ran).as_secs_f64();
    let mut outcome = Outcome {
        packets: near.counters().received,
        bytes,
        sleeps,
        seconds,
        busy,
        kicks: 1,
        ..Outcome::default()
    };
    if let Some(far) = &mut far {
        let counters = *far.counters();
        outcome.packets =
            counters.transmitted - counters.dropped_by_device - u64::from(far.pending());
        outcome.dropped = counters.dropped_by_device;
        outcome.refused = counters.refused_ring_full;
        outcome.kicks = counters.kicks;
    }
    outcome
}

fn packet(size: usize) -> Vec<u8> {
    let mut packet = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    packet.resize(size.max(14), 0);
    packet
}
