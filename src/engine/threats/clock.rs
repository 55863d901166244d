//! The time of the threat log: the wall clock, with a guard.

use std::{cell::Cell, time::Duration};

use tokio::time::Instant;

use crate::{
    clock::Clock,
    fleet::Timestamp,
    limits::{CLOCK_AHEAD_MAX_MS, CLOCK_BACK_MAX_MS, CLOCK_BELIEVED_AFTER_MS},
};

/// The time by which threats are named and become old.
///
/// The wall clock, unless that has been set forward by far: a slip of it must not cost the history, nor give out names from
/// the future. If it stays there it is believed: then the clock was wrong before, or the machine was suspended.
#[derive(Debug)]
pub(in crate::engine) struct Time {
    clock: Clock,
    /// When the wall clock was last believed, and its reading.
    believed: Cell<(Instant, u64)>,
    /// Since when it has been far ahead.
    ahead_since: Cell<Option<Instant>>,
}

impl Time {
    /// From now on.
    pub(in crate::engine) fn of(clock: Clock) -> Self {
        let believed = (clock.monotonic(), wall_ms(&clock));
        Self { clock, believed: Cell::new(believed), ahead_since: Cell::default() }
    }

    /// Now, in milliseconds since 1970.
    pub(in crate::engine) fn now_ms(&self) -> u64 {
        let (now, wall_ms) = (self.clock.monotonic(), wall_ms(&self.clock));
        let (then, said_ms) = self.believed.get();
        let expected_ms = said_ms.saturating_add((now - then).as_millis() as u64);
        let since = self.ahead_since.get().unwrap_or(now);
        let is_far_ahead = wall_ms > expected_ms.saturating_add(CLOCK_AHEAD_MAX_MS);
        if is_far_ahead && now - since < Duration::from_millis(CLOCK_BELIEVED_AFTER_MS) {
            self.ahead_since.set(Some(since));
            return expected_ms;
        }
        let back_ms = expected_ms.saturating_sub(wall_ms);
        if back_ms > CLOCK_BACK_MAX_MS {
            tracing::warn!(
                back_s = back_ms / 1_000,
                "the clock has been set back by far; threats that seem to be from the future count as of now"
            );
        }
        self.ahead_since.set(None);
        self.believed.set((now, wall_ms));
        wall_ms
    }

    /// Warns if the newest threat in the store is from the future: an earlier run had a clock that was ahead, or this one's
    /// is behind.
    pub(in crate::engine) fn compare(&self, newest_ms: u64) {
        let ahead_ms = newest_ms.saturating_sub(self.now_ms());
        if ahead_ms > CLOCK_BACK_MAX_MS {
            tracing::warn!(
                newest = %Timestamp::from_millis(newest_ms.cast_signed()),
                ahead_s = ahead_ms / 1_000,
                "the newest threat in the store is ahead of the clock: one of the two is wrong; threats that seem to be from \
                 the future count as of now"
            );
        }
    }
}

fn wall_ms(clock: &Clock) -> u64 {
    clock.wall().as_millis().try_into().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;
    use crate::fleet::ActiveTime;

    const BEGINNING_MS: i64 = 50_000_000;
    const DAY_MS: i64 = 86_400_000;

    fn time() -> (Clock, Time) {
        let wall = Timestamp::from_millis(BEGINNING_MS);
        let clock = Clock::simulated(1, ActiveTime::default(), Duration::from_secs(30), wall);
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

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_by_far_is_warned_of_once() {
        let (clock, time) = time();
        let log = LogCapture::listen();
        clock.set_wall(Timestamp::from_millis(BEGINNING_MS - CLOCK_BACK_MAX_MS as i64));
        time.now_ms();
        assert_eq!(log.take(), "", "a small step");
        // Set forward by far, which is not believed, and right again.
        clock.set_wall(Timestamp::from_millis(BEGINNING_MS + 40 * DAY_MS));
        time.now_ms();
        clock.set_wall(Timestamp::from_millis(BEGINNING_MS - CLOCK_BACK_MAX_MS as i64));
        time.now_ms();
        assert_eq!(log.take(), "");
        clock.set_wall(Timestamp::from_millis(BEGINNING_MS - 2 * CLOCK_BACK_MAX_MS as i64 - 5_000));
        time.now_ms();
        let warning = log.take();
        assert!(warning.contains("WARN") && warning.contains("set back by far"), "{warning}");
        assert!(warning.contains("back_s=3605"), "{warning}");
        time.now_ms();
        assert_eq!(log.take(), "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_newest_threat_from_the_future_is_warned_of() {
        let (_, time) = time();
        let log = LogCapture::listen();
        for ms in [0, BEGINNING_MS, BEGINNING_MS + CLOCK_BACK_MAX_MS as i64] {
            time.compare(ms as u64);
            assert_eq!(log.take(), "");
        }
        time.compare((BEGINNING_MS + 29 * DAY_MS) as u64);
        let warning = log.take();
        assert!(warning.contains("WARN") && warning.contains("ahead of the clock"), "{warning}");
        assert!(warning.contains("newest=1970-01-30T13:53:20.000Z"), "{warning}");
    }

    /// What this thread logs.
    struct LogCapture(Lines, #[expect(dead_code, reason = "held")] tracing::subscriber::DefaultGuard);

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, some: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(some)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl LogCapture {
        fn listen() -> Self {
            let lines = Lines::default();
            let to = lines.clone();
            let logged = tracing_subscriber::fmt().with_ansi(false).with_writer(move || to.clone()).finish();
            Self(lines, tracing::subscriber::set_default(logged))
        }

        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.0.lock().unwrap())).unwrap()
        }
    }
}
