//! `hawser status`: tables for people, JSON for programs.

use std::{io::IsTerminal, thread::sleep, time::Duration};

use clap::Args;

use super::{FAILED, OK, ask::Target, ask::explain_failure, complain, output::print_to_reader};
use crate::{
    control_socket::{Answer, Ask},
    status::{PortStatus, Status, TunnelStatus, WorkerStatus},
};

/// More tunnels than this are shown only when they are not well, or with `--all`.
const TUNNELS_SHOWN: usize = 50;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Print everything as JSON (with --watch one line a second)
    #[arg(long)]
    json: bool,
    /// Show it again every second, until ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// Show every tunnel, also when there are many
    #[arg(long)]
    all: bool,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    loop {
        let status = match arguments.target.ask(Ask::Status) {
            Ok(Answer::Status(status)) => status,
            Ok(other) => {
                explain_failure(&other);
                return FAILED;
            }
            Err(code) => return code,
        };
        let text = if arguments.json {
            let json = if arguments.watch {
                serde_json::to_string(&status)
            } else {
                serde_json::to_string_pretty(&status)
            };
            match json {
                Ok(json) => json + "\n",
                Err(error) => {
                    complain(format_args!("hawser: {error}"));
                    return FAILED;
                }
            }
        } else {
            render(&status, arguments.all)
        };
        let redrawn = arguments.watch && !arguments.json && std::io::stdout().is_terminal();
        let read = if redrawn {
            // Home, then the text, then whatever is left of the screen before: no flicker.
            let lines = text.replace('\n', "\x1b[K\n");
            print_to_reader(&format!("\x1b[H{lines}\x1b[J"))
        } else {
            print_to_reader(&text)
        };
        if !arguments.watch || !read {
            return OK;
        }
        sleep(Duration::from_secs(1));
    }
}

/// All tables.
fn render(status: &Status, all: bool) -> String {
    let mut text = head(status);
    text += &workers(&status.workers);
    text += &ports(&status.ports);
    text += &tunnels(status, all);
    text += &exchanges(status, all);
    text += &security_associations(status, all);
    text += &drops(status);
    text
}

fn head(status: &Status) -> String {
    let (gateway, dataplane) = (&status.gateway, &status.dataplane);
    let mut text = format!(
        "gateway {}  hawser {}  pid {}  up {}  configuration {}\n",
        gateway.name,
        gateway.version,
        gateway.pid,
        duration(gateway.uptime_seconds),
        gateway.config
    );
    text += &format!("data plane {}", dataplane.state);
    if let Some(pid) = dataplane.pid {
        text += &format!("  pid {pid}  up {}", duration(dataplane.uptime_seconds));
    }
    if let Some(aead) = &dataplane.aead {
        text += &format!("  AES-GCM {aead}");
    }
    if dataplane.memory_bytes > 0 {
        text += &format!("  memory {} MiB", dataplane.memory_bytes >> 20);
    }
    if dataplane.taken_over {
        text += "  taken over";
    }
    text += "\n";
    if dataplane.restarts > 0 {
        let why = dataplane.last_restart.as_deref().unwrap_or("?");
        text += &format!(
            "restarted {} times, the last time because {why}\n",
            dataplane.restarts
        );
    }
    if let Some(problem) = &gateway.problem {
        text += &format!("problem: {problem}\n");
    }
    text
}

fn workers(workers: &[WorkerStatus]) -> String {
    if workers.is_empty() {
        return String::new();
    }
    let percent = |share: f64| format!("{:.0}%", share * 100.0);
    let rows = workers.iter().map(|w| {
        vec![
            w.id.to_string(),
            w.core.map_or("-".into(), |c| c.to_string()),
            percent(w.time.busy),
            percent(w.time.backpressure),
            percent(w.time.idle),
            percent(w.time.asleep),
            percent(w.time.housekeeping),
            si(w.packets_per_second),
            format!("{:.1}", w.packets_per_batch),
            w.free_frames.to_string(),
        ]
    });
    let head = [
        "worker", "core", "busy", "waiting", "idle", "asleep", "keeping", "pps", "batch", "frames",
    ];
    format!("\n{}", table(&head, rows, &[]))
}

