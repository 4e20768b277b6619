//! The tunnels' log in the form of AWS's tunnel activity log, and session keys for Wireshark.
//!
//! A line is one JSON object with AWS's keys, so that whatever reads AWS's log reads ours. It goes
//! into a file if the configuration names one, else into the daemon's log.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hawser_aead::Suite;
use hawser_api::Spi;
use hawser_ike::{LogEntry, NatStatus};
use serde::Serialize;
use zeroize::Zeroizing;

/// One line. The names are AWS's.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line<'a> {
    vpn_log_creation_timestamp: u64,
    vpn_log_creation_timestamp_readable: String,
    vpn_connection_id: &'a str,
    tunnel_name: &'a str,
    #[serde(rename = "TunnelOutsideIPAddress")]
    tunnel_outside_ip_address: Option<String>,
    #[serde(rename = "TunnelDPDEnabled")]
    tunnel_dpd_enabled: bool,
    #[serde(rename = "TunnelCGWNATTDetectionStatus")]
    tunnel_cgw_natt_detection_status: bool,
    #[serde(rename = "TunnelIKEPhase1State")]
    tunnel_ike_phase1_state: String,
    #[serde(rename = "TunnelIKEPhase2State")]
    tunnel_ike_phase2_state: String,
    vpn_log_detail: &'a str,
}

/// Where lines go.
#[derive(Debug, Default)]
pub(super) struct TunnelLog {
    file: Option<(PathBuf, File)>,
}

impl TunnelLog {
    /// Takes up the configured file; the one before stays open if it is the same.
    ///
    /// # Errors
    /// When it cannot be opened; lines then go into the daemon's log.
    pub(super) fn open(&mut self, path: Option<&Path>) -> io::Result<()> {
        let Some(path) = path else {
            self.file = None;
            return Ok(());
        };
        // Opened again on every reload: that is what moves on after a log rotation.
        self.file = None;
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)?;
        self.file = Some((path.to_owned(), file));
        Ok(())
    }

    /// Writes a line about a tunnel, or about no tunnel that is known. What went wrong is in the
    /// daemon's log anyway, as a warning: it is not said there twice.
    pub(super) fn write(&mut self, connection: &str, tunnel: &str, entry: &LogEntry) {
        let line = Line::of(connection, tunnel, entry, SystemTime::now());
        let Ok(mut text) = serde_json::to_vec(&line) else {
            return;
        };
        match &mut self.file {
            Some((path, file)) => {
                text.push(b'\n');
                if let Err(error) = file.write_all(&text) {
                    tracing::warn!(path = %path.display(), %error, "the tunnel log is not written");
                    self.file = None;
                }
            }
            None if entry.failure => {}
            None => tracing::info!(
                tunnel,
                phase1 = %entry.ike,
                phase2 = %entry.child,
                "{}",
                entry.detail
            ),
        }
    }
}

impl<'a> Line<'a> {
    fn of(connection: &'a str, tunnel: &'a str, entry: &'a LogEntry, now: SystemTime) -> Self {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            vpn_log_creation_timestamp: since.as_secs(),
            vpn_log_creation_timestamp_readable: readable(since),
            vpn_connection_id: connection,
            tunnel_name: tunnel,
            tunnel_outside_ip_address: entry.remote.map(|r| r.ip().to_string()),
            tunnel_dpd_enabled: entry.dpd_enabled,
            // AWS means a NAT in front of the customer's gateway: ours.
            tunnel_cgw_natt_detection_status: matches!(
                entry.nat,
                NatStatus::Local | NatStatus::Both
            ),
            tunnel_ike_phase1_state: entry.ike.to_string(),
            tunnel_ike_phase2_state: entry.child.to_string(),
            vpn_log_detail: &entry.detail,
        }
    }
}

/// `2026-11-22 03:48:01.123Z`, as AWS writes it.
fn readable(since: Duration) -> String {
    let seconds = since.as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{:03}Z",
        of_day / 3_600,
        of_day / 60 % 60,
        of_day % 60,
        since.subsec_millis()
    )
}

