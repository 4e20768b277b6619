//! A data plane that is set up, and what is done to it as a whole: transactions, leases of
//! sequence numbers, the tops of the replay windows.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use hawser_api::{Event, Refusal, Setup, SetupReport, Spi, TunnelId, Update};
use hawser_ebpf::{Action, Entries, SteeringError};

use crate::{
    checkpoint::{Checkpoint, LEASE},
    commit::{self, Kernel, Workers},
    sa::hard_limit,
    setup::WorkerHandle,
    statistics,
    tables::{Model, Steering, Tables},
    worker::Command,
};

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

    /// Writes down how far the replay windows are.
    pub fn write_tops(&mut self) {
        self.workers.write_tops(&self.model, &mut self.checkpoint);
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
        for worker in self {
            worker.send(Command::Tables(Arc::clone(&tables)));
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
