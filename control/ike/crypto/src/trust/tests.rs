//! Chains that hold, and every way in which they do not, with the sentence that says so.

use hawser_ike_wire::CertificateEncoding as Encoding;

use super::*;
use crate::name::dn_from_text;
use crate::vectors::fixture;

/// 2026-06-01 00:00:00 UTC.
const NOW: Duration = Duration::from_secs(1_780_272_000);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + NOW
}

fn trusting(files: &[&[u8]]) -> TrustAnchors {
    let mut trust = TrustAnchors::new();
    for file in files {
        assert_eq!(trust.add(file), Ok(1));
    }
    trust
}

fn both_roots() -> TrustAnchors {
    trusting(&[fixture!("root.pem"), fixture!("root_rsa.pem")])
}

fn sent(files: &[&[u8]]) -> Vec<wire::Certificate> {
    let der = files
        .iter()
        .flat_map(|file| certificates(file).expect("a fixture"));
    der.map(|data| wire::Certificate {
        encoding: Encoding::X509,
        data,
    })
    .collect()
}

fn fqdn(name: &str) -> Identity {
    Identity::Fqdn(name.to_owned())
}

fn check(
    trust: &TrustAnchors,
    files: &[&[u8]],
    identity: &Identity,
    policy: TrustPolicy,
) -> Result<PeerCertificate, CertificateError> {
    trust.verify(&sent(files), identity, now(), policy)
}

/// What is said where the certificate of a gateway of the fixtures is not believed.
fn sentence(trust: &TrustAnchors, files: &[&[u8]], name: &str) -> String {
    let verified = check(trust, files, &fqdn(name), TrustPolicy::default());
    verified.expect_err("refused").to_string()
}

#[test]
fn chains_that_hold() {
    let trust = both_roots();
    let chains: [(&[&[u8]], &str); 7] = [
        (
            &[fixture!("p256.pem"), fixture!("intermediate.pem")],
            "gw1.example.com",
        ),
        // The order behind the first does not matter, nor does what is not needed.
        (
            &[
                fixture!("p256.pem"),
                fixture!("root_other.pem"),
                fixture!("intermediate.pem"),
            ],
            "gw1.example.com",
        ),
        (&[fixture!("p384.pem")], "gw2.example.com"),
        (
            &[fixture!("p521.pem"), fixture!("root.pem")],
            "gw3.example.com",
        ),
        (&[fixture!("rsa.pem")], "gw4.example.com"),
        (&[fixture!("rsa_pss.pem")], "gw5.example.com"),
        // For TLS servers: authorities in the field issue nothing else.
        (&[fixture!("server.pem")], "gw7.example.com"),
    ];
    for (files, name) in chains {
        let peer = check(&trust, files, &fqdn(name), TrustPolicy::default());
        let peer = peer.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(peer.subject().starts_with("C=DE, O=Hawser Test, CN=gw"));
        let twenty_years = Duration::from_secs(2_335_219_200);
        assert_eq!(peer.not_after(), SystemTime::UNIX_EPOCH + twenty_years);
    }
    // A subordinate authority can be the anchor.
    let trust = trusting(&[fixture!("intermediate.pem")]);
    let alone = check(
        &trust,
        &[fixture!("p256.pem")],
        &fqdn("gw1.example.com"),
        TrustPolicy::default(),
    );
    assert!(alone.is_ok());
}

#[test]
fn identities_of_every_kind() {
    let trust = both_roots();
    let chain: [&[u8]; 2] = [fixture!("p256.pem"), fixture!("intermediate.pem")];
    let dn = |text| Identity::Dn(dn_from_text(text).unwrap());
    let parsed = Certificate::parse(&certificates(chain[0]).unwrap()[0]).unwrap();
    let key_id = parsed.key_id_for_tests();
    for identity in [
        fqdn("GW1.example.com"),
        Identity::Email("admin@example.com".into()),
        Identity::Ipv4([192, 0, 2, 1].into()),
        Identity::Ipv6("2001:db8::1".parse().unwrap()),
        dn("C=DE, O=Hawser Test, CN=gw1"),
        dn("C=DE, O=Hawser Test, CN=alias"),
        Identity::KeyId(key_id),
    ] {
        let peer = check(&trust, &chain, &identity, TrustPolicy::default());
        assert!(peer.is_ok(), "{identity}");
    }
    for identity in [
        fqdn("gw2.example.com"),
        fqdn("example.com"),
        Identity::Email("root@example.com".into()),
        Identity::Ipv4([192, 0, 2, 2].into()),
        Identity::Ipv6("2001:db8::2".parse().unwrap()),
        dn("C=DE, O=Hawser Test, CN=gw2"),
        dn("CN=gw1"),
        Identity::KeyId(b"gw1".to_vec()),
        Identity::Other {
            kind: 200,
            data: b"gw1".to_vec(),
        },
    ] {
        let peer = check(&trust, &chain, &identity, TrustPolicy::default());
        assert!(
            matches!(peer, Err(CertificateError::Identity { .. })),
            "{identity}"
        );
    }
    assert_eq!(
        sentence(&trust, &chain, "gw9.example.com"),
        "the peer says it is gw9.example.com, but its certificate was issued for: \
         C=DE, O=Hawser Test, CN=gw1; gw1.example.com; admin@example.com; 192.0.2.1; \
         2001:db8::1; C=DE, O=Hawser Test, CN=alias"
    );
}

