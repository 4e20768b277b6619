//! Certificates instead of a key, and long messages in fragments.

use std::{path::PathBuf, time::Duration};

use hawser_ike_crypto::{LocalCertificate, TrustAnchors};

use super::world::{World, pair};
use crate::{Auth, Certificates, Connection, IdentityMatch, State, identity};

const SECOND: Duration = Duration::from_secs(1);

fn file(name: &str) -> Vec<u8> {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.push("crypto/tests/vectors/certificates");
    path.push(name);
    std::fs::read(path).expect("the file is in the repository")
}

/// Our certificate (with its intermediate), and whom we believe.
fn certificates(leaf: &str, roots: &[&str], crls: &[&str]) -> Certificates {
    let mut chain = file(&format!("{leaf}.pem"));
    chain.extend(file("intermediate.pem"));
    let key = file(&format!("{leaf}.key"));
    let local = LocalCertificate::load(&chain, &key).expect("a good certificate");
    let mut trust = TrustAnchors::new();
    let mut files = vec![chain, key];
    for root in roots {
        let root = file(root);
        trust.add(&root).expect("a good anchor");
        files.push(root);
    }
    for crl in crls {
        trust.add_crl(&file(crl)).expect("a good list");
    }
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    Certificates::new(local, trust, &files)
}

fn own_name(c: &mut Connection) {
    let Auth::Certificate(own) = &c.auth else {
        return;
    };
    c.local_id = own.local.identities()[0].clone();
}

fn with(a_leaf: &str, b_leaf: &str, roots: &[&str], crls: &[&str]) -> (Connection, Connection) {
    let (mut a, mut b) = pair();
    for (c, leaf) in [(&mut a, a_leaf), (&mut b, b_leaf)] {
        c.auth = Auth::Certificate(certificates(leaf, roots, crls));
        own_name(c);
        c.remote_id = IdentityMatch::Any;
    }
    (a, b)
}

const ROOTS: [&str; 2] = ["root.pem", "root_rsa.pem"];

#[test]
fn certificates_of_all_kinds_prove_both_sides() {
    for (one, two) in [("p256", "rsa"), ("rsa", "p384"), ("p521", "rsa_pss")] {
        let (mut a, mut b) = with(one, two, &ROOTS, &[]);
        a.remote_id = IdentityMatch::Exact(b.local_id.clone());
        b.remote_id = IdentityMatch::Exact(a.local_id.clone());
        World::up(300, a, b);
    }
}

#[test]
fn names_in_the_certificate_are_identities() {
    let (mut a, mut b) = with("p256", "rsa", &ROOTS, &[]);
    a.local_id = identity::parse("gw1.example.com").expect("good");
    b.remote_id = IdentityMatch::Exact(identity::parse("GW1.example.com").expect("good"));
    let world = World::up(301, a.clone(), b);
    assert_eq!(
        world.status(1).peer_identity.as_deref(),
        Some("gw1.example.com")
    );
    // Somebody else's name is refused when it is configured.
    a.local_id = identity::parse("gw4.example.com").expect("good");
    let mut world = World::new(302, 2);
    let refused = world.call(0, |e, now| e.configure(now, vec![a]));
    let sentence = refused.expect_err("not in the certificate").to_string();
    assert!(
        sentence.contains("gw4.example.com is not in our certificate"),
        "{sentence}"
    );
}

/// Brings A up against B and gives both sides' sentences.
fn refused(a: Connection, b: Connection) -> (Vec<String>, Vec<String>) {
    let mut world = World::new(303, 2);
    world.configure(1, vec![b]);
    world.configure(0, vec![a]);
    world.run(SECOND / 2);
    assert_ne!(world.status(0).child, State::Established);
    assert!(world.nodes.iter().all(|n| n.outbound.is_empty()));
    assert!(world.nodes[0].inbound.is_empty());
    (
        world.nodes[0].failures.clone(),
        world.nodes[1].failures.clone(),
    )
}

fn says(sentences: &[String], words: &str) -> bool {
    sentences.iter().any(|s| s.contains(words))
}

#[test]
fn certificates_that_must_not_be_believed_are_refused_with_a_reason() {
    let crl = ["root.crl"];
    for (leaf, roots, crls) in [
        ("expired", &ROOTS[..], &[][..]),
        ("revoked", &ROOTS[..], &crl[..]),
        ("self_signed", &ROOTS[..], &[][..]),
    ] {
        let (a, mut b) = with(leaf, "rsa", roots, crls);
        b.remote_id = IdentityMatch::Any;
        let (ours, theirs) = refused(a, b);
        assert!(
            says(&theirs, "peer's certificate is refused"),
            "{leaf}: {theirs:?}"
        );
        assert!(
            says(&ours, "look up there whether it trusts the authority"),
            "{leaf}: {ours:?}"
        );
        assert!(!says(&ours, "pre-shared key"), "{leaf}: {ours:?}");
    }
    // The initiator refuses the responder.
    let (a, b) = with("rsa", "expired", &ROOTS, &[]);
    let (ours, theirs) = refused(a, b);
    assert!(says(&ours, "peer's certificate is refused"), "{ours:?}");
    assert!(
        says(&theirs, "peer refuses our authentication"),
        "{theirs:?}"
    );
}

#[test]
fn a_key_on_one_side_and_certificates_on_the_other_is_named() {
    let (a, _) = pair();
    let (_, mut b) = with("p256", "rsa", &ROOTS, &[]);
    b.remote_id = IdentityMatch::Any;
    let mut a = a;
    a.remote_id = IdentityMatch::Any;
    let (_, theirs) = refused(a, b);
    assert!(
        says(&theirs, "this connection allows certificates"),
        "{theirs:?}"
    );
}

#[test]
fn certificates_that_do_not_fit_a_packet_go_in_fragments() {
    let (mut a, mut b) = with("rsa", "rsa", &ROOTS, &[]);
    a.fragment_size = 576;
    b.fragment_size = 576;
    let mut world = World::up(304, a.clone(), b.clone());
    assert!(world.sent >= 8, "{} datagrams", world.sent);
    world.run(20 * SECOND);
    world.expect_up();
    // Fragments lost, doubled and out of order.
    for seed in 305..315 {
        let mut world = World::new(seed, 2);
        let mut n = seed;
        world.fate = Some(Box::new(move |_| {
            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let delay = Duration::from_millis(5 + (n >> 33) % 40);
            match (n >> 45) % 10 {
                0 => vec![],
                1 => vec![delay, 2 * delay],
                _ => vec![delay],
            }
        }));
        world.configure(1, vec![b.clone()]);
        world.configure(0, vec![a.clone()]);
        world.run(15 * SECOND);
        world.expect_up();
    }
}

#[test]
fn without_fragmentation_on_one_side_messages_stay_whole() {
    let (mut a, mut b) = with("p256", "p256", &ROOTS, &[]);
    a.fragment_size = 576;
    b.fragmentation = false;
    let world = World::up(316, a, b);
    assert_eq!(world.sent, 6);
}
