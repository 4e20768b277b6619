//! Which worker owns the replay windows of which tunnel: by what the tunnels cost.
//!
//! A window has one writer, so all that a tunnel receives is decrypted by one worker. Tunnels are
//! spread by number when they come; how much each will carry shows only later. So the manager
//! measures once a second what each tunnel costs, and moves one to another worker when that makes
//! the busiest one's load smaller by enough, for long enough: nothing moves to and fro because
//! traffic swings, and nothing moves at all while the workers are about equally busy.
//!
//! What is sent is not moved: the worker that receives a packet from the site encrypts it. It
//! counts as load that the tunnels come on top of.
//!
//! A tunnel pinned to a worker is owned by that one, whatever the load.

use std::time::Duration;

use hawser_api::{TunnelId, WorkerId};

/// How much smaller the busiest worker's load must get. Unit: one part of so many. A move costs a
/// few out-of-order packets, and the measurement of a second is no forecast: gains below an eighth
/// are noise at the rates of a few flows.
const GAIN: u64 = 8;

/// A worker with less than this to do is not worth relieving. Unit: packets a second, about a
/// tenth of a slow core.
const IDLE: u64 = 50_000;

/// How many measurements in a row must want a move. Unit: seconds, as one is made each second.
/// Shorter follows bursts; longer leaves a core overloaded for longer.
const PATIENCE: u32 = 3;

/// What packets cost, in the cost of one short packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost(pub u64);

impl Cost {
    /// Decrypting a packet costs about as much as a short packet for every KiB it has, and once
    /// more: measured as 123 ns with 64 bytes and 271 ns with 1424.
    #[must_use]
    pub fn of(packets: u64, bytes: u64) -> Self {
        Self(packets + bytes / 1024)
    }

    /// What was added since `earlier`, by the second.
    #[must_use]
    pub fn rate_since(self, earlier: Self, span: Duration) -> Self {
        let added = u128::from(self.0.saturating_sub(earlier.0));
        let rate = added * 1_000_000_000 / span.as_nanos().max(1);
        Self(rate.try_into().unwrap_or(u64::MAX))
    }
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

/// What one tunnel's packets in cost, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The tunnel.
    pub tunnel: TunnelId,
    /// Who decrypts it.
    pub owner: WorkerId,
    /// Who must, if anyone.
    pub pinned: Option<WorkerId>,
    /// A second.
    pub cost: Cost,
}

/// A tunnel to another worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The tunnel.
    pub tunnel: TunnelId,
    /// Who owns it.
    pub from: WorkerId,
    /// Who shall.
    pub to: WorkerId,
}

/// The tunnel whose move helps the busiest worker most, if it helps enough. `other` is what each
/// worker does besides, a second.
#[must_use]
pub fn relief(other: &[Cost], tunnels: &[Placed]) -> Option<Move> {
    let mut load: Vec<u64> = other.iter().map(|cost| cost.0).collect();
    for tunnel in tunnels {
        *load.get_mut(tunnel.owner.index())? += tunnel.cost.0;
    }
    let from = (0..load.len()).max_by_key(|&worker| load[worker])?;
    let to = (0..load.len()).min_by_key(|&worker| load[worker])?;
    if from == to || load[from] < IDLE {
        return None;
    }
    let peak_after = |cost: u64| (load[from] - cost).max(load[to] + cost);
    let best = tunnels
        .iter()
        .filter(|t| t.owner.index() == from && t.pinned.is_none() && t.cost.0 > 0)
        .min_by_key(|t| peak_after(t.cost.0))?;
    let enough = load[from] - load[from] / GAIN;
    (peak_after(best.cost.0) <= enough).then_some(Move {
        tunnel: best.tunnel,
        from: best.owner,
        to: WorkerId(to as u16),
    })
}

/// A tunnel that is not with the worker it is pinned to.
#[must_use]
pub fn astray(tunnels: &[Placed]) -> Option<Move> {
    tunnels.iter().find_map(|t| {
        let to = t.pinned.filter(|&pin| pin != t.owner)?;
        Some(Move {
            tunnel: t.tunnel,
            from: t.owner,
            to,
        })
    })
}

/// Decides move by move, with patience.
#[derive(Default)]
pub struct Balancer {
    wanting: u32,
}

