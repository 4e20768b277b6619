//! What the tests that need root share: a lab of two namespaces joined by a veth pair.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsFd,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    net::{AddressFamily, SendFlags, SocketType, sendto, socket},
    thread::{
        CapabilitySet, CapabilitySets, LinkNameSpaceType, move_into_link_name_space,
        set_capabilities,
    },
};

/// Whether to skip, said aloud.
pub(crate) fn skip_without_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: {test} loads an XDP program, which needs root");
    }
    !is_root
}

/// A gateway's namespace with interface `port`, and a peer's with interface `peer`.
///
/// ```text
/// gateway: port 192.0.2.1 ---- peer 192.0.2.2 :peer
/// ```
pub(crate) struct Lab {
    namespace: String,
    is_owner: bool,
}

impl Lab {
    /// Makes a lab, runs the test on a thread inside the gateway's namespace, removes the lab.
    pub(crate) fn run(name: &str, test: impl FnOnce(&Self) + Send) {
        let lab = Self {
            namespace: format!("hawser-ebpf-{name}-{}", std::process::id()),
            is_owner: true,
        };
        let (gateway, peer) = (&lab.namespace, &lab.peer());
        ip(&["netns", "add", gateway]);
        ip(&["netns", "add", peer]);
        let pair = [
            "link", "add", "port", "type", "veth", "peer", "name", "peer",
        ];
        ip(&[&["-n", gateway], &pair[..], &["netns", peer]].concat());
        ip(&["-n", gateway, "link", "set", "port", "up"]);
        ip(&["-n", peer, "address", "add", "192.0.2.2/24", "dev", "peer"]);
        ip(&["-n", peer, "link", "set", "peer", "up"]);
        let mac = lab.line("port").1;
        ip(&[
            "-n",
            peer,
            "neighbour",
            "add",
            "192.0.2.1",
            "lladdr",
            &mac,
            "dev",
            "peer",
        ]);
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                enter(&lab.namespace);
                test(&lab);
            });
            if let Err(panic) = inside.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }

    /// Moves this thread into a lab that another process made.
    pub(crate) fn enter(namespace: &str) -> Self {
        enter(namespace);
        Self {
            namespace: namespace.to_owned(),
            is_owner: false,
        }
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    fn peer(&self) -> String {
        format!("{}-peer", self.namespace)
    }

    /// Runs `ip` in the gateway's namespace.
    pub(crate) fn ip(&self, arguments: &[&str]) -> String {
        ip(&[&["-n", &self.namespace], arguments].concat())
    }

    /// Index, MAC address and all else that `ip` says of an interface.
    fn line(&self, interface: &str) -> (u32, String, String) {
        let line = self.ip(&["-o", "link", "show", "dev", interface]);
        let index = line.split(':').next().unwrap().parse().unwrap();
        let mac = line
            .split("link/ether ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned();
        (index, mac, line)
    }

    pub(crate) fn ifindex_of(&self, interface: &str) -> u32 {
        self.line(interface).0
    }

    pub(crate) fn ifindex(&self) -> u32 {
        self.ifindex_of("port")
    }

    pub(crate) fn mac(&self) -> [u8; 6] {
        let mut mac = [0; 6];
        for (byte, text) in mac.iter_mut().zip(self.line("port").1.split(':')) {
            *byte = u8::from_str_radix(text, 16).unwrap();
        }
        mac
    }

    /// Whether an XDP program is attached to the port.
    pub(crate) fn has_xdp(&self) -> bool {
        self.line("port").2.contains("xdp")
    }

    /// Sends ESP packets from the peer to 192.0.2.1.
    pub(crate) fn send_esp(&self, count: usize) {
        let peer = self.peer();
        thread::spawn(move || {
            enter(&peer);
            let esp = Some(rustix::net::ipproto::ESP);
            let socket = socket(AddressFamily::INET, SocketType::RAW, esp).unwrap();
            let gateway = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 0);
            for _ in 0..count {
                sendto(
                    &socket,
                    &[0, 0, 1, 0, 0, 0, 0, 1, 9, 9],
                    SendFlags::empty(),
                    &gateway,
                )
                .unwrap();
            }
        })
        .join()
        .unwrap();
    }

    /// Asks again until there is an answer.
    pub(crate) fn wait<T>(&self, mut ask: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(Instant::now() < deadline, "nothing happened for 20 s");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.is_owner {
            for namespace in [&self.namespace, &self.peer()] {
                // A failed set-up may not have made it.
                let _ = Command::new("ip")
                    .args(["netns", "delete", namespace])
                    .output();
            }
        }
    }
}

fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Takes every capability from the calling thread.
pub(crate) fn drop_all_capabilities() {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).unwrap();
}

#[derive(Clone)]
#[repr(align(4096))]
struct Page(#[expect(dead_code, reason = "memory of the kernel's")] [u8; 4096]);

/// Page-aligned memory that is never freed: start and length in bytes.
pub(crate) fn leaked_umem() -> (u64, u64) {
    let pages: &'static [Page] = Vec::leak(vec![Page([0; 4096]); 64]);
    (pages.as_ptr() as u64, size_of_val(pages) as u64)
}
