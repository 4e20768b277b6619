//! strongSwan dies and comes back; cookies on both sides.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::{Case, Lab, PATIENCE};
use crate::{
    interrupt,
    scenario::{Findings, SHORT},
    strongswan::{Connection, StrongSwan},
    topology::Side,
};

/// After so much silence the peer is dead. Unit: seconds.
const DPD_TIMEOUT: u64 = 5;
/// How much later that may be seen from outside: the status is asked now and then.
const SLACK: Duration = Duration::from_millis(1500);
/// How soon after its return the tunnel must stand.
const RETURN: Duration = Duration::from_secs(3);

pub(in crate::scenario) fn death(findings: &mut Findings) -> Result<()> {
    for (we_start, away) in [
        // Long enough for our attempts to have become rare.
        (true, Duration::from_secs(8)),
        (false, Duration::from_secs(1)),
    ] {
        let mut case = Case::new("killed", we_start);
        case.ike = format!("dpd_delay = 1\ndpd_timeout = {DPD_TIMEOUT}\n");
        let what = case.name();
        let (mut lab, _) = case.up()?;
        lab.must_work(SHORT)?;
        lab.swan.process().signal(Signal::SIGKILL)?;
        let killed = Instant::now();
        let down = interrupt::wait_for(PATIENCE, || {
            Ok(lab.hawser.status()?.tunnels().iter().all(|t| !t.up))
        })?;
        ensure!(down, "the dead peer is not noticed\n{}", lab.hawser.log());
        let noticed = killed.elapsed();
        let timeout = Duration::from_secs(DPD_TIMEOUT);
        ensure!(
            noticed + SLACK >= timeout && noticed <= timeout + SLACK,
            "noticed after {noticed:?}\n{}",
            lab.hawser.log()
        );
        let ike = lab.hawser.status()?.0["tunnels"][0]["ike"].clone();
        let sentence = format!("peer is dead: nothing heard from it for {DPD_TIMEOUT} s");
        ensure!(ike["counts"]["dpd_failed"] == 1, "{ike}");
        ensure!(
            ike["last_error"] == sentence && ike["blame"] == "network",
            "{ike}"
        );
        ensure!(lab.hawser.log().contains(&sentence), "{}", lab.hawser.log());
        interrupt::sleep(away)?;
        let mut lab = anew(lab)?;
        let returned = Instant::now();
        if !we_start {
            lab.swan.initiate(0).with_context(|| lab.hawser.log())?;
        }
        lab.hawser
            .wait_until_up(PATIENCE)
            .with_context(|| lab.swan.log())?;
        let back = returned.elapsed();
        findings.add(format!(
            "{what}: noticed after {:.1} s (DPD timeout {DPD_TIMEOUT} s), up again {:.1} s after its \
             return",
            noticed.as_secs_f64(),
            back.as_secs_f64()
        ));
        ensure!(back <= RETURN, "{back:?} is too long\n{}", lab.hawser.log());
        lab.must_work(SHORT)?;
        lab.close()?;
    }
    Ok(())
}

/// A new strongSwan, with the same configuration and without memory.
fn anew(lab: Lab) -> Result<Lab> {
    let Lab {
        hawser,
        swan,
        nat,
        topology,
    } = lab;
    let text = fs::read_to_string(swan.folder().join("swanctl/swanctl.conf"))?;
    drop(swan);
    let digits = text
        .split("secret = 0x")
        .nth(1)
        .and_then(|rest| rest.lines().next())
        .context("no secret")?;
    let swan = StrongSwan::start(
        topology.gateway(Side::B),
        Side::B,
        &[Connection::new(0)],
        digits,
        ("", ""),
    )?;
    swan.load()?;
    Ok(Lab {
        hawser,
        swan,
        nat,
        topology,
    })
}

/// strongSwan wants cookies when somebody else is half open, so several tunnels start at once; we
/// can want them always.
pub(in crate::scenario) fn cookies(findings: &mut Findings) -> Result<()> {
    let mut theirs = Case::new("strongSwan wants cookies", true);
    theirs.tunnels = 16;
    theirs.charon = "cookie_threshold = 1\n".into();
    let mut ours = Case::new("we want cookies", false);
    ours.end = "[ike]\ncookie_threshold = 0\n".into();
    for (case, line) in [
        (theirs, "generating IKE_SA_INIT response 0 [ N(COOKIE) ]"),
        (ours, "parsed IKE_SA_INIT response 0 [ N(COOKIE) ]"),
    ] {
        let what = case.name();
        let (lab, time) = case.up().with_context(|| what.clone())?;
        let log = lab.swan.whole_log();
        let seen = log.lines().filter(|l| l.contains(line)).count();
        ensure!(seen > 0, "{what}: no cookie\n{log}");
        let counts = lab.hawser.status()?.0["ike"]["counts"].clone();
        let sent = counts["cookies_sent"].as_u64().unwrap_or(0);
        ensure!(
            sent == if case.we_start { 0 } else { seen as u64 },
            "{what}: {counts}"
        );
        ensure!(counts["cookies_bad"].is_null(), "{what}: {counts}");
        if case.tunnels == 1 {
            lab.must_work(SHORT).with_context(|| what.clone())?;
        }
        findings.add(format!(
            "{what}: {seen} cookies, {} tunnels up after {} ms",
            case.tunnels,
            time.as_millis()
        ));
        lab.close()?;
    }
    Ok(())
}
