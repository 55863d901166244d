//! The unlimited list of agents, read as it comes: counted, never kept.

use std::time::Duration;

use memchr::memmem;

use crate::aside::aside;

use super::Probe;

/// Each agent of a list has this key once.
pub(crate) const AGENT_MARK: &[u8] = b"\"registeredAt\":";

/// What the list was like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listing {
    /// From the request to the last byte.
    pub(crate) time: Duration,
    /// Bytes of the body.
    pub(crate) bytes: u64,
    /// Agents in it.
    pub(crate) agents: u64,
}

impl Listing {
    /// Reads `GET /api/agents` to its end.
    pub(crate) async fn read(api: &mut Probe) -> anyhow::Result<Self> {
        let mut bytes = 0;
        let mut marks = Occurrences::of(AGENT_MARK);
        let time = api
            .stream("/api/agents", |piece| {
                bytes += piece.len() as u64;
                marks.feed(piece);
            })
            .await?;
        Ok(Self { time, bytes, agents: marks.count })
    }

    /// As [`Listing::read`], on a thread of its own: hundreds of megabytes would keep those waiting who beat on this one.
    /// Dropped, it reads no further.
    pub(crate) async fn read_aside(mut api: Probe) -> anyhow::Result<Self> {
        aside(async move || Self::read(&mut api).await).await
    }
}

/// Counts a text in a stream that may be cut anywhere.
struct Occurrences {
    finder: memmem::Finder<'static>,
    /// The end of what has been seen: shorter than the text, so that nothing is counted twice.
    tail: Vec<u8>,
    count: u64,
}

impl Occurrences {
    fn of(text: &'static [u8]) -> Self {
        Self { finder: memmem::Finder::new(text), tail: Vec::new(), count: 0 }
    }

    fn feed(&mut self, piece: &[u8]) {
        let overlap = self.finder.needle().len() - 1;
        // What lies across the cut is found in the tail and as much of the piece.
        self.tail.extend_from_slice(&piece[..piece.len().min(overlap)]);
        self.count += self.finder.find_iter(&self.tail).count() as u64;
        self.count += self.finder.find_iter(piece).count() as u64;
        if piece.len() >= overlap {
            self.tail.clear();
            self.tail.extend_from_slice(&piece[piece.len() - overlap..]);
        } else {
            let surplus = self.tail.len().saturating_sub(overlap);
            self.tail.drain(..surplus);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn occurrences_are_counted_once_however_the_stream_is_cut() {
        let text = br#"[{"registeredAt":"1"},{"registeredAt":"2"},{"registeredAt":"3"}]"#;
        for size in 1..=text.len() {
            let mut marks = Occurrences::of(AGENT_MARK);
            text.chunks(size).for_each(|piece| marks.feed(piece));
            assert_eq!(marks.count, 3, "in pieces of {size}");
        }
    }
}
