//! Names of threats, in the order in which the server took them in.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use crate::fleet::Timestamp;

/// The name of one threat: the millisecond in which it was taken in and a number within it, printed
/// `evt_<16 lowercase hex digits>`. Ids grow, and so do their times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreatId(u64);

/// What stands before the digits of a printed id.
const PREFIX: &str = "evt_";
const DIGITS: usize = 16;
/// Bits of an id that number the threats of one millisecond. Those above last until the year 2527.
const NUMBER_BITS: u32 = 20;
const MILLIS_MAX: u64 = u64::MAX >> NUMBER_BITS;

impl ThreatId {
    /// Length of a printed id in bytes.
    pub const PRINTED_LEN: usize = PREFIX.len() + DIGITS;

    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    /// The id that follows `last`, if it is `now_ms` milliseconds after 1970: always greater. Where the clock has stepped
    /// back, or a millisecond has more threats than numbers, ids run ahead of the clock until it has caught up.
    pub fn after(last: Option<Self>, now_ms: u64) -> Self {
        let first_of_now = now_ms.min(MILLIS_MAX) << NUMBER_BITS;
        Self(last.map_or(first_of_now, |last| first_of_now.max(last.0.saturating_add(1))))
    }

    /// The lowest id that a threat of this millisecond can have.
    pub fn first_of(ms: u64) -> Self {
        Self(ms.min(MILLIS_MAX) << NUMBER_BITS)
    }

    /// The id with this number within its millisecond; none if there is no such id.
    pub fn from_parts(millis: u64, number: u64) -> Option<Self> {
        let fits = millis <= MILLIS_MAX && number < 1 << NUMBER_BITS;
        fits.then_some(Self(millis << NUMBER_BITS | number))
    }

    /// Its number within its millisecond.
    pub const fn number(self) -> u64 {
        self.0 & ((1 << NUMBER_BITS) - 1)
    }

    /// When the threat was taken in: milliseconds since 1970.
    pub const fn millis(self) -> u64 {
        self.0 >> NUMBER_BITS
    }

    /// When the threat was taken in, for people.
    pub const fn time(self) -> Timestamp {
        // 44 bits: it fits.
        Timestamp::from_millis(self.millis() as i64)
    }
}

impl fmt::Display for ThreatId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:016x}", self.0)
    }
}

/// The text is not the printed form of an id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a threat's id is `evt_` and 16 lowercase hexadecimal digits")]
pub struct NotAThreatId;

impl Serialize for ThreatId {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl FromStr for ThreatId {
    type Err = NotAThreatId;

    /// Accepts the printed form only: one threat has one name.
    fn from_str(text: &str) -> Result<Self, NotAThreatId> {
        let digits = text.strip_prefix(PREFIX).ok_or(NotAThreatId)?;
        let well_formed = digits.len() == DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !well_formed {
            return Err(NotAThreatId);
        }
        u64::from_str_radix(digits, 16).map(Self).map_err(|_| NotAThreatId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_printed_form_is_an_id() {
        assert_eq!("evt_00f3a1b2c3d4e5f6".parse(), Ok(ThreatId::new(0x00f3_a1b2_c3d4_e5f6)));
        for wrong in
            ["", "evt_", "evt_00f3a1b2c3d4e5f", "evt_00f3a1b2c3d4e5f67", "evt_00F3a1b2c3d4e5f6", "evt_+0f3a1b2c3d4e5f6"]
        {
            assert_eq!(wrong.parse::<ThreatId>(), Err(NotAThreatId), "{wrong:?}");
        }
    }

    #[test]
    fn an_id_bears_the_time_of_its_making() {
        let id = ThreatId::after(None, 1_772_885_100_000);
        assert_eq!(id.millis(), 1_772_885_100_000);
        assert_eq!(id.time().to_string(), "2026-03-07T12:05:00.000Z");
        assert_eq!(id, ThreatId::first_of(1_772_885_100_000));
    }

    proptest! {
        #[test]
        fn ids_grow_whatever_the_clock_does(clock in proptest::collection::vec(any::<u64>().prop_map(|ms| ms >> 21), 1..50)) {
            let mut last = None;
            for now_ms in clock {
                let id = ThreatId::after(last, now_ms);
                prop_assert!(last < Some(id));
                prop_assert!(id.millis() >= now_ms);
                last = Some(id);
            }
        }

        #[test]
        fn printing_and_parsing_agree(number: u64) {
            let id = ThreatId::new(number);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(id.to_string().len(), ThreatId::PRINTED_LEN);
        }

        #[test]
        fn parsing_never_panics(text in ".*") {
            let _ = text.parse::<ThreatId>();
        }
    }
}
