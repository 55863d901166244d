//! What may be accepted of listeners that other machines can reach.

use std::fmt;

/// A rule for listeners that other machines can reach, which an operator may waive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// The API needs an administrator's token that somebody chose.
    Token,
    /// The API needs TLS.
    Tls,
    /// The operations listener, which asks for no token, is for this machine alone.
    Metrics,
}

impl Exposure {
    const ALL: [Self; 3] = [Self::Token, Self::Tls, Self::Metrics];

    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Tls => "tls",
            Self::Metrics => "metrics",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == text)
    }
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
