//! How bad a threat is.

use std::{fmt, str::FromStr};

use serde::Serialize;

/// How bad a threat is, as its agent judged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a line in a log.
    Low,
    /// To be looked at.
    Medium,
    /// To be looked at now.
    High,
    /// An emergency.
    Critical,
}

/// A number for each severity, the lowest first.
pub type BySeverity = [u64; Severity::ALL.len()];

impl Severity {
    /// Every severity, the lowest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The name in the API and in metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// Its index in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Severity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|severity| severity.name() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_grow_and_are_found_by_their_names() {
        assert!(Severity::ALL.is_sorted());
        for (place, severity) in Severity::ALL.into_iter().enumerate() {
            assert_eq!(severity.index(), place);
            assert_eq!(severity.name().parse(), Ok(severity));
        }
        assert_eq!("Low".parse::<Severity>(), Err(()));
    }
}
