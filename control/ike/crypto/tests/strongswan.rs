//! Exchanges that two strongSwan daemons had, recorded by `vectors/strongswan.py` with the
//! Diffie-Hellman secret and the children's keys: what they said is understood octet by octet, and
//! their keys and proofs come out the same.

use std::time::{Duration, SystemTime};

use hawser_ike_crypto::{
    Cipher, Encr, Group, IkeKeys, IkeSuite, Integ, Nonces, Opener, Prf, Progress, Reassembly, Role,
    Secret, SignaturePolicy, TrustAnchors, TrustPolicy, name, psk,
};
use hawser_ike_wire::{
    AuthMethod, ExchangeType, Header, Identification, Message, NotifyType, Payloads, Proposal,
    SecurityAssociation, Transform, TransformType,
};

const RECORD: &str = include_str!("vectors/strongswan.txt");

fn hex(text: &str) -> Vec<u8> {
    let digit = |c: u8| (c as char).to_digit(16).expect("hexadecimal") as u8;
    let octets = text.as_bytes().chunks(2);
    octets
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

/// A recorded exchange.
struct Record {
    name: &'static str,
    lines: Vec<(&'static str, &'static str)>,
}

fn records() -> Vec<Record> {
    let sections = RECORD
        .split("\n\n")
        .filter(|section| section.trim().starts_with('['));
    let records = sections.map(|section| {
        let mut lines = section.trim().lines();
        let name = lines.next().expect("a heading").trim_matches(['[', ']']);
        let lines = lines.map(|line| line.split_once(" =").expect("a name"));
        let lines = lines.map(|(name, value)| (name, value.trim())).collect();
        Record { name, lines }
    });
    records.collect()
}

impl Record {
    fn text(&self, name: &str) -> &'static str {
        let found = self.lines.iter().find(|(other, _)| *other == name);
        found.expect("a recorded value").1
    }

    fn octets(&self, name: &str) -> Vec<u8> {
        hex(self.text(name))
    }

    /// The datagrams that one side sent, in order.
    fn sent(&self, side: &str) -> Vec<Vec<u8>> {
        let lines = self.lines.iter().filter(|(name, _)| *name == side);
        lines.map(|(_, value)| hex(value)).collect()
    }
}

/// What was chosen: the one proposal of an answer.
fn chosen(sa: Option<&SecurityAssociation>) -> &Proposal {
    let proposals = &sa.expect("an SA payload").proposals;
    assert_eq!(proposals.len(), 1);
    &proposals[0]
}

fn transform<T>(
    proposal: &Proposal,
    kind: TransformType,
    from: fn(&Transform) -> Option<T>,
) -> Option<T> {
    proposal.transforms_of(kind).find_map(from)
}

fn cipher(proposal: &Proposal) -> Cipher {
    let encr = transform(proposal, TransformType::Encr, Encr::from_transform);
    let integ = transform(proposal, TransformType::Integ, Integ::from_transform);
    Cipher::new(encr.expect("a known cipher"), integ).expect("what fits together")
}

fn suite(proposal: &Proposal) -> IkeSuite {
    IkeSuite {
        cipher: cipher(proposal),
        prf: transform(proposal, TransformType::Prf, Prf::from_transform).expect("a known PRF"),
        group: transform(proposal, TransformType::Dh, Group::from_transform).expect("a group"),
    }
}

/// The payloads of an IKE_AUTH message, whole or in fragments.
fn inside(opener: &Opener, datagrams: &[Vec<u8>]) -> Payloads {
    let mut reassembly = Reassembly::new();
    for datagram in datagrams {
        let message = Message::parse(datagram).expect("a message");
        assert_eq!(message.header.exchange, ExchangeType::IkeAuth);
        let protected = message.protected.as_ref().expect("an Encrypted payload");
        if protected.fragment.is_none() {
            return opener.open(datagram, &message).expect("authentic");
        }
        let fragment = opener.open_fragment(datagram, &message).expect("authentic");
        match reassembly.add(fragment).expect("good fragments") {
            Progress::Complete(payloads) => return payloads,
            progress => assert_eq!(progress, Progress::Waiting),
        }
    }
    panic!("fragments are missing");
}

/// Everything that follows from one recorded exchange.
struct Exchange {
    record: Record,
    /// The IKE_SA_INIT datagrams, the initiator's first.
    init: [Vec<u8>; 2],
    nonces: [Vec<u8>; 2],
    keys: IkeKeys,
    /// What was in the IKE_AUTH messages.
    auth: [Payloads; 2],
}

const ROLES: [Role; 2] = [Role::Initiator, Role::Responder];

fn replay(record: Record) -> Exchange {
    let sent = ["from_initiator", "from_responder"].map(|side| record.sent(side));
    let init = sent.each_ref().map(|datagrams| datagrams[0].clone());
    let parsed = init
        .each_ref()
        .map(|datagram| Message::parse(datagram).expect("a message"));
    let nonces = parsed
        .each_ref()
        .map(|m| m.payloads.nonce().expect("a nonce").0.clone());
    let suite = suite(chosen(parsed[1].payloads.sa()));
    assert_eq!(
        parsed[0].payloads.ke().expect("KE").group,
        suite.group.number()
    );
    let Header {
        initiator_spi,
        responder_spi,
        ..
    } = parsed[1].header;
    let keys = IkeKeys::derive(
        suite,
        &Secret::new(record.octets("shared")),
        Nonces {
            initiator: &nonces[0],
            responder: &nonces[1],
        },
        initiator_spi,
        responder_spi,
    );
    let auth = [0, 1].map(|side| inside(&keys.opener(ROLES[side]), &sent[side][1..]));
    Exchange {
        record,
        init,
        nonces,
        keys,
        auth,
    }
}

