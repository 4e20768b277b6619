//! Gateways in memory: what one sends the other receives, without sockets. For tests, benchmarks
//! and fuzz targets.
//!
//! Not part of the product: behind the feature `harness`.

#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "to panic is how a harness reports a fault"
)]

mod abuse;
mod packet;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use hawser_aead::Suite;
use hawser_api::{
    Attachment, Ceiling, DropReason, Dscp, Encapsulation, GroupId, IdlePolicy, InboundSa, Member,
    Neighbour, NextHop, OutboundSa, OuterDf, PortId, PortSetup, Refusal, Role, Route, Secret,
    Selectors, Setup, Spi, TableId, Tunnel, TunnelId, Update, WorkerId, WorkerSetup,
};
use hawser_xsk::{Frame, FramePool};

pub use abuse::{Damage, from_inside, from_outside, fuzz_from_inside, fuzz_from_outside};
pub use packet::{ethernet, ipv4, ipv6, udp};

use crate::{
    checkpoint::Checkpoint,
    counters::Counters,
    pipeline::{Output, Pipeline},
    tables::Model,
};

/// The interface of the site.
pub const INSIDE: PortId = PortId(0);
/// The interface of the peers.
pub const OUTSIDE: PortId = PortId(1);

/// What the tunnels between the two are like.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Tunnels, all in one group of equal weights.
    pub tunnels: u32,
    /// IPv4 networks besides the two sites, each a /24: side 0 sends them into the tunnels, side 1
    /// to a router of its site. See [`destination`].
    pub routes: u32,
    /// Cipher of all SAs.
    pub suite: Suite,
    /// Extended sequence numbers.
    pub esn: bool,
    /// ESP in UDP.
    pub udp: bool,
    /// Outside addresses are IPv6.
    pub outer_v6: bool,
    /// Packets.
    pub replay_window: u32,
    /// Of every tunnel, in bytes.
    pub outside_mtu: u16,
    /// Inner packets may be fragmented whatever they say.
    pub clear_inner_df: bool,
    /// Frames in the pool.
    pub frames: usize,
    /// Bytes of each.
    pub frame_size: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            tunnels: 4,
            routes: 0,
            suite: Suite::Aes128Gcm16,
            esn: false,
            udp: false,
            outer_v6: false,
            replay_window: 1024,
            outside_mtu: 1500,
            clear_inner_df: false,
            frames: 1024,
            frame_size: 2048,
        }
    }
}

