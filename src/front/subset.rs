//! The strict subset of HTTP/1.1 that the loop of agents' requests answers itself (`http1.rs`).
//!
//! A request is within it if there is one way to read it and nothing about it is unusual: everything else is
//! handed over to actix-http before a byte of it was acted on. So whether something odd is refused, and how, is decided in
//! one place, and two parsers cannot disagree on where a request ends.

use std::mem;

use crate::limits::{LEAN_HEADERS_MAX, LEAN_REQUEST_MAX_BYTES};

/// The head of a request within the subset, as it was sent.
#[derive(Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a str,
    /// The path; there is no query.
    pub path: &'a str,
    /// All headers, in the order in which they came.
    pub headers: &'a [httparse::Header<'a>],
    pub(super) closes: bool,
    /// Bytes of the body.
    pub(super) body_bytes: usize,
    /// Bytes of the head itself.
    pub(super) bytes: usize,
}

impl Head<'_> {
    /// Whether the client closes the connection after the answer.
    pub fn closes(&self) -> bool {
        self.closes
    }
}

/// Bytes of a connection, looked at.
#[derive(Debug)]
pub(super) enum Look<'a> {
    /// The beginning of a request that may be within the subset.
    Partial,
    /// Not within the subset, as far as it has come.
    Outside,
    /// A head within the subset; its body may be still to come.
    Head(Head<'a>),
}

/// Memory for the headers of one request.
pub(super) type Headers<'a> = [httparse::Header<'a>; LEAN_HEADERS_MAX];

/// Looks at the bytes that a request begins with.
pub(super) fn look<'a>(bytes: &'a [u8], headers: &'a mut Headers<'a>) -> Look<'a> {
    // httparse skips empty lines before a request.
    if bytes.first().is_some_and(|first| !first.is_ascii_uppercase()) {
        return Look::Outside;
    }
    let mut request = httparse::Request::new(headers);
    let head_bytes = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < LEAN_REQUEST_MAX_BYTES => return Look::Partial,
        Ok(httparse::Status::Partial) | Err(_) => return Look::Outside,
    };
    let (Some(method), Some(path), Some(1)) = (request.method, request.path, request.version) else {
        return Look::Outside;
    };
    let framing = Framing::of(request.headers).filter(|framing| {
        framing.has_host
            && framing.body_bytes.unwrap_or(0) <= LEAN_REQUEST_MAX_BYTES.saturating_sub(head_bytes)
            && is_plain(path)
            && !has_bare_line_feed(&bytes[..head_bytes])
    });
    let Some(Framing { body_bytes, connection, .. }) = framing else {
        return Look::Outside;
    };
    Look::Head(Head {
        method,
        path,
        headers: request.headers,
        closes: connection == Some(Connection::Close),
        body_bytes: body_bytes.unwrap_or(0),
        bytes: head_bytes,
    })
}

