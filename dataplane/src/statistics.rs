//! Counters of all workers, put together for control.

use std::{collections::HashMap, time::Instant};

use crossbeam_channel::unbounded;
use hawser_api::{
    InboundSaStats, OutboundSaStats, PortId, PortStats, Stats, StatsPage, TunnelId, TunnelStats,
    WorkerStats,
};
use hawser_xsk::Link;

use crate::{
    counters::TunnelCounters,
    manager::ANSWER,
    running::Running,
    setup::WorkerHandle,
    worker::{Command, Report},
};

/// Most tunnels in one page, so that a page with every drop reason in use fits a message.
const PAGE: u32 = 128;

/// What was collected at one moment; pages are cut from it.
pub struct Collected {
    at_nanos: u64,
    reports: Vec<Report>,
    tunnels: Vec<TunnelCounters>,
    tops: Tops,
}

impl Collected {
    /// Asks all workers.
    #[must_use]
    pub fn gather(running: &Running, epoch: Instant) -> Self {
        let (to, from) = unbounded();
        for worker in &running.workers {
            worker.send(Command::Report(to.clone()));
        }
        drop(to);
        let deadline = Instant::now() + ANSWER;
        let mut reports = Vec::new();
        while let Ok(report) = from.recv_deadline(deadline) {
            reports.push(report);
        }
        reports.sort_by_key(|report| report.id);
        let tops = tops(&running.workers);
        let mut tunnels: Vec<TunnelCounters> = Vec::new();
        for report in &reports {
            let theirs = &report.counters.tunnels;
            if tunnels.len() < theirs.len() {
                tunnels.resize_with(theirs.len(), TunnelCounters::default);
            }
            for (all, one) in tunnels.iter_mut().zip(theirs) {
                all.merge(one);
            }
        }
        let at_nanos = epoch.elapsed().as_nanos().try_into().unwrap_or(u64::MAX);
        Self {
            at_nanos,
            reports,
            tunnels,
            tops,
        }
    }

    /// A page of it.
    #[must_use]
    pub fn page(&self, running: &Running, page: StatsPage) -> Stats {
        let first = page.from.0 == 0;
        let count = page.count.clamp(1, PAGE) as usize;
        let mut ids = running
            .model
            .tunnels()
            .range(page.from..)
            .map(|(&id, _)| id);
        let tunnels = ids
            .by_ref()
            .take(count)
            .map(|id| self.tunnel(running, id))
            .collect();
        Stats {
            at_nanos: self.at_nanos,
            generation: running.model.generation(),
            memory_bytes: resident_bytes(),
            workers: if first {
                self.workers(running)
            } else {
                Vec::new()
            },
            ports: if first {
                self.ports(running)
            } else {
                Vec::new()
            },
            tunnels,
            next: ids.next(),
        }
    }

    fn workers(&self, running: &Running) -> Vec<WorkerStats> {
        let worker = |report: &Report| WorkerStats {
            id: report.id,
            core: running
                .workers
                .get(report.id.index())
                .and_then(|worker| worker.core),
            times: report.times,
            batches: report.counters.batches,
            received: report.counters.received,
            sent: report.queues.iter().map(|queue| queue.sent.0).sum(),
            handed_off: report.counters.handed_off,
            to_host: report.counters.to_host,
            from_host: report.counters.from_host,
            icmp_sent: report.counters.icmp_sent,
            free_frames: report.free_frames,
            drops: report.counters.drops.clone(),
        };
        self.reports.iter().map(worker).collect()
    }

    fn ports(&self, running: &Running) -> Vec<PortStats> {
        let queues = |port: PortId| {
            self.reports
                .iter()
                .flat_map(|r| &r.queues)
                .filter(move |queue| queue.port == port)
        };
        (0..running.setup.ports.len())
            .map(|id| {
                let id = PortId(id as u16);
                let sum = |get: fn(&crate::worker::QueueReport) -> u64| queues(id).map(get).sum();
                PortStats {
                    id,
                    up: queues(id).all(|queue| queue.link == Link::Up),
                    received: sum(|queue| queue.received.0),
                    received_bytes: sum(|queue| queue.received.1),
                    sent: sum(|queue| queue.sent.0),
                    sent_bytes: sum(|queue| queue.sent.1),
                    ring_full: sum(|queue| queue.kernel.receive_ring_full),
                    fill_empty: sum(|queue| queue.kernel.fill_ring_empty),
                    kernel_dropped: sum(|queue| queue.kernel.receive_dropped),
                }
            })
            .collect()
    }

    fn tunnel(&self, running: &Running, id: TunnelId) -> TunnelStats {
        let counted = self.tunnels.get(id.index()).cloned().unwrap_or_default();
        let outbound = running.model.outbound_of(id);
        let inbound: Vec<_> = running
            .model
            .inbound()
            .filter(|sa| sa.tunnel == id)
            .collect();
        TunnelStats {
            id,
            sent: counted.sent,
            sent_bytes: counted.sent_bytes,
            received: counted.received,
            received_bytes: counted.received_bytes,
            idle_millis: (counted.last_received > 0)
                .then(|| self.at_nanos.saturating_sub(counted.last_received) / 1_000_000),
            inside_mtu: running.model.inside_mtu(id),
            owner: running.model.owner_of(id),
            outbound: outbound.map(|sa| OutboundSaStats {
                spi: sa.spi,
                next_sequence: sa.key.next_sequence(),
            }),
            inbound: inbound
                .iter()
                .map(|sa| InboundSaStats {
                    spi: sa.spi,
                    highest_sequence: self
                        .tops
                        .get(&(sa.slot, sa.generation))
                        .copied()
                        .unwrap_or(sa.seen),
                })
                .collect(),
            drops: counted.drops,
        }
    }
}

/// Highest authenticated sequence number by slot and generation of the inbound SA.
type Tops = HashMap<(u32, u64), u64>;

/// Asks all workers how far the replay windows of their SAs are. What a worker that does not
/// answer in time owns is missing.
pub(crate) fn tops(workers: &[WorkerHandle]) -> Tops {
    let (to, from) = unbounded();
    for worker in workers {
        worker.send(Command::Tops(to.clone()));
    }
    drop(to);
    let deadline = Instant::now() + ANSWER;
    let mut tops = Tops::new();
    while let Ok(list) = from.recv_deadline(deadline) {
        tops.extend(
            list.into_iter()
                .map(|(slot, generation, top)| ((slot, generation), top)),
        );
    }
    tops
}

/// Resident memory of this process: the second field of /proc/self/statm, in pages.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|statm| statm.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}
