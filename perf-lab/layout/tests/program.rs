//! The committed programs in the kernel: what they write is what the layouts say. Needs root; says
//! so and passes without.

use std::{collections::HashMap as StdHashMap, time::Duration};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, PerCpuArray},
    programs::{TestRun as _, TestRunOptions, Xdp},
};
use hawser_lab_layout::{
    Address, FLOW_WORDS, Flow, GeneratorConfig, GeneratorState, LIMIT_WORDS, Limit, MAGIC,
    METER_WORDS, Meter, PolicerStat, SinkStat, TEMPLATE_BYTES, TUNNEL_KEY_BYTES, Template,
    TunnelKey, VlanTag, WINDOW, bucket_low_ns,
};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../lab.bpf.o");

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

fn skip_without_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: {test} loads an XDP program, which needs root");
    }
    !is_root
}

fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// One program with its maps.
struct Program {
    ebpf: Ebpf,
    name: &'static str,
}

impl Program {
    fn load(name: &'static str) -> Self {
        let mut ebpf = Ebpf::load(OBJECT).unwrap();
        let program: &mut Xdp = ebpf.program_mut(name).unwrap().try_into().unwrap();
        program.load().unwrap();
        Self { ebpf, name }
    }

    fn run(&mut self, frame: &[u8], repeat: u32) -> (u32, Vec<u8>, Duration) {
        let program: &Xdp = self.ebpf.program(self.name).unwrap().try_into().unwrap();
        let mut out = vec![0; 4096];
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                repeat,
                ..TestRunOptions::default()
            })
            .unwrap();
        out.truncate(result.data_size_out as usize);
        (result.return_value, out, result.duration)
    }

    fn array<const N: usize>(&mut self, name: &str) -> Array<&mut MapData, [u64; N]> {
        self.ebpf.map_mut(name).unwrap().try_into().unwrap()
    }

    fn counter(&self, name: &str, index: u32) -> u64 {
        let map: PerCpuArray<_, u64> = self.ebpf.map(name).unwrap().try_into().unwrap();
        map.get(&index, 0).unwrap().iter().sum()
    }
}

/// A frame of `protocol` between two IPv4 hosts.
fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    frame.extend((20 + payload.len() as u16).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend(payload);
    frame
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0,
    ];
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([next, 64]);
    frame.extend([0xfd; 16]);
    frame.extend([0xfe; 16]);
    frame.extend(payload);
    frame
}

fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = source.to_be_bytes().to_vec();
    out.extend(destination.to_be_bytes());
    out.extend((8 + payload.len() as u16).to_be_bytes());
    out.extend([0, 0]);
    out.extend(payload);
    out
}

fn stamped(flow: u16, sequence: u64, sent: u64) -> Vec<u8> {
    let mut out = MAGIC.to_be_bytes().to_vec();
    out.extend(flow.to_be_bytes());
    out.extend(&sequence.to_be_bytes()[2..]);
    out.extend(sent.to_be_bytes());
    out
}

fn mapped(v4: [u8; 4]) -> [u8; 16] {
    std::net::Ipv4Addr::from(v4).to_ipv6_mapped().octets()
}

