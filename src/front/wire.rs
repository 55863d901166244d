//! Answers of HTTP/1.1 as bytes: what actix-http's encoder writes, for those that it does not see.

use std::io::Write as _;

use actix_http::{ConnectionType, ResponseHead};
use actix_web::{
    body::BodySize,
    http::{
        StatusCode,
        header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING},
    },
};

/// How the body of an answer is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delimited {
    /// There is none.
    Empty,
    /// By its length.
    ByLength,
    /// It comes in chunks.
    Chunked,
}

impl Delimited {
    fn of(status: StatusCode, size: BodySize) -> Self {
        match (status, size) {
            (StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED, _) | (_, BodySize::None | BodySize::Sized(0)) => {
                Self::Empty
            }
            (_, BodySize::Sized(_)) => Self::ByLength,
            (_, BodySize::Stream) => Self::Chunked,
        }
    }

    /// Writes a piece of the body, which is not empty.
    pub(super) fn write_chunk(self, chunk: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Empty => {}
            Self::ByLength => out.extend_from_slice(chunk),
            Self::Chunked => {
                write!(out, "{:x}\r\n", chunk.len()).expect("a vector takes all that is written to it");
                out.extend_from_slice(chunk);
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Writes the end of the body.
    pub(super) fn write_end(self, out: &mut Vec<u8>) {
        match self {
            Self::Empty | Self::ByLength => {}
            Self::Chunked => out.extend_from_slice(b"0\r\n\r\n"),
        }
    }
}

/// Whether the connection is closed after this answer.
pub(super) fn closes(head: &ResponseHead) -> bool {
    head.connection_type() == ConnectionType::Close
}

/// Writes the head of an answer whose body has this size.
pub(super) fn write_head(head: &ResponseHead, size: BodySize, date: &str, out: &mut Vec<u8>) -> Delimited {
    let body = Delimited::of(head.status, size);
    write!(out, "HTTP/1.1 {} {}\r\n", head.status.as_u16(), head.reason()).expect("a vector takes all");
    match (body, size) {
        (Delimited::Chunked, _) => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        (_, BodySize::Sized(length))
            if head.status != StatusCode::NO_CONTENT && head.status != StatusCode::NOT_MODIFIED =>
        {
            write!(out, "content-length: {length}\r\n").expect("a vector takes all");
        }
        (Delimited::Empty | Delimited::ByLength, _) => {}
    }
    if closes(head) {
        out.extend_from_slice(b"connection: close\r\n");
    }
    for (name, value) in &head.headers {
        if ![CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, DATE].contains(name) {
            write_header(name.as_str().as_bytes(), value.as_bytes(), out);
        }
    }
    write_header(b"date", date.as_bytes(), out);
    out.extend_from_slice(b"\r\n");
    body
}

fn write_header(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}
