//! When a worker works, and when it sleeps.
//!
//! A worker goes round its queues without end. This decides after each round whether to go on at
//! once or to sleep in `poll` until a packet or a command comes. The decision is a pure function
//! of what the round did and of the time, so it is tested without either; [`PollSet`] does the
//! sleeping.
//!
//! A sleeping worker costs its first packet the time of a wake-up; a spinning one costs a core. Adaptive is the way between: spin through the gaps of live traffic,
//! sleep when it has ended.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::sys;

/// How a worker waits for packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WakeupMode {
    /// Never sleeps: lowest latency, one core always busy.
    Spin,
    /// Sleeps when there was nothing for a while.
    #[default]
    Adaptive,
    /// Sleeps whenever there is nothing.
    Poll,
}

impl FromStr for WakeupMode {
    type Err = UnknownMode;

    fn from_str(name: &str) -> Result<WakeupMode, UnknownMode> {
        match name {
            "spin" => Ok(WakeupMode::Spin),
            "adaptive" => Ok(WakeupMode::Adaptive),
            "poll" => Ok(WakeupMode::Poll),
            _ => Err(UnknownMode),
        }
    }
}

impl fmt::Display for WakeupMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WakeupMode::Spin => "spin",
            WakeupMode::Adaptive => "adaptive",
            WakeupMode::Poll => "poll",
        })
    }
}

/// The name of no wake-up mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a wake-up mode is spin, adaptive or poll")]
pub struct UnknownMode;

/// What a round of the worker came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Packets and commands handled.
    pub work: usize,
    /// Something waits that no descriptor announces: packets the kernel did not take, say.
    pub unfinished: bool,
}

/// What to do after a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// The next round, at once.
    None,
    /// Sleep until a descriptor is ready, for this long at most.
    Sleep(Duration),
}

/// Gap that an adaptive worker spins through before it sleeps.
///
/// Unit: time without any work. Of the order of what falling asleep and waking up take (tens of
/// microseconds), so that at worst a worker spends about twice what the better choice would have
/// cost; chosen by that reasoning, not tuned on a machine. Shorter: steady traffic of some ten
/// thousand packets a second pays a wake-up each. Longer: an idle gateway warms the room.
pub const SPIN: Duration = Duration::from_micros(50);

/// Longest sleep: the worker's clock of housekeeping and of noticing that an interface is gone,
/// which no descriptor tells. Longer delays those; shorter costs idle wake-ups (100 a second).
pub const LONGEST_SLEEP: Duration = Duration::from_millis(10);

/// Longest sleep with something unfinished: packets that a full device queue did not take.
///
/// Unit: time. In 200 us a 10 Gbps link sends some 160 packets of 1500 bytes, more than half of a
/// veth queue (256). Much longer leaves the link idle, shorter is spinning.
pub const RETRY: Duration = Duration::from_micros(200);

/// The wake-up policy of one worker.
#[derive(Clone, Debug)]
pub struct Wakeup {
    mode: WakeupMode,
    spin: Duration,
    longest: Duration,
    /// Since when there was no work.
    idle_since: Option<Instant>,
}

impl Wakeup {
    /// A policy with the default times.
    pub fn new(mode: WakeupMode) -> Wakeup {
        Wakeup {
            mode,
            spin: SPIN,
            longest: LONGEST_SLEEP,
            idle_since: None,
        }
    }

    /// Another gap to spin through, and another longest sleep.
    #[must_use]
    pub fn with_times(mut self, spin: Duration, longest: Duration) -> Wakeup {
        self.spin = spin;
        self.longest = longest;
        self
    }

    /// The mode.
    pub fn mode(&self) -> WakeupMode {
        self.mode
    }

    /// What to do after a round that ended at `now`.
    ///
    /// Idle time goes on through sleeps: a worker that wakes for nothing looks once and sleeps
    /// again.
    #[inline]
    pub fn after(&mut self, round: Round, now: Instant) -> Rest {
        if round.work > 0 {
            self.idle_since = None;
            return Rest::None;
        }
        let spin = match self.mode {
            WakeupMode::Spin => return Rest::None,
            WakeupMode::Adaptive => self.spin,
            WakeupMode::Poll => Duration::ZERO,
        };
        let idle_since = *self.idle_since.get_or_insert(now);
        if now.saturating_duration_since(idle_since) < spin {
            return Rest::None;
        }
        Rest::Sleep(if round.unfinished {
            self.longest.min(RETRY)
        } else {
            self.longest
        })
    }
}

/// The descriptors that wake a worker: its sockets, and whatever else it listens to (an eventfd
/// for commands).
#[derive(Default)]
pub struct PollSet {
    descriptors: Vec<libc::pollfd>,
}

impl PollSet {
    /// An empty set.
    pub fn new() -> PollSet {
        PollSet::default()
    }

