//! The lab's own parts over gateways that are plain routers: the network, the traffic and the
//! clean-up are right before any of them judges a gateway.

use std::time::Duration;

use hawser_lab::{
    netns::unavailable,
    topology::{Family, SITE_INTERFACE, Side, Topology, TopologyConfig},
    traffic::{
        Endpoints, Sizes, flows,
        live::{LiveGenerator, LiveLoad, LiveSink},
        packet::{PacketPort, PacketSink, send_flows},
    },
};

/// Tests that need a network say so when they cannot have it.
macro_rules! needs_lab {
    () => {
        if let Some(reason) = unavailable() {
            println!("skipped: {reason}");
            return;
        }
    };
}

#[test]
fn every_packet_crosses_a_plain_network_once_and_in_order() {
    needs_lab!();
    let config = TopologyConfig {
        plain: true,
        queues: 2,
        ..TopologyConfig::default()
    };
    let topology = Topology::build(config).unwrap();
    for family in [Family::V4, Family::V6] {
        for from in [Side::A, Side::B] {
            let to = topology.site(from.other());
            let sink = PacketSink::start(to, SITE_INTERFACE).unwrap();
            let port = PacketPort::open(topology.site(from), SITE_INTERFACE).unwrap();
            let flows = flows(from, family, Endpoints::Spread, 0, 8);
            let sent = send_flows(
                &port,
                &flows,
                &Sizes::imix(),
                2000,
                Duration::from_millis(500),
            )
            .unwrap();
            let report = sink.finish(&sent).unwrap();
            assert_eq!(report.flows.len(), 8);
            assert_eq!(report.total(|f| f.sent), 1000);
            report.must_be_perfect().unwrap();
            assert_eq!(report.latency.packets, 1000);
        }
    }
}

#[test]
fn the_single_address_is_reached_too_and_names_go_away() {
    needs_lab!();
    let names: Vec<_>;
    {
        let config = TopologyConfig {
            plain: true,
            tunnels: 3,
            ..TopologyConfig::default()
        };
        let topology = Topology::build(config).unwrap();
        names = [
            topology.site(Side::A),
            topology.gateway(Side::B),
            topology.outside(),
        ]
        .map(|n| n.path())
        .to_vec();
        assert!(names.iter().all(|path| path.exists()));
        let port = PacketPort::open(topology.site(Side::A), SITE_INTERFACE).unwrap();
        let sink = PacketSink::start(topology.site(Side::B), SITE_INTERFACE).unwrap();
        let flows = flows(Side::A, Family::V4, Endpoints::Single, 40, 2);
        let sent = send_flows(
            &port,
            &flows,
            &Sizes::fixed(1400),
            500,
            Duration::from_millis(200),
        )
        .unwrap();
        sink.finish(&sent).unwrap().must_be_perfect().unwrap();
        // A process left inside does not keep the namespace alive.
        let mut command = topology.site(Side::A).command("sleep");
        std::mem::forget(command.arg("600").spawn().unwrap());
    }
    assert!(names.iter().all(|path| !path.exists()), "{names:?}");
}

#[test]
fn tcp_crosses_a_plain_network() {
    needs_lab!();
    if !hawser_lab::shell::has("iperf3") {
        println!("skipped: needs iperf3, which is not installed");
        return;
    }
    let config = TopologyConfig {
        plain: true,
        ..TopologyConfig::default()
    };
    let topology = Topology::build(config).unwrap();
    let result = hawser_lab::iperf::run(&topology, Side::A, Family::V4, 1, 2, &[]).unwrap();
    assert!(result.bits_per_second > 1e6, "{result:?}");
}

#[test]
fn live_traffic_is_counted_packet_by_packet() {
    needs_lab!();
    let config = TopologyConfig {
        plain: true,
        ..TopologyConfig::default()
    };
    let topology = Topology::build(config).unwrap();
    for (run, family) in [Family::V4, Family::V6].into_iter().enumerate() {
        let sink = LiveSink::attach(topology.site(Side::B), SITE_INTERFACE, 32).unwrap();
        let load = LiveLoad {
            flows: flows(Side::A, family, Endpoints::Spread, 16 * run as u16, 8),
            sizes: Sizes::imix(),
            packets_per_second: 5000,
            core: None,
            background: false,
        };
        let generator =
            LiveGenerator::start(topology.site(Side::A), SITE_INTERFACE, &load).unwrap();
        std::thread::sleep(Duration::from_millis(600));
        let sent = generator.finish().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        let report = sink.report(&sent).unwrap();
        assert_eq!(report.flows.len(), 8);
        assert!(report.total(|f| f.sent) > 1000, "{report:?}");
        // A kernel's forwarding may lose some of a burst; what arrives is told apart rightly.
        assert!(report.loss() < 0.05, "{report:?}");
        assert_eq!(
            report.total(|f| f.duplicates + f.reordered),
            0,
            "{report:?}"
        );
        assert_eq!(report.latency.packets, report.total(|f| f.received));
    }
}
