//! The first bytes of a connection: which protocol the peer speaks.
//!
//! They are read once, before it is decided, and then put back in front of the stream.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use super::{connection::Connection, times::ConnectionPhase, transport::Transport};
use crate::limits::{FIRST_READ_BYTES, HEAD_MAX_BYTES};

/// Beginning of the HTTP/2 connection preface (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The method whose requests are looked at.
const POST: &[u8] = b"POST ";

/// The protocol that a connection begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// HTTP/1, or what is no HTTP at all.
    Http1 {
        bytes: Bytes,
    },
    Http2 {
        bytes: Bytes,
    },
}

/// Reads until the protocol is clear. `bytes` have come already.
pub(super) async fn read(
    mut transport: Transport,
    bytes: Bytes,
    connection: &Rc<Connection>,
    is_http2: bool,
) -> Option<(Transport, Opening)> {
    if is_http2 {
        return Some((transport, Opening::Http2 { bytes }));
    }
    let mut bytes = BytesMut::from(bytes);
    let is_first = connection.answered() == 0;
    if !bytes.is_empty() {
        // It has waited for the rest of its head elsewhere; here it has as long as any other.
        connection.enter(ConnectionPhase::Head);
    }
    loop {
        if !bytes.is_empty()
            && let Some(opening) = decide(&mut bytes, is_first)
        {
            return Some((transport, opening));
        }
        bytes.reserve(FIRST_READ_BYTES);
        if transport.read_buf(&mut bytes).await.ok()? == 0 {
            // EOF: the parser answers what is missing.
            return (!bytes.is_empty()).then(|| (transport, Opening::Http1 { bytes: bytes.freeze() }));
        }
        connection.note_bytes();
    }
}

/// Decides, once there are enough bytes.
/// `is_first`: no request has been answered yet, so it may be the preface of HTTP/2.
fn decide(bytes: &mut BytesMut, is_first: bool) -> Option<Opening> {
    let common = bytes.len().min(PREFACE.len());
    if is_first && bytes[..common] == PREFACE[..common] {
        return (common == PREFACE.len()).then(|| Opening::Http2 { bytes: bytes.split().freeze() });
    }
    match has_http_1_0_head(bytes) {
        Head::Partial => return None,
        Head::Other => {}
        Head::Whole { end } => announce_no_body(bytes, end),
    }
    Some(Opening::Http1 { bytes: bytes.split().freeze() })
}

enum Head {
    /// Of HTTP/1.0, and not all of it is there.
    Partial,
    /// Of HTTP/1.0; its empty line begins at `end`.
    Whole { end: usize },
    /// Of another version, or too large.
    Other,
}

fn has_http_1_0_head(bytes: &[u8]) -> Head {
    // Empty lines may come first (RFC 9112, 2.2).
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    let head = &bytes[start..];
    let common = head.len().min(POST.len());
    if bytes.len() > HEAD_MAX_BYTES || head[..common] != POST[..common] {
        return Head::Other;
    }
    let Some(end_of_line) = head.iter().position(|byte| *byte == b'\n') else { return Head::Partial };
    if !head[..=end_of_line].ends_with(b" HTTP/1.0\r\n") {
        return Head::Other;
    }
    match head.windows(4).position(|window| window == b"\r\n\r\n") {
        Some(position) => Head::Whole { end: start + position + 2 },
        None => Head::Partial,
    }
}

/// A request of HTTP/1.0 that announces no body has none, whatever its method (RFC 9112, 6.3), but actix-http 3.20 refuses
/// a POST without a length. Proxies send such: nginx speaks HTTP/1.0 by default.
fn announce_no_body(bytes: &mut BytesMut, end: usize) {
    let head = bytes[..end].to_ascii_lowercase();
    let contains = |name: &[u8]| head.windows(name.len()).any(|window| window == name);
    if contains(b"content-length") || contains(b"transfer-encoding") {
        return;
    }
    let rest = bytes.split_off(end);
    bytes.extend_from_slice(b"Content-Length: 0\r\n");
    bytes.extend_from_slice(&rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(bytes: &[u8]) -> Option<Opening> {
        decide(&mut BytesMut::from(bytes), true)
    }

    fn http1(bytes: &'static [u8]) -> Option<Opening> {
        Some(Opening::Http1 { bytes: Bytes::from_static(bytes) })
    }

    #[test]
    fn http_2_is_known_by_its_whole_preface() {
        for length in 1..PREFACE.len() {
            assert_eq!(decided(&PREFACE[..length]), None);
        }
        assert_eq!(decided(PREFACE), Some(Opening::Http2 { bytes: Bytes::from_static(PREFACE) }));
        assert_eq!(decided(b"PRI * HTTP/1.1\r\n"), http1(b"PRI * HTTP/1.1\r\n"));
    }

    #[test]
    fn a_head_of_http_1_0_without_a_length_announces_that_there_is_no_body() {
        let whole: &[u8] = b"POST /x HTTP/1.0\r\nHost: a\r\n\r\nGET";
        assert_eq!(decided(&whole[..whole.len() - 5]), None, "not before it is whole");
        assert_eq!(decided(whole), http1(b"POST /x HTTP/1.0\r\nHost: a\r\nContent-Length: 0\r\n\r\nGET"));
        assert_eq!(decided(b"\r\nPOST"), None);
        assert_eq!(decided(b"\r\nPOST / HTTP/1.0\r\n\r\n"), http1(b"\r\nPOST / HTTP/1.0\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(decided(b"POST / HTTP/1.0\r\n\r\n"), http1(b"POST / HTTP/1.0\r\nContent-Length: 0\r\n\r\n"));
    }

    #[test]
    fn whatever_else_there_is_stays_as_it_came() {
        for bytes in [
            &b"POST /x HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"POST /x HTTP/1.0\r\nconTent-length: 3\r\n\r\nabc",
            b"POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"\x16\x03\x01",
            b"G",
        ] {
            assert_eq!(decided(bytes), http1(bytes));
        }
    }
}
