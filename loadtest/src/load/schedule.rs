//! When each beat is due. Pure: numbers in, numbers out.
//!
//! Every agent beats once an interval; the agents are spread evenly over it, or over its beginning
//! when they come as a herd. Beat number `k` belongs to agent `k mod agents`. So a million agents need
//! neither timers nor memory for their due times, and nobody beats early, twice or out of turn. All in
//! whole nanoseconds, so that nothing drifts however long it runs.

use std::time::Duration;

/// The beats of a fleet, numbered from 0 in the order in which they are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    agents: u128,
    interval_ns: u128,
    /// The part of an interval, from its beginning, over which the agents are spread.
    within_ns: u128,
}

impl Schedule {
    /// Each of `agents` beats once an `interval`; at least one agent, at least a nanosecond.
    pub(crate) fn every(agents: u64, interval: Duration) -> Self {
        Self::herd(agents, interval, interval)
    }

    /// As [`Schedule::every`], with all agents in the first `within` of each interval, at most all of it.
    pub(crate) fn herd(agents: u64, interval: Duration, within: Duration) -> Self {
        let interval_ns = interval.as_nanos().max(1);
        Self { agents: u128::from(agents.max(1)), interval_ns, within_ns: within.as_nanos().clamp(1, interval_ns) }
    }

    /// The fleet together sends `per_second` beats a second, a number above zero.
    pub(crate) fn at_rate(agents: u64, per_second: f64) -> Self {
        Self::every(agents, Duration::from_secs_f64(agents as f64 / per_second))
    }

    /// Beats per second while agents beat: of a herd, its own.
    pub(crate) fn peak_per_second(&self) -> f64 {
        self.agents as f64 * 1e9 / self.within_ns as f64
    }

    /// When beat number `k` is due, counted from the start.
    pub(crate) fn due(&self, k: u64) -> Duration {
        let (round, agent) = (u128::from(k) / self.agents, u128::from(k) % self.agents);
        nanoseconds(round * self.interval_ns + agent * self.within_ns / self.agents)
    }

    /// How many beats are due by now: all those whose time is not after `elapsed`.
    pub(crate) fn released(&self, elapsed: Duration) -> u64 {
        let (rounds, rest_ns) = (elapsed.as_nanos() / self.interval_ns, elapsed.as_nanos() % self.interval_ns);
        // The largest agent with agent * within / agents <= rest, in whole nanoseconds, plus one.
        let of_this_round = ((rest_ns + 1) * self.agents).div_ceil(self.within_ns).min(self.agents);
        u64::try_from(rounds * self.agents + of_this_round).unwrap_or(u64::MAX)
    }
}

fn nanoseconds(ns: u128) -> Duration {
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_fleet_is_spread_evenly_over_the_interval() {
        let schedule = Schedule::every(4, SECOND);
        let due: Vec<u128> = (0..6).map(|k| schedule.due(k).as_millis()).collect();
        assert_eq!(due, [0, 250, 500, 750, 1000, 1250]);
    }

    #[test]
    fn a_beat_is_released_at_the_very_moment_it_is_due() {
        let schedule = Schedule::every(4, SECOND);
        for (elapsed_ns, released) in [(0, 1), (249_999_999, 1), (250_000_000, 2), (999_999_999, 4), (1_000_000_000, 5)]
        {
            assert_eq!(schedule.released(Duration::from_nanos(elapsed_ns)), released, "after {elapsed_ns} ns");
        }
    }

    #[test]
    fn due_times_and_released_counts_agree_on_uneven_fleets() {
        for (agents, interval_ns) in [(1, 1), (3, 10), (7, 1_000), (13, 7), (999_983, 60_000_000_000)] {
            let schedule = Schedule::every(agents, Duration::from_nanos(interval_ns));
            for k in (0..2_000).chain([1_000_000_000]) {
                let due = schedule.due(k);
                assert!(schedule.released(due) > k, "{agents}/{interval_ns}: beat {k}");
                if let Some(before) = due.checked_sub(Duration::from_nanos(1)) {
                    assert!(schedule.released(before) <= k, "{agents}/{interval_ns}: beat {k}");
                }
            }
        }
    }

    #[test]
    fn a_herd_beats_at_the_beginning_of_each_interval() {
        let schedule = Schedule::herd(4, SECOND * 10, SECOND);
        let due: Vec<u128> = (0..6).map(|k| schedule.due(k).as_millis()).collect();
        assert_eq!(due, [0, 250, 500, 750, 10_000, 10_250]);
        for (elapsed_ms, released) in [(0, 1), (999, 4), (5_000, 4), (9_999, 4), (10_000, 5), (10_750, 8)] {
            assert_eq!(schedule.released(Duration::from_millis(elapsed_ms)), released, "after {elapsed_ms} ms");
        }
        assert!((schedule.peak_per_second() - 4.0).abs() < 1e-9);
    }

    #[test]
    fn nobody_beats_early_or_twice_in_an_interval_and_everybody_does() {
        for (agents, interval_ns, within_ns) in [(5, 1_000, 1_000), (7, 1_000, 13), (13, 7, 7), (1, 3, 1)] {
            let schedule = Schedule::herd(agents, Duration::from_nanos(interval_ns), Duration::from_nanos(within_ns));
            let mut released = 0;
            for elapsed_ns in 0..10 * interval_ns {
                let now = schedule.released(Duration::from_nanos(elapsed_ns));
                for beat in released..now {
                    // As soon as it is due and not before: everybody at the same time of each interval.
                    assert_eq!(schedule.due(beat), Duration::from_nanos(elapsed_ns), "{agents}: beat {beat}");
                    let of_agent =
                        schedule.due(beat % agents) + Duration::from_nanos(interval_ns) * (beat / agents) as u32;
                    assert_eq!(schedule.due(beat), of_agent);
                }
                released = now;
            }
            // Each agent once in each of the ten intervals.
            assert_eq!(released, 10 * agents);
        }
    }

    #[test]
    fn a_rate_is_an_interval_in_other_words() {
        assert_eq!(Schedule::at_rate(1_000, 100.0), Schedule::every(1_000, SECOND * 10));
        assert_eq!(Schedule::at_rate(10, 2_000.0).released(SECOND), 2_001);
    }

    #[test]
    fn nothing_drifts_in_a_month() {
        let schedule = Schedule::every(3, SECOND);
        let month_s = 30 * 86_400;
        assert_eq!(schedule.due(3 * month_s), Duration::from_secs(month_s));
    }
}