#[test]
fn sink_tells_loss_duplication_and_reordering() {
    if skip_without_root("sink_tells_loss_duplication_and_reordering") {
        return;
    }
    let mut sink = Program::load("sink");
    // 0 1 2, gap of 3 and 4, 5, then 4 late, 4 again, and 5 again; 3 never.
    for sequence in [0, 1, 2, 5, 4, 4, 5] {
        let frame = v4(17, &udp(1, 2, &stamped(7, sequence, now())));
        assert_eq!(sink.run(&frame, 1).0, XDP_DROP);
    }
    let flow = |sink: &mut Program, flow: u32| {
        Flow::decode(&sink.array::<FLOW_WORDS>("FLOWS").get(&flow, 0).unwrap())
    };
    let seen = flow(&mut sink, 7);
    assert_eq!(
        seen,
        Flow {
            received: 7,
            bytes: 7 * 60,
            duplicates: 2,
            reordered: 1,
            late: 0,
            next: 6,
            contended: 0,
        }
    );
    assert_eq!(seen.lost_below_next(), 1);
    assert_eq!(seen.lost_of(10), 5);

    // At the window's edge a duplicate is still seen, beyond it none is.
    for sequence in [1000, 1000 - WINDOW, 1000 - WINDOW, 1, 1] {
        sink.run(&v6(17, &udp(1, 2, &stamped(8, sequence, now()))), 1);
    }
    let seen = flow(&mut sink, 8);
    assert_eq!(
        (seen.received, seen.duplicates, seen.reordered, seen.late),
        (5, 1, 3, 2)
    );

    assert_eq!(sink.counter("SINK_STATS", SinkStat::Counted as u32), 12);
    let total: u64 = (0..512).map(|bucket| sink.counter("LATENCY", bucket)).sum();
    assert_eq!(total, 12);
    // Test runs take microseconds to seconds, not less and not hours.
    let quick: u64 = (0..512)
        .filter(|bucket| (200..10_000_000_000).contains(&bucket_low_ns(*bucket)))
        .map(|bucket| sink.counter("LATENCY", bucket))
        .sum();
    assert_eq!(quick, 12);
}

#[test]
fn sink_reads_tags_and_leaves_the_rest() {
    if skip_without_root("sink_reads_tags_and_leaves_the_rest") {
        return;
    }
    let mut sink = Program::load("sink");
    let mut tagged = v4(17, &udp(1, 2, &stamped(0, 0x1_2345_6789_abcd, 0)));
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    assert_eq!(sink.run(&tagged, 1).0, XDP_DROP);
    let flow = Flow::decode(&sink.array::<FLOW_WORDS>("FLOWS").get(&0, 0).unwrap());
    assert_eq!((flow.received, flow.next), (1, 0x2345_6789_abce));

    let mut fragment = v4(17, &udp(1, 2, &stamped(0, 0, 0)));
    fragment[20] = 0x20;
    let foreign = [
        fragment,
        v4(6, &udp(1, 2, &stamped(0, 0, 0))),
        v4(17, &udp(1, 2, &[9; 18])),
        v4(17, &udp(1, 2, &stamped(0, 0, 0)[..17])),
    ];
    for frame in &foreign {
        assert_eq!(sink.run(frame, 1).0, XDP_PASS);
    }
    assert_eq!(sink.counter("SINK_STATS", SinkStat::Foreign as u32), 4);
    assert_eq!(
        sink.run(&v4(17, &udp(1, 2, &stamped(5000, 0, 0))), 1).0,
        XDP_DROP
    );
    assert_eq!(sink.counter("SINK_STATS", SinkStat::FlowRange as u32), 1);
}

fn meters(policer: &Program) -> StdHashMap<TunnelKey, Meter> {
    let map: HashMap<_, [u8; TUNNEL_KEY_BYTES], [u64; METER_WORDS]> =
        policer.ebpf.map("METERS").unwrap().try_into().unwrap();
    map.iter()
        .map(|entry| {
            let (key, words) = entry.unwrap();
            (TunnelKey::decode(&key), Meter::decode(&words))
        })
        .collect()
}