#[test]
fn certificates_out_of_their_time() {
    let trust = both_roots();
    assert_eq!(
        sentence(&trust, &[fixture!("expired.pem")], "gw9.example.com"),
        "the certificate of C=DE, O=Hawser Test, CN=gw9 expired on 2025-03-04 05:06:07 UTC"
    );
    assert_eq!(
        sentence(&trust, &[fixture!("early.pem")], "gw10.example.com"),
        "the certificate of C=DE, O=Hawser Test, CN=gw10 is valid only from \
         2040-01-01 00:00:00 UTC on; check both clocks"
    );
    // The anchor's own time counts too.
    let trust = trusting(&[fixture!("root_old.pem")]);
    assert_eq!(
        sentence(&trust, &[fixture!("old_issuer.pem")], "gw12.example.com"),
        "the certificate of C=DE, O=Hawser Test, CN=Old Root expired on 2025-01-01 00:00:00 UTC"
    );
    // The clock of a machine without one.
    let chain = sent(&[fixture!("p384.pem")]);
    let id = fqdn("gw2.example.com");
    for clock in [SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH - NOW] {
        let verified = both_roots().verify(&chain, &id, clock, TrustPolicy::default());
        assert!(matches!(verified, Err(CertificateError::Early { .. })));
    }
}

#[test]
fn issuers_that_are_not_trusted() {
    let trust = both_roots();
    // The intermediate certificate is missing.
    assert_eq!(
        sentence(&trust, &[fixture!("p256.pem")], "gw1.example.com"),
        "the certificate of C=DE, O=Hawser Test, CN=gw1 was issued by C=DE, O=Hawser Test, \
         CN=Intermediate, which is not trusted here; trusted: C=DE, O=Hawser Test, CN=Root EC; \
         C=DE, O=Hawser Test, CN=Root RSA"
    );
    // The chain is whole and leads elsewhere.
    let trust = trusting(&[fixture!("root_other.pem")]);
    let chain: [&[u8]; 2] = [fixture!("p256.pem"), fixture!("intermediate.pem")];
    assert_eq!(
        sentence(&trust, &chain, "gw1.example.com"),
        "the certificate of C=DE, O=Hawser Test, CN=Intermediate was issued by C=DE, \
         O=Hawser Test, CN=Root EC, which is not trusted here; trusted: C=DE, O=Hawser Test, \
         CN=Other Root"
    );
    // The name of the trusted authority, with another key.
    let trust = trusting(&[fixture!("root_forged.pem")]);
    assert_eq!(
        sentence(&trust, &[fixture!("p384.pem")], "gw2.example.com"),
        "the signature under the certificate of C=DE, O=Hawser Test, CN=gw2 is not that of C=DE, \
         O=Hawser Test, CN=Root EC"
    );
    // Nobody.
    let nobody = TrustAnchors::new();
    assert!(nobody.is_empty());
    let text = sentence(&nobody, &[fixture!("p384.pem")], "gw2.example.com");
    assert!(
        text.ends_with("which is not trusted here; trusted: nobody"),
        "{text}"
    );
}

