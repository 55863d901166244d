//! Where one HTTP/1 request ends and the next begins.
//!
//! actix-http's dispatcher reads ahead: all that a client has sent of further requests is parsed while the first is being
//! answered, without a bound on how much that is, and 3.20 takes the unread body of a later request for that of the one it
//! answers, announces `Connection: close`, and goes on all the same. So the dispatcher is given one request at a time. Only
//! the ends are looked for here; what a request means, and whether it is one, the parser decides. Where the end is unknown
//! (a chunked body), everything is passed on, for the rest of the connection.

use crate::limits::HEAD_MAX_BYTES;

/// How much of a connection's bytes the dispatcher may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// A head is expected.
    Head,
    /// So many bytes of a body are still to come.
    Body { left: u64 },
    /// A request has been passed on whole.
    Whole,
    /// Ends are not looked for any more.
    Free,
}

/// What to do with bytes that have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// Pass so many on.
    On(usize),
    /// Wait for more of the head.
    Not,
    /// The head is larger than one may be: there is no request.
    TooLarge,
}

impl Framing {
    /// Looks at what has come and has not been passed on; never empty.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Pass {
        match *self {
            Self::Free => Pass::On(bytes.len()),
            Self::Whole => Pass::On(0),
            Self::Body { left } => {
                let passed = left.min(bytes.len() as u64);
                *self = Self::after(left - passed);
                Pass::On(passed as usize)
            }
            Self::Head => {
                let Some(end) = end_of_head(bytes).filter(|end| *end <= HEAD_MAX_BYTES) else {
                    return if bytes.len() <= HEAD_MAX_BYTES { Pass::Not } else { Pass::TooLarge };
                };
                match length_of_body(&bytes[..end]) {
                    Some(length) => {
                        let passed = length.min((bytes.len() - end) as u64);
                        *self = Self::after(length - passed);
                        Pass::On(end + passed as usize)
                    }
                    None => {
                        *self = Self::Free;
                        Pass::On(bytes.len())
                    }
                }
            }
        }
    }

    fn after(left: u64) -> Self {
        if left == 0 { Self::Whole } else { Self::Body { left } }
    }

    /// So many bytes of what was to be passed on did not fit: they are still to come.
    pub(super) fn take_back(&mut self, rest: u64) {
        *self = match *self {
            Self::Free => Self::Free,
            Self::Body { left } => Self::Body { left: left + rest },
            Self::Head | Self::Whole => Self::Body { left: rest },
        };
    }

    /// The request that was passed on has been answered.
    pub(super) fn answered(&mut self) {
        *self = match self {
            Self::Whole | Self::Head => Self::Head,
            // An early answer: whether there will be another request, the dispatcher decides.
            Self::Body { .. } | Self::Free => Self::Free,
        };
    }
}

/// Where the head ends: behind the first empty line. Empty lines before the request line do not count.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let mut line = start;
    while let Some(length) = memchr::memchr(b'\n', &bytes[line..]) {
        let is_empty = length == 0 || (length == 1 && bytes[line] == b'\r');
        line += length + 1;
        if is_empty {
            return Some(line);
        }
    }
    None
}

/// The `Content-Length`: 0 if there is none. None if it is given twice, malformed, or the body is chunked.
fn length_of_body(head: &[u8]) -> Option<u64> {
    const LENGTH: &[u8] = b"content-length:";
    const CODING: &[u8] = b"transfer-encoding";
    let mut length = None;
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        // The first letter rules out most lines.
        match line.first() {
            Some(b'c' | b'C') if starts_with(line, LENGTH) => {
                let digits = std::str::from_utf8(&line[LENGTH.len()..]).ok()?.trim();
                let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                if length.is_some() || !is_plain {
                    return None;
                }
                length = Some(digits.parse().ok()?);
            }
            Some(b't' | b'T') if starts_with(line, CODING) => return None,
            Some(_) | None => {}
        }
    }
    Some(length.unwrap_or(0))
}

fn starts_with(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The pieces that are passed on when `bytes` come in pieces of `size`, and each request is answered once it is whole.
    fn pieces(bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
        let (mut framing, mut waiting, mut requests) = (Framing::Head, Vec::new(), vec![Vec::new()]);
        for piece in bytes.chunks(size) {
            waiting.extend_from_slice(piece);
            while !waiting.is_empty() {
                let Pass::On(passed) = framing.pass(&waiting) else { break };
                requests.last_mut().unwrap().extend(waiting.drain(..passed));
                if framing == Framing::Whole {
                    framing.answered();
                    requests.push(Vec::new());
                }
            }
        }
        requests.pop();
        requests
    }

    #[test]
    fn pipelined_requests_are_passed_on_one_by_one_however_they_are_cut() {
        let requests: [&[u8]; 6] = [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\nHost: a\r\n\r\n\r\n\r\nx",
            b"POST / HTTP/1.1\r\ncontent-length:0\r\n\r\n",
            b"\r\nGET / HTTP/1.1\nHost: a\n\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nCONTENT-LENGTH: 2 \r\n\r\n{}",
            b"GET / HTTP/1.1\r\nX: transfer-encoding\r\nTe: x\r\n\r\n",
        ];
        let all = requests.concat();
        for size in 1..=all.len() {
            assert_eq!(pieces(&all, size), requests, "in pieces of {size}");
        }
    }

    #[test]
    fn what_has_no_plain_length_is_passed_on_as_it_comes() {
        for head in [
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        ] {
            let mut framing = Framing::Head;
            assert_eq!(framing.pass(format!("{head}rest").as_bytes()), Pass::On(head.len() + 4), "{head}");
            assert_eq!(framing, Framing::Free);
        }
    }

    #[test]
    fn a_head_has_no_more_bytes_than_the_bound() {
        let pass = |bytes: &[u8]| Framing::Head.pass(bytes);
        assert_eq!(pass(&[b'a'; HEAD_MAX_BYTES]), Pass::Not);
        assert_eq!(pass(&[b'a'; HEAD_MAX_BYTES + 1]), Pass::TooLarge);
        let head = |length: usize| format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(length - 23)).into_bytes();
        assert_eq!(pass(&head(HEAD_MAX_BYTES)), Pass::On(HEAD_MAX_BYTES));
        assert_eq!(pass(&head(HEAD_MAX_BYTES + 1)), Pass::TooLarge);
        // What follows it is none of it.
        let with_more = [head(HEAD_MAX_BYTES), head(100)].concat();
        assert_eq!(pass(&with_more), Pass::On(HEAD_MAX_BYTES));
    }

    #[test]
    fn what_does_not_fit_is_still_to_come() {
        for (passed, then) in [
            (Framing::Free, Framing::Free),
            (Framing::Body { left: 5 }, Framing::Body { left: 12 }),
            (Framing::Whole, Framing::Body { left: 7 }),
            (Framing::Head, Framing::Body { left: 7 }),
        ] {
            let mut framing = passed;
            framing.take_back(7);
            assert_eq!(framing, then, "{passed:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_lost_or_made_up(bytes: Vec<u8>, size in 1_usize..50) {
            let (mut framing, mut waiting, mut passed_on) = (Framing::Head, Vec::new(), Vec::new());
            for piece in bytes.chunks(size) {
                waiting.extend_from_slice(piece);
                while !waiting.is_empty() && let Pass::On(passed) = framing.pass(&waiting) {
                    passed_on.extend(waiting.drain(..passed));
                    framing.answered();
                }
            }
            passed_on.extend(waiting);
            prop_assert_eq!(passed_on, bytes);
        }
    }
}
