//! Malformed messages, one fault each, and the error that names it.

use hawser_ike_wire::{
    Delete, Fault, Header, Identity, MAX_PAYLOADS, Message, NotifyType, ParseError, Payload,
    PayloadType, Payloads, Place, PortRange, ProtocolId, TrafficSelector,
};

/// A message whose payloads are `octets`, with a right length.
fn datagram(first: u8, octets: &[u8]) -> Vec<u8> {
    let mut out = vec![0x11; 8];
    out.extend([0x22; 8]);
    out.extend([first, 0x20, 37, 0x08, 0, 0, 0, 7]);
    let length = u32::try_from(28 + octets.len()).unwrap();
    out.extend(length.to_be_bytes());
    out.extend(octets);
    out
}

/// The payload of `kind` with this content, as the only one of a message.
fn alone(kind: u8, content: &[u8]) -> Result<Message, ParseError> {
    let length = u16::try_from(content.len() + 4).unwrap();
    let octets = [&[0, 0], &length.to_be_bytes()[..], content].concat();
    Message::parse(&datagram(kind, &octets))
}

fn fault(result: Result<Message, ParseError>) -> (Place, usize, Fault) {
    let error = result.unwrap_err();
    (error.place, error.offset, error.fault)
}

#[test]
fn headers() {
    let good = datagram(0, &[]);
    assert!(Message::parse(&good).is_ok());
    let changed = |at: usize, value: u8| {
        let mut octets = good.clone();
        octets[at] = value;
        octets
    };
    let table = [
        (
            Vec::new(),
            0,
            Fault::TooShort {
                needed: 28,
                left: 0,
            },
        ),
        (
            good[..27].to_vec(),
            0,
            Fault::TooShort {
                needed: 28,
                left: 27,
            },
        ),
        (changed(17, 0x10), 17, Fault::MajorVersion(1)),
        (changed(17, 0x30), 17, Fault::MajorVersion(3)),
        (
            changed(27, 29),
            24,
            Fault::MessageLength {
                field: 29,
                actual: 28,
            },
        ),
        (
            changed(24, 0xff),
            24,
            Fault::MessageLength {
                field: 0xff00_001c,
                actual: 28,
            },
        ),
        ([vec![0; 8], good[8..].to_vec()].concat(), 0, Fault::ZeroSpi),
    ];
    for (octets, offset, expected) in table {
        assert_eq!(
            fault(Message::parse(&octets)),
            (Place::Header, offset, expected)
        );
        assert!(Header::parse(&octets).is_err());
    }
    // A higher minor version is no fault (RFC 7296, section 2.5), nor are reserved flags.
    assert!(Message::parse(&changed(17, 0x2f)).is_ok());
    assert!(Message::parse(&changed(19, 0xff)).is_ok());
}

#[test]
fn generic_headers() {
    let sa = Place::Payload(PayloadType::Vendor);
    let table: [(&[u8], Place, usize, Fault); 5] = [
        (&[0, 0, 0], sa, 28, Fault::TooShort { needed: 4, left: 3 }),
        (
            &[0, 0, 0, 3],
            sa,
            28,
            Fault::PayloadLength { field: 3, left: 4 },
        ),
        (
            &[0, 0, 0, 5],
            sa,
            28,
            Fault::PayloadLength { field: 5, left: 4 },
        ),
        (
            &[0, 0, 0, 4, 9],
            Place::Payload(PayloadType::NoNext),
            32,
            Fault::Trailing(1),
        ),
        (
            &[43, 0, 0, 4],
            sa,
            32,
            Fault::TooShort { needed: 4, left: 0 },
        ),
    ];
    for (octets, place, offset, expected) in table {
        let result = Message::parse(&datagram(43, octets));
        assert_eq!(fault(result), (place, offset, expected), "{octets:?}");
    }
}

