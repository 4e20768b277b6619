//! Changing the key exchange's configuration under traffic.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::{Findings, Lab, exchange, reload::without_loss};
use crate::{
    config::{IkeSpec, TunnelSpec},
    topology::Side,
};

/// What is in place of something in the configuration, and what must be said about it.
struct Mistake {
    from: &'static str,
    to: &'static str,
    /// The text in whose line the problem is.
    at: &'static str,
    reason: &'static str,
    remedy: &'static str,
}

const MISTAKES: [Mistake; 8] = [
    Mistake {
        from: "dpd_timeout = 20",
        to: "dpd_timeuot = 20",
        at: "dpd_timeuot",
        reason: "unknown key `dpd_timeuot`",
        remedy: "`dpd_timeout`",
    },
    Mistake {
        from: "dpd_timeout = 20",
        to: "dpd_timeout = 20\nproposals = \"aes256gcm16-prfsha384-ecp384\"",
        at: "proposals",
        reason: "is no cipher, hash or group",
        remedy: "aes256-gcm16/sha2-384/group20",
    },
    Mistake {
        from: "dpd_timeout = 20",
        to: "dpd_timeout = 30\ndpd_delay = 30",
        at: "dpd_delay",
        reason: "would be dead (30 s) before it is asked (30 s)",
        remedy: "shorter `dpd_delay`",
    },
    Mistake {
        from: "dpd_timeout = 20",
        to: "dpd_timeout = 20\nphase2_lifetime = 3600\nrekey_margin = 2000",
        at: "rekey_margin",
        reason: "a `rekey_margin` of 2000 s is more than half of 3600 s",
        remedy: "at most 1800",
    },
    Mistake {
        from: "secrets = \"secrets.toml\"",
        to: "secrets = \"none.toml\"",
        at: "none.toml",
        reason: "cannot read the secrets file",
        remedy: "name an existing file",
    },
    Mistake {
        from: "secrets = \"secrets.toml\"",
        to: "",
        at: "[[connection.tunnel]]",
        reason: "`lab/t0` has nothing to authenticate with",
        remedy: "secrets = \"secrets.toml\"",
    },
    Mistake {
        from: "dpd_timeout = 20",
        to: "dpd_timeout = 20\ncertificate = \"gateway.pem\"",
        at: "certificate",
        reason: "both a secrets file and a certificate",
        remedy: "remove `secrets` or `certificate`",
    },
    Mistake {
        from: "dpd_timeout = 20",
        to: "dpd_timeout = 20\nversion = \"ikev1\"",
        at: "version",
        reason: "`ikev1` is not spoken here",
        remedy: "leave it out",
    },
];

/// IKE SAs and child SAs of a gateway by their SPIs, and how often SAs were made.
fn sas(lab: &Lab, side: Side) -> Result<Vec<String>> {
    let status = lab.gateway(side).status()?;
    let tunnels = status.0["tunnels"].as_array().context("no tunnels")?;
    let of = |tunnel: &serde_json::Value| {
        let ike = &tunnel["ike"];
        let children = ike["children"].as_array().into_iter().flatten();
        let children: Vec<String> = children
            .map(|c| format!("{} {}", c["inbound"], c["outbound"]))
            .collect();
        format!(
            "{} {children:?} {}",
            ike["spis"], ike["counts"]["established"]
        )
    };
    Ok(tunnels.iter().map(of).collect())
}

pub(super) fn reload(findings: &mut Findings) -> Result<()> {
    let ike = IkeSpec {
        a: "dpd_timeout = 20".into(),
        ..IkeSpec::default()
    };
    let lab = exchange::lab(vec![TunnelSpec::default(); 4], ike)?;
    lab.must_work()?;
    let gateway = lab.gateway(Side::A);
    let file = gateway.directory().path().join("hawser.toml");
    let good = fs::read_to_string(&file)?;
    let before = sas(&lab, Side::A)?;
    // One run of traffic over all of them: nothing is lost at any time.
    without_loss(&lab, || {
        for mistake in &MISTAKES {
            let bad = good.replace(mistake.from, mistake.to);
            ensure!(bad != good, "`{}` is not there", mistake.from);
            gateway.directory().write("hawser.toml", &bad)?;
            let line = bad.lines().position(|l| l.contains(mistake.at));
            let line = line.context("no such line")? + 1;
            for command in ["check", "reload"] {
                let refused = gateway.command(command, &[]).err();
                let refused = refused
                    .with_context(|| format!("{command} takes `{}`", mistake.to))?
                    .to_string();
                for said in [
                    &format!("hawser.toml:{line}:"),
                    mistake.reason,
                    "= remedy: ",
                    mistake.remedy,
                ] {
                    ensure!(
                        refused.contains(said),
                        "{command}: `{said}` is not in\n{refused}"
                    );
                }
            }
            findings.add(format!("refused, line {line}: {}", mistake.reason));
        }
        Ok(())
    })
    .with_context(|| lab.logs())?;
    ensure!(
        sas(&lab, Side::A)? == before,
        "SAs changed: {before:?} {:?}",
        sas(&lab, Side::A)?
    );

    // A secrets file that others can read is as good as none, and its content is not quoted.
    let secrets = gateway.directory().path().join("secrets.toml");
    let permit = |mode| -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&secrets, fs::Permissions::from_mode(mode))?;
        Ok(())
    };
    gateway.directory().write("hawser.toml", &good)?;
    permit(0o644)?;
    let refused = gateway.command("reload", &[]).err();
    let refused = refused.context("a secrets file for everybody")?.to_string();
    permit(0o600)?;
    ensure!(refused.contains("chmod 600"), "{refused}");
    let text = fs::read_to_string(&secrets)?;
    let secret = text.split('"').nth(3).context("no secret")?;
    ensure!(secret.len() == 40 && !refused.contains(secret), "quoted");

    // What may change under an SA does; the SA stays. The key log begins with what is in use.
    let other = good.replace("dpd_timeout = 20", "dpd_timeout = 30")
        + "\n[ike]\nkey_log = \"keys\"\ncookie_threshold = 1\n";
    without_loss(&lab, || {
        gateway.directory().write("hawser.toml", &other)?;
        gateway.command("reload", &[]).map(drop)
    })
    .with_context(|| lab.logs())?;
    ensure!(sas(&lab, Side::A)? == before, "SAs changed\n{}", lab.logs());
    let table = gateway
        .directory()
        .path()
        .join("keys/ikev2_decryption_table");
    let logged = fs::read_to_string(&table)?.lines().count();
    ensure!(logged == 4, "keys of {logged} IKE SAs are logged");
    findings.add("other DPD times, a key log: taken up, nothing lost, the same SAs");
    let reloads = gateway.status()?.0["gateway"]["reloads"].as_u64();
    ensure!(reloads == Some(1), "{reloads:?} reloads");
    lab.must_work()?;
    lab.close()
}
