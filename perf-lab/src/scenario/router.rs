//! What makes a gateway a router: packet sizes, hop limits, TCP's segment size, VLANs.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{Findings, Lab, SHORT, pair_of};
use crate::{
    config::{PairSpec, TunnelSpec},
    iperf, shell,
    topology::{
        Family, INSIDE_INTERFACE, SITE_INTERFACE, Side, TopologyConfig, gateway_address,
        host_address, mac_text, outside_port, site_mac,
    },
    traffic::{
        Endpoints, FlowSpec, Sizes, Stamp, flows, frame,
        packet::{Capture, PacketPort, now},
    },
};

/// Largest inner packet of a tunnel with AES-GCM over IPv4 and 1500 bytes: AWS's table.
const INSIDE_MTU: u16 = 1446;
/// Where the IP header begins in an untagged frame.
const IP: usize = 14;

/// An ICMP error that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct IcmpError {
    from: IpAddr,
    kind: u8,
    code: u8,
    /// The last 32 bits of its header: the MTU in the low 16 (IPv4) or in all of them (IPv6).
    word: u32,
}

/// Reads an ICMP or ICMPv6 error.
fn icmp_error(frame: &[u8]) -> Option<IcmpError> {
    let (from, icmp): (IpAddr, &[u8]) = match frame.get(12..14)? {
        [8, 0] if *frame.get(IP + 9)? == 1 => {
            let source: [u8; 4] = *frame.get(IP + 12..)?.first_chunk()?;
            (source.into(), frame.get(IP + 20..)?)
        }
        [0x86, 0xdd] if *frame.get(IP + 6)? == 58 => {
            let source: [u8; 16] = *frame.get(IP + 8..)?.first_chunk()?;
            (source.into(), frame.get(IP + 40..)?)
        }
        _ => return None,
    };
    let header: &[u8; 8] = icmp.first_chunk()?;
    let [kind, code] = [header[0], header[1]];
    let is_error = if from.is_ipv4() {
        matches!(kind, 3 | 11 | 12)
    } else {
        kind < 128
    };
    let word = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    is_error.then_some(IcmpError {
        from,
        kind,
        code,
        word,
    })
}

/// Sends one packet of a flow from site A and waits for the ICMP error to it.
fn provoke(lab: &Lab, flow: &FlowSpec, length: u16) -> Result<IcmpError> {
    let port = PacketPort::open(lab.site(Side::A), SITE_INTERFACE)?;
    let stamp = Stamp {
        flow: flow.number,
        sequence: 0,
        time: now()?,
    };
    port.send(&frame(flow, stamp, length)?)?;
    let end = Instant::now() + Duration::from_secs(2);
    while let Some(got) = port.receive(end.saturating_duration_since(Instant::now()))? {
        if let Some(error) = icmp_error(&got) {
            return Ok(error);
        }
    }
    bail!(
        "no ICMP error came back for {length} bytes of {flow:?}\n{}",
        lab.logs()
    );
}

pub(super) fn path_mtu(findings: &mut Findings) -> Result<()> {
    let lab = Lab::simple(1)?;
    for family in [Family::V4, Family::V6] {
        let flow = flows(Side::A, family, Endpoints::Spread, 7, 1)[0];
        let (kind, code) = match family {
            Family::V4 => (3, 4),
            Family::V6 => (2, 0),
        };
        for length in [1500, INSIDE_MTU + 1] {
            let error = provoke(&lab, &flow, length)?;
            let expected = IcmpError {
                from: gateway_address(Side::A, family),
                kind,
                code,
                word: INSIDE_MTU.into(),
            };
            ensure!(
                error == expected,
                "{length} bytes: got {error:?}, expected {expected:?}"
            );
        }
        lab.exchange(Side::A, &[flow], &Sizes::fixed(INSIDE_MTU), 200, SHORT)?
            .must_be_perfect()
            .with_context(|| format!("{INSIDE_MTU} bytes fit {family:?}"))?;
    }
    findings.add(format!(
        "1500 bytes with DF: the sender is told {INSIDE_MTU}, which then passes"
    ));

    // The sender's own stack understands it.
    let host = host_address(Side::B, Family::V4);
    let said = lab
        .site(Side::A)
        .exec(&format!("ping -M do -s 1472 -c 1 -W 1 {host}"));
    let said = said.err().map(|e| format!("{e:#}")).unwrap_or_default();
    ensure!(
        said.contains(&format!("mtu = {INSIDE_MTU}")),
        "ping says: {said}"
    );

    // Without DF: fragments before encryption, which the receiver puts together.
    let outside = Capture::start(lab.topology.outside(), outside_port(Side::A), |frame| {
        frame.get(12..14) == Some(&[8, 0]) && frame.get(IP + 9) == Some(&50)
    })?;
    let said = lab
        .site(Side::A)
        .exec(&format!("ping -M dont -s 1472 -i 0.01 -c 20 -W 1 {host}"))?;
    ensure!(said.contains(" 0% packet loss"), "ping says: {said}");
    let outer = outside.finish()?;
    ensure!(
        outer.len() >= 40,
        "20 large packets made only {} outer ones",
        outer.len()
    );
    for packet in &outer {
        let flags = u16::from_be_bytes([packet.frame[IP + 6], packet.frame[IP + 7]]);
        ensure!(flags & 0x3fff == 0, "ESP was fragmented after encryption");
    }
    findings.add("1500 bytes without DF: fragmented before encryption, whole at the other side");
    lab.close()
}

