//! The endpoint's own limits and intervals.

use std::time::{Duration, Instant, SystemTime};

/// The endpoint's limits and intervals, for all connections.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Half-open SAs (answered IKE_SA_INIT without IKE_AUTH) above which an initiator must return
    /// a cookie first (RFC 7296, section 2.6); beyond this many new ones in a second it must too.
    /// Lower costs honest peers a round trip in a burst, higher lets forged requests cost a key
    /// exchange each.
    pub cookie_threshold: usize,
    /// Half-open SAs in all: beyond it requests are dropped. Bounds the memory a flood can take.
    pub half_open_limit: usize,
    /// Half-open SAs of one source address, counted only where the address is proven by a cookie
    /// or no cookie is needed.
    pub half_open_per_source: usize,
    /// A half-open SA is forgotten after this long.
    pub half_open_timeout: Duration,
    /// Retransmission of requests.
    pub retransmit: Retransmit,
    /// How long IKE_SA_INIT and IKE_AUTH of one attempt may go unanswered. Then a new attempt
    /// begins at once, with new keys.
    pub init_timeout: Duration,
    /// Pause after the first refused attempt; it doubles up to `restart_most`.
    pub restart_first: Duration,
    /// Longest pause between attempts that were refused.
    pub restart_most: Duration,
    /// How long an inbound SA stays after it was deleted, for packets under way.
    pub drain: Duration,
    /// After answering a rekey, the outbound SA changes when the peer shows that it has our answer
    /// (it deletes the old SA), or after this long. Until then the old SA works in both directions,
    /// so waiting costs nothing; changing before a lost answer was sent again would lose packets.
    /// So it is longer than the first retransmissions of usual peers (4 s and then 7 s).
    pub outbound_switch: Duration,
    /// An SA that was replaced or lost against another is deleted by us after this long if the peer
    /// does not delete it. Longer than `outbound_switch`, so that nobody deletes what is sent with.
    pub linger: Duration,
    /// Interval of NAT keepalives (RFC 3948, section 4) when nothing else is sent.
    pub keepalive: Duration,
    /// Emits [`crate::Event::KeyLog`] for every IKE SA. Whoever reads it can decrypt everything.
    pub key_log: bool,
    /// What the calendar said when: the validity of certificates is judged by it.
    pub wall_clock: (Instant, SystemTime),
    /// UDP port of IKE.
    pub ike_port: u16,
    /// UDP port of IKE and ESP in UDP (RFC 3948).
    pub natt_port: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cookie_threshold: 128,
            half_open_limit: 8192,
            half_open_per_source: 2048,
            half_open_timeout: Duration::from_secs(30),
            retransmit: Retransmit::default(),
            init_timeout: Duration::from_secs(30),
            restart_first: Duration::from_secs(1),
            restart_most: Duration::from_secs(30),
            drain: Duration::from_secs(2),
            outbound_switch: Duration::from_secs(10),
            linger: Duration::from_secs(15),
            keepalive: Duration::from_secs(20),
            key_log: false,
            wall_clock: (Instant::now(), SystemTime::now()),
            ike_port: 500,
            natt_port: 4500,
        }
    }
}

/// Pauses between the copies of a request that is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmit {
    /// Until the second copy.
    pub first: Duration,
    /// Each pause is this many percent of the one before.
    pub growth_percent: u32,
    /// Longest pause: a peer that returns hears from us within this time, which is what makes a
    /// restarted peer's tunnels return within 3 s.
    pub most: Duration,
}

impl Default for Retransmit {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            growth_percent: 180,
            most: Duration::from_secs(2),
        }
    }
}

impl Retransmit {
    /// The pause after the copy with this number, from 0.
    pub(crate) fn pause(&self, copy: u32) -> Duration {
        let mut pause = self.first;
        for _ in 0..copy.min(32) {
            pause = (pause * self.growth_percent / 100).min(self.most);
        }
        pause.min(self.most)
    }
}