/// Year, month and day of a number of days since 1970 (Gregorian calendar).
fn date(days: u64) -> (u64, u64, u64) {
    // Years that begin in March put the leap day at their end; eras of 400 years are all alike.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// Files that Wireshark takes as tables of its profile: `ikev2_decryption_table` and `esp_sa`.
/// Whoever reads them reads the traffic, so they are made only on demand, for their owner only.
#[derive(Debug)]
pub(super) struct KeyLog {
    ike: File,
    esp: File,
}

impl KeyLog {
    /// Makes or continues the files in this folder.
    ///
    /// # Errors
    /// When they cannot be made.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let open = |name| {
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(folder.join(name))
        };
        Ok(Self {
            ike: open("ikev2_decryption_table")?,
            esp: open("esp_sa")?,
        })
    }

    /// Keys of an IKE SA.
    pub(super) fn ike(&mut self, line: &str) {
        put(&mut self.ike, line);
    }

    /// Keys of an ESP SA.
    pub(super) fn esp(&mut self, line: &str) {
        put(&mut self.esp, line);
    }
}

/// A line of Wireshark's `esp_sa` table.
pub(super) fn esp_line(
    from: IpAddr,
    to: IpAddr,
    spi: Spi,
    suite: Suite,
    key: &[u8],
) -> Zeroizing<String> {
    let hex = |octets: &[u8]| -> String { octets.iter().map(|o| format!("{o:02x}")).collect() };
    let (encryption, integrity) = if suite.is_gcm() {
        ("AES-GCM with 16 octet ICV [RFC4106]", "NULL")
    } else {
        let integrity = match suite.icv_len() {
            12 => "HMAC-SHA-1-96 [RFC2404]",
            16 => "HMAC-SHA-256-128 [RFC4868]",
            24 => "HMAC-SHA-384-192 [RFC4868]",
            _ => "HMAC-SHA-512-256 [RFC4868]",
        };
        ("AES-CBC [RFC3602]", integrity)
    };
    // With AES-GCM the salt belongs to the key; with AES-CBC the integrity key is as long as its
    // hash, twice its ICV but for SHA-1's, which is cut shorter.
    let integrity_len = match (suite.is_gcm(), suite.icv_len()) {
        (true, _) => 0,
        (false, 12) => 20,
        (false, icv) => 2 * icv,
    };
    let (cipher, mac) = key.split_at(key.len().saturating_sub(integrity_len));
    let mac = match mac {
        [] => Zeroizing::new(String::new()),
        mac => Zeroizing::new(format!("0x{}", hex(mac))),
    };
    let cipher = Zeroizing::new(hex(cipher));
    let family = if from.is_ipv4() { "IPv4" } else { "IPv6" };
    Zeroizing::new(format!(
        "\"{family}\",\"{from}\",\"{to}\",\"{spi}\",\"{encryption}\",\"0x{}\",\"{integrity}\",\"{}\"",
        cipher.as_str(),
        mac.as_str()
    ))
}

fn put(file: &mut File, line: &str) {
    let written = file
        .write_all(line.trim_end().as_bytes())
        .and_then(|()| file.write_all(b"\n"));
    if let Err(error) = written {
        tracing::warn!(%error, "the key log is not written");
    }
}

