//! The daemon's side of the key exchange: its SAs into the data plane, its messages out, in this
//! order.

use std::{net::IpAddr, sync::Arc, time::Duration};

use hawser_api::{Role, Spi, TunnelId, Update};
use tokio::time::{Instant, timeout};

use super::{Area, Daemon};
use crate::{
    config::Tunnel,
    dataplane_link::LinkError,
    desired::{PeerPath, SaSet},
    ike::{Datagram, Kept, SaChange, Wanted},
    netlink::Changes,
    peers,
};

/// How long peers have to answer our good-bye. One that is dead does not hold the end up.
const GOOD_BYE: Duration = Duration::from_millis(700);

impl Daemon {
    /// Takes up the configuration's key exchanges and begins with what they start.
    pub(super) async fn configure_exchange(&mut self) {
        match self.ike.configure(&self.config, &self.ids) {
            Ok(()) => {
                self.problems.remove(&Area::Exchange);
            }
            Err(error) => {
                // The configuration was checked before; what is left is a limit of ours.
                tracing::error!(error, "the key exchange does not take the configuration");
                self.problems.insert(Area::Exchange, error);
            }
        }
        self.ike_tunnels = self
            .config
            .tunnels
            .iter()
            .enumerate()
            .filter(|(_, t)| t.ike().is_some())
            .filter_map(|(at, t)| Some((self.ids.tunnel(&t.name)?, at)))
            .collect();
        let tunnels = self.ike_tunnels.keys().copied().collect();
        self.kept.retain(&tunnels);
        self.reserve_spis();
        self.exchange().await;
    }

    fn reserve_spis(&mut self) {
        let by_hand = self.config.tunnels.iter().filter_map(Tunnel::manual);
        let mut spis = self.kept.spis();
        spis.extend(by_hand.map(|m| m.inbound.spi));
        self.ike.reserve(spis);
    }

    /// Messages have come.
    pub(super) async fn datagrams(&mut self, datagrams: &[Datagram]) {
        self.ike.handle(datagrams);
        self.exchange().await;
    }

    /// A timer of the key exchange is due.
    pub(super) async fn exchange_due(&mut self) {
        self.ike.due();
        self.exchange().await;
    }

    /// Puts in force what the key exchange wants, then sends what it has to say.
    pub(super) async fn exchange(&mut self) {
        loop {
            let wanted = self.ike.wanted();
            if wanted.is_empty() {
                break;
            }
            self.fulfil(wanted).await;
        }
        self.ike.send().await;
    }

    async fn fulfil(&mut self, wanted: Wanted) {
        let moved = self.peers_are(wanted.peers);
        for change in &wanted.sas {
            if let SaChange::SetOutbound(sa) = change {
                self.kept.replaced(sa.tunnel);
            }
        }
        let plain = !moved
            && self
                .installed
                .as_ref()
                .is_some_and(|i| Arc::ptr_eq(&i.sas, &self.sas))
            && wanted.sas.iter().all(|c| self.is_plain(c));
        if plain {
            self.change_sas(wanted.sas).await;
            return;
        }
        if moved {
            self.look_up_new_paths().await;
        }
        let sas = Arc::make_mut(&mut self.sas);
        for change in wanted.sas {
            change.apply(sas);
        }
        if self.dataplane.is_some()
            && let Err(error) = self.install(true).await
        {
            self.refused_or_lost(&error);
        }
    }

    /// Whether nothing but SAs changes.
    fn is_plain(&self, change: &SaChange) -> bool {
        let placed = |id: TunnelId| {
            let installed = self.installed.as_ref();
            installed.is_some_and(|i| i.tunnels.contains_key(&id))
        };
        !change.moves_flows(&self.sas) && change.wants().is_none_or(placed)
    }

