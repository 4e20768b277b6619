//! A next-hop group: which of several weighted members carries a flow.
//!
//! hash -> bucket -> member. The number of buckets is fixed for the life of the group and each
//! bucket belongs to one member, so a change of membership moves only the buckets that must move
//! ("resilient hashing"): a leaving member's buckets are dealt to the others, a joining member
//! takes its fair share and nothing else changes hands. Flows in buckets that stay do not notice.
//!
//! How many buckets each member deserves follows the divisor method of Webster and Sainte-Laguë.
//! It is the method whose shares never shrink when another member leaves; rounding by largest
//! remainder can take a bucket from a member that should gain.
//!
//! Buckets are also the unit of load: the worker counts packets and bytes per bucket, and
//! [`Group::assign`] moves one from a full tunnel to an emptier one. Membership changes respect
//! such moves.
//!
//! Not here: when to move a bucket (needs time and rates), and what a member is.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use thiserror::Error;

/// Names a member of a group, for the caller: usually a tunnel's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(pub u32);

/// The most buckets a group may have.
///
/// Unit: buckets, 4 bytes each. 64 Ki serve 1,000 members at 64 buckets each.
pub const MAX_BUCKETS: usize = 1 << 16;

/// Buckets per member that a group has at least, by default.
///
/// Unit: buckets. A share is rounded by at most half a bucket, so 64 keeps a member within
/// 0.5 / 64 = 0.8 % of what its weight deserves. Fewer make shares coarse; more cost cache
/// (a group of 40 tunnels is 16 KiB with 4,096 buckets).
const BUCKETS_PER_MEMBER: usize = 64;

/// Why a group could not be built or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GroupError {
    /// The number of buckets is not a power of two from 1 to [`MAX_BUCKETS`].
    #[error("{0} buckets: must be a power of two up to {MAX_BUCKETS}")]
    Buckets(usize),
    /// A member with weight 0, or with the id 2^32 - 1, which marks a free bucket.
    #[error("member {} has weight 0 or a reserved id", .0.0)]
    Unusable(MemberId),
    /// The member is there already.
    #[error("member {} is in the group already", .0.0)]
    Duplicate(MemberId),
    /// No such member.
    #[error("member {} is not in the group", .0.0)]
    Unknown(MemberId),
    /// More members than buckets.
    #[error("{members} members need more than {buckets} buckets")]
    TooManyMembers {
        /// Members asked for.
        members: usize,
        /// Buckets of the group.
        buckets: usize,
    },
}

#[derive(Clone, Copy, Debug)]
struct Member {
    id: MemberId,
    weight: u32,
    /// Buckets it owns now.
    owned: u32,
}

/// A member's claim on the next bucket by Webster's method, `weight / (2 * owned + 1)`; the largest
/// is first, and of equal ones that of the lower id.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Claim {
    weight: u64,
    divisor: u64,
    /// Index in the group's members.
    at: usize,
}

impl Ord for Claim {
    fn cmp(&self, other: &Self) -> Ordering {
        // Weights are below 2^32 and divisors below 2^18: no overflow.
        (self.weight * other.divisor)
            .cmp(&(other.weight * self.divisor))
            .then(other.at.cmp(&self.at))
    }
}

impl PartialOrd for Claim {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A bucket that belongs to nobody: only in a group without members.
const NOBODY: u32 = u32::MAX;

/// A weighted, resilient group of next hops.
#[derive(Clone, Debug)]
pub struct Group {
    /// Owner by bucket: the member's id.
    table: Box<[u32]>,
    /// 63 minus the number of bits of a bucket number.
    shift: u32,
    /// Sorted by id.
    members: Vec<Member>,
}

impl Group {
    /// The number of buckets that keeps `members` equal members within 1 % of their share.
    #[must_use]
    pub fn default_buckets(members: usize) -> usize {
        (members * BUCKETS_PER_MEMBER)
            .next_power_of_two()
            .clamp(256, MAX_BUCKETS)
    }

