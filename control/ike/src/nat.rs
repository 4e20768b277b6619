//! NAT detection (RFC 7296, section 2.23): hashes of addresses as their owner sees them.
//!
//! SHA-1 is prescribed; nothing here depends on its strength.

use std::net::{IpAddr, SocketAddr};

use hawser_ike_wire::{IkeSpi, Notify, NotifyType, Payloads};
use sha1::{Digest, Sha1};

use crate::event::{NatStatus, Path};

/// What detection found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nat {
    /// The peer understands NAT detection.
    pub(crate) supported: bool,
    /// Our address is translated on its way.
    pub(crate) local: bool,
    /// The peer's is.
    pub(crate) remote: bool,
    /// Our configuration wants ESP in UDP.
    pub(crate) forced: bool,
}

impl Nat {
    /// Whether ESP goes in UDP and IKE on port 4500.
    pub(crate) fn encapsulated(self) -> bool {
        self.supported && (self.local || self.remote || self.forced)
    }

    pub(crate) fn status(self) -> NatStatus {
        match (self.supported, self.local, self.remote) {
            (false, ..) => NatStatus::Unknown,
            (true, true, true) => NatStatus::Both,
            (true, true, false) if self.forced => NatStatus::Forced,
            (true, true, false) => NatStatus::Local,
            (true, false, true) => NatStatus::Remote,
            (true, false, false) if self.forced => NatStatus::Forced,
            (true, false, false) => NatStatus::None,
        }
    }
}

/// The notifies of our message. When encapsulation is `forced`, our own address is hashed wrongly
/// on purpose, so that the peer finds a NAT and encapsulates too.
pub(crate) fn notifies(i: IkeSpi, r: IkeSpi, path: &Path, forced: bool) -> [Notify; 2] {
    let mut source = hash(i, r, path.local);
    if forced {
        source[0] ^= 0xff;
    }
    [
        Notify::with_data(NotifyType::NatDetectionSourceIp, source.to_vec()),
        Notify::with_data(
            NotifyType::NatDetectionDestinationIp,
            hash(i, r, path.remote).to_vec(),
        ),
    ]
}

/// What the peer's notifies say about the path its message came on.
pub(crate) fn detect(i: IkeSpi, r: IkeSpi, path: &Path, payloads: &Payloads, forced: bool) -> Nat {
    let of = |kind: NotifyType| -> Vec<&[u8]> {
        payloads
            .notifies()
            .filter(|n| n.kind == kind)
            .map(|n| n.data.as_slice())
            .collect()
    };
    let sources = of(NotifyType::NatDetectionSourceIp);
    let destinations = of(NotifyType::NatDetectionDestinationIp);
    if sources.is_empty() || destinations.is_empty() {
        return Nat {
            forced,
            ..Nat::default()
        };
    }
    let theirs = hash(i, r, path.remote);
    let ours = hash(i, r, path.local);
    Nat {
        supported: true,
        remote: !sources.contains(&theirs.as_slice()),
        local: !destinations.contains(&ours.as_slice()),
        forced,
    }
}

fn hash(i: IkeSpi, r: IkeSpi, address: SocketAddr) -> [u8; 20] {
    let mut h = Sha1::new();
    h.update(i.0.to_be_bytes());
    h.update(r.0.to_be_bytes());
    match address.ip() {
        IpAddr::V4(a) => h.update(a.octets()),
        IpAddr::V6(a) => h.update(a.octets()),
    }
    h.update(address.port().to_be_bytes());
    h.finalize().into()
}

#[cfg(test)]
mod tests {
    use hawser_ike_wire::Payload;

    use super::*;

    fn path(local: &str, remote: &str) -> Path {
        Path {
            local: local.parse().expect("an address"),
            remote: remote.parse().expect("an address"),
        }
    }

    fn seen(sent_on: Path, arrived_on: Path, forced: bool) -> Nat {
        let (i, r) = (IkeSpi(1), IkeSpi(2));
        let payloads = Payloads::from(
            notifies(i, r, &sent_on, forced)
                .map(Payload::Notify)
                .to_vec(),
        );
        detect(i, r, &arrived_on, &payloads, false)
    }

    #[test]
    fn no_nat_is_found_where_none_is() {
        let a = path("192.0.2.1:500", "192.0.2.2:500");
        let b = path("192.0.2.2:500", "192.0.2.1:500");
        let nat = seen(a, b, false);
        assert!(nat.supported && !nat.encapsulated());
        assert_eq!(nat.status(), NatStatus::None);
    }

    #[test]
    fn a_translated_sender_is_found() {
        let a = path("10.0.0.1:500", "192.0.2.2:500");
        let b = path("192.0.2.2:500", "192.0.2.99:1024");
        assert_eq!(seen(a, b, false).status(), NatStatus::Remote);
    }

    #[test]
    fn a_translated_receiver_is_found() {
        let a = path("192.0.2.1:500", "192.0.2.99:500");
        let b = path("10.0.0.2:500", "192.0.2.1:500");
        assert_eq!(seen(a, b, false).status(), NatStatus::Local);
    }

    #[test]
    fn forcing_makes_the_peer_find_a_nat() {
        let a = path("192.0.2.1:500", "192.0.2.2:500");
        let b = path("192.0.2.2:500", "192.0.2.1:500");
        assert!(seen(a, b, true).encapsulated());
    }

    #[test]
    fn a_peer_without_detection_is_left_on_its_port() {
        let (i, r) = (IkeSpi(1), IkeSpi(2));
        let p = path("192.0.2.1:500", "192.0.2.2:500");
        let nat = detect(i, r, &p, &Payloads::from(Vec::new()), true);
        assert!(!nat.encapsulated());
        assert_eq!(nat.status(), NatStatus::Unknown);
    }
}
