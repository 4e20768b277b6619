//! The outside network as a router that translates addresses: what stands between a gateway and the
//! Internet in offices and clouds.
//!
//! In place of the bridge, the kernel of the outside network routes between its two ports, and
//! nftables masquerades what leaves towards one of them: that gateway sees the router's address and
//! a port of the router's choice (RFC 3022). IPv4 only. Rules count what matters to a key exchange,
//! by looking at the packets and not at what gateways say.

use std::ops::RangeInclusive;

use anyhow::{Context, Result};

use crate::{
    shell,
    topology::{
        Family, Side, Topology, mac_text, outside_address, outside_mac, outside_port, port_mac,
    },
};

/// Why there can be no such router here, or nothing if there can. For tests that skip loudly.
#[must_use]
pub fn unavailable() -> Option<String> {
    ["nft", "conntrack"]
        .into_iter()
        .find(|tool| !shell::has(tool))
        .map(|tool| format!("needs `{tool}`: scripts/setup peers-strongswan"))
}

/// The router's address on the side of a gateway.
#[must_use]
pub fn router_address(side: Side) -> &'static str {
    match side {
        Side::A => "198.18.255.254",
        Side::B => "198.19.255.254",
    }
}

/// A router that hides one gateway from the other. It lasts as long as the topology.
#[derive(Debug)]
pub struct Nat {
    /// The namespace.
    router: String,
    hidden: Side,
}

impl Nat {
    /// Puts it between the gateways. `hidden` is behind it; its packets get ports from this range.
    ///
    /// # Errors
    /// Without the tools, or when the kernel refuses.
    pub fn start(topology: &Topology, hidden: Side, ports: RangeInclusive<u16>) -> Result<Self> {
        let outside = topology.outside();
        let mut lines = String::from("link del br0\n");
        for side in [Side::A, Side::B] {
            let port = outside_port(side);
            let own = router_address(side);
            lines += &format!("addr add {own}/16 dev {port}\n");
            for tunnel in 0..topology.config().tunnels {
                let gateway = outside_address(side, Family::V4, tunnel);
                let mac = mac_text(outside_mac(side));
                lines +=
                    &format!("neigh replace {gateway} lladdr {mac} nud permanent dev {port}\n");
            }
        }
        outside.ip_batch(&lines)?;
        outside.sysctl("net.ipv4.ip_forward=1")?;
        for side in [Side::A, Side::B] {
            // Whatever a gateway sends to the other side goes to the router.
            let mac = mac_text(port_mac(side));
            let neighbour =
                |address| format!("neigh replace {address} lladdr {mac} nud permanent dev out0\n");
            let mut lines = neighbour(router_address(side).to_owned())
                + &neighbour(router_address(side.other()).to_owned());
            for tunnel in 0..topology.config().tunnels {
                let peer = outside_address(side.other(), Family::V4, tunnel);
                lines += &neighbour(peer.to_string());
            }
            topology.gateway(side).ip_batch(&lines)?;
        }
        let nat = Self {
            router: outside.name().into(),
            hidden,
        };
        nat.translate(&ports)?;
        nat.count()?;
        Ok(nat)
    }

    /// Forgets all mappings and takes ports from another range from now on, as a router does that
    /// was restarted.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn forget(&self, ports: RangeInclusive<u16>) -> Result<()> {
        self.translate(&ports)?;
        shell::run(&format!("ip netns exec {} conntrack -F", self.router)).map(drop)
    }

    fn translate(&self, ports: &RangeInclusive<u16>) -> Result<()> {
        let out = outside_port(self.hidden.other());
        let (first, last) = (ports.start(), ports.end());
        self.nft(&format!(
            "table ip lab-nat\ndelete table ip lab-nat\n\
             table ip lab-nat {{\nchain translate {{\n\
             type nat hook postrouting priority srcnat\n\
             oifname \"{out}\" meta l4proto udp masquerade to :{first}-{last} random\n\
             oifname \"{out}\" masquerade\n}}\n}}\n"
        ))
    }

    /// Keepalives are UDP packets of one octet 0xff (RFC 3948, section 2.3); fragments of IP are
    /// what fragments of IKE are there to avoid (RFC 7383).
    fn count(&self) -> Result<()> {
        let hidden = outside_port(self.hidden);
        self.nft(&format!(
            "table ip lab-count {{\n\
             counter keepalives {{ }}\ncounter plain-esp {{ }}\ncounter udp-esp {{ }}\n\
             counter unwanted {{ }}\n\
             chain seen {{\ntype filter hook forward priority filter\n\
             iifname \"{hidden}\" udp dport 4500 udp length 9 @th,64,8 0xff counter name keepalives\n\
             ip protocol esp counter name plain-esp\n\
             udp dport 4500 udp length > 20 @th,64,32 != 0 counter name udp-esp\n}}\n\
             chain strays {{\ntype filter hook input priority filter\n\
             meta l4proto {{ udp, esp }} counter name unwanted\n}}\n}}\n"
        ))
    }

    /// Keepalives that the hidden gateway sent.
    ///
    /// # Errors
    /// When the counter cannot be read.
    pub fn keepalives(&self) -> Result<u64> {
        self.counter("keepalives")
    }

    /// ESP packets that passed as IP protocol 50, and in UDP from or to port 4500.
    ///
    /// # Errors
    /// When a counter cannot be read.
    pub fn esp(&self) -> Result<[u64; 2]> {
        Ok([self.counter("plain-esp")?, self.counter("udp-esp")?])
    }

    /// Packets that came for the router itself: their mapping was gone.
    ///
    /// # Errors
    /// When the counter cannot be read.
    pub fn strays(&self) -> Result<u64> {
        self.counter("unwanted")
    }

    fn counter(&self, name: &str) -> Result<u64> {
        let text = shell::run(&format!(
            "ip netns exec {} nft -j list counter ip lab-count {name}",
            self.router
        ))?;
        let value: serde_json::Value = serde_json::from_str(&text)?;
        let all = value["nftables"].as_array().into_iter().flatten();
        all.filter_map(|object| object["counter"]["packets"].as_u64())
            .next()
            .with_context(|| format!("no counter `{name}` in {text}"))
    }

    fn nft(&self, rules: &str) -> Result<()> {
        let words = ["ip", "netns", "exec", &self.router, "nft", "-f", "-"];
        shell::feed(&words, rules).map(drop)
    }
}
