//! What does not fit: who is told what.
//!
//! In every case the other daemon gets the right notify, and our user a sentence that says which
//! side, which parameter, and what each side has, in the status and in the log.

use anyhow::{Context, Result, ensure};

use super::{
    Case, Lab, PATIENCE,
    certificates::{Authority, EXPIRED, NAMES, P256},
};
use crate::{interrupt, scenario::Findings};

/// A case, and what must be said about it.
struct Refusal {
    case: Case,
    /// Parts of our sentence.
    says: Vec<&'static str>,
    /// What strongSwan calls the exchange in which one of the two refuses, and the notify.
    exchange: &'static str,
    notify: &'static str,
}

impl Refusal {
    fn new(
        what: &str,
        we_start: bool,
        [exchange, notify]: [&'static str; 2],
        says: &[&'static str],
        change: impl FnOnce(&mut Case),
    ) -> Self {
        let mut case = Case::new(what, we_start);
        change(&mut case);
        Self {
            case,
            says: says.to_vec(),
            exchange,
            notify,
        }
    }

    /// Runs it: nothing comes up, and both are told why.
    fn run(&self, findings: &mut Findings) -> Result<()> {
        let what = self.case.name();
        let lab = self.case.begin()?;
        if !self.case.we_start {
            lab.hawser_runs()?;
            let begun = lab.swan.initiate(0);
            ensure!(begun.is_err(), "{what}: it came up\n{}", lab.swan.log());
        }
        let said = self.said(&lab).with_context(|| what.clone())?;
        findings.add(format!("{what}: {said}"));
        lab.close()
    }

    fn said(&self, lab: &Lab) -> Result<String> {
        let ike = || -> Result<serde_json::Value> {
            Ok(lab.hawser.status()?.0["tunnels"][0]["ike"].clone())
        };
        let told = interrupt::wait_for(PATIENCE, || {
            Ok(ike().is_ok_and(|ike| ike["last_error"].is_string()))
        })?;
        let logs = || format!("{}\n-- our log:\n{}", lab.swan.log(), lab.hawser.log());
        ensure!(told, "nothing is said\n{}", logs());
        let ike = ike()?;
        let said = ike["last_error"].as_str().unwrap_or_default();
        for part in &self.says {
            ensure!(
                said.contains(part),
                "`{part}` is not in: {said}\n{}",
                logs()
            );
        }
        ensure!(ike["blame"] == "configuration", "{ike}");
        let log = lab.hawser.log();
        ensure!(
            log.lines()
                .any(|l| l.contains("WARN") && l.contains(said) && l.contains("lab/t0")),
            "the log does not say: {said}\n{log}"
        );
        let mut lines = log.lines().filter(|l| l.contains(said));
        ensure!(
            lines.all(|l| l.contains("WARN")),
            "the log says twice: {said}\n{log}"
        );
        let theirs = lab.swan.whole_log();
        let notified = interrupt::wait_for(PATIENCE, || {
            let log = lab.swan.whole_log();
            let found = log
                .lines()
                .any(|l| l.contains(self.exchange) && l.contains(self.notify));
            Ok(found)
        })?;
        ensure!(
            notified,
            "no {} with {} in\n{theirs}",
            self.exchange,
            self.notify
        );
        Ok(said.to_owned())
    }
}

const INIT: [&str; 2] = ["IKE_SA_INIT response", "N(NO_PROP)"];
const CHILD: [&str; 2] = ["IKE_AUTH response", "N(NO_PROP)"];
const SELECTORS: [&str; 2] = ["IKE_AUTH response", "N(TS_UNACCEPT)"];
const AUTH: [&str; 2] = ["IKE_AUTH response", "N(AUTH_FAILED)"];
/// The initiator does not believe the responder (RFC 7296, section 2.21.2).
const AFTERWARDS: [&str; 2] = ["INFORMATIONAL request", "N(AUTH_FAILED)"];

pub(in crate::scenario) fn refusals(findings: &mut Findings) -> Result<()> {
    let other_ike = |c: &mut Case| c.ike = "proposals = \"aes128-cbc/sha1/group14\"\n".into();
    let other_esp = |c: &mut Case| c.ike = "esp_proposals = \"aes128-cbc/sha1\"\n".into();
    let other_networks = |c: &mut Case| c.ike = "remote_networks = \"192.168.0.0/16\"\n".into();
    let other_secret = |c: &mut Case| c.other_secret = Some("00112233445566778899".into());
    let not_expected = |c: &mut Case| c.ike = "remote_id = \"somebody.else\"\n".into();
    let other_name = |c: &mut Case| c.ike = "local_id = \"somebody.else\"\n".into();
    let cases = [
        Refusal::new(
            "IKE proposal",
            true,
            INIT,
            &[
                "peer accepts none of our proposals in IKE_SA_INIT",
                "we offer IKE: AES_CBC_128 / PRF_HMAC_SHA1 / HMAC_SHA1_96 / MODP_2048",
            ],
            other_ike,
        ),
        Refusal::new(
            "IKE proposal",
            false,
            INIT,
            &[
                "198.19.0.1:500: no common proposal for the IKE SA",
                "peer offers IKE: AES_GCM_16_256 / PRF_HMAC_SHA2_384 / ",
                "we allow IKE: AES_CBC_128 / PRF_HMAC_SHA1 / HMAC_SHA1_96 / MODP_2048",
            ],
            other_ike,
        ),
        Refusal::new(
            "ESP proposal",
            true,
            CHILD,
            &[
                "peer accepts none of our proposals in IKE_AUTH",
                "we offer ESP: AES_CBC_128 / HMAC_SHA1_96",
            ],
            other_esp,
        ),
        Refusal::new(
            "ESP proposal",
            false,
            CHILD,
            &[
                "no common proposal for the child SA",
                "peer offers ESP: AES_GCM_16_256",
                "we allow ESP: AES_CBC_128 / HMAC_SHA1_96",
            ],
            other_esp,
        ),
        Refusal::new(
            "traffic selectors",
            true,
            SELECTORS,
            &[
                "peer accepts none of our traffic selectors",
                "192.168.0.0-192.168.255.255",
            ],
            other_networks,
        ),
        Refusal::new(
            "traffic selectors",
            false,
            SELECTORS,
            &[
                "no common traffic selectors",
                "peer has 10.2.0.0-10.2.255.255 === 10.1.0.0-10.1.255.255",
                "192.168.0.0-192.168.255.255",
            ],
            other_networks,
        ),
        Refusal::new(
            "pre-shared key",
            true,
            AUTH,
            &[
                "peer refuses our authentication as 198.18.0.1 towards 198.19.0.1",
                "compare the pre-shared key",
            ],
            other_secret,
        ),
        Refusal::new(
            "pre-shared key",
            false,
            AUTH,
            &["the pre-shared key does not match that of 198.19.0.1"],
            other_secret,
        ),
        Refusal::new(
            "strongSwan is not whom we expect",
            true,
            AUTH,
            &[
                "as 198.18.0.1 towards somebody.else",
                "the identities that the peer expects",
            ],
            not_expected,
        ),
        Refusal::new(
            "strongSwan is not whom we expect",
            false,
            AUTH,
            &[
                "peer says it is 198.19.0.1, we expect somebody.else",
                "remote_id here",
            ],
            not_expected,
        ),
        Refusal::new(
            "we are not whom strongSwan expects",
            true,
            AUTH,
            &["peer refuses our authentication as somebody.else towards 198.19.0.1"],
            other_name,
        ),
        Refusal::new(
            "we are not whom strongSwan expects",
            false,
            AUTH,
            &[
                "peer wants to talk to 198.18.0.1, we are somebody.else",
                "local_id here",
            ],
            other_name,
        ),
    ];
    cases.iter().try_for_each(|case| case.run(findings))
}

pub(in crate::scenario) fn refused_certificates(findings: &mut Findings) -> Result<()> {
    let [ours, theirs] = NAMES;
    let good = Authority::create(P256, "Root")?;
    let foreign = Authority::create(P256, "Foreign")?;
    let expired = |name: &str| -> Result<Authority> {
        let authority = Authority::create(P256, "Root")?;
        authority.leaf(name, EXPIRED)?;
        Ok(authority)
    };
    let our_time_is_over = expired(ours)?;
    let their_time_is_over = expired(theirs)?;
    let refuses_us = [
        "peer refuses our authentication as a.example.net",
        "whether it trusts the authority of our certificate, whether ours is valid",
    ];
    let mut cases = Vec::new();
    for we_start in [true, false] {
        // Who refuses, and when, follows from who is asked first.
        let [refused, refuses] = if we_start {
            [AUTH, AFTERWARDS]
        } else {
            [AFTERWARDS, AUTH]
        };
        cases.push(Refusal::new(
            "our certificate has expired",
            we_start,
            refused,
            &refuses_us,
            |c| our_time_is_over.prove(c, [&our_time_is_over; 2]),
        ));
        cases.push(Refusal::new(
            "strongSwan's certificate has expired",
            we_start,
            refuses,
            &[
                "peer's certificate is refused",
                "b.example.net",
                "expired on",
            ],
            |c| their_time_is_over.prove(c, [&their_time_is_over; 2]),
        ));
        cases.push(Refusal::new(
            "strongSwan does not trust our authority",
            we_start,
            refused,
            &refuses_us,
            |c| good.prove(c, [&good, &foreign]),
        ));
        cases.push(Refusal::new(
            "we do not trust strongSwan's authority",
            we_start,
            refuses,
            &[
                "peer's certificate is refused",
                "middle-b.example.net was issued by O=Lab, CN=Root",
                "which is not trusted here; trusted: O=Lab, CN=Foreign",
            ],
            |c| good.prove(c, [&foreign, &good]),
        ));
    }
    cases.iter().try_for_each(|case| case.run(findings))
}
