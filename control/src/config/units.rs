//! Values with a textual form of their own: bandwidths, Ethernet addresses, destinations, SPIs.

use std::{fmt, str::FromStr};

use hawser_api::Spi;
use ipnet::IpNet;

/// Bits per second: `"1.25Gbps"`, `"800 Mbps"`, `"64kbps"`, `"1000bps"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bandwidth(pub u64);

/// Why a text is no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(&'static str);

impl FromStr for Bandwidth {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let text = text.trim();
        let split = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let factor = match unit.trim().to_ascii_lowercase().as_str() {
            "bps" | "bit/s" => 1,
            "kbps" | "kbit/s" => 1_000,
            "mbps" | "mbit/s" => 1_000_000,
            "gbps" | "gbit/s" => 1_000_000_000_u64,
            "" => return Err(UnitError("the unit is missing")),
            _ => return Err(UnitError("the unit is not bps, kbps, Mbps or Gbps")),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || fraction.len() > 9 || fraction.contains('.') {
            return Err(UnitError("the number is not a decimal number"));
        }
        let whole: u64 = whole
            .parse()
            .map_err(|_| UnitError("the number is too large"))?;
        // The fraction as billionths, so that no rounding of binary fractions comes in.
        let billionths: u64 = format!("{fraction:0<9}").parse().unwrap_or(0);
        let bits = u128::from(whole) * u128::from(factor)
            + u128::from(billionths) * u128::from(factor) / 1_000_000_000;
        match u64::try_from(bits) {
            Ok(0) => Err(UnitError("it is zero; leave the key out for no limit")),
            Ok(bits) => Ok(Self(bits)),
            Err(_) => Err(UnitError("the number is too large")),
        }
    }
}

/// An Ethernet address: `02:00:00:00:00:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        const WRONG: UnitError = UnitError("it is not six pairs of hexadecimal digits");
        let mut mac = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut mac {
            let part = parts.next().filter(|p| p.len() == 2).ok_or(WRONG)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| WRONG)?;
        }
        if parts.next().is_some() {
            return Err(WRONG);
        }
        if mac[0] & 1 == 1 {
            return Err(UnitError(
                "it is a group address, not that of one neighbour",
            ));
        }
        Ok(Self(mac))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A destination: a network, a single address, or `default` (`0.0.0.0/0`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Destination(pub(super) IpNet);

/// Why a text is no destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DestinationError {
    /// Not a network at all.
    #[error("it is not a network")]
    NotANetwork,
    /// Bits to the right of the mask are set.
    #[error("bits to the right of the prefix length are set; the network is {0}")]
    HostBits(IpNet),
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let text = if text == "default" { "0.0.0.0/0" } else { text };
        let net: IpNet = match text.parse::<IpNet>() {
            Ok(net) => net,
            Err(_) => IpNet::from(
                text.parse::<std::net::IpAddr>()
                    .map_err(|_| DestinationError::NotANetwork)?,
            ),
        };
        if net.trunc() != net {
            return Err(DestinationError::HostBits(net.trunc()));
        }
        Ok(Self(net))
    }
}

/// An SPI: `0x1001` or `4097`, from 256 up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpiText(pub Spi);

impl FromStr for SpiText {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(hex) => u32::from_str_radix(&hex.replace('_', ""), 16),
            None => text.parse(),
        };
        let number = number.map_err(|_| UnitError("it is not a number of 32 bits"))?;
        if number < Spi::FIRST_USABLE {
            return Err(UnitError(
                "SPIs from 0 to 255 are reserved (RFC 4303, section 2.1)",
            ));
        }
        Ok(Self(Spi(number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidths() {
        let cases = [
            ("1.25Gbps", Ok(1_250_000_000)),
            ("800 Mbps", Ok(800_000_000)),
            ("64kbit/s", Ok(64_000)),
            ("9bps", Ok(9)),
            ("0.000000001Gbps", Ok(1)),
            ("1.25", Err("the unit is missing")),
            ("1.2.3Gbps", Err("the number is not a decimal number")),
            ("0Gbps", Err("it is zero; leave the key out for no limit")),
            ("99999999999Gbps", Err("the number is too large")),
            ("3 furlongs", Err("the unit is not bps, kbps, Mbps or Gbps")),
            ("", Err("the unit is missing")),
        ];
        for (text, expected) in cases {
            let got = text.parse::<Bandwidth>().map(|b| b.0).map_err(|e| e.0);
            assert_eq!(got, expected, "{text}");
        }
    }

    #[test]
    fn destinations() {
        assert_eq!(
            "10.0.0.0/8".parse(),
            Ok(Destination("10.0.0.0/8".parse().unwrap()))
        );
        assert_eq!(
            "10.0.0.1".parse(),
            Ok(Destination("10.0.0.1/32".parse().unwrap()))
        );
        assert_eq!(
            "default".parse(),
            Ok(Destination("0.0.0.0/0".parse().unwrap()))
        );
        assert_eq!("::/0".parse(), Ok(Destination("::/0".parse().unwrap())));
        assert_eq!(
            "10.0.0.1/8".parse::<Destination>(),
            Err(DestinationError::HostBits("10.0.0.0/8".parse().unwrap()))
        );
        assert_eq!(
            "10/8".parse::<Destination>(),
            Err(DestinationError::NotANetwork)
        );
    }

    #[test]
    fn spis_and_macs() {
        assert_eq!("0x1001".parse(), Ok(SpiText(Spi(4097))));
        assert_eq!("256".parse(), Ok(SpiText(Spi(256))));
        assert!("255".parse::<SpiText>().is_err());
        assert!("0x1_0000_0000".parse::<SpiText>().is_err());
        assert_eq!("02:00:00:00:00:01".parse(), Ok(Mac([2, 0, 0, 0, 0, 1])));
        assert!("01:00:5e:00:00:01".parse::<Mac>().is_err());
        assert!("02:00:00:00:00".parse::<Mac>().is_err());
        assert!("02:00:00:00:00:01:02".parse::<Mac>().is_err());
    }
}
