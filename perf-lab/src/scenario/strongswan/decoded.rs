//! A capture of our daemon, decrypted by tshark with the keys that our daemon logged: a third
//! implementation reads what the two say to each other.
//!
//! The folder of `key_log` is tshark's profile as it is, which is how a user takes it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use super::Case;
use crate::{
    interrupt,
    scenario::{Findings, SHORT},
    shell,
    topology::{Side, outside_port},
    traffic::packet::{Capture, Captured},
};

/// Why it cannot run here, or nothing if it can.
pub(super) fn unavailable() -> Option<String> {
    (!shell::has("tshark")).then(|| "needs `tshark`: scripts/setup test".to_owned())
}

pub(in crate::scenario) fn decoded(findings: &mut Findings) -> Result<()> {
    let gcm = Case::new("AES-GCM", true);
    let cbc = Case::new("AES-CBC", false).proposals(
        ["aes128-cbc/sha2-256/group14", "aes256-cbc/sha2-256/group14"],
        ["aes128-sha256-modp2048", "aes256-sha256-modp2048"],
    );
    for mut case in [gcm, cbc] {
        let what = case.name();
        case.end = "[ike]\nkey_log = \"keys\"\n".into();
        case.swan.child = "rekey_time = 0".into();
        decode(findings, &case).with_context(|| what)?;
    }
    Ok(())
}

fn decode(findings: &mut Findings, case: &Case) -> Result<()> {
    let lab = case.begin()?;
    let capture = |side| Capture::start(lab.topology.outside(), outside_port(side), is_ike_or_esp);
    let captures = [capture(Side::A)?, capture(Side::B)?];
    let lab = case.wait(lab)?;
    let packets = lab.must_work(SHORT)?;
    // New keys of both kinds are logged too.
    for kind in ["--child", "--ike"] {
        lab.swan.swanctl(&["--rekey", kind, "t0"])?;
        interrupt::sleep(Duration::from_millis(500))?;
    }
    let packets = packets + lab.must_work(SHORT)?;
    let mut frames = Vec::new();
    for capture in captures {
        frames.extend(capture.finish()?);
    }
    frames.sort_by_key(|f| f.time);
    let keys = lab.hawser.directory().path().join("keys");
    only_for_its_owner(&keys)?;
    let file = keys.join("capture.pcap");
    write_pcap(&file, &frames)?;

    let ike = tshark(&keys, &file, &["-Y", "isakmp", "-V"])?;
    let count = |text: &str| ike.matches(text).count();
    let encrypted = count("Payload: Encrypted and Authenticated (46)");
    // IKE_AUTH, both kinds of rekeying and the deletions after them.
    ensure!(encrypted >= 10, "{encrypted} encrypted messages\n{ike}");
    ensure!(
        count("Decrypted Data (") == encrypted,
        "{} of {encrypted} encrypted messages decrypted\n{ike}",
        count("Decrypted Data (")
    );
    ensure!(count("[correct]") >= 1 && count("[incorrect") == 0, "{ike}");
    let ids = if case.we_start {
        ["198.18.0.1", "198.19.0.1"]
    } else {
        ["198.19.0.1", "198.18.0.1"]
    };
    for text in [
        "Exchange type: IKE_AUTH (35)",
        "Payload: Identification - Initiator (35)",
        "Payload: Identification - Responder (36)",
        &format!("Identification Data:{}", ids[0]),
        &format!("Identification Data:{}", ids[1]),
        "Payload: Authentication (39)",
        "Authentication Method: Shared Key Message Integrity Code (2)",
        "Payload: Traffic Selector - Initiator (44)",
        "Payload: Traffic Selector - Responder (45)",
        "Exchange type: CREATE_CHILD_SA (36)",
        "Payload: Delete (42)",
    ] {
        ensure!(ike.contains(text), "`{text}` is not in\n{ike}");
    }

    // Without the keys it reads nothing, so it was the keys.
    let blind = tshark(
        lab.hawser.directory().path(),
        &file,
        &["-Y", "isakmp", "-V"],
    )?;
    ensure!(
        blind.contains("Payload: Encrypted and Authenticated (46)")
            && !blind.contains("Decrypted Data (")
    );

    let esp = tshark(
        &keys,
        &file,
        &[
            "-Y",
            "esp",
            "-T",
            "fields",
            "-e",
            "esp.icv_good",
            "-e",
            "ip.src",
        ],
    )?;
    let all = esp.lines().count() as u64;
    let good = esp
        .lines()
        .filter(|l| l.starts_with('1') && (l.contains(",10.1.") || l.contains(",10.2.")))
        .count() as u64;
    ensure!(
        all >= packets && good == all,
        "{good} of {all} ESP packets decoded, {packets} sent\n{esp}"
    );
    findings.add(format!(
        "{}: {encrypted} encrypted IKE messages and {good} ESP packets decoded, under keys from two \
         child SAs and two IKE SAs",
        case.name()
    ));
    lab.close()
}

/// IPv4 with ESP, or UDP from or to port 500 or 4500.
fn is_ike_or_esp(frame: &[u8]) -> bool {
    let port = |at: usize| {
        frame
            .get(at..at + 2)
            .map(|p| u16::from_be_bytes([p[0], p[1]]))
    };
    let ike = |at| port(at).is_some_and(|p| [500, 4500].contains(&p));
    match (frame.get(12..14), frame.get(23)) {
        (Some([0x08, 0x00]), Some(50)) => true,
        (Some([0x08, 0x00]), Some(17)) => ike(34) || ike(36),
        _ => false,
    }
}

/// Whoever reads the files reads the traffic.
fn only_for_its_owner(folder: &Path) -> Result<()> {
    let mode = |path: &Path| -> Result<u32> {
        let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
        Ok(metadata.permissions().mode() & 0o777)
    };
    ensure!(mode(folder)? == 0o700, "{:o}", mode(folder)?);
    for name in ["ikev2_decryption_table", "esp_sa"] {
        let file = folder.join(name);
        ensure!(mode(&file)? == 0o600, "{name}: {:o}", mode(&file)?);
    }
    Ok(())
}

/// The classic format: magic number of nanoseconds, version 2.4, link type Ethernet.
fn write_pcap(path: &Path, frames: &[Captured]) -> Result<()> {
    let octets = |words: &[u32]| {
        words
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect::<Vec<_>>()
    };
    let mut bytes = octets(&[0xa1b2_3c4d, 4 << 16 | 2, 0, 0, 65_535, 1]);
    for Captured { time, frame } in frames {
        let length = frame.len() as u32;
        let [seconds, nanos] = [time / 1_000_000_000, time % 1_000_000_000].map(|t| t as u32);
        bytes.extend(octets(&[seconds, nanos, length, length]));
        bytes.extend(frame);
    }
    fs::write(path, bytes).with_context(|| path.display().to_string())
}

/// What tshark prints of a file, with the keys of this folder.
fn tshark(keys: &Path, file: &Path, more: &[&str]) -> Result<String> {
    let output = Command::new("tshark")
        .env("WIRESHARK_CONFIG_DIR", keys)
        .args(["-o", "esp.enable_encryption_decode:TRUE"])
        .args(["-o", "esp.enable_authentication_check:TRUE"])
        .arg("-r")
        .arg(file)
        .args(more)
        .output()
        .context("cannot start `tshark`")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "tshark: {}: {stderr}",
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