    /// The short way of a rekey: a few updates, without computing the tables anew.
    async fn change_sas(&mut self, changes: Vec<SaChange>) {
        let (Some(dataplane), Some(installed)) = (&mut self.dataplane, &mut self.installed) else {
            return;
        };
        // Alone, the set is changed in place instead of copied.
        let before = std::mem::replace(&mut installed.sas, Arc::new(SaSet::default()));
        drop(before);
        let sas = Arc::make_mut(&mut self.sas);
        let updates: Vec<Update> = changes.into_iter().filter_map(|c| c.apply(sas)).collect();
        installed.sas = Arc::clone(&self.sas);
        if updates.is_empty() {
            return;
        }
        let begun = Instant::now();
        let count = updates.len();
        if let Err(error) = dataplane.link.apply(updates).await {
            // Unknown is what the tables are not; what they are is installed from the beginning.
            self.installed = None;
            self.refused_or_lost(&error);
            return;
        }
        tracing::debug!(
            updates = count,
            micros = begun.elapsed().as_micros() as u64,
            "SAs changed"
        );
    }

    /// Notes where peers are. Says whether a tunnel must be placed anew.
    fn peers_are(&mut self, peers: std::collections::BTreeMap<TunnelId, PeerPath>) -> bool {
        let mut moved = false;
        for (id, peer) in peers {
            let Some(tunnel) = self
                .ike_tunnels
                .get(&id)
                .map(|at| &self.config.tunnels[*at])
            else {
                continue;
            };
            if PeerPath::of(tunnel, self.peers.get(&id)) != peer {
                tracing::info!(
                    tunnel = tunnel.name,
                    remote = %peer.remote,
                    encapsulation = ?peer.encapsulation,
                    "where the peer is"
                );
                self.peers.insert(id, peer);
                self.peers_unsaved = true;
                moved = true;
            }
        }
        moved
    }

    /// After a failed transaction.
    fn refused_or_lost(&mut self, error: &LinkError) {
        if error.is_refusal() {
            tracing::error!(%error, "new SAs are refused");
            self.converge_soon(Changes::ALL);
        } else {
            tracing::warn!(%error, "SAs could not be installed");
            self.installed = None;
        }
    }

    /// Addresses of ours may have come or gone: key exchanges with MOBIKE go on from where the host
    /// is now, and from where the configuration says once that is there again.
    pub(super) async fn follow_addresses(&mut self) {
        let ours = self.kernel.mirror().all_addresses();
        let mut moves = Vec::new();
        for (id, at) in &self.ike_tunnels {
            let tunnel = &self.config.tunnels[*at];
            if !tunnel.ike().is_some_and(|ike| ike.mobike) {
                continue;
            }
            let configured = tunnel.local.value;
            let now = self.ike.moved(*id);
            if ours.contains(&configured) {
                moves.extend(now.map(|_| (*id, configured, None)));
                continue;
            }
            let remote = PeerPath::of(tunnel, self.peers.get(id)).remote;
            let stays = now.is_some_and(|now| ours.contains(&now));
            // Before there is an SA, the configured address may only be late.
            let may_move = now.is_some() || self.ike.is_established(*id);
            if stays || !may_move || remote.is_unspecified() {
                continue;
            }
            let Some((ifindex, source)) = self.kernel.source_to(remote).await else {
                continue;
            };
            let ports = self.dataplane.as_ref().map(|d| &d.ports);
            let outside = ports
                .and_then(|ports| ports.at(ifindex))
                .is_some_and(|port| port.role != Role::Inside);
            if outside && now != Some(source) {
                moves.push((*id, configured, Some(source)));
            }
        }
        if moves.is_empty() {
            return;
        }
        for (id, configured, other) in &moves {
            let local = other.unwrap_or(*configured);
            tracing::info!(tunnel = self.tunnel_name(*id), %local, "our outside address changed");
        }
        self.ike.move_to(&self.config, moves);
        self.exchange().await;
    }

