use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn group(weights: &[u32], buckets: usize) -> Group {
    let members: Vec<_> = (0..).map(MemberId).zip(weights.iter().copied()).collect();
    Group::new(&members, buckets).expect("valid")
}

fn owners(group: &Group) -> Vec<Option<MemberId>> {
    (0..group.buckets() as u32)
        .map(|bucket| group.member(bucket))
        .collect()
}

/// The numbers that the group keeps are those of its table.
fn counted(group: &Group) -> BTreeMap<MemberId, u32> {
    let mut counts: BTreeMap<_, _> = group.members().map(|(id, ..)| (id, 0)).collect();
    for owner in owners(group).into_iter().flatten() {
        *counts.get_mut(&owner).expect("owned by a member") += 1;
    }
    let kept: BTreeMap<_, _> = group.members().map(|(id, _, owned)| (id, owned)).collect();
    assert_eq!(counts, kept);
    counts
}

/// Webster's condition: no bucket would serve a better claim, `weight / (2 * owned + 1)`, with
/// another member. Equal weights then differ by at most one bucket.
fn assert_fair(group: &Group) {
    for (winner, weight, owned) in group.members().filter(|(_, _, owned)| *owned > 0) {
        for (other, other_weight, other_owned) in group.members() {
            let last_won = u64::from(weight) * (2 * u64::from(other_owned) + 1);
            let next_asked = u64::from(other_weight) * (2 * u64::from(owned) - 1);
            assert!(
                last_won >= next_asked,
                "{winner:?} has {owned}, {other:?} has {other_owned}"
            );
        }
    }
}

fn weights() -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![
        proptest::collection::vec(1u32..=4, 1..60),
        (1usize..60).prop_map(|n| vec![1; n]),
    ]
}

proptest! {
    #[test]
    fn weights_are_respected(weights in weights(), bits in 8u32..13) {
        let group = group(&weights, 1 << bits);
        counted(&group);
        assert_fair(&group);
    }

    #[test]
    fn the_default_size_is_even_within_one_percent(n in 1usize..400) {
        let group = group(&vec![1; n], Group::default_buckets(n));
        let exact = group.buckets() as f64 / n as f64;
        for (_, _, owned) in group.members() {
            prop_assert!((f64::from(owned) / exact - 1.0).abs() < 0.016, "{owned} of {exact}");
        }
    }

    #[test]
    fn leaving_moves_only_its_own(weights in weights(), leaver in 0usize..60) {
        let mut group = group(&weights, 4096);
        let before = owners(&group);
        let leaver = MemberId((leaver % weights.len()) as u32);
        group.remove(leaver).expect("a member");
        counted(&group);
        assert_fair(&group);
        for (was, is) in before.iter().zip(owners(&group)) {
            if *was == Some(leaver) {
                prop_assert_eq!(is.is_none(), weights.len() == 1);
                prop_assert_ne!(is, Some(leaver));
            } else {
                prop_assert_eq!(*was, is);
            }
        }
    }

    #[test]
    fn joining_takes_only_its_share(weights in weights(), weight in 1u32..=4) {
        let mut group = group(&weights, 4096);
        let before = owners(&group);
        group.add(MemberId(1000), weight).expect("new");
        let counts = counted(&group);
        assert_fair(&group);
        let moved = before.iter().zip(owners(&group)).filter(|(was, is)| *was != is).count();
        prop_assert_eq!(moved as u32, counts[&MemberId(1000)]);
    }

    /// There and back: the members that stayed keep what they had or got.
    #[test]
    fn flapping_disturbs_only_the_flapper(weights in proptest::collection::vec(1u32..=4, 2..40)) {
        let mut group = group(&weights, 2048);
        let before = counted(&group);
        group.remove(MemberId(0)).expect("a member");
        let without = owners(&group);
        group.add(MemberId(0), weights[0]).expect("gone");
        prop_assert_eq!(counted(&group), before);
        for (was, is) in without.iter().zip(owners(&group)) {
            prop_assert!(*was == is || is == Some(MemberId(0)));
        }
    }

    #[test]
    fn new_weights_move_the_least(weights in weights(), change in proptest::collection::vec(1u32..=4, 60)) {
        let mut group = group(&weights, 4096);
        let counts = counted(&group);
        let before = owners(&group);
        let changes: Vec<_> = (0..weights.len()).map(|i| (MemberId(i as u32), change[i])).collect();
        group.set_weights(&changes).expect("members");
        assert_fair(&group);
        let after = counted(&group);
        let gained: u32 = counts.iter().map(|(id, was)| after[id].saturating_sub(*was)).sum();
        let moved = before.iter().zip(owners(&group)).filter(|(was, is)| *was != is).count();
        prop_assert_eq!(moved as u32, gained);
    }

    /// Any history of changes leaves the shares fair and the books right.
    #[test]
    fn histories(steps in proptest::collection::vec((0u32..12, 0u32..4, any::<u16>()), 1..60)) {
        let mut group = Group::new(&[], 1024).expect("valid");
        for (id, weight, bucket) in steps {
            let id = MemberId(id);
            let present = group.members().any(|(other, ..)| other == id);
            match (present, weight) {
                (false, 0) => prop_assert_eq!(group.remove(id), Err(GroupError::Unknown(id))),
                (false, _) => group.add(id, weight).expect("new"),
                (true, 0) => group.remove(id).expect("a member"),
                (true, 1) => group.assign(u32::from(bucket) % 1024, id).expect("both exist"),
                (true, _) => group.set_weights(&[(id, weight)]).expect("a member"),
            }
            let counts = counted(&group);
            let total: u32 = counts.values().sum();
            prop_assert_eq!(total, if counts.is_empty() { 0 } else { 1024 });
        }
        let members: Vec<_> = group.members().map(|(id, weight, _)| (id, weight)).collect();
        group.set_members(&members).expect("the same");
        assert_fair(&group);
    }

    #[test]
    fn every_hash_has_a_bucket(hash: u64, bits in 0u32..=16) {
        let group = group(&[1], 1 << bits);
        prop_assert!(group.member(group.bucket(hash)).is_some());
        prop_assert_eq!(group.bucket(hash), (u128::from(hash) >> (64 - bits)) as u32);
    }
}

