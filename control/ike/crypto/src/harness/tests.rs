//! The harnesses on random octets, and on good ones with a few changed.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::name::dn_from_text;
use crate::vectors::fixture;

fn octets(most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..most)
}

fn damaged(good: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let edits = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    edits.prop_map(move |edits| {
        let mut octets = good.clone();
        for (at, value) in edits {
            let at = at.index(octets.len());
            octets[at] = value;
        }
        octets
    })
}

proptest! {
    #[test]
    fn algorithm_identifiers(octets in octets(80)) {
        algorithm_identifier(&octets);
    }

    #[test]
    fn certificates(der in prop_oneof![octets(300), damaged(fixture!("p256.der").to_vec())]) {
        certificate(&der);
    }

    #[test]
    fn distinguished_names(
        der in prop_oneof![octets(60), damaged(dn_from_text("C=DE, O=Example, CN=gw").unwrap())],
    ) {
        distinguished_name(&der);
    }

    #[test]
    fn sealed(data in octets(200)) {
        opened(&data);
    }

    #[test]
    fn fragments_in_any_disorder(data in octets(300)) {
        fragments(&data);
    }
}
