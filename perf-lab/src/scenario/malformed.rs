//! What a gateway must refuse: exact counters by reason, and good traffic unharmed meanwhile.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{Findings, Lab};
use crate::{
    interrupt,
    topology::{Family, OUTSIDE_INTERFACE, SITE_INTERFACE, Side, outside_mac, outside_port},
    traffic::{
        Endpoints, FlowSpec, Sizes, Stamp,
        flow::{fold, sum},
        flows, frame,
        packet::{Capture, PacketPort, PacketSink, now, send_flows},
    },
};

/// How often each kind is thrown.
const TIMES: u64 = 25;
/// Where the outer IPv4 header begins.
const IP: usize = 14;
/// Where the ESP header begins, behind an outer IPv4 header without options.
const ESP: usize = IP + 20;

/// A kind of wrong packet made from a right one, and how it must be counted.
struct Wrong {
    reason: &'static str,
    make: fn(&[u8], u64) -> Vec<u8>,
}

/// Kinds of wrong ESP packets. Sequence numbers far beyond those in use, so that nothing but the
/// integrity check can refuse them; if one moved the window, the good traffic would be dropped.
const OUTSIDE: &[Wrong] = &[
    Wrong {
        reason: "replay_duplicate",
        make: |good, _| good.to_vec(),
    },
    Wrong {
        reason: "authentication_failed",
        make: |good, n| {
            let mut wrong = numbered(good, 0x4000_0000 + n as u32);
            let at = ESP + 16 + (n as usize * 7) % (wrong.len() - ESP - 16);
            wrong[at] ^= 1 << (n % 8);
            wrong
        },
    },
    Wrong {
        reason: "unknown_spi",
        make: |good, n| {
            let mut wrong = good.to_vec();
            wrong[ESP..ESP + 4].copy_from_slice(&(0x7700_0000 + n as u32).to_be_bytes());
            wrong
        },
    },
    // Too short for sequence number, IV, one block and ICV.
    Wrong {
        reason: "esp_malformed",
        make: |good, n| cut(good, ESP + 12 + (n as usize % 12)),
    },
    // Garbage behind a right header.
    Wrong {
        reason: "authentication_failed",
        make: |good, n| {
            let mut wrong = numbered(good, 0x5000_0000 + n as u32);
            for (i, byte) in wrong[ESP + 8..].iter_mut().enumerate() {
                *byte = (i as u64).wrapping_mul(0x9e37_79b9).wrapping_add(n * 31) as u8;
            }
            wrong
        },
    },
    Wrong {
        reason: "bad_sequence",
        make: |good, _| numbered(good, 0),
    },
    Wrong {
        reason: "wrong_outer_address",
        make: |good, n| {
            let mut wrong = good.to_vec();
            // Another source of the same network, check sum mended.
            wrong[IP + 14] ^= 0x40;
            wrong[IP + 15] = n as u8;
            mend(&mut wrong);
            wrong
        },
    },
];

/// With another sequence number.
fn numbered(good: &[u8], sequence: u32) -> Vec<u8> {
    let mut wrong = good.to_vec();
    wrong[ESP + 4..ESP + 8].copy_from_slice(&sequence.to_be_bytes());
    wrong
}

/// Shortened to `length` bytes, with an IP header that says so.
fn cut(good: &[u8], length: usize) -> Vec<u8> {
    let mut wrong = good[..length].to_vec();
    wrong[IP + 2..IP + 4].copy_from_slice(&((length - IP) as u16).to_be_bytes());
    mend(&mut wrong);
    wrong
}

/// Sets the IPv4 header check sum right.
fn mend(frame: &mut [u8]) {
    frame[IP + 10..IP + 12].fill(0);
    let sum = !fold(sum(&frame[IP..IP + 20]));
    frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
}

pub(super) fn outside(findings: &mut Findings) -> Result<()> {
    let lab = Lab::simple(1)?;
    // Right packets to forge from: what A really sends, both seen and delivered.
    let capture = Capture::start(lab.topology.outside(), outside_port(Side::A), is_esp)?;
    lab.must_work()?;
    let good = capture.finish()?;
    let good = &good.last().context("no ESP was seen outside")?.frame;
    let before = lab.gateway(Side::B).status()?.drops();
    ensure!(before.is_empty(), "good traffic was dropped: {before:?}");

    let attacker = PacketPort::open(lab.topology.outside(), outside_port(Side::B))?;
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    // The window of 1024 must still hold the packet to be replayed: the replays come first, the good
    // traffic of this time is 400 packets.
    unharmed(&lab, || {
        for wrong in OUTSIDE {
            for n in 0..TIMES {
                attacker.send(&(wrong.make)(good, n))?;
                *expected.entry(wrong.reason.into()).or_default() += 1;
                thread::sleep(Duration::from_micros(300));
            }
        }
        Ok(())
    })?;
    counted(&lab, Side::B, &expected)?;

    // Now the window moves beyond it, and the same packet is old instead.
    let flows = flows(Side::A, Family::V4, Endpoints::Spread, 0, 4);
    let time = Duration::from_millis(600);
    lab.exchange(Side::A, &flows, &Sizes::fixed(300), 4000, time)?
        .must_be_perfect()?;
    for _ in 0..TIMES {
        attacker.send(good)?;
    }
    expected.insert("replay_old".into(), TIMES);
    counted(&lab, Side::B, &expected)?;
    lab.must_work()?;
    findings.add(format!(
        "refused and counted, good traffic whole: {expected:?}"
    ));
    lab.close()
}

