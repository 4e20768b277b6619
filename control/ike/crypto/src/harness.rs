//! One function per reader of what a peer sends, for property tests and fuzz targets alike: each
//! takes any octets, must not panic, and checks what the reader promises about its result.
//!
//! Not part of the product: behind the feature `harness`.

#![allow(
    clippy::missing_panics_doc,
    reason = "to panic is how a harness reports a fault"
)]

use std::time::{Duration, SystemTime};

use hawser_ike_wire as wire;
use hawser_ike_wire::{
    CertificateEncoding, ExchangeType, FragmentNumber, Header, Identity, IkeSpi, MAX_MESSAGE_LEN,
    Message, MessageId, PayloadType,
};

use crate::fragment::{Fragment, Progress, Reassembly};
use crate::{
    Cipher, Group, IkeKeys, IkeSuite, Nonces, OpenError, Prf, Random, Role, Secret, TrustAnchors,
    TrustPolicy, name, signature,
};

/// The algorithm before a digital signature (RFC 7427).
pub fn algorithm_identifier(octets: &[u8]) {
    signature::check_identifier(octets);
}

/// A peer's certificate: not trusted, and trusted as it is.
pub fn certificate(der: &[u8]) {
    let sent = [wire::Certificate {
        encoding: CertificateEncoding::X509,
        data: der.to_vec(),
    }];
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_272_000);
    let identity = Identity::Fqdn("gw.example.com".to_owned());
    let policy = TrustPolicy::default();
    let nobody = TrustAnchors::new();
    let error = nobody.verify(&sent, &identity, now, policy);
    let text = error.expect_err("nobody is trusted").to_string();
    assert!(!text.contains(char::is_control), "{text:?}");
    let mut itself = TrustAnchors::new();
    if itself.add(der).is_ok() {
        let _ = itself.verify(&sent, &identity, now, policy);
        let _ = itself.certificate_request();
    }
}

/// A distinguished name in an identity: its text is fit for a log, and it is the same as itself.
pub fn distinguished_name(der: &[u8]) {
    let dn = Identity::Dn(der.to_vec());
    assert!(!name::describe(&dn).contains(char::is_control));
    assert!(name::same(&dn, &dn));
}

/// Not random at all.
struct Constant;

impl Random for Constant {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(7);
    }
}

/// Keys that both sides of a test have: initiator SPI 4, responder SPI 5.
pub(crate) fn keys(cipher: Cipher) -> IkeKeys {
    let suite = IkeSuite {
        cipher,
        prf: Prf::HmacSha2_256,
        group: Group::X25519,
    };
    let nonces = Nonces {
        initiator: &[1; 32],
        responder: &[2; 32],
    };
    IkeKeys::derive(
        suite,
        &Secret::new(vec![3; 32]),
        nonces,
        IkeSpi(4),
        IkeSpi(5),
    )
}

/// A datagram from anybody, and one whose content the peer chose: the first octet selects the
/// cipher, the second is the type of the first payload inside.
pub fn opened(data: &[u8]) {
    let Some((&[which, first], content)) = data.split_first_chunk() else {
        return;
    };
    let ciphers: Vec<Cipher> = Cipher::all().collect();
    let keys = keys(ciphers[usize::from(which) % ciphers.len()]);
    let opener = keys.opener(Role::Initiator);
    if let Ok(message) = Message::parse(content) {
        let opened = opener.open(content, &message);
        assert!(matches!(
            opened,
            Err(OpenError::Integrity | OpenError::NotProtected)
        ));
        assert!(opener.open_fragment(content, &message).is_err());
    }
    let header = Header {
        initiator_spi: IkeSpi(4),
        responder_spi: IkeSpi(5),
        exchange: ExchangeType::Informational,
        initiator: true,
        response: false,
        higher_version: false,
        message_id: MessageId(0),
    };
    let sealed = keys.sealer(Role::Initiator).seal_octets(
        &header,
        PayloadType::from(first),
        content,
        &mut Constant,
    );
    let Ok(datagram) = sealed else {
        return;
    };
    let message = Message::parse(&datagram).expect("its outside is right");
    match opener.open(&datagram, &message) {
        Ok(payloads) => {
            let (again, octets) = payloads.emit().expect("what was read can be written");
            assert_eq!((u8::from(again), octets.len()), (first, content.len()));
        }
        Err(error) => assert!(error.is_authentic(), "{error}"),
    }
}

/// Fragments as the octets say: number, total and length, each in one octet.
pub fn fragments(data: &[u8]) {
    let mut reassembly = Reassembly::new();
    for step in data.chunks_exact(3) {
        let number = FragmentNumber {
            number: step[0].into(),
            total: step[1].into(),
        };
        let content = vec![0; usize::from(step[2]) * 300];
        let fragment = Fragment::new(number, PayloadType::Vendor, content.into());
        let progress = reassembly.add(fragment);
        assert!(reassembly.octets() <= MAX_MESSAGE_LEN);
        if matches!(progress, Err(_) | Ok(Progress::Complete(_))) {
            assert_eq!(reassembly.octets(), 0);
        }
    }
}

#[cfg(test)]
mod tests;