#[test]
fn revoked_certificates() {
    let files: [&[u8]; 1] = [fixture!("revoked.pem")];
    let mut trust = both_roots();
    let id = fqdn("gw11.example.com");
    let strict = TrustPolicy {
        strict_revocation: true,
    };
    assert!(check(&trust, &files, &id, TrustPolicy::default()).is_ok());
    let text = check(&trust, &files, &id, strict).unwrap_err().to_string();
    assert_eq!(
        text,
        "no revocation list covers the certificate of C=DE, O=Hawser Test, CN=gw11 or one of its \
         issuers"
    );
    assert_eq!(trust.add_crl(fixture!("root.crl")), Ok(1));
    assert_eq!(
        sentence(&trust, &files, "gw11.example.com"),
        "the certificate of C=DE, O=Hawser Test, CN=gw11 has been revoked"
    );
    // Others of the same authority, under both policies; of another one, only without strictness.
    let good = fqdn("gw2.example.com");
    for policy in [strict, TrustPolicy::default()] {
        assert!(check(&trust, &[fixture!("p384.pem")], &good, policy).is_ok());
    }
    let other = fqdn("gw4.example.com");
    assert!(
        check(
            &trust,
            &[fixture!("rsa.pem")],
            &other,
            TrustPolicy::default()
        )
        .is_ok()
    );
    let error = check(&trust, &[fixture!("rsa.pem")], &other, strict).unwrap_err();
    assert!(matches!(error, CertificateError::NoRevocationList(_)));

    // An authority in the chain.
    let mut trust = both_roots();
    trust.add_crl(fixture!("intermediate_revoked.crl")).unwrap();
    let chain: [&[u8]; 2] = [fixture!("p256.pem"), fixture!("intermediate.pem")];
    assert_eq!(
        sentence(&trust, &chain, "gw1.example.com"),
        "the certificate of C=DE, O=Hawser Test, CN=Intermediate has been revoked"
    );
}

#[test]
fn revocation_lists_that_are_old_or_not_the_issuers() {
    let strict = TrustPolicy {
        strict_revocation: true,
    };
    let good = fqdn("gw2.example.com");
    let mut trust = both_roots();
    trust.add_crl(fixture!("root_stale.crl")).unwrap();
    assert!(
        check(
            &trust,
            &[fixture!("p384.pem")],
            &good,
            TrustPolicy::default()
        )
        .is_ok()
    );
    assert_eq!(
        check(&trust, &[fixture!("p384.pem")], &good, strict)
            .unwrap_err()
            .to_string(),
        "the revocation list about the certificate of C=DE, O=Hawser Test, CN=gw2 was to be \
         renewed on 2025-01-01 00:00:00 UTC"
    );
    // An old list still says whom it revokes.
    let text = sentence(&trust, &[fixture!("revoked.pem")], "gw11.example.com");
    assert!(text.ends_with("has been revoked"), "{text}");
    // A list under the authority's name by somebody else proves nothing: refuse.
    let mut trust = both_roots();
    trust.add_crl(fixture!("root_forged.crl")).unwrap();
    let text = sentence(&trust, &[fixture!("p384.pem")], "gw2.example.com");
    assert!(
        text.contains("the revocation list about it is not its issuer's"),
        "{text}"
    );
}

#[test]
fn certificates_for_something_else() {
    let trust = both_roots();
    assert_eq!(
        sentence(&trust, &[fixture!("code.pem")], "gw8.example.com"),
        "the certificate of C=DE, O=Hawser Test, CN=gw8 is not meant for IKE: its extended key \
         usage allows other uses only"
    );
    let table: [(&[&[u8]], &str, &str); 4] = [
        (
            &[fixture!("intermediate.pem")],
            "x",
            "it is an authority's certificate, not a peer's",
        ),
        (
            &[
                fixture!("deep.pem"),
                fixture!("too_deep.pem"),
                fixture!("intermediate.pem"),
            ],
            "gw13.example.com",
            "an issuer in it may not stand so high",
        ),
        (
            &[fixture!("by_leaf.pem"), fixture!("p384.pem")],
            "gw16.example.com",
            "an issuer in it is no authority",
        ),
        (
            &[fixture!("critical.pem")],
            "gw15.example.com",
            "it has a critical extension that is not understood",
        ),
    ];
    for (files, name, why) in table {
        let text = sentence(&trust, files, name);
        assert!(text.ends_with(&format!("is not valid: {why}")), "{text}");
    }
}

