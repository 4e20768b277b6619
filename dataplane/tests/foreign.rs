//! Foreign implementations of ESP decide what is right: scapy decrypts what we send, we accept
//! what scapy makes, and tshark agrees on a capture of ours.
//!
//! Every suite, with and without extended sequence numbers (over the wrap of the low half), IPv4
//! and IPv6 inside and outside, plain and in UDP. The programs are in `perf-lab/proof`; without
//! scapy or tshark the tests say that they are skipped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use hawser_aead::Suite;
use hawser_api::*;
use hawser_dataplane::checkpoint::SaKey;
use hawser_dataplane::harness::*;
use serde_json::{Value, json};

/// Debian's Python, which has Debian's scapy; another in the path may not.
const PYTHON: &str = "/usr/bin/python3";

/// Lengths of inner UDP payloads: none, around one AES block, and near the largest that fits.
const PAYLOADS: [usize; 7] = [0, 1, 15, 16, 33, 500, 1300];

/// With ESN, numbers up to here are used up, so that the packets cross the wrap of the low half.
const BEFORE_WRAP: u64 = u32::MAX as u64 - 5;

/// Every combination of suite and tunnel.
fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for suite in Suite::ALL {
        for mode in 0..8 {
            plans.push(Plan {
                tunnels: 1,
                suite,
                esn: mode & 1 != 0,
                udp: mode & 2 != 0,
                outer_v6: mode & 4 != 0,
                ..Plan::default()
            });
        }
    }
    plans
}

/// The packets that go through each tunnel: both families, every length.
fn inner_frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for v6 in [false, true] {
        for len in PAYLOADS {
            let payload: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
            // Port 9, discard: nothing that tshark would look into further.
            frames.push(udp(0, v6, (40_000 + len as u16, 9), &payload));
        }
    }
    frames
}

