//! The phases.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{
    Lab,
    sample::{Rates, Sample},
    summary::{PhaseSummary, WaySummary},
    table::View,
};
use crate::{
    interrupt,
    topology::{Family, SITE_INTERFACE},
    traffic::{
        Endpoints, flows,
        live::{LiveGenerator, LiveLoad},
    },
};

/// Over how many tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
    /// To the address that only the first tunnel leads to.
    OneTunnel,
    /// To the address that all tunnels lead to.
    AllTunnels,
}

/// What is offered above a ceiling: enough to see packets refused, little enough that they do not
/// cost the rest its time.
const ABOVE_CEILING: f64 = 1.2;
/// Of a ceiling, when nothing must be lost.
const BELOW_CEILING: f64 = 0.8;
/// Of what all tunnels carried together, when nothing must be lost: the machine, and not a ceiling,
/// may have been the limit there, and it is shared.
const MODEST: f64 = 0.4;
/// Bytes that ESP tunnel mode adds at most with AES-GCM over IPv4: outer header 20, SPI and
/// sequence number 8, IV 8, padding 3, trailer 2, ICV 16.
const ESP_OVERHEAD: f64 = 57.0;
/// How long packets may be under way after the last was sent.
const DRAIN: Duration = Duration::from_millis(300);

/// More than the ceilings let through.
pub(super) fn overload(
    lab: &mut Lab,
    view: &mut View,
    spread: Spread,
    number: u32,
) -> Result<PhaseSummary> {
    let tunnels = match spread {
        Spread::OneTunnel => 1.0,
        Spread::AllTunnels => f64::from(lab.options.tunnels),
    };
    let outer = lab.options.sizes.mean() + ESP_OVERHEAD;
    let rate = lab
        .options
        .cap
        .packets(outer)
        .map_or(0, |one| (one * tunnels * ABOVE_CEILING) as u64);
    let name = match spread {
        Spread::OneTunnel => "one tunnel, more than it may carry",
        Spread::AllTunnels => "all tunnels, more than they may carry",
    };
    phase(lab, view, name, spread, number, rate)
}

/// Less than the ceilings let through: all of it must arrive, in order.
pub(super) fn below_ceiling(
    lab: &mut Lab,
    view: &mut View,
    spread: Spread,
    number: u32,
    before: &PhaseSummary,
) -> Result<PhaseSummary> {
    // Each way gets as much as the slower one reached.
    let ways = before.ways.iter();
    let reached = ways.map(|way| way.packets_per_second);
    let reached = reached.fold(f64::INFINITY, f64::min);
    let (name, rate) = match spread {
        Spread::OneTunnel => {
            let outer = lab.options.sizes.mean() + ESP_OVERHEAD;
            let ceiling = lab.options.cap.packets(outer).unwrap_or(reached);
            (
                "one tunnel, below its ceiling",
                (ceiling * BELOW_CEILING).min(reached * 0.9),
            )
        }
        Spread::AllTunnels => ("all tunnels, below their ceilings", reached * MODEST),
    };
    phase(lab, view, name, spread, number, (rate as u64).max(1))
}

fn phase(
    lab: &mut Lab,
    view: &mut View,
    name: &str,
    spread: Spread,
    number: u32,
    rate: u64,
) -> Result<PhaseSummary> {
    let count = lab.options.flows;
    let first = number * u32::from(count);
    let to = match spread {
        Spread::OneTunnel => Endpoints::Single,
        Spread::AllTunnels => Endpoints::Spread,
    };
    let range = (first, u32::from(count));
    view.start_phase(name, lab.options.seconds)?;
    let mut generators = Vec::new();
    for (sink, &sender) in lab.sinks.iter_mut().zip(lab.options.direction.senders()) {
        sink.reset_latency()?;
        let load = LiveLoad {
            flows: flows(sender, Family::V4, to, first as u16, count),
            sizes: lab.options.sizes.clone(),
            packets_per_second: rate,
            core: Some(lab.options.placement.generator(sender).into()),
            background: true,
        };
        let site = lab.topology.site(sender);
        generators.push(LiveGenerator::start(site, SITE_INTERFACE, &load)?);
    }
    // The first second fills queues and caches.
    interrupt::sleep(Duration::from_secs(1))?;
    let began = Sample::take(lab, range)?;
    let offered_before = (counts(&generators)?, Instant::now());
    let mut last = began.clone();
    for second in 1..lab.options.seconds {
        let due = began.at + Duration::from_secs(second.into());
        interrupt::sleep(due.saturating_duration_since(Instant::now()))?;
        let sample = Sample::take(lab, range)?;
        view.show(
            second,
            &Rates::between(&last, &sample, lab.options.cap),
            lab.options.cap,
        )?;
        last = sample;
    }
    let offered_after = counts(&generators)?;
    let seconds = offered_before.1.elapsed().as_secs_f64();
    let sent: Vec<_> = generators
        .into_iter()
        .map(LiveGenerator::finish)
        .collect::<Result<_>>()?;
    interrupt::sleep(DRAIN)?;
    let rates = Rates::between(&began, &last, lab.options.cap);
    let mut ways = Vec::new();
    for (n, &sender) in lab.options.direction.senders().iter().enumerate() {
        let offered = (offered_after[n] - offered_before.0[n]) as f64 / seconds;
        let report = lab.sinks[n].report(&sent[n])?;
        ways.push(WaySummary::new(sender, offered, rates.ways[n], report));
    }
    let summary = PhaseSummary::new(name, rates, ways).with_cap(lab.options.cap);
    view.end_phase(&summary)?;
    Ok(summary)
}

fn counts(generators: &[LiveGenerator]) -> Result<Vec<u64>> {
    generators.iter().map(LiveGenerator::sent_packets).collect()
}
