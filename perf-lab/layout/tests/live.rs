//! All three programs together on veth: live frames from the generator, through the policer, to the
//! sink. Needs root and `ip`; says so and passes without.
//!
//! ```text
//! site: a0 ---- b0 : outside : c0 ---- d0 : far
//! ```

use std::{
    fs::File,
    os::fd::AsFd,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    maps::{Array, DevMap, DevMapHash, PerCpuArray},
    programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode},
};
use hawser_lab_layout::{
    Address, FLOW_WORDS, Flow, GeneratorConfig, GeneratorState, PolicerStat, TEMPLATE_BYTES,
    Template, generator_word,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../lab.bpf.o");

const FLOWS: u32 = 8;

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Three namespaces, removed at the end whatever happens.
struct Lab([String; 3]);

impl Lab {
    fn new() -> Self {
        let name = |role| format!("hawser-lab-{role}-{}", std::process::id());
        let lab = Self([name("site"), name("outside"), name("far")]);
        let [site, outside, far] = &lab.0;
        for namespace in [site, outside, far] {
            ip(&["netns", "add", namespace]);
        }
        ip(&[
            "-n", site, "link", "add", "a0", "type", "veth", "peer", "name", "b0", "netns", outside,
        ]);
        ip(&[
            "-n", outside, "link", "add", "c0", "type", "veth", "peer", "name", "d0", "netns", far,
        ]);
        for (namespace, link) in [(site, "a0"), (outside, "b0"), (outside, "c0"), (far, "d0")] {
            ip(&["-n", namespace, "link", "set", link, "up"]);
        }
        lab
    }

    fn ifindex(&self, namespace: usize, link: &str) -> u32 {
        let line = ip(&["-n", &self.0[namespace], "-o", "link", "show", "dev", link]);
        line.split(':').next().unwrap().parse().unwrap()
    }

    fn enter(&self, namespace: usize) {
        let file = File::open(format!("/run/netns/{}", self.0[namespace])).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in &self.0 {
            // A failed set-up may not have made it.
            let _ = Command::new("ip")
                .args(["netns", "delete", namespace])
                .output();
        }
    }
}

fn load(name: &str) -> Ebpf {
    let mut ebpf = Ebpf::load(OBJECT).unwrap();
    program(&mut ebpf, name).load().unwrap();
    ebpf
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut Xdp {
    ebpf.program_mut(name).unwrap().try_into().unwrap()
}

fn generator(lab: &Lab) -> Ebpf {
    let mut ebpf = load("generator");
    let config = GeneratorConfig {
        flows: FLOWS,
        sizes: 2,
        packets_per_second: 20_000,
        ..Default::default()
    };
    let mut map: Array<_, [u64; generator_word::COUNT]> =
        ebpf.map_mut("GENERATOR").unwrap().try_into().unwrap();
    map.set(0, config.encode(), 0).unwrap();
    let mut map: Array<_, u32> = ebpf.map_mut("SIZES").unwrap().try_into().unwrap();
    map.set(0, 1400, 0).unwrap();
    map.set(1, 80, 0).unwrap();
    let mut map: Array<_, [u8; TEMPLATE_BYTES]> =
        ebpf.map_mut("TEMPLATES").unwrap().try_into().unwrap();
    for flow in 0..FLOWS {
        let template = Template {
            egress: 0,
            destination_mac: [2, 0, 0, 0, 0, 1],
            source_mac: [2, 0, 0, 0, 0, 2],
            vlan: None,
            address: Address::V4([10, 1, 0, 1], [10, 2, 0, 2]),
            source_port: 4000 + flow as u16,
            destination_port: 9,
            hop_limit: 64,
            traffic_class: 0,
            dont_fragment: true,
        };
        map.set(flow, template.encode().unwrap(), 0).unwrap();
    }
    lab.enter(0);
    let mut ports: DevMap<_> = ebpf.map_mut("PORTS").unwrap().try_into().unwrap();
    ports.set(0, lab.ifindex(0, "a0"), None, 0).unwrap();
    ebpf
}

fn policer(lab: &Lab) -> Ebpf {
    let mut ebpf = load("policer");
    let (b, c) = (lab.ifindex(1, "b0"), lab.ifindex(1, "c0"));
    lab.enter(1);
    let mut peers: DevMapHash<_> = ebpf.map_mut("PEERS").unwrap().try_into().unwrap();
    peers.insert(b, c, None, 0).unwrap();
    peers.insert(c, b, None, 0).unwrap();
    program(&mut ebpf, "policer")
        .attach_to_if_index(b, XdpMode::Driver)
        .unwrap();
    program(&mut ebpf, "policer")
        .attach_to_if_index(c, XdpMode::Driver)
        .unwrap();
    ebpf
}

fn sink(lab: &Lab) -> Ebpf {
    let mut ebpf = load("sink");
    let d = lab.ifindex(2, "d0");
    lab.enter(2);
    program(&mut ebpf, "sink")
        .attach_to_if_index(d, XdpMode::Driver)
        .unwrap();
    ebpf
}

fn flows(sink: &Ebpf) -> Vec<Flow> {
    let map: Array<_, [u64; FLOW_WORDS]> = sink.map("FLOWS").unwrap().try_into().unwrap();
    (0..FLOWS)
        .map(|flow| Flow::decode(&map.get(&flow, 0).unwrap()))
        .collect()
}

#[test]
fn every_packet_arrives_once_and_in_order() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: every_packet_arrives_once_and_in_order needs root");
        return;
    }
    let lab = Lab::new();
    thread::scope(|scope| {
        let run = scope.spawn(|| traffic(&lab));
        if let Err(panic) = run.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn traffic(lab: &Lab) {
    let sink = sink(lab);
    let policer = policer(lab);
    let mut generator = generator(lab);
    let frame = vec![0; 1400];
    program(&mut generator, "generator")
        .test_run(TestRunOptions {
            data_in: Some(&frame),
            repeat: 1_000_000,
            attrs: TestRunAttrs::new().xdp_live_frames(64),
            ..TestRunOptions::default()
        })
        .unwrap();

    let map: Array<_, [u64; GeneratorState::WORDS]> = generator
        .map("GENERATOR_STATE")
        .unwrap()
        .try_into()
        .unwrap();
    let state = GeneratorState::decode(&map.get(&0, 0).unwrap());
    assert!(state.sent_packets > 0 && state.refused == 0, "{state:?}");
    let deadline = Instant::now() + Duration::from_secs(10);
    while flows(&sink).iter().map(|flow| flow.received).sum::<u64>() < state.sent_packets {
        assert!(Instant::now() < deadline, "{state:?} {:?}", flows(&sink));
        thread::sleep(Duration::from_millis(10));
    }
    let sequences: Array<_, u64> = generator.map("SEQUENCES").unwrap().try_into().unwrap();
    let mut bytes = 0;
    for (number, flow) in (0..).zip(flows(&sink)) {
        let sent = sequences.get(&number, 0).unwrap();
        assert_eq!(
            (flow.received, flow.next, flow.lost_of(sent)),
            (sent, sent, 0)
        );
        assert_eq!((flow.duplicates, flow.reordered, flow.contended), (0, 0, 0));
        bytes += flow.bytes;
    }
    assert_eq!(bytes, state.sent_bytes);
    let other: PerCpuArray<_, u64> = policer.map("POLICER_STATS").unwrap().try_into().unwrap();
    let other: u64 = other
        .get(&(PolicerStat::Other as u32), 0)
        .unwrap()
        .iter()
        .sum();
    assert!(other >= state.sent_packets);
}
