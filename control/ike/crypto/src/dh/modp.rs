//! Modular exponentiation groups.
//!
//! The private exponent and everything computed from it go through crypto-bigint's constant-time
//! operations; only its length, which is public, shows in the time. Known limit: the library does
//! not wipe the window table of an exponentiation, which holds powers of a public value, not the
//! exponent.

use std::sync::OnceLock;

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd, Resize as _};
use zeroize::{Zeroize as _, Zeroizing};

use super::Group;
use super::modp_numbers as numbers;
use crate::random::Random;
use crate::secret::Secret;

/// The private exponent.
pub(super) struct Exponent(Zeroizing<BoxedUint>);

/// A group's numbers, in the form that exponentiation wants.
pub(super) struct Modp {
    params: BoxedMontyParams,
    generator: BoxedUint,
    /// The order of the generator's subgroup, where it is smaller than (p-1)/2.
    order: Option<BoxedUint>,
    /// Bits of a private exponent: of RFC 3526, section 8, the upper estimate; of RFC 5114 the
    /// order's.
    exponent_bits: u32,
}

/// As text: prime, generator, order.
struct Numbers {
    bits: u32,
    prime: &'static str,
    generator: Option<&'static str>,
    order: Option<&'static str>,
    exponent_bits: u32,
}

impl Numbers {
    /// A safe prime with the generator 2.
    const fn safe(bits: u32, prime: &'static str, exponent_bits: u32) -> Self {
        Self {
            bits,
            prime,
            generator: None,
            order: None,
            exponent_bits,
        }
    }

    const fn subgroup(
        bits: u32,
        prime: &'static str,
        generator: &'static str,
        order: &'static str,
        exponent_bits: u32,
    ) -> Self {
        Self {
            bits,
            prime,
            generator: Some(generator),
            order: Some(order),
            exponent_bits,
        }
    }

    /// The numbers and a place to keep them prepared.
    fn of(group: Group) -> Option<(Self, &'static OnceLock<Modp>)> {
        static PREPARED: [OnceLock<Modp>; 10] = [const { OnceLock::new() }; 10];
        use numbers as n;
        let (place, numbers) = match group {
            Group::Modp1024 => (0, Self::safe(1024, n::MODP_1024, 256)),
            Group::Modp1536 => (1, Self::safe(1536, n::MODP_1536, 256)),
            Group::Modp2048 => (2, Self::safe(2048, n::MODP_2048, 320)),
            Group::Modp3072 => (3, Self::safe(3072, n::MODP_3072, 420)),
            Group::Modp4096 => (4, Self::safe(4096, n::MODP_4096, 480)),
            Group::Modp6144 => (5, Self::safe(6144, n::MODP_6144, 540)),
            Group::Modp8192 => (6, Self::safe(8192, n::MODP_8192, 620)),
            Group::Modp1024s160 => (
                7,
                Self::subgroup(
                    1024,
                    n::MODP_1024_160,
                    n::MODP_1024_160_GENERATOR,
                    n::MODP_1024_160_ORDER,
                    160,
                ),
            ),
            Group::Modp2048s224 => (
                8,
                Self::subgroup(
                    2048,
                    n::MODP_2048_224,
                    n::MODP_2048_224_GENERATOR,
                    n::MODP_2048_224_ORDER,
                    224,
                ),
            ),
            Group::Modp2048s256 => (
                9,
                Self::subgroup(
                    2048,
                    n::MODP_2048_256,
                    n::MODP_2048_256_GENERATOR,
                    n::MODP_2048_256_ORDER,
                    256,
                ),
            ),
            Group::Ecp256 | Group::Ecp384 | Group::Ecp521 | Group::X25519 => return None,
        };
        Some((numbers, &PREPARED[place]))
    }

