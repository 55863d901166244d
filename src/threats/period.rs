//! The spans of time that threats are summed up over.

use std::{fmt, str::FromStr, time::Duration};

/// How far back a summary looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    Hour1,
    Hours6,
    Day1,
    Days7,
    Days30,
}

impl Period {
    /// Every period, the shortest first.
    pub const ALL: [Self; 5] = [Self::Hour1, Self::Hours6, Self::Day1, Self::Days7, Self::Days30];

    /// The name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour1 => "1h",
            Self::Hours6 => "6h",
            Self::Day1 => "24h",
            Self::Days7 => "7d",
            Self::Days30 => "30d",
        }
    }

    pub const fn millis(self) -> u64 {
        const HOUR: u64 = 3600 * 1000;
        match self {
            Self::Hour1 => HOUR,
            Self::Hours6 => 6 * HOUR,
            Self::Day1 => 24 * HOUR,
            Self::Days7 => 7 * 24 * HOUR,
            Self::Days30 => 30 * 24 * HOUR,
        }
    }

    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.millis())
    }

    /// The first millisecond that counts, if it is `now_ms`: a threat of exactly this age is still in.
    pub(super) const fn since(self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.millis())
    }

    /// Its index in [`Self::ALL`].
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Period {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|period| period.name() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_grow_and_are_found_by_their_names() {
        for (place, period) in Period::ALL.into_iter().enumerate() {
            assert_eq!(period.index(), place);
            assert_eq!(period.name().parse(), Ok(period));
        }
        assert!(Period::ALL.is_sorted_by_key(|period| period.duration()));
        assert_eq!("1d".parse::<Period>(), Err(()));
    }
}
