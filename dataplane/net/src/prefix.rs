//! IP prefixes: an address and a length, with no bit set behind the length.
//!
//! Parsed, never corrected: `10.0.0.1/8` is an error, not `10.0.0.0/8`, because the author meant
//! either another address or another length (RFC 4632 3.1). A bare address means a host route.
//! In serde formats that humans read, a prefix is its string.

use std::fmt;
use std::net::{AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::parse::Family;

/// Why a prefix was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PrefixError {
    /// The part before the slash is not an address.
    #[error("`{0}` is not an IP address")]
    Address(String, #[source] AddrParseError),
    /// The part behind the slash is not a number.
    #[error("`{0}` is not a prefix length")]
    NotALength(String, #[source] ParseIntError),
    /// The length is longer than the address.
    #[error("prefix length {length} is above {maximum}")]
    TooLong {
        /// The length given.
        length: u8,
        /// 32 or 128.
        maximum: u8,
    },
    /// Bits behind the prefix length are set.
    #[error("host bits are set; did you mean {0}?")]
    HostBits(Prefix),
}

/// A prefix of either family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Prefix {
    /// IPv4.
    V4(Prefix4),
    /// IPv6.
    V6(Prefix6),
}

/// A prefix of one family: its address type, that as a number, and how many bits both have. A macro and
/// no generic type, so that all of it can be used in constants.
macro_rules! family {
    ($prefix:ident, $addr:ident, $number:ident, $variant:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $prefix {
            bits: $number,
            len: u8,
        }

        impl $prefix {
            /// Every address.
            pub const DEFAULT: Self = Self { bits: 0, len: 0 };

            /// The longest length: that of a host route.
            const MAX_LEN: u8 = $number::BITS as u8;

            /// The prefix `addr/len`.
            ///
            /// # Errors
            /// `len` longer than an address, or host bits set.
            pub const fn new(addr: $addr, len: u8) -> Result<Self, PrefixError> {
                if len > Self::MAX_LEN {
                    return Err(PrefixError::TooLong {
                        length: len,
                        maximum: Self::MAX_LEN,
                    });
                }
                let truncated = Self::containing(addr, len);
                if truncated.bits != addr.to_bits() {
                    return Err(PrefixError::HostBits(Prefix::$variant(truncated)));
                }
                Ok(truncated)
            }

            /// The prefix of length `len` (at most an address's) that contains `addr`.
            #[must_use]
            pub const fn containing(addr: $addr, len: u8) -> Self {
                let len = if len > Self::MAX_LEN {
                    Self::MAX_LEN
                } else {
                    len
                };
                Self {
                    bits: addr.to_bits() & Self::mask_of(len),
                    len,
                }
            }

            /// The host route to `addr`.
            #[must_use]
            pub const fn host(addr: $addr) -> Self {
                Self {
                    bits: addr.to_bits(),
                    len: Self::MAX_LEN,
                }
            }

            const fn mask_of(len: u8) -> $number {
                match $number::MAX.checked_shr(len as u32) {
                    Some(host) => !host,
                    None => $number::MAX,
                }
            }

            /// The lowest address, host byte order.
            #[must_use]
            pub const fn bits(self) -> $number {
                self.bits
            }

            /// The lowest address.
            #[must_use]
            pub const fn addr(self) -> $addr {
                $addr::from_bits(self.bits)
            }

            /// The highest address.
            #[must_use]
            pub const fn last(self) -> $addr {
                $addr::from_bits(self.bits | !Self::mask_of(self.len))
            }

            /// Prefix length, from 0 to the number of bits of an address.
            #[must_use]
            #[allow(
                clippy::len_without_is_empty,
                reason = "a prefix length, not a count of items"
            )]
            pub const fn len(self) -> u8 {
                self.len
            }

            /// Whether `addr` is inside.
            #[must_use]
            pub const fn contains(self, addr: $addr) -> bool {
                addr.to_bits() & Self::mask_of(self.len) == self.bits
            }

            /// Whether every address of `other` is inside.
            #[must_use]
            pub const fn covers(self, other: Self) -> bool {
                self.len <= other.len && self.contains(other.addr())
            }

            /// Whether the two share an address.
            #[must_use]
            pub const fn overlaps(self, other: Self) -> bool {
                self.covers(other) || other.covers(self)
            }
        }

        impl FromStr for $prefix {
            type Err = PrefixError;

            fn from_str(text: &str) -> Result<Self, PrefixError> {
                let (addr, len) = split(text, Self::MAX_LEN)?;
                Self::new(parse_addr(addr)?, len)
            }
        }

        impl From<$prefix> for Prefix {
            fn from(prefix: $prefix) -> Self {
                Self::$variant(prefix)
            }
        }
    };
}
family!(Prefix4, Ipv4Addr, u32, V4, "An IPv4 prefix.");
family!(Prefix6, Ipv6Addr, u128, V6, "An IPv6 prefix.");

