//! Reading request bodies: bounded in size and time, JSON objects only, errors that name the field.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    io::Read,
    mem,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use actix_web::{
    dev::Payload,
    error::PayloadError,
    http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap},
    web::{self, Bytes, BytesMut},
};
use flate2::bufread::MultiGzDecoder;
use futures_util::{FutureExt, StreamExt};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::envelope::ApiError;
use crate::{
    actors::EngineError,
    fleet::UnknownNames,
    limits::{BODY_TIMEOUT_MS, DRAIN_MAX_BYTES, DRAIN_MS, JSON_DEPTH_MAX, PARTIAL_BODIES_MAX_BYTES},
};

/// JSON, as a media type.
pub(super) const JSON: &str = "application/json";

/// What some programs write before a text: it is none of it.
pub(super) const BOM: &str = "\u{feff}";

/// The rules of the fields of a body: what each must be.
pub(super) type FieldRules = [(&'static str, &'static str)];

/// Reads the whole body, which may be empty and has `most` bytes at most.
pub(super) async fn read(headers: &HeaderMap, payload: &mut Payload, most: usize) -> Result<Bytes, ApiError> {
    let announced = announced(headers);
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
    within_time(read_rest(first, announced, payload, most)).await?
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
        poll_fn(|_| if mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }).await;
    }
    payload.next().await
}

async fn read_rest(
    first: Bytes,
    announced: Option<u64>,
    payload: &mut Payload,
    most: usize,
) -> Result<Bytes, ApiError> {
    // Not moved as it grows. What is only announced takes no memory yet.
    let capacity = announced.map_or(first.len(), |length| length.min(most as u64) as usize);
    let mut body = Partial { bytes: BytesMut::with_capacity(capacity), counted: 0 };
    body.add(&first, most)?;
    while let Some(chunk) = payload.next().await {
        body.add(&chunk.map_err(|error| unreadable(&error))?, most)?;
    }
    Ok(mem::take(&mut body.bytes).freeze())
}

/// Bytes of all bodies that have come in part.
static PARTIAL_BYTES: AtomicUsize = AtomicUsize::new(0);

/// A body of which more is to come.
struct Partial {
    bytes: BytesMut,
    /// How much of [`PARTIAL_BYTES`] is its own.
    counted: usize,
}

impl Partial {
    fn add(&mut self, chunk: &[u8], most: usize) -> Result<(), ApiError> {
        if self.bytes.len() + chunk.len() > most {
            return Err(ApiError::BodyTooLarge { most });
        }
        self.counted += chunk.len();
        if PARTIAL_BYTES.fetch_add(chunk.len(), Relaxed) + chunk.len() > PARTIAL_BODIES_MAX_BYTES {
            return Err(ApiError::Unavailable("Too many bodies are arriving at once; try again later"));
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        PARTIAL_BYTES.fetch_sub(self.counted, Relaxed);
    }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok())
}

/// Reads a body that may be compressed with gzip; `most` is the bound for what comes and for what becomes of it.
pub(super) async fn read_gzip(headers: &HeaderMap, payload: &mut Payload, most: usize) -> Result<Bytes, ApiError> {
    let encoding = encoding(headers);
    let is_gzip = ["gzip", "x-gzip"].iter().any(|gzip| encoding.eq_ignore_ascii_case(gzip));
    if !is_gzip && !is_none(&encoding) {
        return Err(ApiError::WrongEncoding { encoding, accepted: "gzip" });
    }
    let body = read(headers, payload, most).await?;
    if !is_gzip || body.is_empty() {
        return Ok(body);
    }
    // Megabytes are not for a thread that heartbeats wait for.
    web::block(move || gunzip(&body, most)).await.map_err(|_| EngineError::Unresponsive)?
}

/// Never makes more of it than one byte too many, whatever it claims to be.
fn gunzip(body: &[u8], most: usize) -> Result<Bytes, ApiError> {
    let mut plain = Vec::new();
    let read = MultiGzDecoder::new(body).take(most as u64 + 1).read_to_end(&mut plain);
    if plain.len() > most {
        return Err(ApiError::BodyTooLarge { most });
    }
    read.map_err(|error| ApiError::BadRequest(format!("The body is not valid gzip: {error}")))?;
    Ok(plain.into())
}

/// Refuses a body that is announced as compressed or otherwise encoded.
pub(super) fn must_be_plain(headers: &HeaderMap) -> Result<(), ApiError> {
    let encoding = encoding(headers);
    if is_none(&encoding) { Ok(()) } else { Err(ApiError::WrongEncoding { encoding, accepted: "identity" }) }
}

/// What the body is announced to be encoded with, as far as it can be shown.
fn encoding(headers: &HeaderMap) -> String {
    let lists: Vec<_> = headers.get_all(CONTENT_ENCODING).map(|list| list.to_str().unwrap_or("?").trim()).collect();
    lists.join(", ").chars().take(ENCODING_MAX_CHARS).collect()
}

const ENCODING_MAX_CHARS: usize = 64;

fn is_none(encoding: &str) -> bool {
    encoding.is_empty() || encoding.eq_ignore_ascii_case("identity")
}

/// Takes what is left of a small body, for a moment at most. An answer that comes before the end of its request makes
/// HTTP/2 reset the stream, and HTTP/1 the connection, and then some clients see that instead of the answer.
pub(super) async fn drain(headers: &HeaderMap, payload: &mut Payload, error: Option<&ApiError>) {
    let has_waited = matches!(error, Some(ApiError::BodyTimeout));
    if has_waited || announced(headers).is_some_and(|length| length > DRAIN_MAX_BYTES as u64) {
        return;
    }
    let rest = async {
        let mut taken = 0;
        while let Some(Ok(chunk)) = payload.next().await {
            taken += chunk.len();
            if taken > DRAIN_MAX_BYTES {
                break;
            }
        }
    };
    // What has not come by then is left.
    let _ = tokio::time::timeout(Duration::from_millis(DRAIN_MS), rest).await;
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
    // Looked at last: what is encoded is no JSON, and a heartbeat need not pay for looking.
    parse_object("body", body, rules).map_err(|wrong| must_be_plain(headers).err().unwrap_or(wrong))
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
    let text = text.strip_prefix(BOM).unwrap_or(text);
    if !text.trim_ascii_start().starts_with('{') {
        return Err(match serde_json::from_str::<IgnoredAny>(text) {
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
    if let Some(unknown) = unknown_fields(text, error, rules) {
        return unknown.into();
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

/// The fields that are not known, if that is what is wrong.
fn unknown_fields(text: &str, error: &serde_json::Error, rules: &FieldRules) -> Option<UnknownNames> {
    if !error.to_string().starts_with("unknown field") {
        return None;
    }
    let fields: BTreeMap<String, IgnoredAny> = serde_json::from_str(text).ok()?;
    UnknownNames::among("field", fields.keys().map(String::as_str), rules.iter().map(|(name, _)| *name))
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
