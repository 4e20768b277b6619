//! A reader that knows where it is, and the few things a writer needs.

use crate::error::{EmitError, Fault, ParseError, Place};

/// Reads octets of one place of a message; every error names the place and the octet.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// Octet number of `rest[0]` in the whole.
    offset: usize,
    place: Place,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(place: Place, offset: usize, octets: &'a [u8]) -> Self {
        Self {
            rest: octets,
            offset,
            place,
        }
    }

    pub(crate) const fn left(&self) -> usize {
        self.rest.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) const fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) const fn error(&self, fault: Fault) -> ParseError {
        ParseError {
            place: self.place,
            offset: self.offset,
            fault,
        }
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], ParseError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.error(Fault::TooShort {
                needed: count,
                left: self.rest.len(),
            }));
        };
        self.rest = rest;
        self.offset += count;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, ParseError> {
        let [octet] = self.array()?;
        Ok(octet)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, ParseError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ParseError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, ParseError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        let rest = self.rest;
        self.offset += rest.len();
        self.rest = &[];
        rest
    }

    /// A reader over the structure that starts here, whose 16-bit length field stands `at` octets
    /// in, and counts the whole structure; `least` is the shortest there can be. This reader goes
    /// on behind it.
    pub(crate) fn structure(&mut self, at: usize, least: usize) -> Result<Self, ParseError> {
        let mut ahead = self.clone();
        ahead.take(at)?;
        let field = ahead.u16()?;
        let len = usize::from(field);
        if len < least || len > self.rest.len() {
            return Err(self.error(Fault::InnerLength {
                field,
                least,
                left: self.rest.len(),
            }));
        }
        let offset = self.offset;
        let octets = self.take(len)?;
        Ok(Self::new(self.place, offset, octets))
    }
}

/// A length as the 16-bit field that holds it.
pub(crate) fn len16(len: usize, place: Place) -> Result<u16, EmitError> {
    u16::try_from(len).map_err(|_| EmitError::TooLong {
        place,
        len,
        most: usize::from(u16::MAX),
    })
}

/// Writes the length of everything from `start` on into the 16-bit field at `field`.
pub(crate) fn patch_len(
    out: &mut [u8],
    start: usize,
    field: usize,
    place: Place,
) -> Result<(), EmitError> {
    let value = len16(out.len() - start, place)?;
    out[field..field + 2].copy_from_slice(&value.to_be_bytes());
    Ok(())
}

/// A count as the 8-bit field that holds it.
pub(crate) fn count8(count: usize, place: Place) -> Result<u8, EmitError> {
    u8::try_from(count).map_err(|_| EmitError::TooMany {
        place,
        count,
        most: usize::from(u8::MAX),
    })
}

/// A count as the 16-bit field that holds it.
pub(crate) fn count16(count: usize, place: Place) -> Result<u16, EmitError> {
    u16::try_from(count).map_err(|_| EmitError::TooMany {
        place,
        count,
        most: usize::from(u16::MAX),
    })
}