/// What the headers say of where the request ends and whether another one follows.
#[derive(Default)]
struct Framing {
    has_host: bool,
    body_bytes: Option<usize>,
    connection: Option<Connection>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Connection {
    KeepAlive,
    Close,
}

impl Connection {
    fn of(value: &[u8]) -> Option<Self> {
        [(&b"keep-alive"[..], Self::KeepAlive), (b"close", Self::Close)]
            .into_iter()
            .find_map(|(name, connection)| value.eq_ignore_ascii_case(name).then_some(connection))
    }
}

impl Framing {
    /// None if a header is one that the subset does not have.
    fn of(headers: &[httparse::Header<'_>]) -> Option<Self> {
        let mut framing = Self::default();
        for header in headers {
            let is_named = |name: &str| header.name.eq_ignore_ascii_case(name);
            // The length rules out most names.
            let is_repeated = match header.name.len() {
                4 if is_named("host") => mem::replace(&mut framing.has_host, true),
                6 if is_named("expect") || is_named("origin") => return None,
                7 if is_named("upgrade") => return None,
                10 if is_named("connection") => framing.connection.replace(Connection::of(header.value)?).is_some(),
                14 if is_named("content-length") => framing.body_bytes.replace(length(header.value)?).is_some(),
                17 if is_named("transfer-encoding") => return None,
                _ => false,
            };
            if is_repeated {
                return None;
            }
        }
        Some(framing)
    }
}

/// A length that is written in the usual way.
fn length(digits: &[u8]) -> Option<usize> {
    let is_usual = (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    is_usual.then(|| digits.iter().fold(0, |length, digit| 10 * length + usize::from(digit - b'0')))
}

/// Whether a target is a path alone, in letters that mean themselves.
fn is_plain(target: &str) -> bool {
    target.starts_with('/')
        && target.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.'))
}

fn has_bare_line_feed(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|place| place == 0 || head[place - 1] != b'\r')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes of head and body, and whether the client closes; none outside the subset or of what is not whole.
    fn seen(bytes: &[u8]) -> Option<(usize, usize, bool)> {
        let mut headers = [httparse::EMPTY_HEADER; LEAN_HEADERS_MAX];
        match look(bytes, &mut headers) {
            Look::Head(head) => Some((head.bytes, head.body_bytes, head.closes)),
            Look::Partial | Look::Outside => None,
        }
    }

    fn is_outside(bytes: &[u8]) -> bool {
        let mut headers = [httparse::EMPTY_HEADER; LEAN_HEADERS_MAX];
        matches!(look(bytes, &mut headers), Look::Outside)
    }

    #[test]
    fn a_usual_request_is_within_once_its_head_is_whole() {
        let head = b"POST /a/b-c_d.e/1 HTTP/1.1\r\nHost: h\r\ncontent-LENGTH: 12\r\nX: y\r\n\r\n";
        assert_eq!(seen(head), Some((head.len(), 12, false)));
        for length in 1..head.len() {
            assert!(seen(&head[..length]).is_none() && !is_outside(&head[..length]), "{length} bytes");
        }
        let get = |connection: &str| format!("GET / HTTP/1.1\r\nHost: h\r\n{connection}\r\n").into_bytes();
        assert_eq!(seen(&get("")).map(|(_, _, closes)| closes), Some(false));
        assert_eq!(seen(&get("Connection: Keep-Alive\r\n")).map(|(_, _, closes)| closes), Some(false));
        assert_eq!(seen(&get("Connection: close\r\n")).map(|(_, _, closes)| closes), Some(true));
    }

    #[test]
    fn whatever_is_unusual_is_outside() {
        let with = |line: &str| format!("POST / HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n");
        for line in [
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: +1",
            "Content-Length: 1, 1",
            "Content-Length:",
            "Content-Length: 0x1",
            "Content-Length: 9999999999",
            "Transfer-Encoding: chunked",
            "transfer-encoding: identity",
            "Expect: 100-continue",
            "Upgrade: h2c",
            "Connection: upgrade",
            "Connection: keep-alive, close",
            "Connection: close\r\nConnection: close",
            "Origin: http://a",
            "Host: h",
            "A: b\n c: d",
            "A: b\r\n folded",
            "A : b",
            ": b",
            "A: \0",
        ] {
            assert!(is_outside(with(line).as_bytes()), "{line}");
        }
        for start in [
            "POST / HTTP/1.0",
            "POST / HTTP/2.0",
            "POST http://h/ HTTP/1.1",
            "POST * HTTP/1.1",
            "POST /?q HTTP/1.1",
            "POST /a%20 HTTP/1.1",
            "POST /a#b HTTP/1.1",
            "PRI * HTTP/2.0",
            "post / HTTP/1.1",
            "\r\nPOST / HTTP/1.1",
            "POST  / HTTP/1.1",
            "\u{16}\u{3}\u{1}",
        ] {
            assert!(is_outside(format!("{start}\r\nHost: h\r\n\r\n").as_bytes()), "{start}");
        }
        assert!(is_outside(b"GET / HTTP/1.1\r\n\r\n"), "without a Host");
        assert!(is_outside(b"GET / HTTP/1.1\nHost: h\n\n"), "bare line feeds");
    }

    #[test]
    fn what_does_not_fit_is_outside() {
        let length = LEAN_REQUEST_MAX_BYTES;
        assert!(is_outside(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n").as_bytes()));
        assert!(is_outside(format!("POST / HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(length)).as_bytes()));
        let many = "X: y\r\n".repeat(LEAN_HEADERS_MAX);
        assert!(is_outside(format!("POST / HTTP/1.1\r\nHost: h\r\n{many}\r\n").as_bytes()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            seen(&bytes);
        }

        #[test]
        fn what_is_within_is_read_alike_however_much_follows(line in "[A-Za-z-]{1,9}: [ -~]{0,9}", rest: Vec<u8>) {
            let head = format!("POST /x HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n").into_bytes();
            prop_assert_eq!(seen(&head), seen(&[head.clone(), rest].concat()));
        }
    }

    /// What a reference reader, naive and line by line, makes of the same bytes.
    #[derive(Debug, PartialEq)]
    struct Naive {
        method: String,
        path: String,
        headers: Vec<(String, Vec<u8>)>,
        head_bytes: usize,
        body_bytes: usize,
        closes: bool,
    }

    impl Naive {
        fn of(bytes: &[u8]) -> Option<Self> {
            let mut lines = Vec::new();
            let mut rest = bytes;
            let head_bytes = loop {
                let end = rest.windows(2).position(|two| two == b"\r\n")?;
                let line = &rest[..end];
                rest = &rest[end + 2..];
                if line.is_empty() {
                    break bytes.len() - rest.len();
                }
                lines.push(line);
            };
            let words: Vec<_> = std::str::from_utf8(lines.first()?).ok()?.split(' ').collect();
            let [method, path, "HTTP/1.1"] = words[..] else { return None };
            let headers: Vec<_> = lines[1..]
                .iter()
                .map(|line| {
                    let colon = line.iter().position(|byte| *byte == b':')?;
                    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
                    let value = &line[colon + 1..];
                    let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
                    let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
                    Some((std::str::from_utf8(&line[..colon]).ok()?.to_ascii_lowercase(), value[start..end].to_vec()))
                })
                .collect::<Option<_>>()?;
            let only = |name: &str| -> Result<Option<String>, ()> {
                let mut values = headers.iter().filter(|(known, _): &&(String, Vec<u8>)| known == name);
                let first = values.next().map(|(_, value)| String::from_utf8_lossy(value).to_ascii_lowercase());
                if values.next().is_some() { Err(()) } else { Ok(first) }
            };
            only("host").ok()??;
            if headers.iter().any(|(name, _)| ["transfer-encoding", "expect", "upgrade", "origin"].contains(&&**name)) {
                return None;
            }
            let body_bytes = only("content-length").ok()?.map_or(Some(0), |digits| digits.parse().ok())?;
            let closes = match only("connection").ok()?.as_deref() {
                None | Some("keep-alive") => false,
                Some("close") => true,
                Some(_) => return None,
            };
            Some(Self { method: method.into(), path: path.into(), headers, head_bytes, body_bytes, closes })
        }
    }

    /// Bytes that are nearly a request, with some of them changed.
    fn nearly() -> impl Strategy<Value = Vec<u8>> {
        use proptest::{
            collection::vec,
            sample::{Index, select},
        };
        let lines = select(vec![
            "Host: l",
            "host:",
            "Content-Length: 5",
            "content-length:0",
            "Content-Length: \t07 ",
            "Connection: close",
            "connection: Keep-Alive",
            "Transfer-Encoding: chunked",
            "Origin: a",
            "Upgrade: a",
            "X-Request-Id: a",
            "X: a\r\n b",
            "X: a\nb",
            "X: \u{e9}",
            "",
        ]);
        let starts = select(vec!["POST /a/b HTTP/1.1", "GET /a-b_c.d HTTP/1.1", "POST /a HTTP/1.0", "G / HTTP/1.1"]);
        let letters = select(b" \t\r\n\0:;,/?#%+-0123aAzZ\x7f\x80\xff".to_vec());
        let changes = vec((any::<Index>(), letters, 0..3_u8), 0..4);
        (starts, vec(lines, 0..6), changes, any::<[u8; 3]>()).prop_map(|(start, lines, changes, rest)| {
            let mut bytes = [start, "\r\nHost: l\r\n", &lines.join("\r\n"), "\r\n\r\n"].concat().into_bytes();
            bytes.extend(rest);
            for (place, letter, how) in changes {
                let place = place.index(bytes.len());
                match how {
                    0 => bytes[place] = letter,
                    1 => bytes.insert(place, letter),
                    _ => drop(bytes.remove(place)),
                }
            }
            bytes
        })
    }

    proptest! {
        // Longer: PROPTEST_CASES=10000000.
        #[test]
        fn whatever_is_within_a_naive_reader_reads_alike(bytes in nearly()) {
            let mut headers = [httparse::EMPTY_HEADER; LEAN_HEADERS_MAX];
            if let Look::Head(head) = look(&bytes, &mut headers) {
                let headers = head.headers.iter().map(|line| (line.name.to_ascii_lowercase(), line.value.to_vec()));
                let seen = Naive {
                    method: head.method.into(),
                    path: head.path.into(),
                    headers: headers.collect(),
                    head_bytes: head.bytes,
                    body_bytes: head.body_bytes,
                    closes: head.closes,
                };
                prop_assert_eq!(Some(seen), Naive::of(&bytes));
            }
        }
    }
}
