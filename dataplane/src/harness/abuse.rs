//! Frames that no honest host or peer sends: every one is delivered or counted, no frame is lost,
//! and good traffic goes on. One harness for the property tests and the fuzz targets.

use std::{cell::RefCell, collections::HashMap};

use hawser_aead::{SealBatch, Suite};
use hawser_api::TunnelId;

use super::{Gateway, INSIDE, OUTSIDE, Plan, outer, pair, spi, udp};

/// Longest frame made from fuzz input, in bytes.
const LONGEST: usize = 1600;

/// Ethernet header: the kernel hands no shorter frame on.
const SHORTEST: usize = 14;

/// Most frames of one fuzz input.
const FRAMES: usize = 64;

/// What is done to a good frame.
#[derive(Clone, Debug)]
pub enum Damage {
    /// Nothing.
    Nothing,
    /// A byte, by its place modulo the length, is changed by these bits.
    Flip(usize, u8),
    /// It is cut behind the Ethernet header, by the place modulo the length.
    Cut(usize),
    /// Bytes follow.
    Grow(Vec<u8>),
    /// It is another one.
    Replace(Vec<u8>),
    /// The peer itself sends this, trailer included, in an authentic ESP packet of the first
    /// tunnel. From inside, where there is no ESP, as [`Damage::Nothing`].
    Sealed(Vec<u8>),
}

impl Damage {
    fn apply(&self, mut frame: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Nothing | Self::Sealed(_) => {}
            Self::Flip(at, bits) => {
                let at = at % frame.len();
                frame[at] ^= bits;
            }
            Self::Cut(at) => frame.truncate(SHORTEST + at % (frame.len() - SHORTEST)),
            Self::Grow(bytes) => frame.extend(bytes),
            Self::Replace(bytes) => frame.clone_from(bytes),
        }
        frame
    }

    /// The next one of fuzz input; `None` at its end.
    fn decode(input: &mut &[u8]) -> Option<Self> {
        let [kind, a, b, rest @ ..] = *input else {
            return None;
        };
        *input = rest;
        let number = usize::from(u16::from_be_bytes([*a, *b]));
        let mut bytes = |shortest: usize| {
            let (taken, rest) = input.split_at(input.len().min(number % LONGEST));
            *input = rest;
            let mut taken = taken.to_vec();
            taken.resize(taken.len().max(shortest), 0);
            taken
        };
        Some(match kind % 6 {
            0 => Self::Nothing,
            1 => Self::Flip(number, kind | 1),
            2 => Self::Cut(number),
            3 => Self::Grow(bytes(0)),
            4 => Self::Replace(bytes(SHORTEST)),
            _ => Self::Sealed(bytes(0)),
        })
    }
}

/// Damaged frames from the peer; the pair's first gateway is the peer.
///
/// # Panics
/// When a frame is neither delivered nor counted, a frame is lost, or good traffic suffers.
pub fn from_outside((a, b): &mut (Gateway, Gateway), damages: &[Damage], inner_v6: bool) {
    let free = b.pipeline.pool().len();
    let drops = b.counters().all_drops().total();
    let packets: Vec<_> = (0..damages.len())
        .map(|n| udp(0, inner_v6, (n as u16, 9), &[7; 50]))
        .collect();
    let sent = a.send(&packets);
    let frames: Vec<_> = damages
        .iter()
        .zip(sent)
        .map(|(damage, frame)| match damage {
            Damage::Sealed(text) => sealed(a, text),
            _ => damage.apply(frame),
        })
        .collect();
    let delivered = b.receive(&frames).len();
    let elsewhere = b.take(OUTSIDE).len() + b.out.host.len();
    let waiting = b.pipeline.is_waiting();
    let dropped = b.counters().all_drops().total() - drops;
    let accounted = delivered + elsewhere + dropped as usize;
    if damages.iter().any(|d| matches!(d, Damage::Sealed(_))) {
        // An authentic packet may wait for a neighbour, or make fragments and errors of its own.
        assert!(waiting || accounted >= frames.len(), "{damages:?}");
    } else {
        assert_eq!((delivered + dropped as usize, elsewhere), (frames.len(), 0));
    }
    let untouched = damages.iter().filter(|d| matches!(d, Damage::Nothing));
    assert!(delivered >= untouched.count(), "{:?}", b.drops());
    settle(b);
    assert_eq!(b.pipeline.pool().len(), free, "no frame is lost");
    let good = b.receive(&a.send(&packets));
    assert_eq!(
        good.len(),
        packets.len(),
        "good traffic goes on: {:?}",
        b.drops()
    );
}