#[test]
fn policer_knows_tunnels() {
    if skip_without_root("policer_knows_tunnels") {
        return;
    }
    let mut policer = Program::load("policer");
    let esp = [0, 0, 1, 0, 0, 0, 0, 1, 9, 9, 9, 9];
    let tunnels = [v4(50, &esp), v4(17, &udp(4500, 61000, &esp)), v6(50, &esp)];
    for frame in &tunnels {
        // There is no peer port in a test run.
        assert_eq!(policer.run(frame, 3).0, XDP_PASS);
    }
    let ike = udp(4500, 4500, &[0; 12]);
    let others = [
        v4(17, &ike),
        v4(17, &udp(500, 500, &esp)),
        v4(1, &esp),
        v6(58, &esp),
        vec![0xff; 60],
    ];
    for frame in &others {
        assert_eq!(policer.run(frame, 1).0, XDP_PASS);
    }
    assert_eq!(
        policer.counter("POLICER_STATS", PolicerStat::Policed as u32),
        9
    );
    assert_eq!(
        policer.counter("POLICER_STATS", PolicerStat::Other as u32),
        5
    );
    assert_eq!(
        policer.counter("POLICER_STATS", PolicerStat::NoPeer as u32),
        14
    );

    let plain = TunnelKey {
        source: mapped([10, 0, 0, 1]),
        destination: mapped([10, 0, 0, 2]),
        source_port: 0,
        destination_port: 0,
        protocol: 50,
    };
    let encapsulated = TunnelKey {
        source_port: 4500,
        destination_port: 61000,
        protocol: 17,
        ..plain
    };
    let six = TunnelKey {
        source: [0xfd; 16],
        destination: [0xfe; 16],
        ..plain
    };
    let meters = meters(&policer);
    assert_eq!(meters.len(), 3);
    for (key, bytes) in [(plain, 32), (encapsulated, 40), (six, 52)] {
        let meter = meters[&key];
        assert_eq!((meter.passed_packets, meter.passed_bytes), (3, 3 * bytes));
        assert_eq!((meter.dropped_bytes, meter.contended_packets), (0, 0));
        assert!(meter.last_ns > 0 && meter.last_ns <= now());
    }
}

/// Floods one tunnel and compares what passed with the ceiling.
fn flood(limit: Limit, own: bool) -> (Meter, f64) {
    let mut policer = Program::load("policer");
    let frame = v4(50, &[7; 1000]);
    let words = limit.encode();
    if own {
        let key = TunnelKey {
            source: mapped([10, 0, 0, 1]),
            destination: mapped([10, 0, 0, 2]),
            source_port: 0,
            destination_port: 0,
            protocol: 50,
        };
        let mut limits: HashMap<_, [u8; TUNNEL_KEY_BYTES], [u64; LIMIT_WORDS]> =
            policer.ebpf.map_mut("LIMITS").unwrap().try_into().unwrap();
        limits.insert(key.encode(), words, 0).unwrap();
    } else {
        policer
            .array::<LIMIT_WORDS>("DEFAULT_LIMIT")
            .set(0, words, 0)
            .unwrap();
    }
    let start = now();
    while now() - start < 200_000_000 {
        policer.run(&frame, 10_000);
    }
    let seconds = (now() - start) as f64 / 1e9;
    (meters(&policer).into_values().next().unwrap(), seconds)
}

#[test]
fn policer_holds_the_ceilings() {
    if skip_without_root("policer_holds_the_ceilings") {
        return;
    }
    // Deep enough to make up for the flood's own pauses.
    const BURST: f64 = 0.1;
    let burst_ns = (BURST * 1e9) as u64;
    let bits = Limit {
        bits_per_second: 100_000_000,
        burst_ns,
        ..Limit::default()
    };
    let packets = Limit {
        packets_per_second: 20_000,
        burst_ns,
        ..Limit::default()
    };
    for own in [false, true] {
        let (meter, seconds) = flood(bits, own);
        let passed = meter.passed_bytes as f64 * 8.0;
        assert!(
            passed <= 100e6 * (seconds + BURST) + 8160.0,
            "{passed} in {seconds}"
        );
        assert!(passed > 50e6 * seconds, "{passed} in {seconds}");
        assert!(meter.over_bits_packets > 0 && meter.over_packets_packets == 0);
        assert_eq!(meter.dropped_bytes, meter.over_bits_packets * 1020);

        let (meter, seconds) = flood(packets, own);
        let passed = meter.passed_packets as f64;
        assert!(
            passed <= 20e3 * (seconds + BURST) + 1.0,
            "{passed} in {seconds}"
        );
        assert!(passed > 10e3 * seconds, "{passed} in {seconds}");
        assert!(meter.over_packets_packets > 0 && meter.over_bits_packets == 0);
    }
}

