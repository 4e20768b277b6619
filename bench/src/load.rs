//! The packets that everything here is measured with.

use crate::world;

/// Inner packet lengths in bytes, IP header included; more than one is a mix.
#[derive(Debug)]
pub struct Load {
    /// As figures are labelled.
    pub name: &'static str,
    /// In this order, again and again.
    pub lengths: &'static [usize],
}

/// Three sizes of one length each, and IMIX.
pub const LOADS: &[Load] = &[
    Load {
        name: "64",
        lengths: &[64],
    },
    Load {
        name: "512",
        lengths: &[512],
    },
    Load {
        name: "1424",
        lengths: &[1424],
    },
    // 7:4:1, the usual mix; the largest is what fits the tunnel.
    Load {
        name: "imix",
        lengths: &[64, 594, 64, 64, 594, 64, 64, 594, 64, 1424, 594, 64],
    },
];

/// Flows that the packets belong to.
const FLOWS: usize = 1024;

impl Load {
    /// `count` packets to `routes` routes.
    #[must_use]
    pub fn packets(&self, count: usize, routes: u32) -> Vec<Vec<u8>> {
        (0..count)
            .map(|n| {
                let length = self.lengths[n % self.lengths.len()];
                // Routes in an order that no cache likes.
                let route = (n as u32).wrapping_mul(2_654_435_761) % routes;
                world::packet(route, (n % FLOWS) as u16, length)
            })
            .collect()
    }

    /// Mean length in bytes.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.lengths.iter().sum::<usize>() as f64 / self.lengths.len() as f64
    }
}
