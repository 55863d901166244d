//! JSON bodies: objects only, read into the type of the request, with errors that name the field.
//!
//! A field's type validates it: its `Deserialize` fails with [`super::values::must_be`]. An error is parsed a second time to
//! find its field, so the fast path tracks no paths.

use std::collections::BTreeMap;

use actix_web::http::header::HeaderMap;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::{
    body::{self, JSON},
    envelope::ApiError,
    fields::{UnknownNames, fields_of},
};
use crate::limits::JSON_DEPTH_MAX;

/// Byte order mark, which some programs write before a text; skipped.
pub(super) const BOM: &str = "\u{feff}";

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidObject {
    /// It is none that can be read: a sentence.
    #[error("{0}")]
    Whole(String),
    /// A field, and what it must be: `cpu must be a number from 0 to 100`.
    #[error("{0}")]
    Field(String),
    /// Fields that it must not have.
    #[error(transparent)]
    Unknown(#[from] UnknownNames),
}

impl From<InvalidObject> for ApiError {
    fn from(wrong: InvalidObject) -> Self {
        Self::BadRequest(wrong.to_string())
    }
}

impl InvalidObject {
    /// A field must be something.
    pub(super) fn field(name: &str, rule: &str) -> Self {
        Self::Field(format!("{name} must be {rule}"))
    }

    /// Of these fields, some are not given.
    pub(super) fn missing<const N: usize>(fields: [(&str, bool); N]) -> Self {
        let missing: Vec<&str> = fields.into_iter().filter(|(_, is_given)| !is_given).map(|(name, _)| name).collect();
        let plural = if missing.len() == 1 { "" } else { "s" };
        Self::Whole(format!("Missing required field{plural}: {}", missing.join(", ")))
    }
}

/// What is given under one of the two names of a field; `null` is the same as left out.
pub(super) fn either<T>(name: &str, one: Option<T>, other: Option<T>) -> Result<Option<T>, InvalidObject> {
    match (one, other) {
        (Some(_), Some(_)) => Err(InvalidObject::Whole(format!("{name} is given twice"))),
        (one, other) => Ok(one.or(other)),
    }
}

/// Parses a body that must be a JSON object.
pub(super) fn parse<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, ApiError> {
    if !body.is_empty() {
        body::must_be(JSON, headers)?;
    }
    // Looked at last: what is encoded is no JSON, and a heartbeat need not pay for looking.
    parse_object("body", body).map_err(|wrong| body::must_be_plain(headers).err().unwrap_or(wrong.into()))
}

/// Parses what must be a JSON object; `what` it is, for the error.
pub(super) fn parse_object<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, InvalidObject> {
    let text = std::str::from_utf8(bytes).map_err(|_| InvalidObject::Whole(format!("The {what} must be UTF-8")))?;
    if is_too_deep(text) {
        return Err(InvalidObject::Whole(format!("The {what} is nested more than {JSON_DEPTH_MAX} deep")));
    }
    // serde would also take an array for a struct.
    let text = text.strip_prefix(BOM).unwrap_or(text);
    if !text.trim_ascii_start().starts_with('{') {
        return Err(match serde_json::from_str::<IgnoredAny>(text) {
            Err(error) if !text.is_empty() => not_json(what, &error),
            _ => InvalidObject::Whole(format!("The {what} must be a JSON object")),
        });
    }
    serde_json::from_str(text).map_err(|_| explain::<T>(what, text))
}

/// Names the field that is wrong and what it must be.
#[cold]
fn explain<T: DeserializeOwned>(what: &'static str, text: &str) -> InvalidObject {
    // By its grammar: a number that no float holds is one, and an escape that stands for no text too.
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return not_json(what, &error);
    }
    let mut tracked = serde_json::Deserializer::from_str(text);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut tracked) else {
        return InvalidObject::Whole(format!("The {what} cannot be read"));
    };
    let message = &*message(error.inner());
    if message.starts_with("must be ") {
        let path = error.path().to_string();
        let field = path.split(['.', '[']).next().unwrap_or_default();
        return InvalidObject::Field(format!("{field} {message}"));
    }
    let fields: BTreeMap<String, IgnoredAny> = serde_json::from_str(text).unwrap_or_default();
    let unknown = UnknownNames::among("field", fields.keys().map(String::as_str), fields_of::<T>());
    match unknown.filter(|_| message.starts_with("unknown field")) {
        Some(unknown) => unknown.into(),
        // No field is wrong by itself: one is given twice.
        None => match message.strip_prefix("duplicate field `") {
            Some(name) => InvalidObject::Whole(format!("{} is given twice", name.trim_end_matches('`'))),
            None => not_json(what, error.inner()),
        },
    }
}

/// The message of an error, without its position.
pub(super) fn message(error: &serde_json::Error) -> String {
    let mut message = error.to_string();
    message.truncate(message.rfind(" at line ").unwrap_or(message.len()));
    message
}

/// serde bounds the depth of what it reads, but not of what it skips.
fn is_too_deep(text: &str) -> bool {
    // Every level takes two bytes at least, so no heartbeat of the usual size is looked at.
    if text.len() <= 2 * JSON_DEPTH_MAX {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > JSON_DEPTH_MAX {
            return true;
        }
    }
    false
}

fn not_json(what: &'static str, error: &serde_json::Error) -> InvalidObject {
    InvalidObject::Whole(format!("The {what} is not valid JSON: {error}"))
}
