//! MOBIKE (RFC 4555): the IKE SA's initiator tells the peer that its address changed.
//!
//! We take the new path of a peer that says so in a protected message, and say so ourselves when
//! the driver tells us of another local address, or when the peer's answers to liveness checks show
//! that a NAT in front of us has another mapping. Messages go to the peer's new address at once; its
//! traffic follows when the peer has returned our COOKIE2 from there (section 3.7), so that nobody
//! has it sent to a host that never asked for it. Not done: lists of additional addresses, and
//! trying them when the path is dead.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use hawser_ike_wire::{ExchangeType, Notify, NotifyType, Payload, Payloads};

use crate::{
    endpoint::Endpoint,
    event::Path,
    fault::{During, Fault},
    nat,
    sa::{
        IkeSa,
        pending::{AddressCheck, Pending, Task},
    },
};

/// Octets of our COOKIE2: from 8 to 64 are allowed (RFC 4555, section 4.2.5).
const COOKIE: usize = 16;

impl Endpoint {
    /// Our address changes.
    pub(crate) fn change_local(&mut self, now: Instant, sa: &mut IkeSa, local: IpAddr) {
        let moves = sa.is_established() && sa.began_first && sa.peer.mobike;
        if !moves || sa.path.local.ip() == local {
            return;
        }
        // RFC 4555, section 3.3: port 4500 from the first move on.
        let natt = self.settings.natt_port;
        let remote = match sa.path.remote.port() {
            port if port == self.settings.ike_port => SocketAddr::new(sa.path.remote.ip(), natt),
            _ => sa.path.remote,
        };
        let path = Path {
            local: SocketAddr::new(local, natt),
            remote,
        };
        self.move_path(now, sa, path);
        sa.want(Task::MoveAddress);
    }

    pub(crate) fn begin_move_address(&mut self, now: Instant, sa: &mut IkeSa) {
        let mut payloads = vec![Payload::Notify(Notify::new(NotifyType::UpdateSaAddresses))];
        payloads.extend(natd_of(sa, &sa.path).map(Payload::Notify));
        self.send_request(
            now,
            sa,
            ExchangeType::Informational,
            payloads,
            Pending::MoveAddress,
        );
    }

    /// What a liveness check says besides: with it the peer's answer tells how it sees our address
    /// (RFC 4555, section 3.8). Only who began the first SA
    /// could do something about it.
    pub(crate) fn liveness_payloads(&self, sa: &IkeSa) -> Vec<Payload> {
        let asks = sa.began_first && sa.peer.mobike && sa.nat.local;
        if !asks {
            return Vec::new();
        }
        natd_of(sa, &sa.path).map(Payload::Notify).to_vec()
    }

    /// The peer lives. If it sees us elsewhere than before, the NAT in front of us was restarted or
    /// was silent for too long, and the peer still sends to a mapping that is gone. The first answer
    /// on an SA has nothing to be compared with: the peer is told once too often rather than never.
    pub(crate) fn on_liveness_response(&mut self, sa: &mut IkeSa, payloads: &Payloads) {
        let Some(seen) = payloads.notify(NotifyType::NatDetectionDestinationIp) else {
            return;
        };
        if self.liveness_payloads(sa).is_empty() || sa.seen_as.as_ref() == Some(&seen.data) {
            return;
        }
        if sa.seen_as.is_some() {
            self.log(
                sa.connection,
                "the NAT in front of us has another mapping: peer is told".into(),
            );
        }
        sa.want(Task::MoveAddress);
    }

    /// The peer's answer to our move: what NAT there is on the new path.
    pub(crate) fn on_address_response(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        payloads: &Payloads,
    ) {
        let path = sa.path;
        sa.seen_as = payloads
            .notify(NotifyType::NatDetectionDestinationIp)
            .map(|seen| seen.data.clone());
        self.detect_again(now, sa, path, payloads);
    }

    /// UPDATE_SA_ADDRESSES and COOKIE2 of the peer.
    pub(crate) fn on_mobike_request(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        path: Path,
        payloads: &Payloads,
    ) -> Vec<Payload> {
        if !sa.peer.mobike {
            return Vec::new();
        }
        let mut answer = Vec::new();
        if let Some(cookie) = payloads.notify(NotifyType::Cookie2) {
            answer.push(Payload::Notify(Notify::with_data(
                NotifyType::Cookie2,
                cookie.data.clone(),
            )));
        }
        // Only the first SA's initiator may move it (RFC 4555, section 3.5).
        let moves = payloads.notify(NotifyType::UpdateSaAddresses).is_some() && !sa.began_first;
        if moves {
            if sa.path != path {
                if sa.path.remote.ip() != path.remote.ip() {
                    sa.unchecked = true;
                    sa.want(Task::CheckAddress);
                }
                self.move_path(now, sa, path);
            }
            self.detect_again(now, sa, path, payloads);
        }
        if payloads.notify(NotifyType::NatDetectionSourceIp).is_some() {
            answer.extend(natd_of(sa, &path).map(Payload::Notify));
        }
        answer
    }

    /// Asks the peer for what only somebody at its new address can know.
    pub(crate) fn begin_check_address(&mut self, now: Instant, sa: &mut IkeSa) {
        let mut cookie = vec![0; COOKIE];
        self.random.fill(&mut cookie);
        let notify = Notify::with_data(NotifyType::Cookie2, cookie.clone());
        let check = AddressCheck {
            cookie,
            path: sa.path,
        };
        self.send_request(
            now,
            sa,
            ExchangeType::Informational,
            vec![Payload::Notify(notify)],
            Pending::CheckAddress(Box::new(check)),
        );
    }

    /// The peer's answer to our COOKIE2.
    pub(crate) fn on_address_checked(
        &mut self,
        sa: &mut IkeSa,
        check: &AddressCheck,
        payloads: &Payloads,
    ) {
        let returned = payloads.notify(NotifyType::Cookie2);
        if returned.is_none_or(|c| c.data != check.cookie) {
            // RFC 4555, section 3.7: then the IKE SA must be closed.
            let during = During::Informational;
            let what = "peer does not return our cookie from its new address";
            self.fail(sa.connection, &Fault::Broken { during, what });
            sa.want(Task::CloseIke);
            return;
        }
        if check.path != sa.path {
            // It moved again meanwhile; the next check is in line.
            return;
        }
        sa.unchecked = false;
        self.log(
            sa.connection,
            format!("peer receives at {}: traffic goes there", sa.path.remote),
        );
        if !sa.children.is_empty() {
            self.report_path(sa);
        }
    }

    fn detect_again(&mut self, now: Instant, sa: &mut IkeSa, path: Path, payloads: &Payloads) {
        let forced = sa.nat.forced;
        let found = nat::detect(sa.initiator_spi, sa.responder_spi, &path, payloads, forced);
        if !found.supported {
            return;
        }
        sa.nat = found;
        if !sa.children.is_empty() {
            self.report_path(sa);
        }
        self.spoke(now, sa);
    }
}

/// How we see both addresses on this path.
fn natd_of(sa: &IkeSa, path: &Path) -> [Notify; 2] {
    nat::notifies(sa.initiator_spi, sa.responder_spi, path, sa.nat.forced)
}
