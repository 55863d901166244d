//! How requests travel: over how many connections, alone or many in one.

use std::time::Duration;

use crate::wire::KeepAlive;

const ANSWER_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Transport {
    pub(crate) connections: usize,
    pub(crate) keep_alive: KeepAlive,
    pub(crate) batching: Option<Batching>,
    pub(crate) limit: Duration,
}

impl Transport {
    pub(crate) fn kept(connections: usize) -> Self {
        Self { connections, keep_alive: KeepAlive::Yes, batching: None, limit: ANSWER_LIMIT }
    }
}

/// How beats are put together by a relay, which has the token that the fleet shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batching {
    pub(crate) beats: u64,
    /// For how long a relay gathers them.
    pub(crate) gather: Duration,
}
