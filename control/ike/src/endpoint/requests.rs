//! Which exchange a verified message belongs to, and the tasks that begin exchanges.

use std::time::Instant;

use hawser_ike_wire::{Delete, ExchangeType, Header, Payload, Payloads};

use super::Endpoint;
use crate::{
    event::Path,
    fault::Fault,
    sa::{
        IkeSa, Phase,
        pending::{Pending, Task},
    },
    timer::{SaTimer, Timer},
};

impl Endpoint {
    /// A new request, verified.
    pub(crate) fn on_request(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        path: Path,
        header: &Header,
        digest: u64,
        payloads: &Payloads,
    ) {
        let ends = payloads.deletes().any(|d| matches!(d, Delete::IkeSa));
        if !ends {
            self.prove(now, sa);
            self.decide_for(now, sa);
        }
        let answer: Vec<Payload> = match (&sa.phase, header.exchange) {
            (Phase::AwaitAuth(_), ExchangeType::IkeAuth) => self.on_auth_request(now, sa, payloads),
            (Phase::Established(_), ExchangeType::CreateChildSa) => {
                self.on_create_child_request(now, sa, payloads)
            }
            (Phase::Replaced(_) | Phase::Closing(_), ExchangeType::CreateChildSa) => {
                // RFC 7296, section 2.25.2.
                fault_answer(&Fault::Temporary)
            }
            (
                Phase::Established(_) | Phase::Replaced(_) | Phase::Closing(_),
                ExchangeType::Informational,
            ) => self.on_informational_request(now, sa, path, payloads),
            _ => {
                // An exchange that has no place here: an answer would say more than silence.
                self.counters.out_of_window += 1;
                return;
            }
        };
        self.send_response(now, sa, path, header, digest, answer);
    }

    /// The answer to our request, verified.
    pub(crate) fn on_response(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        header: &Header,
        payloads: &Payloads,
    ) {
        let fits = sa
            .window
            .pending()
            .is_some_and(|p| exchange_of(p) == header.exchange);
        if !fits {
            self.counters.out_of_window += 1;
            return;
        }
        let Some(outstanding) = sa.window.outstanding.take() else {
            return;
        };
        sa.window.response_parts = None;
        self.timers.cancel(Timer::Sa(sa.id, SaTimer::Retransmit));
        self.prove(now, sa);
        if let Some(kind) = payloads.unsupported_critical() {
            self.on_unusable_response(now, sa, outstanding.pending, &Fault::Critical(kind));
            return;
        }
        match outstanding.pending {
            Pending::Init => {}
            Pending::Auth => self.on_auth_response(now, sa, payloads),
            Pending::Child(pending) => self.on_child_response(now, sa, *pending, payloads),
            Pending::Rekey(pending) => self.on_rekey_response(now, sa, *pending, payloads),
            Pending::CloseChild(spi) => self.on_child_closed(now, sa, spi),
            Pending::CloseIke => self.on_ike_closed(now, sa),
            Pending::Prove => {}
            Pending::Liveness => self.on_liveness_response(sa, payloads),
            Pending::MoveAddress => self.on_address_response(now, sa, payloads),
            Pending::CheckAddress(check) => self.on_address_checked(sa, &check, payloads),
        }
    }

    /// An answer that we must not use: as if the peer had refused.
    fn on_unusable_response(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        pending: Pending,
        fault: &Fault,
    ) {
        match pending {
            Pending::Init | Pending::Auth => self.attempt_failed(now, sa, fault, true),
            Pending::Child(p) => self.child_refused(now, sa, *p, fault, true),
            Pending::Rekey(p) => self.rekey_refused(now, sa, *p, fault, true),
            Pending::CloseChild(spi) => self.on_child_closed(now, sa, spi),
            Pending::CloseIke => self.on_ike_closed(now, sa),
            Pending::Liveness
            | Pending::Prove
            | Pending::MoveAddress
            | Pending::CheckAddress(_) => self.fail(sa.connection, fault),
        }
    }

    /// Begins the next task if the window is free.
    pub(crate) fn pump(&mut self, now: Instant, sa: &mut IkeSa) {
        loop {
            if !sa.window.is_free() {
                return;
            }
            let ready = match sa.phase {
                Phase::Established(_) => true,
                // Only its end is left to do.
                Phase::Closing(_) => {
                    sa.tasks.retain(|t| *t == Task::CloseIke);
                    true
                }
                _ => false,
            };
            if !ready {
                return;
            }
            let next = sa
                .tasks
                .iter()
                .enumerate()
                .min_by_key(|(i, t)| (t.rank(), *i))
                .map(|(i, _)| i);
            let Some(next) = next else {
                return;
            };
            let task = sa.tasks.remove(next);
            self.begin(now, sa, task);
        }
    }

    /// Begins one task; one that has become needless begins nothing.
    fn begin(&mut self, now: Instant, sa: &mut IkeSa, task: Task) {
        match task {
            Task::CloseIke => self.begin_close_ike(now, sa),
            Task::CloseChild(spi) => self.begin_close_child(now, sa, spi),
            Task::RekeyChild(spi) => self.begin_child_rekey(now, sa, spi),
            Task::RekeyIke => self.begin_ike_rekey(now, sa),
            Task::MakeChild(child) => self.begin_child(now, sa, child),
            Task::Liveness => self.begin_liveness(now, sa),
            Task::Prove => self.begin_prove(now, sa),
            Task::MoveAddress => self.begin_move_address(now, sa),
            Task::CheckAddress => self.begin_check_address(now, sa),
        }
    }
}

fn exchange_of(pending: &Pending) -> ExchangeType {
    match pending {
        Pending::Init => ExchangeType::IkeSaInit,
        Pending::Auth => ExchangeType::IkeAuth,
        Pending::Child(_) | Pending::Rekey(_) => ExchangeType::CreateChildSa,
        Pending::CloseChild(_)
        | Pending::CloseIke
        | Pending::Liveness
        | Pending::Prove
        | Pending::MoveAddress
        | Pending::CheckAddress(_) => ExchangeType::Informational,
    }
}

/// A fault as the only payload of an answer.
pub(crate) fn fault_answer(fault: &Fault) -> Vec<Payload> {
    fault.notify().map(Payload::Notify).into_iter().collect()
}