fn ports(ports: &[PortStatus]) -> String {
    let rows = ports.iter().map(|p| {
        let mode = match (p.mode.as_deref(), p.native_xdp) {
            (Some(mode), true) => mode.replace('_', " "),
            (Some(mode), false) => format!("{}, generic XDP", mode.replace('_', " ")),
            (None, _) => "-".into(),
        };
        vec![
            p.interface.clone(),
            p.role.clone(),
            p.state.clone(),
            mode,
            p.queues.to_string(),
            si(p.received_bits_per_second),
            si(p.received_per_second),
            si(p.sent_bits_per_second),
            si(p.sent_per_second),
            (p.ring_full + p.fill_empty + p.kernel_dropped).to_string(),
        ]
    });
    let head = [
        "interface",
        "role",
        "state",
        "mode",
        "queues",
        "in bit/s",
        "in pps",
        "out bit/s",
        "out pps",
        "lost",
    ];
    let mut text = format!("\n{}", table(&head, rows, &[0, 1, 2, 3]));
    for port in ports {
        if let Some(note) = &port.note {
            text += &format!("  {}: {note}\n", port.interface);
        }
    }
    text
}

/// The tunnels to show: all, or with too many of them those that are not well.
fn shown(status: &Status, all: bool) -> Vec<&TunnelStatus> {
    if status.tunnels.len() <= TUNNELS_SHOWN || all {
        return status.tunnels.iter().collect();
    }
    status
        .tunnels
        .iter()
        .filter(|t| t.state != "up")
        .take(TUNNELS_SHOWN)
        .collect()
}

fn tunnels(status: &Status, all: bool) -> String {
    let shown = shown(status, all);
    let mut rows: Vec<Vec<String>> = shown
        .iter()
        .map(|t| {
            let traffic = &t.traffic;
            vec![
                t.name.clone(),
                t.state.clone(),
                t.remote.clone(),
                t.inside_mtu.to_string(),
                t.owner.map_or("-".into(), |o| o.to_string()),
                si(traffic.out_bits_per_second),
                si(traffic.out_packets_per_second),
                t.ceiling_used
                    .map_or("-".into(), |used| format!("{:.0}%", used * 100.0)),
                si(traffic.in_bits_per_second),
                si(traffic.in_packets_per_second),
                traffic.dropped.to_string(),
            ]
        })
        .collect();
    let up = status.tunnels.iter().filter(|t| t.state == "up").count();
    let total = &status.total;
    rows.push(vec![
        "total".into(),
        format!("{up}/{} up", status.tunnels.len()),
        String::new(),
        String::new(),
        String::new(),
        si(total.out_bits_per_second),
        si(total.out_packets_per_second),
        String::new(),
        si(total.in_bits_per_second),
        si(total.in_packets_per_second),
        total.dropped.to_string(),
    ]);
    let head = [
        "tunnel",
        "state",
        "peer",
        "MTU",
        "worker",
        "out bit/s",
        "out pps",
        "of ceiling",
        "in bit/s",
        "in pps",
        "dropped",
    ];
    let mut text = format!("\n{}", table(&head, rows.into_iter(), &[0, 1, 2]));
    if shown.len() < status.tunnels.len() {
        text += &format!(
            "  {} tunnels are not shown here: add --all\n",
            status.tunnels.len() - shown.len()
        );
    }
    for tunnel in shown {
        for said in tunnel.reason.iter().chain(&tunnel.warning) {
            text += &format!("  {}: {said}\n", tunnel.name);
        }
    }
    text
}

/// Key exchanges: AWS's states, who the peer is, what was negotiated, when it is replaced.
fn exchanges(status: &Status, all: bool) -> String {
    let Some(ike) = &status.ike else {
        return String::new();
    };
    let rows = shown(status, all).into_iter().filter_map(|tunnel| {
        let ike = tunnel.ike.as_ref()?;
        let soonest = |child: Option<u64>| child.map_or("-".into(), duration);
        let text = |of: &Option<String>| of.clone().unwrap_or_else(|| "-".into());
        let active = ike.children.iter().find(|c| c.active);
        Some(vec![
            tunnel.name.clone(),
            ike.phase1.clone(),
            ike.phase2.clone(),
            text(&ike.peer),
            text(&ike.suite),
            active.map_or("-".into(), |c| c.suite.clone()),
            ike.nat.clone(),
            soonest(ike.rekey_in),
            soonest(active.and_then(|c| c.rekey_in)),
            ike.counts.get("child_rekeys").unwrap_or(&0).to_string(),
        ])
    });
    let head = [
        "IKE", "phase 1", "phase 2", "peer", "suite", "ESP", "NAT", "rekey in", "ESP in", "rekeys",
    ];
    let mut text = format!("\n{}", table(&head, rows, &[0, 1, 2, 3, 4, 5, 6]));
    text += &format!(
        "  {}/{} established, {} half-open\n",
        ike.established, ike.tunnels, ike.half_open
    );
    for tunnel in shown(status, all) {
        let error = tunnel.ike.as_ref().and_then(|i| i.last_error.as_ref());
        // A tunnel that is not up has said it as its reason.
        if let Some(error) = error
            && tunnel.reason.as_ref() != Some(error)
        {
            text += &format!("  {}: last error: {error}\n", tunnel.name);
        }
    }
    text
}

