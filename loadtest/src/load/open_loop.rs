//! The open loop: beats leave by schedule, whatever the server does.
//!
//! One dispatcher releases beats at their due times as permits of a semaphore; any free connection
//! takes the next one. When all connections are busy the permits pile up, which is a number and no
//! memory, and the waiting shows in the latencies, which count from the due time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::wire::{KeepAlive, Link, Target};

use super::heartbeat::Heartbeat;
use super::sleeper::Sleeper;
use super::{Fleet, Schedule, SharedTally, refusal};

/// Beats due within this time leave together. Waking up is most of what this client costs: at 10,000
/// beats a second on two virtual cores a beat took 60 µs of processor time with naps of 50 µs, 43 with
/// 250, 33 with 1,000. Latencies are exact all the same, and at most this much longer than they could be.
const SHORTEST_NAP: Duration = Duration::from_micros(200);
/// How soon a stop is noticed.
const LONGEST_NAP: Duration = Duration::from_millis(50);

/// A run of beats by schedule.
pub(crate) struct OpenLoop {
    /// Where the beats go.
    pub(crate) target: Arc<Target>,
    /// Whose beats they are; not empty.
    pub(crate) fleet: Arc<Fleet>,
    /// When they are due.
    pub(crate) schedule: Schedule,
    /// How many can be under way at once.
    pub(crate) connections: usize,
    /// What becomes of a connection after a beat.
    pub(crate) keep_alive: KeepAlive,
    /// For how long beats become due.
    pub(crate) duration: Duration,
    /// For how long, after that, outstanding answers are waited for.
    pub(crate) patience: Duration,
    /// Set from outside to end the run early.
    pub(crate) stop: Arc<AtomicBool>,
}

/// What a run asked for. What came of it is in the tally.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ran {
    /// Beats that became due.
    pub(crate) due: u64,
    /// Beats that no connection was free for until the end.
    pub(crate) unsent: u64,
    /// For how long beats became due.
    pub(crate) duration: Duration,
    /// Until the last answer was in or waited for in vain.
    pub(crate) elapsed: Duration,
}

/// What the dispatcher and the connections share.
struct Shared {
    target: Arc<Target>,
    fleet: Arc<Fleet>,
    schedule: Schedule,
    keep_alive: KeepAlive,
    begun: Instant,
    /// Beats that are due and not taken.
    due: Semaphore,
    /// The number of the next beat to be taken.
    next: AtomicU64,
    tally: SharedTally,
}

impl OpenLoop {
    /// Runs to the end of the duration, or until stopped, and waits for the answers.
    pub(crate) async fn run(self, tally: SharedTally) -> anyhow::Result<Ran> {
        let shared = Arc::new(Shared {
            target: self.target,
            fleet: self.fleet,
            schedule: self.schedule,
            keep_alive: self.keep_alive,
            begun: Instant::now(),
            due: Semaphore::new(0),
            next: AtomicU64::new(0),
            tally,
        });
        let mut connections = JoinSet::new();
        for _ in 0..self.connections {
            connections.spawn(shared.clone().beat());
        }
        let due = shared.dispatch(self.duration, &self.stop).await?;
        let duration = shared.begun.elapsed().min(self.duration);

        let drained = async {
            while shared.due.available_permits() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            shared.due.close();
            while connections.join_next().await.is_some() {}
        };
        // Those that are still waiting afterwards are ended with the set that holds them.
        let _ = tokio::time::timeout(self.patience, drained).await;
        let taken = shared.next.load(Ordering::Relaxed);
        Ok(Ran { due, unsent: due.saturating_sub(taken), duration, elapsed: shared.begun.elapsed() })
    }
}

impl Shared {
    /// Releases beats at their due times; returns how many.
    async fn dispatch(&self, duration: Duration, stop: &AtomicBool) -> anyhow::Result<u64> {
        let mut sleeper = Sleeper::new()?;
        let mut released = 0;
        loop {
            let now = self.begun.elapsed();
            let end = now >= duration || stop.load(Ordering::Relaxed);
            // A beat due at the very end belongs to the time after it.
            let last_moment = duration.saturating_sub(Duration::from_nanos(1));
            let due = self.schedule.released(now.min(last_moment));
            self.due.add_permits(usize::try_from(due - released)?);
            released = due;
            if end {
                return Ok(released);
            }
            let until_next = self.schedule.due(released).min(duration).saturating_sub(now);
            sleeper.sleep(until_next.clamp(SHORTEST_NAP, LONGEST_NAP)).await?;
        }
    }

    /// One connection: takes the next beat that is due, until there are no more.
    async fn beat(self: Arc<Self>) {
        let heartbeat = Heartbeat::to(&self.target, self.keep_alive);
        let mut link = Link::new(self.target.clone(), self.keep_alive);
        let mut request = Vec::new();
        while let Ok(permit) = self.due.acquire().await {
            permit.forget();
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let due = self.begun + self.schedule.due(number);
            let (agent, token) = self.fleet.agent_of(number);
            heartbeat.write(&mut request, agent, token);
            let wait = due.elapsed();
            let outcome = link.exchange(&request).await;
            let latency = due.elapsed();
            let mut tally = self.tally.lock();
            match outcome {
                Ok(reply) => tally.count_reply(reply, || refusal(&self.target, reply, link.body()), wait, latency),
                Err(error) => tally.count_error(&error, &self.target),
            }
        }
        self.tally.lock().reopened += link.reopened();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::load::AgentId;

    /// A server that takes its time over each answer.
    async fn serve_slowly(listener: TcpListener, pause: Duration) {
        loop {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                while socket.read(&mut asked).await.is_ok_and(|read| read > 0) {
                    tokio::time::sleep(pause).await;
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    if socket.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    }

    async fn beat(pause: Duration, per_second: f64, patience: Duration) -> (Ran, SharedTally) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(serve_slowly(listener, pause));
        let ids = (0..10).map(AgentId::of).collect();
        let tally = SharedTally::new();
        let run = OpenLoop {
            target: Target::reach(&url, None).await.expect("a target"),
            fleet: Arc::new(Fleet::with_shared_token(ids, "t")),
            schedule: Schedule::at_rate(10, per_second),
            connections: 1,
            keep_alive: KeepAlive::Yes,
            duration: Duration::from_millis(200),
            patience,
            stop: Arc::new(AtomicBool::new(false)),
        };
        (run.run(tally.clone()).await.expect("a run"), tally)
    }

    #[tokio::test]
    async fn every_beat_that_is_due_is_sent_and_answered() {
        let (ran, tally) = beat(Duration::ZERO, 1_000.0, Duration::from_secs(10)).await;
        assert_eq!((ran.due, ran.unsent), (200, 0));
        assert_eq!(tally.lock().successes(), 200);
    }

    #[tokio::test]
    async fn the_time_a_beat_waits_for_a_slow_server_is_part_of_its_latency() {
        // 20 beats due within 200 ms, 20 ms each, one at a time: the last waits for some 200 ms.
        let (ran, tally) = beat(Duration::from_millis(20), 100.0, Duration::from_secs(10)).await;
        assert_eq!((ran.due, ran.unsent), (20, 0));
        assert!(tally.lock().latency_us.max() >= 150_000);
    }

    #[tokio::test]
    async fn beats_that_could_not_be_sent_are_told() {
        let (ran, tally) = beat(Duration::from_secs(60), 100.0, Duration::from_millis(50)).await;
        assert_eq!((ran.due, ran.unsent), (20, 19));
        assert_eq!(tally.lock().answered(), 0);
    }
}