pub(super) fn hop_limit(findings: &mut Findings) -> Result<()> {
    let lab = Lab::simple(1)?;
    for family in [Family::V4, Family::V6] {
        let flow = flows(Side::A, family, Endpoints::Spread, 3, 1)[0];
        let kind = match family {
            Family::V4 => 11,
            Family::V6 => 3,
        };
        for (hops, side) in [(1, Side::A), (2, Side::B)] {
            let error = provoke(
                &lab,
                &FlowSpec {
                    hop_limit: hops,
                    ..flow
                },
                200,
            )?;
            ensure!(
                error.kind == kind
                    && error.code == 0
                    && error.from == gateway_address(side, family),
                "hop limit {hops}: got {error:?}, expected it from gateway {}",
                side.letter()
            );
        }
        let capture = Capture::start(lab.site(Side::B), SITE_INTERFACE, |frame| {
            crate::traffic::read_stamp(frame).is_some()
        })?;
        let last = FlowSpec {
            hop_limit: 3,
            ..flow
        };
        let port = PacketPort::open(lab.site(Side::A), SITE_INTERFACE)?;
        port.send(&frame(
            &last,
            Stamp {
                flow: 3,
                sequence: 0,
                time: now()?,
            },
            200,
        )?)?;
        std::thread::sleep(SHORT);
        let arrived = capture.finish()?;
        ensure!(
            arrived.len() == 1,
            "{} packets of hop limit 3 arrived",
            arrived.len()
        );
        let at = match family {
            Family::V4 => IP + 8,
            Family::V6 => IP + 7,
        };
        ensure!(
            arrived[0].frame[at] == 1,
            "it arrived with {}",
            arrived[0].frame[at]
        );
    }
    findings.add("each gateway takes one hop; the one that takes the last says so to the sender");
    lab.close()
}

/// The MSS option of a SYN in an untagged frame.
fn syn_mss(frame: &[u8]) -> Option<u16> {
    let tcp = match frame.get(12..14)? {
        [8, 0] if *frame.get(IP + 9)? == 6 => frame.get(IP + 20..)?,
        [0x86, 0xdd] if *frame.get(IP + 6)? == 6 => frame.get(IP + 40..)?,
        _ => return None,
    };
    if tcp.get(13)? & 2 == 0 {
        return None;
    }
    let mut options = tcp.get(20..usize::from(*tcp.get(12)? >> 4) * 4)?;
    loop {
        match *options.first()? {
            0 => return None,
            1 => options = &options[1..],
            2 => return Some(u16::from_be_bytes(*options.get(2..)?.first_chunk()?)),
            _ => options = options.get(usize::from(*options.get(1)?).max(2)..)?,
        }
    }
}

pub(super) fn mss(findings: &mut Findings) -> Result<()> {
    ensure!(shell::has("iperf3"), "needs iperf3, which is not installed");
    let lab = Lab::simple(2)?;
    for (family, headers) in [(Family::V4, 40), (Family::V6, 60)] {
        // Both ways: the SYN at the server, the SYN+ACK at the client.
        let captures = [Side::A, Side::B].map(|side| {
            Capture::start(lab.site(side), SITE_INTERFACE, |frame| {
                syn_mss(frame).is_some()
            })
        });
        let result = iperf::run(&lab.topology, Side::A, family, 2, 2, &[])?;
        for capture in captures {
            let seen = capture?.finish()?;
            ensure!(!seen.is_empty(), "no SYN was seen");
            for packet in seen {
                let mss = syn_mss(&packet.frame);
                ensure!(
                    mss == Some(INSIDE_MTU - headers),
                    "{family:?}: a SYN came with {mss:?}"
                );
            }
        }
        ensure!(result.bits_per_second > 1e6, "TCP hardly moves: {result:?}");
        findings.add(format!(
            "{family:?}: MSS {} both ways, TCP at {:.2} Gbps",
            INSIDE_MTU - headers,
            result.bits_per_second / 1e9
        ));
    }
    lab.close()
}

