//! The head of an answer: its status and how its body ends.

use super::WireError;

/// More headers than this is not an answer of the API.
const MAX_HEADERS: usize = 48;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// `Retry-After` in seconds.
    pub(crate) retry_after_s: Option<u64>,
}

impl Reply {
    /// 2xx.
    pub(crate) fn is_success(self) -> bool {
        (200..300).contains(&self.status)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// By `Content-Length`, in bytes.
    Length(usize),
    /// By the last chunk.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Its length in bytes: where the body begins.
    pub(super) length: usize,
    pub(super) reply: Reply,
    pub(super) framing: Framing,
    /// Whether the server ends the connection after the body.
    pub(super) closes: bool,
}

impl Head {
    /// The head at the beginning of `bytes`; `None` while it is not complete.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, WireError> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(WireError::Protocol("its head cannot be parsed")),
        };
        let status = response.code.ok_or(WireError::Protocol("it has no status"))?;
        let mut head = Self {
            length,
            reply: Reply { status, retry_after_s: None },
            framing: Framing::UntilClose,
            closes: response.version == Some(0),
        };
        for header in response.headers.iter() {
            // Compared by length first: most headers are none of these, and this is the hot path.
            match header.name.len() {
                10 if header.name.eq_ignore_ascii_case("connection") => {
                    head.closes = header.value.eq_ignore_ascii_case(b"close");
                }
                11 if header.name.eq_ignore_ascii_case("retry-after") => {
                    head.reply.retry_after_s = number(header.value);
                }
                14 if header.name.eq_ignore_ascii_case("content-length") => {
                    let length =
                        number(header.value).ok_or(WireError::Protocol("its Content-Length is not a number"))?;
                    head.framing = Framing::Length(length);
                }
                17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                    head.framing = Framing::Chunked;
                }
                _ => {}
            }
        }
        if status == 204 || status == 304 {
            head.framing = Framing::Length(0);
        }
        head.closes |= head.framing == Framing::UntilClose;
        Ok(Some(head))
    }
}

fn number<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Head {
        Head::parse(text.as_bytes()).expect("well-formed").expect("complete")
    }

    #[test]
    fn a_head_says_where_its_body_begins_and_ends() {
        let head = parse("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        assert_eq!(head.length, 38);
        assert_eq!(head.framing, Framing::Length(2));
        assert!(head.reply.is_success());
        assert!(!head.closes);
    }

    #[test]
    fn chunked_bodies_and_closing_servers_are_recognised() {
        let head = parse("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        assert_eq!((head.framing, head.closes), (Framing::Chunked, false));
        let head = parse("HTTP/1.1 503 x\r\nconnection: Close\r\nretry-after: 3\r\ncontent-length: 0\r\n\r\n");
        assert!(head.closes);
        assert_eq!(head.reply.retry_after_s, Some(3));
        assert!(!head.reply.is_success());
        assert!(parse("HTTP/1.1 200 OK\r\n\r\n").closes);
    }

    #[test]
    fn half_a_head_is_no_head_and_nonsense_is_an_error() {
        assert_eq!(Head::parse(b"HTTP/1.1 200 OK\r\nContent-").ok(), Some(None));
        assert!(Head::parse(b"\x16\x03\x01 hello").is_err());
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n").is_err());
    }
}
