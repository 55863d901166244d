//! Validated text, field errors and times that people read.

use std::{fmt, ops::Deref};

/// One field of a request is wrong: which, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {expected}")]
pub struct FieldError {
    /// Name of the field, as the client wrote it.
    pub field: &'static str,
    /// What would have been accepted.
    pub expected: String,
}

impl FieldError {
    /// An error that names `field`.
    pub fn new(field: &'static str, expected: impl Into<String>) -> Self {
        Self { field, expected: expected.into() }
    }
}

/// Required fields of a request were left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Missing required field{}: {}", if .0.len() == 1 { "" } else { "s" }, .0.join(", "))]
pub struct MissingFields(Vec<&'static str>);

impl MissingFields {
    /// Of these fields, those that are not given.
    pub fn of<const N: usize>(fields: [(&'static str, bool); N]) -> Self {
        Self(fields.into_iter().filter(|(_, is_given)| !is_given).map(|(name, _)| name).collect())
    }
}

/// A field is there under both of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is given twice")]
pub struct GivenTwice(&'static str);

/// What is given under one of the two names of a field; `null` is the same as left out.
pub(crate) fn either<T>(name: &'static str, one: Option<T>, other: Option<T>) -> Result<Option<T>, GivenTwice> {
    match (one, other) {
        (Some(_), Some(_)) => Err(GivenTwice(name)),
        (one, other) => Ok(one.or(other)),
    }
}

/// Text of 1 to `MAX` characters, none of them a control character.
///
/// Control characters are refused because these texts end up in logs, metric labels and terminals.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Text<const MAX: usize>(Box<str>);

impl<const MAX: usize> Text<MAX> {
    /// Checks the text of `field`.
    pub fn new(field: &'static str, text: impl Into<Box<str>>) -> Result<Self, FieldError> {
        let text = text.into();
        // Bytes first: a text of at most MAX bytes needs no counting.
        let fits = !text.is_empty() && (text.len() <= MAX || text.chars().count() <= MAX);
        if !fits {
            return Err(FieldError::new(field, format!("a string of 1 to {MAX} characters")));
        }
        if text.chars().any(char::is_control) {
            return Err(FieldError::new(field, "a string without control characters"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_bounded_in_characters_not_bytes() {
        assert!(Text::<3>::new("f", "äöü").is_ok());
        assert_eq!(Text::<3>::new("f", "abcd").unwrap_err().to_string(), "f must be a string of 1 to 3 characters");
        assert!(Text::<3>::new("f", "").is_err());
        assert_eq!(
            Text::<3>::new("f", "a\nb").unwrap_err().to_string(),
            "f must be a string without control characters"
        );
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
