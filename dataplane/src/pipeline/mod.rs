//! The packet path of one worker, as a function: frames in, frames out, counters.
//!
//! A batch goes through a row of phases: parse (here), look up and choose a tunnel (`forward`),
//! ESP headers and one crypto batch (`outbound`); or SPI and replay pre-check (`arrive`), one crypto
//! batch, replay commit and inner checks (`inbound`), and then forward again. What does not fit a
//! tunnel or an MTU is the business of `exceptions`.
//!
//! Each phase runs over the whole batch before the next begins: the cache misses of one phase
//! overlap, its code and its tables stay in the nearest caches, and what one phase writes has
//! reached the cache when the next reads it.
//!
//! A worker owns its pipeline by value. Nothing here knows of sockets, threads or clocks: the
//! time comes in as an argument, the frames leave through [`Output`].

mod arrive;
mod exceptions;
mod forward;
mod group;
mod inbound;
mod outbound;
mod owned;
mod warm;

use std::{net::IpAddr, sync::Arc};

use arrayvec::ArrayVec;
use hawser_aead::BATCH;
use hawser_api::{DropReason, Event, PortId, TableId, TunnelId, WorkerId};
use hawser_net::{
    IpHeader, ParseError, hash::FlowHash, icmp::RateLimit, parse, parse_ip, parse_plain,
    replay::ReplayError,
};
use hawser_xsk::{Frame, FramePool};

pub use self::owned::Windows;
use self::{
    forward::{Transit, Way},
    group::Groups,
    inbound::{Arrived, Moved},
    outbound::Staged,
    owned::InboundState,
};
use crate::{counters::Counters, tables::Tables};

/// ICMP errors a worker may send, per second. RFC 1812 (section 4.3.2.8) asks for a limit; this
/// one answers every path MTU discovery of a busy site and is no amplifier.
const ICMP_PER_SECOND: u32 = 1000;

/// Frames that wait for a neighbour. Unit: frames. Enough for the first packets of a few flows
/// while ARP runs; more would only delay the drop of packets to a host that is not there.
const PENDING: usize = 256;

/// How long a frame waits for a neighbour, in nanoseconds: two ARP attempts.
const PENDING_FOR: u64 = 2_000_000_000;

/// How often one event may be repeated, in nanoseconds.
const EVENT_INTERVAL: u64 = 1_000_000_000;

/// Where a packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An inside interface.
    Port(PortId),
    /// A tunnel.
    Tunnel(TunnelId),
    /// The host's network stack.
    Host,
    /// This data plane itself: an ICMP error.
    Own,
}

impl Origin {
    /// Whether the packet passes through: only then is its TTL ours to decrement.
    fn is_transit(self) -> bool {
        matches!(self, Self::Port(_) | Self::Tunnel(_))
    }
}

/// A packet that waits for a neighbour.
struct Pending {
    frame: Frame,
    origin: Origin,
    table: TableId,
    deadline: u64,
}

/// Frames for the transmit queues of one port.
pub struct Lane {
    /// One list a queue that this worker owns.
    pub queues: Vec<Vec<Frame>>,
}

/// Where frames leave the pipeline. The caller empties it after every batch.
pub struct Output {
    /// By port.
    pub ports: Vec<Lane>,
    /// For the host.
    pub host: Vec<Frame>,
    /// For the workers that own the SAs, by worker.
    pub workers: Vec<Vec<Frame>>,
    /// What control should know.
    pub events: Vec<Event>,
}

impl Output {
    /// An output with `queues` transmit queues for each port in turn, for one of `workers`.
    #[must_use]
    pub fn new(queues: &[usize], workers: usize) -> Self {
        // Room for a batch of jumbo packets cut into fragments: the packet loop never allocates.
        let room = || Vec::with_capacity(16 * BATCH);
        Self {
            ports: queues
                .iter()
                .map(|&n| Lane {
                    queues: (0..n).map(|_| room()).collect(),
                })
                .collect(),
            host: room(),
            workers: (0..workers).map(|_| room()).collect(),
            events: Vec::with_capacity(BATCH),
        }
    }
}

