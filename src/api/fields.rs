//! Names of fields and parameters: those that a type has, and unrecognised ones in a request.

use std::{cell::Cell, fmt};

use serde::{
    Deserialize,
    de::{Deserializer, Error, Visitor, value},
    forward_to_deserialize_any,
};

use super::envelope::ApiError;
use crate::limits::{UNKNOWN_NAME_MAX_CHARS, UNKNOWN_NAMES_MAX};

/// How alike two names must be for one to be a misspelling of the other (Jaro-Winkler).
const ALIKE: f64 = 0.8;

/// A request has unrecognised fields or parameters. They are refused, not ignored: a misspelt filter would list the whole
/// fleet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) struct UnknownNames {
    /// Their kind: field, query parameter.
    what: &'static str,
    /// Each as it is shown, with the most similar known name.
    names: Vec<(String, Option<&'static str>)>,
    more: usize,
    known: &'static [&'static str],
}

impl UnknownNames {
    /// The unrecognised names among these, if any.
    pub(super) fn among<'a>(
        what: &'static str,
        names: impl IntoIterator<Item = &'a str>,
        known: &'static [&'static str],
    ) -> Option<Self> {
        let mut unknown: Vec<&str> = Vec::new();
        for name in names {
            if !known.contains(&name) && !unknown.contains(&name) && unknown.len() <= UNKNOWN_NAMES_MAX {
                unknown.push(name);
            }
        }
        if unknown.is_empty() {
            return None;
        }
        let more = unknown.len().saturating_sub(UNKNOWN_NAMES_MAX);
        let names = unknown.into_iter().take(UNKNOWN_NAMES_MAX);
        let names = names.map(|name| (shown(name), most_like(name, known))).collect();
        Some(Self { what, names, more, known })
    }

    /// The same names, prefixed with their path in the body: `rules[3].`.
    pub(super) fn within(mut self, path: &str) -> Self {
        self.names.iter_mut().for_each(|(name, _)| name.insert_str(0, path));
        self
    }
}

impl From<UnknownNames> for ApiError {
    fn from(unknown: UnknownNames) -> Self {
        Self::BadRequest(unknown.to_string())
    }
}

impl fmt::Display for UnknownNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.names.len() + self.more == 1 { "" } else { "s" };
        write!(f, "Unknown {}{plural}: ", self.what)?;
        for (place, (name, alike)) in self.names.iter().enumerate() {
            write!(f, "{}{name}", if place == 0 { "" } else { ", " })?;
            if let Some(alike) = alike {
                write!(f, " (did you mean {alike}?)")?;
            }
        }
        if self.more > 0 {
            f.write_str(", and more")?;
        }
        match self.known {
            [] => Ok(()),
            known => write!(f, "; known here: {}", known.join(", ")),
        }
    }
}

/// The name as an error repeats it.
fn shown(name: &str) -> String {
    if name.is_empty() {
        return "\"\"".into();
    }
    let mut shown: String =
        name.chars().take(UNKNOWN_NAME_MAX_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if name.chars().nth(UNKNOWN_NAME_MAX_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

fn most_like(name: &str, known: &[&'static str]) -> Option<&'static str> {
    // Comparing takes the product of the lengths, and no misspelling is that long.
    if name.chars().nth(UNKNOWN_NAME_MAX_CHARS).is_some() {
        return None;
    }
    let name = name.to_lowercase();
    let likeness = known.iter().map(|known| (strsim::jaro_winkler(&name, &known.to_lowercase()), *known));
    let best = likeness.filter(|(likeness, _)| *likeness >= ALIKE).max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.map(|(_, known)| known)
}

/// The fields of a structure, as its `Deserialize` names them. What it has taken apart by hand has none.
pub(super) fn fields_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    /// Asked for a structure, it notes the fields that are wanted.
    struct Asked<'a>(&'a Cell<&'static [&'static str]>);

    impl<'de> Deserializer<'de> for Asked<'_> {
        type Error = value::Error;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, value::Error> {
            self.0.set(fields);
            self.deserialize_any(visitor)
        }

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, value::Error> {
            Err(value::Error::custom("there is nothing"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let fields = Cell::new(&[][..]);
    let _ = T::deserialize(Asked(&fields));
    fields.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(names: &[&str], known: &'static [&'static str]) -> Option<String> {
        UnknownNames::among("field", names.iter().copied(), known).map(|unknown| unknown.to_string())
    }

    #[test]
    fn names_that_are_not_known_are_named_with_what_they_may_have_meant() {
        let known = &["type", "config", "enabled"];
        for (names, error) in [
            (&["type", "config"][..], None),
            (
                &["type", "enable"],
                Some("Unknown field: enable (did you mean enabled?); known here: type, config, enabled"),
            ),
            (&["Enabled"], Some("Unknown field: Enabled (did you mean enabled?); known here: type, config, enabled")),
            (
                &["x", "tpye", "x"],
                Some("Unknown fields: x, tpye (did you mean type?); known here: type, config, enabled"),
            ),
            (&[""], Some("Unknown field: \"\"; known here: type, config, enabled")),
            (&["a\nb"], Some("Unknown field: a\u{fffd}b; known here: type, config, enabled")),
        ] {
            assert_eq!(message(names, known).as_deref(), error, "{names:?}");
        }
        assert_eq!(message(&["x"], &[]).as_deref(), Some("Unknown field: x"));
    }

    #[test]
    fn many_and_long_names_make_no_long_sentence() {
        let names: Vec<String> = (0..1_000).map(|n| format!("{n}").repeat(1_000)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let message = message(&names, &[]).unwrap();
        assert!(message.starts_with("Unknown fields: 000") && message.ends_with("…, and more"), "{message}");
        assert!(message.chars().count() < (UNKNOWN_NAMES_MAX + 1) * (UNKNOWN_NAME_MAX_CHARS + 4), "{message}");
    }
}
