//! Stateless cookies (RFC 7296, section 2.6): a MAC over what the initiator sent and where from.
//!
//! A cookie is one octet that names the secret's generation and then 16 octets of HMAC-SHA2-256.
//! The secret changes every [`LIFETIME`]; the one before is still accepted, so an honest initiator
//! has at least that long.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use hawser_ike_crypto::{Prf, Random, Secret};
use hawser_ike_wire::IkeSpi;

/// How long a secret makes cookies. Long enough for any retransmission, short enough that
/// collected cookies are soon worthless.
const LIFETIME: Duration = Duration::from_secs(60);

/// Octets of MAC in a cookie: guessing one is as hard as guessing both SPIs of an SA.
const MAC_LEN: usize = 16;

pub(crate) struct Cookies {
    current: Secret,
    previous: Option<Secret>,
    generation: u8,
    since: Option<Instant>,
}

impl Cookies {
    pub(crate) fn new(random: &mut dyn Random) -> Self {
        Self {
            current: fresh(random),
            previous: None,
            generation: 0,
            since: None,
        }
    }

    /// The cookie that this initiator must return.
    pub(crate) fn make(
        &mut self,
        now: Instant,
        random: &mut dyn Random,
        nonce: &[u8],
        address: IpAddr,
        spi: IkeSpi,
    ) -> Vec<u8> {
        self.turn(now, random);
        let mut cookie = vec![self.generation];
        cookie.extend(mac(&self.current, nonce, address, spi));
        cookie
    }

    /// Whether `cookie` is one that was made for this initiator lately.
    pub(crate) fn check(
        &mut self,
        now: Instant,
        random: &mut dyn Random,
        cookie: &[u8],
        nonce: &[u8],
        address: IpAddr,
        spi: IkeSpi,
    ) -> bool {
        self.turn(now, random);
        let Some((generation, theirs)) = cookie.split_first() else {
            return false;
        };
        let secret = if *generation == self.generation {
            Some(&self.current)
        } else if *generation == self.generation.wrapping_sub(1) {
            self.previous.as_ref()
        } else {
            None
        };
        // Secrets compare in constant time.
        secret.is_some_and(|s| {
            Secret::new(mac(s, nonce, address, spi)) == Secret::new(theirs.to_vec())
        })
    }

    fn turn(&mut self, now: Instant, random: &mut dyn Random) {
        let since = *self.since.get_or_insert(now);
        let age = now.saturating_duration_since(since);
        if age < LIFETIME {
            return;
        }
        let before = std::mem::replace(&mut self.current, fresh(random));
        // After two lifetimes without a turn even the last secret is too old.
        self.previous = (age < LIFETIME * 2).then_some(before);
        self.generation = self.generation.wrapping_add(1);
        self.since = Some(now);
    }
}

fn fresh(random: &mut dyn Random) -> Secret {
    let mut secret = vec![0; 32];
    random.fill(&mut secret);
    Secret::new(secret)
}

fn mac(secret: &Secret, nonce: &[u8], address: IpAddr, spi: IkeSpi) -> Vec<u8> {
    let octets = match address {
        IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
        IpAddr::V6(a) => a.octets(),
    };
    let full = Prf::HmacSha2_256.mac(secret.expose(), &[&spi.0.to_be_bytes(), &octets, nonce]);
    full.expose()[..MAC_LEN].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestRandom;

    const NONCE: [u8; 32] = [7; 32];

    #[test]
    fn a_cookie_is_good_for_its_initiator_only_and_not_for_long() {
        let mut random = TestRandom::new(1);
        let mut cookies = Cookies::new(&mut random);
        let t0 = Instant::now();
        let at: IpAddr = [192, 0, 2, 1].into();
        let other: IpAddr = [192, 0, 2, 2].into();
        let spi = IkeSpi(5);
        let cookie = cookies.make(t0, &mut random, &NONCE, at, spi);
        assert!(cookie.len() <= 64, "RFC 7296, section 2.6");
        let mut good = |after: u64, c: &[u8], n: &[u8], a, s| {
            cookies.check(t0 + Duration::from_secs(after), &mut random, c, n, a, s)
        };
        assert!(good(0, &cookie, &NONCE, at, spi));
        assert!(!good(1, &cookie, &NONCE, other, spi));
        assert!(!good(1, &cookie, &NONCE, at, IkeSpi(6)));
        assert!(!good(1, &cookie, &[8; 32], at, spi));
        assert!(!good(1, &cookie[..5], &NONCE, at, spi));
        assert!(!good(1, &[], &NONCE, at, spi));
        assert!(good(90, &cookie, &NONCE, at, spi), "the secret before");
        assert!(!good(180, &cookie, &NONCE, at, spi));
    }
}
