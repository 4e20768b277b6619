//! The lab's network: site A – gateway A – outside – gateway B – site B, each in its own network
//! namespace, joined by veth pairs of several queues.
//!
//! ```text
//!  siteA            gwA                 out                gwB            siteB
//!  site0 ──── in0 [     ] out0 ──── porta [ ] portb ──── out0 [     ] in0 ──── site0
//! ```
//!
//! Everything is static: addresses, MAC addresses, neighbours, routes. No namespace has a default
//! route, so a packet that a gateway fails to take cannot reach the other site some other way and
//! pass a test. The outside network is one link: a bridge until a [`crate::policer::Policer`] takes
//! over.
//!
//! What veth asks for (each found by measurement on Linux 6.18):
//! - `tx off` at the sites and outside: an XDP program at the far end turns segmentation off there
//!   and would see partial checksums, with which TCP fails altogether, and so do IKE's messages.
//! - `gro on` wherever frames are redirected to by XDP: a veth end takes redirected frames only
//!   while it polls, which it does with GRO or an XDP program. GRO must be switched on when the
//!   interface is up: earlier the kernel does not tell the peer that it may redirect.
//! - `pfifo` on the gateways' interfaces: without a queueing discipline a full peer loses the frame
//!   (EBUSY); with one the sender is told to come back (EAGAIN).
//! - as many queues at both ends: the receive queue is the sender's transmit queue.

mod addresses;

use std::net::IpAddr;

pub use addresses::*;
use anyhow::{Result, ensure};

use crate::{netns::Namespace, netns::unique_prefix};

/// What a topology looks like.
#[derive(Clone, Debug)]
pub struct TopologyConfig {
    /// Queues of every veth end.
    pub queues: u16,
    /// MTU between site and gateway, bytes.
    pub inside_mtu: u16,
    /// MTU between the gateways, bytes.
    pub outside_mtu: u16,
    /// Outside address pairs, one a tunnel, in both families.
    pub tunnels: u32,
    /// Whether the gateways' kernels forward in the clear: for labs without a gateway process.
    pub plain: bool,
}

impl Default for TopologyConfig {
    fn default() -> Self {
        Self {
            queues: 1,
            inside_mtu: 1500,
            outside_mtu: 1500,
            tunnels: 1,
            plain: false,
        }
    }
}

/// The network. Dropping it removes all of it.
#[derive(Debug)]
pub struct Topology {
    config: TopologyConfig,
    /// The namespaces of the sites, A then B.
    sites: [Namespace; 2],
    /// The namespaces of the gateways, A then B.
    gateways: [Namespace; 2],
    /// The outside network, between `porta` and `portb`.
    outside: Namespace,
}

impl Topology {
    /// Builds it. What dead labs left behind is removed first.
    ///
    /// # Errors
    /// Without root, without the tools, or when the kernel refuses; what was built is removed.
    pub fn build(config: TopologyConfig) -> Result<Self> {
        ensure!(
            config.tunnels >= 1 && config.tunnels <= MAX_TUNNELS,
            "between 1 and {MAX_TUNNELS} tunnels can be addressed, not {}",
            config.tunnels
        );
        ensure!(config.queues >= 1, "an interface has at least one queue");
        crate::netns::remove_stale()?;
        crate::config::remove_stale_folders();
        let prefix = unique_prefix();
        let topology = Self {
            sites: [
                Namespace::create(&prefix, "siteA")?,
                Namespace::create(&prefix, "siteB")?,
            ],
            gateways: [
                Namespace::create(&prefix, "gwA")?,
                Namespace::create(&prefix, "gwB")?,
            ],
            outside: Namespace::create(&prefix, "out")?,
            config,
        };
        for side in [Side::A, Side::B] {
            topology.wire_inside(side)?;
            topology.wire_outside(side)?;
        }
        topology.bridge()?;
        for side in [Side::A, Side::B] {
            topology.address_site(side)?;
            topology.address_gateway(side)?;
        }
        Ok(topology)
    }

