//! Wireshark's dissector reads what is written here, with the keys of the key log.
//!
//! Needs tshark; without it the test says so and proves nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hawser_ike_crypto::{
    Cipher, Group, IkeKeys, IkeSuite, KeyExchange, Nonces, Prf, Role, Secret, SystemRandom,
};
use hawser_ike_wire::{
    AuthMethod, Authentication, ChildSpi, Delete, ExchangeType, Header, Identity, IkeSpi,
    KeyExchange as Ke, Message, MessageId, Nonce, Notify, NotifyType, Payload, Payloads, Proposal,
    ProtocolId, SecurityAssociation, TrafficSelector, TrafficSelectors, Transform, TransformType,
    transform_id,
};

/// Frames of a capture without a link layer (LINKTYPE_RAW).
struct Capture(Vec<u8>);

impl Capture {
    fn new() -> Self {
        let mut out = Vec::new();
        // Version 2.4 stands as two 16-bit fields.
        for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 101u32] {
            out.extend(word.to_le_bytes());
        }
        Self(out)
    }

    /// An IPv4 packet with this datagram, from port 500 to port 500.
    fn add(&mut self, datagram: &[u8]) {
        let udp = u16::try_from(8 + datagram.len()).unwrap();
        let mut packet = vec![0x45, 0];
        packet.extend((20 + udp).to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        packet.extend(
            [
                500u16.to_be_bytes(),
                500u16.to_be_bytes(),
                udp.to_be_bytes(),
            ]
            .concat(),
        );
        packet.extend([0, 0]);
        packet.extend(datagram);
        let len = u32::try_from(packet.len()).unwrap();
        for word in [1, 0, len, len] {
            self.0.extend(word.to_le_bytes());
        }
        self.0.extend(packet);
    }
}

fn header(exchange: ExchangeType, spis: (IkeSpi, IkeSpi), id: u32) -> Header {
    Header {
        initiator_spi: spis.0,
        responder_spi: spis.1,
        exchange,
        initiator: true,
        response: false,
        higher_version: false,
        message_id: MessageId(id),
    }
}

fn proposal(protocol: ProtocolId, spi: Vec<u8>, cipher: Cipher) -> Payload {
    let mut transforms = cipher.transforms();
    transforms.push(match protocol {
        ProtocolId::Ike => Group::X25519.transform(),
        _ => Transform::new(TransformType::Esn, transform_id::ESN_NO),
    });
    Payload::Sa(SecurityAssociation {
        proposals: vec![Proposal {
            number: 1,
            protocol,
            spi,
            transforms,
        }],
    })
}

/// IKE_SA_INIT's payloads.
fn init(cipher: Cipher) -> Payloads {
    let ke = KeyExchange::generate(Group::X25519, &mut SystemRandom);
    vec![
        proposal(ProtocolId::Ike, vec![], cipher),
        Payload::Ke(Ke {
            group: Group::X25519.number(),
            data: ke.public().to_vec(),
        }),
        Payload::Nonce(Nonce(vec![7; 32])),
        Payload::Notify(Notify::signature_hashes(&[2, 3, 4])),
        Payload::Notify(Notify::with_data(
            NotifyType::NatDetectionSourceIp,
            vec![1; 20],
        )),
    ]
    .into()
}

/// IKE_AUTH's payloads, and others that an IKE SA carries.
fn inside(cipher: Cipher) -> Payloads {
    let selectors = TrafficSelectors(vec![TrafficSelector::any_v4(), TrafficSelector::any_v6()]);
    vec![
        Payload::IdInitiator(Identity::Fqdn(format!("{cipher}.example")).into()),
        Payload::IdResponder(Identity::Ipv4([192, 0, 2, 2].into()).into()),
        Payload::Auth(Authentication {
            method: AuthMethod::SharedKey,
            data: vec![9; 32],
        }),
        proposal(ProtocolId::Esp, vec![1, 2, 3, 4], cipher),
        Payload::TsInitiator(selectors.clone()),
        Payload::TsResponder(selectors),
        Payload::Notify(Notify::for_child(
            NotifyType::RekeySa,
            ProtocolId::Esp,
            ChildSpi(0x99),
        )),
        Payload::Delete(Delete::Children {
            protocol: ProtocolId::Esp,
            spis: vec![ChildSpi(1), ChildSpi(2)],
        }),
        Payload::Vendor(b"vendor".to_vec()),
    ]
    .into()
}

