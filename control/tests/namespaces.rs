//! `hawser run` against a real kernel: interfaces, routes and neighbours in network namespaces,
//! with a data plane that carries no packets. Needs root and `ip`; says so when it has neither.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use hawser_api::{Event, PortId};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway namespace with `out0` towards a peer's namespace and `in0` towards a site's.
struct Lab {
    folder: tempfile::TempDir,
    /// Unique in the machine.
    tag: String,
    control: Option<Child>,
}

fn ip(arguments: &str) -> bool {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    Command::new("ip")
        .args(&words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

fn must(arguments: &str) {
    assert!(ip(arguments), "ip {arguments}");
}

impl Lab {
    /// `None`, and a word why, where it cannot be had.
    fn new(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: namespaces need root");
            return None;
        }
        if !ip("-V") {
            eprintln!("skipped: there is no `ip` (package iproute2)");
            return None;
        }
        let tag = format!("hwc{}{name}", std::process::id());
        let lab = Self {
            folder: tempfile::tempdir().unwrap(),
            tag,
            control: None,
        };
        for place in ["gw", "peer", "site"] {
            must(&format!("netns add {}", lab.space(place)));
            must(&format!("-n {} link set lo up", lab.space(place)));
        }
        lab.cable("out0", "peer");
        lab.cable("in0", "site");
        must(&format!(
            "-n {} addr add 192.0.2.2/24 dev eth0",
            lab.space("peer")
        ));
        must(&format!(
            "-n {} addr add 10.1.0.2/24 dev eth0",
            lab.space("site")
        ));
        lab.configure();
        Some(lab)
    }

    fn space(&self, place: &str) -> String {
        format!("{}-{place}", self.tag)
    }

    /// A cable with three queues from the gateway's interface to the other side's `eth0`.
    fn cable(&self, interface: &str, other: &str) {
        let gateway = self.space("gw");
        must(&format!(
            "link add {interface} netns {gateway} numtxqueues 3 numrxqueues 3 type veth peer name \
             eth0 netns {} numtxqueues 3 numrxqueues 3",
            self.space(other)
        ));
        let address = if interface == "out0" {
            "192.0.2.1/24"
        } else {
            "10.1.0.1/24"
        };
        must(&format!("-n {gateway} addr add {address} dev {interface}"));
        must(&format!("-n {gateway} link set {interface} up"));
        must(&format!("-n {} link set eth0 up", self.space(other)));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self) {
        let folder = self.folder.path().display();
        let text = format!(
            "[gateway]\nhost_path = false\nrun_dir = \"{folder}/run\"\n\
             state_dir = \"{folder}/state\"\n\
             [dataplane]\nworkers = 2\n\
             [[interface]]\nname = \"out0\"\nrole = \"outside\"\n\
             [[interface]]\nname = \"in0\"\nrole = \"inside\"\n\
             [[connection]]\nname = \"lab\"\nmanual = {{ key_file = \"keys.toml\" }}\n\
             [[connection.tunnel]]\nname = \"a\"\nlocal = \"192.0.2.1\"\nremote = \"192.0.2.2\"\n\
             [[connection.tunnel]]\nname = \"b\"\nlocal = \"192.0.2.1\"\nremote = \"198.51.100.1\"\n\
             [[route]]\nto = \"10.0.0.0/8\"\nvia = \"lab\"\n"
        );
        fs::write(self.path("hawser.toml"), text).unwrap();
        let mut keys = String::new();
        for (n, tunnel) in ["a", "b"].iter().enumerate() {
            keys += &format!(
                "[[key]]\ntunnel = \"lab/{tunnel}\"\n\
                 outbound = {{ spi = \"0x100{n}\", key = \"{:072x}\" }}\n\
                 inbound = {{ spi = \"0x200{n}\", key = \"{:072x}\" }}\n",
                n + 1,
                n + 11
            );
        }
        fs::write(self.path("keys.toml"), keys).unwrap();
        fs::set_permissions(self.path("keys.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn start(&mut self) {
        let fake = Path::new(&std::env::current_exe().unwrap())
            .parent()
            .and_then(Path::parent)
            .unwrap()
            .join("examples/fake_dataplane");
        let log = fs::File::create(self.path("control.log")).unwrap();
        let child = Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.space("gw"),
                env!("CARGO_BIN_EXE_hawser"),
                "run",
            ])
            .args(["--log", "debug", "-c"])
            .arg(self.path("hawser.toml"))
            .env("HAWSER_DATAPLANE", fake)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.control = Some(child);
    }

    fn status(&self) -> Option<Value> {
        let output = Command::new(env!("CARGO_BIN_EXE_hawser"))
            .args(["status", "--json", "-c"])
            .arg(self.path("hawser.toml"))
            .output()
            .unwrap();
        output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    fn wait_for(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.wait(what, || self.status().filter(|s| fits(s)))
    }

    fn wait<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "waited in vain for {what}; status: {:?}\nasked: {:#?}\nlog:\n{}",
                self.status(),
                self.asked(),
                fs::read_to_string(self.path("control.log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn asked(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("run/dataplane.sock.log")).unwrap_or_default();
        text.lines()
            .map(|l| l.split_once(' ').unwrap().1.trim().to_owned())
            .collect()
    }

    fn wait_for_asked(&self, line: &str) {
        self.wait(line, || {
            self.asked().contains(&line.to_owned()).then_some(())
        });
    }

    fn packet_wants(&self, port: u16, address: &str) {
        let event = Event::NeighbourNeeded {
            port: PortId(port),
            vlan: None,
            address: address.parse::<IpAddr>().unwrap(),
        };
        let new = self.path("run/event.new");
        fs::write(&new, serde_json::to_vec(&event).unwrap()).unwrap();
        fs::rename(new, self.path("run/dataplane.sock.event")).unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let stopped = Command::new(env!("CARGO_BIN_EXE_hawser"))
            .args(["stop", "--run-dir"])
            .arg(self.path("run"))
            .stderr(Stdio::null())
            .status();
        if let Some(child) = &mut self.control {
            if !stopped.is_ok_and(|s| s.success()) {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
        for place in ["gw", "peer", "site"] {
            ip(&format!("netns del {}", self.space(place)));
        }
    }
}

fn state(status: &Value, tunnel: usize) -> &str {
    status["tunnels"][tunnel]["state"].as_str().unwrap_or("")
}

#[test]
fn next_hops_are_found_and_lost() {
    let Some(mut lab) = Lab::new("a") else { return };
    lab.start();
    // The peer is on the link; nothing leads to the other one.
    let status = lab.wait_for("the first tunnel", |s| state(s, 0) == "up");
    assert_eq!(state(&status, 1), "no route");
    assert_eq!(status["tunnels"][0]["next_hop"], "192.0.2.2");
    let asked = lab.asked();
    assert_eq!(
        asked[1], "setup 2 workers out0:3x1500 in0:3x1500",
        "{asked:?}"
    );
    lab.wait_for_asked("put neighbours 192.0.2.2");
    lab.wait_for_asked("put group 0 of 1+0");

    // A route by way of the peer: both work. Its MTU counts.
    let gateway = lab.space("gw");
    must(&format!(
        "-n {gateway} route add 198.51.100.0/24 via 192.0.2.2 mtu 1400"
    ));
    let status = lab.wait_for("the second tunnel", |s| state(s, 1) == "up");
    assert_eq!(status["tunnels"][1]["next_hop"], "192.0.2.2");
    lab.wait_for_asked("put group 0 of 1+1");

    must(&format!("-n {gateway} link set out0 down"));
    lab.wait_for("the link to be down", |s| state(s, 0) == "link down");
    must(&format!("-n {gateway} link set out0 up"));
    lab.wait_for("the link to be up", |s| {
        state(s, 0) == "up" && s["ports"][0]["state"] == "up"
    });
    assert_eq!(lab.status().unwrap()["dataplane"]["restarts"], 0);

    // The peer goes silent.
    must(&format!(
        "-n {} addr del 192.0.2.2/24 dev eth0",
        lab.space("peer")
    ));
    must(&format!("-n {gateway} neigh flush dev out0"));
    lab.wait_for("the peer to be missed", |s| state(s, 0) == "no neighbour");
    lab.wait_for_asked("remove neighbours 192.0.2.2");
    must(&format!(
        "-n {} addr add 192.0.2.2/24 dev eth0",
        lab.space("peer")
    ));
    lab.wait_for("the peer to be found again", |s| state(s, 0) == "up");
}

#[test]
fn hosts_of_the_site_are_resolved_when_packets_want_them() {
    let Some(mut lab) = Lab::new("b") else { return };
    lab.start();
    lab.wait_for("the data plane", |s| s["dataplane"]["state"] == "running");
    lab.packet_wants(1, "10.1.0.2");
    lab.wait_for_asked("put neighbours 10.1.0.2");
    // One that does not exist never gets there, and is asked for again when wanted again.
    lab.packet_wants(1, "10.1.0.77");
    let gateway = lab.space("gw");
    let failed = || {
        let output = Command::new("ip")
            .args(["-n", &gateway, "neigh", "show", "10.1.0.77", "dev", "in0"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout)
            .contains("FAILED")
            .then_some(())
    };
    lab.wait("the kernel to give up", failed);
    must(&format!(
        "-n {} addr add 10.1.0.77/24 dev eth0",
        lab.space("site")
    ));
    lab.packet_wants(1, "10.1.0.77");
    lab.wait_for_asked("put neighbours 10.1.0.77");
}

#[test]
fn an_interface_that_goes_and_comes_back_gets_a_new_data_plane() {
    let Some(mut lab) = Lab::new("c") else { return };
    must(&format!("-n {} link del in0", lab.space("gw")));
    lab.start();
    // Refused: the file names an interface that is not there. That is a mistake at the start, ...
    let ended = lab.control.take().unwrap().wait().unwrap();
    assert_eq!(ended.code(), Some(2));
    let said = fs::read_to_string(lab.path("control.log")).unwrap();
    assert!(
        said.contains("there is no interface `in0` on this host"),
        "{said}"
    );

    // ... and a fact of life later on.
    lab.cable("in0", "site");
    lab.start();
    let first = lab.wait_for("the first tunnel", |s| state(s, 0) == "up");
    must(&format!("-n {} link del in0", lab.space("gw")));
    let gone = lab.wait_for("the interface to be gone", |s| {
        s["ports"][1]["state"] == "gone"
    });
    assert_eq!(gone["dataplane"]["pid"], first["dataplane"]["pid"]);
    assert_eq!(state(&gone, 0), "up");
    lab.cable("in0", "site");
    let back = lab.wait_for("the interface to be back", |s| {
        s["ports"][1]["state"] == "up" && s["dataplane"]["restarts"] == 1 && state(s, 0) == "up"
    });
    assert_eq!(back["dataplane"]["last_restart"], "in0 came back");
}

#[test]
fn an_interface_that_is_down_at_the_start_is_waited_for() {
    let Some(mut lab) = Lab::new("d") else { return };
    let gateway = lab.space("gw");
    must(&format!("-n {gateway} link set in0 down"));
    lab.start();
    let status = lab.wait_for("the first tunnel", |s| state(s, 0) == "up");
    let problem = status["gateway"]["problem"].as_str().unwrap();
    assert!(problem.contains("waiting for in0"), "{problem}");
    must(&format!("-n {gateway} link set in0 up"));
    let status = lab.wait_for("both interfaces", |s| s["ports"][1]["state"] == "up");
    assert_eq!(status["gateway"]["problem"], Value::Null);
    lab.wait_for_asked("setup 2 workers out0:3x1500 in0:3x1500");
}
