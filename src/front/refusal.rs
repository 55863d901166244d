//! Requests that the HTTP/1 parser refuses: counted and logged like all others.
//!
//! actix-http answers what it cannot parse by itself, with an empty body, and calls no service.
//! Such an answer is known by two things: no request of ours is being answered, and the bytes end with a head that has no
//! request id, which all our answers have.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;

/// Counts and logs a request that could not be parsed, and gives the whole answer to send in place of an empty one. Takes
/// the status and the peer.
pub type Refuse = Arc<dyn Fn(u16, Option<SocketAddr>) -> Bytes + Send + Sync>;

/// Where in `bytes` the parser's own answer begins, and its status. It is always the last one.
pub(super) fn find(bytes: &[u8]) -> Option<(usize, u16)> {
    const VERSION: &[u8] = b"HTTP/1.";
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let start = bytes.windows(VERSION.len()).rposition(|window| window == VERSION)?;
    let head = &bytes[start..];
    // "HTTP/1.1 400 …"
    let status: u16 = std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()?;
    let head = head.to_ascii_lowercase();
    let contains = |text: &[u8]| head.windows(text.len()).any(|window| window == text);
    (status >= 400 && contains(b"\r\ncontent-length: 0\r\n") && !contains(b"\r\nx-request-id:"))
        .then_some((start, status))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-request-id: 1\r\n\r\n{}";
    const THEIRS: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

    #[test]
    fn the_parsers_own_answer_is_found_behind_ours() {
        assert_eq!(find(THEIRS.as_bytes()), Some((0, 400)));
        assert_eq!(find(format!("{OURS}{THEIRS}").as_bytes()), Some((OURS.len(), 400)));
    }

    #[test]
    fn our_own_answers_are_none_of_the_parsers() {
        for ours in [
            OURS,
            "HTTP/1.1 304 Not Modified\r\nx-request-id: 1\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nX-Request-Id: 1\r\n\r\n",
            "0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "",
        ] {
            assert_eq!(find(ours.as_bytes()), None, "{ours}");
        }
    }
}
