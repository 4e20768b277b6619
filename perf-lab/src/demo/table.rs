//! The live table.

use std::{collections::BTreeMap, io::IsTerminal, time::Duration};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{
    sample::{Rates, TunnelRate},
    summary::{PhaseSummary, gigabits},
};
use crate::{output::say, policer::Cap};

/// Most tunnels that get a line of their own; the rest is in the total.
const MOST_LINES: usize = 32;

/// What the user watches: a table that redraws itself on a terminal, lines elsewhere.
pub(super) struct View {
    lines: Option<Lines>,
    tunnels: usize,
    phase: String,
    seconds: u16,
}

struct Lines {
    all: MultiProgress,
    title: ProgressBar,
    rows: Vec<ProgressBar>,
}

impl View {
    pub(super) fn new(plain: bool, tunnels: usize) -> Self {
        let lines = (!plain && std::io::stderr().is_terminal()).then(|| {
            let all = MultiProgress::new();
            let style =
                ProgressStyle::with_template("{msg}").unwrap_or(ProgressStyle::default_bar());
            let line = || all.add(ProgressBar::new(1).with_style(style.clone()));
            let title = line();
            // A heading, the tunnels, the total and the drops that belong to no tunnel.
            let rows = (0..tunnels.min(MOST_LINES) + 3).map(|_| line()).collect();
            Lines { title, rows, all }
        });
        Self {
            lines,
            tunnels,
            phase: String::new(),
            seconds: 0,
        }
    }

    /// Prints a line that stays.
    pub(super) fn say(&self, text: &str) -> Result<()> {
        match &self.lines {
            // Without a terminal there is nothing to draw around.
            Some(lines) => drop(lines.all.println(text)),
            None => say(text)?,
        }
        Ok(())
    }

    pub(super) fn start_phase(&mut self, name: &str, seconds: u16) -> Result<()> {
        name.clone_into(&mut self.phase);
        self.seconds = seconds;
        match &self.lines {
            Some(lines) => {
                lines.title.enable_steady_tick(Duration::from_millis(200));
                lines.title.set_message(format!("── {name}: starting"));
            }
            None => say(format_args!("── {name}"))?,
        }
        Ok(())
    }

    pub(super) fn show(&self, second: u16, rates: &Rates, cap: Cap) -> Result<()> {
        match &self.lines {
            Some(lines) => {
                lines.title.set_message(format!(
                    "── {}: second {second} of {}",
                    self.phase,
                    self.seconds - 1
                ));
                let text = table(rates, cap, self.tunnels.min(MOST_LINES));
                for (row, text) in lines.rows.iter().zip(text) {
                    row.set_message(text);
                }
            }
            None => say(format_args!("{second:>4} s  {}", one_line(rates)))?,
        }
        Ok(())
    }

    pub(super) fn end_phase(&self, summary: &PhaseSummary) -> Result<()> {
        if self.lines.is_none() {
            for row in table(&summary.rates, summary.cap(), self.tunnels.min(MOST_LINES)) {
                say(format_args!("  {row}"))?;
            }
        }
        self.say(&format!("   {}", summary.line()))
    }

    pub(super) fn finish(&self) {
        if let Some(lines) = &self.lines {
            for line in lines.rows.iter().chain([&lines.title]) {
                line.finish_and_clear();
            }
        }
    }
}

/// Heading, a row a tunnel, the total, drops without a tunnel.
fn table(rates: &Rates, cap: Cap, shown: usize) -> Vec<String> {
    let mut rows = vec![format!(
        "{:<8} {:<5} {:>10} {:>9}  {:<22} {}",
        "tunnel", "state", "Gbps", "kpps", "of its ceiling", "drops"
    )];
    for tunnel in rates.tunnels.iter().take(shown) {
        rows.push(row(&tunnel.name, tunnel, cap));
    }
    let arrived = TunnelRate {
        up: rates.tunnels.iter().all(|t| t.up),
        bits_per_second: rates.bits_per_second,
        packets_per_second: rates.packets_per_second,
        ..TunnelRate::default()
    };
    rows.push(row("arrived", &arrived, Cap::NONE));
    rows.push(format!("{:<8} {}", "other", drops_text(&rates.other_drops)));
    rows
}

fn row(name: &str, tunnel: &TunnelRate, cap: Cap) -> String {
    let share = if cap == Cap::NONE {
        String::new()
    } else {
        format!("{} {:>4.0} %", bar(tunnel.share), 100.0 * tunnel.share)
    };
    format!(
        "{name:<8} {:<5} {:>10.3} {:>9.1}  {share:<22} {}",
        if tunnel.up { "up" } else { "down" },
        gigabits(tunnel.bits_per_second),
        tunnel.packets_per_second / 1e3,
        drops_text(&tunnel.drops),
    )
}

/// Fifteen characters, full at 100 %.
fn bar(share: f64) -> String {
    const WIDTH: usize = 15;
    let full = ((share * WIDTH as f64).round() as usize).min(WIDTH);
    "█".repeat(full) + &"░".repeat(WIDTH - full)
}

fn drops_text(drops: &BTreeMap<String, u64>) -> String {
    if drops.is_empty() {
        return "–".into();
    }
    drops
        .iter()
        .map(|(reason, n)| format!("{reason} {n}"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn one_line(rates: &Rates) -> String {
    let tunnels: Vec<String> = rates
        .tunnels
        .iter()
        .map(|t| format!("{:.2}", gigabits(t.bits_per_second)))
        .collect();
    let dropped: u64 = rates.tunnels.iter().flat_map(|t| t.drops.values()).sum();
    let other: u64 = rates.other_drops.values().sum();
    format!(
        "arrived {:.3} Gbps {:.1} kpps | tunnels Gbps: {} | dropped in tunnels {dropped}, elsewhere {other}",
        gigabits(rates.bits_per_second),
        rates.packets_per_second / 1e3,
        tunnels.join(" "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fill_with_the_share() {
        assert_eq!(bar(0.0), "░".repeat(15));
        assert_eq!(bar(1.0), "█".repeat(15));
        assert_eq!(bar(7.0), "█".repeat(15));
        assert_eq!(bar(0.2).chars().filter(|&c| c == '█').count(), 3);
    }

    #[test]
    fn every_tunnel_has_a_row() {
        let tunnel = TunnelRate {
            name: "t".into(),
            up: true,
            bits_per_second: 1.25e9,
            packets_per_second: 1e5,
            share: 1.0,
            drops: BTreeMap::from([("over_bit_ceiling".into(), 7)]),
        };
        let rates = Rates {
            tunnels: vec![tunnel; 3],
            ..Rates::default()
        };
        let rows = table(&rates, Cap::AWS, 3);
        assert_eq!(rows.len(), 6);
        assert!(
            rows[1].contains("1.250") && rows[1].contains("100 %"),
            "{}",
            rows[1]
        );
        assert!(rows[1].contains("over_bit_ceiling 7"));
    }
}
