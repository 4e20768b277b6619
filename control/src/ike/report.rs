//! The state of key exchanges for `hawser status`.

use std::{collections::BTreeMap, time::Instant};

use hawser_api::TunnelId;
use hawser_ike::{ChildStatus, ConnectionStatus, NatStatus, Side, State};

use super::{Exchange, tunnel_of};
use crate::status::{ChildSaStatus, ExchangeStatus, IkeStatus};

impl Exchange {
    /// Every tunnel's.
    #[must_use]
    pub fn tunnels(&self) -> BTreeMap<TunnelId, IkeStatus> {
        self.endpoint
            .status(Instant::now())
            .into_iter()
            .map(|status| (tunnel_of(status.id), tunnel(status)))
            .collect()
    }

    /// All together.
    #[must_use]
    pub fn totals(&self, tunnels: &BTreeMap<TunnelId, IkeStatus>) -> ExchangeStatus {
        // A tunnel that is being rekeyed stands.
        let stands = |word: &String| {
            [State::Established, State::Rekeying]
                .iter()
                .any(|s| s.to_string() == *word)
        };
        let counters = self.endpoint.counters();
        ExchangeStatus {
            tunnels: tunnels.len(),
            established: tunnels
                .values()
                .filter(|t| stands(&t.phase1) && stands(&t.phase2))
                .count(),
            half_open: self.endpoint.half_open(),
            counts: named(&[
                ("received", counters.received),
                ("sent", counters.sent),
                ("malformed", counters.malformed),
                ("unknown_sa", counters.unknown_sa),
                ("not_authentic", counters.not_authentic),
                ("out_of_window", counters.out_of_window),
                ("repeated", counters.repeated),
                ("cookies_sent", counters.cookies_sent),
                ("cookies_bad", counters.cookies_bad),
                ("half_open_refused", counters.half_open_refused),
                ("no_connection", counters.no_connection),
                ("hints", counters.hints),
            ]),
        }
    }
}

fn named(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let said = counts.iter().filter(|(_, n)| *n > 0);
    said.map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

fn tunnel(status: ConnectionStatus) -> IkeStatus {
    let counters = &status.counters;
    IkeStatus {
        phase1: status.ike.to_string(),
        phase2: status.child.to_string(),
        suite: status.ike_suite,
        peer: status.peer_identity,
        nat: match status.nat {
            NatStatus::Unknown => "unknown",
            NatStatus::None => "none",
            NatStatus::Local => "local",
            NatStatus::Remote => "remote",
            NatStatus::Both => "both",
            NatStatus::Forced => "forced",
        }
        .into(),
        encapsulated: status.encapsulated,
        local: status.path.map(|p| p.local.to_string()),
        remote: status.path.map(|p| p.remote.to_string()),
        spis: status
            .spis
            .map(|(i, r)| (format!("{i:016x}"), format!("{r:016x}"))),
        initiator: status.initiator,
        established: status.established_for.map(|t| t.as_secs()),
        rekey_in: status.rekey_in.map(|t| t.as_secs()),
        expires_in: status.expires_in.map(|t| t.as_secs()),
        children: status.children.iter().map(child).collect(),
        last_error: status.last_error.as_ref().map(ToString::to_string),
        blame: status.last_error.map(|failure| {
            match failure.side {
                Side::Configuration => "configuration",
                Side::Peer => "peer",
                Side::Network => "network",
                Side::We => "we",
            }
            .into()
        }),
        counts: named(&[
            ("initiations", counters.initiations),
            ("established", counters.established),
            ("ike_rekeys", counters.ike_rekeys),
            ("child_rekeys", counters.child_rekeys),
            ("retransmits", counters.retransmits),
            ("dpd_sent", counters.dpd_sent),
            ("dpd_failed", counters.dpd_failed),
            ("failures", counters.failures),
        ]),
    }
}

fn child(child: &ChildStatus) -> ChildSaStatus {
    ChildSaStatus {
        inbound: child.inbound.to_string(),
        outbound: child.outbound.to_string(),
        active: child.active,
        suite: child.suite.to_string(),
        esn: child.esn,
        pfs: child.pfs.map(|group| group.to_string()),
        state: child.state.to_string(),
        rekey_in: child.rekey_in.map(|t| t.as_secs()),
        expires_in: child.expires_in.map(|t| t.as_secs()),
    }
}
