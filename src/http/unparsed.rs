//! Requests that HTTP's parser refuses: they are answered like all others, and leave a trace.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use uuid::Uuid;

use crate::front::Refuse;

/// Answers what could not be parsed. `tls`: whether the listener speaks it.
pub fn refuse_unparsed(tls: bool) -> Refuse {
    Arc::new(move |status, peer| answer(status, peer, tls))
}

fn answer(status: u16, _peer: Option<SocketAddr>, tls: bool) -> Bytes {
    let (reason, error) = match status {
        408 => ("Request Timeout", "The request did not arrive in time"),
        431 => ("Request Header Fields Too Large", "The head of the request is too large"),
        500 => ("Internal Server Error", "The request could not be answered"),
        _ => ("Bad Request", "The request is not valid HTTP"),
    };
    let request_id = Uuid::new_v4();
    let body = format!(r#"{{"ok":false,"error":"{error}"}}"#);
    let secure = if tls { "strict-transport-security: max-age=31536000\r\n" } else { "" };
    let length = body.len();
    Bytes::from(format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-length: {length}\r\nconnection: close\r\n\
         content-type: application/json\r\nx-request-id: {request_id}\r\nx-content-type-options: nosniff\r\n\
         x-frame-options: DENY\r\nreferrer-policy: no-referrer\r\n{secure}\r\n{body}"
    ))
}
