//! Attaching to veth in a network namespace, and what is left when the process goes. Needs root and
//! `ip`; says so and passes without.

mod support;

use std::{
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr},
    os::fd::OwnedFd,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use hawser_ebpf::{
    Action, Attached, PortConfig, Role, Sizes, Steering, SteeringError, Taken, Verdict,
};
use support::Lab;

const SECRET_CHILD: &str = "HAWSER_EBPF_TEST_CHILD";

fn port(lab: &Lab) -> PortConfig {
    PortConfig {
        ifindex: lab.ifindex(),
        mac: lab.mac(),
        role: Role::Outside,
        base_slot: 0,
    }
}

#[test]
fn native_on_veth_and_gone_when_dropped() {
    if support::skip_without_root("native_on_veth_and_gone_when_dropped") {
        return;
    }
    Lab::run("drop", |lab| {
        let mut steering = Steering::load(&Sizes::default()).unwrap();
        assert!(matches!(
            steering.attach(&port(lab)).unwrap(),
            Attached::Native
        ));
        assert!(lab.has_xdp());
        let again = steering.attach(&port(lab));
        assert!(
            matches!(again, Err(SteeringError::AttachedAlready { .. })),
            "{again:?}"
        );
        let mut other = Steering::load(&Sizes::default()).unwrap();
        let busy = other.attach(&port(lab));
        assert!(matches!(busy, Err(SteeringError::Busy { .. })), "{busy:?}");

        steering.detach(lab.ifindex()).unwrap();
        assert!(!lab.has_xdp());
        assert!(matches!(
            other.attach(&port(lab)).unwrap(),
            Attached::Native
        ));
        drop(other);
        assert!(!lab.has_xdp());
    });
}

#[test]
fn generic_where_the_driver_refuses() {
    if support::skip_without_root("generic_where_the_driver_refuses") {
        return;
    }
    Lab::run("generic", |lab| {
        // A bridge has no native XDP.
        lab.ip(&["link", "add", "br0", "type", "bridge"]);
        let mut steering = Steering::load(&Sizes::default()).unwrap();
        let bridge = PortConfig {
            ifindex: lab.ifindex_of("br0"),
            ..port(lab)
        };
        let attached = steering.attach(&bridge).unwrap();
        assert!(matches!(attached, Attached::Generic { .. }), "{attached:?}");
    });
}

#[test]
fn packets_on_the_wire_are_judged_and_reach_the_socket() {
    if support::skip_without_root("packets_on_the_wire_are_judged_and_reach_the_socket") {
        return;
    }
    use rustix::net::{
        AddressFamily, SocketType, bind, socket, sockopt,
        xdp::{SocketAddrXdp, SocketAddrXdpFlags, XdpUmemReg, XdpUmemRegFlags},
    };
    Lab::run("wire", |lab| {
        let mut steering = Steering::load(&Sizes::default()).unwrap();
        steering
            .set_local_addresses([IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))])
            .unwrap();
        steering.attach(&port(lab)).unwrap();

        let before = steering.stats().unwrap();
        lab.send_esp(5);
        let counted = lab.wait(|| {
            let counted = steering.stats().unwrap().since(&before);
            (counted.get(Verdict::Take(Taken::Esp)) >= 5).then_some(counted)
        });
        assert_eq!(counted.get(Verdict::Take(Taken::Esp)), 5);
        let no_socket = Verdict::Pass(hawser_ebpf::Passed::NoSocket);
        assert_eq!(counted.get(no_socket), 5);

        // A socket with a receive ring but nothing in its fill ring: what reaches it is dropped
        // there and counted, which is proof enough that the redirect led to it.
        let xsk: OwnedFd = socket(AddressFamily::XDP, SocketType::RAW, None).unwrap();
        let (addr, len) = support::leaked_umem();
        sockopt::set_xdp_umem_reg(
            &xsk,
            XdpUmemReg {
                addr,
                len,
                chunk_size: 4096,
                headroom: 0,
                flags: XdpUmemRegFlags::empty(),
                tx_metadata_len: 0,
            },
        )
        .unwrap();
        sockopt::set_xdp_umem_fill_ring_size(&xsk, 64).unwrap();
        sockopt::set_xdp_umem_completion_ring_size(&xsk, 64).unwrap();
        sockopt::set_xdp_rx_ring_size(&xsk, 64).unwrap();
        let copy = SocketAddrXdpFlags::XDP_COPY | SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
        bind(&xsk, &SocketAddrXdp::new(copy, lab.ifindex(), 0)).unwrap();
        steering.register_socket(0, &xsk).unwrap();

        let before = steering.stats().unwrap();
        lab.send_esp(7);
        lab.wait(|| {
            let taken = steering
                .stats()
                .unwrap()
                .since(&before)
                .get(Verdict::Take(Taken::Esp));
            (taken >= 7).then_some(())
        });
        let counted = steering.stats().unwrap().since(&before);
        assert_eq!(counted.get(no_socket), 0);
        lab.wait(|| (sockopt::xdp_statistics(&xsk).unwrap().rx_dropped >= 7).then_some(()));
        assert_eq!(sockopt::xdp_statistics(&xsk).unwrap().rx_dropped, 7);

        // Closing the socket empties its slot.
        drop(xsk);
        let before = steering.stats().unwrap();
        lab.send_esp(3);
        lab.wait(|| (steering.stats().unwrap().since(&before).get(no_socket) >= 3).then_some(()));
        steering.unregister_socket(0).unwrap();
    });
}