/// Damaged frames from the site.
///
/// # Panics
/// As [`from_outside`].
pub fn from_inside(a: &mut Gateway, damages: &[Damage], inner_v6: bool) {
    let free = a.pipeline.pool().len();
    let drops = a.counters().all_drops().total();
    let good: Vec<_> = (0..damages.len())
        .map(|n| udp(0, inner_v6, (n as u16, 9), &[7; 50]))
        .collect();
    let frames: Vec<_> = damages
        .iter()
        .zip(&good)
        .map(|(damage, frame)| damage.apply(frame.clone()))
        .collect();
    let sent = a.send(&frames).len();
    let elsewhere = a.take(INSIDE).len() + a.out.host.len();
    let dropped = (a.counters().all_drops().total() - drops) as usize;
    let accounted = sent + elsewhere + dropped;
    assert!(
        a.pipeline.is_waiting() || accounted >= frames.len(),
        "{damages:?}"
    );
    settle(a);
    assert_eq!(a.pipeline.pool().len(), free, "no frame is lost");
    assert_eq!(
        a.send(&good).len(),
        good.len(),
        "good traffic goes on: {:?}",
        a.drops()
    );
}

/// [`from_outside`] with damages, cipher and kind of tunnel made of any bytes.
pub fn fuzz_from_outside(input: &[u8]) {
    with_pair(input, |pair, damages, inner_v6| {
        from_outside(pair, &damages, inner_v6)
    });
}

/// [`from_inside`] with damages, cipher and kind of tunnel made of any bytes.
pub fn fuzz_from_inside(input: &[u8]) {
    with_pair(input, |(a, _), damages, inner_v6| {
        from_inside(a, &damages, inner_v6)
    });
}

/// Pairs are kept from one input to the next, since making one costs more than most inputs: what
/// must hold holds from any state that the inputs before left.
fn with_pair(input: &[u8], run: impl FnOnce(&mut (Gateway, Gateway), Vec<Damage>, bool)) {
    thread_local! {
        static PAIRS: RefCell<HashMap<u8, (Gateway, Gateway)>> = RefCell::default();
    }
    let Some((kind, mut rest)) = input.split_first() else {
        return;
    };
    let damages: Vec<_> = std::iter::from_fn(|| Damage::decode(&mut rest))
        .take(FRAMES)
        .collect();
    PAIRS.with_borrow_mut(|pairs| {
        let made = pairs.entry(kind & !1).or_insert_with(|| {
            let suite = Suite::ALL[usize::from(kind >> 4) % Suite::ALL.len()];
            pair(&Plan {
                suite,
                udp: kind & 2 != 0,
                outer_v6: kind & 4 != 0,
                esn: kind & 8 != 0,
                frames: 256,
                ..Plan::default()
            })
        });
        run(made, damages, kind & 1 != 0);
    });
}

/// An ESP packet of the first tunnel that decrypts to these bytes, filled up to whole blocks.
fn sealed(peer: &Gateway, text: &[u8]) -> Vec<u8> {
    let sa = peer.model.outbound_of(TunnelId(0)).unwrap();
    let suite = sa.key.suite();
    let mut esp = spi(1 - peer.side, 0).0.to_be_bytes().to_vec();
    esp.resize(8 + suite.iv_len(), 0);
    esp.extend(text);
    esp.resize(
        esp.len() + text.len().next_multiple_of(suite.block_len()) - text.len(),
        0,
    );
    esp.resize(esp.len() + suite.icv_len(), 0);
    let sequence = sa
        .key
        .reserve(1)
        .and_then(|mut block| block.next())
        .unwrap();
    let mut batch = SealBatch::new();
    batch.push(&sa.key, sequence, &mut esp);
    batch.seal();
    drop(batch);
    wrapped(peer, &esp)
}

fn wrapped(peer: &Gateway, esp: &[u8]) -> Vec<u8> {
    let plan = &peer.plan;
    let ends = [peer.side, 1 - peer.side].map(|side| outer(side, 0, plan.outer_v6));
    let (protocol, payload) = if plan.udp {
        let mut datagram = [4500_u16, 4500, 8 + esp.len() as u16, 0]
            .map(u16::to_be_bytes)
            .concat();
        datagram.extend(esp);
        (17, datagram)
    } else {
        (50, esp.to_vec())
    };
    match ends {
        [std::net::IpAddr::V4(from), std::net::IpAddr::V4(to)] => {
            super::ipv4(from.octets(), to.octets(), protocol, &payload, false)
        }
        [from, to] => super::ipv6(from, to, protocol, &payload),
    }
}

/// Takes what waits or goes to the host.
fn settle(gateway: &mut Gateway) {
    gateway.pipeline.housekeep(gateway.now + 3_000_000_000);
    for frame in gateway.out.host.drain(..) {
        gateway.pipeline.pool().give(frame);
    }
    gateway.out.events.clear();
}
