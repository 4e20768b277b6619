//! The outside network as a policer: what a cloud's tunnel endpoint does to traffic above its
//! ceiling, for every tunnel and direction on its own.
//!
//! An XDP program on both ports hands frames from one to the other, so the outside network costs
//! one redirect a packet. It sees outer packets only.

use std::net::IpAddr;

use anyhow::{Context, Result, anyhow};
use aya::maps::{Array, HashMap, MapData, PerCpuArray, xdp::DevMapHash};
use hawser_lab_layout::{LIMIT_WORDS, Limit, METER_WORDS, Meter, TUNNEL_KEY_BYTES, TunnelKey};
use nix::net::if_::if_nametoindex;

use crate::{
    programs::{Instance, MapSizes},
    topology::{Side, Topology, outside_port},
};

/// What every tunnel may carry in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// Bits of outer IP packets a second, 0 for no limit.
    pub bits_per_second: u64,
    /// Packets a second, 0 for no limit.
    pub packets_per_second: u64,
}

impl Cap {
    /// A standard AWS tunnel.
    pub const AWS: Self = Self {
        bits_per_second: 1_250_000_000,
        packets_per_second: 140_000,
    };
    /// No limit.
    pub const NONE: Self = Self {
        bits_per_second: 0,
        packets_per_second: 0,
    };

    /// Packets a second of `bytes` (outer) that pass, or none if there is no limit.
    #[must_use]
    pub fn packets(self, bytes: f64) -> Option<f64> {
        let by_bits = (self.bits_per_second > 0).then(|| self.bits_per_second as f64 / 8.0 / bytes);
        let by_packets = (self.packets_per_second > 0).then_some(self.packets_per_second as f64);
        match (by_bits, by_packets) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// How long a silent tunnel may send above its ceiling, ns: long enough for a scheduler's pause of
/// the sender, short enough not to show in the rate of a second.
const BURST_NS: u64 = 10_000_000;

/// The outside network with a policer. Dropping it gives the ports back to the bridge.
pub struct Policer {
    /// Owns the attachments.
    _instance: Instance,
    default_limit: Array<MapData, [u64; LIMIT_WORDS]>,
    meters: HashMap<MapData, [u8; TUNNEL_KEY_BYTES], [u64; METER_WORDS]>,
    stats: PerCpuArray<MapData, u64>,
}

impl Policer {
    /// Takes over the outside network.
    ///
    /// # Errors
    /// When the kernel refuses the program.
    pub fn attach(topology: &Topology, cap: Cap) -> Result<Self> {
        // Two directions, and room for what a scenario may throw in.
        let meters = topology.config().tunnels * 2 + 64;
        let mut instance = topology.outside().enter(|| {
            let mut instance = Instance::load(
                "policer",
                MapSizes {
                    meters,
                    ..MapSizes::default()
                },
            )?;
            let [a, b] = [Side::A, Side::B].map(outside_port);
            let index = |name| if_nametoindex(name).with_context(|| format!("no interface {name}"));
            let mut peers = DevMapHash::try_from(instance.map("PEERS")?)?;
            peers.insert(index(a)?, index(b)?, None, 0)?;
            peers.insert(index(b)?, index(a)?, None, 0)?;
            instance.attach(a)?;
            instance.attach(b)?;
            Ok(instance)
        })?;
        let mut policer = Self {
            default_limit: instance.array("DEFAULT_LIMIT")?,
            meters: instance.hash("METERS")?,
            stats: instance.per_cpu("POLICER_STATS")?,
            _instance: instance,
        };
        policer.set_cap(cap, 0)?;
        Ok(policer)
    }

    /// Changes the ceiling of all tunnels, and how many packets in a million get lost besides.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn set_cap(&mut self, cap: Cap, loss_ppm: u32) -> Result<()> {
        let limit = Limit {
            bits_per_second: cap.bits_per_second,
            packets_per_second: cap.packets_per_second,
            burst_ns: BURST_NS,
            loss_ppm,
        };
        Ok(self.default_limit.set(0, limit.encode(), 0)?)
    }

    /// What one direction of a tunnel carried; zeros when it was not seen yet.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn meter(&self, source: IpAddr, destination: IpAddr, udp: bool) -> Result<Meter> {
        let port = if udp { 4500 } else { 0 };
        let key = TunnelKey {
            source: mapped(source),
            destination: mapped(destination),
            source_port: port,
            destination_port: port,
            protocol: if udp { 17 } else { 50 },
        };
        match self.meters.get(&key.encode(), 0) {
            Ok(words) => Ok(Meter::decode(&words)),
            Err(aya::maps::MapError::KeyNotFound) => Ok(Meter::decode(&[0; METER_WORDS])),
            Err(error) => Err(anyhow!(error).context("reading a meter")),
        }
    }

    /// A count of packets outside of any tunnel.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn stat(&self, stat: hawser_lab_layout::PolicerStat) -> Result<u64> {
        Ok(self.stats.get(&(stat as u32), 0)?.iter().sum())
    }
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tighter_ceiling_binds() {
        assert_eq!(Cap::NONE.packets(1000.0), None);
        // Below about 1,116 bytes the packet ceiling binds before the bit ceiling.
        assert_eq!(Cap::AWS.packets(1000.0), Some(140_000.0));
        assert!((Cap::AWS.packets(1250.0).unwrap() - 125_000.0).abs() < 1e-6);
    }
}
