//! UDP 500 and 4500 on every address that key exchanges use.
//!
//! Each address has a socket of its own on both ports, so that an answer leaves from the address
//! that was asked, and so that Hawser takes no port on addresses that are not its own. A task per
//! socket reads into one bounded queue; when the daemon is busy the queue fills, then the kernel's
//! buffers, and then the kernel drops: memory stays bounded in a flood.
//!
//! Port 4500 carries ESP too. That never comes here (the XDP program takes it); what does comes
//! with four zero octets in front (RFC 3948, section 2.2), which are taken off and put on here.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hawser_ike::{Path, Transmit};
use rustix::net::sockopt;
use tokio::{net::UdpSocket, sync::mpsc, task::JoinHandle};

/// UDP port of IKE (RFC 7296, section 2).
pub(super) const IKE_PORT: u16 = 500;
/// UDP port of IKE and ESP in UDP (RFC 3948, section 2.1).
pub(super) const NAT_PORT: u16 = 4500;
/// What tells IKE from ESP on port 4500.
const MARKER: [u8; 4] = [0; 4];

/// Octets of the kernel's buffer of a socket. A thousand tunnels that come up at once answer
/// within milliseconds; what does not fit is sent again half a second later.
const KERNEL_BUFFER: usize = 4 << 20;
/// Datagrams between the readers and the daemon: as many as it handles in one go, twice.
const QUEUE: usize = 2 * BURST;
/// Datagrams that are handled before their results go out. Unit: datagrams. The SAs of one burst
/// go into the data plane in one transaction, so many new tunnels share its cost; the first of
/// them waits for the last, at up to a third of a millisecond for each key exchange.
pub(super) const BURST: usize = 64;
/// The largest UDP datagram over IPv4 and IPv6.
const LARGEST: usize = 65_535;

thread_local! {
    /// One for all readers: a reader empties it before it lets another one run.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; LARGEST]);
}

/// An IKE message and how it came.
pub struct Datagram {
    /// Our end and the peer's.
    pub path: Path,
    /// The message, without the marker.
    pub bytes: Vec<u8>,
}

struct Bound {
    socket: Arc<UdpSocket>,
    reader: JoinHandle<()>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The sockets of all addresses.
pub(super) struct Sockets {
    bound: BTreeMap<SocketAddr, Bound>,
    to: mpsc::Sender<Datagram>,
    from: mpsc::Receiver<Datagram>,
}

impl Default for Sockets {
    fn default() -> Self {
        let (to, from) = mpsc::channel(QUEUE);
        Self {
            bound: BTreeMap::new(),
            to,
            from,
        }
    }
}

impl Sockets {
    /// Listens on these addresses and no others. Says which could not be bound.
    pub(super) fn serve(&mut self, addresses: &BTreeSet<IpAddr>) -> Vec<(SocketAddr, io::Error)> {
        self.bound.retain(|at, _| addresses.contains(&at.ip()));
        let mut failed = Vec::new();
        for address in addresses {
            for port in [IKE_PORT, NAT_PORT] {
                let at = SocketAddr::new(*address, port);
                if self.bound.contains_key(&at) {
                    continue;
                }
                match bind(at) {
                    Ok(socket) => {
                        let socket = Arc::new(socket);
                        let reader = tokio::spawn(read(Arc::clone(&socket), at, self.to.clone()));
                        self.bound.insert(at, Bound { socket, reader });
                    }
                    Err(error) => failed.push((at, error)),
                }
            }
        }
        failed
    }

    /// Waits for messages; up to [`BURST`] of them. May be dropped while it waits.
    pub(super) async fn receive(&mut self) -> Vec<Datagram> {
        let mut burst = Vec::new();
        self.from.recv_many(&mut burst, BURST).await;
        burst
    }

