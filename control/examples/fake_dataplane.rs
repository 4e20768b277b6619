//! A data plane that carries no packets, for the tests of control: it speaks the protocol, keeps
//! the tables in a model that refuses what a real one would refuse, and writes down what it was
//! asked.
//!
//! Next to its socket it keeps `PATH.log` (a line for every request) and reads `PATH.event` (an
//! event as JSON, sent to control once). A tunnel of the name `lab/refused` is refused at commit;
//! with `FAKE_REFUSE_SETUP` set, so is the set-up.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    os::fd::OwnedFd,
    path::PathBuf,
    time::Duration,
};

use hawser_api::{
    Event, FromDataplane, PROTOCOL_VERSION, PortMode, PortReport, PortSetup, Refusal, Reply,
    Request, Setup, SetupReport, Stats, TunnelId, TunnelStats, Update, wire,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{self, AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType},
};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut socket = None;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--socket" => socket = arguments.next(),
            "--log" => drop(arguments.next()),
            "--log-json" => {}
            other => panic!("the real data plane has no argument {other}"),
        }
    }
    let path = PathBuf::from(socket.expect("--socket"));
    Fake {
        path,
        setup: None,
        staged: Vec::new(),
        tunnels: BTreeMap::new(),
        generation: 0,
    }
    .run();
}

struct Fake {
    path: PathBuf,
    setup: Option<Setup>,
    staged: Vec<Update>,
    tunnels: BTreeMap<TunnelId, String>,
    generation: u64,
}

impl Fake {
    fn beside(&self, extension: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(extension);
        name.into()
    }

    fn log(&self, line: &str) {
        let path = self.beside(".log");
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(format!("{} {line}\n", std::process::id()).as_bytes())
            .unwrap();
    }

    fn run(mut self) {
        let _ = fs::remove_file(&self.path);
        let listener = socket();
        net::bind(&listener, &SocketAddrUnix::new(&self.path).unwrap()).unwrap();
        net::listen(&listener, 4).unwrap();
        loop {
            let connection = net::accept_with(&listener, SocketFlags::CLOEXEC).unwrap();
            if !self.serve(&connection) {
                return;
            }
            self.log("control is gone");
            self.staged.clear();
        }
    }

    /// Serves one control; `false` when it was told to end.
    fn serve(&mut self, connection: &OwnedFd) -> bool {
        let mut buffer = vec![0; wire::MAX_MESSAGE];
        loop {
            self.send_event(connection);
            let mut fds = [PollFd::new(connection, PollFlags::IN)];
            let tick = Timespec {
                tv_sec: 0,
                tv_nsec: 10_000_000,
            };
            if poll(&mut fds, Some(&tick)).unwrap_or(0) == 0 {
                continue;
            }
            let Ok((len @ 1.., _)) = net::recv(connection, &mut buffer[..], RecvFlags::empty())
            else {
                return true;
            };
            let request: Request = wire::decode(&buffer[..len]).unwrap();
            let ending = request == Request::Shutdown;
            let reply = self.answer(request);
            send(connection, &FromDataplane::Reply(reply));
            if ending {
                let _ = fs::remove_file(&self.path);
                return false;
            }
        }
    }

    fn send_event(&self, connection: &OwnedFd) {
        let path = self.beside(".event");
        if let Ok(text) = fs::read(&path) {
            fs::remove_file(&path).unwrap();
            let event: Event = serde_json::from_slice(&text).unwrap();
            send(connection, &FromDataplane::Event(event));
        }
    }

    fn answer(&mut self, request: Request) -> Reply {
        match request {
            Request::Hello { version } => {
                self.log("hello");
                assert_eq!(version, PROTOCOL_VERSION);
                Reply::Hello {
                    version,
                    pid: std::process::id(),
                    report: self.setup.as_ref().map(report),
                    setup: self.setup.clone(),
                    generation: self.generation,
                }
            }
            Request::Setup(setup) => {
                let port = |p: &PortSetup| format!(" {}:{}x{}", p.interface, p.queues, p.mtu);
                let ports: String = setup.ports.iter().map(port).collect();
                self.log(&format!("setup {} workers{ports}", setup.workers.len()));
                if std::env::var_os("FAKE_REFUSE_SETUP").is_some() {
                    return refused("no sockets today", "try tomorrow");
                }
                assert!(self.setup.is_none(), "set up twice");
                let reply = Reply::SetUp(report(&setup));
                self.setup = Some(setup);
                reply
            }
            Request::Stage(updates) => {
                self.staged.extend(updates);
                Reply::Staged
            }
            Request::Commit => self.commit(),
            Request::Discard => {
                self.staged.clear();
                Reply::Discarded
            }
            Request::Stats(page) => Reply::Stats(Box::new(self.stats(page.from))),
            Request::Shutdown => {
                self.log("shutdown");
                Reply::Ending
            }
        }
    }