/// Not a test of its own: what [`killed_process_leaves_nothing`] kills.
#[test]
fn child_attaches_and_waits() {
    let Ok(namespace) = std::env::var(SECRET_CHILD) else {
        return;
    };
    let lab = Lab::enter(&namespace);
    let mut steering = Steering::load(&Sizes::default()).unwrap();
    steering.attach(&port(&lab)).unwrap();
    println!("attached");
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn killed_process_leaves_nothing() {
    if support::skip_without_root("killed_process_leaves_nothing") {
        return;
    }
    Lab::run("kill", |lab| {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_attaches_and_waits", "--nocapture"])
            .env(SECRET_CHILD, lab.namespace())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let is_attached = output
            .lines()
            .any(|line| line.unwrap().ends_with("attached"));
        let was_seen = lab.has_xdp();
        // SIGKILL: no destructor runs.
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_attached && was_seen);
        lab.wait(|| (!lab.has_xdp()).then_some(()));
    });
}

/// What the data plane does after start: no capability at all, and yet the tables can be changed.
#[test]
fn tables_change_without_privilege() {
    if support::skip_without_root("tables_change_without_privilege") {
        return;
    }
    Lab::run("caps", |lab| {
        let mut steering = Steering::load(&Sizes::default()).unwrap();
        steering.attach(&port(lab)).unwrap();
        support::drop_all_capabilities();
        assert!(
            Steering::load(&Sizes::default()).is_err(),
            "the privilege must be gone"
        );

        steering
            .set_local_addresses([IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))])
            .unwrap();
        steering
            .insert_inside([("10.0.0.0/8".parse().unwrap(), Action::Take)])
            .unwrap();
        steering
            .remove_inside(["10.0.0.0/8".parse().unwrap()])
            .unwrap();
        steering.set_inside_vlan(lab.ifindex(), 7, true).unwrap();
        steering
            .put_port(&PortConfig {
                role: Role::Both,
                ..port(lab)
            })
            .unwrap();
        steering.stats().unwrap();
        steering.detach(lab.ifindex()).unwrap();
        assert!(!lab.has_xdp());
        // What was verified with privilege may be attached without.
        steering.attach(&port(lab)).unwrap();
    });
}

#[test]
fn interface_goes_and_comes_back() {
    if support::skip_without_root("interface_goes_and_comes_back") {
        return;
    }
    Lab::run("back", |lab| {
        let mut steering = Steering::load(&Sizes::default()).unwrap();
        let first = port(lab);
        steering.attach(&first).unwrap();
        lab.ip(&["link", "delete", "port"]);
        let gone = steering.attach(&PortConfig {
            ifindex: first.ifindex + 1000,
            ..first
        });
        assert!(
            matches!(gone, Err(SteeringError::NoInterface { .. })),
            "{gone:?}"
        );
        steering.detach(first.ifindex).unwrap();

        lab.ip(&[
            "link", "add", "port", "type", "veth", "peer", "name", "other",
        ]);
        steering.attach(&port(lab)).unwrap();
        assert!(lab.has_xdp());
    });
}

#[test]
fn a_million_routes_load_in_seconds() {
    if support::skip_without_root("a_million_routes_load_in_seconds") {
        return;
    }
    let mut steering = Steering::load(&Sizes::default()).unwrap();
    let routes = (0..1_000_000_u32).map(|i| {
        // /24s spread over the address space.
        let network = Ipv4Addr::from_bits(i.reverse_bits() & 0xffff_ff00 | 0x0100_0000);
        (ipnet::IpNet::new(network.into(), 24).unwrap(), Action::Take)
    });
    let start = Instant::now();
    steering.insert_inside(routes).unwrap();
    let took = start.elapsed();
    println!("1,000,000 routes: {took:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
}
