//! Packet sockets: sending and receiving any frame.
//!
//! Slow next to [`super::live`], but every frame can be shaped and looked at, and duplicates and
//! reordering are found without a window.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use hdrhistogram::Histogram;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send,
        setsockopt, socket, sockopt,
    },
    time::{ClockId, clock_gettime},
};

use super::{
    FlowReport, FlowSpec, LatencyReport, Sizes, Stamp, TrafficReport, frame, read_stamp,
    report::latency_histogram,
};
use crate::{interrupt, netns::Namespace};

/// Receive buffer, bytes: a second of 1500-byte packets at some 40,000 a second, so that a
/// descheduled receiver loses nothing.
const RECEIVE_BUFFER: usize = 64 << 20;
/// Largest frame: jumbo with some room.
const LARGEST_FRAME: usize = 16 << 10;
/// Type of a frame that this host sent itself (`PACKET_OUTGOING` of `linux/if_packet.h`).
const PACKET_OUTGOING: u8 = 4;

/// Nanoseconds of the monotonic clock, which the XDP programs read too.
///
/// # Errors
/// When the clock cannot be read.
pub fn now() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// A packet socket on one interface.
#[derive(Debug)]
pub struct PacketPort {
    socket: OwnedFd,
}

impl PacketPort {
    /// Opens it on an interface of the namespace.
    ///
    /// # Errors
    /// Without root, or when there is no such interface.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        namespace.enter(|| {
            let address = nix::ifaddrs::getifaddrs()?
                .filter(|entry| entry.interface_name == interface)
                .find_map(|entry| Some(*entry.address?.as_link_addr()?))
                .with_context(|| format!("no interface {interface} in {}", namespace.name()))?;
            let socket = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
                SockProtocol::EthAll,
            )?;
            setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
            bind(socket.as_raw_fd(), &address)
                .with_context(|| format!("binding to {interface} in {}", namespace.name()))?;
            Ok(Self { socket })
        })
    }

    /// Sends a frame, waiting while the interface is busy.
    ///
    /// # Errors
    /// When the interface is down or the frame too large for it.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(2);
        loop {
            match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::ENOBUFS | Errno::EAGAIN) if Instant::now() < end => {
                    thread::sleep(Duration::from_micros(50));
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("sending {} bytes", frame.len()));
                }
            }
        }
    }

    /// The next frame that arrives within `limit`; frames sent by this host are passed over.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn receive(&self, limit: Duration) -> Result<Option<Vec<u8>>> {
        let end = Instant::now() + limit;
        let mut buffer = [0; LARGEST_FRAME];
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((_, Some(from))) if from.pkttype() == PACKET_OUTGOING => {}
                Ok((length, _)) => return Ok(Some(buffer[..length].to_vec())),
                Err(Errno::EAGAIN) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(None);
                    }
                    // Rounded up, or the last millisecond would spin.
                    let millis = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
                    let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
                    match poll(&mut fds, PollTimeout::from(millis)) {
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(Errno::EINTR) => {}
                // Reported once when the interface goes down; it may come back.
                Err(Errno::ENETDOWN) => {}
                Err(error) => return Err(error).context("receiving"),
            }
        }
    }
}

/// A frame and when it was seen, nanoseconds of the monotonic clock.
#[derive(Clone, Debug)]
pub struct Captured {
    /// When.
    pub time: u64,
    /// The frame, Ethernet header included.
    pub frame: Vec<u8>,
}

/// A thread that keeps the frames arriving at an interface that pass a filter.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Vec<Captured>>>>,
}

