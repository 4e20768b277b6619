//! A data plane that is set up, and what is done to it as a whole: transactions, leases of
//! sequence numbers, the tops of the replay windows.

use std::{
    convert::Infallible,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, unbounded};
use hawser_api::{Event, Refusal, Setup, SetupReport, Spi, TunnelId, Update};
use hawser_ebpf::{Action, Entries, SteeringError};

use crate::{
    balance::{Balancer, Cost, Move, Placed},
    checkpoint::{Checkpoint, LEASE},
    commit::{self, Kernel, Workers},
    manager::ANSWER,
    sa::hard_limit,
    setup::WorkerHandle,
    statistics,
    tables::{Model, Steering, Tables},
    worker::{Command, Load},
};

/// How long two workers may take to hand a tunnel over. Each acts between two batches; a machine
/// that does not let them for so long is as good as dead.
const TRANSFER: Duration = Duration::from_secs(5);

/// A data plane that is set up.
pub struct Running {
    /// What it was set up with.
    pub setup: Setup,
    /// What was got.
    pub report: SetupReport,
    /// The workers.
    pub workers: Vec<WorkerHandle>,
    /// What the workers have to say.
    pub events: Receiver<Event>,
    /// The XDP program and its maps.
    pub steering: hawser_ebpf::Steering,
    /// The tables.
    pub model: Model,
    /// Sequence numbers.
    pub checkpoint: Checkpoint,
    /// Where tunnels should be.
    pub balancer: Balancer,
    /// What the tunnels had cost at the last look.
    pub measured: Option<(Instant, Vec<Load>)>,
}

impl Running {
    /// Applies all updates or none.
    ///
    /// # Errors
    /// What cannot be, with the remedy.
    pub fn commit(&mut self, updates: Vec<Update>) -> Result<(), Refusal> {
        let mut kernel = Maps {
            maps: &mut self.steering,
            setup: &self.setup,
        };
        commit::commit(
            &mut self.model,
            &mut self.checkpoint,
            (&mut kernel, &self.workers),
            updates,
            |model, checkpoint| {
                extend_leases(model, checkpoint);
            },
        )
    }

    /// Writes new leases where half of the old one is used. Returns the SAs beyond their soft
    /// limit.
    pub fn extend_leases(&mut self) -> Vec<(TunnelId, Spi)> {
        extend_leases(&self.model, &mut self.checkpoint)
    }

    /// Measures what the tunnels cost, and moves one where that helps. To be called once a second.
    ///
    /// # Errors
    /// As [`Running::transfer`].
    pub fn balance(&mut self) -> io::Result<()> {
        if self.workers.len() < 2 {
            return Ok(());
        }
        let Some(loads) = self.loads() else {
            return Ok(());
        };
        let now = Instant::now();
        let before = self.measured.replace((now, loads));
        let (Some((then, before)), Some((_, loads))) = (before, &self.measured) else {
            return Ok(());
        };
        let span = now - then;
        let sent = before.iter().zip(loads);
        let sent: Vec<Cost> = sent
            .map(|(old, new)| new.sent.rate_since(old.sent, span))
            .collect();
        let received = |loads: &[Load], tunnel: TunnelId| {
            let mut sum = Cost::default();
            for load in loads {
                // A worker makes room for a tunnel's counters with the tables that have it.
                sum += load
                    .received
                    .get(tunnel.index())
                    .copied()
                    .unwrap_or_default();
            }
            sum
        };
        let tunnels = self.model.tunnels();
        let owners = self.model.owners().map(|(tunnel, owner)| Placed {
            tunnel,
            owner,
            pinned: tunnels.get(&tunnel).and_then(|tunnel| tunnel.owner),
            cost: received(loads, tunnel).rate_since(received(&before, tunnel), span),
        });
        let owners: Vec<Placed> = owners.collect();
        let Some(wanted) = self.balancer.decide(&sent, &owners) else {
            return Ok(());
        };
        tracing::info!(
            tunnel = wanted.tunnel.0,
            from = wanted.from.0,
            to = wanted.to.0,
            "a tunnel moves to another worker"
        );
        self.measured = None;
        self.transfer(wanted)
    }

    /// What the tunnels have cost until now, by worker; `None` when one does not answer.
    #[must_use]
    pub fn loads(&self) -> Option<Vec<Load>> {
        let (to, from) = unbounded();
        for worker in &self.workers {
            worker.send(Command::Load(to.clone()));
        }
        drop(to);
        let deadline = Instant::now() + ANSWER;
        let mut loads = Vec::new();
        while let Ok(load) = from.recv_deadline(deadline) {
            loads.push(load);
        }
        loads.sort_by_key(|load| load.id);
        (loads.len() == self.workers.len()).then_some(loads)
    }

