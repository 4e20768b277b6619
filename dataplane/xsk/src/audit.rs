//! Where every frame is: a ledger kept in builds with debug assertions, nothing in others.
//!
//! Ownership by type already makes two holders of one frame impossible in safe code. The ledger
//! watches the code below that line: an address that the kernel returns twice, or a ring that
//! hands out a frame it never got, stops a debug build at the move that is wrong.

#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU8, Ordering};

/// The places a frame can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a pool's free list.
    Pool,
    /// In a `Frame` value.
    Hand,
    /// With no pool: dropped, or passed on by a pool that had enough.
    Commons,
    /// With the kernel for receiving: fill ring, driver or receive ring.
    Receive,
    /// With the kernel for sending: transmit ring, driver or completion ring.
    Transmit,
}

/// How many frames of an area are where. Adds up to the number of frames of the area.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// In the free lists of pools.
    pub pool: u32,
    /// In the hands of the program, as [`Frame`](crate::Frame) values.
    pub hand: u32,
    /// Free but in no pool: dropped frames, and what full pools passed on. Any pool of the area
    /// takes from here when it runs empty.
    pub commons: u32,
    /// With the kernel for receiving (fill ring, driver, receive ring).
    pub receive: u32,
    /// With the kernel for sending (transmit ring, driver, completion ring).
    pub transmit: u32,
}

impl Census {
    /// All frames counted.
    pub fn total(&self) -> u32 {
        self.pool + self.hand + self.commons + self.receive + self.transmit
    }
}

/// The ledger of one area.
pub(crate) struct Audit {
    #[cfg(debug_assertions)]
    places: Box<[AtomicU8]>,
}

#[cfg(debug_assertions)]
impl Audit {
    const ALL: [Place; 5] = [
        Place::Pool,
        Place::Hand,
        Place::Commons,
        Place::Receive,
        Place::Transmit,
    ];

    /// A ledger whose frames are all in a pool.
    pub(crate) fn new(count: u32) -> Audit {
        Audit {
            places: (0..count)
                .map(|_| AtomicU8::new(Place::Pool as u8))
                .collect(),
        }
    }

    /// Notes a move.
    ///
    /// # Panics
    /// When the frame was not at `from`.
    #[track_caller]
    pub(crate) fn moved(&self, index: u32, from: Place, to: Place) {
        let was = self.places[index as usize].swap(to as u8, Ordering::Relaxed);
        assert!(
            was == from as u8,
            "frame {index} moves from {from:?} to {to:?} but was in {:?}",
            Self::ALL[usize::from(was)]
        );
    }

    pub(crate) fn census(&self) -> Option<Census> {
        let mut counts = [0; 5];
        for place in &self.places {
            counts[usize::from(place.load(Ordering::Relaxed))] += 1;
        }
        let [pool, hand, commons, receive, transmit] = counts;
        Some(Census {
            pool,
            hand,
            commons,
            receive,
            transmit,
        })
    }
}

#[cfg(not(debug_assertions))]
impl Audit {
    pub(crate) fn new(_count: u32) -> Audit {
        Audit {}
    }

    #[inline(always)]
    pub(crate) fn moved(&self, _index: u32, _from: Place, _to: Place) {}

    pub(crate) fn census(&self) -> Option<Census> {
        None
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn moves_are_followed() {
        let audit = Audit::new(3);
        audit.moved(1, Place::Pool, Place::Hand);
        audit.moved(1, Place::Hand, Place::Transmit);
        audit.moved(2, Place::Pool, Place::Receive);
        let census = audit.census().unwrap();
        assert_eq!(
            census,
            Census {
                pool: 1,
                receive: 1,
                transmit: 1,
                ..Census::default()
            }
        );
        assert_eq!(census.total(), 3);
    }

    #[test]
    #[should_panic(expected = "frame 0 moves from Hand to Transmit but was in Transmit")]
    fn a_frame_in_two_places_stops_the_program() {
        let audit = Audit::new(1);
        audit.moved(0, Place::Pool, Place::Hand);
        audit.moved(0, Place::Hand, Place::Transmit);
        audit.moved(0, Place::Hand, Place::Transmit);
    }
}