#[test]
fn chains() {
    // As many payloads as are accepted, and one more.
    let many = |count: usize| {
        let mut octets = [43, 0, 0, 4].repeat(count - 1);
        octets.extend([0, 0, 0, 4]);
        Payloads::parse(PayloadType::Vendor, &octets)
    };
    assert_eq!(many(MAX_PAYLOADS).unwrap().len(), MAX_PAYLOADS);
    let error = many(MAX_PAYLOADS + 1).unwrap_err();
    assert_eq!(
        (error.offset, error.fault),
        (MAX_PAYLOADS * 4, Fault::TooManyPayloads)
    );

    // Two of what comes once.
    let nonce = |next: u8| [&[next, 0, 0, 20][..], &[7; 16]].concat();
    let twice = [nonce(40), nonce(0)].concat();
    let error = Payloads::parse(PayloadType::Nonce, &twice).unwrap_err();
    assert_eq!((error.offset, error.fault), (20, Fault::Duplicate));

    // An Encrypted payload inside another, and one that is not the last.
    for kind in [PayloadType::Sk, PayloadType::Skf] {
        let error = Payloads::parse(kind, &[0, 0, 0, 8, 0, 1, 0, 1]).unwrap_err();
        assert_eq!(
            (error.place, error.fault),
            (Place::Payload(kind), Fault::Protected)
        );
        let followed = [43, 0, 0, 8, 0, 1, 0, 1, 0, 0, 0, 4];
        let result = Message::parse(&datagram(kind.into(), &followed));
        assert_eq!(fault(result), (Place::Payload(kind), 28, Fault::Protected));
    }
}

#[test]
fn fragments() {
    let skf = Place::Payload(PayloadType::Skf);
    for (number, total) in [(0, 0), (0, 3), (4, 3)] {
        let result = alone(53, &[0, number, 0, total, 9, 9]);
        let expected = Fault::FragmentNumber {
            number: number.into(),
            total: total.into(),
        };
        assert_eq!(fault(result), (skf, 32, expected));
    }
    let result = alone(53, &[0, 1, 0]);
    assert_eq!(
        fault(result),
        (skf, 34, Fault::TooShort { needed: 2, left: 1 })
    );
    let protected = alone(53, &[0, 3, 0, 3, 9, 9]).unwrap().protected.unwrap();
    assert_eq!((protected.offset, protected.body), (36, vec![9, 9]));
}

/// A transform of encryption with ID 20 whose length field is `length`.
fn transform(marker: u8, length: u8) -> [u8; 8] {
    [marker, 0, 0, length, 1, 0, 0, 20]
}

#[test]
fn proposals() {
    let sa = |content: &[u8]| fault(alone(33, content));
    let place = Place::Payload(PayloadType::Sa);
    let with = |header: [u8; 8], rest: &[u8]| [&header[..], rest].concat();
    let inner = |field, least, left| Fault::InnerLength { field, least, left };

    let table: Vec<(Vec<u8>, usize, Fault)> = vec![
        (vec![], 32, Fault::TooShort { needed: 2, left: 0 }),
        (vec![0; 8], 32, inner(0, 8, 8)),
        (vec![0, 0, 0, 9, 1, 1, 0, 0], 32, inner(9, 8, 8)),
        // "More" where nothing follows, "last" where something does, and neither.
        (vec![2, 0, 0, 8, 1, 1, 0, 0], 32, Fault::Marker(2)),
        (
            vec![0, 0, 0, 8, 1, 1, 0, 0, 0, 0, 0, 8, 1, 1, 0, 0],
            32,
            Fault::Marker(0),
        ),
        (vec![3, 0, 0, 8, 1, 1, 0, 0], 32, Fault::Marker(3)),
        // An ESP SPI of no octets, an IKE one of four, one beyond the proposal.
        (
            vec![0, 0, 0, 8, 1, 3, 0, 0],
            36,
            Fault::SpiSize {
                protocol: ProtocolId::Esp,
                size: 0,
            },
        ),
        (
            vec![0, 0, 0, 12, 1, 1, 4, 0, 1, 2, 3, 4],
            36,
            Fault::SpiSize {
                protocol: ProtocolId::Ike,
                size: 4,
            },
        ),
        (
            vec![0, 0, 0, 8, 1, 3, 4, 0],
            40,
            Fault::TooShort { needed: 4, left: 0 },
        ),
        // The count of transforms.
        (
            vec![0, 0, 0, 8, 1, 1, 0, 1],
            36,
            Fault::Count { field: 1, found: 0 },
        ),
        (
            with([0, 0, 0, 16, 1, 1, 0, 0], &transform(0, 8)),
            36,
            Fault::Count { field: 0, found: 1 },
        ),
        // Transforms: too short, too long, wrong marks.
        (
            with([0, 0, 0, 16, 1, 1, 0, 1], &transform(0, 7)),
            40,
            inner(7, 8, 8),
        ),
        (
            with([0, 0, 0, 16, 1, 1, 0, 1], &transform(0, 12)),
            40,
            inner(12, 8, 8),
        ),
        (
            with([0, 0, 0, 16, 1, 1, 0, 1], &transform(3, 8)),
            40,
            Fault::Marker(3),
        ),
        (
            with([0, 0, 0, 16, 1, 1, 0, 1], &transform(2, 8)),
            40,
            Fault::Marker(2),
        ),
        // An attribute that ends inside its header, and one longer than its transform.
        (
            with(
                [0, 0, 0, 18, 1, 1, 0, 1],
                &[&transform(0, 10)[..], &[0x80, 14]].concat(),
            ),
            50,
            Fault::TooShort { needed: 2, left: 0 },
        ),
        (
            with(
                [0, 0, 0, 20, 1, 1, 0, 1],
                &[&transform(0, 12)[..], &[0, 9, 0, 1]].concat(),
            ),
            48,
            inner(1, 0, 0),
        ),
    ];
    for (content, offset, expected) in table {
        assert_eq!(sa(&content), (place, offset, expected), "{content:?}");
    }
}

