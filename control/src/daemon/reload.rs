//! Taking up a changed configuration: all of it or nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hawser_api::{NextHop, TunnelId};
use ipnet::IpNet;

use super::Daemon;
use crate::{
    config::{self, Config, Diagnostic, Diagnostics, Severity},
    control_socket::{Answer, Reloaded},
    desired::{Desired, SaSet},
    ike::keep,
    netlink::Changes,
    setup,
};

impl Daemon {
    /// Reads the configuration again. If anything is wrong with it, the one before goes on.
    pub(super) async fn reload(&mut self, restart_dataplane: bool) -> Answer {
        let (config, mut diagnostics) = config::load(&self.options.config);
        let Some(config) = config else {
            return Answer::Refused(diagnostics);
        };
        diagnostics
            .0
            .extend(config::against_host(&config, &self.kernel.host_view()).0);
        self.check_fixed(&config, &mut diagnostics);
        if diagnostics.has_errors() {
            return Answer::Refused(diagnostics);
        }
        let restart = match self.needs_restart(&config).await {
            Ok(words) if words.is_empty() => None,
            Ok(words) => Some(words.join(", ")),
            Err(errors) => {
                diagnostics.0.extend(errors.0);
                return Answer::Refused(diagnostics);
            }
        };
        if let Some(what) = &restart
            && !restart_dataplane
        {
            diagnostics.error(
                None,
                format!("the data plane would have to be restarted: {what} changed"),
                "run: hawser reload --restart-dataplane (traffic stops for a moment)",
            );
            return Answer::Refused(diagnostics);
        }
        self.take_up(config, restart, diagnostics).await
    }

    /// What cannot change while we run.
    fn check_fixed(&self, new: &Config, diagnostics: &mut Diagnostics) {
        for (key, old, new) in [
            (
                "run_dir",
                &self.config.gateway.run_dir,
                &new.gateway.run_dir,
            ),
            (
                "state_dir",
                &self.config.gateway.state_dir,
                &new.gateway.state_dir,
            ),
        ] {
            if old != new {
                diagnostics.error(
                    None,
                    format!("`{key}` cannot change while `hawser run` runs"),
                    "stop it and start it again",
                );
            }
        }
    }

    async fn needs_restart(&self, new: &Config) -> Result<Vec<&'static str>, Diagnostics> {
        let Some(dataplane) = &self.dataplane else {
            return Ok(Vec::new());
        };
        let planned = setup::plan(new, &self.kernel, self.seed).await?;
        let mut running = dataplane.setup.clone();
        // An interface that is away for now is no change.
        running.ports.retain(|port| {
            !planned.missing.contains(&port.interface) || new.interface(&port.interface).is_none()
        });
        if setup::serves(&running, &planned.setup, new.dataplane.hash_seed.is_some()) {
            return Ok(Vec::new());
        }
        Ok(setup::differences(&running, &planned.setup))
    }

    async fn take_up(
        &mut self,
        config: Config,
        restart: Option<String>,
        warnings: Diagnostics,
    ) -> Answer {
        let old = Before {
            ids: self.ids.clone(),
            sas: Arc::clone(&self.sas),
            config: std::mem::replace(&mut self.config, config),
            installed: self.installed.clone(),
        };
        self.ids = old.ids.assigned(&self.config);
        self.save_ids();
        let going_on = self.going_on(&old);
        self.peers.retain(|id, _| going_on.contains(id));
        let mut sas = SaSet::configured(&self.config, &self.ids);
        keep(&self.sas, &going_on, &mut sas);
        if sas != *self.sas {
            self.sas = Arc::new(sas);
        }
        self.dirty = Changes::ALL;
        let restarted = restart.is_some();
        if let Some(what) = restart {
            self.restart_dataplane(format!("reload: {what} changed"))
                .await;
        } else if let Err(answer) = self.put_in_force(&old).await {
            return *answer;
        }
        if self.dataplane.is_none() {
            // Whatever kept it from starting may be other now.
            self.start_dataplane().await;
        }
        self.set_up_tun().await;
        self.configure_exchange().await;
        self.reloads += 1;
        let mut reloaded = changes(&old, &self.config, self.installed.as_ref());
        reloaded.dataplane_restarted = restarted;
        reloaded.warnings = warnings;
        Answer::Reloaded(reloaded)
    }

    /// Tunnels with a key exchange before and now, between the same ends: their SAs stay for as
    /// long as the key exchange does not say otherwise.
    fn going_on(&self, old: &Before) -> BTreeSet<TunnelId> {
        let ends = |config: &Config| -> BTreeMap<String, _> {
            let tunnels = config.tunnels.iter().filter(|t| t.ike().is_some());
            tunnels
                .map(|t| (t.name.clone(), (t.local.value, t.remote.value)))
                .collect()
        };
        let before = ends(&old.config);
        let same = ends(&self.config)
            .into_iter()
            .filter(|(name, ends)| before.get(name) == Some(ends));
        same.filter_map(|(name, _)| self.ids.tunnel(&name))
            .collect()
    }

    /// Installs the new tables; on a refusal everything is as before.
    async fn put_in_force(&mut self, old: &Before) -> Result<(), Box<Answer>> {
        if self.dataplane.is_none() {
            return Ok(());
        }
        self.look_up_paths_now().await;
        let Err(error) = self.install(false).await else {
            return Ok(());
        };
        if !error.is_refusal() {
            // The data plane died over it, or just then. The loop starts another one with the
            // new configuration, which is good as far as we know.
            return Ok(());
        }
        self.config = old.config.clone();
        self.ids = old.ids.clone();
        self.sas = Arc::clone(&old.sas);
        self.save_ids();
        self.converge_soon(Changes::ALL);
        Err(Box::new(Answer::Failed {
            reason: error.to_string(),
            remedy: "the configuration before goes on; correct this one and reload".into(),
        }))
    }

    async fn look_up_paths_now(&mut self) {
        self.look_up_paths().await;
        self.dirty.routes = false;
    }
}