    fn prepare(&self) -> Modp {
        let number = |hex: &str, bits: u32| {
            let number = BoxedUint::from_str_radix_with_precision_vartime(hex, 16, bits);
            number.expect("a constant in hexadecimal")
        };
        let prime = number(self.prime, self.bits);
        let prime: Odd<BoxedUint> = prime.into_odd().into_option().expect("a prime is odd");
        let generator = match self.generator {
            Some(hex) => number(hex, self.bits),
            None => BoxedUint::from(2u8).resize(self.bits),
        };
        Modp {
            params: BoxedMontyParams::new_vartime(prime),
            generator,
            order: self.order.map(|hex| number(hex, self.exponent_bits)),
            exponent_bits: self.exponent_bits,
        }
    }
}

impl Modp {
    /// The numbers of a group, `None` where it is on a curve.
    pub(super) fn of(group: Group) -> Option<&'static Self> {
        let (numbers, place) = Numbers::of(group)?;
        Some(place.get_or_init(|| numbers.prepare()))
    }

    /// A private exponent: below the subgroup's order where the group has one.
    pub(super) fn exponent(&self, random: &mut dyn Random) -> Exponent {
        let octets = self.exponent_bits.div_ceil(8) as usize;
        let spare = octets as u32 * 8 - self.exponent_bits;
        loop {
            let mut drawn = Zeroizing::new(vec![0; octets]);
            random.fill(&mut drawn);
            drawn[0] &= 0xff >> spare;
            let Ok(exponent) = BoxedUint::from_be_slice(&drawn, octets as u32 * 8) else {
                continue;
            };
            let exponent = Zeroizing::new(exponent);
            // What is thrown away tells nothing about what is kept.
            let fits = self.order.as_ref().is_none_or(|order| *exponent < *order);
            if fits && *exponent > BoxedUint::one() {
                return Exponent(exponent);
            }
        }
    }

    pub(super) fn public(&self, exponent: &Exponent) -> Vec<u8> {
        self.power(&self.generator, &exponent.0).expose().to_vec()
    }

    /// The shared secret; `None` of a public value that RFC 6989, sections 2.1 and 2.2, refuses:
    /// not above 1 and below p-1, or outside the subgroup.
    pub(super) fn agree(&self, exponent: &Exponent, peer: &[u8]) -> Option<Secret> {
        let modulus: &BoxedUint = self.params.modulus().as_ref();
        let peer = BoxedUint::from_be_slice(peer, modulus.bits_precision()).ok()?;
        let one = BoxedUint::one_with_precision(modulus.bits_precision());
        let top = modulus.wrapping_sub(&one);
        if peer <= one || peer >= top {
            return None;
        }
        if let Some(order) = &self.order {
            let power = self.power(&peer, order);
            let (last, others) = power.expose().split_last()?;
            if *last != 1 || others.iter().any(|octet| *octet != 0) {
                return None;
            }
        }
        Some(self.power(&peer, &exponent.0))
    }

    /// `base` to the power of `exponent`, padded to the prime's length.
    fn power(&self, base: &BoxedUint, exponent: &BoxedUint) -> Secret {
        let base = BoxedMontyForm::new(base.clone(), &self.params);
        let mut power = base.pow_bounded_exp(exponent, self.exponent_bits);
        let mut number = power.retrieve();
        power.as_montgomery_mut().zeroize();
        let octets = Zeroizing::new(number.to_be_bytes());
        number.zeroize();
        Secret::new(octets.to_vec())
    }
}

#[cfg(test)]
impl Modp {
    pub(super) fn prime(&self) -> BoxedUint {
        self.params.modulus().as_ref().clone()
    }

    pub(super) fn order(&self) -> Option<BoxedUint> {
        self.order.clone()
    }

    pub(super) fn generator_octets(&self) -> Vec<u8> {
        self.generator.to_be_bytes().to_vec()
    }

    pub(super) fn is_in_subgroup(&self, octets: &[u8]) -> bool {
        self.agree(&self.exponent_of(&[2]), octets).is_some()
    }

    pub(super) fn exponent_of(&self, octets: &[u8]) -> Exponent {
        let bits = self.exponent_bits.next_multiple_of(8);
        let exponent = BoxedUint::from_be_slice(octets, bits).expect("a short exponent");
        Exponent(Zeroizing::new(exponent))
    }
}
