//! The only source of time.
//!
//! Three kinds, never mixed:
//! - **monotonic** ([`Clock::monotonic`]): timers and latencies.
//! - **wall** ([`Clock::wall`]): what people read. It may be stepped; nothing is decided by it.
//! - **active time** ([`Clock::pulse`]): monotonic time less the gaps in which the process was paused. Silence is
//!   measured in it, so a process that was stopped, suspended or starved takes nobody's silence for granted.
//!
//! A gap is found by its end: every worker reads the clock at each event and at a regular pulse, and a reading that
//! comes much too late after the one before proves that the worker was not running in between. Gaps of several workers
//! that overlap count once. While some worker is *not* being scheduled, active time stands still for all: the beats
//! that wait in its sockets belong to agents anywhere in the fleet.
//!
//! Monotonic time comes from tokio, so a test that pauses tokio's clock moves every timer and every reading together;
//! the wall clock of a test is set by hand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    fleet::{ActiveTime, Timestamp},
    limits::{PAUSED_AFTER_MAX_MS, PAUSED_AFTER_MIN_MS, PULSE_MAX_MS},
};

/// Wall-clock time where there is no engine, and so no [`Clock`].
#[expect(clippy::disallowed_methods, reason = "the one source of time")]
pub fn system_time() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // A machine whose clock stands before 1970 shows 1970.
    Timestamp::from_millis(since_epoch.map_or(0, |span| i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
}

/// The clock of one engine; clones share it.
#[derive(Clone, Debug)]
pub struct Clock {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Monotonic times are microseconds since this instant.
    origin: Instant,
    /// Active time at `origin`.
    base: i64,
    /// A reading this much later than the one before it ends a gap.
    paused_after: i64,
    /// The last reading of each worker.
    pulses: Box<[Pulse]>,
    /// All gaps so far, overlaps counted once.
    lost: AtomicI64,
    /// End of the latest gap counted in `lost`.
    last_gap_end: Mutex<i64>,
    wall: WallClock,
}

/// On a cache line of its own: each worker writes its pulse at every event.
#[derive(Debug)]
#[repr(align(64))]
struct Pulse(AtomicI64);

#[derive(Debug)]
enum WallClock {
    System,
    /// Milliseconds; moved by a test.
    Set(AtomicI64),
}

/// The reading of a worker that has not started: it cannot be late.
const NOT_STARTED: i64 = i64::MAX;

impl Clock {
    /// A clock for `workers` workers, that goes on from `base`, the active time at which an earlier run ended.
    ///
    /// `grace` is how late a heartbeat may be before its agent is stale: half of it is the longest gap that may go
    /// unnoticed without a false alarm.
    pub fn new(workers: usize, base: ActiveTime, grace: Duration) -> Self {
        Self::with_wall(workers, base, grace, WallClock::System)
    }

    /// A clock whose wall time stands at `wall` until [`Clock::set_wall`] moves it. For tests: run them with tokio's
    /// clock paused.
    pub fn simulated(workers: usize, base: ActiveTime, grace: Duration, wall: Timestamp) -> Self {
        Self::with_wall(workers, base, grace, WallClock::Set(wall.as_millis().into()))
    }

    fn with_wall(workers: usize, base: ActiveTime, grace: Duration, wall: WallClock) -> Self {
        let most = Duration::from_millis(PAUSED_AFTER_MAX_MS);
        let paused_after = (grace / 2).clamp(Duration::from_millis(PAUSED_AFTER_MIN_MS), most);
        Self {
            shared: Arc::new(Shared {
                origin: Instant::now(),
                base: base.as_micros(),
                paused_after: micros(paused_after),
                pulses: (0..workers).map(|_| Pulse(NOT_STARTED.into())).collect(),
                lost: 0.into(),
                last_gap_end: Mutex::new(0),
                wall,
            }),
        }
    }

    /// How often every worker must call [`Clock::pulse`], events or not.
    pub fn pulse_interval(&self) -> Duration {
        let interval = Duration::from_micros(self.shared.paused_after.unsigned_abs() / 4);
        interval.min(Duration::from_millis(PULSE_MAX_MS))
    }

    /// Monotonic time.
    pub fn monotonic(&self) -> Instant {
        Instant::now()
    }

    /// Wall-clock time, for people.
    pub fn wall(&self) -> Timestamp {
        match &self.shared.wall {
            WallClock::System => system_time(),
            WallClock::Set(millis) => Timestamp::from_millis(millis.load(Relaxed)),
        }
    }

    /// Moves the wall clock of a simulated clock; nothing happens to a real one.
    pub fn set_wall(&self, now: Timestamp) {
        if let WallClock::Set(millis) = &self.shared.wall {
            millis.store(now.as_millis(), Relaxed);
        }
    }

    /// Active time now, read on `worker`. Must be called on every event of the worker that concerns liveness, and at
    /// every [`Clock::pulse_interval`].
    pub fn pulse(&self, worker: usize) -> ActiveTime {
        let now = self.elapsed();
        let previous = self.shared.pulses[worker].0.swap(now, Relaxed);
        if now.saturating_sub(previous) > self.shared.paused_after {
            self.shared.count_gap(previous, now);
        }
        self.shared.active_at(now)
    }

    /// Active time now for a decision against an agent: it does not count time in which any worker has been
    /// paused, even if that gap has not ended yet.
    pub fn active_on_all(&self, worker: usize) -> ActiveTime {
        self.pulse(worker).min(self.active_time())
    }

    /// Active time now, for bookkeeping off the workers. It stands still while any worker is paused.
    pub fn active_time(&self) -> ActiveTime {
        let now = self.elapsed();
        let latest = self.shared.pulses.iter().map(|pulse| pulse.0.load(Relaxed)).min().unwrap_or(now);
        let is_paused = now.saturating_sub(latest) > self.shared.paused_after;
        self.shared.active_at(if is_paused { latest } else { now })
    }

    /// The instant at which active time will reach `moment`, if nothing more is lost until then.
    pub fn instant_of(&self, moment: ActiveTime) -> Instant {
        let elapsed = moment.as_micros() - self.shared.base + self.shared.lost.load(Relaxed);
        self.shared.origin + Duration::from_micros(elapsed.max(0).unsigned_abs())
    }

    /// Notes that `worker` has stopped for good: from now on its silence is no gap.
    pub fn stop_worker(&self, worker: usize) {
        self.shared.pulses[worker].0.store(NOT_STARTED, Relaxed);
    }

    /// Total of the gaps in which the process was paused.
    pub fn lost(&self) -> Duration {
        Duration::from_micros(self.shared.lost.load(Relaxed).unsigned_abs())
    }

    fn elapsed(&self) -> i64 {
        micros(self.monotonic() - self.shared.origin)
    }
}

impl Shared {
    fn active_at(&self, elapsed: i64) -> ActiveTime {
        ActiveTime::from_micros(self.base + elapsed - self.lost.load(Relaxed))
    }

    fn count_gap(&self, from: i64, to: i64) {
        let mut last_gap_end = self.last_gap_end.lock();
        let uncounted = to - from.max(*last_gap_end);
        if uncounted > 0 {
            self.lost.fetch_add(uncounted, Relaxed);
            *last_gap_end = to;
            // The workers wake one after the other from the same gap: what the later ones add is no news.
            if uncounted > self.paused_after {
                tracing::warn!(gap_ms = uncounted / 1000, "the process was paused; deadlines move by that much");
            }
        }
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    fn clock(workers: usize) -> Clock {
        Clock::simulated(workers, ActiveTime::from_micros(0), GRACE, Timestamp::from_millis(0))
    }

    async fn run_workers(clock: &Clock, workers: &[usize], span: Duration) {
        let end = Instant::now() + span;
        while Instant::now() < end {
            tokio::time::advance(clock.pulse_interval().min(end - Instant::now())).await;
            for worker in workers {
                clock.pulse(*worker);
            }
        }
    }

    fn seconds(time: ActiveTime) -> f64 {
        time.as_micros() as f64 / 1e6
    }

    #[tokio::test(start_paused = true)]
    async fn active_time_runs_with_the_pulses() {
        let clock = clock(2);
        run_workers(&clock, &[0, 1], Duration::from_secs(100)).await;
        assert_eq!(seconds(clock.pulse(0)), 100.0);
        assert_eq!(clock.lost(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_the_process_is_not_heard_and_counts_once() {
        let clock = clock(2);
        run_workers(&clock, &[0, 1], Duration::from_secs(10)).await;
        tokio::time::advance(Duration::from_secs(50)).await;
        assert_eq!(seconds(clock.pulse(0)), 10.0);
        tokio::time::advance(Duration::from_millis(5)).await;
        assert_eq!(seconds(clock.pulse(1)), 10.0);
        run_workers(&clock, &[0, 1], Duration::from_secs(10)).await;
        assert_eq!(seconds(clock.active_on_all(0)), 20.0);
    }

    /// What is logged meanwhile.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_is_told_once_however_many_workers_wake_from_it_and_however_late() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        // With a single subscriber, a thread that has none could switch the event off for all.
        let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
        let _guard = tracing::subscriber::set_default(subscriber);
        let clock = clock(3);
        run_workers(&clock, &[0, 1, 2], Duration::from_secs(10)).await;
        tokio::time::advance(Duration::from_secs(50)).await;
        clock.pulse(0);
        tokio::time::advance(Duration::from_micros(20)).await;
        clock.pulse(1);
        tokio::time::advance(Duration::from_millis(300)).await;
        clock.pulse(2);
        let text = String::from_utf8(log.0.lock().clone()).unwrap();
        assert_eq!(text.matches("was paused").count(), 1, "{text}");
        assert!(clock.lost() > Duration::from_secs(50), "all of it counts");
    }

    #[tokio::test(start_paused = true)]
    async fn time_stands_still_for_decisions_while_one_worker_is_starved() {
        let clock = clock(2);
        run_workers(&clock, &[0, 1], Duration::from_secs(10)).await;
        run_workers(&clock, &[0], Duration::from_secs(5)).await;
        assert_eq!(seconds(clock.active_on_all(0)), 10.0);
        // The starved worker comes back: the gap is counted for good.
        clock.pulse(1);
        assert_eq!(seconds(clock.active_on_all(0)), 10.0);
        assert_eq!(clock.lost(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_has_not_started_or_has_stopped_starves_nobody() {
        let clock = clock(2);
        run_workers(&clock, &[0], Duration::from_secs(10)).await;
        assert_eq!(seconds(clock.active_on_all(0)), 10.0);
        clock.pulse(1);
        clock.stop_worker(1);
        run_workers(&clock, &[0], Duration::from_secs(10)).await;
        assert_eq!(seconds(clock.active_on_all(0)), 20.0);
    }

    #[tokio::test(start_paused = true)]
    async fn instants_follow_what_was_lost() {
        let clock = clock(1);
        clock.pulse(0);
        let moment = ActiveTime::from_micros(60_000_000);
        let before = clock.instant_of(moment);
        tokio::time::advance(Duration::from_secs(20)).await;
        clock.pulse(0);
        assert_eq!(clock.instant_of(moment) - before, Duration::from_secs(20));
    }

    #[test]
    fn a_short_grace_notices_short_gaps() {
        let interval = |grace| Clock::new(1, ActiveTime::default(), Duration::from_millis(grace)).pulse_interval();
        assert_eq!(interval(30_000), Duration::from_millis(100));
        assert_eq!(interval(150), Duration::from_micros(18_750));
        assert_eq!(interval(0), Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_of_the_wall_clock_moves_no_deadline() {
        let clock = clock(1);
        let before = clock.pulse(0);
        clock.set_wall(Timestamp::from_millis(1 << 40));
        assert_eq!(clock.pulse(0), before);
        assert_eq!(clock.wall(), Timestamp::from_millis(1 << 40));
    }
}