fn security_associations(status: &Status, all: bool) -> String {
    let mut rows = Vec::new();
    for tunnel in shown(status, all) {
        let suite = tunnel.suite.clone().unwrap_or_else(|| "-".into());
        if let Some(out) = &tunnel.outbound {
            rows.push(vec![
                tunnel.name.clone(),
                "out".into(),
                out.spi.clone(),
                suite.clone(),
                out.next_sequence.saturating_sub(1).to_string(),
                format!("{:.2}%", out.sequence_used * 100.0),
            ]);
        }
        for sa in &tunnel.inbound {
            rows.push(vec![
                tunnel.name.clone(),
                "in".into(),
                sa.spi.clone(),
                suite.clone(),
                sa.highest_sequence.to_string(),
                "-".into(),
            ]);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let head = ["SA", "way", "SPI", "suite", "sequence", "used"];
    format!("\n{}", table(&head, rows.into_iter(), &[0, 1, 2, 3]))
}

fn drops(status: &Status) -> String {
    let routes: Vec<String> = status
        .routes
        .iter()
        .map(|(name, n)| format!("{name} {n}"))
        .collect();
    let mut text = format!(
        "\nroutes: {}  neighbours: {}\n",
        routes.join(", "),
        status.neighbours
    );
    if status.drops.is_empty() {
        return text + "drops: none\n";
    }
    let rows = status.drops.iter().map(|(reason, n)| {
        let worst = status
            .tunnels
            .iter()
            .filter_map(|t| Some((t.drops.get(reason)?, &t.name)));
        let worst = worst
            .max()
            .map_or_else(String::new, |(n, name)| format!("{name} ({n})"));
        vec![reason.clone(), n.to_string(), worst]
    });
    text += &format!(
        "\n{}",
        table(&["drops", "packets", "most on"], rows, &[0, 2])
    );
    text + "  (`hawser explain REASON` says what a reason means)\n"
}

/// A table with columns as wide as needed; columns named in `left` are flush left.
fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>, left: &[usize]) -> String {
    let mut lines: Vec<Vec<String>> = vec![head.iter().map(ToString::to_string).collect()];
    lines.extend(rows);
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|l| l.get(column))
            .map(|c| c.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(i, (cell, &width))| {
                if left.contains(&i) {
                    format!("{cell:width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        text += cells.join("  ").trim_end();
        text += "\n";
    }
    text
}

/// A number with a decimal unit: 1234567 is `1.23M`.
fn si(n: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1_000_000_000_000, "T"),
        (1_000_000_000, "G"),
        (1_000_000, "M"),
        (1_000, "k"),
    ];
    for (size, unit) in UNITS {
        if n >= size {
            let value = n as f64 / size as f64;
            let digits = if value < 10.0 {
                2
            } else {
                usize::from(value < 100.0)
            };
            return format!("{value:.digits$}{unit}");
        }
    }
    n.to_string()
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, ..) => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_short() {
        let shown: Vec<String> = [0, 999, 1000, 12_345, 1_250_000_000, 999_999_999]
            .map(si)
            .to_vec();
        assert_eq!(shown, ["0", "999", "1.00k", "12.3k", "1.25G", "1000M"]);
        let shown: Vec<String> = [5, 65, 3_700, 90_000].map(duration).to_vec();
        assert_eq!(shown, ["5s", "1m05s", "1h01m", "1d01h"]);
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![
            vec!["a".to_owned(), "1".into()],
            vec!["long".to_owned(), "22".into()],
        ];
        assert_eq!(
            table(&["name", "n"], rows.into_iter(), &[0]),
            "name   n\na      1\nlong  22\n"
        );
    }

    #[test]
    fn an_empty_status_renders() {
        let text = render(&Status::default(), false);
        assert!(
            text.contains("drops: none") && text.contains("0/0 up"),
            "{text}"
        );
    }
}
