//! The groups' numbers, known answers, and public values that must be refused.

use crypto_bigint::{BoxedUint, Resize as _};

use super::*;
use crate::SystemRandom;
use crate::vectors::{Fixed, hex, records};

const MODP: [(Group, u32, u32); 7] = [
    // RFC 2409, section 6.2; RFC 3526, sections 2 to 7: bits, and what is added to the digits of pi.
    (Group::Modp1024, 1024, 129_093),
    (Group::Modp1536, 1536, 741_804),
    (Group::Modp2048, 2048, 124_476),
    (Group::Modp3072, 3072, 1_690_314),
    (Group::Modp4096, 4096, 240_904),
    (Group::Modp6144, 6144, 929_484),
    (Group::Modp8192, 8192, 4_743_158),
];

const SUBGROUPS: [Group; 3] = [
    Group::Modp1024s160,
    Group::Modp2048s224,
    Group::Modp2048s256,
];

fn prime(group: Group) -> BoxedUint {
    modp::Modp::of(group).unwrap().prime()
}

/// Of pi, `2^bits` times, rounded down but for an error in the last 64 bits: Machin's formula,
/// pi = 16 arctan(1/5) - 4 arctan(1/239).
fn pi(bits: u32) -> BoxedUint {
    let precision = bits + 64;
    let divide = |a: &BoxedUint, by: u64| {
        let by = BoxedUint::from(by).resize(precision);
        a.div_rem_vartime(by.as_nz_vartime().unwrap()).0
    };
    let arctan_of_inverse = |x: u64| {
        let one = BoxedUint::one_with_precision(precision).shl(bits);
        let mut power = divide(&one, x);
        let mut sum = power.clone();
        for (index, odd) in (3u64..).step_by(2).enumerate() {
            power = divide(&power, x * x);
            if power.is_zero().to_bool() {
                break;
            }
            let term = divide(&power, odd);
            sum = if index % 2 == 0 {
                sum.wrapping_sub(&term)
            } else {
                sum.wrapping_add(&term)
            };
        }
        sum
    };
    let sixteen = arctan_of_inverse(5).shl(4);
    sixteen.wrapping_sub(arctan_of_inverse(239).shl(2))
}

#[test]
fn primes_follow_from_the_digits_of_pi() {
    // As many digits as the largest prime needs, and some for the error of the series.
    let guard = 128;
    let digits = pi(8192 + guard);
    for (group, bits, added) in MODP {
        let precision = digits.bits_precision();
        let power = |n: u32| BoxedUint::one_with_precision(precision).shl(n);
        let middle = digits
            .shr(8192 + guard - (bits - 130))
            .wrapping_add(BoxedUint::from(added).resize(precision));
        let expected = power(bits)
            .wrapping_sub(power(bits - 64))
            .wrapping_sub(power(0))
            .wrapping_add(middle.shl(64));
        assert_eq!(prime(group).resize(precision), expected, "{group}");
    }
}

/// Fermat's test with a few bases, which a wrong digit does not pass.
fn is_probably_prime(number: &BoxedUint) -> bool {
    let odd = number.clone().into_odd().into_option().expect("odd");
    let params = crypto_bigint::modular::BoxedMontyParams::new_vartime(odd);
    let one = BoxedUint::one_with_precision(number.bits_precision());
    [2u8, 3, 5].into_iter().all(|base| {
        let base = BoxedUint::from(base).resize(number.bits_precision());
        let base = crypto_bigint::modular::BoxedMontyForm::new(base, &params);
        base.pow(&number.wrapping_sub(&one)).retrieve() == one
    })
}

/// RFC 5114, section 2: what its numbers must fulfil.
#[test]
fn subgroups_are_what_they_say() {
    for group in SUBGROUPS {
        let modp = modp::Modp::of(group).unwrap();
        let (prime, order) = (modp.prime(), modp.order().unwrap());
        assert!(
            is_probably_prime(&prime) && is_probably_prime(&order),
            "{group}"
        );
        // The generator's order is the prime `order`: it is not 1, its power is.
        let generator = modp.generator_octets();
        assert!(modp.is_in_subgroup(&generator), "{group}");
        assert!(
            generator[..generator.len() - 1]
                .iter()
                .any(|octet| *octet != 0)
        );
        // One more is in no subgroup.
        let mut other = generator.clone();
        *other.last_mut().unwrap() ^= 1;
        assert!(!modp.is_in_subgroup(&other), "{group}");
    }
}