    /// Adds a descriptor to wake up when it can be read; its position, for
    /// [`is_ready`](PollSet::is_ready).
    ///
    /// The set does not keep it open: [`clear`](PollSet::clear) and add anew when one closes. A
    /// closed one is always ready.
    pub fn add(&mut self, descriptor: BorrowedFd<'_>) -> usize {
        self.descriptors.push(libc::pollfd {
            fd: descriptor.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        });
        self.descriptors.len() - 1
    }

    /// Empties the set.
    pub fn clear(&mut self) {
        self.descriptors.clear();
    }

    /// Sleeps until a descriptor is ready, a signal comes or the time is over; how many are ready.
    ///
    /// In copy mode this also makes the kernel send what is in the sockets' transmit rings.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sleep(&mut self, longest: Duration) -> io::Result<usize> {
        let timeout = libc::timespec {
            tv_sec: longest.as_secs().min(i64::MAX as u64) as i64,
            tv_nsec: i64::from(longest.subsec_nanos()),
        };
        match sys::poll(&mut self.descriptors, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            done => done,
        }
    }

    /// Whether the descriptor at that position was ready when the last sleep ended.
    pub fn is_ready(&self, position: usize) -> bool {
        self.descriptors
            .get(position)
            .is_some_and(|descriptor| descriptor.revents != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    const WORK: Round = Round {
        work: 1,
        unfinished: false,
    };
    const NOTHING: Round = Round {
        work: 0,
        unfinished: false,
    };
    const STUCK: Round = Round {
        work: 0,
        unfinished: true,
    };

    fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    /// (time in us, round, expected) in order, for one policy.
    fn check(mode: WakeupMode, steps: &[(u64, Round, Rest)]) {
        let mut wakeup = Wakeup::new(mode).with_times(us(50), us(10_000));
        let start = Instant::now();
        for &(at, round, expected) in steps {
            assert_eq!(
                wakeup.after(round, start + us(at)),
                expected,
                "{mode} at {at} us"
            );
        }
    }

    #[test]
    fn spinning_never_sleeps() {
        let second = 1_000_000;
        check(
            WakeupMode::Spin,
            &[(0, NOTHING, Rest::None), (9 * second, STUCK, Rest::None)],
        );
    }

    #[test]
    fn polling_sleeps_whenever_there_is_nothing() {
        let sleep = Rest::Sleep(us(10_000));
        check(
            WakeupMode::Poll,
            &[
                (0, WORK, Rest::None),
                (1, NOTHING, sleep),
                (2, WORK, Rest::None),
                (3, STUCK, Rest::Sleep(us(200))),
                (4, NOTHING, sleep),
            ],
        );
    }

    #[test]
    fn adaptive_spins_through_gaps_and_then_sleeps() {
        let sleep = Rest::Sleep(us(10_000));
        check(
            WakeupMode::Adaptive,
            &[
                (0, NOTHING, Rest::None),
                (49, NOTHING, Rest::None),
                (49, WORK, Rest::None),
                (60, NOTHING, Rest::None),
                (109, STUCK, Rest::None),
                (110, NOTHING, sleep),
                // Woken for nothing: no second spin.
                (10_110, NOTHING, sleep),
                (20_000, STUCK, Rest::Sleep(us(200))),
                // Woken by a packet: the gap counts anew.
                (20_100, WORK, Rest::None),
                (20_110, NOTHING, Rest::None),
                (20_159, NOTHING, Rest::None),
                (20_160, NOTHING, sleep),
            ],
        );
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_is_harmless() {
        let start = Instant::now() + us(100);
        let mut wakeup = Wakeup::new(WakeupMode::Adaptive);
        assert_eq!(wakeup.after(NOTHING, start), Rest::None);
        assert_eq!(wakeup.after(NOTHING, start - us(100)), Rest::None);
    }

    #[test]
    fn modes_have_names() {
        for mode in [WakeupMode::Spin, WakeupMode::Adaptive, WakeupMode::Poll] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert_eq!("busy".parse::<WakeupMode>(), Err(UnknownMode));
    }

    #[test]
    fn sleeping_ends_by_time_or_by_a_descriptor() {
        let (quiet, _keep) = io::pipe().unwrap();
        let (commands, mut sender) = io::pipe().unwrap();
        let mut set = PollSet::new();
        let quiet = set.add(quiet.as_fd());
        let commands = set.add(commands.as_fd());

        let start = Instant::now();
        assert_eq!(set.sleep(us(2000)).unwrap(), 0);
        assert!(start.elapsed() >= us(2000));
        assert!(!set.is_ready(commands));

        sender.write_all(b"!").unwrap();
        let start = Instant::now();
        assert_eq!(set.sleep(Duration::from_secs(10)).unwrap(), 1);
        assert!(start.elapsed() < Duration::from_secs(5));
        assert!(set.is_ready(commands) && !set.is_ready(quiet));
        set.clear();
        assert_eq!(set.sleep(us(1)).unwrap(), 0);
    }
}
