//! The time of the archive: the wall clock, with a guard.

use tokio::time::Instant;

use crate::{clock::Clock, limits::CLOCK_AHEAD_MAX_MS};

/// The time by which threats become old.
#[derive(Debug)]
pub(super) struct Time {
    clock: Clock,
    started: Instant,
    started_ms: u64,
}

impl Time {
    /// The wall clock.
    pub(super) fn wall_ms(&self) -> u64 {
        wall_ms(&self.clock)
    }

    /// From now on.
    pub(super) fn of(clock: Clock) -> Self {
        Self { started: clock.monotonic(), started_ms: wall_ms(&clock), clock }
    }

    /// The wall clock, unless that has been set forward by far since the start: a slip of it must not cost the history.
    pub(super) fn now_ms(&self) -> u64 {
        let passed = (self.clock.monotonic() - self.started).as_millis() as u64;
        wall_ms(&self.clock).min(self.started_ms.saturating_add(passed).saturating_add(CLOCK_AHEAD_MAX_MS))
    }
}

fn wall_ms(clock: &Clock) -> u64 {
    clock.wall().as_millis().try_into().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fleet::{Heard, Timestamp};

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_forward_by_far_makes_nothing_old() {
        let clock = Clock::simulated(1, Heard::default(), Duration::from_secs(30), Timestamp::from_millis(5_000_000));
        let time = Time::of(clock.clone());
        tokio::time::advance(Duration::from_secs(7)).await;
        clock.set_wall(Timestamp::from_millis(5_007_000));
        assert_eq!(time.now_ms(), 5_007_000);
        clock.set_wall(Timestamp::from_millis(5_000_000 + 40 * 86_400_000));
        assert_eq!(time.now_ms(), 5_007_000 + CLOCK_AHEAD_MAX_MS);
        clock.set_wall(Timestamp::from_millis(4_000_000));
        assert_eq!((time.now_ms(), time.wall_ms()), (4_000_000, 4_000_000), "what it says of the past is believed");
    }
}