    fn commit(&mut self) -> Reply {
        let staged = std::mem::take(&mut self.staged);
        let refuse = |u: &Update| matches!(u, Update::PutTunnel(t) if t.name == "lab/refused");
        if staged.iter().any(refuse) && !self.beside(".tolerant").exists() {
            self.log("commit refused");
            return refused("tunnel lab/refused is not wanted", "rename it");
        }
        self.generation += 1;
        self.log(&format!("commit {}", self.generation));
        for update in staged {
            self.log(&format!("  {}", describe(&update)));
            match update {
                Update::ReplaceAll => self.tunnels.clear(),
                Update::PutTunnel(tunnel) => {
                    self.tunnels.insert(tunnel.id, tunnel.name);
                }
                Update::RemoveTunnel(id) => {
                    self.tunnels
                        .remove(&id)
                        .expect("removes a tunnel that was there");
                }
                _ => {}
            }
        }
        Reply::Committed {
            generation: self.generation,
            micros: 1,
        }
    }

    /// One tunnel a page, so that paging is used.
    fn stats(&self, from: TunnelId) -> Stats {
        let mut ids = self.tunnels.keys().copied().filter(|id| *id >= from);
        let id = ids.next();
        Stats {
            at_nanos: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |d: Duration| d.as_nanos() as u64),
            generation: self.generation,
            tunnels: id
                .map(|id| TunnelStats {
                    id,
                    sent: 1000 + u64::from(id.0),
                    sent_bytes: 0,
                    received: 0,
                    received_bytes: 0,
                    idle_millis: None,
                    inside_mtu: 1446,
                    owner: None,
                    outbound: None,
                    inbound: Vec::new(),
                    drops: Default::default(),
                })
                .into_iter()
                .collect(),
            next: ids.next(),
            ..Stats::default()
        }
    }
}

fn describe(update: &Update) -> String {
    match update {
        Update::ReplaceAll => "replace all".into(),
        Update::PutTunnel(t) => format!("put tunnel {} {}", t.id, t.name),
        Update::RemoveTunnel(id) => format!("remove tunnel {id}"),
        Update::PutOutboundSa(sa) => format!("put outbound {} {}", sa.tunnel, sa.spi),
        Update::PutInboundSa(sa) => format!("put inbound {} {}", sa.tunnel, sa.spi),
        Update::RemoveInboundSa(spi) => format!("remove inbound {spi}"),
        Update::PutGroup { id, members } => {
            let weights: Vec<String> = members.iter().map(|m| m.weight.to_string()).collect();
            format!("put group {id} of {}", weights.join("+"))
        }
        Update::PutRoutes { table, routes } => format!("put {} routes in {table}", routes.len()),
        Update::RemoveRoutes { prefixes, .. } => format!("remove {} routes", prefixes.len()),
        Update::PutNeighbours(list) => {
            let list: Vec<String> = list.iter().map(|n| n.address.to_string()).collect();
            format!("put neighbours {}", list.join(" "))
        }
        Update::RemoveNeighbours(list) => {
            let list: Vec<String> = list.iter().map(|n| n.2.to_string()).collect();
            format!("remove neighbours {}", list.join(" "))
        }
        Update::PutAttachment(_) => "put attachment".into(),
        Update::PutPortAddresses(..) => "put port addresses".into(),
        other => format!("{other:?}"),
    }
}

fn report(setup: &Setup) -> SetupReport {
    SetupReport {
        ports: setup
            .ports
            .iter()
            .map(|port| PortReport {
                interface: port.interface.clone(),
                mode: PortMode::Copy,
                native_xdp: true,
                multi_buffer: false,
                queues: port.queues,
            })
            .collect(),
        aead: "none".into(),
        micros: 1,
    }
}

fn refused(what: &str, remedy: &str) -> Reply {
    Reply::Refused(Refusal {
        what: what.into(),
        remedy: remedy.into(),
    })
}

fn socket() -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
}

fn send(connection: &OwnedFd, message: &FromDataplane) {
    let bytes = wire::encode(message).unwrap();
    // Control may be gone; the next receive says so.
    let _ = net::send(connection, &bytes, SendFlags::NOSIGNAL);
}