    /// A group of `members` (id and weight) over `buckets` buckets. May be empty.
    ///
    /// # Errors
    /// See [`GroupError`].
    pub fn new(members: &[(MemberId, u32)], buckets: usize) -> Result<Self, GroupError> {
        if !buckets.is_power_of_two() || buckets > MAX_BUCKETS {
            return Err(GroupError::Buckets(buckets));
        }
        let mut group = Self {
            table: vec![NOBODY; buckets].into_boxed_slice(),
            shift: 63 - buckets.trailing_zeros(),
            members: Vec::new(),
        };
        group.set_members(members)?;
        Ok(group)
    }

    /// The bucket of a flow hash. Uses the hash's high bits.
    #[must_use]
    #[inline]
    pub fn bucket(&self, hash: u64) -> u32 {
        // In two steps, because one bucket means a shift by all 64 bits.
        (hash >> 1 >> self.shift) as u32
    }

    /// The member that owns `bucket`; none if the group is empty or there is no such bucket.
    #[must_use]
    #[inline]
    pub fn member(&self, bucket: u32) -> Option<MemberId> {
        match self.table.get(bucket as usize) {
            Some(&NOBODY) | None => None,
            Some(&id) => Some(MemberId(id)),
        }
    }

    /// Number of buckets.
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.table.len()
    }

