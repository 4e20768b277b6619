//! Encrypted payloads: against another implementation, tampered with, cut into fragments.

use hawser_ike_wire::{ExchangeType, IkeSpi, MessageId, Payload};
use proptest::prelude::*;

use super::*;
use crate::fragment::{FragmentError, Progress, Reassembly};
use crate::harness::keys;
use crate::keys::tests::derive;
use crate::vectors::{Fixed, records};
use crate::{Cipher, Role, SystemRandom};

fn header(initiator: u64, responder: u64) -> Header {
    Header {
        initiator_spi: IkeSpi(initiator),
        responder_spi: IkeSpi(responder),
        exchange: ExchangeType::Informational,
        initiator: true,
        response: false,
        higher_version: false,
        message_id: MessageId(9),
    }
}

fn vendor(data: &[u8]) -> Payloads {
    vec![Payload::Vendor(data.to_vec())].into()
}

fn open(opener: &Opener, datagram: &[u8]) -> Result<Payloads, OpenError> {
    opener.open(datagram, &Message::parse(datagram).expect("a message"))
}

fn piece(opener: &Opener, datagram: &[u8]) -> Fragment {
    let message = Message::parse(datagram).expect("a message");
    opener.open_fragment(datagram, &message).expect("authentic")
}

#[test]
fn what_another_implementation_sealed() {
    for record in records("suite") {
        let keys = derive(&record);
        let opener = keys.opener(Role::Initiator);
        let vendor = vendor(&record.octets("vendor"));
        assert_eq!(open(&opener, &record.octets("sealed")), Ok(vendor.clone()));
        // Not with the other direction's keys.
        let other = keys.opener(Role::Responder);
        assert_eq!(
            open(&other, &record.octets("sealed")),
            Err(OpenError::Integrity)
        );

        let mut random = Fixed(record.octets("iv"));
        let header = header(record.u64("spi_i"), record.u64("spi_r"));
        let sealed = keys
            .sealer(Role::Initiator)
            .seal(&header, &vendor, &mut random);
        assert_eq!(sealed.unwrap(), record.octets("sealed"));

        let mut reassembly = Reassembly::new();
        let first = piece(&opener, &record.octets("fragment1"));
        assert_eq!(reassembly.add(first), Ok(Progress::Waiting));
        let second = piece(&opener, &record.octets("fragment2"));
        assert_eq!(reassembly.add(second), Ok(Progress::Complete(vendor)));
    }
}

#[test]
fn a_changed_octet_is_noticed_wherever_it_is() {
    for cipher in Cipher::all() {
        let keys = keys(cipher);
        let (mut sealer, opener) = (keys.sealer(Role::Initiator), keys.opener(Role::Initiator));
        let payloads = vendor(b"a few octets");
        let sealed = sealer
            .seal(&header(4, 5), &payloads, &mut SystemRandom)
            .unwrap();
        let message = Message::parse(&sealed).unwrap();
        assert_eq!(opener.open(&sealed, &message), Ok(payloads));
        for at in 0..sealed.len() {
            for bit in [0x01, 0x80] {
                let mut changed = sealed.clone();
                changed[at] ^= bit;
                // As it would be parsed if its lengths were right.
                assert_eq!(
                    opener.open(&changed, &message),
                    Err(OpenError::Integrity),
                    "{at}"
                );
                if let Ok(parsed) = Message::parse(&changed) {
                    assert!(opener.open(&changed, &parsed).is_err(), "{at}");
                }
            }
        }
        for len in 0..sealed.len() {
            assert_eq!(
                opener.open(&sealed[..len], &message),
                Err(OpenError::Integrity),
                "{len}"
            );
        }
    }
}

#[test]
fn an_authentic_message_can_still_be_malformed() {
    for cipher in Cipher::all() {
        let keys = keys(cipher);
        let opener = keys.opener(Role::Initiator);
        // A body whose content the peer chose.
        let with = |content: &[u8]| {
            let mut sealer = keys.sealer(Role::Initiator);
            let vendor = PayloadType::Vendor;
            let sealed = sealer.seal_octets(&header(4, 5), vendor, content, &mut SystemRandom);
            open(&opener, &sealed.unwrap())
        };
        let error = with(&[0, 0, 0, 9]).unwrap_err();
        assert!(matches!(error, OpenError::Malformed(_)) && error.is_authentic());
        assert_eq!(with(&[0, 0, 0, 4]).unwrap().len(), 1);
    }
    assert!(OpenError::Padding.is_authentic() && !OpenError::Integrity.is_authentic());
}

