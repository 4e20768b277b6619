//! Counters in, status out.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    sync::Arc,
};

use hawser_api::{Drops, OutboundSaStats, PortMode, Role, TunnelId};

use super::{Area, Daemon};
use crate::{
    config,
    desired::Hindrance,
    netlink::Mirror,
    status::{
        DataplaneStatus, GatewayStatus, IkeStatus, InboundStatus, OutboundStatus, PortStatus, Span,
        Status, TimeShares, Traffic, TunnelStatus, WorkerStatus, drops_by_name, spi_text,
    },
};

impl Daemon {
    pub(super) async fn read_stats(&mut self) {
        let Some(dataplane) = &mut self.dataplane else {
            return;
        };
        match dataplane.link.stats().await {
            Ok(stats) => self.history.push(stats),
            Err(error) if error.is_refusal() => {
                tracing::debug!(%error, "the data plane gives no counters");
            }
            Err(error) => self.dataplane_lost(&error).await,
        }
    }

    /// Makes the state of everything readable.
    pub(super) fn publish(&mut self) {
        let span = self.history.span();
        let receiving: HashSet<TunnelId> = self
            .installed
            .iter()
            .flat_map(|d| d.sas.inbound.values().map(|sa| sa.tunnel))
            .collect();
        let exchanges = self.ike.tunnels();
        let tunnels: Vec<TunnelStatus> = self
            .config
            .tunnels
            .iter()
            .filter_map(|t| self.tunnel_status(t, span, &receiving, &exchanges))
            .collect();
        let workers = span.map_or_else(Vec::new, workers);
        let mut total = Traffic::default();
        let mut all_drops = Drops::default();
        for tunnel in &tunnels {
            total.add(&tunnel.traffic);
        }
        if let Some(span) = span {
            for tunnel in &span.new.stats.tunnels {
                all_drops.merge(&tunnel.drops);
            }
            for worker in &span.new.stats.workers {
                all_drops.merge(&worker.drops);
            }
        }
        let status = Status {
            gateway: self.gateway_status(),
            dataplane: self.dataplane_status(span),
            workers,
            ports: self.port_status(span),
            tunnels,
            ike: (!exchanges.is_empty()).then(|| self.ike.totals(&exchanges)),
            total,
            drops: drops_by_name(&all_drops),
            routes: self.route_counts(),
            neighbours: self.installed.as_ref().map_or(0, |d| d.neighbours.len()),
        };
        self.status.send_replace(Arc::new(status));
    }

    fn gateway_status(&self) -> GatewayStatus {
        GatewayStatus {
            name: self.config.gateway.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            config: self.options.config.display().to_string(),
            uptime_seconds: self.started.elapsed().as_secs(),
            reloads: self.reloads,
            problem: (!self.problems.is_empty()).then(|| {
                self.problems
                    .values()
                    .cloned()
                    .collect::<Vec<_>>()
                    .join("; ")
            }),
        }
    }

    fn dataplane_status(&self, span: Option<Span<'_>>) -> DataplaneStatus {
        let state = match &self.dataplane {
            Some(_) if self.installed.is_some() => "running",
            Some(_) if self.problems.contains_key(&Area::Tables) => "refused",
            Some(_) => "starting",
            None if self.start_at.is_some() => "down",
            None if self.problems.contains_key(&Area::Interfaces) => "waiting",
            None => "starting",
        };
        let dataplane = self.dataplane.as_ref();
        let report = dataplane.and_then(|d| d.report.as_ref());
        DataplaneStatus {
            state: state.into(),
            pid: dataplane.map(|d| d.pid),
            uptime_seconds: dataplane.map_or(0, |d| d.since.elapsed().as_secs()),
            taken_over: dataplane.is_some_and(|d| d.taken_over),
            restarts: self.restarts,
            last_restart: self.last_restart.clone(),
            aead: report.map(|r| r.aead.clone()),
            setup_micros: report.map(|r| r.micros),
            generation: span.map_or(0, |s| s.new.stats.generation),
            memory_bytes: span.map_or(0, |s| s.new.stats.memory_bytes),
        }
    }