impl Capture {
    /// Starts it; frames that arrive from now on are seen.
    ///
    /// # Errors
    /// As [`PacketPort::open`].
    pub fn start(
        namespace: &Namespace,
        interface: &str,
        mut wanted: impl FnMut(&[u8]) -> bool + Send + 'static,
    ) -> Result<Self> {
        let port = PacketPort::open(namespace, interface)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut frames = Vec::new();
            loop {
                // What is queued when the end is asked for is still taken.
                let last = stopped.load(Ordering::Acquire);
                while let Some(frame) = port.receive(Duration::from_millis(20))? {
                    if wanted(&frame) {
                        frames.push(Captured {
                            time: now()?,
                            frame,
                        });
                    }
                }
                if last {
                    return Ok(frames);
                }
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Ends it, once nothing has arrived for 20 ms, and gives what was seen.
    ///
    /// # Errors
    /// When receiving failed.
    pub fn finish(mut self) -> Result<Vec<Captured>> {
        self.stop.store(true, Ordering::Release);
        let thread = self.thread.take().context("already finished")?;
        thread.join().map_err(|_| anyhow!("the capture panicked"))?
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What arrived of one flow so far.
#[derive(Debug, Default)]
struct Received {
    packets: u64,
    bytes: u64,
    duplicates: u64,
    reordered: u64,
    /// Highest sequence number plus 1.
    next: u64,
    /// A bit for every sequence number seen.
    seen: Vec<u64>,
}

impl Received {
    fn count(&mut self, sequence: u64, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
        let (word, bit) = ((sequence / 64) as usize, 1 << (sequence % 64));
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            self.duplicates += 1;
        } else if sequence < self.next {
            self.reordered += 1;
        }
        self.seen[word] |= bit;
        self.next = self.next.max(sequence + 1);
    }
}

/// Counts test packets at an interface while it lives.
#[derive(Debug)]
pub struct PacketSink {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Counted>>>,
}

/// What a sink counted.
#[derive(Debug)]
struct Counted {
    flows: BTreeMap<u16, Received>,
    latency: Histogram<u64>,
    /// When the longest time without any packet began and ended.
    gap: Option<(u64, u64)>,
}

/// Sequence numbers beyond this are not ours: they would cost memory without end.
const MOST_PACKETS: u64 = 1 << 32;

impl PacketSink {
    /// Starts counting.
    ///
    /// # Errors
    /// As [`PacketPort::open`].
    pub fn start(namespace: &Namespace, interface: &str) -> Result<Self> {
        let port = PacketPort::open(namespace, interface)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || count(&port, &stopped));
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Ends counting, once nothing has arrived for 200 ms, and compares with what was sent.
    ///
    /// # Errors
    /// When receiving failed.
    pub fn finish(mut self, sent: &Sent) -> Result<TrafficReport> {
        let (report, _) = self.end(sent)?;
        Ok(report)
    }

    /// As [`finish`](Self::finish), with the longest time in which no packet arrived.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_with_gap(mut self, sent: &Sent) -> Result<(TrafficReport, Duration)> {
        let (report, gap) = self.end(sent)?;
        Ok((report, gap))
    }

    fn end(&mut self, sent: &Sent) -> Result<(TrafficReport, Duration)> {
        self.stop.store(true, Ordering::Release);
        let thread = self.thread.take().context("already finished")?;
        let counted = thread.join().map_err(|_| anyhow!("the sink panicked"))??;
        let none = Received::default();
        let flows = sent
            .packets
            .iter()
            .map(|(&flow, &sent)| {
                let got = counted.flows.get(&flow).unwrap_or(&none);
                FlowReport {
                    flow,
                    sent,
                    received: got.packets,
                    received_bytes: got.bytes,
                    lost: sent.saturating_sub(got.packets - got.duplicates),
                    duplicates: got.duplicates,
                    reordered: got.reordered,
                }
            })
            .collect();
        let report = TrafficReport {
            seconds: sent.seconds,
            flows,
            latency: LatencyReport::of(&counted.latency),
        };
        let gap = counted
            .gap
            .map_or(Duration::ZERO, |(a, b)| Duration::from_nanos(b - a));
        Ok((report, gap))
    }
}

impl Drop for PacketSink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn count(port: &PacketPort, stopped: &AtomicBool) -> Result<Counted> {
    let mut counted = Counted {
        flows: BTreeMap::new(),
        latency: latency_histogram(),
        gap: None,
    };
    let mut last_arrival: Option<u64> = None;
    loop {
        let last = stopped.load(Ordering::Acquire);
        while let Some(frame) = port.receive(Duration::from_millis(200))? {
            let Some(stamp) = read_stamp(&frame).filter(|s| s.sequence < MOST_PACKETS) else {
                continue;
            };
            let time = now()?;
            let gap = last_arrival.map(|before| (before, time));
            if gap.map(|(a, b)| b - a) > counted.gap.map(|(a, b)| b - a) {
                counted.gap = gap;
            }
            last_arrival = Some(time);
            counted
                .latency
                .saturating_record(time.saturating_sub(stamp.time).max(1));
            counted
                .flows
                .entry(stamp.flow)
                .or_default()
                .count(stamp.sequence, frame.len());
        }
        if last {
            return Ok(counted);
        }
    }
}

/// What was sent.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Packets by flow.
    pub packets: BTreeMap<u16, u64>,
    /// How long it took, seconds.
    pub seconds: f64,
}

/// Sends the flows in turn at a steady rate, in bursts a millisecond apart at most.
///
/// # Errors
/// When a frame cannot be made or sent, or the user interrupts.
pub fn send_flows(
    port: &PacketPort,
    flows: &[FlowSpec],
    sizes: &Sizes,
    packets_per_second: u32,
    time: Duration,
) -> Result<Sent> {
    ensure!(
        !flows.is_empty() && packets_per_second > 0,
        "nothing to send"
    );
    let started = Instant::now();
    let total = (time.as_secs_f64() * f64::from(packets_per_second)).ceil() as u64;
    let mut sent = Sent::default();
    let mut done = 0;
    while done < total {
        let due = (started.elapsed().as_secs_f64() * f64::from(packets_per_second)) as u64 + 1;
        while done < due.min(total) {
            let flow = &flows[(done % flows.len() as u64) as usize];
            let sequence = done / flows.len() as u64;
            let length = sizes.length(flow, sequence);
            let stamp = Stamp {
                flow: flow.number,
                sequence,
                time: now()?,
            };
            port.send(&frame(flow, stamp, length)?)?;
            *sent.packets.entry(flow.number).or_default() += 1;
            done += 1;
        }
        interrupt::check()?;
        thread::sleep(Duration::from_millis(1));
    }
    sent.seconds = started.elapsed().as_secs_f64();
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_tells_duplicates_from_late_packets() {
        let mut received = Received::default();
        for sequence in [0, 1, 3, 3, 2, 2, 200, 4] {
            received.count(sequence, 10);
        }
        assert_eq!(
            (received.packets, received.bytes, received.next),
            (8, 80, 201)
        );
        assert_eq!((received.duplicates, received.reordered), (2, 2));
    }
}
