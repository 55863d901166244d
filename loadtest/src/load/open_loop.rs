//! The open loop: beats, or reports of threats, leave by schedule, whatever the server does.
//!
//! One dispatcher releases beats at their due times as permits of a semaphore; any free connection
//! takes the next one. When all connections are busy the permits pile up, which is a number and no
//! memory, and the waiting shows in the latencies, which count from the due time.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::wire::Target;

use super::connection::Connection;
use super::heartbeat::Batch;
use super::sleeper::Sleeper;
use super::{Batching, Fleet, Operation, Schedule, SharedTally, Silence, Transport};

/// Beats due within this time leave together. Waking up is most of what this client costs: at 10,000
/// beats a second on two virtual cores a beat took 60 µs of processor time with naps of 50 µs, 43 with
/// 250, 33 with 1,000. Latencies are exact all the same, and at most this much longer than they could be.
const SHORTEST_NAP: Duration = Duration::from_micros(200);
/// How long outstanding answers are waited for at the end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How soon a stop is noticed.
const LONGEST_NAP: Duration = Duration::from_millis(50);

pub(crate) struct OpenLoop {
    pub(crate) target: Arc<Target>,
    /// Whose beats they are; not empty.
    pub(crate) fleet: Arc<Fleet>,
    /// What is sent for each beat. Batches are of heartbeats, whatever stands here.
    pub(crate) operation: Operation,
    pub(crate) schedule: Schedule,
    pub(crate) silence: Silence,
    pub(crate) transport: Transport,
    /// Beats due before this are sent, but not counted.
    pub(crate) warm_up: Duration,
    /// For how long beats become due, the warm-up included.
    pub(crate) duration: Duration,
    /// For how long, after that, outstanding answers are waited for.
    pub(crate) patience: Duration,
    pub(crate) stop: CancellationToken,
}

/// What the dispatcher and the connections share.
struct Shared {
    load: OpenLoop,
    begun: Instant,
    /// The first beat that is counted.
    first: u64,
    /// Beats that are due and not taken.
    due: Semaphore,
    /// The relay whose turn it is to take beats: one takes many, and the next waits for more.
    turn: Mutex<()>,
    /// The number of the next beat to be taken.
    next: AtomicU64,
    tally: SharedTally,
}

impl OpenLoop {
    /// Beats of a fleet, in which nobody is silent.
    pub(crate) fn of(
        target: &Arc<Target>,
        fleet: &Arc<Fleet>,
        schedule: Schedule,
        transport: Transport,
        duration: Duration,
    ) -> Self {
        Self {
            target: target.clone(),
            fleet: fleet.clone(),
            operation: Operation::Beat,
            schedule,
            silence: Silence::never(),
            transport,
            warm_up: Duration::ZERO,
            duration,
            patience: PATIENCE,
            stop: CancellationToken::new(),
        }
    }

    /// Runs to the end of the duration, or until stopped, and waits for the answers.
    pub(crate) async fn run(self, tally: SharedTally) -> anyhow::Result<()> {
        // A beat due at the very end of the warm-up is counted.
        let first = self.warm_up.checked_sub(Duration::from_nanos(1)).map_or(0, |end| self.schedule.released(end));
        let shared = Arc::new(Shared {
            load: self,
            begun: Instant::now(),
            first,
            due: Semaphore::new(0),
            turn: Mutex::new(()),
            next: AtomicU64::new(0),
            tally,
        });
        let load = &shared.load;
        let mut connections = JoinSet::new();
        for _ in 0..load.transport.connections {
            match load.transport.batching {
                None => connections.spawn(shared.clone().beat()),
                Some(batching) => connections.spawn(shared.clone().relay(batching)),
            };
        }
        let due = shared.dispatch().await?;
        let drained = async {
            // Not until there are no more permits: one that is given away is lost if it is closed before it is taken.
            while shared.next.load(Ordering::Relaxed) < due {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            shared.due.close();
            while connections.join_next().await.is_some() {}
        };
        // Those that are still waiting afterwards are ended with the set that holds them.
        let _ = tokio::time::timeout(load.patience, drained).await;
        let taken = shared.next.load(Ordering::Relaxed).min(due);
        let mut tally = shared.tally.lock();
        tally.unsent += shared.counted(taken..due);
        // Of those that run at the same time, the longest counts.
        tally.elapsed = tally.elapsed.max(shared.begun.elapsed().saturating_sub(load.warm_up));
        Ok(())
    }
}

impl Shared {
    /// Releases beats at their due times; returns how many.
    async fn dispatch(&self) -> anyhow::Result<u64> {
        let OpenLoop { schedule, duration, stop, transport, .. } = &self.load;
        let mut sleeper = Sleeper::new()?;
        let shortest_nap = transport.batching.map_or(SHORTEST_NAP, |batching| batching.gather.max(SHORTEST_NAP));
        let longest_nap = LONGEST_NAP.max(shortest_nap);
        let mut released = 0;
        loop {
            let now = self.begun.elapsed();
            let end = now >= *duration || stop.is_cancelled();
            // A beat due at the very end belongs to the time after it.
            let last_moment = duration.saturating_sub(Duration::from_nanos(1));
            let due = schedule.released(now.min(last_moment));
            self.tally.lock().count_due(self.counted(released..due));
            self.due.add_permits(usize::try_from(due - released)?);
            released = due;
            if end {
                return Ok(released);
            }
            let until_next = schedule.due(released).min(*duration).saturating_sub(now);
            sleeper.sleep(until_next.clamp(shortest_nap, longest_nap)).await?;
        }
    }