/// The capture, the key table, and the ciphers whose messages stand in it, in order: for each one
/// IKE_SA_INIT, a whole message and its fragments; and how many datagrams are encrypted.
fn write(folder: &Path) -> (PathBuf, String, Vec<Cipher>, usize) {
    let mut capture = Capture::new();
    let mut table = String::new();
    let mut protected = 0;
    let ciphers: Vec<Cipher> = Cipher::all().collect();
    for (number, cipher) in (1..).zip(&ciphers) {
        let spis = (IkeSpi(0x1000 + number), IkeSpi(0x2000 + number));
        let suite = IkeSuite {
            cipher: *cipher,
            prf: Prf::HmacSha2_256,
            group: Group::X25519,
        };
        let nonces = Nonces {
            initiator: &[7; 32],
            responder: &[8; 32],
        };
        let keys = IkeKeys::derive(suite, &Secret::new(vec![5; 32]), nonces, spis.0, spis.1);
        table.push_str(&keys.key_log_line(spis.0, spis.1));
        table.push('\n');

        let first = header(ExchangeType::IkeSaInit, (spis.0, IkeSpi::ZERO), 0);
        capture.add(&Message::new(first, init(*cipher)).emit().unwrap());
        let mut sealer = keys.sealer(Role::Initiator);
        let auth = header(ExchangeType::IkeAuth, spis, 1);
        let whole = sealer
            .seal(&auth, &inside(*cipher), &mut SystemRandom)
            .unwrap();
        capture.add(&whole);
        let auth = header(ExchangeType::IkeAuth, spis, 2);
        let sealed = sealer.seal_fragments(&auth, &inside(*cipher), 250, &mut SystemRandom);
        let fragments = sealed.unwrap();
        assert!(fragments.len() > 1);
        protected += 1 + fragments.len();
        fragments.iter().for_each(|fragment| capture.add(fragment));
    }
    fs::create_dir_all(folder).unwrap();
    let file = folder.join("ike.pcap");
    fs::write(&file, capture.0).unwrap();
    fs::write(folder.join("ikev2_decryption_table"), &table).unwrap();
    (file, table, ciphers, protected)
}

#[test]
fn the_dissector_opens_and_reads_every_message() {
    if Command::new("tshark").arg("--version").output().is_err() {
        eprintln!("SKIPPED: tshark is not installed, so nothing was compared with Wireshark");
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ike-tshark");
    let (file, table, ciphers, protected) = write(&folder);
    let mut tshark = Command::new("tshark");
    tshark
        .arg("-r")
        .arg(&file)
        .args(["-n", "-V", "-O", "isakmp"]);
    for line in table.lines() {
        tshark
            .arg("-o")
            .arg(format!("uat:ikev2_decryption_table:{line}"));
    }
    let output = tshark.output().expect("tshark starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");

    for cipher in &ciphers {
        // Once in the whole message, once in the fragments that the dissector put together.
        let name = format!("{cipher}.example");
        let found = text.matches(&name).count();
        assert!(found >= 2, "{name} was read {found} times\n{text}");
    }
    assert!(!text.contains("Malformed"), "{text}");
    assert!(!text.contains("incorrect"), "{text}");
    // Every whole message and every fragment, with and without an AEAD.
    assert_eq!(text.matches("[correct]").count(), protected, "{text}");
    for expected in [
        "REKEY_SA",
        "SIGNATURE_HASH_ALGORITHMS",
        "NAT_DETECTION_SOURCE_IP",
    ] {
        assert!(text.contains(expected), "{expected} is missing\n{text}");
    }
}