#[test]
fn values() {
    let length = |got, least, most| Fault::ValueLength { got, least, most };
    let short = |needed, left| Fault::TooShort { needed, left };
    let table: Vec<(u8, Vec<u8>, usize, Fault)> = vec![
        // KE, AUTH, CERT, CERTREQ and Notify end too early.
        (34, vec![0, 14, 0], 34, short(2, 1)),
        (39, vec![2, 0], 33, short(3, 1)),
        (37, vec![], 32, short(1, 0)),
        (38, vec![], 32, short(1, 0)),
        (41, vec![0, 0, 64], 34, short(2, 1)),
        (41, vec![3, 4, 64, 0, 1, 2, 3], 36, short(4, 3)),
        // Nonces of 15 and 257 octets.
        (40, vec![1; 15], 32, length(15, 16, 256)),
        (40, vec![1; 257], 32, length(257, 16, 256)),
        // Identities: addresses of the wrong length, names that are no text.
        (35, vec![1, 0, 0, 0, 10, 0, 0], 36, length(3, 4, 4)),
        (35, vec![1, 0, 0, 0, 10, 0, 0, 1, 1], 36, length(5, 4, 4)),
        (36, vec![5, 0, 0, 0, 1], 36, length(1, 16, 16)),
        (36, vec![2, 0, 0, 0, 0xff], 36, Fault::NotText),
        (36, vec![3, 0, 0, 0, 0xc0, 0x80], 36, Fault::NotText),
        (35, vec![2, 0], 33, short(3, 1)),
        // Deletes: SPI sizes and counts.
        (
            42,
            vec![1, 4, 0, 1, 1, 2, 3, 4],
            32,
            Fault::SpiSize {
                protocol: ProtocolId::Ike,
                size: 4,
            },
        ),
        (42, vec![1, 0, 0, 0, 9], 36, Fault::Trailing(1)),
        (
            42,
            vec![3, 8, 0, 0],
            32,
            Fault::SpiSize {
                protocol: ProtocolId::Esp,
                size: 8,
            },
        ),
        (
            42,
            vec![3, 4, 0, 2, 1, 2, 3, 4],
            32,
            Fault::Count { field: 2, found: 1 },
        ),
        (
            42,
            vec![3, 4, 0, 1, 1, 2, 3, 4, 5],
            32,
            Fault::Count { field: 1, found: 1 },
        ),
        (
            42,
            vec![3, 4, 0xff, 0xff],
            32,
            Fault::Count {
                field: 65_535,
                found: 0,
            },
        ),
        // Configuration: a value beyond the payload.
        (
            47,
            vec![1, 0, 0, 0, 0, 1, 0, 4, 1],
            36,
            Fault::InnerLength {
                field: 4,
                least: 0,
                left: 1,
            },
        ),
    ];
    for (kind, content, offset, expected) in table {
        let place = Place::Payload(kind.into());
        assert_eq!(
            fault(alone(kind, &content)),
            (place, offset, expected),
            "{kind} {content:?}"
        );
    }
}