#[test]
fn a_peers_own_certificate_can_be_trusted() {
    let files: [&[u8]; 1] = [fixture!("self_signed.pem")];
    assert!(sentence(&both_roots(), &files, "gw14.example.com").contains("not trusted here"));
    let trust = trusting(&files);
    let peer = check(
        &trust,
        &files,
        &fqdn("gw14.example.com"),
        TrustPolicy::default(),
    );
    assert!(peer.is_ok());
    // For its own names, and nobody it might issue for.
    let peer = check(
        &trust,
        &files,
        &fqdn("gw1.example.com"),
        TrustPolicy::default(),
    );
    assert!(matches!(peer, Err(CertificateError::Identity { .. })));
    let trust = trusting(&[fixture!("p384.pem")]);
    let text = sentence(&trust, &[fixture!("by_leaf.pem")], "gw16.example.com");
    assert!(
        text.contains("which is not trusted here; trusted: nobody"),
        "{text}"
    );
    // Not beyond its time.
    let trust = trusting(&[fixture!("expired.pem")]);
    let text = sentence(&trust, &[fixture!("expired.pem")], "gw9.example.com");
    assert!(text.contains("expired on"), "{text}");
}

#[test]
fn what_came_instead_of_a_certificate() {
    let trust = both_roots();
    let verify = |encoding: u8, data: &[u8]| {
        let certificate = wire::Certificate {
            encoding: encoding.into(),
            data: data.to_vec(),
        };
        let id = fqdn("gw1.example.com");
        let verified = trust.verify(&[certificate], &id, now(), TrustPolicy::default());
        verified.unwrap_err()
    };
    let none = trust
        .verify(&[], &fqdn("x"), now(), TrustPolicy::default())
        .unwrap_err();
    assert_eq!(none, CertificateError::None);
    assert_eq!(verify(12, b"hash and url"), CertificateError::HashAndUrl);
    assert_eq!(verify(13, b"hash and url"), CertificateError::HashAndUrl);
    assert_eq!(verify(1, b""), CertificateError::Encoding(Encoding::Pkcs7));
    assert_eq!(verify(7, b""), CertificateError::None);
    assert!(matches!(verify(4, b""), CertificateError::Unreadable(_)));
    assert!(matches!(
        verify(4, b"\x30\x03abc"),
        CertificateError::Unreadable(_)
    ));
    let mut longer = certificates(fixture!("p384.pem")).unwrap().remove(0);
    longer.push(0);
    let error = verify(4, &longer).to_string();
    assert_eq!(
        error,
        "a certificate of the peer is not readable: 1 octets follow it"
    );
}

#[test]
fn a_changed_certificate_is_not_believed() {
    let trust = both_roots();
    let good = certificates(fixture!("p384.pem")).unwrap().remove(0);
    let id = fqdn("gw2.example.com");
    for at in 0..good.len() {
        let mut data = good.clone();
        data[at] ^= 1;
        let certificate = wire::Certificate {
            encoding: Encoding::X509,
            data,
        };
        let verified = trust.verify(&[certificate], &id, now(), TrustPolicy::default());
        assert!(verified.is_err(), "octet {at}");
    }
    for len in 0..good.len() {
        let certificate = wire::Certificate {
            encoding: Encoding::X509,
            data: good[..len].to_vec(),
        };
        let verified = trust.verify(&[certificate], &id, now(), TrustPolicy::default());
        assert!(
            matches!(verified, Err(CertificateError::Unreadable(_))),
            "{len} octets"
        );
    }
}

#[test]
fn the_request_names_the_authorities() {
    let request = both_roots().certificate_request();
    assert_eq!(request.encoding, Encoding::X509);
    assert_eq!(request.authorities.len(), 2 * 20);
    assert!(
        TrustAnchors::new()
            .certificate_request()
            .authorities
            .is_empty()
    );
}

#[test]
fn files_that_cannot_be_used() {
    let mut trust = TrustAnchors::new();
    let missing = LoadError::Missing("certificate");
    assert_eq!(trust.add(b""), Err(missing.clone()));
    assert_eq!(trust.add(fixture!("p256.key")), Err(missing));
    assert!(matches!(
        trust.add(b"\x30\x00"),
        Err(LoadError::Certificate { number: 1, .. })
    ));
    let broken = b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
    assert!(matches!(trust.add(broken), Err(LoadError::Pem(_))));
    let missing = LoadError::Missing("revocation list");
    assert_eq!(trust.add_crl(fixture!("root.pem")), Err(missing));
    assert!(matches!(
        trust.add_crl(b"\x30\x00"),
        Err(LoadError::Crl { number: 1, .. })
    ));
    assert!(trust.is_empty());
    // Several in one file, and DER.
    let two = [&fixture!("root.pem")[..], fixture!("root_rsa.pem")].concat();
    assert_eq!(trust.add(&two), Ok(2));
    assert_eq!(trust.add(fixture!("p256.der")), Ok(1));
}