#[test]
fn refusals() {
    let one = MemberId(1);
    for (members, buckets, error) in [
        (&[(one, 1)][..], 0, GroupError::Buckets(0)),
        (&[(one, 1)], 100, GroupError::Buckets(100)),
        (&[(one, 1)], 1 << 17, GroupError::Buckets(1 << 17)),
        (&[(one, 0)], 64, GroupError::Unusable(one)),
        (
            &[(MemberId(u32::MAX), 1)],
            64,
            GroupError::Unusable(MemberId(u32::MAX)),
        ),
        (&[(one, 1), (one, 2)], 64, GroupError::Duplicate(one)),
        (
            &[(one, 1), (MemberId(2), 1)],
            1,
            GroupError::TooManyMembers {
                members: 2,
                buckets: 1,
            },
        ),
    ] {
        assert_eq!(
            Group::new(members, buckets).err(),
            Some(error),
            "{members:?}"
        );
    }
    let mut group = Group::new(&[(one, 1)], 64).expect("valid");
    let before = owners(&group);
    assert_eq!(group.add(one, 1), Err(GroupError::Duplicate(one)));
    assert_eq!(
        group.add(MemberId(2), 0),
        Err(GroupError::Unusable(MemberId(2)))
    );
    assert_eq!(
        group.remove(MemberId(2)),
        Err(GroupError::Unknown(MemberId(2)))
    );
    assert_eq!(
        group.set_weights(&[(MemberId(2), 1)]),
        Err(GroupError::Unknown(MemberId(2)))
    );
    assert_eq!(group.assign(64, one), Err(GroupError::Buckets(64)));
    assert_eq!(
        group.assign(0, MemberId(2)),
        Err(GroupError::Unknown(MemberId(2)))
    );
    assert_eq!(owners(&group), before);
}

#[test]
fn an_empty_group_has_no_member() {
    let mut group = Group::new(&[], 256).expect("valid");
    assert_eq!(group.member(group.bucket(u64::MAX)), None);
    group.add(MemberId(3), 5).expect("new");
    assert!(
        owners(&group)
            .iter()
            .all(|owner| *owner == Some(MemberId(3)))
    );
    group.remove(MemberId(3)).expect("a member");
    assert!(owners(&group).iter().all(Option::is_none));
}
