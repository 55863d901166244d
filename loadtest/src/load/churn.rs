//! Churn: agents register and take the places of others, which deregister, while everybody beats.
//!
//! By schedule like beats, and counted like them: latencies from the due time, for a registration of
//! its own and for a deregistration of the moment after which it may be sent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::wire::Target;

use super::bulk::LIMIT;
use super::connection::Connection;
use super::registration::registered;
use super::{AgentId, Fleet, Operation, Schedule, SharedTally, Tally, Transport};

/// Connections for it: a registration waits for the server's disk.
const CONNECTIONS: usize = 16;
/// How long an agent that was replaced is kept: its last beat may still be on its way.
const SETTLE: Duration = Duration::from_secs(1);
const LONGEST_NAP: Duration = Duration::from_millis(50);
/// Replaced agents that wait for their deregistration, on each connection.
const MAX_REPLACED: usize = 10_000;

#[derive(Clone)]
pub(crate) struct Churn {
    pub(crate) target: Arc<Target>,
    pub(crate) token: Arc<str>,
    /// Whose places they take, one after the other. Its agents share a token.
    pub(crate) fleet: Arc<Fleet>,
    /// How many a second, above zero.
    pub(crate) per_second: f64,
    pub(crate) stop: CancellationToken,
}

impl Churn {
    /// Goes on until it is stopped and all that were replaced are deregistered.
    pub(crate) async fn run(self, tally: SharedTally) -> anyhow::Result<Tally> {
        let next = Arc::new(AtomicU64::new(0));
        let begun = Instant::now();
        let transport = Transport { limit: LIMIT, ..Transport::kept(1) };
        let connection = |operation| Connection::new(&self.target, operation, transport, tally.clone());
        let mut workers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let worker = Worker {
                coming: connection(Operation::Register),
                going: connection(Operation::Deregister),
                churn: self.clone(),
                replaced: VecDeque::new(),
                tally: tally.clone(),
            };
            workers.spawn(worker.run(begun, next.clone()));
        }
        while let Some(done) = workers.join_next().await {
            done?;
        }
        let tally = tally.lock().take();
        Ok(tally)
    }
}

struct Worker {
    coming: Connection,
    going: Connection,
    churn: Churn,
    /// Those to be deregistered, and from when on.
    replaced: VecDeque<(Instant, AgentId)>,
    tally: SharedTally,
}

impl Worker {
    async fn run(mut self, begun: Instant, next: Arc<AtomicU64>) {
        let schedule = Schedule::at_rate(1, self.churn.per_second);
        'coming: loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let due = begun + schedule.due(number);
            while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                self.deregister_settled().await;
                tokio::select! {
                    () = self.churn.stop.cancelled() => break 'coming,
                    () = tokio::time::sleep(left.min(LONGEST_NAP)) => {}
                }
            }
            if self.churn.stop.is_cancelled() {
                break;
            }
            self.register(number, due).await;
            self.deregister_settled().await;
        }
        while !self.replaced.is_empty() {
            tokio::time::sleep(LONGEST_NAP).await;
            self.deregister_settled().await;
        }
    }

    async fn register(&mut self, number: u64, due: Instant) {
        let nobody = (AgentId::default(), &*self.churn.token);
        if !self.coming.send(number, nobody, due, true).await || self.replaced.len() == MAX_REPLACED {
            return;
        }
        match registered(self.coming.body()) {
            Ok((id, _)) => {
                let before = self.churn.fleet.replace(number, id);
                self.replaced.push_back((Instant::now() + SETTLE, before));
            }
            Err(error) => self.tally.lock().count_errors("protocol", 1, || format!("{error:#}")),
        }
    }

    async fn deregister_settled(&mut self) {
        while let Some((settled, id)) = self.replaced.front().copied().filter(|(at, _)| *at <= Instant::now()) {
            self.replaced.pop_front();
            self.going.send(0, (id, &self.churn.token), settled, true).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fake;

    #[tokio::test]
    async fn agents_come_by_schedule_and_those_they_replace_go() {
        // A server that registers agents from number 100 on, and deregisters all.
        let (next, gone) = (Arc::new(AtomicU64::new(100)), Arc::<AtomicU64>::default());
        let counters = (next.clone(), gone.clone());
        let url = fake::serve(usize::MAX, move |asked: String, _| {
            let (next, gone) = &counters;
            std::future::ready(if asked.starts_with("POST") {
                let id = AgentId::of(next.fetch_add(1, Ordering::Relaxed));
                fake::reply(201, &format!(r#"{{"agentId":"{id}","token":"t"}}"#))
            } else {
                gone.fetch_add(1, Ordering::Relaxed);
                fake::reply(200, "{}")
            })
        })
        .await;
        let fleet = Arc::new(Fleet::with_shared_token((0..4).map(AgentId::of).collect(), "t"));
        let churn = Churn {
            target: Target::reach(&url, None).await.expect("a target"),
            token: "t".into(),
            fleet: fleet.clone(),
            per_second: 100.0,
            stop: CancellationToken::new(),
        };
        let (stop, tally) = (churn.stop.clone(), SharedTally::new());
        let running = tokio::spawn(churn.run(tally.clone()));
        while tally.lock().successes() < 10 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.cancel();
        let tally = running.await.expect("no panic").expect("no error");
        let (came, went) = (next.load(Ordering::Relaxed) - 100, gone.load(Ordering::Relaxed));
        assert!(came >= 10 && came == went, "{came} came, {went} went");
        assert_eq!(tally.successes(), came + went);
        assert!((0..4).all(|place| fleet.agent_of(place).0 != AgentId::of(place)), "everybody was replaced");
    }
}