/// What a refused reload goes back to.
struct Before {
    config: Config,
    ids: crate::ids::Ids,
    sas: Arc<SaSet>,
    installed: Option<Desired>,
}

fn changes(old: &Before, new: &Config, installed: Option<&Desired>) -> Reloaded {
    let by_name = |config: &Config| -> BTreeMap<String, config::Tunnel> {
        config
            .tunnels
            .iter()
            .map(|t| (t.name.clone(), t.clone()))
            .collect()
    };
    let (before, after) = (by_name(&old.config), by_name(new));
    let names = |from: &BTreeMap<String, config::Tunnel>,
                 keep: &dyn Fn(&str, &config::Tunnel) -> bool| {
        from.iter()
            .filter(|(n, t)| keep(n, t))
            .map(|(n, _)| n.clone())
            .collect::<Vec<_>>()
    };
    let mut reloaded = Reloaded {
        tunnels_added: names(&after, &|name, _| !before.contains_key(name)),
        tunnels_removed: names(&before, &|name, _| !after.contains_key(name)),
        tunnels_changed: names(&after, &|name, tunnel| {
            before.get(name).is_some_and(|b| !b.same_settings(tunnel))
        }),
        ..Reloaded::default()
    };
    let empty = BTreeMap::new();
    let old_routes = old.installed.as_ref().map_or(&empty, |d| &d.routes);
    let new_routes = installed.map_or(&empty, |d| &d.routes);
    let tables: BTreeSet<_> = old_routes.keys().chain(new_routes.keys()).collect();
    for table in tables {
        let none: BTreeMap<IpNet, NextHop> = BTreeMap::new();
        let before = old_routes.get(table).map_or(&none, |r| r);
        let after = new_routes.get(table).map_or(&none, |r| r);
        reloaded.routes_added += after.keys().filter(|net| !before.contains_key(net)).count();
        reloaded.routes_removed += before.keys().filter(|net| !after.contains_key(net)).count();
        reloaded.routes_changed += after
            .iter()
            .filter(|(net, hop)| before.get(net).is_some_and(|b| b != *hop))
            .count();
    }
    reloaded
}

/// A diagnostic in one line, for the log.
pub(super) fn one_line(diagnostic: &Diagnostic) -> String {
    let place = diagnostic.location.as_ref().map_or_else(String::new, |l| {
        format!("{}:{}:{}: ", l.file, l.line, l.column)
    });
    format!("{place}{}; {}", diagnostic.reason, diagnostic.remedy)
}

/// The errors in one line.
pub(super) fn in_one_line(diagnostics: &Diagnostics) -> String {
    let errors = diagnostics
        .0
        .iter()
        .filter(|d| d.severity == Severity::Error);
    errors.map(one_line).collect::<Vec<_>>().join(" | ")
}

/// Logs what came of a reload by signal.
pub(super) fn log(answer: &Answer) {
    match answer {
        Answer::Reloaded(reloaded) => tracing::info!(
            added = reloaded.tunnels_added.len(),
            removed = reloaded.tunnels_removed.len(),
            changed = reloaded.tunnels_changed.len(),
            routes_added = reloaded.routes_added,
            routes_removed = reloaded.routes_removed,
            routes_changed = reloaded.routes_changed,
            "reloaded"
        ),
        Answer::Refused(diagnostics) => {
            for diagnostic in &diagnostics.0 {
                tracing::error!("reload refused: {}", one_line(diagnostic));
            }
        }
        Answer::Failed { reason, remedy } => tracing::error!("reload failed: {reason}; {remedy}"),
        Answer::Status(_) | Answer::Stopping => {}
    }
}