#[cfg(test)]
mod tests {
    use hawser_ike::State;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds, millis| {
            readable(Duration::from_secs(seconds) + Duration::from_millis(millis))
        };
        assert_eq!(at(0, 0), "1970-01-01 00:00:00.000Z");
        assert_eq!(at(951_782_400, 5), "2000-02-29 00:00:00.005Z");
        assert_eq!(at(1_709_251_199, 999), "2024-02-29 23:59:59.999Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01 00:00:00.000Z");
    }

    #[test]
    fn esp_lines_are_those_of_wireshark() {
        let [from, to] = ["192.0.2.1", "198.51.100.1"].map(|a| a.parse().unwrap());
        let line = |suite: Suite| {
            let key: Vec<u8> = (0..suite.key_len() as u8).collect();
            esp_line(from, to, Spi(0x1000), suite, &key).to_string()
        };
        assert_eq!(
            line(Suite::Aes128Gcm16),
            "\"IPv4\",\"192.0.2.1\",\"198.51.100.1\",\"0x00001000\",\
             \"AES-GCM with 16 octet ICV [RFC4106]\",\
             \"0x000102030405060708090a0b0c0d0e0f10111213\",\"NULL\",\"\""
        );
        let cbc = line(Suite::Aes128CbcSha1_96);
        assert!(
            cbc.ends_with(
                "\"0x000102030405060708090a0b0c0d0e0f\",\"HMAC-SHA-1-96 [RFC2404]\",\
                 \"0x101112131415161718191a1b1c1d1e1f20212223\""
            ),
            "{cbc}"
        );
    }

    /// What the daemon's log has of these entries, without a file for the tunnels' log and with
    /// one, and what the file has.
    fn logged(entries: &[LogEntry]) -> [String; 3] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tunnels.log");
        let said = |log: &mut TunnelLog| {
            let daemons = tempfile::NamedTempFile::new().unwrap();
            let subscriber = tracing_subscriber::fmt()
                .with_writer(daemons.reopen().unwrap())
                .finish();
            tracing::subscriber::with_default(subscriber, || {
                for entry in entries {
                    log.write("aws-1", "aws-1/a", entry);
                }
            });
            std::fs::read_to_string(daemons.path()).unwrap()
        };
        let mut log = TunnelLog::default();
        let without = said(&mut log);
        log.open(Some(&path)).unwrap();
        let with = said(&mut log);
        [without, with, std::fs::read_to_string(path).unwrap()]
    }

    #[test]
    fn a_failure_is_left_to_the_daemons_warning() {
        let entry = |detail: &str, failure| LogEntry {
            connection: None,
            ike: State::Negotiating,
            child: State::Down,
            dpd_enabled: true,
            nat: NatStatus::Unknown,
            remote: None,
            detail: detail.into(),
            failure,
        };
        let [without, with, file] =
            logged(&[entry("it came up", false), entry("it is refused", true)]);
        assert!(without.contains("it came up"), "{without}");
        assert!(!without.contains("it is refused"), "{without}");
        assert_eq!(with, "");
        let lines: Vec<&str> = file.lines().collect();
        assert_eq!(lines.len(), 2, "{file}");
        assert!(lines[1].contains("it is refused"), "{file}");
    }

    #[test]
    fn a_line_has_the_keys_of_aws() {
        let entry = LogEntry {
            connection: None,
            ike: State::Established,
            child: State::Rekeying,
            dpd_enabled: true,
            nat: NatStatus::Local,
            remote: Some("198.51.100.1:4500".parse().unwrap()),
            detail: "child SA rekeyed".into(),
            failure: false,
        };
        let line = Line::of(
            "aws-1",
            "aws-1/a",
            &entry,
            UNIX_EPOCH + Duration::from_secs(86_400),
        );
        let value = serde_json::to_value(&line).unwrap();
        let expected = serde_json::json!({
            "VpnLogCreationTimestamp": 86_400,
            "VpnLogCreationTimestampReadable": "1970-01-02 00:00:00.000Z",
            "VpnConnectionId": "aws-1",
            "TunnelName": "aws-1/a",
            "TunnelOutsideIPAddress": "198.51.100.1",
            "TunnelDPDEnabled": true,
            "TunnelCGWNATTDetectionStatus": true,
            "TunnelIKEPhase1State": "Established",
            "TunnelIKEPhase2State": "Rekeying",
            "VpnLogDetail": "child SA rekeyed",
        });
        assert_eq!(value, expected);
    }
}
