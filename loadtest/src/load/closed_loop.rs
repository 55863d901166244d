//! The closed loop: each connection sends its next request as soon as the last is answered.
//!
//! Says what a request costs and how many there can be. Latencies of beats say nothing here (a slow server is simply asked
//! less often); those of registrations do, as they wait for the server's disk, and those that arrive meanwhile share one
//! write: with so many connections, so many wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::task::JoinSet;

use crate::wire::Target;

use super::connection::Connection;
use super::heartbeat::Batch;
use super::{Fleet, Operation, SharedTally, Transport};

#[derive(Clone)]
pub(crate) struct ClosedLoop {
    pub(crate) target: Arc<Target>,
    /// Whose requests they are, one agent's after the other; not empty.
    pub(crate) fleet: Arc<Fleet>,
    /// Batches are of heartbeats, whatever stands here.
    pub(crate) operation: Operation,
    pub(crate) transport: Transport,
    /// How many requests are sent at most; may be changed meanwhile.
    pub(crate) most: Arc<AtomicU64>,
}

impl ClosedLoop {
    /// Begins. It ends when all that may be sent is answered, or the set is dropped. A connection on which a request fails
    /// sends no more.
    pub(crate) fn start(self, tally: &SharedTally) -> JoinSet<()> {
        let next = Arc::new(AtomicU64::new(0));
        let mut connections = JoinSet::new();
        for _ in 0..self.transport.connections {
            connections.spawn(self.clone().run(next.clone(), tally.clone()));
        }
        connections
    }

    async fn run(self, next: Arc<AtomicU64>, tally: SharedTally) {
        let mut connection = Connection::new(&self.target, self.operation, self.transport, tally);
        let beats = self.transport.batching.map_or(1, |batching| batching.beats);
        let mut batch =
            (beats > 1).then(|| Batch::to(&self.target, self.transport.keep_alive, self.fleet.agent_of(0).1));
        loop {
            let first = next.fetch_add(beats, Ordering::Relaxed);
            let now = Instant::now();
            let succeeds = match &mut batch {
                _ if first >= self.most.load(Ordering::Relaxed) => return,
                None => connection.send(first, self.fleet.agent_of(first), now, true).await,
                Some(batch) => connection.relay(batch, &self.fleet, first..first + beats, |_| Some(now)).await,
            };
            if !succeeds {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::fake;

    /// With a server that accepts so many registrations in all, and refuses those after.
    async fn register(accepted: u64, most: u64, limit: Duration) -> SharedTally {
        let answered = Arc::<AtomicU64>::default();
        let answer = move |_, _| {
            let status = if answered.fetch_add(1, Ordering::Relaxed) < accepted { 201 } else { 503 };
            std::future::ready(fake::reply(status, ""))
        };
        let url = fake::serve(usize::MAX, answer).await;
        let tally = SharedTally::new();
        let run = ClosedLoop {
            target: Target::reach(&url, None).await.expect("a target"),
            fleet: Arc::new(Fleet::nobody("t")),
            operation: Operation::Register,
            transport: Transport::kept(3),
            most: Arc::new(most.into()),
        };
        let mut connections = run.start(&tally);
        let _ = tokio::time::timeout(limit, async { while connections.join_next().await.is_some() {} }).await;
        tally
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_run_ends_with_its_number() {
        let tally = register(u64::MAX, 100, LONG).await;
        let tally = tally.lock();
        assert_eq!((tally.successes(), tally.latency_us.len()), (100, 100));
    }

    #[tokio::test]
    async fn a_run_ends_when_nobody_wants_it_any_more() {
        let tally = register(u64::MAX, u64::MAX, Duration::from_millis(50)).await;
        assert!(tally.lock().successes() > 0);
    }

    #[tokio::test]
    async fn a_refusal_is_told_and_ends_its_connection() {
        let tally = register(10, u64::MAX, LONG).await;
        let tally = tally.lock();
        assert_eq!((tally.successes(), tally.answered()), (10, 13));
        assert!(tally.first_failure.is_some());
    }
}