    /// How many of these beats are sent and count.
    fn counted(&self, beats: Range<u64>) -> u64 {
        let beats = beats.start.max(self.first)..beats.end.max(self.first);
        beats.end - beats.start - self.load.silence.suppressed(beats)
    }

    fn connection(&self) -> Connection {
        Connection::new(&self.load.target, self.load.operation, self.load.transport, self.tally.clone())
    }

    /// One connection: takes the next beat that is due, until there are no more.
    async fn beat(self: Arc<Self>) {
        let OpenLoop { fleet, schedule, silence, .. } = &self.load;
        let mut connection = self.connection();
        while let Ok(permit) = self.due.acquire().await {
            permit.forget();
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if !silence.suppresses(number) {
                let due = self.begun + schedule.due(number);
                connection.send(number, fleet.agent_of(number), due, number >= self.first).await;
            }
        }
    }

    /// As [`Shared::beat`], with as many beats in a request as are due.
    async fn relay(self: Arc<Self>, batching: Batching) {
        let OpenLoop { target, fleet, schedule, silence, transport, .. } = &self.load;
        let mut batch = Batch::to(target, transport.keep_alive, fleet.agent_of(0).1);
        let mut connection = self.connection();
        while let Some(beats) = self.take(batching).await {
            let sent = beats.filter(|beat| !silence.suppresses(*beat));
            if sent.clone().next().is_some() {
                let due = |beat| (beat >= self.first).then(|| self.begun + schedule.due(beat));
                connection.relay(&mut batch, fleet, sent, due).await;
            }
        }
    }

