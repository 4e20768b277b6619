//! The data plane's life: taken over or started, lost, restarted, ended.

use tokio::time::Instant;

use super::{Area, Daemon, RunError};
use crate::{
    dataplane_link::LinkError,
    desired::Inputs,
    netlink::Changes,
    setup::{self, Planned},
    supervisor::{Dataplane, Found},
};

impl Daemon {
    /// Takes over the data plane that runs, or starts one. Only here a failure ends us: later on,
    /// trying again is better than giving up.
    pub(super) async fn begin(&mut self) -> Result<(), RunError> {
        self.publish();
        let planned = self.plan().await.map_err(RunError::Refused)?;
        for warning in &planned.warnings.0 {
            tracing::warn!("{}", super::reload::one_line(warning));
        }
        if let Some(found) = Found::at(&self.launch().socket).await
            && let Some(dataplane) = self.adopt(found, &planned).await
        {
            self.took_over(dataplane);
        }
        self.note_missing(&planned);
        if self.dataplane.is_none() && !self.waits_for_interfaces(&planned) {
            self.dataplane = Some(Dataplane::start(&self.launch(), planned.setup).await?);
        }
        if self.dataplane.is_some() {
            self.adopt_neighbours();
            self.find_kept().await;
            self.dataplane_runs().await;
        }
        // Only now: what peers are promised must have somewhere to go.
        self.configure_exchange().await;
        self.publish();
        Ok(())
    }

    async fn plan(&self) -> Result<Planned, crate::config::Diagnostics> {
        setup::plan(&self.config, &self.kernel, self.seed).await
    }

    /// Decides whether a running data plane can stay.
    async fn adopt(&mut self, found: Found, planned: &Planned) -> Option<Dataplane> {
        let seed_configured = self.config.dataplane.hash_seed.is_some();
        let Some(running) = found.setup() else {
            // Started, but never set up: as good as none.
            found.end().await;
            return None;
        };
        // An interface that is away is no reason to disturb the others.
        let mut comparable = running.clone();
        comparable
            .ports
            .retain(|port| !planned.missing.contains(&port.interface));
        if setup::serves(&comparable, &planned.setup, seed_configured) {
            return found.take_over();
        }
        let differences = setup::differences(&comparable, &planned.setup).join(", ");
        tracing::warn!(
            "the running data plane was set up differently ({differences}): it is replaced, which \
             interrupts traffic"
        );
        found.end().await;
        None
    }

    fn took_over(&mut self, dataplane: Dataplane) {
        tracing::info!(pid = dataplane.pid, "took over the running data plane");
        self.seed = dataplane.setup.hash_seed;
        self.dataplane = Some(dataplane);
    }

    /// What the kernel knows of inside neighbours is what traffic needed before us.
    fn adopt_neighbours(&mut self) {
        let Some(dataplane) = &self.dataplane else {
            return;
        };
        let mirror = self.kernel.mirror();
        for ((ifindex, address), entry) in &mirror.neighbours {
            if entry.usable().is_none() || address.is_multicast() {
                continue;
            }
            let link = mirror.links.get(ifindex);
            let (base, vlan) = match link.and_then(|l| l.vlan) {
                Some((parent, id)) => (parent, Some(id)),
                None => (*ifindex, None),
            };
            if let Some(port) = dataplane.ports.at(base)
                && port.role != hawser_api::Role::Outside
            {
                self.wanted
                    .insert((port.name.clone(), vlan, *address), Instant::now());
            }
        }
    }

    /// With no outside interface there is nothing that a data plane could do.
    fn waits_for_interfaces(&self, planned: &Planned) -> bool {
        !planned
            .setup
            .ports
            .iter()
            .any(|port| port.role != hawser_api::Role::Inside)
    }

    fn note_missing(&mut self, planned: &Planned) {
        if planned.missing.is_empty() {
            self.problems.remove(&Area::Interfaces);
            return;
        }
        let problem = format!(
            "waiting for {} to exist and be up (`ip link set … up`)",
            planned.missing.join(", ")
        );
        tracing::warn!("{problem}");
        self.problems.insert(Area::Interfaces, problem);
    }

    /// A data plane is there: gives it its tables.
    async fn dataplane_runs(&mut self) {
        let Some(dataplane) = &self.dataplane else {
            return;
        };
        let aead = dataplane.report.as_ref().map_or("?", |r| r.aead.as_str());
        let micros = dataplane.report.as_ref().map_or(0, |r| r.micros);
        tracing::info!(
            pid = dataplane.pid,
            aead,
            micros,
            workers = dataplane.setup.workers.len(),
            "the data plane runs"
        );
        self.start_at = None;
        self.problems.remove(&Area::Start);
        self.installed = None;
        self.history.clear();
        self.dirty = Changes::ALL;
        self.converge().await;
        self.set_up_tun().await;
    }