    /// What it was built from.
    #[must_use]
    pub fn config(&self) -> &TopologyConfig {
        &self.config
    }

    /// The namespace of a site.
    #[must_use]
    pub fn site(&self, side: Side) -> &Namespace {
        &self.sites[usize::from(side == Side::B)]
    }

    /// The namespace of a gateway.
    #[must_use]
    pub fn gateway(&self, side: Side) -> &Namespace {
        &self.gateways[usize::from(side == Side::B)]
    }

    /// The namespace of the outside network.
    #[must_use]
    pub fn outside(&self) -> &Namespace {
        &self.outside
    }

    /// Tells a gateway that more addresses are reached at its site's interface.
    ///
    /// # Errors
    /// When the kernel refuses one.
    pub fn add_hosts(&self, side: Side, hosts: impl Iterator<Item = IpAddr>) -> Result<()> {
        let lines: String = hosts
            .map(|host| neighbour(INSIDE_INTERFACE, host, site_mac(side)))
            .collect();
        self.gateway(side).ip_batch(&lines)
    }

    /// Takes the link between a site and its gateway away.
    ///
    /// # Errors
    /// When it is away already.
    pub fn cut_inside(&self, side: Side) -> Result<()> {
        self.gateway(side)
            .ip(&format!("link del {INSIDE_INTERFACE}"))
            .map(drop)
    }

    /// Makes it anew, with the same names and addresses.
    ///
    /// # Errors
    /// When it is there.
    pub fn mend_inside(&self, side: Side) -> Result<()> {
        self.wire_inside(side)?;
        self.address_site(side)?;
        self.address_inside(side)
    }

    fn wire_inside(&self, side: Side) -> Result<()> {
        let (site, gateway) = (self.site(side), self.gateway(side));
        self.veth(
            (site, SITE_INTERFACE, site_mac(side)),
            (gateway, INSIDE_INTERFACE, inside_mac(side)),
            self.config.inside_mtu,
        )?;
        site.exec(&format!("ethtool -K {SITE_INTERFACE} tx off"))?;
        self.queue_gateway_port(gateway, INSIDE_INTERFACE)
    }

    fn wire_outside(&self, side: Side) -> Result<()> {
        let gateway = self.gateway(side);
        self.veth(
            (gateway, OUTSIDE_INTERFACE, outside_mac(side)),
            (&self.outside, outside_port(side), port_mac(side)),
            self.config.outside_mtu,
        )?;
        gateway.exec(&format!("ethtool -K {OUTSIDE_INTERFACE} tx off"))?;
        self.queue_gateway_port(gateway, OUTSIDE_INTERFACE)
    }

    fn veth(
        &self,
        (near, near_name, near_mac): (&Namespace, &str, Mac),
        (far, far_name, far_mac): (&Namespace, &str, Mac),
        mtu: u16,
    ) -> Result<()> {
        let q = self.config.queues;
        let queues = format!("numrxqueues {q} numtxqueues {q} mtu {mtu}");
        crate::shell::run(&format!(
            "ip link add {near_name} netns {} address {} {queues} type veth \
             peer name {far_name} netns {} address {} {queues}",
            near.name(),
            mac_text(near_mac),
            far.name(),
            mac_text(far_mac),
        ))?;
        for (namespace, name) in [(near, near_name), (far, far_name)] {
            namespace.ip(&format!("link set {name} up"))?;
            namespace.exec(&format!("ethtool -K {name} gro on"))?;
        }
        Ok(())
    }

    /// A queueing discipline that pushes back instead of losing frames. On several queues `mq`
    /// gives each its own; its children are replaced one by one.
    fn queue_gateway_port(&self, gateway: &Namespace, name: &str) -> Result<()> {
        if self.config.queues == 1 {
            gateway.exec(&format!(
                "tc qdisc replace dev {name} root pfifo limit 1000"
            ))?;
            return Ok(());
        }
        gateway.exec(&format!("tc qdisc replace dev {name} root handle 1: mq"))?;
        for queue in 1..=self.config.queues {
            gateway.exec(&format!(
                "tc qdisc replace dev {name} parent 1:{queue:x} pfifo limit 1000"
            ))?;
        }
        Ok(())
    }

