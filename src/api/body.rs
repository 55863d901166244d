//! Reading request bodies: bounded in size and time.

use std::{
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

use super::envelope::ApiError;
use crate::{
    engine::EngineError,
    limits::{BODY_TIMEOUT_MS, DRAIN_MAX_BYTES, DRAIN_MS, ENCODING_SHOWN_MAX_CHARS, PARTIAL_BODIES_MAX_BYTES},
};

pub(super) const JSON: &str = "application/json";

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
    /// Its share of [`PARTIAL_BYTES`].
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
    lists.join(", ").chars().take(ENCODING_SHOWN_MAX_CHARS).collect()
}

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

/// Refuses a body that is not announced as one of this kind.
pub(super) fn must_be(kind: &'static str, headers: &HeaderMap) -> Result<(), ApiError> {
    let announced = headers.get(CONTENT_TYPE).and_then(|announced| announced.to_str().ok()).unwrap_or_default();
    if is_of_kind(kind, announced) { Ok(()) } else { Err(ApiError::WrongMediaType { expected: kind }) }
}

/// Whether this `Content-Type` announces a body of this kind.
pub(super) fn is_of_kind(kind: &str, content_type: &str) -> bool {
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(kind)
}