impl Prefix {
    /// The prefix `addr/len`.
    ///
    /// # Errors
    /// `len` too long for the family, or host bits set.
    pub fn new(addr: IpAddr, len: u8) -> Result<Self, PrefixError> {
        match addr {
            IpAddr::V4(addr) => Prefix4::new(addr, len).map(Self::V4),
            IpAddr::V6(addr) => Prefix6::new(addr, len).map(Self::V6),
        }
    }

    /// The host route to `addr`.
    #[must_use]
    pub const fn host(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(addr) => Self::V4(Prefix4::host(addr)),
            IpAddr::V6(addr) => Self::V6(Prefix6::host(addr)),
        }
    }

    /// Address family.
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Self::V4(_) => Family::V4,
            Self::V6(_) => Family::V6,
        }
    }

    /// The lowest address.
    #[must_use]
    pub const fn addr(self) -> IpAddr {
        match self {
            Self::V4(prefix) => IpAddr::V4(prefix.addr()),
            Self::V6(prefix) => IpAddr::V6(prefix.addr()),
        }
    }

    /// The highest address.
    #[must_use]
    pub const fn last(self) -> IpAddr {
        match self {
            Self::V4(prefix) => IpAddr::V4(prefix.last()),
            Self::V6(prefix) => IpAddr::V6(prefix.last()),
        }
    }

    /// Prefix length.
    #[must_use]
    #[allow(
        clippy::len_without_is_empty,
        reason = "a prefix length, not a count of items"
    )]
    pub const fn len(self) -> u8 {
        match self {
            Self::V4(prefix) => prefix.len(),
            Self::V6(prefix) => prefix.len(),
        }
    }

    /// Whether `addr` is inside; never for the other family.
    #[must_use]
    pub const fn contains(self, addr: IpAddr) -> bool {
        match (self, addr) {
            (Self::V4(prefix), IpAddr::V4(addr)) => prefix.contains(addr),
            (Self::V6(prefix), IpAddr::V6(addr)) => prefix.contains(addr),
            _ => false,
        }
    }

    /// Whether every address of `other` is inside.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::V4(prefix), Self::V4(other)) => prefix.covers(other),
            (Self::V6(prefix), Self::V6(other)) => prefix.covers(other),
            _ => false,
        }
    }

    /// Whether the two share an address.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

/// Splits `text` at the slash; a missing length is `maximum`.
fn split(text: &str, maximum: u8) -> Result<(&str, u8), PrefixError> {
    match text.split_once('/') {
        None => Ok((text, maximum)),
        Some((addr, len)) => {
            // `u8::from_str` takes a sign, which no prefix length has.
            let digits = if len.starts_with('+') { "" } else { len };
            let len = digits
                .parse()
                .map_err(|source| PrefixError::NotALength(len.to_owned(), source))?;
            Ok((addr, len))
        }
    }
}

