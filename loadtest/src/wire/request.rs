//! Requests as bytes.

use std::fmt;

use super::Target;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Method {
    Get,
    Post,
    Delete,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        })
    }
}

/// A whole request; `json` is its body, `token` its bearer token.
pub(crate) fn request(target: &Target, method: Method, path: &str, token: Option<&str>, json: Option<&str>) -> Vec<u8> {
    let mut head = format!("{method} {}{path} HTTP/1.1\r\nhost: {}\r\n", target.prefix(), target.authority());
    if let Some(token) = token {
        head.push_str("authorization: Bearer ");
        head.push_str(token);
        head.push_str("\r\n");
    }
    match json {
        Some(body) => {
            head.push_str("content-type: application/json\r\ncontent-length: ");
            head.push_str(&body.len().to_string());
            head.push_str("\r\n\r\n");
            head.push_str(body);
        }
        None => head.push_str("\r\n"),
    }
    head.into_bytes()
}
