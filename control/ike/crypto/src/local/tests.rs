//! What we sign, a peer verifies; files that cannot be used are refused by name.

use std::time::Duration;

use super::*;
use crate::name::dn_from_text;
use crate::vectors::fixture;
use crate::{SIGNATURE_HASHES, SignaturePolicy, TrustAnchors, TrustPolicy};

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_272_000)
}

/// The certificate is presented to somebody who trusts both roots, who checks the proof.
fn proven(local: &LocalCertificate, auth: &Authentication, octets: &[u8]) -> bool {
    let mut trust = TrustAnchors::new();
    trust.add(fixture!("root.pem")).unwrap();
    trust.add(fixture!("root_rsa.pem")).unwrap();
    let identity = &local.identities()[0];
    let peer = trust.verify(&local.payloads(), identity, now(), TrustPolicy::default());
    let peer = peer.unwrap_or_else(|error| panic!("{error}"));
    peer.verify(auth, octets, SignaturePolicy::default())
        .is_ok()
}

#[test]
fn every_key_signs_what_a_peer_verifies() {
    let p256 = [&fixture!("p256.pem")[..], fixture!("intermediate.pem")].concat();
    let table: [(&[u8], &[u8], AuthMethod); 4] = [
        (&p256, fixture!("p256.key"), AuthMethod::EcdsaP256),
        (
            fixture!("p384.pem"),
            fixture!("p384.key"),
            AuthMethod::EcdsaP384,
        ),
        (
            fixture!("p521.pem"),
            fixture!("p521.key"),
            AuthMethod::EcdsaP521,
        ),
        (
            fixture!("rsa.pem"),
            fixture!("rsa.key"),
            AuthMethod::RsaSignature,
        ),
    ];
    for (chain, key, old_method) in table {
        let local = LocalCertificate::load(chain, key).unwrap();
        let auth = local.sign(b"octets", &SIGNATURE_HASHES).unwrap();
        assert_eq!(auth.method, AuthMethod::DigitalSignature);
        assert!(proven(&local, &auth, b"octets"));
        assert!(!proven(&local, &auth, b"others"));
        // A peer that knows no digital signatures.
        match local.sign(b"octets", &[]) {
            Ok(auth) => {
                assert_eq!(auth.method, old_method);
                assert!(proven(&local, &auth, b"octets"));
            }
            Err(error) => {
                assert_eq!(old_method, AuthMethod::RsaSignature);
                assert_eq!(error, SignError::NeedsSha1);
            }
        }
    }
}

#[test]
fn the_peer_says_which_hashes() {
    let rsa = || LocalCertificate::load(fixture!("rsa.pem"), fixture!("rsa.key")).unwrap();
    for pss in [false, true] {
        let local = rsa().with_rsa_pss(pss);
        for hash in [Hash::Sha256, Hash::Sha384, Hash::Sha512] {
            let auth = local.sign(b"octets", &[hash.number(), 99]).unwrap();
            let kind = if pss { Kind::Pss } else { Kind::Pkcs1 };
            let identifier = Scheme::new(kind, hash).identifier();
            assert_eq!(auth.data[1..=identifier.len()], identifier);
            assert!(proven(&local, &auth, b"octets"));
        }
        // SHA-1 is not signed with, even for a peer that knows nothing else.
        let error = local.sign(b"octets", &[Hash::Sha1.number()]);
        assert_eq!(error, Err(SignError::NeedsSha1));
    }
}

#[test]
fn files_of_every_form() {
    let table: [(&[u8], &[u8]); 5] = [
        (fixture!("p256.pem"), fixture!("p256.key")),
        (fixture!("p256.pem"), fixture!("p256_traditional.key")),
        (fixture!("p256.der"), fixture!("p256.pkcs8")),
        (fixture!("rsa.pem"), fixture!("rsa_traditional.key")),
        (fixture!("rsa_pss.pem"), fixture!("rsa_pss.key")),
    ];
    for (chain, key) in table {
        let local = LocalCertificate::load(chain, key).unwrap();
        assert!(local.sign(b"octets", &SIGNATURE_HASHES).is_ok());
        assert_eq!(local.payloads().len(), 1);
        assert!(local.check_time(now()).is_ok());
    }
}

#[test]
fn files_that_cannot_be_used() {
    let load = |chain: &[u8], key: &[u8]| LocalCertificate::load(chain, key).unwrap_err();
    let certificate = fixture!("p256.pem");
    assert_eq!(
        load(b"", fixture!("p256.key")),
        LoadError::Missing("certificate")
    );
    assert_eq!(load(certificate, b""), LoadError::Missing("private key"));
    assert_eq!(
        load(certificate, certificate),
        LoadError::Missing("private key")
    );
    assert_eq!(
        load(certificate, fixture!("p256_encrypted.key")),
        LoadError::Encrypted
    );
    assert_eq!(load(certificate, b"\x30\x00"), LoadError::Key);
    assert_eq!(
        load(fixture!("rsa_short.pem"), fixture!("rsa_short.key")),
        LoadError::Key
    );
    for key in [
        &fixture!("server.key")[..],
        fixture!("rsa.key"),
        fixture!("p384.key"),
    ] {
        assert_eq!(
            load(certificate, key).to_string(),
            "the private key does not belong to the certificate of C=DE, O=Hawser Test, CN=gw1"
        );
    }
}

#[test]
fn what_is_sent() {
    let chain = [
        &fixture!("p256.pem")[..],
        fixture!("intermediate.pem"),
        fixture!("root.pem"),
    ]
    .concat();
    let local = LocalCertificate::load(&chain, fixture!("p256.key")).unwrap();
    // Not the root.
    assert_eq!(local.payloads().len(), 2);
    assert_eq!(local.payloads()[0].data, fixture!("p256.der"));
    assert_eq!(local.subject(), "C=DE, O=Hawser Test, CN=gw1");
    assert_eq!(
        format!("{local:?}"),
        "LocalCertificate(C=DE, O=Hawser Test, CN=gw1)"
    );

    // A name as the certificate encodes it, whatever the strings of the one that was asked for.
    let wanted = Identity::Dn(dn_from_text("c=de, o=hawser test, cn=GW1").unwrap());
    let sent = local.identity(&wanted).unwrap();
    assert_ne!(sent, wanted);
    assert_eq!(sent, local.identities()[0]);
    let wanted = Identity::Fqdn("gw1.example.com".into());
    assert_eq!(local.identity(&wanted), Some(wanted));
    assert_eq!(
        local.identity(&Identity::Fqdn("gw2.example.com".into())),
        None
    );
}

#[test]
fn our_own_certificate_has_a_time() {
    let local = LocalCertificate::load(fixture!("expired.pem"), fixture!("expired.key")).unwrap();
    let error = local.check_time(now()).unwrap_err();
    assert!(matches!(error, CertificateError::Expired { .. }));
}
