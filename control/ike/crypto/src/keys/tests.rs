//! Key derivation and shared-key proofs against another implementation.

use super::*;
use crate::psk;
use crate::transform::{Cipher, Prf};
use crate::vectors::{Record, hex, records};
use crate::{Group, Secret};

pub(crate) fn suite(record: &Record, prf: &str) -> IkeSuite {
    IkeSuite {
        cipher: record.text("cipher").parse().unwrap(),
        prf: record.text(prf).parse().unwrap(),
        group: Group::X25519,
    }
}

pub(crate) fn derive(record: &Record) -> IkeKeys {
    let nonces = Nonces {
        initiator: &record.octets("ni"),
        responder: &record.octets("nr"),
    };
    IkeKeys::derive(
        suite(record, "prf"),
        &Secret::new(record.octets("shared")),
        nonces,
        IkeSpi(record.u64("spi_i")),
        IkeSpi(record.u64("spi_r")),
    )
}

fn joined(keys: &IkeKeys) -> Vec<u8> {
    keys.all().map(Secret::expose).concat()
}

#[test]
fn keys_of_an_ike_sa_and_of_the_next() {
    for record in records("suite") {
        let keys = derive(&record);
        assert_eq!(joined(&keys), record.octets("keys"), "{}", keys.suite());
        let next = keys.derive_rekey(
            suite(&record, "prf2"),
            &Secret::new(record.octets("shared2")),
            Nonces {
                initiator: &record.octets("ni2"),
                responder: &record.octets("nr2"),
            },
            IkeSpi(record.u64("spi_i2")),
            IkeSpi(record.u64("spi_r2")),
        );
        assert_eq!(joined(&next), record.octets("keys2"), "{}", next.suite());
    }
}

/// NIST's examples for SP 800-135, section 4.1.2.
#[test]
fn keys_of_nist() {
    for record in records("nist") {
        let (ni, nr) = (record.octets("ni"), record.octets("nr"));
        let nonces = Nonces {
            initiator: &ni,
            responder: &nr,
        };
        let spis = [record.u64("spi_i"), record.u64("spi_r")];
        // Of all suites the one whose keys are as long as what NIST gives.
        let suite = IkeSuite {
            cipher: "aes128-cbc-sha1".parse().unwrap(),
            prf: "prf-sha1".parse().unwrap(),
            group: Group::X25519,
        };
        let shared = Secret::new(record.octets("shared"));
        let keys = IkeKeys::derive(suite, &shared, nonces, IkeSpi(spis[0]), IkeSpi(spis[1]));
        assert_eq!(joined(&keys), record.octets("keys"));

        let shared = Secret::new(record.octets("shared2"));
        let next = keys.derive_rekey(suite, &shared, nonces, IkeSpi(spis[0]), IkeSpi(spis[1]));
        let [spi_i, spi_r] = spis.map(u64::to_be_bytes);
        let seed = [&ni[..], &nr, &spi_i, &spi_r];
        let expected = suite
            .prf
            .plus(&record.octets("skeyseed2"), &seed, joined(&next).len());
        assert_eq!(joined(&next), expected.expose());

        if let Some(child) = record.find("child") {
            let cipher: Cipher = "aes128-cbc-sha2-256".parse().unwrap();
            let both = |child: ChildKeys| {
                let halves = [child.initiator_to_responder, child.responder_to_initiator];
                halves.each_ref().map(Secret::expose).concat()
            };
            assert_eq!(both(keys.child(cipher, None, nonces)), hex(child));
            let with_secret = both(keys.child(cipher, Some(&shared), nonces));
            assert_eq!(with_secret, record.octets("child_dh"));
        }
    }
}

#[test]
fn keys_of_children() {
    for record in records("suite") {
        let keys = derive(&record);
        let cipher = keys.suite().cipher;
        let both = |child: ChildKeys| {
            assert_eq!(
                child.initiator_to_responder.len(),
                cipher.key_material_len()
            );
            let halves = [child.initiator_to_responder, child.responder_to_initiator];
            halves.each_ref().map(Secret::expose).concat()
        };
        let (ni, nr) = (record.octets("ni"), record.octets("nr"));
        let nonces = Nonces {
            initiator: &ni,
            responder: &nr,
        };
        assert_eq!(
            both(keys.child(cipher, None, nonces)),
            record.octets("child")
        );
        let (ni, nr) = (record.octets("ni2"), record.octets("nr2"));
        let nonces = Nonces {
            initiator: &ni,
            responder: &nr,
        };
        let shared = Secret::new(record.octets("shared2"));
        let child = keys.child(cipher, Some(&shared), nonces);
        assert_eq!(both(child), record.octets("child_pfs"));
    }
}

