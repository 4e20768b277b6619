//! Traffic selectors: between the wire and the data plane, and narrowing (RFC 7296, section 2.9).

use std::net::IpAddr;

use hawser_api::{Selectors, TrafficSelector};
use hawser_ike_wire::{PortRange, TrafficSelector as WireSelector, TrafficSelectors};

/// Selectors kept of one side at most: more than any real policy has, few enough that a peer
/// cannot make the data plane's search long.
const MOST: usize = 64;

/// Ours as sent.
pub(crate) fn to_wire(selectors: &[TrafficSelector]) -> TrafficSelectors {
    TrafficSelectors(
        selectors
            .iter()
            .map(|s| WireSelector::Range {
                protocol: s.protocol,
                ports: PortRange {
                    first: s.ports.0,
                    last: s.ports.1,
                },
                first: s.addresses.0,
                last: s.addresses.1,
            })
            .collect(),
    )
}

/// The peer's; selectors of other kinds are passed over.
pub(crate) fn from_wire(selectors: &TrafficSelectors) -> Vec<TrafficSelector> {
    selectors
        .0
        .iter()
        .filter_map(|s| match s {
            WireSelector::Range {
                protocol,
                ports,
                first,
                last,
            } if first.is_ipv4() == last.is_ipv4() && first <= last => Some(TrafficSelector {
                addresses: (*first, *last),
                protocol: *protocol,
                ports: (ports.first, ports.last),
            }),
            _ => None,
        })
        .collect()
}

/// The traffic in both; empty if there is none.
pub(crate) fn narrow(ours: &[TrafficSelector], theirs: &[TrafficSelector]) -> Vec<TrafficSelector> {
    let mut common: Vec<TrafficSelector> = Vec::new();
    for our in ours {
        for their in theirs {
            let Some(both) = intersect(our, their) else {
                continue;
            };
            if common.iter().any(|c| contains(c, &both)) {
                continue;
            }
            common.retain(|c| !contains(&both, c));
            if common.len() == MOST {
                return common;
            }
            common.push(both);
        }
    }
    common
}

/// Whether every one of `inner` lies in one of `outer`: what a responder may narrow to.
pub(crate) fn within(inner: &[TrafficSelector], outer: &[TrafficSelector]) -> bool {
    !inner.is_empty() && inner.iter().all(|i| outer.iter().any(|o| contains(o, i)))
}

fn intersect(a: &TrafficSelector, b: &TrafficSelector) -> Option<TrafficSelector> {
    if a.addresses.0.is_ipv4() != b.addresses.0.is_ipv4() {
        return None;
    }
    let first: IpAddr = a.addresses.0.max(b.addresses.0);
    let last: IpAddr = a.addresses.1.min(b.addresses.1);
    if first > last {
        return None;
    }
    let protocol = match (a.protocol, b.protocol) {
        (0, p) | (p, 0) => p,
        (p, q) if p == q => p,
        _ => return None,
    };
    Some(TrafficSelector {
        addresses: (first, last),
        protocol,
        ports: intersect_ports(a.ports, b.ports)?,
    })
}

/// Opaque ports (65535 to 0) are in "any" and in themselves, in nothing else.
fn intersect_ports(a: (u16, u16), b: (u16, u16)) -> Option<(u16, u16)> {
    const ANY: (u16, u16) = (0, u16::MAX);
    if a == ANY {
        return Some(b);
    }
    if b == ANY || a == b {
        return Some(a);
    }
    let both = (a.0.max(b.0), a.1.min(b.1));
    let opaque = a.0 > a.1 || b.0 > b.1;
    (!opaque && both.0 <= both.1).then_some(both)
}

fn contains(outer: &TrafficSelector, inner: &TrafficSelector) -> bool {
    intersect(outer, inner).as_ref() == Some(inner)
}

/// For a sentence.
pub(crate) fn list(selectors: &[TrafficSelector]) -> String {
    if selectors.is_empty() {
        return "nothing".into();
    }
    let words: Vec<String> = to_wire(selectors)
        .0
        .iter()
        .map(ToString::to_string)
        .collect();
    words.join(", ")
}

/// Both sides for a sentence.
pub(crate) fn pair(selectors: &Selectors) -> String {
    format!("{} === {}", list(&selectors.local), list(&selectors.remote))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::everything;

    fn ts(first: &str, last: &str, protocol: u8, ports: (u16, u16)) -> TrafficSelector {
        TrafficSelector {
            addresses: (
                first.parse().expect("an address"),
                last.parse().expect("an address"),
            ),
            protocol,
            ports,
        }
    }

    #[test]
    fn narrowing_takes_what_is_in_both() {
        let ours = [ts("10.0.0.0", "10.0.255.255", 0, (0, 65535))];
        let theirs = [ts("10.0.8.0", "10.1.0.0", 6, (80, 90))];
        assert_eq!(
            narrow(&ours, &theirs),
            [ts("10.0.8.0", "10.0.255.255", 6, (80, 90))]
        );
        assert!(narrow(&ours, &[ts("10.1.0.0", "10.1.0.9", 0, (0, 65535))]).is_empty());
        assert!(narrow(&ours, &[ts("::", "::9", 0, (0, 65535))]).is_empty());
    }

    #[test]
    fn narrowing_keeps_no_selector_that_lies_in_another() {
        let theirs = [
            ts("10.0.0.7", "10.0.0.7", 17, (53, 53)),
            ts("10.0.0.0", "10.0.0.255", 0, (0, 65535)),
        ];
        assert_eq!(narrow(&everything(), &theirs), [theirs[1]]);
    }

    #[test]
    fn opaque_ports_are_in_any_ports_only() {
        let opaque = ts("10.0.0.0", "10.0.0.255", 6, (65535, 0));
        let any = ts("10.0.0.0", "10.0.0.255", 6, (0, 65535));
        let some = ts("10.0.0.0", "10.0.0.255", 6, (1, 65535));
        assert_eq!(narrow(&[any], &[opaque]), [opaque]);
        assert_eq!(narrow(&[opaque], &[opaque]), [opaque]);
        assert!(narrow(&[some], &[opaque]).is_empty());
    }

    #[test]
    fn a_wider_answer_is_not_within_the_offer() {
        let narrow = [ts("10.0.0.0", "10.0.0.255", 0, (0, 65535))];
        assert!(within(&narrow, &everything()));
        assert!(!within(&everything(), &narrow));
        assert!(!within(&[], &everything()));
    }
}