    /// The beats that are due, up to so many; waits for the first. `None` when there are no more.
    async fn take(&self, batching: Batching) -> Option<Range<u64>> {
        let _turn = self.turn.lock().await;
        self.due.acquire().await.ok()?.forget();
        let more = (self.due.available_permits() as u64).min(batching.beats - 1);
        // Nobody else takes any meanwhile: it is this one's turn.
        let more = match self.due.try_acquire_many(u32::try_from(more).unwrap_or(u32::MAX)) {
            Ok(permits) => {
                let taken = permits.num_permits() as u64;
                permits.forget();
                taken
            }
            Err(_) => 0,
        };
        let first = self.next.fetch_add(1 + more, Ordering::Relaxed);
        Some(first..first + 1 + more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{AgentId, Reports, Tally};
    use crate::wire::fake;

    async fn beat(pause: Duration, per_second: f64, patience: Duration) -> Tally {
        beat_with(pause, pause, patience, |run| run.schedule = Schedule::at_rate(10, per_second)).await
    }

    async fn beat_with(first: Duration, pause: Duration, patience: Duration, set: impl FnOnce(&mut OpenLoop)) -> Tally {
        // It takes its time over its first answer on a connection, and over each after it.
        let answer = move |_, number| async move {
            tokio::time::sleep(if number == 0 { first } else { pause }).await;
            fake::reply(200, "")
        };
        let url = fake::serve(usize::MAX, answer).await;
        let ids = (0..10).map(AgentId::of).collect();
        let tally = SharedTally::new();
        let target = Target::reach(&url, None).await.expect("a target");
        let fleet = Arc::new(Fleet::with_shared_token(ids, "t"));
        let transport = Transport { limit: Duration::from_secs(100), ..Transport::kept(1) };
        let schedule = Schedule::at_rate(10, 100.0);
        let mut run = OpenLoop::of(&target, &fleet, schedule, transport, Duration::from_millis(200));
        run.patience = patience;
        set(&mut run);
        run.run(tally.clone()).await.expect("a run");
        tally.lock().take()
    }

    #[tokio::test]
    async fn every_beat_that_is_due_is_sent_and_answered() {
        let tally = beat(Duration::ZERO, 1_000.0, Duration::from_secs(10)).await;
        assert_eq!((tally.due, tally.unsent), (200, 0));
        assert_eq!(tally.successes(), 200);
    }

    #[tokio::test]
    async fn the_time_a_beat_waits_for_a_slow_server_is_part_of_its_latency() {
        // 20 beats due within 200 ms, 20 ms each, one at a time: the last waits for some 200 ms.
        let tally = beat(Duration::from_millis(20), 100.0, Duration::from_secs(10)).await;
        assert_eq!((tally.due, tally.unsent), (20, 0));
        assert!(tally.latency_us.max() >= 150_000);
    }

    #[tokio::test]
    async fn beats_that_could_not_be_sent_are_told() {
        let tally = beat(Duration::from_secs(60), 100.0, Duration::from_millis(50)).await;
        assert_eq!((tally.due, tally.unsent), (20, 19));
        assert_eq!(tally.answered(), 0);
    }

    #[tokio::test]
    async fn the_beats_that_wait_behind_a_stalled_connection_count_from_their_due_times() {
        // 20 beats due 10 ms apart, and the first answer takes 190 ms: were latencies counted from the
        // sending, only the first would seem slow. The k-th, due after k · 10 ms, waits for the rest of it.
        let stall = Duration::from_millis(190);
        let tally = beat_with(stall, Duration::ZERO, Duration::from_secs(60), |_| {}).await;
        assert_eq!(tally.latency_us.len(), 20);
        assert!(tally.latency_us.max() >= 190_000, "{}", tally.latency_us.max());
        assert!(tally.latency_us.value_at_quantile(0.5) >= 90_000);
        assert!(tally.wait_us.value_at_quantile(0.5) >= 80_000);
    }

    #[tokio::test]
    async fn the_warm_up_and_the_silent_do_not_count() {
        let tally = beat_with(Duration::ZERO, Duration::ZERO, Duration::from_secs(10), |run| {
            run.schedule = Schedule::at_rate(10, 1_000.0);
            run.warm_up = Duration::from_millis(100);
            run.silence = Silence::of(3, 10, 150);
        })
        .await;
        // 100 beats after the warm-up, half of them with three of ten agents silent.
        assert_eq!((tally.due, tally.unsent), (85, 0));
        assert_eq!(tally.successes(), 85);
    }

    #[tokio::test]
    async fn reports_leave_by_schedule_as_beats_do() {
        let tally = beat_with(Duration::ZERO, Duration::ZERO, Duration::from_secs(10), |run| {
            run.operation = Operation::Report(Reports { events: 3, types: 2 });
            run.schedule = Schedule::at_rate(1, 500.0);
        })
        .await;
        // Due are the reports, whatever number of events each has.
        assert_eq!((tally.due, tally.successes()), (100, 100));
    }

    const SLOW: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn beats_that_are_due_together_travel_together() {
        let tally = beat_with(SLOW, SLOW, Duration::from_secs(10), |run| {
            run.schedule = Schedule::at_rate(10, 1_000.0);
            run.transport.batching = Some(Batching { beats: 40, gather: Duration::from_millis(10) });
        })
        .await;
        assert_eq!((tally.due, tally.unsent), (200, 0));
        // The server of this test does not say what it has accepted.
        assert_eq!((tally.errors.get("batch"), tally.latency_us.len()), (Some(&200), 200));
        // One at a time, and 20 ms each, they would have taken 4 s.
        assert!(tally.elapsed < Duration::from_secs(2), "{:?}", tally.elapsed);
    }
}