impl Balancer {
    /// The move to make after a measurement.
    pub fn decide(&mut self, other: &[Cost], tunnels: &[Placed]) -> Option<Move> {
        if let Some(home) = astray(tunnels) {
            return Some(home);
        }
        let Some(relief) = relief(other, tunnels) else {
            self.wanting = 0;
            return None;
        };
        self.wanting += 1;
        if self.wanting < PATIENCE {
            return None;
        }
        // The next measurement is of another placement.
        self.wanting = 0;
        Some(relief)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn placed(list: &[(u16, u64)]) -> Vec<Placed> {
        let tunnel = |(n, &(owner, cost)): (usize, &(u16, u64))| Placed {
            tunnel: TunnelId(n as u32),
            owner: WorkerId(owner),
            pinned: None,
            cost: Cost(cost),
        };
        list.iter().enumerate().map(tunnel).collect()
    }

    fn moved(other: &[u64], list: &[(u16, u64)]) -> Option<(u32, u16)> {
        let other: Vec<_> = other.iter().copied().map(Cost).collect();
        relief(&other, &placed(list)).map(|m| (m.tunnel.0, m.to.0))
    }

    #[test]
    fn the_tunnel_that_evens_out_best_moves() {
        // 400k on one, nothing on the other: 200k is the best half.
        let list = [(0, 50_000), (0, 200_000), (0, 150_000)];
        assert_eq!(moved(&[0, 0], &list), Some((1, 1)));
        // The other worker has that much to encrypt: any move makes matters worse but a small one.
        assert_eq!(moved(&[0, 290_000], &list), Some((0, 1)));
        assert_eq!(moved(&[0, 400_000], &list), None);
        // The least busy of several.
        assert_eq!(moved(&[0, 9_000, 4_000], &list), Some((1, 2)));
    }

    #[test]
    fn nothing_moves_without_a_gain() {
        // An elephant would only change places.
        assert_eq!(moved(&[0, 0], &[(0, 400_000)]), None);
        assert_eq!(moved(&[0, 0], &[(0, 200_000), (1, 180_000)]), None);
        // A gain of a tenth is none.
        let list = [(0, 200_000), (0, 20_000), (1, 180_000)];
        assert_eq!(moved(&[0, 0], &list), None);
        // Idle workers need no relief.
        assert_eq!(moved(&[0, 0], &[(0, 20_000), (0, 20_000)]), None);
        assert_eq!(moved(&[0], &[(0, 200_000), (0, 200_000)]), None);
        assert_eq!(moved(&[], &[]), None);
    }

    #[test]
    fn pins_are_kept_and_followed() {
        let mut list = placed(&[(0, 200_000), (0, 200_000)]);
        for tunnel in &mut list {
            tunnel.pinned = Some(WorkerId(0));
        }
        let none = [Cost(0), Cost(0)];
        assert_eq!(Balancer::default().decide(&none, &list), None);
        list[1].pinned = Some(WorkerId(1));
        let home = Balancer::default().decide(&none, &list).unwrap();
        assert_eq!((home.tunnel, home.to), (TunnelId(1), WorkerId(1)));
    }

    #[test]
    fn a_swing_moves_nothing() {
        let mut balancer = Balancer::default();
        let uneven = placed(&[(0, 200_000), (0, 200_000)]);
        let even = placed(&[(0, 200_000), (1, 200_000)]);
        let none = [Cost(0), Cost(0)];
        for _ in 0..5 {
            assert_eq!(balancer.decide(&none, &uneven), None);
            assert_eq!(balancer.decide(&none, &uneven), None);
            assert_eq!(balancer.decide(&none, &even), None);
        }
        assert_eq!(balancer.decide(&none, &uneven), None);
        assert_eq!(balancer.decide(&none, &uneven), None);
        assert!(balancer.decide(&none, &uneven).is_some());
    }

    proptest! {
        /// With steady traffic the peak falls with every move, and soon nothing moves any more.
        #[test]
        fn moves_come_to_an_end(
            other in vec(0..300_000_u64, 2..6),
            tunnels in vec((any::<prop::sample::Index>(), 0..300_000_u64), 0..40),
        ) {
            let list: Vec<_> = tunnels
                .iter()
                .map(|(owner, cost)| (owner.index(other.len()) as u16, *cost))
                .collect();
            let mut list = placed(&list);
            let other: Vec<_> = other.into_iter().map(Cost).collect();
            let peak = |list: &[Placed]| {
                let of = |w: usize| {
                    let mine = list.iter().filter(|t| t.owner.index() == w);
                    other[w].0 + mine.map(|t| t.cost.0).sum::<u64>()
                };
                (0..other.len()).map(of).collect::<Vec<_>>()
            };
            let mut moves = 0;
            while let Some(m) = relief(&other, &list) {
                let before = peak(&list);
                list[m.tunnel.0 as usize].owner = m.to;
                let after = peak(&list);
                let (from, to) = (m.from.index(), m.to.index());
                prop_assert!(after[from].max(after[to]) < before[from]);
                moves += 1;
                prop_assert!(moves <= 100, "still moving");
            }
        }
    }
}