    fn port_status(&self, span: Option<Span<'_>>) -> Vec<PortStatus> {
        let mirror = self.kernel.mirror();
        self.config
            .interfaces
            .iter()
            .map(|interface| self.one_port(interface, mirror, span))
            .collect()
    }

    fn one_port(
        &self,
        interface: &config::Interface,
        mirror: &Mirror,
        span: Option<Span<'_>>,
    ) -> PortStatus {
        let name = &interface.name.value;
        let link = mirror.link(name);
        let served = self.dataplane.as_ref().and_then(|d| d.ports.named(name));
        let state = match (link, served) {
            (None, _) => "gone",
            (Some(link), Some(_)) if link.up => "up",
            (Some(link), _) if !link.up => "down",
            _ => "not served",
        };
        let note = match (link, served) {
            (Some(link), Some(port)) if link.mtu > port.mtu => Some(format!(
                "its MTU grew from {} to {}: restart the data plane to use it (`hawser reload \
                 --restart-dataplane`)",
                port.mtu, link.mtu
            )),
            (None, _) => Some("the data plane is restarted with it when it is back".into()),
            _ => None,
        };
        let mut status = PortStatus {
            interface: name.clone(),
            role: role(interface.role).into(),
            state: state.into(),
            note,
            ..PortStatus::default()
        };
        let reports = self.dataplane.as_ref().and_then(|d| d.report.as_ref());
        if let Some(report) = reports.and_then(|r| r.ports.iter().find(|p| p.interface == *name)) {
            let mode = match report.mode {
                PortMode::ZeroCopy => "zero_copy",
                PortMode::Copy => "copy",
            };
            status.mode = Some(mode.into());
            status.native_xdp = report.native_xdp;
            status.multi_buffer = report.multi_buffer;
            status.queues = report.queues;
        }
        let (Some(span), Some(port)) = (span, served) else {
            return status;
        };
        let of = |stats: &hawser_api::Stats| stats.ports.iter().find(|p| p.id == port.id).cloned();
        let Some(new) = of(&span.new.stats) else {
            return status;
        };
        let old = of(&span.old.stats).unwrap_or_else(|| new.clone());
        status.received_per_second = span.rate(old.received, new.received);
        status.sent_per_second = span.rate(old.sent, new.sent);
        status.received_bits_per_second = span.rate(old.received_bytes * 8, new.received_bytes * 8);
        status.sent_bits_per_second = span.rate(old.sent_bytes * 8, new.sent_bytes * 8);
        status.received = new.received;
        status.sent = new.sent;
        status.ring_full = new.ring_full;
        status.fill_empty = new.fill_empty;
        status.kernel_dropped = new.kernel_dropped;
        status
    }

    /// Where a tunnel's peer is, for one that may call from anywhere as far as that is known.
    fn remote(&self, id: TunnelId, tunnel: &config::Tunnel, ike: Option<&IkeStatus>) -> String {
        if !tunnel.any_remote() {
            return tunnel.remote.value.to_string();
        }
        let of_exchange = ike.and_then(|ike| ike.remote.as_ref()?.parse::<SocketAddr>().ok());
        // The SAs of the control before this one go where that one found the peer.
        let of_kept = || self.peers.get(&id).filter(|_| self.kept.sends(id));
        of_exchange
            .map(|remote| remote.ip())
            .or_else(|| Some(of_kept()?.remote))
            .map_or_else(|| "any".into(), |remote| remote.to_string())
    }

