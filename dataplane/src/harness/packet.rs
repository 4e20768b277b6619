//! Packets as hosts send them.

use std::net::IpAddr;

/// A UDP packet in an Ethernet frame from host 1 of `from` to host 1 of the other site.
#[must_use]
pub fn udp(from: u8, v6: bool, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let to = 1 - from;
    let mut udp = Vec::new();
    udp.extend(ports.0.to_be_bytes());
    udp.extend(ports.1.to_be_bytes());
    udp.extend((8 + payload.len() as u16).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    if v6 {
        let address = |side: u8| -> IpAddr { format!("fd00:{side}::1").parse().unwrap() };
        ipv6(address(from), address(to), 17, &udp)
    } else {
        ipv4([10, from, 0, 1], [10, to, 0, 1], 17, &udp, false)
    }
}

/// An Ethernet header to the gateway.
#[must_use]
pub fn ethernet(ethertype: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 77];
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// An IPv4 packet in an Ethernet frame.
#[must_use]
pub fn ipv4(from: [u8; 4], to: [u8; 4], protocol: u8, payload: &[u8], df: bool) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend((20 + payload.len() as u16).to_be_bytes());
    ip.extend([0x12, 0x34, if df { 0x40 } else { 0 }, 0, 64, protocol, 0, 0]);
    ip.extend(from);
    ip.extend(to);
    let sum = hawser_net::checksum::of(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip.extend(payload);
    let mut frame = ethernet(0x0800);
    frame.extend(ip);
    frame
}

/// An IPv6 packet in an Ethernet frame.
#[must_use]
pub fn ipv6(from: IpAddr, to: IpAddr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let octets = |address| match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(_) => panic!("an IPv6 address"),
    };
    let mut frame = ethernet(0x86dd);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([next_header, 64]);
    frame.extend(octets(from));
    frame.extend(octets(to));
    frame.extend(payload);
    frame
}