#[test]
fn padding_longer_than_the_payload() {
    for (cipher, plain) in [
        ("aes128-cbc-sha2-256", vec![0xff; 16]),
        ("aes128-gcm16", vec![1]),
    ] {
        let keys = keys(cipher.parse().unwrap());
        let key = keys.key(Role::Initiator);
        let iv_len = key.cipher.encr().iv_len();
        let len = iv_len + plain.len() + key.cipher.icv_len();
        let none = Payloads::new();
        let prefix = emit_protected_prefix(&header(4, 5), &none, PayloadType::Vendor, None, len);
        let mut out = prefix.unwrap();
        let mut body = plain;
        match &key.prepared {
            Prepared::Gcm { key, salt } => {
                let nonce = gcm_nonce(*salt, [0; 8]);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(&out), &mut body);
                out.extend_from_slice(&[0; 8]);
                out.extend_from_slice(&body);
                out.extend_from_slice(tag.unwrap().as_ref());
            }
            Prepared::Cbc { key: cbc, integ } => {
                cbc.encrypt([9; 16], &mut body);
                out.extend_from_slice(&[9; 16]);
                out.extend_from_slice(&body);
                let icv = integ.icv(key.integrity.expose(), &[&out]);
                out.extend_from_slice(&icv);
            }
        }
        let opened = open(&keys.opener(Role::Initiator), &out);
        assert_eq!(opened, Err(OpenError::Padding), "{cipher}");
    }
}

#[test]
fn no_nonce_comes_twice() {
    let keys = keys("aes256-gcm16".parse().unwrap());
    let mut random = Fixed(vec![7]);
    let mut nonces = Vec::new();
    // Two sealers of the same direction, and fragments.
    let (mut one, mut two) = (keys.sealer(Role::Initiator), keys.sealer(Role::Initiator));
    for _ in 0..3 {
        for sealer in [&mut one, &mut two] {
            let payloads = vendor(&[0; 500]);
            let datagrams = sealer.seal_fragments(&header(4, 5), &payloads, 200, &mut random);
            for datagram in datagrams.unwrap() {
                let message = Message::parse(&datagram).unwrap();
                nonces.push(message.protected.unwrap().body[..8].to_vec());
            }
        }
    }
    let count = nonces.len();
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), count);
}

#[test]
fn datagrams_too_small_for_anything() {
    for cipher in Cipher::all() {
        let keys = keys(cipher);
        let mut sealer = keys.sealer(Role::Responder);
        let payloads = vendor(&[1; 300]);
        for len in [0, 27, 36, 36 + keys.key(Role::Responder).body_len(0) - 1] {
            let sealed = sealer.seal_fragments(&header(4, 5), &payloads, len, &mut SystemRandom);
            assert_eq!(sealed, Err(SealError::Datagram(len)), "{cipher}");
        }
        // More fragments than a peer collects.
        let payloads = vendor(&[1; 60_000]);
        let sealed = sealer.seal_fragments(&header(4, 5), &payloads, 150, &mut SystemRandom);
        assert_eq!(sealed, Err(SealError::Datagram(150)));
    }
}

#[test]
fn one_kind_is_not_taken_for_the_other() {
    let keys = keys("aes256-gcm16".parse().unwrap());
    let (mut sealer, opener) = (keys.sealer(Role::Initiator), keys.opener(Role::Initiator));
    let payloads = vendor(&[1; 300]);
    let whole = sealer
        .seal(&header(4, 5), &payloads, &mut SystemRandom)
        .unwrap();
    let message = Message::parse(&whole).unwrap();
    let opened = opener.open_fragment(&whole, &message);
    assert!(matches!(opened, Err(OpenError::NotProtected)));
    let pieces = sealer
        .seal_fragments(&header(4, 5), &payloads, 200, &mut SystemRandom)
        .unwrap();
    let message = Message::parse(&pieces[0]).unwrap();
    assert_eq!(
        opener.open(&pieces[0], &message),
        Err(OpenError::NotProtected)
    );
    let clear = Message::new(header(4, 5), payloads);
    let datagram = clear.emit().unwrap();
    assert_eq!(opener.open(&datagram, &clear), Err(OpenError::NotProtected));
}

#[test]
fn a_total_that_changes() {
    let keys = keys("aes128-gcm16".parse().unwrap());
    let (mut sealer, opener) = (keys.sealer(Role::Initiator), keys.opener(Role::Initiator));
    let payloads = vendor(&[5; 600]);
    let mut cut = |len| {
        let pieces = sealer.seal_fragments(&header(4, 5), &payloads, len, &mut SystemRandom);
        pieces.unwrap()
    };
    let (few, many) = (cut(400), cut(250));
    assert!(few.len() < many.len());
    let mut reassembly = Reassembly::new();
    assert_eq!(
        reassembly.add(piece(&opener, &few[0])),
        Ok(Progress::Waiting)
    );
    // Smaller pieces: start anew. A piece of the old way is ignored.
    let (last, others) = many.split_last().unwrap();
    for datagram in others {
        assert_eq!(
            reassembly.add(piece(&opener, datagram)),
            Ok(Progress::Waiting)
        );
        assert_eq!(
            reassembly.add(piece(&opener, &few[1])),
            Ok(Progress::Ignored)
        );
    }
    assert_eq!(
        reassembly.add(piece(&opener, last)),
        Ok(Progress::Complete(payloads))
    );
}