pub(super) fn jumbo(findings: &mut Findings) -> Result<()> {
    let config = TopologyConfig {
        inside_mtu: 9000,
        outside_mtu: 9100,
        ..TopologyConfig::default()
    };
    let lab = Lab::new(config, pair_of(vec![TunnelSpec::default()]))?;
    for family in [Family::V4, Family::V6] {
        let flow = flows(Side::A, family, Endpoints::Spread, 0, 4);
        for length in [1500, 3500, 4100, 8900, 9000] {
            lab.exchange(Side::A, &flow, &Sizes::fixed(length), 200, SHORT)?
                .must_be_perfect()
                .with_context(|| format!("{family:?} packets of {length} bytes\n{}", lab.logs()))?;
        }
    }
    findings.add("packets of 1,500 to 9,000 bytes pass whole");
    lab.close()
}

/// The VLAN of the scenario.
const VLAN: u16 = 100;

pub(super) fn vlan(findings: &mut Findings) -> Result<()> {
    // Site A is behind VLAN 100 of its gateway's inside interface.
    let mut spec: PairSpec = pair_of(vec![TunnelSpec::default()]);
    spec.a.inside = format!("[[interface.vlan]]\nid = {VLAN}\n");
    spec.a.inside_route = format!("vlan = {VLAN}\n");
    for family in [Family::V4, Family::V6] {
        spec.a.end += &format!(
            "\n[[neighbour]]\ninterface = \"{INSIDE_INTERFACE}\"\nvlan = {VLAN}\naddress = \"{}\"\n\
             mac = \"{}\"\n",
            host_address(Side::A, family),
            mac_text(site_mac(Side::A))
        );
    }
    let lab = Lab::new(TopologyConfig::default(), spec)?;
    for family in [Family::V4, Family::V6] {
        let tagged: Vec<FlowSpec> = flows(Side::A, family, Endpoints::Spread, 0, 4)
            .into_iter()
            .map(|flow| FlowSpec {
                vlan: Some(VLAN),
                ..flow
            })
            .collect();
        lab.exchange(Side::A, &tagged, &Sizes::imix_within(1300), 500, SHORT)?
            .must_be_perfect()
            .with_context(|| format!("{family:?} out of the VLAN\n{}", lab.logs()))?;
        let back = flows(Side::B, family, Endpoints::Spread, 0, 4);
        let capture = Capture::start(lab.site(Side::A), SITE_INTERFACE, |frame| {
            crate::traffic::read_stamp(frame).is_some()
        })?;
        lab.exchange(Side::B, &back, &Sizes::imix_within(1300), 500, SHORT)?
            .must_be_perfect()
            .with_context(|| format!("{family:?} into the VLAN\n{}", lab.logs()))?;
        ensure!(!capture.finish()?.is_empty(), "nothing was seen at site A");
    }
    let status = lab.gateway(Side::A).status()?;
    let drops = status.drops();
    ensure!(drops.is_empty(), "dropped: {drops:?}");
    // Untagged packets of the same interface belong to the kernel.
    let untagged = flows(Side::A, Family::V4, Endpoints::Spread, 9, 1);
    let report = lab.exchange(Side::A, &untagged, &Sizes::fixed(200), 200, SHORT)?;
    ensure!(
        report.total(|f| f.received) == 0,
        "untagged packets went into the tunnel"
    );
    findings.add(format!(
        "VLAN {VLAN}: tagged packets pass both ways, untagged ones do not"
    ));
    lab.close()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn icmp_errors_are_read() {
        let mut frame = vec![0; IP + 28];
        frame[12] = 8;
        frame[IP] = 0x45;
        frame[IP + 9] = 1;
        frame[IP + 12..IP + 16].copy_from_slice(&[10, 1, 0, 1]);
        frame[IP + 20..IP + 28].copy_from_slice(&[3, 4, 0, 0, 0, 0, 5, 0xa6]);
        let error = icmp_error(&frame).unwrap();
        assert_eq!((error.kind, error.code, error.word), (3, 4, 1446));
        assert_eq!(error.from, gateway_address(Side::A, Family::V4));
        frame[IP + 20] = 8;
        assert_eq!(icmp_error(&frame), None, "an echo request is no error");
    }

    #[test]
    fn the_mss_is_found_behind_other_options() {
        let mut frame = vec![0; IP + 20 + 28];
        frame[12] = 8;
        frame[IP + 9] = 6;
        let tcp = IP + 20;
        frame[tcp + 12] = 7 << 4;
        frame[tcp + 13] = 2;
        frame[tcp + 20..tcp + 28].copy_from_slice(&[1, 3, 3, 7, 2, 4, 5, 0x7e]);
        assert_eq!(syn_mss(&frame), Some(1406));
        frame[tcp + 13] = 16;
        assert_eq!(syn_mss(&frame), None, "not a SYN");
        assert_eq!(syn_mss(&frame[..tcp + 22]), None);
    }
}