/// The packet path of one worker.
pub struct Pipeline {
    tables: Arc<Tables>,
    path: Path,
}

/// All of the pipeline but the tables, so that both can be borrowed at once.
pub(crate) struct Path {
    id: WorkerId,
    now: u64,
    hash: FlowHash,
    pool: FramePool,
    counters: Counters,
    /// By slot: the SAs that this worker owns.
    inbound: Vec<Option<InboundState>>,
    /// By slot: what the last change of tables took away, for the case that it is taken back.
    retired: Vec<(usize, InboundState)>,
    /// Decryption batch.
    arrived: Vec<Arrived>,
    /// The decryption batch by SA.
    inbound_groups: Groups,
    /// Packets of the decryption batch that came from another address than their tunnel's.
    moved: ArrayVec<Moved, BATCH>,
    /// Batch to be routed.
    transit: ArrayVec<Transit, BATCH>,
    /// Encryption batch.
    staged: [Staged; BATCH],
    /// The encryption batch by tunnel.
    outbound_groups: Groups,
    /// ICMP errors made in this batch, with the route table to send them by.
    own: Vec<(Frame, TableId)>,
    pending: Vec<Pending>,
    icmp: RateLimit,
    /// Identification of outer IPv4 headers without DF.
    identification: u16,
    /// Neighbours asked for, and when.
    asked: ArrayVec<(PortId, u16, IpAddr, u64), 64>,
    /// When an unknown SPI and a moved peer were last reported.
    told_spi: u64,
    told_moved: u64,
}

impl Pipeline {
    /// A pipeline for worker `id` that takes frames from and gives them to `pool`.
    #[must_use]
    pub fn new(id: WorkerId, hash_seed: u64, tables: Arc<Tables>, pool: FramePool) -> Self {
        let mut pipeline = Self {
            tables: Arc::clone(&tables),
            path: Path {
                id,
                now: 0,
                hash: FlowHash::new(hash_seed),
                pool,
                counters: Counters::default(),
                inbound: Vec::new(),
                retired: Vec::new(),
                arrived: Vec::with_capacity(BATCH),
                inbound_groups: Groups::new(),
                moved: ArrayVec::new(),
                transit: ArrayVec::new(),
                staged: [Staged::NONE; BATCH],
                outbound_groups: Groups::new(),
                own: Vec::with_capacity(BATCH),
                pending: Vec::with_capacity(PENDING),
                icmp: RateLimit::new(ICMP_PER_SECOND, 100),
                identification: 0,
                asked: ArrayVec::new(),
                told_spi: 0,
                told_moved: 0,
            },
        };
        pipeline.prepare();
        pipeline
    }

    /// Swaps in new tables. SAs that are in both keep their replay windows; packets that waited
    /// for a neighbour are tried again.
    pub fn set_tables(&mut self, tables: Arc<Tables>, now: u64, out: &mut Output) {
        self.tables = tables;
        self.prepare();
        self.path.now = now;
        let waiting = std::mem::replace(&mut self.path.pending, Vec::with_capacity(PENDING));
        for Pending {
            frame,
            origin,
            table,
            deadline,
        } in waiting
        {
            if deadline <= now {
                self.path.discard(frame, None, DropReason::NoNeighbour);
            } else if let Ok(ip) = parse_ip(frame.bytes()) {
                let way = Way { origin, table };
                self.path.route(&self.tables, frame, &ip, way, out);
            }
        }
        self.path.finish(&self.tables, out);
    }

    /// Swaps in tables that give windows of this worker to another one, and gives them up. From here
    /// on their packets are handed over as well.
    #[must_use]
    pub fn release(&mut self, tables: Arc<Tables>, now: u64, out: &mut Output) -> Windows {
        self.set_tables(tables, now, out);
        self.path.leave(&self.tables)
    }

    /// Swaps in tables that give windows of another worker to this one, with those windows.
    pub fn take_over(&mut self, tables: Arc<Tables>, windows: Windows, now: u64, out: &mut Output) {
        self.path.expect(windows);
        self.set_tables(tables, now, out);
    }

