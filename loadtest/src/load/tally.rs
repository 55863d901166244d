//! What came of the requests of a run: counts and latencies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::{Mutex, MutexGuard};

use crate::wire::{Reply, Target, WireError};

/// Latencies up to an hour are told apart, to three digits.
const MAX_LATENCY_US: u64 = 3_600_000_000;
const DIGITS: u8 = 3;

/// Counts and latencies of a run, or of a part of it.
pub(crate) struct Tally {
    /// From the moment a request was due to the end of its answer, in microseconds; of all answered.
    pub(crate) latency_us: Histogram<u64>,
    /// From the moment a request was due to the moment it was sent, in microseconds: what of the latency
    /// was waiting on this side, for a free connection or for the processor.
    pub(crate) wait_us: Histogram<u64>,
    /// Answers by status.
    /// Requests that became due, unless they are sent without a schedule.
    pub(crate) due: u64,
    /// Those of them that no connection was free for until the end.
    pub(crate) unsent: u64,
    /// Until the last answer was in or waited for in vain; without the warm-up.
    pub(crate) elapsed: Duration,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) errors: BTreeMap<&'static str, u64>,
    /// What was said the first time something other than 2xx came.
    pub(crate) first_failure: Option<String>,
    /// Whether the server is being disturbed on purpose at this moment: set from outside.
    pub(crate) disturbed: bool,
    /// What did not succeed while it was.
    pub(crate) refused: u64,
    /// What happened since this was last looked at.
    window: Window,
}

pub(crate) struct Window {
    pub(crate) latency_us: Histogram<u64>,
    pub(crate) due: u64,
    pub(crate) successes: u64,
    pub(crate) failures: u64,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self { latency_us: histogram(), due: 0, successes: 0, failures: 0 }
    }

    fn clear(&mut self) {
        self.latency_us.reset();
        (self.due, self.successes, self.failures) = (0, 0, 0);
    }
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            latency_us: histogram(),
            wait_us: histogram(),
            due: 0,
            unsent: 0,
            elapsed: Duration::ZERO,
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
            first_failure: None,
            disturbed: false,
            refused: 0,
            window: Window::new(),
        }
    }

    /// Exchanges the current window, which begins anew, for what is in `looked_at`, which is lost.
    pub(crate) fn next_window(&mut self, looked_at: &mut Window) {
        looked_at.clear();
        std::mem::swap(&mut self.window, looked_at);
    }

    /// Begins anew, and hands over what has been counted. The current window goes on.
    pub(crate) fn take(&mut self) -> Self {
        let mut fresh = Self { disturbed: self.disturbed, ..Self::new() };
        std::mem::swap(&mut fresh.window, &mut self.window);
        std::mem::replace(self, fresh)
    }

    /// Takes in what another has counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.latency_us += other.latency_us;
        self.wait_us += other.wait_us;
        self.due += other.due;
        self.unsent += other.unsent;
        self.elapsed += other.elapsed;
        other.statuses.iter().for_each(|(status, count)| *self.statuses.entry(*status).or_default() += count);
        other.errors.iter().for_each(|(kind, count)| *self.errors.entry(kind).or_default() += count);
        self.refused += other.refused;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }

    /// Without what succeeded.
    pub(crate) fn only_failures(mut self) -> Self {
        self.due -= self.due.min(self.successes());
        self.statuses.retain(|status, _| !(200..300).contains(status));
        Self { latency_us: histogram(), wait_us: histogram(), elapsed: Duration::ZERO, ..self }
    }

    /// Requests that did not succeed, those refused under disturbance not counted.
    pub(crate) fn failures(&self) -> u64 {
        (self.answered() - self.successes() + self.unanswered()).saturating_sub(self.refused)
    }

    /// Requests that became due and came to no end.
    pub(crate) fn lost(&self) -> u64 {
        self.due.saturating_sub(self.answered() + self.unanswered())
    }

    /// So many successes in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.successes() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    pub(crate) fn successes(&self) -> u64 {
        self.statuses.range(200..300).map(|(_, count)| count).sum()
    }

    pub(crate) fn answered(&self) -> u64 {
        self.statuses.values().sum()
    }

    pub(crate) fn unanswered(&self) -> u64 {
        self.errors.values().sum()
    }

    pub(super) fn count_due(&mut self, requests: u64) {
        self.due += requests;
        self.window.due += requests;
    }

    pub(super) fn count_reply(
        &mut self,
        reply: Reply,
        failure: impl FnOnce() -> String,
        wait: Duration,
        latency: Duration,
    ) {
        self.count_time(wait, latency);
        self.count_status(reply, 1, failure);
    }

    /// Counts the time that a request took whose answer is counted by [`Tally::count_status`].
    pub(super) fn count_time(&mut self, wait: Duration, latency: Duration) {
        self.wait_us.saturating_record(in_micros(wait));
        self.latency_us.saturating_record(in_micros(latency));
        self.window.latency_us.saturating_record(in_micros(latency));
    }

    pub(super) fn count_status(&mut self, reply: Reply, requests: u64, failure: impl FnOnce() -> String) {
        *self.statuses.entry(reply.status).or_default() += requests;
        if reply.is_success() {
            self.window.successes += requests;
        } else {
            self.count_failures(requests, failure);
        }
    }

    pub(super) fn count_error(&mut self, error: &WireError, target: &Target) {
        self.count_errors(error.kind(), 1, || error.advice(target));
    }

    /// Counts requests that came to nothing, by kind.
    pub(super) fn count_errors(&mut self, kind: &'static str, requests: u64, failure: impl FnOnce() -> String) {
        *self.errors.entry(kind).or_default() += requests;
        self.count_failures(requests, failure);
    }

    fn count_failures(&mut self, requests: u64, failure: impl FnOnce() -> String) {
        self.window.failures += requests;
        if self.disturbed {
            self.refused += requests;
        } else if self.first_failure.is_none() {
            self.first_failure = Some(failure());
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_LATENCY_US, DIGITS).expect("the bounds above are in order")
}

