//! Validated text, and times that people read.

use std::{fmt, ops::Deref};

use serde::{Serialize, Serializer};

/// What a text must be, and is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It has no character, or too many.
    #[error("a string of 1 to {0} characters")]
    Length(usize),
    /// It has control characters.
    #[error("a string without control characters")]
    Control,
}

/// Text of 1 to `MAX` characters, none of them a control character.
///
/// Control characters are refused because these texts end up in logs, metric labels and terminals.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Text<const MAX: usize>(Box<str>);

impl<const MAX: usize> Text<MAX> {
    /// Checks the text.
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, Unfit> {
        let text = text.into();
        // Bytes first: a text of at most MAX bytes needs no counting.
        let fits = !text.is_empty() && (text.len() <= MAX || text.chars().count() <= MAX);
        if !fits {
            return Err(Unfit::Length(MAX));
        }
        if text.chars().any(char::is_control) {
            return Err(Unfit::Control);
        }
        Ok(Self(text))
    }

    /// Gives the text away.
    pub fn into_inner(self) -> Box<str> {
        self.0
    }
}

impl<const MAX: usize> Deref for Text<MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// A moment on the server's wall clock: milliseconds since 1970-01-01 UTC. For people; never for deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment that many milliseconds after the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds and `Z`: `2026-03-07T12:05:00.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use chrono::{DateTime, SecondsFormat};
        // A wall clock outside chrono's 262,000 years is shown as the epoch rather than failing a request.
        let moment = DateTime::from_timestamp_millis(self.0).unwrap_or(DateTime::UNIX_EPOCH);
        f.write_str(&moment.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_bounded_in_characters_not_bytes() {
        assert!(Text::<3>::new("äöü").is_ok());
        assert_eq!(Text::<3>::new("abcd").unwrap_err().to_string(), "a string of 1 to 3 characters");
        assert!(Text::<3>::new("").is_err());
        assert_eq!(Text::<3>::new("a\nb").unwrap_err().to_string(), "a string without control characters");
    }

    #[test]
    fn times_are_rfc_3339_with_milliseconds() {
        assert_eq!(Timestamp::from_millis(1_772_885_100_000).to_string(), "2026-03-07T12:05:00.000Z");
        assert_eq!(Timestamp::from_millis(7).to_string(), "1970-01-01T00:00:00.007Z");
    }

    proptest! {
        #[test]
        fn any_time_can_be_shown(millis: i64) {
            prop_assert!(Timestamp::from_millis(millis).to_string().ends_with('Z'));
        }
    }
}
