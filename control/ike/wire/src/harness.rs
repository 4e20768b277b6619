//! One function per parser, for property tests and fuzz targets alike: each takes any octets, must
//! not panic, and checks what the parser promises about its result.
//!
//! Not part of the product: behind the feature `harness`.

#![allow(
    clippy::missing_panics_doc,
    reason = "to panic is how a harness reports a fault"
)]

use crate::{
    HEADER_LEN, Header, MAX_PAYLOADS, Message, ParseError, Payload, PayloadType, Payloads,
};

/// [`Message::parse`] on a datagram, as it is and with its version, length and initiator's SPI made
/// right: random octets hardly ever get past them.
pub fn message(datagram: &[u8]) {
    check_message(datagram);
    let mut repaired = datagram.to_vec();
    if repaired.len() >= HEADER_LEN {
        repaired[0] |= 1;
        repaired[17] = 0x20;
        let length = u32::try_from(repaired.len()).expect("a test's datagram");
        repaired[24..28].copy_from_slice(&length.to_be_bytes());
        check_message(&repaired);
    }
}

/// [`Payloads::parse`] on the octets behind the first, which is the first payload's type.
pub fn payloads(data: &[u8]) {
    let Some((&first, octets)) = data.split_first() else {
        return;
    };
    check_payloads(first.into(), octets);
}

/// [`Payloads::parse`] of one payload whose generic header is right: the first octet is its type,
/// the others are its content.
pub fn payload(data: &[u8]) {
    let Some((&kind, body)) = data.split_first() else {
        return;
    };
    let Ok(length) = u16::try_from(body.len() + 4) else {
        return;
    };
    let octets = [&[0, 0], &length.to_be_bytes()[..], body].concat();
    check_payloads(kind.into(), &octets);
}

fn check_message(datagram: &[u8]) {
    let message = match Message::parse(datagram) {
        Ok(message) => message,
        Err(error) => return check_error(&error, datagram),
    };
    assert_eq!(Header::parse(datagram), Ok(message.header));
    assert!(message.payloads.len() <= MAX_PAYLOADS);
    if let Some(protected) = &message.protected {
        assert_eq!(datagram[protected.offset..], protected.body);
        if let Some(fragment) = protected.fragment {
            assert!((1..=fragment.total).contains(&fragment.number));
        }
    }
    check_size(&message.payloads, datagram.len());
    let emitted = message.emit().expect("what was parsed can be written");
    assert!(emitted.len() <= datagram.len());
    assert_eq!(Message::parse(&emitted).as_ref(), Ok(&message));
}

fn check_payloads(first: PayloadType, octets: &[u8]) {
    let payloads = match Payloads::parse(first, octets) {
        Ok(payloads) => payloads,
        Err(error) => return check_error(&error, octets),
    };
    assert!(payloads.len() <= MAX_PAYLOADS);
    check_size(&payloads, octets.len());
    let (again, emitted) = payloads.emit().expect("what was parsed can be written");
    assert_eq!(again, first);
    assert_eq!(emitted.len(), octets.len());
    assert_eq!(Payloads::parse(first, &emitted), Ok(payloads));
}

fn check_error(error: &ParseError, octets: &[u8]) {
    assert!(error.offset <= octets.len());
    assert!(!error.to_string().is_empty());
}

/// What lists hold came from the octets: no length field made an element out of nothing.
fn check_size(payloads: &Payloads, octets: usize) {
    let elements: usize = payloads
        .iter()
        .map(|payload| match payload {
            Payload::Sa(sa) => sa
                .proposals
                .iter()
                .map(|proposal| {
                    let attributes = proposal
                        .transforms
                        .iter()
                        .map(|t| 8 + 4 * t.other_attributes.len());
                    8 + attributes.sum::<usize>()
                })
                .sum(),
            Payload::TsInitiator(selectors) | Payload::TsResponder(selectors) => {
                4 * selectors.0.len()
            }
            Payload::Delete(crate::Delete::Children { spis, .. }) => 4 * spis.len(),
            Payload::Configuration(configuration) => 4 * configuration.attributes.len(),
            _ => 0,
        })
        .sum();
    assert!(elements <= octets);
    // Everything that logs print must be printable.
    for payload in payloads.iter() {
        match payload {
            Payload::Sa(sa) => sa.proposals.iter().for_each(|p| {
                let _ = p.to_string();
            }),
            Payload::IdInitiator(id) | Payload::IdResponder(id) => {
                let text = id.identity().to_string();
                assert!(!text.contains(char::is_control));
            }
            Payload::TsInitiator(selectors) | Payload::TsResponder(selectors) => {
                selectors.0.iter().for_each(|s| {
                    let _ = s.to_string();
                });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