#[test]
fn another_implementation_agrees() {
    let mut seen = 0;
    for record in records("group") {
        let group: Group = record.text("group").parse().unwrap();
        let modp = modp::Modp::of(group).unwrap();
        let [a, b] = ["a", "b"].map(|name| modp.exponent_of(&record.octets(name)));
        assert_eq!(modp.public(&a), record.octets("public_a"), "{group}");
        assert_eq!(modp.public(&b), record.octets("public_b"), "{group}");
        let shared = modp.agree(&a, &record.octets("public_b")).unwrap();
        assert_eq!(shared.expose(), record.octets("shared"), "{group}");
        let shared = modp.agree(&b, &record.octets("public_a")).unwrap();
        assert_eq!(shared.expose(), record.octets("shared"), "{group}");
        seen += 1;
    }
    assert_eq!(seen, MODP.len() + SUBGROUPS.len());
}

/// RFC 5903, section 8, and RFC 7748, section 6.1.
#[test]
fn curves_give_the_published_answers() {
    for (group, initiator, public_initiator, responder, public_responder, shared) in [
        (
            Group::Ecp256,
            "C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433",
            "DAD0B65394221CF9B051E1FECA5787D098DFE637FC90B9EF945D0C3772581180
             5271A0461CDB8252D61F1C456FA3E59AB1F45B33ACCF5F58389E0577B8990BB3",
            "C6EF9C5D78AE012A011164ACB397CE2088685D8F06BF9BE0B283AB46476BEE53",
            "D12DFB5289C8D4F81208B70270398C342296970A0BCCB74C736FC7554494BF63
             56FBF3CA366CC23E8157854C13C58D6AAC23F046ADA30F8353E74F33039872AB",
            "D6840F6B42F6EDAFD13116E0E12565202FEF8E9ECE7DCE03812464D04B9442DE",
        ),
        (
            Group::Ecp384,
            "099F3C7034D4A2C699884D73A375A67F7624EF7C6B3C0F160647B67414DCE655
             E35B538041E649EE3FAEF896783AB194",
            "667842D7D180AC2CDE6F74F37551F55755C7645C20EF73E31634FE72B4C55EE6
             DE3AC808ACB4BDB4C88732AEE95F41AA
             9482ED1FC0EEB9CAFC4984625CCFC23F65032149E0E144ADA024181535A0F38E
             EB9FCFF3C2C947DAE69B4C634573A81C",
            "41CB0779B4BDB85D47846725FBEC3C9430FAB46CC8DC5060855CC9BDA0AA2942
             E0308312916B8ED2960E4BD55A7448FC",
            "E558DBEF53EECDE3D3FCCFC1AEA08A89A987475D12FD950D83CFA41732BC509D
             0D1AC43A0336DEF96FDA41D0774A3571
             DCFBEC7AACF3196472169E838430367F66EEBE3C6E70C416DD5F0C68759DD1FF
             F83FA40142209DFF5EAAD96DB9E6386C",
            "11187331C279962D93D604243FD592CB9D0A926F422E47187521287E7156C5C4
             D603135569B9E9D09CF5D4A270F59746",
        ),
        (
            Group::Ecp521,
            "0037ADE9319A89F4DABDB3EF411AACCCA5123C61ACAB57B5393DCE47608172A0
             95AA85A30FE1C2952C6771D937BA9777F5957B2639BAB072462F68C27A57382D
             4A52",
            "0015417E84DBF28C0AD3C278713349DC7DF153C897A1891BD98BAB4357C9ECBE
             E1E3BF42E00B8E380AEAE57C2D107564941885942AF5A7F4601723C4195D176C
             ED3E
             017CAE20B6641D2EEB695786D8C946146239D099E18E1D5A514C739D7CB4A10A
             D8A788015AC405D7799DC75E7B7D5B6CF2261A6A7F1507438BF01BEB6CA3926F
             9582",
            "0145BA99A847AF43793FDD0E872E7CDFA16BE30FDC780F97BCCC3F078380201E
             9C677D600B343757A3BDBF2A3163E4C2F869CCA7458AA4A4EFFC311F5CB15168
             5EB9",
            "00D0B3975AC4B799F5BEA16D5E13E9AF971D5E9B984C9F39728B5E5739735A21
             9B97C356436ADC6E95BB0352F6BE64A6C2912D4EF2D0433CED2B6171640012D9
             460F
             015C68226383956E3BD066E797B623C27CE0EAC2F551A10C2C724D9852077B87
             220B6536C5C408A1D2AEBB8E86D678AE49CB57091F4732296579AB44FCD17F0F
             C56A",
            "01144C7D79AE6956BC8EDB8E7C787C4521CB086FA64407F97894E5E6B2D79B04
             D1427E73CA4BAA240A34786859810C06B3C715A3A8CC3151F2BEE417996D19F3
             DDEA",
        ),
        (
            Group::X25519,
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
        ),
    ] {
        let sides = [(initiator, public_responder), (responder, public_initiator)];
        let ours = [public_initiator, public_responder];
        for ((private, theirs), ours) in sides.into_iter().zip(ours) {
            let (private, public) = ec::from_private(group, &hex(private)).unwrap();
            assert_eq!(public, hex(ours), "{group}");
            let secret = ec::agree(group, &private, &hex(theirs)).unwrap();
            assert_eq!(secret.expose(), hex(shared), "{group}");
        }
    }
}