/// The inner packet after one router: TTL one lower, checksum fitting. Without Ethernet header.
fn one_hop_later(frame: &[u8]) -> Vec<u8> {
    let mut packet = frame[14..].to_vec();
    if packet[0] >> 4 == 4 {
        packet[8] -= 1;
        packet[10..12].fill(0);
        let sum = hawser_net::checksum::of(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        packet[7] -= 1;
    }
    packet
}

/// A gateway whose only tunnel has SPIs of its own and, with ESN, stands before the wrap.
/// Returns the first sequence number of both directions.
fn gateway(side: u8, plan: &Plan, number: usize) -> (Gateway, u64) {
    let mut gateway = Gateway::new(side, plan);
    let used = if plan.esn { BEFORE_WRAP } else { 0 };
    let mut updates = Vec::new();
    for update in gateway.updates() {
        match update {
            Update::PutOutboundSa(mut sa) => {
                sa.spi = Spi(sa.spi.0 + 1 + number as u32);
                let key = SaKey::outbound(&sa);
                gateway.checkpoint.put(key, used).unwrap();
                updates.push(Update::PutOutboundSa(sa));
            }
            Update::PutInboundSa(mut sa) => {
                updates.push(Update::RemoveInboundSa(sa.spi));
                sa.spi = Spi(sa.spi.0 + 1 + number as u32);
                let key = SaKey::inbound(&sa);
                gateway.checkpoint.put(key, used).unwrap();
                updates.push(Update::PutInboundSa(sa));
            }
            _ => {}
        }
    }
    gateway.apply(updates).unwrap();
    (gateway, used + 1)
}

/// One item of the list that the programs read: packet `sequence` from side 0 to side 1.
fn item(plan: &Plan, number: usize, sequence: u64, inner: &[u8]) -> Value {
    json!({
        "suite": plan.suite.to_string(),
        "key": hex(key(plan.suite, 0, 0).expose()),
        "spi": spi(1, 0).0 + 1 + number as u32,
        "esn": plan.esn,
        "sequence": sequence,
        "source": outer(0, 0, plan.outer_v6),
        "destination": outer(1, 0, plan.outer_v6),
        "udp": plan.udp.then_some([4500, 4500]),
        "inner": hex(inner),
    })
}

/// Everything that we send through all tunnels, and what it must be.
fn sent() -> (Vec<Vec<u8>>, Vec<Value>) {
    let (mut frames, mut items) = (Vec::new(), Vec::new());
    for (number, plan) in plans().iter().enumerate() {
        let (mut gateway, first) = gateway(0, plan, number);
        let inner = inner_frames();
        let outer = gateway.send(&inner);
        assert_eq!(outer.len(), inner.len(), "{plan:?}: {:?}", gateway.drops());
        frames.extend(outer);
        for (sequence, inner) in (first..).zip(&inner) {
            items.push(item(plan, number, sequence, &one_hop_later(inner)));
        }
    }
    (frames, items)
}

#[test]
fn scapy_decrypts_what_we_send() {
    if !scapy() {
        return;
    }
    let files = Files::new("sent");
    let (frames, items) = sent();
    files.write(&items, &frames);
    let (good, output) = files.run("esp_check.py");
    assert!(good, "{output}");
    assert_eq!(output.trim(), format!("checked {} packets", items.len()));
}

#[test]
fn we_accept_what_scapy_makes() {
    if !scapy() {
        return;
    }
    let files = Files::new("made");
    let inner = inner_frames();
    let mut items = Vec::new();
    for (number, plan) in plans().iter().enumerate() {
        let first = if plan.esn { BEFORE_WRAP + 1 } else { 1 };
        for (n, inner) in inner.iter().enumerate() {
            let mut item = item(plan, number, first + n as u64, &inner[14..]);
            // Padding for traffic flow confidentiality behind every third packet.
            item["tfc"] = json!(if n % 3 == 0 { 40 } else { 0 });
            items.push(item);
        }
    }
    files.write(&items, &[]);
    let (good, output) = files.run("esp_make.py");
    assert!(good, "{output}");
    let made = read_pcap(&files.capture());
    assert_eq!(made.len(), items.len());

    for ((number, plan), made) in plans().iter().enumerate().zip(made.chunks(inner.len())) {
        let (mut gateway, _) = gateway(1, plan, number);
        let forged: Vec<Vec<u8>> = made.iter().map(|frame| forge(frame)).collect();
        assert_eq!(gateway.receive(&forged), Vec::<Vec<u8>>::new(), "{plan:?}");
        let got: Vec<Vec<u8>> = gateway
            .receive(made)
            .iter()
            .map(|frame| frame[14..].to_vec())
            .collect();
        let expected: Vec<Vec<u8>> = inner.iter().map(|frame| one_hop_later(frame)).collect();
        assert_eq!(got, expected, "{plan:?}: {:?}", gateway.drops());
        assert_eq!(gateway.receive(made), Vec::<Vec<u8>>::new(), "{plan:?}");
        let n = made.len() as u64;
        assert_eq!(
            gateway.drops(),
            [
                (DropReason::ReplayDuplicate, n),
                (DropReason::AuthenticationFailed, n),
            ],
            "{plan:?}"
        );
    }
}

#[test]
fn tshark_agrees_on_a_capture_of_ours() {
    if !scapy() || !tshark() {
        return;
    }
    let files = Files::new("tshark");
    let (frames, items) = sent();
    files.write(&items, &frames);
    let (good, output) = files.run("esp_tshark.py");
    assert!(good, "{output}");
    let half = items.len() / 2;
    assert_eq!(
        output.trim(),
        format!("checked {half} packets; {half} with ESN left out")
    );
}

/// A checker that finds nothing proves nothing.
#[test]
fn the_programs_notice_a_difference() {
    if !scapy() {
        return;
    }
    let files = Files::new("control");
    let plan = &plans()[0];
    let (mut gateway, first) = gateway(0, plan, 0);
    let inner = inner_frames().remove(3);
    let frames = gateway.send(std::slice::from_ref(&inner));
    let honest = item(plan, 0, first, &one_hop_later(&inner));
    let differences: [(&str, Value); 5] = [
        ("inner", json!(hex(&inner[14..]))),
        ("sequence", json!(2)),
        ("spi", json!(4711)),
        ("source", json!("192.0.2.77")),
        ("key", json!(hex(&[0; 20]))),
    ];
    files.write(std::slice::from_ref(&honest), &frames);
    assert!(files.run("esp_check.py").0);
    for (field, value) in differences {
        let mut item = honest.clone();
        item[field] = value;
        files.write(&[item], &frames);
        assert!(
            !files.run("esp_check.py").0,
            "{field}: not noticed by scapy"
        );
        if tshark() {
            assert!(
                !files.run("esp_tshark.py").0,
                "{field}: not noticed by tshark"
            );
        }
    }
}

/// The frame with the last bit of its ICV turned.
fn forge(frame: &[u8]) -> Vec<u8> {
    let mut forged = frame.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    forged
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn scapy() -> bool {
    let found = Command::new(PYTHON)
        .args(["-c", "import scapy.layers.ipsec, cryptography"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped: scapy is missing (apt-get install python3-scapy)");
    }
    found
}

fn tshark() -> bool {
    let found = Command::new("tshark")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped: tshark is missing (apt-get install tshark)");
    }
    found
}

/// A list and a capture in a folder that goes with the test.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = std::env::temp_dir().join(format!(
            "hawser-foreign-{name}-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        fs::create_dir_all(&folder).unwrap();
        Self { folder }
    }

    fn list(&self) -> PathBuf {
        self.folder.join("packets.json")
    }

    fn capture(&self) -> PathBuf {
        self.folder.join("packets.pcap")
    }

    fn write(&self, items: &[Value], frames: &[Vec<u8>]) {
        fs::write(self.list(), serde_json::to_vec(items).unwrap()).unwrap();
        write_pcap(&self.capture(), frames);
    }

    /// Runs a program of `perf-lab/proof` on both files; whether it was content, and its output.
    fn run(&self, program: &str) -> (bool, String) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../perf-lab/proof");
        let output = Command::new(PYTHON)
            .arg("-B") // no compiled files in the source tree
            .arg(path.join(program))
            .args([self.list(), self.capture()])
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        (output.status.success(), text)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Classic libpcap, little endian, microseconds, Ethernet.
fn write_pcap(path: &Path, frames: &[Vec<u8>]) {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for frame in frames {
        let len = frame.len() as u32;
        for word in [0, 0, len, len] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    fs::write(path, bytes).unwrap();
}

fn read_pcap(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let (header, mut rest) = bytes.split_at(24);
    assert_eq!(header[..4], 0xa1b2_c3d4_u32.to_le_bytes(), "little endian");
    let mut frames = Vec::new();
    while let Some((record, data)) = rest.split_at_checked(16) {
        let len = u32::from_le_bytes(record[8..12].try_into().unwrap()) as usize;
        let (frame, next) = data.split_at(len);
        frames.push(frame.to_vec());
        rest = next;
    }
    frames
}