    /// Gives a tunnel to another worker, under traffic and without loss.
    ///
    /// The worker that owns it takes up tables that name the new owner, sends its windows there and
    /// hands frames over from then on; the new owner takes up the tables together with the windows.
    /// Others follow at last: whomever they send frames until then hands them on. The one thing
    /// that may happen is that packets of the tunnel overtake each other.
    ///
    /// # Errors
    /// When the workers do not answer: nobody knows then who owns the windows, so the process
    /// should end.
    pub fn transfer(&mut self, transfer: Move) -> io::Result<()> {
        self.model.set_owner(transfer.tunnel, transfer.to);
        let tables = Arc::new(self.model.compile());
        let (done, answer) = bounded(1);
        let Some(owner) = self.workers.get(transfer.from.index()) else {
            return Ok(());
        };
        owner.send(Command::Release(Arc::clone(&tables), transfer.to, done));
        if answer.recv_timeout(TRANSFER).is_err() {
            return Err(io::Error::other(
                "a worker does not answer while a tunnel is handed over",
            ));
        }
        for (id, worker) in self.workers.iter().enumerate() {
            if id != transfer.from.index() && id != transfer.to.index() {
                worker.send(Command::Tables(Arc::clone(&tables)));
            }
        }
        Ok(())
    }

    /// Writes down how far the replay windows are.
    pub fn write_tops(&mut self) {
        self.workers.write_tops(&self.model, &mut self.checkpoint);
        self.checkpoint.forget_transient(|| {
            let outbound = self.model.outbound().map(|sa| sa.checkpoint);
            outbound
                .chain(self.model.inbound().map(|sa| sa.checkpoint))
                .collect()
        });
    }
}

fn extend_leases(model: &Model, checkpoint: &mut Checkpoint) -> Vec<(TunnelId, Spi)> {
    let mut soft = Vec::new();
    for sa in model.outbound() {
        let next = sa.key.next_sequence();
        let hard = hard_limit(sa.esn);
        if next > hard / 4 * 3 {
            soft.push((sa.tunnel, sa.spi));
        }
        let leased = checkpoint.get(&sa.checkpoint).unwrap_or(0);
        if leased >= hard || (leased > next && leased - next > LEASE / 2) {
            sa.key.set_limit(leased.min(hard));
            continue;
        }
        let limit = next.saturating_add(LEASE).min(hard);
        match checkpoint.put(sa.checkpoint, limit) {
            Ok(()) => sa.key.set_limit(limit),
            Err(error) => tracing::error!(%error, "cannot write the checkpoint file"),
        }
    }
    soft
}

impl Workers for Vec<WorkerHandle> {
    fn switch(&self, tables: Arc<Tables>) {
        let (reached, all) = bounded::<Infallible>(0);
        for worker in self {
            worker.send(Command::Tables(Arc::clone(&tables)));
            worker.send(Command::Reached(reached.clone()));
        }
        drop(reached);
        // Nothing is ever sent: the channel closes when the last worker has dropped its end.
        if all.recv_timeout(ANSWER) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a worker has not taken up new tables within {ANSWER:?}");
        }
    }

    fn write_tops(&self, model: &Model, checkpoint: &mut Checkpoint) {
        let tops = statistics::tops(self);
        for sa in model.inbound() {
            let Some(&top) = tops.get(&(sa.slot, sa.generation)) else {
                continue;
            };
            if top > 0
                && let Err(error) = checkpoint.put(sa.checkpoint, top)
            {
                tracing::error!(%error, "cannot write the checkpoint file");
                return;
            }
        }
    }
}

/// The maps, with the interfaces that the ports are.
struct Maps<'r> {
    maps: &'r mut hawser_ebpf::Steering,
    setup: &'r Setup,
}

impl Maps<'_> {
    fn set(&mut self, change: &Steering) -> Result<(), SteeringError> {
        let action = |ours| if ours { Action::Take } else { Action::Pass };
        let set = change.set.iter();
        self.maps
            .insert_inside(set.map(|&(prefix, ours)| (prefix, action(ours))))
    }

    fn remove(&mut self, change: &Steering) -> Result<(), SteeringError> {
        self.maps.remove_inside(change.gone.iter().copied())
    }
}

impl Kernel for Maps<'_> {
    fn room(&self, entries: &Entries) -> Result<(), SteeringError> {
        self.maps.sizes().hold(entries)
    }

    fn steer(&mut self, change: &Steering, set_first: bool) -> Result<(), SteeringError> {
        if let Some(locals) = &change.locals {
            self.maps.set_local_addresses(locals.iter().copied())?;
        }
        for &(port, vlan, ours) in &change.vlans {
            if let Some(port) = self.setup.ports.get(port.index()) {
                self.maps.set_inside_vlan(port.ifindex, vlan, ours)?;
            }
        }
        if set_first {
            self.set(change)?;
            self.remove(change)
        } else {
            self.remove(change)?;
            self.set(change)
        }
    }
}
