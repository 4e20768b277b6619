//! The connection to the data plane: one request at a time, events in between.
//!
//! `SOCK_SEQPACKET` over a Unix socket keeps message boundaries, and its end tells at once that
//! the process on the other side is gone, however it died.

use std::{collections::VecDeque, io, path::Path, time::Duration};

use hawser_api::{
    Event, FromDataplane, PROTOCOL_VERSION, Refusal, Reply, Request, Setup, SetupReport, Stats,
    StatsPage, TunnelId, Update,
    wire::{self, MAX_MESSAGE, WireError},
};
use rustix::net::{
    self, AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use tokio::{io::Interest, net::UnixStream};

/// How long a set-up may take: opening hundreds of queues on a real NIC resets it several times.
const SETUP_PATIENCE: Duration = Duration::from_secs(60);
/// How long a commit may take: a million routes take a few seconds.
const COMMIT_PATIENCE: Duration = Duration::from_secs(60);
/// How long anything else may take. A data plane that is silent for longer is taken for dead.
const PATIENCE: Duration = Duration::from_secs(10);

/// Octets of updates in one message: leaves room for the largest single update after it.
const STAGE_OCTETS: usize = MAX_MESSAGE / 4;

/// Why the data plane did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Its end of the socket is closed: the process is gone.
    #[error("the connection was closed")]
    Closed,
    /// It does not answer.
    #[error("the data plane has not answered within {} s", .0.as_secs())]
    Silent(Duration),
    /// The socket failed.
    #[error("socket to the data plane: {0}")]
    Socket(#[from] io::Error),
    /// A message was not understood.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It answered something else than what was asked.
    #[error("the data plane answered out of turn: are both programs of the same version?")]
    OutOfTurn,
    /// It refused, and changed nothing.
    #[error("refused by the data plane: {0}")]
    Refused(Refusal),
}

impl LinkError {
    /// Whether the connection is still good.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

/// What a data plane says of itself.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// Its process id.
    pub pid: u32,
    /// The set-up that it runs with.
    pub setup: Option<Setup>,
    /// What it got for that.
    pub report: Option<SetupReport>,
}

/// A connection to the data plane.
pub struct DataplaneLink {
    /// A stream by its type only: the socket behind it keeps message boundaries.
    socket: UnixStream,
    buffer: Vec<u8>,
    events: VecDeque<Event>,
}

impl DataplaneLink {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let fd = net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        net::sockopt::set_socket_send_buffer_size(&fd, 4 * MAX_MESSAGE)?;
        net::connect(&fd, &SocketAddrUnix::new(path)?)?;
        Ok(Self {
            socket: UnixStream::from_std(fd.into())?,
            buffer: vec![0; MAX_MESSAGE],
            events: VecDeque::new(),
        })
    }

    /// Greets the data plane.
    ///
    /// # Errors
    /// When it is of another version or does not answer.
    pub async fn hello(&mut self) -> Result<Greeting, LinkError> {
        match self
            .request(
                &Request::Hello {
                    version: PROTOCOL_VERSION,
                },
                PATIENCE,
            )
            .await?
        {
            Reply::Hello {
                pid, setup, report, ..
            } => Ok(Greeting { pid, setup, report }),
            _ => Err(LinkError::OutOfTurn),
        }
    }

    /// Opens sockets and starts workers.
    ///
    /// # Errors
    /// When the data plane cannot.
    pub async fn set_up(&mut self, setup: Setup) -> Result<SetupReport, LinkError> {
        match self.request(&Request::Setup(setup), SETUP_PATIENCE).await? {
            Reply::SetUp(report) => Ok(report),
            _ => Err(LinkError::OutOfTurn),
        }
    }

    /// Applies updates in one transaction: all or none.
    ///
    /// # Errors
    /// When the data plane refuses them (what ran before goes on) or is gone.
    pub async fn apply(&mut self, updates: Vec<Update>) -> Result<(), LinkError> {
        let mut batch = Vec::new();
        let mut octets = 0;
        for update in updates {
            let size = wire::encode(&update)?.len();
            if octets + size > STAGE_OCTETS && !batch.is_empty() {
                self.stage(std::mem::take(&mut batch)).await?;
                octets = 0;
            }
            octets += size;
            batch.push(update);
        }
        if !batch.is_empty() {
            self.stage(batch).await?;
        }
        let committed = self.request(&Request::Commit, COMMIT_PATIENCE).await;
        match committed {
            Ok(Reply::Committed { .. }) => Ok(()),
            Ok(_) => Err(LinkError::OutOfTurn),
            Err(error) => self.discard_after(error).await,
        }
    }

    async fn stage(&mut self, updates: Vec<Update>) -> Result<(), LinkError> {
        match self.request(&Request::Stage(updates), PATIENCE).await {
            Ok(Reply::Staged) => Ok(()),
            Ok(_) => Err(LinkError::OutOfTurn),
            Err(error) => self.discard_after(error).await,
        }
    }

    /// A refused transaction must not leave anything behind for the next one.
    async fn discard_after(&mut self, error: LinkError) -> Result<(), LinkError> {
        if error.is_refusal() {
            self.request(&Request::Discard, PATIENCE).await?;
        }
        Err(error)
    }

    /// Reads all counters.
    ///
    /// # Errors
    /// When the data plane is gone.
    pub async fn stats(&mut self) -> Result<Stats, LinkError> {
        let mut all: Option<Stats> = None;
        let mut from = TunnelId(0);
        loop {
            let page = StatsPage {
                from,
                count: u32::MAX,
            };
            let Reply::Stats(page) = self.request(&Request::Stats(page), PATIENCE).await? else {
                return Err(LinkError::OutOfTurn);
            };
            let next = page.next;
            match &mut all {
                None => all = Some(*page),
                Some(all) => all.tunnels.extend(page.tunnels),
            }
            match next {
                // A page that does not advance would keep us here for ever.
                Some(next) if next > from => from = next,
                _ => return all.ok_or(LinkError::OutOfTurn),
            }
        }
    }

    /// Ends the data plane in good order.
    ///
    /// # Errors
    /// When it does not confirm.
    pub async fn shut_down(&mut self) -> Result<(), LinkError> {
        match self.request(&Request::Shutdown, PATIENCE).await? {
            Reply::Ending => Ok(()),
            _ => Err(LinkError::OutOfTurn),
        }
    }

    /// The next event. May be dropped while it waits.
    ///
    /// # Errors
    /// When the data plane is gone.
    pub async fn event(&mut self) -> Result<Event, LinkError> {
        if let Some(event) = self.events.pop_front() {
            return Ok(event);
        }
        match self.receive().await? {
            FromDataplane::Event(event) => Ok(event),
            FromDataplane::Reply(_) => Err(LinkError::OutOfTurn),
        }
    }

    async fn request(&mut self, request: &Request, patience: Duration) -> Result<Reply, LinkError> {
        let exchange = async {
            self.send(request).await?;
            loop {
                match self.receive().await? {
                    FromDataplane::Reply(Reply::Refused(refusal)) => {
                        return Err(LinkError::Refused(refusal));
                    }
                    FromDataplane::Reply(reply) => return Ok(reply),
                    FromDataplane::Event(event) => self.events.push_back(event),
                }
            }
        };
        tokio::time::timeout(patience, exchange)
            .await
            .unwrap_or(Err(LinkError::Silent(patience)))
    }

    async fn send(&self, request: &Request) -> Result<(), LinkError> {
        let bytes = wire::encode(request)?;
        let sent = self
            .socket
            .async_io(Interest::WRITABLE, || {
                Ok(net::send(&self.socket, &bytes, SendFlags::NOSIGNAL)?)
            })
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) => Err(gone_or(error)),
        }
    }

    async fn receive(&mut self) -> Result<FromDataplane, LinkError> {
        let buffer = &mut self.buffer;
        let received = self
            .socket
            .async_io(Interest::READABLE, || {
                Ok(net::recv(
                    &self.socket,
                    buffer.as_mut_slice(),
                    RecvFlags::TRUNC,
                )?)
            })
            .await;
        match received {
            Ok((_, 0)) => Err(LinkError::Closed),
            Ok((_, len)) if len > self.buffer.len() => Err(WireError::TooLarge(len).into()),
            Ok((_, len)) => Ok(wire::decode(&self.buffer[..len])?),
            Err(error) => Err(gone_or(error)),
        }
    }
}

fn gone_or(error: io::Error) -> LinkError {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => LinkError::Closed,
        _ => error.into(),
    }
}
