//! What one reader of the event stream has seen. Pure: it is fed with whatever has arrived, cut anywhere.
//!
//! Events are numbered: their ids end with a hyphen and a number, the greeting's with that of the last event before it.
//! So it is known of each reader by itself whether something is missing.

use memchr::memchr_iter;

/// Longer lines are none that matter here.
const LINE_BYTES: usize = 128;

#[derive(Debug, Default)]
pub(super) struct Follower {
    /// The line that has not come to its end yet.
    line: Vec<u8>,
    /// The number that it was greeted with; none before that.
    since: Option<u64>,
    last: u64,
    /// Events that were passed over.
    missed: u64,
    /// Whether it was told that it is too slow.
    is_cut_off: bool,
    bytes: u64,
    failure: Option<String>,
}

impl Follower {
    pub(super) fn feed(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        let mut rest = 0;
        for end in memchr_iter(b'\n', piece) {
            let line = &piece[rest..end];
            if self.line.is_empty() {
                self.take(line);
            } else {
                let mut begun = std::mem::take(&mut self.line);
                begun.extend_from_slice(line);
                self.take(&begun);
            }
            rest = end + 1;
        }
        let room = LINE_BYTES.saturating_sub(self.line.len());
        self.line.extend(piece[rest..].iter().take(room));
    }

    fn take(&mut self, line: &[u8]) {
        if let Some(number) = line.strip_prefix(b"id: ").and_then(number) {
            if self.since.is_none() {
                self.since = Some(number);
            } else {
                self.missed += number.abs_diff(self.last + 1);
            }
            self.last = number;
        } else if line == b"event: lagged" {
            self.is_cut_off = true;
        }
    }

    pub(super) fn end(&mut self, failure: String) {
        self.failure = Some(failure);
    }

    /// The number of the last event that it has; none before the greeting.
    pub(super) fn last(&self) -> Option<u64> {
        self.since.map(|_| self.last)
    }

    /// Whether it may still get what others have.
    pub(super) fn is_behind(&self, goal: u64) -> bool {
        self.failure.is_none() && !self.is_cut_off && self.last().is_none_or(|last| last < goal)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The number of the event since which it has seen everything up to `goal`; or why it has not.
    pub(super) fn outcome(self, goal: u64) -> Result<u64, String> {
        match self.since {
            _ if self.is_cut_off => Err("a reader was cut off: it was too slow".to_owned()),
            _ if self.failure.is_some() => Err(self.failure.unwrap_or_default()),
            None => Err("a reader was not greeted".to_owned()),
            Some(_) if self.missed > 0 => Err(format!("{} events are missing in a stream", self.missed)),
            Some(_) if self.last < goal => Err(format!("a reader is {} events behind the others", goal - self.last)),
            Some(since) => Ok(since),
        }
    }
}

/// The number at the end of an id.
fn number(id: &[u8]) -> Option<u64> {
    str::from_utf8(id).ok()?.rsplit_once('-')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: &str = "id: r-7\nevent: connected\ndata: {\"message\":\"id: r-99\"}\n\n";

    /// What somebody has seen who read this in pieces of so many bytes.
    fn fed(text: &str, size: usize) -> Follower {
        let mut follower = Follower::default();
        text.as_bytes().chunks(size).for_each(|piece| follower.feed(piece));
        follower
    }

    #[test]
    fn events_are_followed_however_the_stream_is_cut() {
        let long = "x".repeat(1_000);
        let text =
            format!("{GREETING}id: r-8\nevent: a\ndata: {long}\n\n: keepalive\n\nid: r-9\nevent: a\ndata: {{}}\n\n");
        for size in 1..=text.len() {
            let follower = fed(&text, size);
            assert_eq!((follower.last(), follower.bytes()), (Some(9), text.len() as u64), "in pieces of {size}");
            assert!(follower.line.len() <= LINE_BYTES);
            assert_eq!(follower.outcome(9), Ok(7), "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_stream_is_told() {
        let ended = |mut follower: Follower| {
            follower.end("broken".to_owned());
            follower
        };
        for (follower, told) in [
            (fed("", 1), "not greeted"),
            (fed(&format!("{GREETING}id: r-9\n\n"), 5), "1 events are missing"),
            (fed(&format!("{GREETING}id: r-8\n\nid: r-8\n\n"), 5), "1 events are missing"),
            (fed(&format!("{GREETING}id: r-8\n\n"), 5), "1 events behind"),
            (ended(fed(&format!("{GREETING}event: lagged\ndata: {{}}\n\n"), 5)), "cut off"),
            (ended(fed(GREETING, 5)), "broken"),
        ] {
            let error = follower.outcome(9).expect_err(told);
            assert!(error.contains(told), "{error:?} instead of {told:?}");
        }
    }

    #[test]
    fn only_those_who_may_still_get_something_are_waited_for() {
        assert!(fed(GREETING, 9).is_behind(8) && fed("", 1).is_behind(0));
        assert!(!fed(GREETING, 9).is_behind(7));
        assert!(!fed("event: lagged\n", 9).is_behind(7));
    }
}