    /// Sends a message. One that cannot be sent is lost like one on the way: it is sent again.
    pub(super) async fn send(&self, transmit: &Transmit) {
        let Path { local, remote } = transmit.path;
        let Some(bound) = self.bound.get(&local) else {
            tracing::debug!(%local, "no socket to send from");
            return;
        };
        let sent = if transmit.marker {
            let marked = [&MARKER[..], &transmit.bytes].concat();
            bound.socket.send_to(&marked, remote).await
        } else {
            bound.socket.send_to(&transmit.bytes, remote).await
        };
        if let Err(error) = sent {
            tracing::debug!(%local, %remote, %error, "an IKE message could not be sent");
        }
    }
}

/// A socket on an address that need not be there yet: interfaces come and go.
fn bind(at: SocketAddr) -> io::Result<UdpSocket> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let family = if at.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
    if at.is_ipv4() {
        sockopt::set_ip_freebind(&fd, true)?;
    } else {
        sockopt::set_ipv6_v6only(&fd, true)?;
        sockopt::set_ipv6_freebind(&fd, true)?;
    }
    // Beyond the system's limit if we may; else as much as it lets us.
    if sockopt::set_socket_recv_buffer_size_force(&fd, KERNEL_BUFFER).is_err() {
        sockopt::set_socket_recv_buffer_size(&fd, KERNEL_BUFFER)?;
    }
    rustix::net::bind(&fd, &at)?;
    UdpSocket::from_std(fd.into())
}

/// Reads for as long as somebody takes what was read.
async fn read(socket: Arc<UdpSocket>, local: SocketAddr, to: mpsc::Sender<Datagram>) {
    loop {
        if socket.readable().await.is_err() {
            return;
        }
        // Room before reading: what is not read waits in the kernel. But not before there is
        // something to read, or idle sockets would hold the room that busy ones need.
        let Ok(room) = to.reserve().await else { return };
        let received = BUFFER.with_borrow_mut(|buffer| {
            let (len, remote) = socket.try_recv_from(buffer)?;
            let bytes = message(local.port(), &buffer[..len]).map(<[u8]>::to_vec);
            Ok::<_, io::Error>((remote, bytes))
        });
        match received {
            Ok((remote, Some(bytes))) => room.send(Datagram {
                path: Path { local, remote },
                bytes,
            }),
            Ok((_, None)) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                // Most often the network's answer to something we sent.
                tracing::debug!(%local, %error, "reading IKE messages");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

/// The IKE message in a datagram, if there is one.
fn message(port: u16, datagram: &[u8]) -> Option<&[u8]> {
    match port {
        NAT_PORT => datagram.strip_prefix(&MARKER),
        _ => Some(datagram),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ike_comes_out_of_port_4500() {
        assert_eq!(message(500, b"\0\0\0\0x"), Some(&b"\0\0\0\0x"[..]));
        assert_eq!(message(4500, b"\0\0\0\0x"), Some(&b"x"[..]));
        // A keepalive, ESP, something cut off.
        for other in [&b"\xff"[..], b"\0\0\x10\x01abcd", b"\0\0\0", b""] {
            assert_eq!(message(4500, other), None);
        }
    }

    #[tokio::test]
    async fn idle_sockets_do_not_starve_busy_ones() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut sockets = Sockets::default();
        let mut last = None;
        for _ in 0..QUEUE + 10 {
            let socket = Arc::new(bind(local).unwrap());
            let at = socket.local_addr().unwrap();
            let reader = tokio::spawn(read(Arc::clone(&socket), at, sockets.to.clone()));
            sockets.bound.insert(at, Bound { socket, reader });
            last = Some(at);
            // Every reader has begun to wait.
            tokio::task::yield_now().await;
        }
        let sender = bind(local).unwrap();
        sender.send_to(b"ike", last.unwrap()).await.unwrap();
        let received = tokio::time::timeout(Duration::from_secs(5), sockets.receive()).await;
        assert_eq!(received.expect("starved")[0].bytes, b"ike");
    }

    #[tokio::test]
    async fn what_is_sent_arrives_without_its_marker() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let [ours, theirs] = [0, 1].map(|_| Arc::new(bind(local).unwrap()));
        let [from, to] = [&ours, &theirs].map(|s| s.local_addr().unwrap());
        let mut sockets = Sockets::default();
        let path = Path {
            local: from,
            remote: to,
        };
        let reader = tokio::spawn(std::future::pending());
        sockets.bound.insert(
            from,
            Bound {
                socket: ours,
                reader,
            },
        );
        let mut transmit = Transmit {
            path,
            marker: true,
            bytes: b"ike".to_vec(),
        };
        sockets.send(&transmit).await;
        transmit.marker = false;
        sockets.send(&transmit).await;
        let mut buffer = [0; 16];
        let (len, _) = theirs.recv_from(&mut buffer).await.unwrap();
        assert_eq!(message(NAT_PORT, &buffer[..len]), Some(&b"ike"[..]));
        let (len, remote) = theirs.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..len], remote), (&b"ike"[..], from));
    }
}
