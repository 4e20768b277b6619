//! Names and transforms, both ways.

use hawser_ike_wire::{Attribute, AttributeValue};

use super::*;

#[test]
fn every_algorithm_is_found_by_its_name_and_its_transform() {
    for encr in Encr::ALL {
        assert_eq!(encr.name().parse(), Ok(*encr));
        assert_eq!(Encr::from_transform(&encr.transform()), Some(*encr));
        assert_eq!(Integ::from_transform(&encr.transform()), None);
    }
    for integ in Integ::ALL {
        assert_eq!(integ.name().parse(), Ok(*integ));
        assert_eq!(Integ::from_transform(&integ.transform()), Some(*integ));
    }
    for prf in Prf::ALL {
        assert_eq!(prf.name().parse(), Ok(*prf));
        assert_eq!(Prf::from_transform(&prf.transform()), Some(*prf));
    }
    let ciphers: Vec<Cipher> = Cipher::all().collect();
    assert_eq!(ciphers.len(), 10);
    for cipher in ciphers {
        assert_eq!(cipher.to_string().parse(), Ok(cipher));
    }
    let error = "aes512".parse::<Encr>().unwrap_err().to_string();
    assert!(
        error.contains("unknown encryption algorithm \"aes512\""),
        "{error}"
    );
    assert!(error.contains("aes256-gcm16"), "{error}");
}

/// RFC 7296, section 3.3.6: a transform with an attribute that is not understood is not chosen.
#[test]
fn a_transform_that_says_more_than_we_know_is_none_of_ours() {
    let mut transform = Encr::AesGcm16_256.transform();
    transform.other_attributes.push(Attribute {
        kind: 99,
        value: AttributeValue::Short(1),
    });
    assert_eq!(Encr::from_transform(&transform), None);
    let mut transform = Encr::AesCbc128.transform();
    transform.key_length = None;
    assert_eq!(Encr::from_transform(&transform), None);
}

#[test]
fn integrity_goes_with_what_needs_it() {
    let gcm = Encr::AesGcm16_128;
    let sha1 = Integ::HmacSha1_96;
    let error = Cipher::new(gcm, Some(sha1));
    assert_eq!(error, Err(CipherError::NeedsNoIntegrity(gcm)));
    let error = Cipher::new(Encr::AesCbc256, None);
    assert_eq!(error, Err(CipherError::NeedsIntegrity(Encr::AesCbc256)));
    let cipher = Cipher::new(Encr::AesCbc128, Some(sha1)).unwrap();
    assert_eq!(cipher.key_material_len(), 36);
    assert_eq!(
        cipher.transforms(),
        [Encr::AesCbc128.transform(), sha1.transform()]
    );
    assert_eq!(Cipher::new(gcm, None).unwrap().key_material_len(), 20);
}
