//! The DSCP and ECN fields at a tunnel's two ends (RFC 6040, RFC 2983, RFC 4301 5.1.2).
//!
//! Encapsulation is RFC 6040's normal mode: the outer header's ECN field is the inner one's.
//! Decapsulation is its figure 4. DSCP is copied outward or set to a fixed value, and inward the
//! inner one stays (RFC 4301 5.1.2.1: the outer DSCP is discarded).
//!
//! Not here: compatibility mode, for which RFC 6040 4.3 asks only where a legacy egress is known.

/// The low two bits of the TOS or traffic class byte.
pub const ECN_MASK: u8 = 0b11;

/// Not ECN-capable transport.
pub const NOT_ECT: u8 = 0b00;
/// ECN-capable transport, codepoint 1.
pub const ECT1: u8 = 0b01;
/// ECN-capable transport, codepoint 0.
pub const ECT0: u8 = 0b10;
/// Congestion experienced.
pub const CE: u8 = 0b11;

/// The outer header's DSCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OuterDscp {
    /// That of the inner packet.
    #[default]
    Copy,
    /// Always this one (0 to 63), so that classes inside are not visible outside.
    Fixed(u8),
}

/// What the inner header's ECN field becomes on decapsulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decapsulated {
    /// The inner TOS or traffic class byte to use; often the one that is there.
    Keep(u8),
    /// The outer header says congestion, the inner transport cannot hear it: drop (RFC 6040 4.2).
    Drop,
}

/// The outer TOS or traffic class byte as a function of the inner one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OuterTos {
    /// Bits that are the inner byte's.
    keep: u8,
    /// Bits that are always set.
    set: u8,
}

impl OuterTos {
    /// With this DSCP, and the inner packet's ECN field.
    #[must_use]
    pub const fn new(dscp: OuterDscp) -> Self {
        match dscp {
            OuterDscp::Copy => Self { keep: 0xff, set: 0 },
            OuterDscp::Fixed(dscp) => Self {
                keep: ECN_MASK,
                set: dscp << 2,
            },
        }
    }

    /// The outer byte for an inner one.
    #[must_use]
    #[inline(always)]
    pub const fn of(self, inner: u8) -> u8 {
        inner & self.keep | self.set
    }
}

/// Combines the inner and outer bytes of an arriving packet.
#[must_use]
#[inline]
pub const fn decapsulate(inner: u8, outer: u8) -> Decapsulated {
    let dscp = inner & !ECN_MASK;
    match (inner & ECN_MASK, outer & ECN_MASK) {
        (NOT_ECT, CE) => Decapsulated::Drop,
        (ECT0, ECT1) => Decapsulated::Keep(dscp | ECT1),
        (ECT0 | ECT1, CE) => Decapsulated::Keep(dscp | CE),
        _ => Decapsulated::Keep(inner),
    }
}

/// Whether the inner byte certainly stays as it is: what nearly all packets pass.
#[must_use]
#[inline(always)]
pub const fn is_kept(inner: u8, outer: u8) -> bool {
    outer & ECN_MASK == NOT_ECT || (inner ^ outer) & ECN_MASK == 0
}

/// Whether RFC 6040 figure 4 marks the combination as one that no current tunnel produces, so that
/// it may be worth counting.
#[must_use]
pub const fn unexpected(inner: u8, outer: u8) -> bool {
    matches!(
        (inner & ECN_MASK, outer & ECN_MASK),
        (NOT_ECT, ECT0 | ECT1 | CE) | (ECT1, ECT0) | (CE, ECT1)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6040 figure 4, row by row: arriving inner, then the outgoing field for an outer header
    /// of Not-ECT, ECT(0), ECT(1), CE. `None` drops; `true` is a (!) or (!!!) mark.
    #[test]
    fn figure_4() {
        const COLUMNS: [u8; 4] = [NOT_ECT, ECT0, ECT1, CE];
        type Row = (u8, [(Option<u8>, bool); 4]);
        let table: [Row; 4] = [
            (
                NOT_ECT,
                [
                    (Some(NOT_ECT), false),
                    (Some(NOT_ECT), true),
                    (Some(NOT_ECT), true),
                    (None, true),
                ],
            ),
            (
                ECT0,
                [
                    (Some(ECT0), false),
                    (Some(ECT0), false),
                    (Some(ECT1), false),
                    (Some(CE), false),
                ],
            ),
            (
                ECT1,
                [
                    (Some(ECT1), false),
                    (Some(ECT1), true),
                    (Some(ECT1), false),
                    (Some(CE), false),
                ],
            ),
            (
                CE,
                [
                    (Some(CE), false),
                    (Some(CE), false),
                    (Some(CE), true),
                    (Some(CE), false),
                ],
            ),
        ];
        for (inner, row) in table {
            for (outer, (expected, marked)) in COLUMNS.into_iter().zip(row) {
                for dscp in [0u8, 46 << 2] {
                    let expected =
                        expected.map_or(Decapsulated::Drop, |ecn| Decapsulated::Keep(dscp | ecn));
                    // The outer DSCP never comes in.
                    assert_eq!(decapsulate(dscp | inner, 10 << 2 | outer), expected);
                    assert_eq!(unexpected(dscp | inner, outer), marked, "{inner} {outer}");
                    let kept = expected == Decapsulated::Keep(dscp | inner);
                    assert!(kept || !is_kept(dscp | inner, 10 << 2 | outer));
                    // What all traffic is but for congestion.
                    assert!(is_kept(dscp | inner, inner) && is_kept(inner, NOT_ECT));
                }
            }
        }
    }

    #[test]
    fn normal_mode_copies() {
        for ecn in [NOT_ECT, ECT0, ECT1, CE] {
            assert_eq!(
                OuterTos::new(OuterDscp::Copy).of(46 << 2 | ecn),
                46 << 2 | ecn
            );
            assert_eq!(
                OuterTos::new(OuterDscp::Fixed(10)).of(46 << 2 | ecn),
                10 << 2 | ecn
            );
        }
    }
}
