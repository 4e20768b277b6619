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

pub(in crate::scenario) fn at_once(findings: &mut Findings) -> Result<()> {
    let mut twice = 0;
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
        lab.must_work(SHORT)?;
        interrupt::sleep(SETTLED)?;
        lab.must_work(SHORT)?;
        let status = lab.hawser.status()?;
        let made = status.0["tunnels"][0]["ike"]["counts"]["established"].as_u64();
        twice += u32::from(made > Some(1));
        let installed = lab.swan.installed()?;
        ensure!(installed == 1, "{installed} child SAs\n{}", logs(&lab));
        lab.close()?;
    }
    findings.add(format!(
        "both started at once, four times: one tunnel is left, no packet lost; {twice} times two SAs \
         were made"
    ));
    ensure!(twice > 0, "nothing crossed: this shows nothing");
    Ok(())
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
