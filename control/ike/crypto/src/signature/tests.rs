//! Signatures that another implementation made, and those that must not be believed.

use proptest::prelude::*;

use super::*;
use crate::certificate::Certificate;
use crate::vectors::{fixture, hex, signature as made};

fn key(file: &[u8]) -> PublicKey {
    let der = crate::trust::certificates(file).unwrap().remove(0);
    Certificate::parse(&der).unwrap().key
}

fn keys() -> [PublicKey; 4] {
    [
        key(fixture!("rsa.pem")),
        key(fixture!("p256.pem")),
        key(fixture!("p384.pem")),
        key(fixture!("p521.pem")),
    ]
}

const STRICT: SignaturePolicy = SignaturePolicy { allow_sha1: false };
const LAX: SignaturePolicy = SignaturePolicy { allow_sha1: true };

fn digital(kind: Kind, hash: Hash, name: &str) -> Authentication {
    Authentication {
        method: AuthMethod::DigitalSignature,
        data: digital_signature(Scheme::new(kind, hash), &made(name)),
    }
}

fn plain(method: AuthMethod, name: &str) -> Authentication {
    Authentication {
        method,
        data: made(name),
    }
}

/// Every signature of the fixtures with the index of its key in [`keys`].
fn good() -> Vec<(usize, Authentication)> {
    let mut all = vec![
        (0, plain(AuthMethod::RsaSignature, "rsa_pkcs1_sha256")),
        (0, plain(AuthMethod::RsaSignature, "rsa_pkcs1_sha384")),
        (0, plain(AuthMethod::RsaSignature, "rsa_pkcs1_sha512")),
        (1, plain(AuthMethod::EcdsaP256, "p256_fixed")),
        (2, plain(AuthMethod::EcdsaP384, "p384_fixed")),
        (3, plain(AuthMethod::EcdsaP521, "p521_fixed")),
    ];
    let hashes = [
        (Hash::Sha256, "sha256"),
        (Hash::Sha384, "sha384"),
        (Hash::Sha512, "sha512"),
    ];
    for (hash, name) in hashes {
        all.push((0, digital(Kind::Pkcs1, hash, &format!("rsa_pkcs1_{name}"))));
        all.push((0, digital(Kind::Pss, hash, &format!("rsa_pss_{name}"))));
        for (index, curve) in [(1, "p256"), (2, "p384"), (3, "p521")] {
            all.push((
                index,
                digital(Kind::Ecdsa, hash, &format!("{curve}_{name}")),
            ));
        }
    }
    all
}

#[test]
fn what_another_implementation_signed() {
    let (keys, octets) = (keys(), made("octets"));
    for (index, auth) in good() {
        assert_eq!(
            verify(&keys[index], &auth, &octets, STRICT),
            Ok(()),
            "{auth:?}"
        );
    }
}

#[test]
fn no_other_octets_key_or_proof() {
    let (keys, octets) = (keys(), made("octets"));
    for (index, auth) in good() {
        assert!(verify(&keys[index], &auth, b"other octets", STRICT).is_err());
        for (other, key) in keys.iter().enumerate() {
            assert_eq!(verify(key, &auth, &octets, STRICT).is_ok(), other == index);
        }
        for at in [0, 1, 5, auth.data.len() / 2, auth.data.len() - 1] {
            let mut changed = auth.clone();
            changed.data[at] ^= 0x10;
            assert!(
                verify(&keys[index], &changed, &octets, STRICT).is_err(),
                "{at}"
            );
        }
        for len in 0..auth.data.len() {
            let mut cut = auth.clone();
            cut.data.truncate(len);
            assert!(
                verify(&keys[index], &cut, &octets, STRICT).is_err(),
                "{len}"
            );
        }
    }
}

#[test]
fn sha1_only_where_it_is_asked_for() {
    let (keys, octets) = (keys(), made("octets"));
    for auth in [
        plain(AuthMethod::RsaSignature, "rsa_pkcs1_sha1"),
        digital(Kind::Pkcs1, Hash::Sha1, "rsa_pkcs1_sha1"),
    ] {
        assert_eq!(
            verify(&keys[0], &auth, &octets, STRICT),
            Err(SignatureError::Sha1)
        );
        assert_eq!(verify(&keys[0], &auth, &octets, LAX), Ok(()));
        // A wrong signature is wrong, whatever the policy.
        let wrong = verify(&keys[0], &auth, b"other octets", LAX);
        assert!(matches!(wrong, Err(SignatureError::Wrong(_))));
    }
}