#[test]
fn proofs_of_a_shared_key() {
    for record in records("suite") {
        let keys = derive(&record);
        let prf = keys.suite().prf;
        let (init, identity) = (record.octets("init"), record.octets("identity"));
        let octets = keys.signed_octets(Role::Initiator, &init, &record.octets("nr"), &identity);
        assert_eq!(octets, record.octets("octets_i"));
        let other = keys.signed_octets(Role::Responder, &init, &record.octets("ni"), &identity);
        assert_eq!(other, record.octets("octets_r"));

        let key = Secret::new(record.octets("psk"));
        let auth = psk::sign(prf, &key, &octets);
        assert_eq!(auth, record.octets("auth_i"));
        assert!(psk::verify(prf, &key, &octets, &auth));
        // Another key, other octets, a cut or a changed proof.
        let wrong = Secret::new(b"not the key".to_vec());
        assert!(!psk::verify(prf, &wrong, &octets, &auth));
        assert!(!psk::verify(prf, &key, &other, &auth));
        assert!(!psk::verify(prf, &key, &octets, &auth[..auth.len() - 1]));
        assert!(!psk::verify(prf, &key, &octets, &[]));
        let mut changed = auth.clone();
        changed[0] ^= 1;
        assert!(!psk::verify(prf, &key, &octets, &changed));
    }
}

/// RFC 2202, section 3, and RFC 4231, section 4: cases 1, 2 and 6.
#[test]
fn hmac() {
    const LONG: &[u8] = b"Test Using Larger Than Block-Size Key - Hash Key First";
    const JEFE: &[u8] = b"what do ya want for nothing?";
    let table: [(Prf, Vec<u8>, &[u8], &str); 8] = [
        (
            Prf::HmacSha1,
            vec![0x0b; 20],
            b"Hi There",
            "b617318655057264e28bc0b6fb378c8ef146be00",
        ),
        (
            Prf::HmacSha1,
            b"Jefe".to_vec(),
            JEFE,
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
        ),
        (
            Prf::HmacSha1,
            vec![0xaa; 80],
            LONG,
            "aa4ae5e15272d00e95705637ce8a3b55ed402112",
        ),
        (
            Prf::HmacSha2_256,
            b"Jefe".to_vec(),
            JEFE,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            Prf::HmacSha2_256,
            vec![0xaa; 131],
            LONG,
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            Prf::HmacSha2_384,
            b"Jefe".to_vec(),
            JEFE,
            "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e\
             8e2240ca5e69e2c78b3239ecfab21649",
        ),
        (
            Prf::HmacSha2_512,
            vec![0x0b; 20],
            b"Hi There",
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde\
             daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
        ),
        (
            Prf::HmacSha2_512,
            vec![0xaa; 131],
            LONG,
            "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352\
             6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
        ),
    ];
    for (prf, key, data, expected) in table {
        assert_eq!(prf.mac(&key, &[data]).expose(), hex(expected), "{prf}");
        // The parts are concatenated.
        let (a, b) = data.split_at(3);
        assert_eq!(prf.mac(&key, &[a, b]).expose(), hex(expected), "{prf}");
    }
}

#[test]
fn prf_plus_is_a_stream() {
    for prf in Prf::ALL {
        let long = prf.plus(b"key", &[b"seed"], 1000);
        assert_eq!(long.len(), 1000);
        assert_eq!(
            long.expose()[..prf.key_len()],
            *prf.mac(b"key", &[b"seed", &[1]]).expose()
        );
        for len in [0, 1, prf.key_len(), prf.key_len() + 1] {
            let short = prf.plus(b"key", &[b"se", b"ed"], len);
            assert_eq!(short.expose(), &long.expose()[..len]);
        }
    }
}

#[test]
fn secrets_are_not_shown() {
    assert_eq!(
        format!("{:?}", Secret::new(vec![0xab; 20])),
        "Secret(20 octets)"
    );
}

#[test]
fn the_key_log_is_what_tshark_reads() {
    let record = &records("suite")[0];
    let keys = derive(record);
    let line = keys.key_log_line(IkeSpi(1), IkeSpi(0xabc));
    let fields: Vec<&str> = line.split(',').collect();
    let hex_of = |secret: &Secret| -> String {
        secret
            .expose()
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect()
    };
    let [_, ai, ar, ei, er, _, _] = keys.all();
    assert_eq!(fields[..2], ["0000000000000001", "0000000000000abc"]);
    assert_eq!(fields[2..4], [hex_of(ei), hex_of(er)]);
    assert_eq!(fields[4], "\"AES-GCM-128 with 16 octet ICV [RFC5282]\"");
    assert_eq!(fields[5..7], [hex_of(ai), hex_of(ar)]);
    assert_eq!(fields[7], "\"NONE [RFC4306]\"");
}