    fn tunnel_status(
        &self,
        tunnel: &config::Tunnel,
        span: Option<Span<'_>>,
        receiving: &HashSet<TunnelId>,
        exchanges: &BTreeMap<TunnelId, IkeStatus>,
    ) -> Option<TunnelStatus> {
        let id = self.ids.tunnel(&tunnel.name)?;
        let installed = self.installed.as_ref();
        let placed = installed.and_then(|d| d.tunnels.get(&id));
        let sa = installed.and_then(|d| d.sas.outbound.get(&id));
        let hindrance = self.hindrances.get(&id);
        let (state, reason) = match hindrance {
            _ if placed.is_none() || self.dataplane.is_none() => {
                ("down", Some("the data plane does not have it".to_owned()))
            }
            Some(Hindrance::NoExchange) => {
                let exchange = exchanges.get(&id);
                let error = exchange.and_then(|e| e.last_error.clone());
                let why = error.unwrap_or_else(|| Hindrance::NoExchange.to_string());
                (Hindrance::NoExchange.word(), Some(why))
            }
            Some(hindrance) => (hindrance.word(), Some(hindrance.to_string())),
            None if self.kept.sends(id) => (
                "up",
                Some("with the SAs of the control before this one".into()),
            ),
            None if sa.is_none() || !receiving.contains(&id) => {
                ("no SA", Some("no keys are installed".into()))
            }
            None => ("up", None),
        };
        let traffic = span.map_or_else(Traffic::default, |s| s.traffic(id));
        let stats = span.and_then(|s| s.new.tunnel(id));
        let port = placed.and_then(|t| self.dataplane.as_ref()?.ports.get(t.port));
        Some(TunnelStatus {
            name: tunnel.name.clone(),
            connection: tunnel.connection.clone(),
            id: id.0,
            local: tunnel.local.value,
            remote: self.remote(id, tunnel, exchanges.get(&id)),
            state: state.into(),
            reason,
            interface: port.map(|p| p.name.clone()),
            next_hop: placed.map(|t| t.next_hop),
            suite: sa.map(|sa| sa.suite.to_string()),
            inside_mtu: stats.map_or(0, |s| s.inside_mtu),
            owner: stats.and_then(|s| s.owner).map(|w| w.0),
            idle_millis: stats.and_then(|s| s.idle_millis),
            traffic,
            ceiling: tunnel.ceiling,
            ceiling_used: traffic.share_of(&tunnel.ceiling),
            outbound: stats
                .and_then(|s| s.outbound.as_ref())
                .map(|out| outbound(out, sa.is_some_and(|sa| sa.esn))),
            inbound: stats.map_or_else(Vec::new, |s| {
                s.inbound
                    .iter()
                    .map(|sa| InboundStatus {
                        spi: spi_text(sa.spi),
                        highest_sequence: sa.highest_sequence,
                    })
                    .collect()
            }),
            drops: stats.map_or_else(BTreeMap::new, |s| drops_by_name(&s.drops)),
            warning: self.tunnel_warnings.get(&id).cloned(),
            ike: exchanges.get(&id).cloned(),
        })
    }

    fn route_counts(&self) -> BTreeMap<String, usize> {
        let Some(installed) = &self.installed else {
            return BTreeMap::new();
        };
        self.config
            .table_names()
            .into_iter()
            .filter_map(|name| {
                let routes = installed.routes.get(&self.ids.table(name)?)?;
                Some((name.to_owned(), routes.len()))
            })
            .collect()
    }
}

fn outbound(sa: &OutboundSaStats, esn: bool) -> OutboundStatus {
    // Sequence number 0 is never sent, so there is one less than the numbers have values.
    let last = if esn { u64::MAX } else { u32::MAX.into() };
    OutboundStatus {
        spi: spi_text(sa.spi),
        next_sequence: sa.next_sequence,
        sequence_used: sa.next_sequence.saturating_sub(1) as f64 / last as f64,
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Inside => "inside",
        Role::Outside => "outside",
        Role::Both => "both",
    }
}

fn workers(span: Span<'_>) -> Vec<WorkerStatus> {
    span.new
        .stats
        .workers
        .iter()
        .map(|new| {
            let old = span
                .old
                .stats
                .workers
                .iter()
                .find(|w| w.id == new.id)
                .unwrap_or(new);
            let packets = new.received.saturating_sub(old.received);
            let batches = new.batches.saturating_sub(old.batches);
            WorkerStatus {
                id: new.id.0,
                core: new.core,
                time: TimeShares::between(&old.times, &new.times),
                packets_per_second: span.rate(old.received, new.received),
                packets_per_batch: if batches == 0 {
                    0.0
                } else {
                    packets as f64 / batches as f64
                },
                received: new.received,
                sent: new.sent,
                handed_off: new.handed_off,
                to_host: new.to_host,
                from_host: new.from_host,
                icmp_sent: new.icmp_sent,
                free_frames: new.free_frames,
                drops: drops_by_name(&new.drops),
            }
        })
        .collect()
}
