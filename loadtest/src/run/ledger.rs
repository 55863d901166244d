//! Who was called silent, from the server's own metrics: over restarts, and from a beginning on.

use serde::Serialize;

use crate::server::{Buckets, Scrape};

const LAG: &str = "guardbeat_detection_lag_seconds";

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Agents that were stale or offline at the beginning.
    missing_before: u64,
    lag_before: Buckets,
    lag_now: Buckets,
    /// The counter of agents that turned stale, as it was last.
    last_transitions: u64,
    transitions: u64,
    missing: u64,
    most_missing: u64,
    begun: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct StatusCounts {
    pub(crate) online: u64,
    pub(crate) stale: u64,
    pub(crate) offline: u64,
}

impl StatusCounts {
    /// What a scrape says; `None` if it says nothing of agents.
    pub(crate) fn of(scrape: &Scrape) -> Option<Self> {
        let agents = |status| scrape.sum("guardbeat_agents", &[("status", status)]).map(|count| count as u64);
        Some(Self { online: agents("online")?, stale: agents("stale")?, offline: agents("offline")? })
    }

    pub(crate) fn missing(self) -> u64 {
        self.stale + self.offline
    }
}

impl Ledger {
    /// Takes in a scrape. The first is the beginning; those without a word on agents are passed over.
    pub(crate) fn note(&mut self, scrape: &Scrape) {
        let Some(counts) = StatusCounts::of(scrape) else { return };
        let turned_stale = [("from", "online"), ("to", "stale")];
        let transitions = scrape.sum("guardbeat_transitions_total", &turned_stale).unwrap_or(0.0) as u64;
        if !self.begun {
            self.begun = true;
            self.missing_before = counts.missing();
            self.lag_before = scrape.buckets(LAG);
        } else if transitions >= self.last_transitions {
            self.transitions += transitions - self.last_transitions;
        } else {
            // A new process, which counts from zero.
            self.transitions += transitions;
        }
        self.last_transitions = transitions;
        self.lag_now = scrape.buckets(LAG);
        self.missing = counts.missing().saturating_sub(self.missing_before);
        self.most_missing = self.most_missing.max(self.missing);
    }

    /// Whether there was anything to go by.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Agents that are stale or offline, beyond those of the beginning.
    pub(crate) fn missing(&self) -> u64 {
        self.missing
    }

    /// The most agents that were stale or offline at one time, beyond those of the beginning.
    pub(crate) fn most_missing(&self) -> u64 {
        self.most_missing
    }

    /// Agents called stale although they beat, when so many were rightly so.
    pub(crate) fn false_positives(&self, rightly: u64) -> u64 {
        self.transitions.max(self.most_missing).saturating_sub(rightly)
    }

    /// The detection lags since the beginning; of one process.
    pub(crate) fn lag(&self) -> Buckets {
        self.lag_now.since(&self.lag_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(online: u64, stale: u64, offline: u64, transitions: u64) -> Scrape {
        Scrape::parse(&format!(
            "guardbeat_agents{{status=\"online\"}} {online}\nguardbeat_agents{{status=\"stale\"}} {stale}\n\
             guardbeat_agents{{status=\"offline\"}} {offline}\n\
             guardbeat_transitions_total{{from=\"online\",to=\"stale\"}} {transitions}\n\
             guardbeat_transitions_total{{from=\"stale\",to=\"online\"}} 999\n"
        ))
    }

    fn ledger(scrapes: &[Scrape]) -> Ledger {
        let mut ledger = Ledger::default();
        scrapes.iter().for_each(|scrape| ledger.note(scrape));
        ledger
    }

    #[test]
    fn what_was_before_the_beginning_does_not_count() {
        let ledger = ledger(&[scrape(90, 5, 5, 40), scrape(88, 7, 5, 42)]);
        assert_eq!((ledger.most_missing(), ledger.false_positives(0), ledger.false_positives(2)), (2, 2, 0));
    }

    #[test]
    fn those_who_come_back_are_no_longer_missing_and_have_been() {
        let ledger = ledger(&[scrape(90, 5, 5, 5), scrape(80, 10, 10, 15), scrape(89, 6, 5, 15)]);
        assert_eq!((ledger.missing(), ledger.most_missing()), (1, 10));
    }

    #[test]
    fn somebody_who_was_stale_between_two_looks_is_found_all_the_same() {
        let ledger = ledger(&[scrape(100, 0, 0, 0), scrape(100, 0, 0, 1)]);
        assert_eq!((ledger.most_missing(), ledger.false_positives(0)), (0, 1));
    }

    #[test]
    fn accusations_add_up_over_a_restart() {
        let looks = [scrape(100, 0, 0, 7), scrape(98, 2, 0, 9), scrape(97, 3, 0, 1)];
        assert_eq!(ledger(&looks).false_positives(0), 3);
    }

    #[test]
    fn a_scrape_of_something_else_is_passed_over() {
        assert!(!ledger(&[Scrape::parse("up 1\n")]).has_begun());
    }
}