    /// Addresses and routes of the TUN device, which comes and goes with the data plane.
    pub(super) async fn set_up_tun(&mut self) {
        let Some(name) = self.config.gateway.tun.clone() else {
            return;
        };
        if self.dataplane.is_none() {
            return;
        }
        let (addresses, routes) = Inputs::tun(&self.config);
        let failed = match self.kernel.find_link(&name).await {
            None => Some("it is not there".to_owned()),
            Some(link) => {
                let done = self.kernel.set_up_tun(&link, &addresses, &routes).await;
                done.err().map(|error| error.to_string())
            }
        };
        self.tun_pending = failed.is_some();
        match failed {
            None => {
                self.problems.remove(&Area::Tun);
            }
            Some(error) => {
                tracing::error!(
                    interface = name,
                    error,
                    "the TUN device could not be set up"
                );
                let problem = format!("the TUN device {name} could not be set up: {error}");
                self.problems.insert(Area::Tun, problem);
            }
        }
    }

    /// The connection is gone, and with it most likely the process.
    pub(super) async fn dataplane_lost(&mut self, error: &LinkError) {
        let Some(dataplane) = self.dataplane.take() else {
            return;
        };
        let ran_for = dataplane.since.elapsed();
        let pid = dataplane.pid;
        let how = dataplane.bury(error).await;
        let delay = self.backoff.after(ran_for);
        tracing::error!(
            pid,
            how,
            %error,
            delay_ms = delay.as_millis() as u64,
            "the data plane is gone"
        );
        self.forget_dataplane(format!("process {pid} {how}"));
        self.start_at = Some(Instant::now() + delay);
        if delay.is_zero() {
            self.start_dataplane().await;
        }
    }

    fn forget_dataplane(&mut self, why: String) {
        self.installed = None;
        // SAs that only it knew are lost with it.
        self.kept.clear();
        self.history.clear();
        self.restarts += 1;
        self.last_restart = Some(why);
    }

    /// Ends the data plane and starts another one: for changes of what is fixed for its life.
    pub(super) async fn restart_dataplane(&mut self, why: String) {
        tracing::warn!(why, "restarting the data plane");
        if let Some(dataplane) = self.dataplane.take() {
            dataplane.end().await;
            self.forget_dataplane(why);
        }
        self.start_dataplane().await;
    }

    /// Starts a data plane; tries again later when that fails.
    pub(super) async fn start_dataplane(&mut self) {
        let begun = Instant::now();
        let failed = match self.plan().await {
            Ok(planned) => {
                self.note_missing(&planned);
                if self.waits_for_interfaces(&planned) {
                    // The next change of a link brings us back here.
                    self.start_at = None;
                    return;
                }
                match Dataplane::start(&self.launch(), planned.setup).await {
                    Ok(dataplane) => {
                        self.dataplane = Some(dataplane);
                        self.dataplane_runs().await;
                        return;
                    }
                    Err(error) => error.to_string(),
                }
            }
            Err(diagnostics) => super::reload::in_one_line(&diagnostics),
        };
        let delay = self.backoff.after(begun.elapsed());
        tracing::error!(
            reason = failed,
            delay_ms = delay.as_millis() as u64,
            "the data plane cannot be started"
        );
        self.problems.insert(Area::Start, failed);
        self.start_at = Some(Instant::now() + delay);
    }

    /// Looks whether the interfaces are still those that the data plane was set up with.
    pub(super) async fn interfaces_changed(&mut self) {
        let Some(dataplane) = &self.dataplane else {
            if self.start_at.is_none() {
                self.start_dataplane().await;
            }
            return;
        };
        let mirror = self.kernel.mirror();
        let mut reason = None;
        for interface in &self.config.interfaces {
            let name = &interface.name.value;
            let Some(link) = mirror.link(name).filter(|link| link.enabled) else {
                continue;
            };
            let served = dataplane
                .setup
                .ports
                .iter()
                .find(|port| port.interface == *name);
            reason = match served {
                None => Some(format!("{name} has appeared")),
                Some(port) if port.ifindex != link.index => Some(format!("{name} came back")),
                Some(port) if Some(port.mac) != link.mac => {
                    Some(format!("{name} has another Ethernet address"))
                }
                Some(_) => None,
            };
            if reason.is_some() {
                break;
            }
        }
        if let Some(reason) = reason {
            self.restart_dataplane(reason).await;
        }
    }

    /// Ends, with or without the data plane.
    pub(super) async fn stop(&mut self, keep_dataplane: bool) {
        if !keep_dataplane {
            self.say_good_bye().await;
        }
        let Some(dataplane) = self.dataplane.take() else {
            return;
        };
        if keep_dataplane {
            tracing::info!(pid = dataplane.pid, "ending; the data plane runs on");
        } else {
            tracing::info!("ending with the data plane");
            dataplane.end().await;
        }
    }
}