    /// The tables in use.
    #[must_use]
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// Handles frames that a port received. Their first cache lines have been asked for
    /// ([`Frame::prefetch`]), as a socket does when it takes them from its ring.
    pub fn from_port(
        &mut self,
        port: PortId,
        frames: impl ExactSizeIterator<Item = Frame>,
        now: u64,
        out: &mut Output,
    ) {
        let tables = &*self.tables;
        self.path.begin(now, frames.len());
        let at = &tables.ports[port.index()];
        match (at.inside, at.outside) {
            (_, false) => self.path.receive_inside(tables, port, frames, out),
            (false, true) => self.path.receive_outside(tables, frames, out),
            (true, true) => {
                for frame in frames {
                    self.path.receive(tables, port, frame, out);
                }
            }
        }
        self.path.finish(tables, out);
    }

    /// Handles ESP frames that another worker received for an SA of this one.
    pub fn from_worker(&mut self, frames: impl Iterator<Item = Frame>, now: u64, out: &mut Output) {
        self.path.now = now;
        self.path.receive_outside(&self.tables, frames, out);
        self.path.finish(&self.tables, out);
    }

    /// Handles IP packets (no Ethernet header) from the host.
    pub fn from_host(
        &mut self,
        frames: impl ExactSizeIterator<Item = Frame>,
        now: u64,
        out: &mut Output,
    ) {
        self.path.now = now;
        self.path.counters.from_host += frames.len() as u64;
        let way = Way {
            origin: Origin::Host,
            table: TableId::MAIN,
        };
        for mut frame in frames {
            match parse_ip(frame.bytes()) {
                Ok(ip) => {
                    frame.truncate(ip.total_len as usize);
                    self.path.route(&self.tables, frame, &ip, way, out);
                }
                Err(error) => self.path.discard(frame, None, reason(error)),
            }
        }
        self.path.finish(&self.tables, out);
    }

    /// Drops what has waited too long for a neighbour.
    pub fn housekeep(&mut self, now: u64) {
        while let Some(at) = self.path.pending.iter().position(|p| p.deadline <= now) {
            let waited = self.path.pending.swap_remove(at);
            self.path
                .discard(waited.frame, None, DropReason::NoNeighbour);
        }
    }

    /// Whether packets wait for a neighbour.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.path.pending.is_empty()
    }

    /// The free frames.
    pub fn pool(&mut self) -> &mut FramePool {
        &mut self.path.pool
    }

    /// The counters.
    pub fn counters(&mut self) -> &mut Counters {
        &mut self.path.counters
    }

    /// The highest authenticated sequence number of each SA that this worker owns or owned until
    /// the last change of tables, by slot and generation.
    pub fn tops(&self) -> impl Iterator<Item = (u32, u64, u64)> + '_ {
        let path = &self.path;
        let owned = path.inbound.iter().enumerate();
        let owned = owned.filter_map(|(slot, state)| Some((slot, state.as_ref()?)));
        let retired = path.retired.iter().map(|(slot, state)| (*slot, state));
        owned
            .chain(retired)
            .map(|(slot, state)| (slot as u32, state.generation, state.window.top()))
    }

    /// Makes the worker's own state fit the tables.
    fn prepare(&mut self) {
        let tunnels = self.tables.tunnels.len();
        self.path.counters.grow(tunnels);
        self.path.outbound_groups.grow(tunnels);
        self.path.inbound_groups.grow(self.tables.inbound.len());
        self.path.adopt(&self.tables);
    }
}

impl Path {
    fn begin(&mut self, now: u64, frames: usize) {
        self.now = now;
        self.counters.batches += 1;
        self.counters.received += frames as u64;
    }

    /// Frames of a port that faces the site only.
    #[inline]
    fn receive_inside(
        &mut self,
        tables: &Tables,
        id: PortId,
        frames: impl Iterator<Item = Frame>,
        out: &mut Output,
    ) {
        let untagged = tables.ports[id.index()].table(crate::tables::UNTAGGED);
        for mut frame in frames {
            match (parse_plain(frame.bytes()), untagged) {
                (Some(packet), Some(table)) => {
                    frame.narrow(usize::from(packet.l3_offset), packet.ip.total_len as usize);
                    let way = Way {
                        origin: Origin::Port(id),
                        table,
                    };
                    self.route(tables, frame, &packet.ip, way, out);
                }
                _ => self.receive(tables, id, frame, out),
            }
        }
    }