fn fragment(number: u16, total: u16, content: Vec<u8>) -> Fragment {
    let first = if number == 1 {
        PayloadType::Vendor
    } else {
        PayloadType::NoNext
    };
    Fragment::new(FragmentNumber { number, total }, first, content.into())
}

#[test]
fn fragments_that_make_no_message() {
    let mut reassembly = Reassembly::new();
    let error = reassembly.add(fragment(1, MAX_FRAGMENTS + 1, vec![0]));
    assert_eq!(error, Err(FragmentError::TooMany(MAX_FRAGMENTS + 1)));
    // No more than a message can hold, however it is cut.
    assert_eq!(
        reassembly.add(fragment(1, 3, vec![0; 40_000])),
        Ok(Progress::Waiting)
    );
    let error = reassembly.add(fragment(2, 3, vec![0; 40_000]));
    assert_eq!(error, Err(FragmentError::TooLong));
    // Together they are no chain; afterwards there is room for another message.
    assert_eq!(
        reassembly.add(fragment(1, 2, vec![0, 0])),
        Ok(Progress::Waiting)
    );
    let error = reassembly.add(fragment(2, 2, vec![0, 9]));
    assert!(matches!(error, Err(FragmentError::Malformed(_))));
    assert_eq!(
        reassembly.add(fragment(2, 2, vec![0, 4])),
        Ok(Progress::Waiting)
    );
    let whole = reassembly.add(fragment(1, 2, vec![0, 0]));
    assert_eq!(whole, Ok(Progress::Complete(vendor(&[]))));
    // Numbers that the parser of messages lets nobody make.
    assert_eq!(
        reassembly.add(fragment(0, 2, vec![])),
        Ok(Progress::Ignored)
    );
    assert_eq!(
        reassembly.add(fragment(3, 2, vec![])),
        Ok(Progress::Ignored)
    );
}

proptest! {
    /// Fragments in any order and repeated make the message, once.
    #[test]
    fn fragments_in_any_order(
        which in any::<prop::sample::Index>(),
        data in proptest::collection::vec(any::<u8>(), 300..2000),
        max in 150usize..600,
        order in proptest::collection::vec(any::<prop::sample::Index>(), 0..60),
    ) {
        let ciphers: Vec<Cipher> = Cipher::all().collect();
        let keys = keys(*which.get(&ciphers));
        let (mut sealer, opener) = (keys.sealer(Role::Initiator), keys.opener(Role::Initiator));
        let payloads = vendor(&data);
        let datagrams = sealer
            .seal_fragments(&header(4, 5), &payloads, max, &mut SystemRandom)
            .unwrap();
        prop_assert!(datagrams.iter().all(|datagram| datagram.len() <= max));
        if let [whole] = &datagrams[..] {
            prop_assert_eq!(open(&opener, whole), Ok(payloads));
            return Ok(());
        }
        // At random, then all of them, until the message is whole.
        let random = order.iter().map(|index| index.index(datagrams.len()));
        let mut seen = vec![false; datagrams.len()];
        let mut reassembly = Reassembly::new();
        for index in random.chain(0..datagrams.len()) {
            let progress = reassembly.add(piece(&opener, &datagrams[index])).unwrap();
            let repeated = std::mem::replace(&mut seen[index], true);
            if seen.iter().all(|seen| *seen) {
                prop_assert_eq!(progress, Progress::Complete(payloads));
                return Ok(());
            }
            let expected = if repeated { Progress::Ignored } else { Progress::Waiting };
            prop_assert_eq!(progress, expected);
        }
        prop_assert!(false, "the message never became whole");
    }

    #[test]
    fn messages_of_any_length(
        which in any::<prop::sample::Index>(),
        data in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let ciphers: Vec<Cipher> = Cipher::all().collect();
        let keys = keys(*which.get(&ciphers));
        let payloads = vendor(&data);
        let mut sealer = keys.sealer(Role::Responder);
        let datagram = sealer.seal(&header(4, 5), &payloads, &mut SystemRandom).unwrap();
        prop_assert_eq!(open(&keys.opener(Role::Responder), &datagram), Ok(payloads));
    }
}
