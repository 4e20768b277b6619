//! One transaction: the model, the workers' tables, the XDP program's maps, all of it or nothing.
//!
//! Everything that can be known beforehand is checked before anything changes: the updates
//! themselves, and whether the maps have room. The workers come before the XDP program, so that
//! they know what to do with the packets that it sends them. If the kernel refuses even so, the
//! XDP program and the workers go back to the tables before.

use std::sync::Arc;

use hawser_api::{Refusal, Update};
use hawser_ebpf::{Entries, SteeringError};

use crate::{
    checkpoint::Checkpoint,
    tables::{Model, Steering, Tables},
};

/// The XDP program's side.
pub trait Kernel {
    /// Whether its maps have room for so much.
    ///
    /// # Errors
    /// The first map that has not.
    fn room(&self, entries: &Entries) -> Result<(), SteeringError>;

    /// Carries a change out. `set_first`: what is set comes before that which goes, so that no
    /// packet is the kernel's in between.
    ///
    /// # Errors
    /// The first failure; the rest may have been carried out or not.
    fn steer(&mut self, change: &Steering, set_first: bool) -> Result<(), SteeringError>;
}

/// The workers' side.
pub trait Workers {
    /// Has them use these tables from their next batches on, and returns when they do: what a
    /// peer is told afterwards, it may rely on.
    fn switch(&self, tables: Arc<Tables>);

    /// Writes the highest sequence numbers of the model's inbound SAs down, those included that a
    /// switch has just taken away.
    fn write_tops(&self, model: &Model, checkpoint: &mut Checkpoint);
}

/// Applies all updates or none. `lease` is called with the new model before the workers get it.
///
/// # Errors
/// What cannot be, with the remedy; everything is then as it was.
pub fn commit(
    model: &mut Model,
    checkpoint: &mut Checkpoint,
    (kernel, workers): (&mut impl Kernel, &impl Workers),
    updates: Vec<Update>,
    lease: impl FnOnce(&Model, &mut Checkpoint),
) -> Result<(), Refusal> {
    let (mut next, touched) = model.after(updates, checkpoint)?;
    kernel
        .room(&next.entries())
        .map_err(|error| refusal(&error))?;
    let change = next.steering(&touched);
    let set_first = kernel.room(&change.peak(&model.entries())).is_ok();

    lease(&next, checkpoint);
    workers.switch(Arc::new(next.compile()));
    if let Err(error) = kernel.steer(&change, set_first) {
        tracing::error!(%error, "the kernel refused to steer; going back to the tables before");
        let back = model.steering(&touched);
        if let Err(error) = kernel.steer(&back, set_first) {
            tracing::error!(%error, "the XDP program's maps are not as they were");
        }
        workers.switch(Arc::new(model.compile()));
        // What came in meanwhile must not come in again when this is tried again.
        workers.write_tops(&next, checkpoint);
        return Err(refusal(&error));
    }
    *model = next;
    Ok(())
}

fn refusal(error: &SteeringError) -> Refusal {
    let remedy = match error {
        SteeringError::Full { map, .. } if map.starts_with("INSIDE") => {
            "use fewer or shorter prefixes: of IPv4 only those longer than /24 count"
        }
        SteeringError::Full { map, .. } if map.starts_with("LOCAL") => {
            "let tunnels share local addresses"
        }
        SteeringError::Full { .. } => "attach fewer VLANs",
        _ => "run as root or with CAP_BPF; the data plane's log has the details",
    };
    Refusal {
        what: format!("XDP maps: {error}"),
        remedy: remedy.into(),
    }
}
