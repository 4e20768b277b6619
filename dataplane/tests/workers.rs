//! Several workers: an inbound SA has one owner, and packets find it.

use std::sync::Arc;

use hawser_api::*;
use hawser_dataplane::harness::*;
use hawser_dataplane::{
    checkpoint::Checkpoint,
    pipeline::{Output, Pipeline},
    tables::Model,
};
use hawser_xsk::{Frame, FramePool};

#[test]
fn packets_are_handed_to_the_owner_of_their_sa() {
    let plan = Plan {
        tunnels: 8,
        ..Plan::default()
    };
    let mut a = Gateway::new(0, &plan);
    let b = Gateway::new(1, &plan);
    let folder = std::env::temp_dir().join(format!("hawser-workers-{}", std::process::id()));
    let checkpoint = Checkpoint::open(&folder.join("checkpoint")).unwrap();
    let mut model = Model::new(&setup(2));
    let mut updates = b.updates();
    for update in &mut updates {
        if let Update::PutTunnel(tunnel) = update
            && tunnel.id.0 == 5
        {
            tunnel.owner = Some(WorkerId(1));
        }
    }
    model.commit(updates, &checkpoint).unwrap();
    let owners: Vec<_> = model.owners().map(|(_, owner)| owner.0).collect();
    assert_eq!(
        owners.iter().filter(|&&owner| owner == 0).count(),
        4,
        "spread: {owners:?}"
    );
    assert_eq!(model.owner_of(TunnelId(5)), Some(WorkerId(1)));

    let tables = Arc::new(model.compile());
    let mut pools = FramePool::heap(512, 2048).split(2).into_iter();
    let mut worker = |id| {
        let pipeline = Pipeline::new(WorkerId(id), 42, Arc::clone(&tables), pools.next().unwrap());
        (pipeline, Output::new(&[1, 1], 2))
    };
    let (mut first, mut out_first) = worker(0);
    let (mut second, mut out_second) = worker(1);

    let sent: Vec<_> = (0..256u16)
        .map(|n| udp(0, false, (n, 2), &n.to_be_bytes()))
        .collect();
    let mut delivered = Vec::new();
    for batch in a.send(&sent).chunks(64) {
        let frames: Vec<Frame> = batch
            .iter()
            .map(|bytes| {
                let mut frame = first.pool().take().unwrap();
                assert!(frame.set(bytes));
                frame
            })
            .collect();
        first.from_port(OUTSIDE, frames.into_iter(), 5, &mut out_first);
        assert!(out_first.workers[0].is_empty(), "not to itself");
        let handed: Vec<Frame> = out_first.workers[1].drain(..).collect();
        second.from_worker(handed.into_iter(), 5, &mut out_second);
        assert!(
            out_second.workers.iter().all(Vec::is_empty),
            "no second hop"
        );
        for (out, pipeline) in [(&mut out_first, &mut first), (&mut out_second, &mut second)] {
            for frame in out.ports[INSIDE.index()].queues[0].drain(..) {
                delivered.push(frame.bytes()[42..44].to_vec());
                pipeline.pool().give(frame);
            }
        }
    }
    delivered.sort();
    let expected: Vec<Vec<u8>> = (0..256u16).map(|n| n.to_be_bytes().to_vec()).collect();
    assert_eq!(delivered, expected);
    let handed = first.counters().handed_off;
    assert!(handed > 0 && handed < 256, "{handed}");
    for tunnel in 0..8 {
        let mine = first.counters().tunnels[tunnel].received;
        let theirs = second.counters().tunnels[tunnel].received;
        assert!(mine == 0 || theirs == 0, "tunnel {tunnel} has one owner");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// Two workers with the rings between them, moved by hand.
struct Two {
    model: Model,
    workers: [(Pipeline, Output); 2],
    /// Frames on their way to each worker.
    rings: [Vec<Frame>; 2],
    delivered: Vec<Vec<u8>>,
}

impl Two {
    /// As the receiving side of a pair, with all tunnels owned by worker 0.
    fn new(updates: Vec<Update>) -> Self {
        let folder = std::env::temp_dir().join(format!("hawser-two-{}", std::process::id()));
        let checkpoint = Checkpoint::open(&folder.join("checkpoint")).unwrap();
        let mut model = Model::new(&setup(2));
        model.commit(updates, &checkpoint).unwrap();
        std::fs::remove_dir_all(folder).unwrap();
        let tunnels: Vec<_> = model.tunnels().keys().copied().collect();
        for tunnel in tunnels {
            model.set_owner(tunnel, WorkerId(0));
        }
        let tables = Arc::new(model.compile());
        let mut pools = FramePool::heap(1024, 2048).split(2).into_iter();
        let workers = [0, 1].map(|id| {
            let pool = pools.next().unwrap();
            let pipeline = Pipeline::new(WorkerId(id), 42, Arc::clone(&tables), pool);
            (pipeline, Output::new(&[1, 1], 2))
        });
        Self {
            model,
            workers,
            rings: [Vec::new(), Vec::new()],
            delivered: Vec::new(),
        }
    }

    /// Frames from the network to a worker.
    fn arrive(&mut self, at: usize, frames: &[Vec<u8>]) {
        let (pipeline, out) = &mut self.workers[at];
        for batch in frames.chunks(64) {
            let batch: Vec<Frame> = batch
                .iter()
                .map(|bytes| {
                    let mut frame = pipeline.pool().take().unwrap();
                    assert!(frame.set(bytes));
                    frame
                })
                .collect();
            pipeline.from_port(OUTSIDE, batch.into_iter(), 5, out);
        }
        self.collect(at);
    }

    /// What waits in a worker's ring.
    fn turn(&mut self, at: usize) {
        let frames = std::mem::take(&mut self.rings[at]);
        let (pipeline, out) = &mut self.workers[at];
        pipeline.from_worker(frames.into_iter(), 5, out);
        self.collect(at);
    }

    fn collect(&mut self, at: usize) {
        let (pipeline, out) = &mut self.workers[at];
        for (to, frames) in out.workers.iter_mut().enumerate() {
            self.rings[to].append(frames);
        }
        for frame in out.ports[INSIDE.index()].queues[0].drain(..) {
            self.delivered.push(frame.bytes()[42..44].to_vec());
            pipeline.pool().give(frame);
        }
    }

    fn drops(&mut self) -> Vec<(DropReason, u64)> {
        let mut all = Drops::default();
        for (pipeline, _) in &mut self.workers {
            all.merge(&pipeline.counters().all_drops());
        }
        all.iter().collect()
    }
}

/// A tunnel changes hands while packets come in everywhere: none is lost, and none is let in twice.
#[test]
fn a_tunnel_moves_to_another_worker_under_traffic() {
    let (mut a, b) = pair(&Plan {
        tunnels: 2,
        ..Plan::default()
    });
    let packets: Vec<_> = (0..1000u16)
        .map(|n| udp(0, false, (n, 2), &n.to_be_bytes()))
        .collect();
    let sent = a.send(&packets);
    let mut two = Two::new(b.updates());
    let mut parts = sent.chunks(100);
    let mut next = || parts.next().unwrap();

    two.arrive(0, next());
    two.arrive(1, next());
    two.turn(0);
    assert_eq!(two.delivered.len(), 200);

    // Both tunnels go to worker 1. Before anybody knows, frames are on their way to worker 0.
    two.arrive(1, next());
    for tunnel in [TunnelId(0), TunnelId(1)] {
        two.model.set_owner(tunnel, WorkerId(1));
    }
    let tables = Arc::new(two.model.compile());
    let windows = {
        let (pipeline, out) = &mut two.workers[0];
        pipeline.release(Arc::clone(&tables), 6, out)
    };
    // Worker 0 knows and worker 1 does not: what worker 1 gets goes to worker 0 and comes back.
    two.arrive(0, next());
    two.arrive(1, next());
    two.turn(0);
    assert_eq!(two.delivered.len(), 200, "nobody has the windows");
    assert_eq!(two.rings[1].len(), 300, "and nothing is lost");
    // The windows were sent before those frames, so worker 1 takes them up first.
    {
        let (pipeline, out) = &mut two.workers[1];
        pipeline.take_over(tables, windows, 6, out);
    }
    two.turn(1);
    assert_eq!(two.delivered.len(), 500);
    two.arrive(0, next());
    two.arrive(1, next());
    two.turn(1);
    assert!(two.rings.iter().all(Vec::is_empty));

    let mut expected: Vec<_> = (0..700u16).map(|n| n.to_be_bytes().to_vec()).collect();
    two.delivered.sort();
    expected.sort();
    assert_eq!(two.delivered, expected);
    assert_eq!(two.drops(), []);

    // The window has come along: everything that any of the two let in is a duplicate now.
    two.arrive(0, &sent[..700]);
    two.turn(1);
    assert_eq!(two.delivered.len(), 700);
    assert_eq!(two.drops(), [(DropReason::ReplayDuplicate, 700)]);

    // And back, and on.
    for tunnel in [TunnelId(0), TunnelId(1)] {
        two.model.set_owner(tunnel, WorkerId(0));
    }
    let tables = Arc::new(two.model.compile());
    let (pipeline, out) = &mut two.workers[1];
    let windows = pipeline.release(Arc::clone(&tables), 7, out);
    let (pipeline, out) = &mut two.workers[0];
    pipeline.take_over(tables, windows, 7, out);
    two.arrive(0, next());
    assert_eq!(two.delivered.len(), 800);
}
