//! What parsing may cost, what cannot be written, and how things are shown.

use hawser_counting_allocator::{CountingAllocator, allocated};
use hawser_ike_wire::{
    ChildSpi, Delete, EmitError, ExchangeType, Header, IkeSpi, MAX_MESSAGE_LEN, Message, MessageId,
    Notify, NotifyType, Payload, PayloadType, Payloads, Place, Proposal, ProtocolId,
    SecurityAssociation, Transform, TransformType, transform_id,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Octets that parsing a chain allocates, all in all, even what it gave back.
fn cost(kind: u8, content: &[u8]) -> usize {
    let length = u16::try_from(content.len() + 4).unwrap();
    let octets = [&[0, 0], &length.to_be_bytes()[..], content].concat();
    let (_, cost) = allocated(|| Payloads::parse(kind.into(), &octets));
    cost.octets as usize
}

/// The densest lists there can be in 64 KiB. A value of the list is at most 56 octets and stands
/// for at least 4 on the wire, and a list that grows by doubling has allocated at most four times
/// its size.
#[test]
fn parsing_allocates_in_proportion_to_the_octets() {
    const MOST: usize = 60_000;
    let transforms = [&[3, 0, 0, 8, 1, 0, 0, 20][..]].concat().repeat(255);
    let mut proposal = vec![2, 0];
    proposal.extend(u16::try_from(8 + transforms.len()).unwrap().to_be_bytes());
    proposal.extend([1, 1, 0, 255]);
    proposal.extend(&transforms);
    let last = proposal.len() - 8;
    proposal[last] = 0;
    let count = MOST / proposal.len();
    let mut proposals = proposal.repeat(count);
    proposals[(count - 1) * proposal.len()] = 0;

    let bare = [2, 0, 0, 8, 1, 1, 0, 0].repeat(MOST / 8);
    let attributes = [&[1, 0, 0, 0][..], &[0, 1, 0, 0].repeat(MOST / 4)].concat();
    let spis = [&[3, 4, 0x3a, 0x98][..], &[1; 60_000]].concat();
    let selectors = [&[255, 0, 0, 0][..], &[200, 0, 0, 4].repeat(255)].concat();
    for (kind, content) in [
        (33, proposals),
        (33, bare),
        (47, attributes),
        (42, spis),
        (44, selectors),
        (43, vec![0; MOST]),
    ] {
        let cost = cost(kind, &content);
        assert!(cost > 0, "nothing was parsed of {kind}");
        assert!(
            cost <= 60 * content.len(),
            "{cost} for {kind} of {}",
            content.len()
        );
    }
}

/// A count or length that says much where there is nothing allocates nothing for it.
#[test]
fn a_lying_count_allocates_nothing() {
    for (kind, content) in [
        (42, &[3, 4, 0xff, 0xff][..]),
        (44, &[255, 0, 0, 0]),
        (33, &[0, 0, 0, 8, 1, 1, 0, 255]),
        (33, &[0, 0, 0xff, 0xff, 1, 1, 255, 255]),
        (41, &[3, 255, 0, 1]),
        (47, &[1, 0, 0, 0, 0, 1, 0xff, 0xff]),
    ] {
        assert_eq!(cost(kind, content), 0, "{kind} {content:?}");
    }
}

fn header() -> Header {
    Header {
        initiator_spi: IkeSpi(1),
        responder_spi: IkeSpi(2),
        exchange: ExchangeType::Informational,
        initiator: true,
        response: false,
        higher_version: false,
        message_id: MessageId(0),
    }
}

#[test]
fn what_has_no_room_is_not_written() {
    let message = |payloads: Vec<Payload>| Message::new(header(), payloads.into()).emit();
    let place = Place::Payload(PayloadType::Vendor);
    assert_eq!(
        message(vec![Payload::Vendor(vec![0; 65_532])]),
        Err(EmitError::TooLong {
            place,
            len: 65_536,
            most: 65_535
        })
    );
    let most = MAX_MESSAGE_LEN - 28 - 4;
    assert!(message(vec![Payload::Vendor(vec![0; most])]).is_ok());
    assert!(matches!(
        message(vec![Payload::Vendor(vec![0; most + 1])]),
        Err(EmitError::TooLong {
            place: Place::Header,
            ..
        })
    ));
    let transforms = vec![Transform::new(TransformType::Encr, 20); 256];
    let proposal = Proposal {
        number: 1,
        protocol: ProtocolId::Ike,
        spi: vec![],
        transforms,
    };
    assert_eq!(
        message(vec![Payload::Sa(SecurityAssociation {
            proposals: vec![proposal]
        })]),
        Err(EmitError::TooMany {
            place: Place::Payload(PayloadType::Sa),
            count: 256,
            most: 255
        })
    );
    let mut notify = Notify::new(NotifyType::Cookie);
    notify.spi = vec![0; 256];
    assert!(message(vec![Payload::Notify(notify)]).is_err());
    let spis = vec![ChildSpi(9); 20_000];
    let delete = Delete::Children {
        protocol: ProtocolId::Esp,
        spis,
    };
    assert!(message(vec![Payload::Delete(delete)]).is_err());
}

#[test]
fn logs_read_well() {
    let encryption =
        |bits| Transform::with_key(TransformType::Encr, transform_id::ENCR_AES_GCM_16, bits);
    let proposal = Proposal {
        number: 1,
        protocol: ProtocolId::Esp,
        spi: vec![0, 0, 1, 2],
        transforms: vec![
            encryption(256),
            Transform::new(TransformType::Dh, transform_id::DH_CURVE25519),
            encryption(128),
            Transform::new(TransformType::Esn, transform_id::ESN_NO),
            Transform::new(TransformType::AdditionalKe(1), transform_id::KE_ML_KEM_768),
            Transform::new(TransformType::Prf, 999),
        ],
    };
    assert_eq!(
        proposal.to_string(),
        "ESP: AES_GCM_16_256, AES_GCM_16_128 / CURVE_25519 / NO_ESN / ML_KEM_768 / PRF 999"
    );
    assert_eq!(proposal.child_spi(), Some(ChildSpi(0x102)));
    assert_eq!(proposal.ike_spi(), None);
    assert_eq!(NotifyType::TsUnacceptable.to_string(), "TS_UNACCEPTABLE");
    assert_eq!(NotifyType::from(99).to_string(), "99");
    assert!(NotifyType::from(16_383).is_error() && !NotifyType::InitialContact.is_error());
}

#[test]
fn notifies_say_what_they_carry() {
    assert_eq!(Notify::invalid_ke(31).group(), Some(31));
    assert_eq!(Notify::new(NotifyType::InvalidKePayload).group(), None);
    let hashes = Notify::signature_hashes(&[2, 4]);
    assert_eq!(hashes.hashes().collect::<Vec<_>>(), [2, 4]);
    let rekey = Notify::for_child(NotifyType::RekeySa, ProtocolId::Esp, ChildSpi(7));
    assert_eq!(rekey.child_spi(), Some(ChildSpi(7)));
    assert_eq!(MessageId(u32::MAX).next(), None);
    assert_eq!(MessageId(0).next(), Some(MessageId(1)));
}