    /// A peer uses an SA that is not here: it may have missed our start.
    pub(super) async fn unknown_spi(&mut self, spi: Spi, source: IpAddr) {
        let tunnels = self.ike_tunnels.iter();
        let peer = tunnels
            .map(|(id, at)| PeerPath::of(&self.config.tunnels[*at], self.peers.get(id)))
            .find(|peer| peer.remote == source);
        if let Some(peer) = peer {
            self.ike.unknown_spi(spi, peer.local, source);
            self.exchange().await;
        }
    }

    /// Every second.
    pub(super) async fn look_after_exchange(&mut self) {
        self.drop_kept().await;
        self.ike.listen_again(&self.config);
        match self.ike.problem() {
            Some(problem) => drop(self.problems.insert(Area::Exchange, problem)),
            None => drop(self.problems.remove(&Area::Exchange)),
        }
        if std::mem::take(&mut self.peers_unsaved) {
            let path = super::peers_path(&self.config);
            if let Err(error) = peers::save(&self.peers, &path) {
                tracing::warn!(path = %path.display(), %error, "peers' addresses cannot be kept");
            }
        }
    }

    /// What the counters mean for key exchanges.
    pub(super) async fn count_for_exchange(&mut self) {
        if self.ike_tunnels.is_empty() {
            return;
        }
        let (tunnels, config) = (&self.ike_tunnels, &self.config);
        let limits = |id: TunnelId| {
            let ike = config.tunnels[*tunnels.get(&id)?].ike()?;
            Some(&ike.lifetimes)
        };
        if let Some(span) = self.history.span() {
            self.ike.counted(&span.new.stats, limits);
        }
        self.exchange().await;
    }

    /// Notes the SAs that a data plane has from the control before us.
    pub(super) async fn find_kept(&mut self) {
        let Some(dataplane) = &mut self.dataplane else {
            return;
        };
        let Ok(stats) = dataplane.link.stats().await else {
            return;
        };
        let lifetime = |id: TunnelId| {
            let names = self.ids.tunnel_names();
            let tunnel = self
                .config
                .tunnels
                .iter()
                .find(|t| names.get(&id) == Some(&t.name.as_str()))?;
            Some(Duration::from_secs(tunnel.ike()?.lifetimes.phase2.into()))
        };
        self.kept = Kept::found(&stats, lifetime);
        if !self.kept.is_empty() {
            tracing::info!(
                tunnels = self.kept.tunnels().len(),
                "packets flow on over the SAs of the control before us, until there are new ones"
            );
        }
    }

    /// Removes old SAs whose time is over.
    pub(super) async fn drop_kept(&mut self) {
        if self.kept.is_empty() {
            return;
        }
        let (outbound, inbound) = self.kept.expired();
        if outbound.is_empty() && inbound.is_empty() {
            return;
        }
        let updates = outbound
            .into_iter()
            .map(Update::RemoveOutboundSa)
            .chain(inbound.into_iter().map(Update::RemoveInboundSa))
            .collect();
        if let Some(dataplane) = &mut self.dataplane
            && let Err(error) = dataplane.link.apply(updates).await
        {
            self.refused_or_lost(&error);
        }
        self.reserve_spis();
        // Tunnels that sent with what is gone do so no longer.
        self.converge_soon(Changes::default());
    }

    /// Tells the peers that we end, and waits a little for their answers.
    pub(super) async fn say_good_bye(&mut self) {
        self.ike.shut_down();
        self.exchange().await;
        let answers = async {
            while !self.ike.is_idle() {
                let due = self.ike.due_at();
                let datagrams = tokio::select! {
                    datagrams = self.ike.receive() => datagrams,
                    () = super::due(due) => {
                        self.ike.due();
                        Vec::new()
                    }
                };
                self.ike.handle(&datagrams);
                self.exchange().await;
            }
        };
        if timeout(GOOD_BYE, answers).await.is_err() {
            tracing::info!("not every peer has answered our good-bye");
        }
    }
}
