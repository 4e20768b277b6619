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
    let owners: Vec<_> = model.inbound().map(|sa| sa.owner.0).collect();
    assert_eq!(
        owners.iter().filter(|&&owner| owner == 0).count(),
        4,
        "spread: {owners:?}"
    );
    assert_eq!(
        model.inbound().find(|sa| sa.tunnel.0 == 5).unwrap().owner,
        WorkerId(1)
    );

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