#[test]
fn selectors() {
    let v4 = |ports: [u8; 4], first: u8, last: u8| {
        [
            &[7, 0, 0, 16][..],
            &ports,
            &[10, 0, 0, first, 10, 0, 0, last],
        ]
        .concat()
    };
    let any = [0, 0, 0xff, 0xff];
    let counted = |count: u8, selectors: &[u8]| [&[count, 0, 0, 0][..], selectors].concat();
    let count = |field, found| Fault::Count { field, found };
    let table: Vec<(Vec<u8>, usize, Fault)> = vec![
        (counted(0, &[]), 32, count(0, 0)),
        (counted(0, &v4(any, 1, 2)), 32, count(0, 1)),
        (counted(2, &v4(any, 1, 2)), 32, count(2, 1)),
        (counted(1, &v4(any, 1, 2).repeat(2)), 32, count(1, 2)),
        (counted(1, &v4(any, 2, 1)), 40, Fault::Range),
        (counted(1, &v4([0, 9, 0, 8], 1, 2)), 40, Fault::Range),
        (
            counted(1, &[7, 0, 0, 3, 0, 0, 0, 0]),
            36,
            Fault::InnerLength {
                field: 3,
                least: 4,
                left: 8,
            },
        ),
        (
            counted(1, &[7, 0, 0, 8, 0, 0, 0, 0]),
            44,
            Fault::TooShort { needed: 4, left: 0 },
        ),
        (
            counted(1, &[&[7, 0, 0, 17][..], &[0; 13]].concat()),
            52,
            Fault::Trailing(1),
        ),
    ];
    for (content, offset, expected) in table {
        let place = Place::Payload(PayloadType::TsInitiator);
        assert_eq!(
            fault(alone(44, &content)),
            (place, offset, expected),
            "{content:?}"
        );
    }
    // Opaque ports are the one range that runs backwards.
    let message = alone(45, &counted(1, &v4([0xff, 0xff, 0, 0], 1, 2))).unwrap();
    let TrafficSelector::Range { ports, .. } = &message.payloads.ts_responder().unwrap().0[0]
    else {
        panic!("an address range");
    };
    assert_eq!(*ports, PortRange::OPAQUE);
}

#[test]
fn what_rfcs_say_to_ignore_is_ignored() {
    // The critical bit of a known payload, reserved bits, and a count in a delete of the IKE SA.
    let message = Message::parse(&datagram(42, &[0, 0xff, 0, 8, 1, 0, 0, 1])).unwrap();
    assert_eq!(
        message.payloads.deletes().collect::<Vec<_>>(),
        [&Delete::IkeSa]
    );
    // The reserved octets of an identity are authenticated as they came.
    let body = [1, 7, 8, 9, 10, 0, 0, 1];
    let message = alone(35, &body).unwrap();
    let id = message.payloads.id_initiator().unwrap();
    assert_eq!(id.identity(), &Identity::Ipv4([10, 0, 0, 1].into()));
    assert_eq!(id.body(), body);
    assert_eq!(message.emit().unwrap()[32..], body);
    // Unknown payloads are kept; only a critical one is to be refused, by whoever reads the chain.
    let message = Message::parse(&datagram(200, &[201, 0x7f, 0, 4, 0, 0x80, 0, 5, 1])).unwrap();
    assert_eq!(message.payloads.unsupported_critical(), Some(201));
    assert_eq!(
        message.payloads[0],
        Payload::Unknown {
            kind: 200,
            critical: false,
            data: vec![]
        }
    );
}

#[test]
fn errors_are_sentences_and_name_the_notify() {
    let error = alone(40, &[1; 15]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Nonce payload at octet 32: a value of 15 octets, where 16 to 256 are allowed"
    );
    assert_eq!(error.notify(), NotifyType::InvalidSyntax);
    let mut ikev1 = datagram(0, &[]);
    ikev1[17] = 0x10;
    let error = Message::parse(&ikev1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "header at octet 17: major version 1 instead of 2"
    );
    assert_eq!(error.notify(), NotifyType::InvalidMajorVersion);
}