#[test]
fn policer_loses_what_it_is_told_to() {
    if skip_without_root("policer_loses_what_it_is_told_to") {
        return;
    }
    let mut policer = Program::load("policer");
    let words = Limit {
        loss_ppm: 10_000,
        ..Limit::default()
    }
    .encode();
    policer
        .array::<LIMIT_WORDS>("DEFAULT_LIMIT")
        .set(0, words, 0)
        .unwrap();
    policer.run(&v4(50, &[7; 100]), 1_000_000);
    let meter = meters(&policer).into_values().next().unwrap();
    assert_eq!(meter.passed_packets + meter.lost_packets, 1_000_000);
    // 10,000 expected; seven standard deviations are 700.
    assert!(
        (9_300..10_700).contains(&meter.lost_packets),
        "{}",
        meter.lost_packets
    );
}

/// The sum of 16-bit words that a receiver of IPv4 checks (RFC 1071): 0xffff if all is well.
fn ones_complement_sum(bytes: &[u8]) -> u32 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

fn templates() -> Vec<Template> {
    let plain = Template {
        egress: 0,
        destination_mac: [2, 0, 0, 0, 0, 1],
        source_mac: [2, 0, 0, 0, 0, 2],
        vlan: None,
        address: Address::V4([10, 1, 0, 1], [10, 2, 0, 2]),
        source_port: 4000,
        destination_port: 9,
        hop_limit: 64,
        traffic_class: 0xb8,
        dont_fragment: true,
    };
    let six = Address::V6([0xfd; 16], [0xfe; 16]);
    let vlan = VlanTag::new(77);
    vec![
        plain,
        Template { vlan, ..plain },
        Template {
            address: six,
            ..plain
        },
        Template {
            vlan,
            address: six,
            ..plain
        },
    ]
}

fn loaded_generator(sizes: &[u32], packets_per_second: u64) -> Program {
    let mut generator = Program::load("generator");
    let templates = templates();
    let config = GeneratorConfig {
        first_flow: 300,
        flows: templates.len() as u32,
        sizes: sizes.len() as u32,
        packets_per_second,
        ..GeneratorConfig::default()
    };
    generator
        .array("GENERATOR")
        .set(0, config.encode(), 0)
        .unwrap();
    let mut map: Array<_, u32> = generator.ebpf.map_mut("SIZES").unwrap().try_into().unwrap();
    for (index, size) in (0..).zip(sizes) {
        map.set(index, size, 0).unwrap();
    }
    let mut map: Array<_, [u8; TEMPLATE_BYTES]> = generator
        .ebpf
        .map_mut("TEMPLATES")
        .unwrap()
        .try_into()
        .unwrap();
    for (index, template) in (0..).zip(&templates) {
        map.set(index, template.encode().unwrap(), 0).unwrap();
    }
    generator
}

fn state(generator: &mut Program) -> GeneratorState {
    let map = generator.array::<{ GeneratorState::WORDS }>("GENERATOR_STATE");
    GeneratorState::decode(&map.get(&0, 0).unwrap())
}

