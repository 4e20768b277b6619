//! Both sides start the tunnel at once: one is left, and it works from the first moment.

use std::{thread, time::Duration};

use anyhow::{Result, anyhow, ensure};

use super::{Case, Lab, PATIENCE};
use crate::{
    interrupt,
    scenario::{Findings, SHORT},
    topology::Side,
};

/// Until both sides have had their IKE_SA_INIT answered, whenever that was first sent, and have sent
/// IKE_AUTH.
const BOTH_SENT: Duration = Duration::from_millis(2500);
/// What was made twice is gone after this long, even if only one side cares.
const SETTLED: Duration = Duration::from_secs(20);

/// Packets a second.
const RATE: u32 = 1000;
/// As many of them may be lost for a second SA that comes while they flow. strongSwan takes the first
/// one away as soon as it reads our INITIAL_CONTACT, before its answer can tell us so, and sends on
/// the second before we have it. Measured: up to 29, on a machine that does other things too. Of two
/// gateways of ours none is lost.
const REPLACED: u64 = 60;

pub(in crate::scenario) fn at_once(findings: &mut Findings) -> Result<()> {
    let (mut twice, mut lost) = (0, 0);
    for round in 0..4 {
        let lab = Case::new("both start", true).begin()?;
        // No IKE_AUTH arrives before both have sent theirs: their requests cross for sure.
        let sides = [Side::A, Side::B];
        for side in sides {
            hold(&lab, side)?;
        }
        lab.hawser_runs()?;
        thread::scope(|scope| -> Result<()> {
            let theirs = scope.spawn(|| lab.swan.initiate(0));
            interrupt::sleep(BOTH_SENT)?;
            // In turns the one and the other hears first.
            for side in [sides[round % 2], sides[1 - round % 2]] {
                let hold = "nft delete table inet hold";
                lab.topology.gateway(side).exec(hold)?;
            }
            theirs
                .join()
                .map_err(|_| anyhow!("asking strongSwan panicked"))?
        })?;
        let up = interrupt::wait_for(PATIENCE, || {
            Ok(lab.hawser.status().is_ok_and(|s| s.is_up()))
        })?;
        ensure!(up, "not up in round {round}\n{}", logs(&lab));
        lost += works_meanwhile(&lab)?;
        interrupt::sleep(SETTLED)?;
        lab.must_work(SHORT)?;
        twice += u32::from(made(&lab)? > 1);
        let installed = lab.swan.installed()?;
        ensure!(installed == 1, "{installed} child SAs\n{}", logs(&lab));
        lab.close()?;
    }
    findings.add(format!(
        "both started at once, four times: one tunnel is left; {twice} times two SAs were made, and \
         {lost} packets lost while the peer took one of them away"
    ));
    ensure!(twice > 0, "nothing crossed: this shows nothing");
    Ok(())
}

/// Traffic both ways as soon as the tunnel is up. Says how many packets were lost: none, unless the
/// second SA was made meanwhile.
fn works_meanwhile(lab: &Lab) -> Result<u64> {
    let before = made(lab)?;
    let mut all = 0;
    for from in [Side::A, Side::B] {
        let report = lab.exchange(from, RATE, SHORT)?;
        let lost = report.total(|f| f.lost);
        let explained = || interrupt::wait_for(PATIENCE, || Ok(made(lab)? > before));
        ensure!(
            report.total(|f| f.duplicates) == 0 && (lost == 0 || lost <= REPLACED && explained()?),
            "from site {}: {report:?}\n{}",
            from.letter(),
            logs(lab)
        );
        all += lost;
    }
    Ok(all)
}

/// How often an IKE SA was made.
fn made(lab: &Lab) -> Result<u64> {
    let status = lab.hawser.status()?;
    let count = &status.0["tunnels"][0]["ike"]["counts"]["established"];
    Ok(count.as_u64().unwrap_or(0))
}

/// Keeps IKE_AUTH (exchange type 35) from a gateway. The type is the 19th octet of an IKE message,
/// behind UDP's header and, on port 4500, four octets more.
fn hold(lab: &Lab, side: Side) -> Result<()> {
    let gateway = lab.topology.gateway(side);
    gateway.exec("nft add table inet hold")?;
    gateway.exec("nft add chain inet hold in { type filter hook input priority 0 ; }")?;
    gateway.exec("nft add rule inet hold in udp dport 500 @th,208,8 35 drop")?;
    gateway.exec("nft add rule inet hold in udp dport 4500 @th,240,8 35 drop")?;
    Ok(())
}

fn logs(lab: &Lab) -> String {
    format!("{}\n-- our log:\n{}", lab.swan.log(), lab.hawser.log())
}
