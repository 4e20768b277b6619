//! Every message that can be said is said and read back; the harnesses run on random octets and on
//! damaged messages, which get past the first checks more often.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::*;

fn octets(most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..most)
}

fn attribute() -> impl Strategy<Value = Attribute> {
    // Not the key length, which has its own field.
    let kind = (0u16..0x8000).prop_filter("key length", |kind| *kind != 14);
    let value = prop_oneof![
        any::<u16>().prop_map(AttributeValue::Short),
        octets(9).prop_map(AttributeValue::Long),
    ];
    (kind, value).prop_map(|(kind, value)| Attribute { kind, value })
}

fn transform() -> impl Strategy<Value = Transform> {
    (
        any::<u8>(),
        any::<u16>(),
        option::of(any::<u16>()),
        vec(attribute(), 0..3),
    )
        .prop_map(|(kind, id, key_length, other_attributes)| Transform {
            kind: kind.into(),
            id,
            key_length,
            other_attributes,
        })
}

fn proposal() -> impl Strategy<Value = Proposal> {
    let protocol = prop_oneof![
        Just((ProtocolId::Ike, 0)),
        Just((ProtocolId::Ike, 8)),
        Just((ProtocolId::Ah, 4)),
        Just((ProtocolId::Esp, 4)),
        (4u8..=255, 0usize..20).prop_map(|(id, len)| (ProtocolId::Other(id), len)),
    ];
    (
        any::<u8>(),
        protocol,
        vec(any::<u8>(), 20),
        vec(transform(), 0..6),
    )
        .prop_map(|(number, (protocol, len), spi, transforms)| Proposal {
            number,
            protocol,
            spi: spi[..len].to_vec(),
            transforms,
        })
}

fn identity() -> impl Strategy<Value = Identity> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|a| Identity::Ipv4(a.into())),
        any::<[u8; 16]>().prop_map(|a| Identity::Ipv6(a.into())),
        any::<String>().prop_map(Identity::Fqdn),
        any::<String>().prop_map(Identity::Email),
        octets(40).prop_map(Identity::Dn),
        octets(40).prop_map(Identity::GeneralName),
        octets(40).prop_map(Identity::KeyId),
        (12u8..=255, octets(9)).prop_map(|(kind, data)| Identity::Other { kind, data }),
    ]
}

fn selector() -> impl Strategy<Value = TrafficSelector> {
    let range = |v6: bool, a: [u8; 16], b: [u8; 16]| {
        let address = |octets: [u8; 16]| -> IpAddr {
            match octets.first_chunk::<4>() {
                Some(v4) if !v6 => (*v4).into(),
                _ => octets.into(),
            }
        };
        (address(a).min(address(b)), address(a).max(address(b)))
    };
    let ports = prop_oneof![
        Just(PortRange::OPAQUE),
        (any::<u16>(), any::<u16>()).prop_map(|(a, b)| PortRange {
            first: a.min(b),
            last: a.max(b),
        }),
    ];
    prop_oneof![
        (
            any::<u8>(),
            ports,
            any::<bool>(),
            any::<[u8; 16]>(),
            any::<[u8; 16]>()
        )
            .prop_map(move |(protocol, ports, v6, a, b)| {
                let (first, last) = range(v6, a, b);
                TrafficSelector::Range {
                    protocol,
                    ports,
                    first,
                    last,
                }
            }),
        (9u8..=255, any::<u8>(), octets(20)).prop_map(|(kind, protocol, data)| {
            TrafficSelector::Other {
                kind,
                protocol,
                data,
            }
        }),
    ]
}

fn selectors() -> impl Strategy<Value = TrafficSelectors> {
    vec(selector(), 1..5).prop_map(TrafficSelectors)
}

fn notify() -> impl Strategy<Value = Notify> {
    (any::<u8>(), octets(9), any::<u16>(), octets(30)).prop_map(|(protocol, spi, kind, data)| {
        Notify {
            protocol: protocol.into(),
            spi,
            kind: kind.into(),
            data,
        }
    })
}

fn delete() -> impl Strategy<Value = Delete> {
    let protocol = any::<u8>()
        .prop_map(ProtocolId::from)
        .prop_filter("IKE has no SPIs", |protocol| *protocol != ProtocolId::Ike);
    prop_oneof![
        Just(Delete::IkeSa),
        (protocol, vec(any::<u32>().prop_map(ChildSpi), 0..5))
            .prop_map(|(protocol, spis)| Delete::Children { protocol, spis }),
    ]
}

fn configuration() -> impl Strategy<Value = Configuration> {
    let attribute =
        (0u16..0x8000, octets(20)).prop_map(|(kind, value)| ConfigurationAttribute { kind, value });
    (any::<u8>(), vec(attribute, 0..4)).prop_map(|(kind, attributes)| Configuration {
        kind: kind.into(),
        attributes,
    })
}

