//! Where peers are, for the control after us: a tunnel whose peer is behind a NAT would otherwise
//! be without its encapsulation until the key exchange found out again.

use std::{collections::BTreeMap, io, path::Path};

use hawser_api::TunnelId;

use crate::desired::PeerPath;

/// Reads what an earlier control wrote; nothing when there is no such file.
#[must_use]
pub fn load(path: &Path) -> BTreeMap<TunnelId, PeerPath> {
    std::fs::read(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// Writes them down.
///
/// # Errors
/// When the file cannot be written.
pub fn save(peers: &BTreeMap<TunnelId, PeerPath>, path: &Path) -> io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(peers)?)?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use hawser_api::Encapsulation;

    use super::*;

    #[test]
    fn peers_are_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers.json");
        assert_eq!(load(&path), BTreeMap::new());
        let peers = BTreeMap::from([(
            TunnelId(3),
            PeerPath {
                local: "192.0.2.1".parse().unwrap(),
                remote: "198.51.100.1".parse().unwrap(),
                encapsulation: Encapsulation::Udp {
                    local_port: 4500,
                    remote_port: 1234,
                },
            },
        )]);
        save(&peers, &path).unwrap();
        assert_eq!(load(&path), peers);
    }
}