    /// Joins the two outside ports. The bridge learns nothing it could forget: two ports, and no
    /// spanning tree, multicast snooping or address of its own.
    fn bridge(&self) -> Result<()> {
        self.outside.ip_batch(
            "link add br0 type bridge stp_state 0 mcast_snooping 0\n\
             link set porta master br0\n\
             link set portb master br0\n\
             link set br0 up\n",
        )?;
        self.outside.sysctl("net.ipv6.conf.br0.disable_ipv6=1")
    }

    fn address_site(&self, side: Side) -> Result<()> {
        let mut lines = String::new();
        for family in [Family::V4, Family::V6] {
            let gateway = gateway_address(side, family);
            let (prefix, nodad) = (prefix_length(family), no_detection(family));
            for address in [host_address(side, family), single_address(side, family)] {
                lines += &format!("addr add {address}/{prefix} dev {SITE_INTERFACE}{nodad}\n");
            }
            lines += &neighbour(SITE_INTERFACE, gateway, inside_mac(side));
            let far = site_network(side.other(), family);
            let source = host_address(side, family);
            lines += &format!("route add {far} via {gateway} src {source}\n");
        }
        self.site(side).ip_batch(&lines)
    }

    /// Gives a gateway's inside interface its addresses and neighbours, again if need be.
    pub(crate) fn address_inside(&self, side: Side) -> Result<()> {
        let mut lines = String::new();
        for family in [Family::V4, Family::V6] {
            let (prefix, nodad) = (prefix_length(family), no_detection(family));
            let own = gateway_address(side, family);
            lines += &format!("addr replace {own}/{prefix} dev {INSIDE_INTERFACE}{nodad}\n");
            for address in [host_address(side, family), single_address(side, family)] {
                lines += &neighbour(INSIDE_INTERFACE, address, site_mac(side));
            }
        }
        self.gateway(side).ip_batch(&lines)
    }

    fn address_gateway(&self, side: Side) -> Result<()> {
        self.address_inside(side)?;
        let mut lines = String::new();
        for family in [Family::V4, Family::V6] {
            let nodad = no_detection(family);
            let outside = match family {
                Family::V4 => 15,
                Family::V6 => 32,
            };
            for tunnel in 0..self.config.tunnels {
                let own = outside_address(side, family, tunnel);
                let peer = outside_address(side.other(), family, tunnel);
                lines += &format!("addr add {own}/{outside} dev {OUTSIDE_INTERFACE}{nodad}\n");
                lines += &neighbour(OUTSIDE_INTERFACE, peer, outside_mac(side.other()));
            }
            if self.config.plain {
                let far = site_network(side.other(), family);
                let peer = outside_address(side.other(), family, 0);
                lines += &format!("route add {far} via {peer}\n");
            }
        }
        let gateway = self.gateway(side);
        gateway.ip_batch(&lines)?;
        if self.config.plain {
            gateway.sysctl("net.ipv4.ip_forward=1")?;
            gateway.sysctl("net.ipv6.conf.all.forwarding=1")?;
        }
        Ok(())
    }
}

const fn prefix_length(family: Family) -> u8 {
    match family {
        Family::V4 => 16,
        Family::V6 => 32,
    }
}

/// Without duplicate address detection an address can be a source at once.
const fn no_detection(family: Family) -> &'static str {
    match family {
        Family::V4 => "",
        Family::V6 => " nodad",
    }
}

fn neighbour(interface: &str, address: IpAddr, mac: Mac) -> String {
    format!(
        "neigh replace {address} lladdr {} nud permanent dev {interface}\n",
        mac_text(mac)
    )
}