#[test]
fn generator_writes_what_the_template_says() {
    if skip_without_root("generator_writes_what_the_template_says") {
        return;
    }
    let sizes = [100, 1400, 84];
    let mut generator = loaded_generator(&sizes, 0);
    let mut sink = Program::load("sink");
    let templates = templates();
    for round in 0..6_usize {
        for (flow, template) in templates.iter().enumerate() {
            let before = now();
            // What the last user left in the page must not matter.
            let (_, frame, _) = generator.run(&vec![0xa5; 1400], 1);
            let size = sizes[round % sizes.len()] as usize;
            assert_eq!(frame.len(), size);

            let header = template.header_len();
            let encoded = template.encode().unwrap();
            let mut expected = encoded[16..16 + header].to_vec();
            let ip = header
                - 8
                - if matches!(template.address, Address::V4(..)) {
                    20
                } else {
                    40
                };
            let udp_length = ((size - header + 8) as u16).to_be_bytes();
            expected[header - 4..header - 2].copy_from_slice(&udp_length);
            if matches!(template.address, Address::V4(..)) {
                expected[ip + 2..ip + 4].copy_from_slice(&((size - ip) as u16).to_be_bytes());
                expected[ip + 10..ip + 12].copy_from_slice(&frame[ip + 10..ip + 12]);
                assert_eq!(ones_complement_sum(&frame[ip..ip + 20]), 0xffff);
            } else {
                expected[ip + 4..ip + 6].copy_from_slice(&udp_length);
            }
            assert_eq!(frame[..header], expected[..]);
            assert_eq!(
                frame[header..header + 10],
                stamped(300 + flow as u16, round as u64, 0)[..10]
            );
            let sent = u64::from_be_bytes(frame[header + 10..header + 18].try_into().unwrap());
            assert!((before..=now()).contains(&sent));
            // Bytes behind the headers are left as they are.
            assert!(frame[header + 18..].iter().all(|byte| *byte == 0xa5));
            assert_eq!(sink.run(&frame, 1).0, XDP_DROP);
        }
    }
    assert_eq!(sink.counter("SINK_STATS", SinkStat::Counted as u32), 24);
    let state = state(&mut generator);
    assert_eq!((state.sent_packets, state.idle, state.refused), (24, 0, 0));
    assert_eq!(state.sent_bytes, 8 * (100 + 1400 + 84));
    let sequences: Array<_, u64> = generator.ebpf.map("SEQUENCES").unwrap().try_into().unwrap();
    for flow in 0..4 {
        assert_eq!(sequences.get(&flow, 0).unwrap(), 6);
        let seen = sink
            .array::<FLOW_WORDS>("FLOWS")
            .get(&(300 + flow), 0)
            .unwrap();
        assert_eq!(Flow::decode(&seen).received, 6);
    }
}

#[test]
fn generator_refuses_what_does_not_fit() {
    if skip_without_root("generator_refuses_what_does_not_fit") {
        return;
    }
    // 60 bytes hold untagged IPv4 only; 1,401 are more than the frame has.
    for (size, sent, refused) in [(60, 1, 3), (1401, 0, 4)] {
        let mut generator = loaded_generator(&[size], 0);
        for _ in 0..4 {
            generator.run(&[0; 1400], 1);
        }
        let state = state(&mut generator);
        assert_eq!(
            (state.sent_packets, state.refused),
            (sent, refused),
            "{size}"
        );
    }
}

#[test]
fn generator_keeps_its_pace() {
    if skip_without_root("generator_keeps_its_pace") {
        return;
    }
    let mut generator = loaded_generator(&[100], 50_000);
    let start = now();
    while now() - start < 300_000_000 {
        generator.run(&[0; 100], 10_000);
    }
    let seconds = (now() - start) as f64 / 1e9;
    let state = state(&mut generator);
    let sent = state.sent_packets as f64;
    // Below the pace there is no bound: it catches up 1 ms at most, and a busy machine takes the
    // thread away for longer.
    assert!(
        sent <= 50e3 * (seconds + 0.001) + 1.0,
        "{sent} in {seconds}"
    );
    assert!(sent > 100.0 && state.idle > 0, "{state:?}");

    // Nothing behind the deadline.
    let config = GeneratorConfig {
        flows: 4,
        sizes: 1,
        deadline_ns: now(),
        ..GeneratorConfig::default()
    };
    generator
        .array("GENERATOR")
        .set(0, config.encode(), 0)
        .unwrap();
    generator.run(&[0; 100], 1000);
    let after = GeneratorState::decode(
        &generator
            .array::<{ GeneratorState::WORDS }>("GENERATOR_STATE")
            .get(&0, 0)
            .unwrap(),
    );
    assert_eq!(after.sent_packets, state.sent_packets);
    assert_eq!(after.idle, state.idle + 1000);
}