/// A gateway: side 0 has the site 10.0.0.0/16 and fd00:0::/32, side 1 10.1.0.0/16 and fd00:1::/32.
pub struct Gateway {
    /// 0 or 1.
    pub side: u8,
    /// What it was made by.
    pub plan: Plan,
    /// Its tables' model.
    pub model: Model,
    /// Its sequence numbers on disk.
    pub checkpoint: Checkpoint,
    /// The packet path of its only worker.
    pub pipeline: Pipeline,
    /// Where that puts frames.
    pub out: Output,
    /// Its clock, in nanoseconds.
    pub now: u64,
    folder: PathBuf,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Two gateways that are each other's peers.
#[must_use]
pub fn pair(plan: &Plan) -> (Gateway, Gateway) {
    (Gateway::new(0, plan), Gateway::new(1, plan))
}

/// The set-up of a gateway with so many workers.
#[must_use]
pub fn setup(workers: usize) -> Setup {
    let port = |name: &str, role, index: u8| PortSetup {
        interface: name.into(),
        ifindex: u32::from(index),
        mac: [2, 0, 0, 0, 0, index],
        mtu: 9000,
        queues: 1,
        role,
        zero_copy: false,
    };
    Setup {
        workers: vec![WorkerSetup { core: None }; workers],
        ports: vec![port("in", Role::Inside, 1), port("out", Role::Outside, 2)],
        frames_per_worker: 1024,
        frame_size: 2048,
        ring_size: 1024,
        idle: IdlePolicy::Poll,
        tun: None,
        checkpoint: PathBuf::new(),
        hash_seed: 42,
    }
}

/// The outside address of a side's end of a tunnel.
#[must_use]
pub fn outer(side: u8, tunnel: u32, v6: bool) -> IpAddr {
    if v6 {
        format!("2001:db8:{side}::{:x}", tunnel + 1)
            .parse()
            .unwrap()
    } else {
        IpAddr::from([198, 18 + side, (tunnel >> 8) as u8, tunnel as u8])
    }
}

/// The key of the direction from `side`.
#[must_use]
pub fn key(suite: Suite, side: u8, tunnel: u32) -> Secret {
    let key: Vec<u8> = (0..suite.key_len())
        .map(|i| (i as u8).wrapping_mul(7) ^ (tunnel as u8).wrapping_mul(31) ^ side << 7)
        .collect();
    Secret::new(key)
}

/// The SPI of a tunnel's SA towards `receiver`.
#[must_use]
pub fn spi(receiver: u8, tunnel: u32) -> Spi {
    Spi(0x1000 + (u32::from(receiver) << 24) + tunnel)
}

/// A prefix from its text.
#[must_use]
pub fn net(text: &str) -> ipnet::IpNet {
    text.parse().unwrap()
}

/// The destination network of route `n` of [`Plan::routes`]: 16 Mi of them fit.
#[must_use]
pub fn destination(n: u32) -> [u8; 4] {
    // A multiplication by an odd number spreads the routes over the address space.
    let spread = n.wrapping_mul(0x9e37_79b1) >> 8;
    let [_, b, c, d] = spread.to_be_bytes();
    [b % 100 + 11, c, d, 0]
}

impl Gateway {
    /// A gateway with everything that its plan says.
    #[must_use]
    pub fn new(side: u8, plan: &Plan) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = std::env::temp_dir().join(format!(
            "hawser-harness-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        let checkpoint = Checkpoint::open(&folder.join("checkpoint")).unwrap();
        let mut model = Model::new(&setup(1));
        let tables = Arc::new(model.compile());
        let pool = FramePool::heap(plan.frames, plan.frame_size).with_jumbos(8);
        let mut gateway = Self {
            side,
            plan: plan.clone(),
            model,
            checkpoint,
            pipeline: Pipeline::new(WorkerId(0), 42, tables, pool),
            out: Output::new(&[1, 1], 1),
            now: 1_000_000_000,
            folder,
        };
        gateway.apply(gateway.updates()).unwrap();
        gateway
    }

    /// The whole configuration as updates.
    #[must_use]
    pub fn updates(&self) -> Vec<Update> {
        let (me, peer) = (self.side, 1 - self.side);
        let plan = &self.plan;
        let mut updates = vec![
            Update::PutAttachment(Attachment {
                port: INSIDE,
                vlan: None,
                table: TableId::MAIN,
            }),
            Update::PutPortAddresses(
                INSIDE,
                vec![
                    IpAddr::from([10, me, 255, 254]),
                    format!("fd00:{me}::ffff").parse().unwrap(),
                ],
            ),
        ];
        for n in 0..plan.tunnels {
            let (local, remote) = (outer(me, n, plan.outer_v6), outer(peer, n, plan.outer_v6));
            let id = TunnelId(n);
            updates.push(Update::PutTunnel(Tunnel {
                id,
                name: format!("t{n}"),
                local,
                remote,
                encapsulation: if plan.udp {
                    Encapsulation::Udp {
                        local_port: 4500,
                        remote_port: 4500,
                    }
                } else {
                    Encapsulation::Plain
                },
                port: OUTSIDE,
                next_hop: remote,
                outside_mtu: plan.outside_mtu,
                dscp: Dscp::Copy,
                outer_df: OuterDf::Clear,
                clear_inner_df: plan.clear_inner_df,
                tcp_mss: None,
                table: TableId::MAIN,
                owner: None,
                ceiling: Ceiling::default(),
            }));
            updates.push(Update::PutNeighbours(vec![Neighbour {
                port: OUTSIDE,
                vlan: None,
                address: remote,
                mac: [2, 0, 0, 0, peer, 2],
            }]));
            updates.push(Update::PutOutboundSa(OutboundSa {
                tunnel: id,
                spi: spi(peer, n),
                suite: plan.suite,
                key: key(plan.suite, me, n),
                esn: plan.esn,
                selectors: Selectors::default(),
                transient: false,
            }));
            updates.push(Update::PutInboundSa(InboundSa {
                tunnel: id,
                spi: spi(me, n),
                suite: plan.suite,
                key: key(plan.suite, peer, n),
                esn: plan.esn,
                replay_window: plan.replay_window,
                selectors: Selectors::default(),
                transient: false,
            }));
        }
        let members = (0..plan.tunnels)
            .map(|n| Member {
                tunnel: TunnelId(n),
                weight: 1,
            })
            .collect();
        let group = NextHop::Group(GroupId(0));
        let inside = NextHop::Inside {
            port: INSIDE,
            vlan: None,
            gateway: None,
        };
        let route = |prefix: String, next_hop| Route {
            prefix: net(&prefix),
            next_hop,
        };
        updates.push(Update::PutGroup {
            id: GroupId(0),
            members,
        });
        updates.push(Update::PutRoutes {
            table: TableId::MAIN,
            routes: vec![
                route(format!("10.{peer}.0.0/16"), group),
                route(format!("fd00:{peer}::/32"), group),
                route(format!("10.{me}.0.0/16"), inside),
                route(format!("fd00:{me}::/32"), inside),
                route(format!("169.254.{me}.1/32"), NextHop::Host),
            ],
        });
        updates.extend(self.further_routes());
        // Two hosts of each site are known.
        updates.push(Update::PutNeighbours(
            [
                IpAddr::from([10, me, 0, 1]),
                format!("fd00:{me}::1").parse().unwrap(),
            ]
            .into_iter()
            .map(|address| Neighbour {
                port: INSIDE,
                vlan: None,
                address,
                mac: [2, 0, 0, 0, me, 99],
            })
            .collect(),
        ));
        updates
    }

    fn further_routes(&self) -> [Update; 2] {
        let router = IpAddr::from([10, self.side, 255, 1]);
        let next_hop = if self.side == 0 {
            NextHop::Group(GroupId(0))
        } else {
            NextHop::Inside {
                port: INSIDE,
                vlan: None,
                gateway: Some(router),
            }
        };
        let routes = (0..self.plan.routes).map(|n| Route {
            prefix: ipnet::Ipv4Net::new_assert(destination(n).into(), 24).into(),
            next_hop,
        });
        [
            Update::PutNeighbours(vec![Neighbour {
                port: INSIDE,
                vlan: None,
                address: router,
                mac: [2, 0, 0, 0, self.side, 254],
            }]),
            Update::PutRoutes {
                table: TableId::MAIN,
                routes: routes.collect(),
            },
        ]
    }

    /// Applies updates and has the worker use them.
    ///
    /// # Errors
    /// What the model refuses.
    pub fn apply(&mut self, updates: Vec<Update>) -> Result<(), Refusal> {
        self.model.commit(updates, &self.checkpoint)?;
        for sa in self.model.outbound() {
            sa.key
                .set_limit(u64::from(u32::MAX) << if sa.esn { 16 } else { 0 });
        }
        let tables = Arc::new(self.model.compile());
        self.pipeline.set_tables(tables, self.now, &mut self.out);
        Ok(())
    }

    /// Feeds frames in; returns what comes out of the port.
    pub fn feed(&mut self, input: PortId, frames: &[Vec<u8>], output: PortId) -> Vec<Vec<u8>> {
        self.now += 1_000_000;
        for batch in frames.chunks(64) {
            let batch: Vec<Frame> = batch
                .iter()
                .map(|bytes| {
                    let pool = self.pipeline.pool();
                    let mut frame = match bytes.len() {
                        ..1700 => pool.take().expect("a frame"),
                        _ => pool.take_jumbo().expect("a jumbo frame"),
                    };
                    assert!(frame.set(bytes), "fits the frame");
                    frame
                })
                .collect();
            self.pipeline
                .from_port(input, batch.into_iter(), self.now, &mut self.out);
        }
        self.take(output)
    }

    /// Takes what was put out at a port.
    pub fn take(&mut self, port: PortId) -> Vec<Vec<u8>> {
        let frames: Vec<Frame> = self.out.ports[port.index()].queues[0].drain(..).collect();
        frames
            .into_iter()
            .map(|frame| {
                let bytes = frame.bytes().to_vec();
                self.pipeline.pool().give(frame);
                bytes
            })
            .collect()
    }

    /// What the worker counted.
    pub fn counters(&mut self) -> &Counters {
        self.pipeline.counters()
    }

    /// All drops, for comparing whole.
    pub fn drops(&mut self) -> Vec<(DropReason, u64)> {
        self.pipeline.counters().all_drops().iter().collect()
    }

    /// From a site's host to the other site's.
    pub fn send(&mut self, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        self.feed(INSIDE, packets, OUTSIDE)
    }

    /// From the peer to the site.
    pub fn receive(&mut self, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        self.feed(OUTSIDE, frames, INSIDE)
    }
}
