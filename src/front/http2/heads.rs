//! Heads of requests and answers, between the types of the `h2` crate and those of actix-http.

use std::{net::SocketAddr, pin::Pin};

use actix_http::{HttpMessage, Payload, Request, ResponseHead};
use actix_web::{
    body::BodySize,
    http::{
        Method, Uri, Version,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
};
use futures_util::Stream;

use super::{super::worker::Worker, Incoming};
use crate::limits::HEAD_MAX_BYTES;

/// In the extensions of a request: its head was larger than one may be, and its headers were left out.
#[derive(Clone, Copy, Debug)]
pub struct HeadTooLarge;

/// As RFC 9113 (6.5.2) counts it.
fn is_too_large(head: &http1::request::Parts) -> bool {
    const OVERHEAD: usize = 32;
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let headers = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + OVERHEAD);
    headers.fold(target, |sum, header| sum + header) > HEAD_MAX_BYTES
}

/// The request, in actix-http's types.
pub(super) fn read_head(
    parts: http1::request::Parts,
    body: Option<Incoming>,
    peer: Option<SocketAddr>,
) -> Option<Request> {
    let payload = match body {
        None => Payload::None,
        Some(body) => Payload::Stream { payload: Box::pin(body) as Pin<Box<dyn Stream<Item = _>>> },
    };
    let mut request = Request::with_payload(payload);
    let head = request.head_mut();
    let target = parts.uri.path_and_query().map_or("/", http1::uri::PathAndQuery::as_str);
    head.uri = Uri::try_from(target).ok()?;
    head.method = Method::from_bytes(parts.method.as_str().as_bytes()).ok()?;
    head.version = Version::HTTP_2;
    head.peer_addr = peer;
    if is_too_large(&parts) {
        request.extensions_mut().insert(HeadTooLarge);
        return Some(request);
    }
    head.headers = HeaderMap::with_capacity(parts.headers.len());
    for (name, value) in &parts.headers {
        let (name, value) = (HeaderName::from_bytes(name.as_ref()), HeaderValue::from_bytes(value.as_bytes()));
        head.headers.append(name.ok()?, value.ok()?);
    }
    Some(request)
}

/// HTTP/2 has no headers of connections (RFC 9113, 8.2.2), and the length is that of the body.
const LEFT_OUT: [HeaderName; 6] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::CONTENT_LENGTH,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

pub(super) fn write_head(head: &ResponseHead, size: BodySize, worker: &Worker) -> http1::Response<()> {
    let mut response = http1::Response::new(());
    *response.version_mut() = http1::Version::HTTP_2;
    *response.status_mut() = http1::StatusCode::from_u16(head.status.as_u16()).expect("a status is a status");
    let headers = response.headers_mut();
    for (name, value) in head.headers.iter().filter(|(name, _)| !LEFT_OUT.contains(name)) {
        let (name, value) =
            (http1::HeaderName::from_bytes(name.as_ref()), http1::HeaderValue::from_bytes(value.as_bytes()));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    if let BodySize::Sized(length) = size {
        headers.insert(http1::header::CONTENT_LENGTH, length.into());
    }
    if !headers.contains_key(http1::header::DATE)
        && let Ok(date) = worker.with_date(http1::HeaderValue::from_str)
    {
        headers.insert(http1::header::DATE, date);
    }
    response
}
