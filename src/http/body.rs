//! Reading request bodies: bounded in size and time, JSON objects only, errors that name the field.

use std::{future::poll_fn, task::Poll, time::Duration};

use actix_web::{
    dev::Payload,
    error::PayloadError,
    http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap},
    web::{Bytes, BytesMut},
};
use futures_util::{FutureExt, StreamExt};
use serde::de::DeserializeOwned;

use super::envelope::ApiError;
use crate::limits::{BODY_TIMEOUT_MS, JSON_DEPTH_MAX};

/// JSON, as a media type.
pub(super) const JSON: &str = "application/json";

/// The rules of the fields of a body: what each must be.
pub(super) type FieldRules = [(&'static str, &'static str)];

/// Reads the whole body, which may be empty and has `most` bytes at most.
pub(super) async fn read(headers: &HeaderMap, payload: &mut Payload, most: usize) -> Result<Bytes, ApiError> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most as u64) {
        return Err(ApiError::BodyTooLarge { most });
    }
    let first = match payload.next().now_or_never() {
        Some(chunk) => chunk,
        None => within_time(first_chunk(payload)).await?,
    };
    let Some(first) = first else {
        return Ok(Bytes::new());
    };
    let first = first.map_err(|error| unreadable(&error))?;
    if announced == Some(first.len() as u64) {
        return Ok(first);
    }
    within_time(read_rest(first, payload, most)).await?
}

/// The first chunk of a body of which nothing is there yet.
///
/// actix-http's HTTP/1 polls a request before it decodes the body that arrived with the head, and once more right after.
/// Whoever asks for the body at the first of the two polls is woken when it is decoded, at the price of one more turn of the
/// whole connection. So nobody asks yet, and nobody is woken: the second poll comes anyway, or else, when there is nothing
/// to decode, one with the next bytes of the connection, or with the time limit.
async fn first_chunk(payload: &mut Payload) -> Option<Result<Bytes, PayloadError>> {
    if let Payload::H1 { .. } = payload {
        let mut polled = false;
        poll_fn(|_| if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }).await;
    }
    payload.next().await
}

async fn read_rest(first: Bytes, payload: &mut Payload, most: usize) -> Result<Bytes, ApiError> {
    let mut body = BytesMut::from(first);
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| unreadable(&error))?;
        if body.len() + chunk.len() > most {
            return Err(ApiError::BodyTooLarge { most });
        }
        body.extend_from_slice(&chunk);
    }
    if body.len() > most {
        return Err(ApiError::BodyTooLarge { most });
    }
    Ok(body.freeze())
}

fn unreadable(error: &PayloadError) -> ApiError {
    ApiError::BadRequest(format!("The body cannot be read: {error}"))
}

async fn within_time<T>(reading: impl Future<Output = T>) -> Result<T, ApiError> {
    tokio::time::timeout(Duration::from_millis(BODY_TIMEOUT_MS), reading).await.map_err(|_| ApiError::BodyTimeout)
}

/// Parses a body that must be a JSON object.
pub(super) fn parse<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8], rules: &FieldRules) -> Result<T, ApiError> {
    if !body.is_empty() {
        must_be(JSON, headers)?;
    }
    parse_object("body", body, rules)
}

/// Parses what must be a JSON object; `what` it is, for the error.
pub(super) fn parse_object<T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
    rules: &FieldRules,
) -> Result<T, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ApiError::BadRequest(format!("The {what} must be UTF-8")))?;
    if is_too_deep(text) {
        return Err(ApiError::BadRequest(format!("The {what} is nested more than {JSON_DEPTH_MAX} deep")));
    }
    // serde would also take an array for a struct.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(match serde_json::from_str::<serde::de::IgnoredAny>(text) {
            Err(error) if !text.is_empty() => not_json(what, &error),
            _ => ApiError::BadRequest(format!("The {what} must be a JSON object")),
        });
    }
    serde_json::from_str(text).map_err(|error| explain::<T>(what, text, &error, rules))
}

/// Says which field is wrong and what it must be. Reads the body once more: errors are rare, and the fast path need not
/// keep track of where it is.
fn explain<T: DeserializeOwned>(
    what: &'static str,
    text: &str,
    error: &serde_json::Error,
    rules: &FieldRules,
) -> ApiError {
    // serde_json calls a number that no float holds a syntax error, and an escape that stands for no text too.
    let is_json = error.is_data() || serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    if !is_json {
        return not_json(what, error);
    }
    let mut tracked = serde_json::Deserializer::from_str(text);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut tracked) else {
        return not_json(what, error);
    };
    let path = error.path().to_string();
    let field = path.split(['.', '[']).next().unwrap_or_default();
    match rules.iter().find(|(name, _)| *name == field) {
        Some((name, expected)) => ApiError::BadRequest(format!("{name} must be {expected}")),
        // No field is wrong by itself: one is given twice, perhaps once under its other name.
        None => match error.inner().to_string().split('`').nth(1) {
            Some(name) => ApiError::BadRequest(format!("{name} is given twice")),
            None => not_json(what, error.inner()),
        },
    }
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

/// Refuses a body that is not announced as one of this kind.
pub(super) fn must_be(kind: &'static str, headers: &HeaderMap) -> Result<(), ApiError> {
    let announced = headers.get(CONTENT_TYPE).and_then(|announced| announced.to_str().ok()).unwrap_or_default();
    let essence = announced.split(';').next().unwrap_or_default();
    if essence.trim().eq_ignore_ascii_case(kind) { Ok(()) } else { Err(ApiError::WrongMediaType { expected: kind }) }
}

fn not_json(what: &'static str, error: &serde_json::Error) -> ApiError {
    ApiError::BadRequest(format!("The {what} is not valid JSON: {error}"))
}
