//! Which addresses are ours, and which destinations go into tunnels.

use std::{collections::HashSet, net::IpAddr};

use hawser_steer::{Action, LOCAL_FRONT, local_entry_with, local_place};
use ipnet::IpNet;

use super::{Steering, absent_is_fine, trie_key};
use crate::{SteeringError, inside::Write};

impl Steering {
    /// Replaces the outside addresses of our tunnels. New ones are added before old ones go, unless
    /// there is no room for both.
    ///
    /// # Errors
    /// The table is full: then some of the new addresses may have been added.
    pub fn set_local_addresses(
        &mut self,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<(), SteeringError> {
        let wanted: HashSet<IpAddr> = addresses.into_iter().collect();
        let new: Vec<IpAddr> = wanted.difference(&self.local).copied().collect();
        let old: Vec<IpAddr> = self.local.difference(&wanted).copied().collect();
        let both = self.local.len() + new.len();
        if both <= self.sizes.local as usize {
            self.add_local(&new)?;
            self.write_local_front(&wanted)?;
            self.remove_local(&old)
        } else {
            self.remove_local(&old)?;
            self.add_local(&new)?;
            self.write_local_front(&wanted)
        }
    }

    fn add_local(&mut self, addresses: &[IpAddr]) -> Result<(), SteeringError> {
        for address in addresses {
            let (map, result) = match address {
                IpAddr::V4(v4) => ("LOCAL_V4", self.local_v4.insert(v4.octets(), 1, 0)),
                IpAddr::V6(v6) => ("LOCAL_V6", self.local_v6.insert(v6.octets(), 1, 0)),
            };
            self.fitted(result, map, self.sizes.local)?;
            self.local.insert(*address);
        }
        Ok(())
    }

    fn remove_local(&mut self, addresses: &[IpAddr]) -> Result<(), SteeringError> {
        for address in addresses {
            match address {
                IpAddr::V4(v4) => absent_is_fine(self.local_v4.remove(&v4.octets()), "LOCAL_V4")?,
                IpAddr::V6(v6) => absent_is_fine(self.local_v6.remove(&v6.octets()), "LOCAL_V6")?,
            }
            self.local.remove(address);
        }
        Ok(())
    }

    /// Makes the array in front of the IPv4 addresses say what they are.
    fn write_local_front(&mut self, addresses: &HashSet<IpAddr>) -> Result<(), SteeringError> {
        let mut entries = vec![0; LOCAL_FRONT as usize];
        for address in addresses {
            if let IpAddr::V4(v4) = address {
                let entry: &mut u64 = &mut entries[local_place(v4.to_bits()) as usize];
                *entry = local_entry_with(*entry, v4.to_bits());
            }
        }
        for (place, entry) in (0..).zip(entries) {
            let before = self
                .local_front
                .get(&place, 0)
                .map_err(SteeringError::map("LOCAL_FRONT"))?;
            if before != entry {
                self.local_front
                    .set(place, entry, 0)
                    .map_err(SteeringError::map("LOCAL_FRONT"))?;
            }
        }
        Ok(())
    }

    /// Adds or changes inside prefixes; the longest that holds a destination decides. Bits behind a
    /// prefix's length are ignored. Many in one call cost less than one by one.
    ///
    /// # Errors
    /// The table is full: what did not fit is missing, the rest stays.
    pub fn insert_inside(
        &mut self,
        prefixes: impl IntoIterator<Item = (IpNet, Action)>,
    ) -> Result<(), SteeringError> {
        let mut v4 = Vec::new();
        let mut v6 = Ok(());
        for (prefix, action) in prefixes {
            match prefix {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.prefix_len(), action)),
                IpNet::V6(net) => {
                    let key = trie_key(net.prefix_len(), net.network().octets());
                    let result = self.inside_v6.insert(&key, action.encode(), 0);
                    v6 = v6.and(self.fitted(result, "INSIDE_V6", self.sizes.inside));
                }
            }
        }
        let writes = self.table_v4.insert(v4);
        self.write_v4(writes).and(v6)
    }

    /// Removes inside prefixes; unknown ones are ignored.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove_inside(
        &mut self,
        prefixes: impl IntoIterator<Item = IpNet>,
    ) -> Result<(), SteeringError> {
        let mut v4 = Vec::new();
        let mut v6 = Ok(());
        for prefix in prefixes {
            match prefix {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.prefix_len())),
                IpNet::V6(net) => {
                    let key = trie_key(net.prefix_len(), net.network().octets());
                    v6 = v6.and(absent_is_fine(self.inside_v6.remove(&key), "INSIDE_V6"));
                }
            }
        }
        let writes = self.table_v4.remove(v4);
        self.write_v4(writes).and(v6)
    }

    /// Carries out all writes, even behind one that fails, and returns the first failure.
    fn write_v4(&mut self, writes: Vec<Write>) -> Result<(), SteeringError> {
        let mut outcome = Ok(());
        for write in writes {
            let result = match write {
                Write::Coarse(first, block) => self
                    .coarse_v4
                    .set(u32::from(first), block.encode(), 0)
                    .map_err(SteeringError::map("COARSE_V4")),
                Write::Fine(first_two, block) => self
                    .fine_v4
                    .set(u32::from(first_two), block.encode(), 0)
                    .map_err(SteeringError::map("FINE_V4")),
                Write::Insert(address, length, action) => {
                    let key = trie_key(length, address.to_be_bytes());
                    let result = self.inside_v4.insert(&key, action.encode(), 0);
                    self.fitted(result, "INSIDE_V4", self.sizes.inside)
                }
                Write::Remove(address, length) => {
                    let key = trie_key(length, address.to_be_bytes());
                    absent_is_fine(self.inside_v4.remove(&key), "INSIDE_V4")
                }
            };
            outcome = outcome.and(result);
        }
        outcome
    }
}