#[test]
fn both_sides_agree_in_every_group() {
    for group in Group::ALL {
        let [one, two] = [(); 2].map(|()| KeyExchange::generate(*group, &mut SystemRandom));
        assert_eq!(one.public().len(), group.public_len());
        assert_ne!(one.public(), two.public());
        let (public_one, public_two) = (one.public().to_vec(), two.public().to_vec());
        let (a, b) = (
            one.agree(&public_two).unwrap(),
            two.agree(&public_one).unwrap(),
        );
        assert_eq!(a, b, "{group}");
        assert_eq!(Group::from_number(group.number()), Some(*group));
        assert_eq!(Group::from_transform(&group.transform()), Some(*group));
        assert_eq!(group.name().parse(), Ok(*group));
    }
}

#[test]
fn keys_follow_from_the_source_of_randomness() {
    for group in Group::ALL {
        // Below every order and every curve's size.
        let make = |octet| KeyExchange::generate(*group, &mut Fixed(vec![octet]));
        assert_eq!(make(0x3a).public(), make(0x3a).public(), "{group}");
        assert_ne!(make(0x3a).public(), make(0x3b).public(), "{group}");
    }
}

fn refused(group: Group, peer: &[u8]) -> KeyExchangeError {
    let key = KeyExchange::generate(group, &mut SystemRandom);
    key.agree(peer).expect_err("refused")
}

/// RFC 6989, section 2.1.
#[test]
fn public_values_at_the_edges_of_a_modulus_are_refused() {
    for group in MODP.map(|(group, ..)| group).into_iter().chain(SUBGROUPS) {
        let len = group.public_len();
        let small = |value: u8| [&vec![0; len - 1][..], &[value]].concat();
        let prime = prime(group);
        let minus_one = prime.wrapping_sub(BoxedUint::one_with_precision(prime.bits_precision()));
        for peer in [
            small(0),
            small(1),
            minus_one.to_be_bytes().to_vec(),
            prime.to_be_bytes().to_vec(),
            vec![0xff; len],
        ] {
            assert_eq!(refused(group, &peer), KeyExchangeError::Invalid(group));
        }
    }
}

/// RFC 6989, section 2.2: an element outside the subgroup would tell bits of the exponent.
#[test]
fn elements_outside_a_small_subgroup_are_refused() {
    for group in SUBGROUPS {
        // 2 has another order in all three groups.
        let mut two = vec![0; group.public_len()];
        *two.last_mut().unwrap() = 2;
        assert_eq!(refused(group, &two), KeyExchangeError::Invalid(group));
    }
}

/// RFC 6989, section 2.3, and RFC 8031, section 5.
#[test]
fn points_off_the_curve_are_refused() {
    for group in [Group::Ecp256, Group::Ecp384, Group::Ecp521] {
        let good = KeyExchange::generate(group, &mut SystemRandom);
        let mut off = good.public().to_vec();
        *off.last_mut().unwrap() ^= 1;
        for peer in [
            off,
            vec![0; group.public_len()],
            vec![0xff; group.public_len()],
        ] {
            assert_eq!(refused(group, &peer), KeyExchangeError::Invalid(group));
        }
    }
    // Points of X25519 whose order is 1, 2 or 8: the secret would be zero whatever our key is.
    let eight = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800";
    for peer in [vec![0; 32], [&[1][..], &[0; 31]].concat(), hex(eight)] {
        let error = refused(Group::X25519, &peer);
        assert_eq!(error, KeyExchangeError::Invalid(Group::X25519));
    }
}

#[test]
fn lengths_are_exact() {
    for group in Group::ALL {
        let public = KeyExchange::generate(*group, &mut SystemRandom)
            .public()
            .to_vec();
        let longer = [&[0], &public[..]].concat();
        for peer in [&public[1..], &longer, &[]] {
            let expected = KeyExchangeError::Length {
                group: *group,
                expected: group.public_len(),
                got: peer.len(),
            };
            assert_eq!(refused(*group, peer), expected);
        }
    }
}
