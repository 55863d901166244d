//! Requests that the HTTP parser refuses: answered, counted and logged like all others.

use std::{net::SocketAddr, sync::Arc};

use actix_web::http::StatusCode;
use bytes::Bytes;
use uuid::Uuid;

use super::{ApiError, RequestLog, admission::write_common_headers};
use crate::{fleet::Address, front::Refuse};

/// Answers what could not be parsed, and counts and logs it. `tls`: whether the listener speaks it.
pub fn refuse_unparsed(log: RequestLog, tls: bool) -> Refuse {
    Arc::new(move |status, peer| answer(&log, status, peer, tls))
}

fn answer(log: &RequestLog, status: u16, peer: Option<SocketAddr>, tls: bool) -> Bytes {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let error = match status {
        StatusCode::REQUEST_TIMEOUT => "The request did not arrive in time",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => &ApiError::HeadTooLarge.to_string(),
        StatusCode::INTERNAL_SERVER_ERROR => "The request could not be answered",
        _ => "The request is not valid HTTP",
    };
    let request_id = Uuid::new_v4().to_string();
    log.refused_unread(&request_id, status, peer.map(|peer| Address::from(peer.ip())), error);
    let body = format!(r#"{{"ok":false,"error":"{error}"}}"#);
    let mut common = Vec::new();
    write_common_headers(tls, &mut common);
    let common = String::from_utf8_lossy(&common);
    let length = body.len();
    Bytes::from(format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\
         content-type: application/json\r\nx-request-id: {request_id}\r\n{common}\r\n{body}"
    ))
}
