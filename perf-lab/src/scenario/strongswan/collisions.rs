//! Both sides rekey at the same time, surely (RFC 7296, section 2.8.1).
//!
//! Both are told to rekey so long after the start. Around that time the network loses all IKE
//! messages (but no ESP), so that each side has asked and not heard that the other one has. Then it
//! loses responses only, so that each hears the other's request while its own is not answered.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use super::{Case, Lab, PATIENCE};
use crate::{
    interrupt,
    scenario::Findings,
    shell,
    topology::{Side, outside_port},
};

/// When children are rekeyed, and when the IKE SA is. Unit: seconds after the start.
const CHILD: u64 = 3;
const IKE: u64 = 5;
/// All IKE messages are lost from so long before that time on.
const BEFORE: Duration = Duration::from_millis(700);
/// Until so long after it: before the first copies, which we send after 0.5 s.
const AFTER: Duration = Duration::from_millis(350);
/// And responses until so long after it: strongSwan sends its first copy after 1 s.
const RESPONSES: Duration = Duration::from_millis(1800);

pub(super) fn unavailable() -> Option<String> {
    (!shell::has("nft")).then(|| "needs `nft`: scripts/setup peers-strongswan".to_owned())
}

pub(in crate::scenario) fn collisions(findings: &mut Findings) -> Result<()> {
    for (what, at, kind) in [
        ("children", CHILD, "child_rekeys"),
        ("IKE SAs", IKE, "ike_rekeys"),
    ] {
        for we_start in [true, false] {
            // By night all four.
            let by_day = we_start == (kind == "child_rekeys");
            if !by_day && std::env::var_os("HAWSER_NIGHTLY").is_none() {
                continue;
            }
            let mut case = Case::new(what, we_start);
            let lifetime = 2 * at;
            let theirs = format!("rekey_time = {at}s\nrand_time = 0s\n");
            case.ike = format!("phase2_lifetime = {lifetime}\nrekey_fuzz = 0\n");
            if kind == "child_rekeys" {
                case.ike += &format!("rekey_margin = {at}\n");
                case.swan.child = theirs + "life_time = 60s";
            } else {
                case.ike += &format!(
                    "rekey_margin = 1\nphase1_lifetime = {lifetime}\nphase1_rekey_margin = {at}\n"
                );
                case.swan.more = theirs + "over_time = 60s";
                case.swan.child = "rekey_time = 0".into();
            }
            collide(findings, &case, Duration::from_secs(at), kind).with_context(|| case.name())?;
        }
    }
    Ok(())
}

fn collide(findings: &mut Findings, case: &Case, at: Duration, kind: &str) -> Result<()> {
    let (lab, _) = case.up()?;
    let up = Instant::now();
    let up = up.checked_sub(age(&lab)?).context("a young clock")?;
    let made = || -> Result<u64> {
        let status = lab.hawser.status()?;
        let counts = &status.0["tunnels"][0]["ike"]["counts"];
        Ok(counts[kind].as_u64().unwrap_or(0))
    };
    interrupt::sleep((at - BEFORE).saturating_sub(up.elapsed()))?;
    ensure!(made()? == 0, "rekeyed before its time");
    for (until, loss) in [(AFTER, Loss::All), (RESPONSES, Loss::Responses)] {
        lose(&lab, loss)?;
        interrupt::sleep((at + until).saturating_sub(up.elapsed()))?;
    }
    lose(&lab, Loss::Nothing)?;
    let traffic = lab.must_work(Duration::from_secs(1))?;
    let logs = || format!("{}\n{}", lab.swan.whole_log(), lab.hawser.log());
    let done = interrupt::wait_for(PATIENCE, || Ok(made()? > 0))?;
    ensure!(done, "no {kind}\n{}", logs());
    let log = lab.swan.whole_log();
    let collision = log.lines().find(|l| l.contains("collision"));
    let collision = collision.with_context(|| format!("there was no collision\n{}", logs()))?;
    // One of each is left, the same ones at both ends.
    let one = interrupt::wait_for(PATIENCE, || one_is_left(&lab))?;
    ensure!(one, "more than one is left\n{}", logs());
    let traffic = traffic + lab.must_work(Duration::from_millis(200))?;
    findings.add(format!(
        "{}: {traffic} packets, none lost; strongSwan says: {}",
        case.name(),
        collision.split("] ").nth(1).unwrap_or(collision)
    ));
    lab.close()
}

/// How old the IKE SA is, by the time in our log: on a busy machine the status says long afterwards
/// that a tunnel is up. Seconds of the minute will do.
fn age(lab: &Lab) -> Result<Duration> {
    let log = lab.hawser.log();
    let line = log.lines().find(|l| l.contains("IKE SA established"));
    let second = line.and_then(|l| l.split_once('Z')?.0.rsplit(':').next()?.parse::<f64>().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    let age = now - second.context("no time in the log")?;
    Ok(Duration::from_secs_f64(age.rem_euclid(60.0)))
}

/// Whether both have one IKE SA and one child, and the same ones.
fn one_is_left(lab: &Lab) -> Result<bool> {
    let status = lab.hawser.status()?;
    let ike = &status.0["tunnels"][0]["ike"];
    let children = ike["children"].as_array().map_or(0, Vec::len);
    let seen = lab.swan.swanctl(&["--list-sas"])?;
    let count = |word: &str| seen.matches(word).count();
    let ours = ike["children"][0]["inbound"].as_str().unwrap_or("none");
    let same = seen.contains(ours.trim_start_matches("0x"))
        && ike["spis"][0]
            .as_str()
            .is_some_and(|spi| seen.contains(spi));
    Ok(children == 1 && count("ESTABLISHED") == 1 && count("INSTALLED") == 1 && same)
}

/// Which IKE messages on port 4500 get lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    All,
    /// Those with the flag of a response (RFC 7296, section 3.1).
    Responses,
    Nothing,
}

/// Lets the network lose these messages.
fn lose(lab: &Lab, loss: Loss) -> Result<()> {
    let what = match loss {
        // Four zero octets are in front of IKE (RFC 3948, section 2.2); its flags are octet 19.
        Loss::All => "udp dport 4500 @th,64,32 0 drop",
        Loss::Responses => "udp dport 4500 @th,64,32 0 @th,248,8 & 0x20 == 0x20 drop",
        Loss::Nothing => "",
    };
    let mut rules = String::from("table netdev lab-lose\ndelete table netdev lab-lose\n");
    if loss != Loss::Nothing {
        rules += "table netdev lab-lose {\n";
        for side in [Side::A, Side::B] {
            let port = outside_port(side);
            rules += &format!(
                "chain {port} {{\ntype filter hook ingress device {port} priority 0\n{what}\n}}\n"
            );
        }
        rules += "}\n";
    }
    let router = lab.topology.outside().name();
    shell::feed(&["ip", "netns", "exec", router, "nft", "-f", "-"], &rules).map(drop)
}
