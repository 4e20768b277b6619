//! Forged IKE_SA_INIT requests: a flood of strangers who want to begin.
//!
//! Every request is well-formed and differs in SPI, port and nonce; the source is the address of a
//! peer that is known, so that nothing but the cookie tells it from an honest one.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail};

use crate::{
    topology::{Family, Side, Topology, outside_address, outside_mac, outside_port},
    traffic::{
        flow::{fold, sum},
        packet::PacketPort,
    },
};

/// Octets of the Ethernet and IPv4 headers, and of UDP's.
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;

/// A flood that goes on until it is stopped.
pub(super) struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
    began: Instant,
}

impl Flood {
    /// Sends so many requests a second to a gateway, as if from its first peer.
    pub(super) fn start(topology: &Topology, to: Side, per_second: u32) -> Result<Self> {
        let port = PacketPort::open(topology.outside(), outside_port(to))?;
        let addresses = [to.other(), to].map(|side| outside_address(side, Family::V4, 0));
        let [IpAddr::V4(source), IpAddr::V4(destination)] = addresses else {
            bail!("the outside has no IPv4 addresses");
        };
        let (stop, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let mut frame = request(to, source, destination);
            let began = Instant::now();
            let mut n = 0_u64;
            while !stopped.load(Ordering::Relaxed) {
                let due = (began.elapsed().as_secs_f64() * f64::from(per_second)) as u64;
                // Not more at once than a veth holds, however late we are.
                for _ in 0..due.saturating_sub(n).min(64) {
                    n += 1;
                    vary(&mut frame, n);
                    if port.send(&frame).is_ok() {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
                if n >= due {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
            Ok(())
        });
        Ok(Self {
            stop,
            sent,
            thread: Some(thread),
            began: Instant::now(),
        })
    }

    /// Ends it. Says how many requests were sent, and how many a second.
    pub(super) fn finish(mut self) -> Result<(u64, u64)> {
        let seconds = self.began.elapsed().as_secs_f64();
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| anyhow!("the flood panicked"))??;
        }
        let sent = self.sent.load(Ordering::Relaxed);
        Ok((sent, (sent as f64 / seconds) as u64))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A frame with a request; [`vary`] makes it another one.
fn request(to: Side, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    let message = message();
    let mut frame = Vec::new();
    frame.extend(outside_mac(to));
    frame.extend(outside_mac(to.other()));
    frame.extend([0x08, 0x00]);
    let length = (IPV4 + UDP + message.len()) as u16;
    let mut header = [0_u8; IPV4];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&length.to_be_bytes());
    (header[8], header[9]) = (64, 17);
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    let checksum = !fold(sum(&header));
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(header);
    frame.extend([0, 0]);
    frame.extend(500_u16.to_be_bytes());
    frame.extend(((UDP + message.len()) as u16).to_be_bytes());
    // No checksum (RFC 768).
    frame.extend([0, 0]);
    frame.extend(message);
    frame
}

/// IKE_SA_INIT of RFC 7296, section 1.2, with the first of our default proposals.
fn message() -> Vec<u8> {
    let transform = |last: bool, kind: u8, id: u16, attribute: &[u8]| {
        let mut transform = vec![
            if last { 0 } else { 3 },
            0,
            0,
            8 + attribute.len() as u8,
            kind,
            0,
        ];
        transform.extend(id.to_be_bytes());
        transform.extend(attribute);
        transform
    };
    let transforms = [
        // AES-GCM-16 with 256 bits, HMAC-SHA2-384, group 20.
        transform(false, 1, 20, &[0x80, 14, 1, 0]),
        transform(false, 2, 6, &[]),
        transform(true, 4, 20, &[]),
    ]
    .concat();
    let mut proposal = vec![0, 0, 0, 8 + transforms.len() as u8, 1, 1, 0, 3];
    proposal.extend(transforms);
    let payload = |next: u8, body: &[u8]| {
        let mut payload = vec![next, 0];
        payload.extend((4 + body.len() as u16).to_be_bytes());
        payload.extend(body);
        payload
    };
    let mut key = vec![0, 20, 0, 0];
    key.extend([7; 96]);
    let payloads = [
        payload(34, &proposal),
        payload(40, &key),
        payload(0, &[9; 32]),
    ]
    .concat();
    let mut message = vec![0; 16];
    message.extend([33, 0x20, 34, 0x08, 0, 0, 0, 0]);
    message.extend((28 + payloads.len() as u32).to_be_bytes());
    message.extend(payloads);
    message
}

/// Another SPI, source port and nonce.
fn vary(frame: &mut [u8], n: u64) {
    let udp = ETHERNET + IPV4;
    let port = 1024 + (n % 60_000) as u16;
    frame[udp..udp + 2].copy_from_slice(&port.to_be_bytes());
    let spi = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let ike = udp + UDP;
    frame[ike..ike + 8].copy_from_slice(&spi.to_be_bytes());
    let end = frame.len();
    frame[end - 8..].copy_from_slice(&spi.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_whole_and_differ() {
        let mut frame = request(Side::B, [198, 18, 0, 1].into(), [198, 19, 0, 1].into());
        let message = frame[ETHERNET + IPV4 + UDP..].to_vec();
        let length = u32::from_be_bytes(message[24..28].try_into().unwrap());
        assert_eq!(length as usize, message.len());
        assert_eq!(fold(sum(&frame[ETHERNET..ETHERNET + IPV4])), 0xffff);
        vary(&mut frame, 1);
        let one = frame.clone();
        vary(&mut frame, 2);
        assert_ne!(one, frame);
        assert_eq!(one.len(), frame.len());
    }
}
