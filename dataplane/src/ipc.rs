//! The socket that control speaks to: `SOCK_SEQPACKET`, one message a packet.
//!
//! The data plane listens, so that a control that died can be followed by another while packets
//! flow on. One control at a time: a second one waits in the backlog until the first is gone.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use hawser_api::{FromDataplane, Request, wire};
use rustix::{
    fs::Mode,
    net::{
        self, AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
    },
};
use zeroize::Zeroizing;

/// The listening socket. The file goes when it is dropped.
pub struct Listener {
    fd: OwnedFd,
    path: PathBuf,
}

impl Listener {
    /// Listens at `path`, which only root can connect to. A socket left by a dead process is
    /// replaced, a living one is not.
    ///
    /// # Errors
    /// When another data plane listens there or the path cannot be bound.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        let fd = socket()?;
        if path.exists() {
            match net::connect(&socket()?, &address) {
                Ok(()) => {
                    return Err(io::Error::new(
                        io::ErrorKind::AddrInUse,
                        format!("another data plane listens at {}", path.display()),
                    ));
                }
                Err(_) => std::fs::remove_file(path)?,
            }
        }
        // Between bind and chmod the umask alone guards the file.
        let old = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = net::bind(&fd, &address);
        rustix::process::umask(old);
        bound?;
        net::listen(&fd, 4)?;
        Ok(Self {
            fd,
            path: path.to_owned(),
        })
    }

    /// Takes the next connection. Call it when the socket is readable.
    ///
    /// # Errors
    /// When there is none, or the kernel says no.
    pub fn accept(&self) -> io::Result<Connection> {
        let fd = net::accept_with(&self.fd, SocketFlags::CLOEXEC)?;
        // Both directions carry messages of up to `MAX_MESSAGE`; several should fit.
        sockopt::set_socket_send_buffer_size(&fd, 4 * wire::MAX_MESSAGE)?;
        Ok(Connection {
            fd,
            buffer: Zeroizing::new(vec![0; wire::MAX_MESSAGE + 1]),
        })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn socket() -> io::Result<OwnedFd> {
    Ok(net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// A connected control.
pub struct Connection {
    fd: OwnedFd,
    /// Wiped when dropped: requests carry keys.
    buffer: Zeroizing<Vec<u8>>,
}

impl Connection {
    /// Receives one request; `None` when control is gone.
    ///
    /// # Errors
    /// When the message is not understood (the connection can go on) or the socket fails.
    pub fn receive(&mut self) -> io::Result<Option<Request>> {
        let (len, _) = net::recv(&self.fd, self.buffer.as_mut_slice(), RecvFlags::empty())?;
        if len == 0 {
            return Ok(None);
        }
        let request = wire::decode(&self.buffer[..len])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
        zeroize::Zeroize::zeroize(&mut self.buffer[..len]);
        request.map(Some)
    }

    /// Sends one message; a reply waits for control to read, an event does not.
    ///
    /// # Errors
    /// When control is gone, or for an event when its buffer is full.
    pub fn send(&self, message: &FromDataplane) -> io::Result<()> {
        let bytes = wire::encode(message).map_err(io::Error::other)?;
        let mut flags = SendFlags::NOSIGNAL;
        if matches!(message, FromDataplane::Event(_)) {
            flags |= SendFlags::DONTWAIT;
        }
        net::send(&self.fd, &bytes, flags)?;
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