#[test]
fn what_is_refused_says_why() {
    let (keys, octets) = (keys(), made("octets"));
    let error = |key: &PublicKey, auth: &Authentication| {
        verify(key, auth, &octets, LAX).unwrap_err().to_string()
    };
    let shared = plain(AuthMethod::SharedKey, "octets");
    assert_eq!(
        error(&keys[0], &shared),
        "the peer authenticates by shared key, a signature was expected"
    );
    let auth = digital(Kind::Pkcs1, Hash::Sha256, "rsa_pkcs1_sha256");
    assert_eq!(
        error(&keys[1], &auth),
        "the peer signs with RSA with SHA-256, but its certificate holds an ECDSA key on P-256"
    );
    let auth = digital(Kind::Ecdsa, Hash::Sha256, "p256_sha256");
    assert_eq!(
        error(&keys[0], &auth),
        "the peer signs with ECDSA with SHA-256, but its certificate holds an RSA key of 2048 bits"
    );
    let auth = digital(Kind::Pss, Hash::Sha384, "rsa_pss_sha256");
    assert_eq!(
        error(&keys[0], &auth),
        "the peer's signature (RSA-PSS with SHA-384) does not fit its certificate: the key is \
         another one"
    );
    // Ed25519, by its object identifier.
    let auth = Authentication {
        method: AuthMethod::DigitalSignature,
        data: hex("07 3005 0603 2b6570 00"),
    };
    assert_eq!(
        error(&keys[0], &auth),
        "the peer signs with an algorithm that is not accepted: 1.3.101.112"
    );
    for data in ["", "05", "ff 30", "02 3000", "00"] {
        let auth = Authentication {
            method: AuthMethod::DigitalSignature,
            data: hex(data),
        };
        assert_eq!(
            error(&keys[0], &auth),
            "the peer's digital signature is malformed"
        );
    }
}

/// RFC 7427, appendix A: as other implementations write them.
#[test]
fn identifiers() {
    let identifier = |kind, hash| Scheme::new(kind, hash).identifier();
    assert_eq!(
        identifier(Kind::Pkcs1, Hash::Sha256),
        hex("300d06092a864886f70d01010b0500")
    );
    assert_eq!(
        identifier(Kind::Ecdsa, Hash::Sha512),
        hex("300a06082a8648ce3d040304")
    );
    assert_eq!(
        identifier(Kind::Ecdsa, Hash::Sha1),
        hex("300906072a8648ce3d0401")
    );
    assert_eq!(
        identifier(Kind::Pss, Hash::Sha256),
        hex("3041 06092a864886f70d01010a 3034
             a00f 300d06096086480165030402010500
             a11c 301a06092a864886f70d010108300d06096086480165030402010500
             a203 020120")
    );
    // Without the NULL behind the hashes, with the default trailer written out.
    let other = hex("3042 06092a864886f70d01010a 3035
                     a00d 300b0609608648016503040201
                     a11a 301806092a864886f70d010108300b0609608648016503040201
                     a203 020120 a303 020101");
    assert_eq!(
        Scheme::from_identifier(&other),
        Ok(Scheme::new(Kind::Pss, Hash::Sha256))
    );
    // Another salt, another mask's hash, and the defaults, which are SHA-1.
    for (change, why) in [
        ("a203 020114", "a salt of another length than the hash"),
        ("a203 020120 a303 020102", "an unknown trailer"),
    ] {
        let tail = hex(change);
        let body = hex("a00f 300d06096086480165030402010500
                        a11c 301a06092a864886f70d010108300d06096086480165030402010500");
        let parameters = der::sequence(&[&body, &tail]);
        let oid = der::value(der::OBJECT_IDENTIFIER, RSA_PSS);
        let error = Scheme::from_identifier(&der::sequence(&[&oid, &parameters]));
        let expected = SignatureError::Algorithm(format!("RSA-PSS with {why}"));
        assert_eq!(error, Err(expected));
    }
    let defaults = hex("300d 06092a864886f70d01010a 3000");
    assert_eq!(
        Scheme::from_identifier(&defaults),
        Ok(Scheme::new(Kind::Pss, Hash::Sha1))
    );
}

proptest! {
    #[test]
    fn damaged_identifiers(
        pss in any::<bool>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let kind = if pss { Kind::Pss } else { Kind::Ecdsa };
        let mut octets = Scheme::new(kind, Hash::Sha256).identifier();
        for (at, value) in edits {
            let at = at.index(octets.len());
            octets[at] = value;
        }
        check_identifier(&octets);
    }
}