fn coded() -> impl Strategy<Value = Payload> {
    (0u8..4, any::<u8>(), octets(60)).prop_map(|(which, code, data)| match which {
        0 => Payload::Certificate(Certificate {
            encoding: code.into(),
            data,
        }),
        1 => Payload::CertificateRequest(CertificateRequest {
            encoding: code.into(),
            authorities: data,
        }),
        2 => Payload::Auth(Authentication {
            method: code.into(),
            data,
        }),
        _ => Payload::Ke(KeyExchange {
            group: u16::from(code),
            data,
        }),
    })
}

fn unknown() -> impl Strategy<Value = Payload> {
    let kind = any::<u8>().prop_filter("a known type", |kind| {
        matches!(PayloadType::from(*kind), PayloadType::Other(_))
    });
    (kind, any::<bool>(), octets(20)).prop_map(|(kind, critical, data)| Payload::Unknown {
        kind,
        critical,
        data,
    })
}

fn any_payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        vec(proposal(), 1..4).prop_map(|proposals| Payload::Sa(SecurityAssociation { proposals })),
        identity().prop_map(|id| Payload::IdInitiator(id.into())),
        identity().prop_map(|id| Payload::IdResponder(id.into())),
        vec(any::<u8>(), 16..=256).prop_map(|nonce| Payload::Nonce(Nonce(nonce))),
        notify().prop_map(Payload::Notify),
        delete().prop_map(Payload::Delete),
        octets(30).prop_map(Payload::Vendor),
        octets(30).prop_map(Payload::Eap),
        selectors().prop_map(Payload::TsInitiator),
        selectors().prop_map(Payload::TsResponder),
        configuration().prop_map(Payload::Configuration),
        coded(),
        unknown(),
    ]
}

fn chain() -> impl Strategy<Value = Payloads> {
    vec(any_payload(), 0..8).prop_map(|payloads| {
        let mut chain = Payloads::new();
        for payload in payloads {
            let kind = payload.kind();
            if !kind.comes_once() || chain.iter().all(|other| other.kind() != kind) {
                chain.push(payload);
            }
        }
        chain
    })
}

fn header() -> impl Strategy<Value = Header> {
    (
        1u64..,
        any::<u64>(),
        any::<u8>(),
        any::<[bool; 3]>(),
        any::<u32>(),
    )
        .prop_map(|(initiator, responder, exchange, flags, id)| Header {
            initiator_spi: IkeSpi(initiator),
            responder_spi: IkeSpi(responder),
            exchange: exchange.into(),
            initiator: flags[0],
            response: flags[1],
            higher_version: flags[2],
            message_id: MessageId(id),
        })
}

/// The body's place is not chosen: it follows from what is before it.
fn any_message() -> impl Strategy<Value = Message> {
    let fragment = option::of((1u16.., 1u16..).prop_map(|(a, b)| FragmentNumber {
        number: a.min(b),
        total: a.max(b),
    }));
    let protected = option::of((any::<u8>(), fragment, octets(80)));
    (header(), chain(), protected).prop_map(|(header, payloads, protected)| {
        let protected = protected.map(|(first, fragment, body)| {
            let first = first.into();
            let prefix = emit_protected_prefix(&header, &payloads, first, fragment, body.len());
            Protected {
                first,
                fragment,
                offset: prefix.expect("short").len(),
                body,
            }
        });
        Message {
            header,
            payloads,
            protected,
        }
    })
}

/// A message with a few octets changed, and perhaps cut or with octets behind it.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let edits = vec((any::<prop::sample::Index>(), any::<u8>()), 0..5);
    (any_message(), edits, 0usize..4, octets(30)).prop_map(|(message, edits, cut, behind)| {
        let mut datagram = message.emit().expect("short");
        for (at, value) in edits {
            let at = at.index(datagram.len());
            datagram[at] = value;
        }
        match cut {
            0 => datagram.truncate(datagram.len() - 1),
            1 => datagram.extend(behind),
            _ => {}
        }
        datagram
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(message in any_message()) {
        let datagram = message.emit().unwrap();
        prop_assert_eq!(Message::parse(&datagram), Ok(message));
    }

    #[test]
    fn chains_are_read_as_they_were_written(chain in chain()) {
        let (first, octets) = chain.emit().unwrap();
        prop_assert_eq!(Payloads::parse(first, &octets), Ok(chain));
    }

    #[test]
    fn every_prefix_of_a_message_is_refused(message in any_message(), at in any::<prop::sample::Index>()) {
        let datagram = message.emit().unwrap();
        let at = at.index(datagram.len());
        prop_assert!(Message::parse(&datagram[..at]).is_err());
        super::message(&datagram[..at]);
    }

    #[test]
    fn messages(datagram in prop_oneof![octets(300), damaged()]) {
        message(&datagram);
    }

    #[test]
    fn single_payloads(kind in 0u8..60, body in octets(120)) {
        payload(&[&[kind], &body[..]].concat());
    }

    #[test]
    fn damaged_payloads(
        content in any_payload(),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let (first, mut octets) = Payloads::from(vec![content]).emit().unwrap();
        for (at, value) in edits {
            let at = at.index(octets.len());
            octets[at] = value;
        }
        octets.insert(0, first.into());
        payloads(&octets);
        // With the generic header made right again.
        octets.drain(1..5);
        payload(&octets);
    }
}