fn parse_addr<A: FromStr<Err = AddrParseError>>(text: &str) -> Result<A, PrefixError> {
    text.parse()
        .map_err(|source| PrefixError::Address(text.to_owned(), source))
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let maximum = if text.contains(':') { 128 } else { 32 };
        let (addr, len) = split(text, maximum)?;
        Self::new(parse_addr(addr)?, len)
    }
}

macro_rules! string_form {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.addr(), self.len())
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl TryFrom<String> for $type {
            type Error = PrefixError;
            fn try_from(text: String) -> Result<Self, PrefixError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(prefix: $type) -> Self {
                prefix.to_string()
            }
        }
    )*};
}
string_form!(Prefix4, Prefix6, Prefix);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_forms() {
        for (text, expected) in [
            ("10.0.0.0/8", Ok("10.0.0.0/8")),
            ("0.0.0.0/0", Ok("0.0.0.0/0")),
            ("192.0.2.1", Ok("192.0.2.1/32")),
            ("192.0.2.1/32", Ok("192.0.2.1/32")),
            ("::/0", Ok("::/0")),
            ("2001:db8::/32", Ok("2001:db8::/32")),
            ("2001:db8::1", Ok("2001:db8::1/128")),
            (
                "10.0.0.1/8",
                Err("host bits are set; did you mean 10.0.0.0/8?"),
            ),
            (
                "2001:db8::1/64",
                Err("host bits are set; did you mean 2001:db8::/64?"),
            ),
            ("10.0.0.0/33", Err("prefix length 33 is above 32")),
            ("::/129", Err("prefix length 129 is above 128")),
            ("10.0.0.0/", Err("`` is not a prefix length")),
            ("10.0.0.0/+8", Err("`+8` is not a prefix length")),
            ("10.0.0.0/-1", Err("`-1` is not a prefix length")),
            ("10.0.0/8", Err("`10.0.0` is not an IP address")),
            ("", Err("`` is not an IP address")),
        ] {
            let got = text
                .parse::<Prefix>()
                .map(|p| p.to_string())
                .map_err(|e| e.to_string());
            assert_eq!(
                got,
                expected.map(str::to_owned).map_err(str::to_owned),
                "{text}"
            );
        }
    }

    #[test]
    fn serde_uses_the_string() {
        let prefix: Prefix = serde_json::from_str("\"10.0.0.0/8\"").expect("valid");
        assert_eq!(
            serde_json::to_string(&prefix).expect("serialises"),
            "\"10.0.0.0/8\""
        );
        assert!(serde_json::from_str::<Prefix4>("\"10.0.0.1/8\"").is_err());
        assert!(serde_json::from_str::<Prefix6>("\"10.0.0.0/8\"").is_err());
    }

    #[test]
    fn covers_and_overlaps() {
        let p = |text: &str| text.parse::<Prefix>().expect("valid");
        assert!(p("10.0.0.0/8").covers(p("10.1.0.0/16")));
        assert!(!p("10.1.0.0/16").covers(p("10.0.0.0/8")));
        assert!(p("10.1.0.0/16").overlaps(p("10.0.0.0/8")));
        assert!(!p("10.1.0.0/16").overlaps(p("10.2.0.0/16")));
        assert!(!p("0.0.0.0/0").overlaps(p("::/0")));
        assert_eq!(p("10.1.0.0/16").last(), IpAddr::from([10, 1, 255, 255]));
    }

    proptest! {
        #[test]
        fn round_trip(bits: u128, len in 0u8..=128, v4: bool) {
            let prefix = if v4 {
                Prefix::from(Prefix4::containing(Ipv4Addr::from_bits(bits as u32), len))
            } else {
                Prefix::from(Prefix6::containing(Ipv6Addr::from_bits(bits), len))
            };
            prop_assert_eq!(prefix.to_string().parse::<Prefix>(), Ok(prefix));
            prop_assert!(prefix.contains(prefix.addr()));
            prop_assert!(prefix.contains(prefix.last()));
        }
    }
}
