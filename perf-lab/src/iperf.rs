//! Real TCP between the sites, by iperf3.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::{
    interrupt,
    netns::Process,
    shell,
    topology::{Family, Side, Topology, host_address},
};

/// What iperf3 measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct IperfResult {
    /// TCP payload bits a second that the receiver got.
    pub bits_per_second: f64,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// Parallel connections.
    pub streams: u16,
    /// Largest segment of the first connection, bytes (`tcp_mss_default` of iperf3's report).
    pub mss: u64,
}

/// Port of the server.
const PORT: u16 = 5201;

/// TCP from one site to the other for some seconds over `streams` connections.
///
/// # Errors
/// When iperf3 is not there, cannot connect or reports an error.
pub fn run(
    topology: &Topology,
    from: Side,
    family: Family,
    streams: u16,
    seconds: u16,
    more: &[&str],
) -> Result<IperfResult> {
    let (client, server) = (topology.site(from), topology.site(from.other()));
    let address = host_address(from.other(), family).to_string();
    let mut command = server.command("iperf3");
    command
        .args(["-s", "-1", "-B", &address])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut listening = Process::start("iperf3 server", &mut command)?;
    let ready = interrupt::wait_for(Duration::from_secs(5), || {
        Ok(server
            .exec(&format!("ss -Hltn sport = :{PORT}"))?
            .contains("LISTEN"))
    })?;
    if !ready {
        bail!(
            "the iperf3 server does not listen: {:?}",
            listening.ended()?
        );
    }
    let (streams_text, seconds_text) = (streams.to_string(), seconds.to_string());
    let name = client.name();
    let mut words = vec!["ip", "netns", "exec", name, "iperf3", "-J", "-c", &address];
    words.extend([
        "-P",
        &streams_text,
        "-t",
        &seconds_text,
        "--connect-timeout",
        "5000",
    ]);
    words.extend(more);
    let output = shell::run_words(&words)?;
    parse(&output, streams)
}

fn parse(output: &str, streams: u16) -> Result<IperfResult> {
    let report: serde_json::Value =
        serde_json::from_str(output).context("iperf3 printed no JSON")?;
    if let Some(error) = report["error"].as_str() {
        bail!("iperf3: {error}");
    }
    let end = &report["end"];
    Ok(IperfResult {
        bits_per_second: end["sum_received"]["bits_per_second"]
            .as_f64()
            .context("no receiver's rate in iperf3's report")?,
        retransmits: end["sum_sent"]["retransmits"].as_u64().unwrap_or(0),
        streams,
        mss: report["start"]["tcp_mss_default"].as_u64().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_and_errors_are_read() {
        let good = r#"{"start": {"tcp_mss_default": 1398}, "end": {
            "sum_sent": {"retransmits": 3}, "sum_received": {"bits_per_second": 5e8}}}"#;
        let result = parse(good, 4).unwrap();
        assert_eq!(result.retransmits, 3);
        assert_eq!(result.mss, 1398);
        assert!((result.bits_per_second - 5e8).abs() < 1.0);
        assert!(
            parse(r#"{"error": "unable to connect"}"#, 1)
                .unwrap_err()
                .to_string()
                .contains("unable")
        );
        assert!(parse("nothing", 1).is_err());
        assert!(parse("{}", 1).is_err());
    }
}
