//! Traffic selectors (RFC 7296, section 3.13).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::{EmitError, Fault, ParseError, Place};
use crate::octets::{Reader, count8, patch_len};

const TS_IPV4_ADDR_RANGE: u8 = 7;
const TS_IPV6_ADDR_RANGE: u8 = 8;
const HEADER_LEN: usize = 4;

/// A range of ports, or of ICMP types and codes (type in the upper octet).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

impl PortRange {
    /// Every port, and packets that have none.
    pub const ANY: Self = Self {
        first: 0,
        last: 65_535,
    };
    /// Only packets whose ports cannot be seen, such as later fragments.
    pub const OPAQUE: Self = Self {
        first: 65_535,
        last: 0,
    };
}

/// Packets that a Child SA is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrafficSelector {
    /// A range of addresses.
    Range {
        /// The IP protocol; 0 is any.
        protocol: u8,
        /// Ports, where the protocol has them.
        ports: PortRange,
        /// The first address.
        first: IpAddr,
        /// The last address: of the same family, not below the first.
        last: IpAddr,
    },
    /// A type without a name here. No packet matches it.
    Other {
        /// Its number.
        kind: u8,
        /// Its second octet: the IP protocol, where the type has one.
        protocol: u8,
        /// What follows the length.
        data: Vec<u8>,
    },
}

impl TrafficSelector {
    /// Every IPv4 packet.
    #[must_use]
    pub const fn any_v4() -> Self {
        Self::Range {
            protocol: 0,
            ports: PortRange::ANY,
            first: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            last: IpAddr::V4(Ipv4Addr::BROADCAST),
        }
    }

    /// Every IPv6 packet.
    #[must_use]
    pub const fn any_v6() -> Self {
        Self::Range {
            protocol: 0,
            ports: PortRange::ANY,
            first: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            last: IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
        }
    }

    fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let mut inner = reader.structure(2, HEADER_LEN)?;
        let kind = inner.u8()?;
        let protocol = inner.u8()?;
        inner.take(2)?;
        if kind != TS_IPV4_ADDR_RANGE && kind != TS_IPV6_ADDR_RANGE {
            let data = inner.rest().to_vec();
            return Ok(Self::Other {
                kind,
                protocol,
                data,
            });
        }
        let here = inner.clone();
        let ports = PortRange {
            first: inner.u16()?,
            last: inner.u16()?,
        };
        let mut address = || -> Result<IpAddr, ParseError> {
            Ok(if kind == TS_IPV4_ADDR_RANGE {
                inner.array::<4>()?.into()
            } else {
                inner.array::<16>()?.into()
            })
        };
        let (first, last) = (address()?, address()?);
        if !inner.is_empty() {
            return Err(inner.error(Fault::Trailing(inner.left())));
        }
        let opaque = ports == PortRange::OPAQUE;
        if first > last || (ports.first > ports.last && !opaque) {
            return Err(here.error(Fault::Range));
        }
        Ok(Self::Range {
            protocol,
            ports,
            first,
            last,
        })
    }

    fn emit(&self, out: &mut Vec<u8>, place: Place) -> Result<(), EmitError> {
        let start = out.len();
        match self {
            Self::Other {
                kind,
                protocol,
                data,
            } => {
                out.extend_from_slice(&[*kind, *protocol, 0, 0]);
                out.extend_from_slice(data);
            }
            Self::Range {
                protocol,
                ports,
                first,
                last,
            } => {
                let kind = match first {
                    IpAddr::V4(_) => TS_IPV4_ADDR_RANGE,
                    IpAddr::V6(_) => TS_IPV6_ADDR_RANGE,
                };
                out.extend_from_slice(&[kind, *protocol, 0, 0]);
                out.extend_from_slice(&ports.first.to_be_bytes());
                out.extend_from_slice(&ports.last.to_be_bytes());
                for address in [first, last] {
                    match address {
                        IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
                        IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
                    }
                }
            }
        }
        patch_len(out, start, start + 2, place)
    }
}

/// As `10.0.0.0-10.0.0.255`, with `[protocol 6, ports 80-80]` behind it where it is not about all
/// packets.
impl fmt::Display for TrafficSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range {
                protocol,
                ports,
                first,
                last,
            } => {
                write!(f, "{first}-{last}")?;
                match (*protocol, *ports) {
                    (0, PortRange::ANY) => Ok(()),
                    (_, PortRange::ANY) => write!(f, "[protocol {protocol}]"),
                    (_, PortRange::OPAQUE) => write!(f, "[protocol {protocol}, opaque ports]"),
                    (_, PortRange { first, last }) => {
                        write!(f, "[protocol {protocol}, ports {first}-{last}]")
                    }
                }
            }
            Self::Other { kind, .. } => write!(f, "selector type {kind}"),
        }
    }
}

/// The selectors of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficSelectors(pub Vec<TrafficSelector>);

impl TrafficSelectors {
    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let here = reader.clone();
        let field = usize::from(reader.u8()?);
        reader.take(3)?;
        let mut selectors = Vec::new();
        while !reader.is_empty() && selectors.len() < field {
            selectors.push(TrafficSelector::parse(reader)?);
        }
        let found = selectors.len() + usize::from(!reader.is_empty());
        if field == 0 || field != found {
            return Err(here.error(Fault::Count { field, found }));
        }
        Ok(Self(selectors))
    }

    pub(crate) fn emit(&self, out: &mut Vec<u8>, place: Place) -> Result<(), EmitError> {
        let count = count8(self.0.len(), place)?;
        out.extend_from_slice(&[count, 0, 0, 0]);
        self.0
            .iter()
            .try_for_each(|selector| selector.emit(out, place))
    }
}
