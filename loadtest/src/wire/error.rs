//! What can go wrong between a request and its answer.
//!
//! Two readers: the tally of a run counts errors by [`WireError::kind`]; a person reads
//! [`WireError::advice`], which says what to do.

use std::io;
use std::time::Duration;

use super::Target;

#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("no connection: {0}")]
    Connect(#[source] io::Error),
    #[error("no TLS session: {0}")]
    Tls(#[source] io::Error),
    #[error("the server closed the connection without an answer")]
    Closed,
    #[error("the connection broke: {0}")]
    Io(#[source] io::Error),
    #[error("not a well-formed HTTP/1.1 answer: {0}")]
    Protocol(&'static str),
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

impl WireError {
    /// A short name to count by.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Tls(_) => "tls",
            Self::Closed => "closed",
            Self::Io(_) => "broken",
            Self::Protocol(_) => "protocol",
            Self::Timeout(_) => "timeout",
        }
    }

    /// One sentence that names the server and says what to do.
    pub(crate) fn advice(&self, target: &Target) -> String {
        match self {
            Self::Connect(cause) if cause.kind() == io::ErrorKind::ConnectionRefused => format!(
                "nothing listens at {target}: start the server (`guardbeat serve`, or `make run`), or correct --url"
            ),
            Self::Connect(cause) => format!("cannot connect to {target}: {cause}"),
            Self::Tls(cause) if cause.to_string().contains("UnknownIssuer") => format!(
                "the certificate of {target} is not signed by the CA given with --ca: the server's CA is in its data folder, tls/ca.pem"
            ),
            Self::Tls(cause) if cause.to_string().contains("InvalidContentType") => {
                format!("{target} does not speak TLS: use http:// instead of https://")
            }
            Self::Tls(cause) => format!("no TLS session with {target}: {cause}"),
            Self::Closed | Self::Protocol(_) if !target.is_tls() => {
                format!("{target} gave no HTTP answer: if it speaks TLS, use https:// and --ca")
            }
            Self::Closed | Self::Io(_) | Self::Protocol(_) | Self::Timeout(_) => {
                format!("{target}: {self}")
            }
        }
    }
}
