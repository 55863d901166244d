//! The unlimited list of agents, read as it comes: counted, never kept.

use std::time::Duration;

use crate::aside::aside;

use super::{Probe, Scanner};

/// Each agent of a list has this key once.
pub(crate) const AGENT_MARK: &[u8] = b"\"registeredAt\":";

#[derive(Debug, Clone, Copy)]
pub(crate) struct Listing {
    /// From the request to the last byte.
    pub(crate) time: Duration,
    pub(crate) bytes: u64,
    pub(crate) agents: u64,
}

impl Listing {
    pub(crate) async fn read(api: &mut Probe) -> anyhow::Result<Self> {
        let mut bytes = 0;
        let (mut marks, mut agents) = (Scanner::of(AGENT_MARK, 0), 0);
        let time = api
            .stream("/api/agents", |piece| {
                bytes += piece.len() as u64;
                marks.feed(piece, |_| agents += 1);
            })
            .await?;
        Ok(Self { time, bytes, agents })
    }

    /// As [`Listing::read`], on a thread of its own: hundreds of megabytes would keep those waiting who beat on this one.
    /// Dropped, it reads no further.
    pub(crate) async fn read_aside(mut api: Probe) -> anyhow::Result<Self> {
        aside(async move || Self::read(&mut api).await).await
    }
}