    /// Members with their weight and number of buckets, by id.
    pub fn members(&self) -> impl Iterator<Item = (MemberId, u32, u32)> + '_ {
        self.members
            .iter()
            .map(|member| (member.id, member.weight, member.owned))
    }

    /// Adds a member, which takes its fair share of buckets from the others.
    ///
    /// # Errors
    /// [`GroupError::Duplicate`], [`GroupError::Unusable`], [`GroupError::TooManyMembers`].
    pub fn add(&mut self, id: MemberId, weight: u32) -> Result<(), GroupError> {
        let Err(at) = self.position(id) else {
            return Err(GroupError::Duplicate(id));
        };
        self.check(self.members.len() + 1, [(id, weight)])?;
        self.members.insert(
            at,
            Member {
                id,
                weight,
                owned: 0,
            },
        );
        let share = self.shares()[at];
        self.pull(at, share);
        Ok(())
    }

    /// Removes a member; only its buckets move.
    ///
    /// # Errors
    /// [`GroupError::Unknown`].
    pub fn remove(&mut self, id: MemberId) -> Result<(), GroupError> {
        let at = self.position(id).map_err(|_| GroupError::Unknown(id))?;
        self.members.remove(at);
        self.release(|owner| owner == id.0);
        self.deal();
        Ok(())
    }

    /// Changes the weights of members, moving no more buckets than the new shares ask for.
    ///
    /// # Errors
    /// [`GroupError::Unknown`], [`GroupError::Unusable`].
    pub fn set_weights(&mut self, weights: &[(MemberId, u32)]) -> Result<(), GroupError> {
        self.check(self.members.len(), weights.iter().copied())?;
        for &(id, _) in weights {
            self.position(id).map_err(|_| GroupError::Unknown(id))?;
        }
        for &(id, weight) in weights {
            if let Ok(at) = self.position(id) {
                self.members[at].weight = weight;
            }
        }
        self.settle();
        Ok(())
    }

    /// Makes `members` the group's members, whatever they were, moving no more buckets than the
    /// new shares ask for.
    ///
    /// # Errors
    /// See [`GroupError`]; the group is then unchanged.
    pub fn set_members(&mut self, members: &[(MemberId, u32)]) -> Result<(), GroupError> {
        self.check(members.len(), members.iter().copied())?;
        let mut next: Vec<_> = members
            .iter()
            .map(|&(id, weight)| {
                let owned = self.position(id).map_or(0, |at| self.members[at].owned);
                Member { id, weight, owned }
            })
            .collect();
        next.sort_by_key(|member| member.id);
        if let Some(pair) = next.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(GroupError::Duplicate(pair[0].id));
        }
        self.members = next;
        let ids: Vec<_> = self.members.iter().map(|member| member.id.0).collect();
        self.release(|owner| ids.binary_search(&owner).is_err());
        self.settle();
        Ok(())
    }

    /// Gives one bucket to a member, whatever the shares say.
    ///
    /// # Errors
    /// [`GroupError::Unknown`]; [`GroupError::Buckets`] if there is no such bucket.
    pub fn assign(&mut self, bucket: u32, id: MemberId) -> Result<(), GroupError> {
        let to = self.position(id).map_err(|_| GroupError::Unknown(id))?;
        let slot = self
            .table
            .get_mut(bucket as usize)
            .ok_or(GroupError::Buckets(bucket as usize))?;
        let from = std::mem::replace(slot, id.0);
        if let Ok(from) = self.position(MemberId(from)) {
            self.members[from].owned -= 1;
        }
        self.members[to].owned += 1;
        Ok(())
    }

    fn position(&self, id: MemberId) -> Result<usize, usize> {
        self.members.binary_search_by_key(&id, |member| member.id)
    }

    fn check(
        &self,
        members: usize,
        weights: impl IntoIterator<Item = (MemberId, u32)>,
    ) -> Result<(), GroupError> {
        if members > self.table.len() {
            return Err(GroupError::TooManyMembers {
                members,
                buckets: self.table.len(),
            });
        }
        for (id, weight) in weights {
            if weight == 0 || id.0 == NOBODY {
                return Err(GroupError::Unusable(id));
            }
        }
        Ok(())
    }

    /// Buckets each member deserves.
    fn shares(&self) -> Vec<u32> {
        let mut shares = vec![0; self.members.len()];
        let mut claims = self.claims(&shares);
        for _ in 0..self.table.len() {
            let Some(mut claim) = claims.peek_mut() else {
                break;
            };
            shares[claim.at] += 1;
            claim.divisor += 2;
        }
        shares
    }

    /// The members' claims on the next bucket when they own `owned`.
    fn claims(&self, owned: &[u32]) -> BinaryHeap<Claim> {
        let claim = |(at, (member, owned)): (usize, (&Member, &u32))| Claim {
            weight: u64::from(member.weight),
            divisor: 2 * u64::from(*owned) + 1,
            at,
        };
        self.members
            .iter()
            .zip(owned)
            .enumerate()
            .map(claim)
            .collect()
    }

    /// Marks the buckets of owners that `leaves` names as nobody's.
    fn release(&mut self, leaves: impl Fn(u32) -> bool) {
        for owner in &mut self.table {
            if *owner != NOBODY && leaves(*owner) {
                *owner = NOBODY;
            }
        }
    }

    /// Deals nobody's buckets, each to the member with the greatest claim.
    fn deal(&mut self) {
        let owned: Vec<_> = self.members.iter().map(|member| member.owned).collect();
        let mut claims = self.claims(&owned);
        for owner in self.table.iter_mut().filter(|owner| **owner == NOBODY) {
            let Some(mut claim) = claims.peek_mut() else {
                break;
            };
            let member = &mut self.members[claim.at];
            member.owned += 1;
            *owner = member.id.0;
            claim.divisor += 2;
        }
    }

    /// Takes from members above their share, then deals.
    fn settle(&mut self) {
        let shares = self.shares();
        for bucket in 0..self.table.len() {
            if let Ok(at) = self.position(MemberId(self.table[bucket]))
                && self.members[at].owned > shares[at]
            {
                self.members[at].owned -= 1;
                self.table[bucket] = NOBODY;
            }
        }
        self.deal();
    }

    /// Moves buckets to the member at `to` until it owns `share`, each from the member that has
    /// most above what it deserves.
    fn pull(&mut self, to: usize, share: u32) {
        let shares = self.shares();
        let id = self.members[to].id.0;
        let mut next = vec![0usize; self.members.len()];
        for _ in 0..share {
            let richest = (0..self.members.len())
                .filter(|&at| at != to && self.members[at].owned > 0)
                .max_by_key(|&at| i64::from(self.members[at].owned) - i64::from(shares[at]));
            let Some(from) = richest else { break };
            let owner = self.members[from].id.0;
            let Some(bucket) = (next[from]..self.table.len()).find(|&b| self.table[b] == owner)
            else {
                break;
            };
            next[from] = bucket + 1;
            self.table[bucket] = id;
            self.members[from].owned -= 1;
            self.members[to].owned += 1;
        }
        // A first member has nobody to take from.
        self.deal();
    }
}

#[cfg(test)]
mod tests;
