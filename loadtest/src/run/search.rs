//! The search for the highest rate that holds. Pure: it is told what held, and says what to try next.

/// The first rate may turn out too high: it is halved so often, and then given up.
const MAX_HALVINGS: u32 = 4;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Search {
    next: f64,
    lowest: f64,
    precision: f64,
    /// The highest that has held.
    held: Option<f64>,
    /// The lowest that has not.
    broken: Option<f64>,
}

impl Search {
    /// Begins with a rate; ends when the result is known to a share of itself.
    pub(super) fn from(rate: f64, precision: f64) -> Self {
        let lowest = rate / f64::from(1 << MAX_HALVINGS);
        Self { next: rate, lowest, precision, held: None, broken: None }
    }

    /// The rate to be tried next; `None` at the end.
    pub(super) fn next(&self) -> Option<f64> {
        let narrow = self.held.zip(self.broken).is_some_and(|(held, broken)| broken <= held * (1.0 + self.precision));
        (!narrow && self.next >= self.lowest).then_some(self.next)
    }

    /// What came of the rate that was tried.
    pub(super) fn tried(&mut self, rate: f64, holds: bool) {
        if holds {
            self.held = Some(self.held.map_or(rate, |held| held.max(rate)));
        } else {
            self.broken = Some(self.broken.map_or(rate, |broken| broken.min(rate)));
        }
        self.next = match (self.held, self.broken) {
            (Some(held), Some(broken)) => (held * broken).sqrt(),
            (Some(held), None) => held * 2.0,
            (None, _) => rate / 2.0,
        };
    }

    /// The highest rate that has held.
    pub(super) fn best(&self) -> Option<f64> {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches on a machine that holds up to `limit`; the result, and how many tries it took.
    fn search(from: f64, precision: f64, limit: f64) -> (Option<f64>, u32) {
        let (mut search, mut tries) = (Search::from(from, precision), 0);
        while let Some(rate) = search.next() {
            tries += 1;
            assert!(tries < 100, "it does not end");
            search.tried(rate, rate <= limit);
        }
        (search.best(), tries)
    }

    #[test]
    fn the_result_holds_and_is_as_near_as_was_asked_for() {
        for limit in [900.0, 1_000.0, 1_234.0, 40_000.0, 5_000_000.0] {
            for precision in [0.01, 0.1, 0.5] {
                let (best, tries) = search(1_000.0, precision, limit);
                let best = best.expect("found");
                assert!(best <= limit && limit <= best * (1.0 + precision), "{best} for {limit}");
                assert!(tries <= 25, "{tries} tries for {limit}");
            }
        }
    }

    #[test]
    fn a_machine_that_holds_nothing_ends_the_search() {
        let (best, tries) = search(1_000.0, 0.1, 10.0);
        assert_eq!((best, tries), (None, MAX_HALVINGS + 1));
    }

    #[test]
    fn the_rate_is_doubled_until_it_no_longer_holds() {
        let mut search = Search::from(100.0, 0.1);
        let mut tried = Vec::new();
        for holds in [true, true, false] {
            let rate = search.next().expect("goes on");
            tried.push(rate);
            search.tried(rate, holds);
        }
        assert_eq!(tried, [100.0, 200.0, 400.0]);
        let rate = search.next().expect("narrows down");
        assert!(rate > 200.0 && rate < 400.0);
    }
}
