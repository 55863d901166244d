//! HTTP/1.1 over a socket, plain or TLS: what a load generator needs of it and no more.
//!
//! It promises: one request at a time on a [`Link`], answers read whole or streamed, and an error
//! that says what to do about it. It does not know what an agent or a heartbeat is.
//!
//! Why not an HTTP client library: the client shares two cores with the server under test, so that
//! each microsecond spent here is taken from the figure (docs/decisions/0016). A request is one write and one read.

mod chunked;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod inbox;
mod link;
mod reply;
mod request;
mod stream;
mod target;
mod tls;

pub(crate) use error::WireError;
pub(crate) use link::{KeepAlive, Link};
pub(crate) use reply::Reply;
pub(crate) use request::{Method, request};
pub(crate) use target::{Opened, Target};
