//! A whole message: header, payloads in clear, and the body of an Encrypted payload.

use crate::error::{EmitError, Fault, ParseError, Place};
use crate::header::{HEADER_LEN, Header};
use crate::octets::{Reader, len16};
use crate::payload::PayloadType;
use crate::payloads::{Payloads, take_framed};

/// The longest message that is parsed or written.
///
/// Unit: octets. No UDP datagram can be longer, whatever the header's 32-bit length could say.
pub const MAX_MESSAGE_LEN: usize = 65_535;

/// Which fragment of a message this is (RFC 7383, section 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentNumber {
    /// From 1.
    pub number: u16,
    /// How many the message has; not below `number`.
    pub total: u16,
}

/// The body of an Encrypted (SK) or Encrypted Fragment (SKF) payload, still closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protected {
    /// The type of the first payload inside. Of fragments, only the first one tells it.
    pub first: PayloadType,
    /// Which fragment it is; `None` for an SK payload.
    pub fragment: Option<FragmentNumber>,
    /// Octets of the datagram before the body: what an AEAD authenticates besides (RFC 5282,
    /// section 5.1).
    pub offset: usize,
    /// Initialization vector, ciphertext and integrity check value.
    pub body: Vec<u8>,
}

/// A message as it is on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The header.
    pub header: Header,
    /// The payloads in clear: of IKE_SA_INIT all of them, else normally none.
    pub payloads: Payloads,
    /// The Encrypted payload, always the last.
    pub protected: Option<Protected>,
}

impl Message {
    /// A message in clear.
    #[must_use]
    pub const fn new(header: Header, payloads: Payloads) -> Self {
        Self {
            header,
            payloads,
            protected: None,
        }
    }

    /// Parses a datagram (of port 4500 without the four zero octets before it).
    ///
    /// # Errors
    /// Where the octets are no IKEv2 message.
    pub fn parse(datagram: &[u8]) -> Result<Self, ParseError> {
        let (header, first) = Header::parse_with_first(datagram)?;
        let mut reader = Reader::new(Place::Header, 0, datagram);
        if datagram.len() > MAX_MESSAGE_LEN {
            return Err(reader.error(Fault::ValueLength {
                got: datagram.len(),
                least: HEADER_LEN,
                most: MAX_MESSAGE_LEN,
            }));
        }
        reader.take(HEADER_LEN)?;

        let mut payloads = Payloads::new();
        let mut protected = None;
        let mut kind = first;
        while kind != PayloadType::NoNext {
            let start = reader.offset();
            let framed = take_framed(&mut reader, kind)?;
            if matches!(kind, PayloadType::Sk | PayloadType::Skf) {
                if !reader.is_empty() {
                    let here = Reader::new(Place::Payload(kind), start, &[]);
                    return Err(here.error(Fault::Protected));
                }
                let body = Reader::new(Place::Payload(kind), framed.offset, framed.body);
                protected = Some(parse_protected(kind, framed.next, body)?);
                break;
            }
            payloads.accept(kind, start, &framed)?;
            kind = framed.next;
        }
        if !reader.is_empty() {
            let end = Reader::new(Place::Payload(kind), reader.offset(), &[]);
            return Err(end.error(Fault::Trailing(reader.left())));
        }
        Ok(Self {
            header,
            payloads,
            protected,
        })
    }

    /// The octets of the message.
    ///
    /// # Errors
    /// What is longer, or has more elements, than its fields can say.
    pub fn emit(&self) -> Result<Vec<u8>, EmitError> {
        if let Some(protected) = &self.protected {
            let mut out = emit_protected_prefix(
                &self.header,
                &self.payloads,
                protected.first,
                protected.fragment,
                protected.body.len(),
            )?;
            out.extend_from_slice(&protected.body);
            return Ok(out);
        }
        let mut out = vec![0; HEADER_LEN];
        let first = self.payloads.emit_before(PayloadType::NoNext, &mut out)?;
        let length = check_length(out.len())?;
        out[..HEADER_LEN].copy_from_slice(&self.header.emit(first, length));
        Ok(out)
    }
}

fn parse_protected(
    kind: PayloadType,
    first: PayloadType,
    mut body: Reader<'_>,
) -> Result<Protected, ParseError> {
    let mut fragment = None;
    if kind == PayloadType::Skf {
        let here = body.clone();
        let (number, total) = (body.u16()?, body.u16()?);
        if number == 0 || number > total {
            return Err(here.error(Fault::FragmentNumber { number, total }));
        }
        fragment = Some(FragmentNumber { number, total });
    }
    Ok(Protected {
        first,
        fragment,
        offset: body.offset(),
        body: body.rest().to_vec(),
    })
}

/// The octets of a message up to the body of its Encrypted payload, with the lengths that a body
/// of `body_len` octets makes; the caller appends the body. These octets are what an AEAD
/// authenticates besides the body, and where the integrity check of other ciphers begins.
///
/// With `fragment` it is an Encrypted Fragment payload; then `first` is
/// [`PayloadType::NoNext`] in all fragments but the first (RFC 7383, section 2.5).
///
/// # Errors
/// A message that is longer than its fields can say.
pub fn emit_protected_prefix(
    header: &Header,
    outer: &Payloads,
    first: PayloadType,
    fragment: Option<FragmentNumber>,
    body_len: usize,
) -> Result<Vec<u8>, EmitError> {
    let kind = match fragment {
        None => PayloadType::Sk,
        Some(_) => PayloadType::Skf,
    };
    let mut out = vec![0; HEADER_LEN];
    let outer_first = outer.emit_before(kind, &mut out)?;
    let start = out.len();
    out.extend_from_slice(&[first.into(), 0, 0, 0]);
    if let Some(FragmentNumber { number, total }) = fragment {
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&total.to_be_bytes());
    }
    let prefix = out.len();
    let length = check_length(prefix + body_len)?;
    let payload_len = len16(prefix - start + body_len, Place::Payload(kind))?;
    out[start + 2..start + 4].copy_from_slice(&payload_len.to_be_bytes());
    out.reserve_exact(body_len);
    out[..HEADER_LEN].copy_from_slice(&header.emit(outer_first, length));
    Ok(out)
}

/// A message's length as its field says it.
fn check_length(len: usize) -> Result<u32, EmitError> {
    u32::try_from(len)
        .ok()
        .filter(|_| len <= MAX_MESSAGE_LEN)
        .ok_or(EmitError::TooLong {
            place: Place::Header,
            len,
            most: MAX_MESSAGE_LEN,
        })
}