    /// One frame of a port, whatever it is.
    #[inline(never)]
    fn receive(&mut self, tables: &Tables, id: PortId, mut frame: Frame, out: &mut Output) {
        let packet = match parse(frame.bytes()) {
            Ok(packet) => packet,
            Err(error) => return self.discard(frame, None, reason(error)),
        };
        let port = &tables.ports[id.index()];
        if port.outside && (!port.inside || tables.is_local(&packet.ip)) {
            return self.arrive(tables, frame, &packet, out);
        }
        let Some(table) = port.table(packet.vlan) else {
            return self.discard(frame, None, DropReason::NoRoute);
        };
        frame.narrow(usize::from(packet.l3_offset), packet.ip.total_len as usize);
        let way = Way {
            origin: Origin::Port(id),
            table,
        };
        self.route(tables, frame, &packet.ip, way, out);
    }

    /// Ends a batch: what is still staged is encrypted and sent, decrypted packets included, and
    /// the ICMP errors of this batch with it.
    fn finish(&mut self, tables: &Tables, out: &mut Output) {
        self.open(tables, out);
        self.forward(tables, out);
        self.send_own(tables, out);
        self.encapsulate(tables, out);
    }

    /// Counts a drop and takes the frame back.
    #[inline]
    fn discard(&mut self, frame: Frame, tunnel: Option<TunnelId>, reason: DropReason) {
        match tunnel {
            Some(tunnel) => self.counters.drop_in(tunnel, reason),
            None => self.counters.drop(reason),
        }
        self.pool.give(frame);
    }

    /// Keeps a packet until its neighbour is known, and asks for the neighbour.
    fn wait(&mut self, waiting: Waiting, out: &mut Output) {
        let Waiting {
            frame,
            origin,
            table,
            port,
            vlan,
            address,
        } = waiting;
        let now = self.now;
        self.asked.retain(|&mut (.., at)| now < at + EVENT_INTERVAL);
        if !self
            .asked
            .iter()
            .any(|&(p, v, a, _)| (p, v, a) == (port, vlan, address))
            && self.asked.try_push((port, vlan, address, now)).is_ok()
        {
            let vlan = Some(vlan).filter(|&vlan| vlan != crate::tables::UNTAGGED);
            out.events.push(Event::NeighbourNeeded {
                port,
                vlan,
                address,
            });
        }
        if self.pending.len() == PENDING {
            return self.discard(frame, None, DropReason::NoNeighbour);
        }
        self.pending.push(Pending {
            frame,
            origin,
            table,
            deadline: now + PENDING_FOR,
        });
    }
}

/// A packet about to wait, and for whom.
struct Waiting {
    frame: Frame,
    origin: Origin,
    table: TableId,
    port: PortId,
    vlan: u16,
    address: IpAddr,
}

impl Tables {
    /// Whether an outer packet is addressed to one of our tunnels.
    fn is_local(&self, ip: &IpHeader) -> bool {
        self.locals.contains(&ip.dst_addr())
    }
}

/// The drop reason for a packet that does not parse.
pub(crate) fn reason(error: ParseError) -> DropReason {
    match error {
        ParseError::NotIp => DropReason::NotIp,
        ParseError::Truncated => DropReason::Truncated,
        ParseError::BadVersion | ParseError::BadHeaderLength | ParseError::BadFragment => {
            DropReason::BadIpHeader
        }
        ParseError::BadTotalLength => DropReason::BadIpLength,
        ParseError::BadChecksum => DropReason::BadIpChecksum,
        ParseError::TooManyExtensionHeaders => DropReason::TooManyExtensionHeaders,
    }
}

/// The drop reason for a sequence number that the replay window refuses.
fn replay_reason(error: ReplayError) -> DropReason {
    match error {
        ReplayError::TooOld => DropReason::ReplayOld,
        ReplayError::Duplicate => DropReason::ReplayDuplicate,
        ReplayError::Zero | ReplayError::Overflow => DropReason::BadSequence,
    }
}