fn in_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A tally that the connections of a run share. Never locked over an await.
#[derive(Clone)]
pub(crate) struct SharedTally(Arc<Mutex<Tally>>);

impl SharedTally {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Tally::new())))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16) -> Reply {
        Reply { status, retry_after_s: None }
    }

    #[test]
    fn percentiles_are_those_of_all_answers() {
        let mut tally = Tally::new();
        for us in 1..=1_000 {
            tally.count_reply(reply(200), String::new, Duration::ZERO, Duration::from_micros(us));
        }
        assert_eq!(tally.latency_us.value_at_quantile(0.5), 500);
        assert_eq!(tally.latency_us.value_at_quantile(0.99), 990);
        assert_eq!(tally.latency_us.max(), 1_000);
    }

    #[test]
    fn latencies_beyond_all_bounds_are_still_counted() {
        let mut tally = Tally::new();
        tally.count_reply(reply(200), String::new, Duration::ZERO, Duration::from_secs(90_000));
        assert_eq!(tally.latency_us.len(), 1);
        assert!(tally.latency_us.max() >= MAX_LATENCY_US);
    }

    #[test]
    fn answers_are_told_apart_by_status_and_the_first_failure_is_kept() {
        let mut tally = Tally::new();
        for (status, text) in [(200, ""), (503, "first"), (404, "second"), (200, "")] {
            tally.count_reply(reply(status), || text.to_owned(), Duration::ZERO, Duration::ZERO);
        }
        assert_eq!(tally.successes(), 2);
        assert_eq!(tally.answered(), 4);
        assert_eq!(tally.first_failure.as_deref(), Some("first"));
        assert_eq!(tally.failures(), 2);
    }

    #[test]
    fn requests_without_an_end_are_found() {
        let mut tally = Tally::new();
        tally.count_due(100);
        tally.count_status(reply(200), 85, String::new);
        assert_eq!(tally.lost(), 15);
        tally.count_errors("closed", 15, String::new);
        assert_eq!(tally.lost(), 0);
    }

    #[test]
    fn what_fails_while_the_server_is_disturbed_is_no_failure() {
        let mut tally = Tally::new();
        tally.disturbed = true;
        tally.count_errors("connect", 3, || "down".to_owned());
        tally.disturbed = false;
        tally.count_status(reply(503), 2, || "up".to_owned());
        assert_eq!((tally.failures(), tally.refused), (2, 3));
        assert_eq!(tally.first_failure.as_deref(), Some("up"));
    }

    #[test]
    fn tallies_add_up_and_what_succeeded_may_be_left_out() {
        let mut tally = Tally::new();
        tally.count_due(10);
        tally.count_reply(reply(200), String::new, Duration::ZERO, Duration::from_micros(5));
        tally.count_status(reply(200), 5, String::new);
        tally.count_errors("closed", 3, || "why".to_owned());
        let mut both = Tally::new();
        both.count_due(1);
        both.count_status(reply(200), 1, String::new);
        both.add(tally.only_failures());
        assert_eq!((both.due, both.successes(), both.failures(), both.lost()), (5, 1, 3, 1));
        assert_eq!((both.latency_us.len(), both.first_failure.as_deref()), (0, Some("why")));
    }

    #[test]
    fn a_window_has_what_came_since_the_last() {
        let (mut tally, mut window) = (Tally::new(), Window::new());
        for latency_us in [5, 7] {
            tally.count_due(1);
            tally.count_reply(reply(200), String::new, Duration::ZERO, Duration::from_micros(latency_us));
            tally.next_window(&mut window);
            assert_eq!((window.due, window.successes, window.latency_us.max()), (1, 1, latency_us));
        }
        assert_eq!(tally.latency_us.len(), 2);
    }
}
