//! What a client sees of a connection.

use std::io::{BufRead, ErrorKind, Read};

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use super::Names;
use crate::support::client::{Stream, read_chunk};

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it should, with the farewell of TLS.
    Closed,
    /// Without one, or reset: there is no telling whether something is missing.
    CutOff,
    /// Not at all.
    StillOpen,
}

/// All that came.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub replies: Vec<Seen>,
    /// What came and is no answer.
    pub rest: Vec<u8>,
    pub end: End,
}

impl Outcome {
    /// Forgets which answers said that they were the last.
    pub fn forget_announced_ends(&mut self) {
        self.replies.iter_mut().for_each(|reply| reply.headers.retain(|line| line != "connection: close"));
    }
}

/// An answer without what is another one each time.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub status: u16,
    line: String,
    /// Sorted.
    headers: Vec<String>,
    body: String,
}

/// Reads until the server closes.
pub fn read_all(stream: &mut Stream, sent: &[u8], names: &Names) -> Outcome {
    let mut bytes = Vec::new();
    let end = match stream.read_to_end(&mut bytes) {
        Ok(_) => End::Closed,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => End::StillOpen,
        Err(_) => End::CutOff,
    };
    let mut rest = &bytes[..];
    let mut replies = Vec::new();
    while let Some(reply) = read_one(&mut rest, sent, names) {
        replies.push(reply);
    }
    Outcome { replies, rest: rest.into(), end }
}

fn read_one(rest: &mut &[u8], sent: &[u8], names: &Names) -> Option<Seen> {
    let end = rest.windows(4).position(|part| part == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&rest[..end]).ok()?;
    let mut lines = head.trim_end().lines();
    let line = lines.next()?.to_owned();
    // Requests of HTTP/1.0 are answered in kind.
    let status = line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let mut from = &rest[end..];
    let mut body = Vec::new();
    // The answer to HEAD tells the length of a body that does not come.
    if !from.is_empty() && !from.starts_with(b"HTTP/1.") {
        if header("transfer-encoding") == Some("chunked") {
            while read_chunk(&mut from, &mut body).ok()? {}
        } else {
            body = from.get(..header("content-length")?.parse().ok()?)?.into();
            from.consume(body.len());
        }
    }
    if header("content-encoding") == Some("gzip") && !body.is_empty() {
        let mut plain = Vec::new();
        MultiGzDecoder::new(&*body).read_to_end(&mut plain).ok()?;
        body = plain;
    }
    let mut headers: Vec<_> = lines.map(|line| shown(line, sent)).collect();
    headers.sort_unstable();
    let body = match serde_json::from_slice::<Value>(&body) {
        Ok(mut json) => {
            mask(&mut json, names);
            json.to_string()
        }
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    *rest = from;
    Some(Seen { status, line, headers, body: body.replace(&names.id, "{id}").replace(&names.other, "{other}") })
}

/// A header without what is another one each time; an id that the client chose is not.
fn shown(line: &str, sent: &[u8]) -> String {
    match line.split_once(": ") {
        Some(("x-request-id", id)) if !sent.windows(id.len()).any(|part| part == id.as_bytes()) => {
            format!("x-request-id: generated, {} letters", id.len())
        }
        Some(("date", date)) => format!("date: {} letters", date.len()),
        _ => line.to_owned(),
    }
}

fn mask(json: &mut Value, names: &Names) {
    match json {
        Value::Object(fields) => {
            if fields.contains_key("agents") {
                fields.remove("uptime");
            }
            for (name, value) in fields {
                let is_new = ["token", "agentId"].contains(&&**name) || crate::support::is_time(value);
                if is_new && !value.is_null() {
                    *value = "new each time".into();
                } else {
                    mask(value, names);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| mask(value, names)),
        Value::String(text) if text.starts_with("agent-") && ![&names.id, &names.other].contains(&&*text) => {
            *text = "new each time".to_owned();
        }
        Value::String(text) if text.starts_with("evt_") => *text = "new each time".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
