//! What the XDP program is told of the tables, and how much room that takes in its maps.

use std::{collections::HashMap, net::IpAddr};

use hawser_api::PortId;
use hawser_ebpf::Entries;
use ipnet::IpNet;

/// What a transaction touched of that which the XDP program knows: not what it became, so that
/// the way there and the way back can both be made of it.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    /// Inside destinations, maybe twice.
    pub prefixes: Vec<IpNet>,
    /// Our outside addresses.
    pub locals: bool,
    /// VLANs of inside interfaces.
    pub vlans: Vec<(PortId, u16)>,
}

/// What to tell the XDP program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steering {
    /// Inside destinations that are ours (`true`), or the kernel's although a shorter prefix is
    /// ours (`false`).
    pub set: Vec<(IpNet, bool)>,
    /// Inside destinations that nothing is said about any more.
    pub gone: Vec<IpNet>,
    /// Our outside addresses, if they changed: all of them.
    pub locals: Option<Vec<IpAddr>>,
    /// VLANs of inside interfaces that are ours or are not; those that are not come first.
    pub vlans: Vec<(PortId, u16, bool)>,
}

impl Steering {
    /// Room in the maps for inside destinations when `before` is in use and what is set comes
    /// before that which goes, as if all of it were new.
    #[must_use]
    pub fn peak(&self, before: &Entries) -> Entries {
        let mut peak = *before;
        for (prefix, _) in &self.set {
            match prefix {
                IpNet::V6(_) => peak.inside_v6 += 1,
                // Itself and the /24 around it.
                IpNet::V4(net) if net.prefix_len() > DIRECT => peak.inside_v4 += 2,
                IpNet::V4(_) => {}
            }
        }
        peak
    }
}

/// IPv4 prefixes up to this length need no entry: see `hawser_ebpf::Sizes`.
const DIRECT: u8 = 24;

/// Counts of those inside destinations that take room in the maps.
#[derive(Clone, Debug, Default)]
pub(super) struct InsidePrefixes {
    v6: u32,
    long_v4: u32,
    /// How many longer prefixes each IPv4 /24 has, by its first 24 bits.
    around: HashMap<u32, u32, foldhash::fast::RandomState>,
}

impl InsidePrefixes {
    /// Counts a prefix that was not there.
    pub(super) fn add(&mut self, prefix: &IpNet) {
        match prefix {
            IpNet::V6(_) => self.v6 += 1,
            IpNet::V4(net) if net.prefix_len() > DIRECT => {
                self.long_v4 += 1;
                *self.around.entry(net.addr().to_bits() >> 8).or_default() += 1;
            }
            IpNet::V4(_) => {}
        }
    }

    /// Counts out a prefix that was there.
    pub(super) fn remove(&mut self, prefix: &IpNet) {
        match prefix {
            IpNet::V6(_) => self.v6 -= 1,
            IpNet::V4(net) if net.prefix_len() > DIRECT => {
                self.long_v4 -= 1;
                let around = net.addr().to_bits() >> 8;
                if let Some(n) = self.around.get_mut(&around) {
                    *n -= 1;
                    if *n == 0 {
                        self.around.remove(&around);
                    }
                }
            }
            IpNet::V4(_) => {}
        }
    }

    /// Their room, the rest being 0.
    pub(super) fn entries(&self) -> Entries {
        Entries {
            inside_v4: self.long_v4 + self.around.len() as u32,
            inside_v6: self.v6,
            ..Entries::default()
        }
    }
}
