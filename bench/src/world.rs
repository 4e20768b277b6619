//! A gateway in memory: the packet path with its tables, fed from and drained to frames.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use hawser_aead::Suite;
use hawser_api::{
    Attachment, Ceiling, Dscp, Encapsulation, GroupId, IdlePolicy, InboundSa, Member, Neighbour,
    NextHop, OutboundSa, OuterDf, PortId, PortSetup, Role, Route, Secret, Selectors, Setup, Spi,
    TableId, Tunnel, TunnelId, Update, WorkerId, WorkerSetup,
};
use hawser_dataplane::{
    checkpoint::Checkpoint,
    pipeline::{Output, Pipeline},
    tables::Model,
};
use hawser_xsk::{Frame, FramePool};

/// The interface of the site.
pub const INSIDE: PortId = PortId(0);
/// The interface of the peers.
pub const OUTSIDE: PortId = PortId(1);

/// How large the gateway is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Tunnels, all in one ECMP group.
    pub tunnels: u32,
    /// Routes into the group.
    pub routes: u32,
    /// Cipher of all SAs.
    pub suite: Suite,
    /// Frames in the pool.
    pub frames: usize,
}

/// A gateway; side 0's outbound SAs are side 1's inbound ones.
pub struct World {
    /// The packet path.
    pub pipeline: Pipeline,
    /// Where it puts frames.
    pub out: Output,
    /// The tables' model.
    pub model: Model,
    now: u64,
    folder: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        // Left-overs in the temporary folder are no harm.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The destination network of route `n`: 16 Mi of them fit.
#[must_use]
pub fn destination(n: u32) -> [u8; 4] {
    // A multiplication by an odd number spreads the routes over the address space.
    let spread = n.wrapping_mul(0x9e37_79b1) >> 8;
    let [_, b, c, d] = spread.to_be_bytes();
    [b % 100 + 11, c, d, 0]
}

fn outer(side: u8, n: u32) -> IpAddr {
    IpAddr::from([198, 18 + side, (n >> 8) as u8, n as u8])
}

fn key(suite: Suite, from: u8, n: u32) -> Secret {
    let byte = |i: usize| (i as u8).wrapping_mul(7) ^ (n as u8).wrapping_mul(31) ^ (from << 7);
    Secret::new((0..suite.key_len()).map(byte).collect())
}

fn spi(to: u8, n: u32) -> Spi {
    Spi(0x1000 + (u32::from(to) << 24) + n)
}

fn setup() -> Setup {
    let port = |name: &str, role, index: u8| PortSetup {
        interface: name.into(),
        ifindex: u32::from(index),
        mac: [2, 0, 0, 0, 0, index],
        mtu: 1500,
        queues: 1,
        role,
        zero_copy: false,
    };
    Setup {
        workers: vec![WorkerSetup { core: None }],
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

impl World {
    /// Builds side 0 or 1. Returns how long loading and compiling the tables took.
    ///
    /// # Errors
    /// When the temporary folder cannot be written or a table is refused.
    pub fn new(side: u8, scale: Scale) -> anyhow::Result<(Self, Duration)> {
        let folder =
            std::env::temp_dir().join(format!("hawser-bench-{}-{side}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let checkpoint = Checkpoint::open(&folder.join("checkpoint"))?;
        let mut model = Model::new(&setup());
        let begun = std::time::Instant::now();
        model
            .commit(updates(side, scale), &checkpoint)
            .map_err(|refusal| anyhow::anyhow!("{refusal}"))
            .context("the tables")?;
        for sa in model.outbound() {
            sa.key.set_limit(u64::from(u32::MAX));
        }
        let tables = Arc::new(model.compile());
        let took = begun.elapsed();
        let pool = FramePool::heap(scale.frames, 2048);
        let pipeline = Pipeline::new(WorkerId(0), 42, tables, pool);
        let out = Output::new(&[1, 1], 1);
        Ok((
            Self {
                pipeline,
                out,
                model,
                now: 1,
                folder,
            },
            took,
        ))
    }

    /// Runs one batch; the result is in [`World::out`].
    #[inline]
    pub fn run(&mut self, port: PortId, frames: impl ExactSizeIterator<Item = Frame>) {
        self.now += 1000;
        self.pipeline
            .from_port(port, frames, self.now, &mut self.out);
    }

    /// The frames that were sent out of a port.
    pub fn sent(&mut self, port: PortId) -> &mut Vec<Frame> {
        &mut self.out.ports[port.index()].queues[0]
    }

    /// Gives the frames that were sent out of a port back to the pool.
    pub fn take_back(&mut self, port: PortId) {
        let sent = self.out.ports[port.index()].queues[0].drain(..);
        self.pipeline.pool().give_all(sent);
    }

    /// Takes a frame with these bytes.
    ///
    /// # Errors
    /// When the pool is empty or the packet too large for a frame.
    pub fn frame(&mut self, bytes: &[u8]) -> anyhow::Result<Frame> {
        let mut frame = self.pipeline.pool().take().context("out of frames")?;
        anyhow::ensure!(frame.set(bytes), "packet too large");
        Ok(frame)
    }

    /// Fails when anything was dropped: a measurement of drops measures nothing.
    ///
    /// # Errors
    /// The drops.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let drops: Vec<_> = self.pipeline.counters().all_drops().iter().collect();
        anyhow::ensure!(drops.is_empty(), "packets were dropped: {drops:?}");
        Ok(())
    }
}

fn updates(side: u8, scale: Scale) -> Vec<Update> {
    let peer = 1 - side;
    let neighbour = |port, address, last| Neighbour {
        port,
        vlan: None,
        address,
        mac: [2, 0, 0, 0, 1, last],
    };
    let gateway = IpAddr::from([10, 0, 0, 254]);
    let mut updates = vec![
        Update::PutAttachment(Attachment {
            port: INSIDE,
            vlan: None,
            table: TableId::MAIN,
        }),
        Update::PutNeighbours(vec![neighbour(INSIDE, gateway, 254)]),
    ];
    for n in 0..scale.tunnels {
        let id = TunnelId(n);
        let remote = outer(peer, n);
        updates.push(Update::PutNeighbours(vec![neighbour(OUTSIDE, remote, 1)]));
        updates.push(Update::PutTunnel(Tunnel {
            id,
            name: format!("t{n}"),
            local: outer(side, n),
            remote,
            encapsulation: Encapsulation::Plain,
            port: OUTSIDE,
            next_hop: remote,
            outside_mtu: 1500,
            dscp: Dscp::Copy,
            outer_df: OuterDf::Clear,
            clear_inner_df: false,
            tcp_mss: None,
            table: TableId::MAIN,
            owner: None,
            ceiling: Ceiling::default(),
        }));
        updates.push(Update::PutOutboundSa(OutboundSa {
            tunnel: id,
            spi: spi(peer, n),
            suite: scale.suite,
            key: key(scale.suite, side, n),
            esn: false,
            selectors: Selectors::default(),
        }));
        updates.push(Update::PutInboundSa(InboundSa {
            tunnel: id,
            spi: spi(side, n),
            suite: scale.suite,
            key: key(scale.suite, peer, n),
            esn: false,
            replay_window: 1024,
            selectors: Selectors::default(),
        }));
    }
    let members = (0..scale.tunnels)
        .map(|n| Member {
            tunnel: TunnelId(n),
            weight: 1,
        })
        .collect();
    updates.push(Update::PutGroup {
        id: GroupId(0),
        members,
    });
    // The same destinations lead into the tunnels at side 0 and to a router at side 1.
    let next_hop = if side == 0 {
        NextHop::Group(GroupId(0))
    } else {
        NextHop::Inside {
            port: INSIDE,
            vlan: None,
            gateway: Some(gateway),
        }
    };
    let routes = (0..scale.routes)
        .map(|n| Route {
            prefix: ipnet::Ipv4Net::new_assert(destination(n).into(), 24).into(),
            next_hop,
        })
        .collect();
    updates.push(Update::PutRoutes {
        table: TableId::MAIN,
        routes,
    });
    updates
}

/// A UDP packet of `length` bytes (IP header included) to route `n`, of one of `flows` flows.
#[must_use]
pub fn packet(n: u32, flow: u16, length: usize) -> Vec<u8> {
    let [a, b, c, _] = destination(n);
    let total = length as u16;
    let mut ip = vec![0x45, 0];
    ip.extend(total.to_be_bytes());
    ip.extend([
        0,
        0,
        0,
        0,
        64,
        17,
        0,
        0,
        10,
        0,
        (flow >> 8) as u8,
        flow as u8,
        a,
        b,
        c,
        7,
    ]);
    let sum = hawser_net::checksum::of(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip.extend((1024 + flow).to_be_bytes());
    ip.extend(4789u16.to_be_bytes());
    ip.extend((total - 20).to_be_bytes());
    ip.extend([0, 0]);
    ip.resize(length, 0x5a);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 77, 0x08, 0x00];
    frame.extend(ip);
    frame
}
