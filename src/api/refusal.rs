//! Why requests are refused, in kinds, and how many of a kind the log takes.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{REFUSAL_LOG_INTERVAL_MS, REFUSALS_LOGGED_AT_ONCE};

/// Why a request was refused, for the log; [`super::ApiError`] puts it into the extensions of its response. May hold what
/// the client must not learn.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) kind: Kind,
    /// In a sentence, or a part of one.
    pub(super) reason: String,
}

/// Why a request has no valid token. For the log only: the client gets the same 401 for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    #[error("no token")]
    NoToken,
    /// Neither the administrator's token, nor of the form of an agent's.
    #[error("the token is not the administrator's, nor of the form of an agent's")]
    Malformed,
    /// Not, or no longer, the token of the agent it names.
    #[error("the token is not, or no longer, that of the agent it names")]
    WrongToken,
    /// It names an agent that is not in the fleet.
    #[error("the token names an agent that is not in the fleet")]
    UnknownAgent,
}

/// Kinds of refusal; each has a share of the log of its own, so that none keeps another out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    NoToken,
    MalformedToken,
    WrongToken,
    UnknownAgent,
    Forbidden,
    AgentNotFound,
    NoSuchPath,
    WrongMethod,
    BadRequest,
    BodyTimeout,
    BodyTooLarge,
    WrongMediaType,
    Conflict,
    Unavailable,
    MalformedHttp,
    MachineIdConflict,
    BatchLine,
    Other,
}

impl Kind {
    pub(super) const ALL: [Self; 18] = [
        Self::NoToken,
        Self::MalformedToken,
        Self::WrongToken,
        Self::UnknownAgent,
        Self::Forbidden,
        Self::AgentNotFound,
        Self::NoSuchPath,
        Self::WrongMethod,
        Self::BadRequest,
        Self::BodyTimeout,
        Self::BodyTooLarge,
        Self::WrongMediaType,
        Self::Conflict,
        Self::Unavailable,
        Self::MalformedHttp,
        Self::MachineIdConflict,
        Self::BatchLine,
        Self::Other,
    ];

    /// Its label in the log.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::MalformedToken => "malformed_token",
            Self::WrongToken => "wrong_token",
            Self::UnknownAgent => "unknown_agent",
            Self::Forbidden => "forbidden",
            Self::AgentNotFound => "agent_not_found",
            Self::NoSuchPath => "no_such_path",
            Self::WrongMethod => "wrong_method",
            Self::BadRequest => "bad_request",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::WrongMediaType => "wrong_media_type",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::MalformedHttp => "malformed_http",
            Self::MachineIdConflict => "machine_id_conflict",
            Self::BatchLine => "batch_line",
            Self::Other => "other",
        }
    }
}

/// A token bucket: so many lines at once, and one more in each interval.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: u32,
    refilled: Instant,
    /// Refusals that found no token since the last that did.
    suppressed: u64,
}

const INTERVAL: Duration = Duration::from_millis(REFUSAL_LOG_INTERVAL_MS);

impl Bucket {
    pub(super) const fn full(now: Instant) -> Self {
        Self { tokens: REFUSALS_LOGGED_AT_ONCE, refilled: now, suppressed: 0 }
    }

    fn refill(&mut self, now: Instant) {
        let intervals = now.saturating_duration_since(self.refilled).as_millis() / INTERVAL.as_millis();
        let intervals = u32::try_from(intervals).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(intervals).min(REFUSALS_LOGGED_AT_ONCE);
        // Time is counted from when there was last something to wait for.
        self.refilled = if self.tokens == REFUSALS_LOGGED_AT_ONCE { now } else { self.refilled + INTERVAL * intervals };
    }

    /// Whether one more may be logged; then, how many were suppressed before it, if any.
    pub(super) fn take(&mut self, now: Instant) -> Option<Option<u64>> {
        self.refill(now);
        if self.tokens == 0 {
            self.suppressed += 1;
            return None;
        }
        self.tokens -= 1;
        Some(self.forget())
    }

    /// The number of suppressed refusals, if there are any and a token to log them.
    pub(super) fn flush(&mut self, now: Instant) -> Option<u64> {
        self.refill(now);
        if self.suppressed == 0 || self.tokens == 0 {
            return None;
        }
        self.tokens -= 1;
        self.forget()
    }

    fn forget(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.suppressed)).filter(|suppressed| *suppressed > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_logged_and_then_one_in_each_interval_with_the_number_of_the_others() {
        let mut bucket = Bucket::full(Instant::now());
        for _ in 0..REFUSALS_LOGGED_AT_ONCE {
            assert_eq!(bucket.take(Instant::now()), Some(None));
        }
        for _ in 0..5 {
            assert_eq!(bucket.take(Instant::now()), None);
        }
        tokio::time::advance(INTERVAL - Duration::from_millis(1)).await;
        assert_eq!(bucket.take(Instant::now()), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(bucket.take(Instant::now()), Some(Some(6)));
        assert_eq!(bucket.take(Instant::now()), None);
        // However long it was quiet, there is no more than a burst.
        tokio::time::advance(INTERVAL * 1_000).await;
        assert_eq!(bucket.take(Instant::now()), Some(Some(1)));
        assert_eq!((1..100).filter(|_| bucket.take(Instant::now()).is_some()).count(), 9);
    }

    #[tokio::test(start_paused = true)]
    async fn suppressed_refusals_are_logged_when_no_more_come() {
        let mut bucket = Bucket::full(Instant::now());
        assert_eq!(bucket.flush(Instant::now()), None);
        for _ in 0..REFUSALS_LOGGED_AT_ONCE + 3 {
            bucket.take(Instant::now());
        }
        assert_eq!(bucket.flush(Instant::now()), None, "not yet");
        tokio::time::advance(INTERVAL).await;
        assert_eq!(bucket.flush(Instant::now()), Some(3));
        tokio::time::advance(INTERVAL).await;
        assert_eq!(bucket.flush(Instant::now()), None, "once");
    }

    #[test]
    fn every_kind_has_a_bucket_of_its_own() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }
}