/// Kinds of wrong IPv4 packets from a site.
const INSIDE: &[Wrong] = &[
    Wrong {
        // Less than 20 bytes.
        reason: "bad_ip_header",
        make: |good, n| {
            let mut wrong = good.to_vec();
            wrong[IP] = 0x40 | (n % 5) as u8;
            mend(&mut wrong);
            wrong
        },
    },
    Wrong {
        reason: "bad_ip_checksum",
        make: |good, n| {
            let mut wrong = good.to_vec();
            wrong[IP + 10] ^= 1 + n as u8;
            wrong
        },
    },
    Wrong {
        // It ends before it says.
        reason: "truncated",
        make: |good, n| {
            let mut wrong = good.to_vec();
            let says = (good.len() - IP) as u16 + 1 + n as u16;
            wrong[IP + 2..IP + 4].copy_from_slice(&says.to_be_bytes());
            mend(&mut wrong);
            wrong
        },
    },
    Wrong {
        // It says that it is shorter than its header.
        reason: "bad_ip_length",
        make: |good, n| {
            let mut wrong = good.to_vec();
            wrong[IP + 2..IP + 4].copy_from_slice(&((n % 20) as u16).to_be_bytes());
            mend(&mut wrong);
            wrong
        },
    },
    Wrong {
        reason: "ttl_expired",
        make: |good, n| {
            let mut wrong = good.to_vec();
            wrong[IP + 8] = (n % 2) as u8;
            mend(&mut wrong);
            wrong
        },
    },
    Wrong {
        reason: "packet_too_big",
        make: |good, n| {
            let mut wrong = good.to_vec();
            wrong.resize(IP + 1500 - n as usize, 0xaa);
            let length = (wrong.len() - IP) as u16;
            wrong[IP + 2..IP + 4].copy_from_slice(&length.to_be_bytes());
            wrong[IP + 6] |= 0x40;
            mend(&mut wrong);
            wrong
        },
    },
];

pub(super) fn inside(findings: &mut Findings) -> Result<()> {
    let lab = Lab::simple(1)?;
    lab.must_work()?;
    let flow = FlowSpec {
        number: 999,
        ..flows(Side::A, Family::V4, Endpoints::Spread, 0, 1)[0]
    };
    let good = frame(
        &flow,
        Stamp {
            flow: 999,
            sequence: 0,
            time: now()?,
        },
        200,
    )?;
    let attacker = PacketPort::open(lab.site(Side::A), SITE_INTERFACE)?;
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    unharmed(&lab, || {
        for wrong in INSIDE {
            for n in 0..TIMES {
                attacker.send(&(wrong.make)(&good, n))?;
                *expected.entry(wrong.reason.into()).or_default() += 1;
                thread::sleep(Duration::from_micros(300));
            }
        }
        Ok(())
    })?;
    counted(&lab, Side::A, &expected)?;
    let other = lab.gateway(Side::B).status()?.drops();
    ensure!(
        other.is_empty(),
        "gateway B got what A should have refused: {other:?}"
    );
    lab.must_work()?;
    findings.add(format!(
        "refused and counted, good traffic whole: {expected:?}"
    ));
    lab.close()
}

fn is_esp(frame: &[u8]) -> bool {
    frame.len() > ESP + 8
        && frame[12..14] == [8, 0]
        && frame[IP + 9] == 50
        && frame[6..12] == outside_mac(Side::A)
}

/// Runs the attack while good traffic flows from A to B, which must lose nothing.
fn unharmed(lab: &Lab, attack: impl FnOnce() -> Result<()>) -> Result<()> {
    let sink = PacketSink::start(lab.site(Side::B), SITE_INTERFACE)?;
    let port = PacketPort::open(lab.site(Side::A), SITE_INTERFACE)?;
    let flows = flows(Side::A, Family::V4, Endpoints::Spread, 0, 8);
    let time = Duration::from_millis(500);
    let traffic =
        thread::spawn(move || send_flows(&port, &flows, &Sizes::imix_within(1300), 800, time));
    let attacked = attack();
    let sent = traffic
        .join()
        .map_err(|_| anyhow::anyhow!("the traffic panicked"))??;
    attacked?;
    sink.finish(&sent)?
        .must_be_perfect()
        .context("good traffic during the attack")
}

/// The gateway's drops are exactly these.
fn counted(lab: &Lab, side: Side, expected: &BTreeMap<String, u64>) -> Result<()> {
    let mut drops = BTreeMap::new();
    // Counters are published in housekeeping.
    interrupt::wait_for(Duration::from_secs(2), || {
        drops = lab.gateway(side).status()?.drops();
        Ok(drops == *expected)
    })?;
    ensure!(
        drops == *expected,
        "gateway {} at {OUTSIDE_INTERFACE} and inside: dropped {drops:?}, expected {expected:?}",
        side.letter()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_packets_have_right_headers() {
        let flow = flows(Side::A, Family::V4, Endpoints::Spread, 0, 1)[0];
        let good = frame(
            &flow,
            Stamp {
                flow: 0,
                sequence: 0,
                time: 0,
            },
            200,
        )
        .unwrap();
        for n in 0..TIMES {
            for (wrong, intact) in OUTSIDE
                .iter()
                .map(|w| (w, true))
                .chain(INSIDE.iter().map(|w| (w, w.reason != "bad_ip_checksum")))
            {
                let made = (wrong.make)(&good, n);
                let sum_is_right = fold(sum(&made[IP..IP + 20])) == 0xffff;
                assert_eq!(sum_is_right, intact, "{} {n}", wrong.reason);
            }
        }
    }
}
