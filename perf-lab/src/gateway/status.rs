//! What `hawser status --json` says of a gateway.

use std::collections::BTreeMap;

use serde_json::Value;

/// What `hawser status --json` says.
#[derive(Clone, Debug)]
pub struct Status(pub Value);

/// A tunnel's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelCounters {
    /// `connection/tunnel`.
    pub name: String,
    /// Whether it can carry traffic.
    pub up: bool,
    /// Inner packets sent.
    pub sent: u64,
    /// Bytes of inner packets sent.
    pub sent_bytes: u64,
    /// Inner packets received.
    pub received: u64,
    /// Bytes of inner packets received.
    pub received_bytes: u64,
    /// Drops by reason.
    pub drops: BTreeMap<String, u64>,
}

impl Status {
    /// Whether the data plane runs with the configuration and every tunnel can carry traffic.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.0["dataplane"]["state"] == "running"
            && self.0["gateway"]["problem"].is_null()
            && self.0["dataplane"]["generation"].as_u64() >= Some(1)
            && self.tunnels().iter().all(|t| t.up)
            && self.ports().iter().all(|p| p["state"] == "up")
    }

    /// The data plane's process.
    #[must_use]
    pub fn dataplane_pid(&self) -> Option<u32> {
        self.0["dataplane"]["pid"].as_u64()?.try_into().ok()
    }

    /// Which AES-GCM runs.
    #[must_use]
    pub fn aead(&self) -> &str {
        self.0["dataplane"]["aead"].as_str().unwrap_or("unknown")
    }

    /// How often the data plane had to be started again.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.0["dataplane"]["restarts"].as_u64().unwrap_or(0)
    }

    /// Resident memory of the data plane, bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.0["dataplane"]["memory_bytes"].as_u64().unwrap_or(0)
    }

    /// Child SAs that were rekeyed, over all tunnels.
    #[must_use]
    pub fn rekeys(&self) -> u64 {
        self.rekeys_of_each().iter().sum()
    }

    /// The same for each tunnel.
    #[must_use]
    pub fn rekeys_of_each(&self) -> Vec<u64> {
        let tunnels = self.0["tunnels"].as_array().into_iter().flatten();
        tunnels
            .map(|t| t["ike"]["counts"]["child_rekeys"].as_u64().unwrap_or(0))
            .collect()
    }

    /// The workers.
    #[must_use]
    pub fn workers(&self) -> &[Value] {
        self.0["workers"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The interfaces.
    #[must_use]
    pub fn ports(&self) -> &[Value] {
        self.0["ports"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The tunnels, in the order of the configuration.
    #[must_use]
    pub fn tunnels(&self) -> Vec<TunnelCounters> {
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        self.0["tunnels"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|t| TunnelCounters {
                name: t["name"].as_str().unwrap_or("").into(),
                up: t["state"] == "up",
                sent: number(&t["traffic"]["sent"]),
                sent_bytes: number(&t["traffic"]["sent_bytes"]),
                received: number(&t["traffic"]["received"]),
                received_bytes: number(&t["traffic"]["received_bytes"]),
                drops: drops(&t["drops"]),
            })
            .collect()
    }

    /// Drops that belong to no tunnel, by reason.
    #[must_use]
    pub fn worker_drops(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (reason, count) in self.workers().iter().flat_map(|w| drops(&w["drops"])) {
            *all.entry(reason).or_default() += count;
        }
        all
    }

    /// The worker that decrypts, for each tunnel.
    #[must_use]
    pub fn owners(&self) -> Vec<Option<u64>> {
        let tunnels = self.0["tunnels"].as_array();
        let tunnels = tunnels.map_or(&[][..], Vec::as_slice);
        tunnels.iter().map(|t| t["owner"].as_u64()).collect()
    }

    /// What the kernel dropped before it reached the data plane, over all ports.
    #[must_use]
    pub fn kernel_drops(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for port in self.ports() {
            for reason in ["ring_full", "fill_empty", "kernel_dropped"] {
                let count = port[reason].as_u64().unwrap_or(0);
                if count > 0 {
                    *all.entry(reason.to_owned()).or_default() += count;
                }
            }
        }
        all
    }

    /// All drops of the data plane by reason: of tunnels and of workers.
    #[must_use]
    pub fn drops(&self) -> BTreeMap<String, u64> {
        let mut all = self.worker_drops();
        for (reason, count) in self.tunnels().into_iter().flat_map(|t| t.drops) {
            *all.entry(reason).or_default() += count;
        }
        all
    }
}

/// Drops by reason.
fn drops(value: &Value) -> BTreeMap<String, u64> {
    let counts = value.as_object().into_iter().flatten();
    counts
        .filter_map(|(reason, n)| Some((reason.clone(), n.as_u64()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_read() {
        let status = Status(serde_json::json!({
            "gateway": {"problem": null},
            "dataplane": {"state": "running", "pid": 7, "generation": 1},
            "workers": [{"drops": {"no_route": 2}}],
            "ports": [{"state": "up", "ring_full": 4, "fill_empty": 0}],
            "tunnels": [{"name": "lab/t0", "state": "up", "traffic": {"sent": 5},
                         "drops": {"no_route": 1}}],
        }));
        assert!(status.is_up());
        assert_eq!(status.dataplane_pid(), Some(7));
        assert_eq!(status.drops(), BTreeMap::from([("no_route".into(), 3)]));
        assert_eq!(
            status.kernel_drops(),
            BTreeMap::from([("ring_full".into(), 4)])
        );
        assert_eq!(status.tunnels()[0].sent, 5);
        assert!(!Status(Value::Null).is_up());
    }
}