fn exchanges() -> Vec<Exchange> {
    let exchanges: Vec<Exchange> = records().into_iter().map(replay).collect();
    let names: Vec<_> = exchanges
        .iter()
        .map(|exchange| exchange.record.name)
        .collect();
    assert_eq!(names, ["psk-gcm", "psk-cbc", "rsa", "ecdsa"]);
    exchanges
}

impl Exchange {
    fn identity(&self, side: usize) -> &Identification {
        let id = match side {
            0 => self.auth[0].id_initiator(),
            _ => self.auth[1].id_responder(),
        };
        id.expect("an identity")
    }

    fn signed_octets(&self, side: usize) -> Vec<u8> {
        let (init, nonce) = (&self.init[side], &self.nonces[1 - side]);
        let identity = self.identity(side).body();
        self.keys.signed_octets(ROLES[side], init, nonce, &identity)
    }
}

#[test]
fn messages_in_clear_are_written_as_they_came() {
    for record in records() {
        for side in ["from_initiator", "from_responder"] {
            for datagram in record.sent(side) {
                let message = Message::parse(&datagram).unwrap();
                assert_eq!(message.emit().unwrap(), datagram, "{}", record.name);
            }
        }
    }
}

#[test]
fn encrypted_messages_open_and_say_what_was_meant() {
    for exchange in exchanges() {
        let [request, response] = &exchange.auth;
        assert!(request.sa().is_some() && request.ts_initiator().is_some());
        assert!(request.notify(NotifyType::MobikeSupported).is_some());
        assert!(response.error().is_none() && response.ts_responder().is_some());
        let selectors = &response.ts_responder().unwrap().0;
        assert_eq!(selectors[0].to_string(), "10.2.0.0-10.2.255.255");
        // Not with the other side's key.
        let datagram = &exchange.record.sent("from_initiator")[1];
        let message = Message::parse(datagram).unwrap();
        let opener = exchange.keys.opener(Role::Responder);
        assert!(opener.open(datagram, &message).is_err());
        assert!(opener.open_fragment(datagram, &message).is_err());
    }
}

#[test]
fn keys_of_the_child_are_theirs() {
    for exchange in exchanges() {
        let cipher = cipher(chosen(exchange.auth[1].sa()));
        let nonces = Nonces {
            initiator: &exchange.nonces[0],
            responder: &exchange.nonces[1],
        };
        let child = exchange.keys.child(cipher, None, nonces);
        let theirs = |side: &str| {
            let record = &exchange.record;
            let encryption = record.octets(&format!("child_e{side}"));
            assert!(!encryption.is_empty());
            [encryption, record.octets(&format!("child_a{side}"))].concat()
        };
        assert_eq!(child.initiator_to_responder.expose(), theirs("i"));
        assert_eq!(child.responder_to_initiator.expose(), theirs("r"));
    }
}

#[test]
fn their_proofs_hold() {
    let mut trust = TrustAnchors::new();
    trust
        .add(include_bytes!("vectors/certificates/root.pem"))
        .unwrap();
    trust
        .add(include_bytes!("vectors/certificates/root_rsa.pem"))
        .unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_272_000);
    let mut methods = Vec::new();
    for exchange in exchanges() {
        let key = Secret::new(exchange.record.text("psk").into());
        let prf = exchange.keys.suite().prf;
        for side in [0, 1] {
            let payloads = &exchange.auth[side];
            let auth = payloads.auth().expect("an AUTH payload");
            let octets = exchange.signed_octets(side);
            let others = exchange.signed_octets(1 - side);
            methods.push(auth.method);
            if auth.method == AuthMethod::SharedKey {
                assert!(psk::verify(prf, &key, &octets, &auth.data));
                assert!(!psk::verify(prf, &key, &others, &auth.data));
                let wrong = Secret::new(b"another".to_vec());
                assert!(!psk::verify(prf, &wrong, &octets, &auth.data));
                continue;
            }
            let identity = exchange.identity(side).identity();
            let certificates = payloads.certificates();
            let peer = trust.verify(certificates, identity, now, TrustPolicy::default());
            let peer = peer.unwrap_or_else(|error| panic!("{}: {error}", name::describe(identity)));
            let policy = SignaturePolicy::default();
            assert_eq!(
                peer.verify(auth, &octets, policy),
                Ok(()),
                "{}",
                exchange.record.name
            );
            assert!(peer.verify(auth, &others, policy).is_err());
        }
    }
    let digital = AuthMethod::DigitalSignature;
    let shared = AuthMethod::SharedKey;
    let expected = [
        shared, shared, shared, shared, digital, digital, digital, digital,
    ];
    assert_eq!(methods, expected);
}
