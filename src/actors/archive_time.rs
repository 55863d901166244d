//! The time of the archive: the wall clock, with a guard.

use std::{cell::Cell, time::Duration};

use tokio::time::Instant;

use crate::{
    clock::Clock,
    limits::{CLOCK_AHEAD_MAX_MS, CLOCK_BELIEVED_AFTER_MS},
};

/// The time by which threats are named and become old.
///
/// The wall clock, unless that has been set forward by far: a slip of it must not cost the history, nor give out names from
/// the future. If it stays there it is believed: then the clock was wrong before, or the machine was suspended.
#[derive(Debug)]
pub(super) struct Time {
    clock: Clock,
    /// When the wall clock was last believed, and what it said.
    believed: Cell<(Instant, u64)>,
    /// Since when it has been far ahead.
    ahead_since: Cell<Option<Instant>>,
}

impl Time {
    /// From now on.
    pub(super) fn of(clock: Clock) -> Self {
        let believed = (clock.monotonic(), wall_ms(&clock));
        Self { clock, believed: Cell::new(believed), ahead_since: Cell::default() }
    }

    /// Now, in milliseconds since 1970.
    pub(super) fn now_ms(&self) -> u64 {
        let (now, wall_ms) = (self.clock.monotonic(), wall_ms(&self.clock));
        let (then, said_ms) = self.believed.get();
        let expected_ms = said_ms.saturating_add((now - then).as_millis() as u64);
        let since = self.ahead_since.get().unwrap_or(now);
        let is_far_ahead = wall_ms > expected_ms.saturating_add(CLOCK_AHEAD_MAX_MS);
        if is_far_ahead && now - since < Duration::from_millis(CLOCK_BELIEVED_AFTER_MS) {
            self.ahead_since.set(Some(since));
            return expected_ms;
        }
        self.ahead_since.set(None);
        self.believed.set((now, wall_ms));
        wall_ms
    }
}

fn wall_ms(clock: &Clock) -> u64 {
    clock.wall().as_millis().try_into().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Heard, Timestamp};

    const BEGINNING_MS: i64 = 5_000_000;
    const DAY_MS: i64 = 86_400_000;

    fn time() -> (Clock, Time) {
        let wall = Timestamp::from_millis(BEGINNING_MS);
        let clock = Clock::simulated(1, Heard::default(), Duration::from_secs(30), wall);
        (clock.clone(), Time::of(clock))
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_slips_forward_by_far_and_comes_back_makes_nothing_old() {
        let (clock, time) = time();
        clock.set_wall(Timestamp::from_millis(BEGINNING_MS + 40 * DAY_MS));
        assert_eq!(time.now_ms() as i64, BEGINNING_MS);
        tokio::time::advance(Duration::from_secs(300)).await;
        assert_eq!(time.now_ms() as i64, BEGINNING_MS + 300_000);
        clock.set_wall(Timestamp::from_millis(BEGINNING_MS + 301_000));
        assert_eq!(time.now_ms() as i64, BEGINNING_MS + 301_000);
        clock.set_wall(Timestamp::from_millis(4_000_000));
        assert_eq!(time.now_ms(), 4_000_000, "what it says of the past is believed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_stays_ahead_is_believed() {
        let (clock, time) = time();
        clock.set_wall(Timestamp::from_millis(BEGINNING_MS + DAY_MS));
        assert_eq!(time.now_ms() as i64, BEGINNING_MS);
        tokio::time::advance(Duration::from_millis(CLOCK_BELIEVED_AFTER_MS)).await;
        assert_eq!(time.now_ms() as i64, BEGINNING_MS + DAY_MS);
        // Less than that at once, as after a short suspend.
        clock.set_wall(Timestamp::from_millis(BEGINNING_MS + DAY_MS + 3_600_000));
        assert_eq!(time.now_ms() as i64, BEGINNING_MS + DAY_MS + 3_600_000);
    }
}
