//! Registrations in a closed loop: each connection sends its next as soon as the last is answered.
//!
//! A registration is answered once it is durable, and those that arrive meanwhile share one write. So
//! the latencies say something here, other than those of beats: with so many connections, so many wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::wire::{KeepAlive, Link, Method, Target, request};

use super::SharedTally;
use super::caller::{LIMIT, refusal};
use super::registrar::{REGISTER_PATH, registration};

/// A run of registrations, each of a new agent.
#[derive(Clone)]
pub(crate) struct RegistrationLoop {
    /// Where they go.
    pub(crate) target: Arc<Target>,
    /// The admin token.
    pub(crate) token: Arc<str>,
    /// How many are under way at once.
    pub(crate) connections: usize,
    /// For how long new ones are sent.
    pub(crate) duration: Duration,
    /// How many are sent at most.
    pub(crate) most: u64,
}

impl RegistrationLoop {
    /// Runs to the end of the duration or the number, and until all are answered; returns how long that
    /// took. A connection on which one fails sends no more.
    pub(crate) async fn run(self, tally: &SharedTally) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let next = Arc::new(AtomicU64::new(0));
        let mut connections = JoinSet::new();
        for _ in 0..self.connections {
            connections.spawn(self.clone().register(begun, next.clone(), tally.clone()));
        }
        while let Some(done) = connections.join_next().await {
            done?;
        }
        Ok(begun.elapsed())
    }

    async fn register(self, begun: Instant, next: Arc<AtomicU64>, tally: SharedTally) {
        let mut link = Link::new(self.target.clone(), KeepAlive::Yes);
        while begun.elapsed() < self.duration {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.most {
                return;
            }
            let body = registration(number);
            let post = request(&self.target, Method::Post, REGISTER_PATH, Some(&self.token), Some(&body));
            let sent = Instant::now();
            let outcome = link.exchange_within(LIMIT, &post).await;
            let latency = sent.elapsed();
            let mut tally = tally.lock();
            match outcome {
                Ok(reply) => {
                    tally.count_reply(reply, || refusal(&self.target, reply, link.body()), Duration::ZERO, latency);
                    if !reply.is_success() {
                        return;
                    }
                }
                Err(error) => {
                    tally.count_error(&error, &self.target);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that accepts so many registrations in all, and refuses those after.
    async fn serve(listener: TcpListener, accepted: u64) {
        let answered = Arc::new(AtomicU64::new(0));
        loop {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let answered = answered.clone();
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                while socket.read(&mut asked).await.is_ok_and(|read| read > 0) {
                    let status = if answered.fetch_add(1, Ordering::Relaxed) < accepted { 201 } else { 503 };
                    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
                    socket.write_all(answer.as_bytes()).await.expect("answered");
                }
            });
        }
    }

    async fn register(accepted: u64, duration: Duration, most: u64) -> SharedTally {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(serve(listener, accepted));
        let target = Target::reach(&url, None).await.expect("a target");
        let tally = SharedTally::new();
        let run = RegistrationLoop { target, token: "t".into(), connections: 3, duration, most };
        run.run(&tally).await.expect("a run");
        tally
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_run_ends_with_its_number() {
        let tally = register(u64::MAX, LONG, 100).await;
        let tally = tally.lock();
        assert_eq!((tally.successes(), tally.latency_us.len()), (100, 100));
    }

    #[tokio::test]
    async fn a_run_ends_with_its_time() {
        let tally = register(u64::MAX, Duration::from_millis(50), u64::MAX).await;
        assert!(tally.lock().successes() > 0);
    }

    #[tokio::test]
    async fn a_refusal_is_told_and_ends_its_connection() {
        let tally = register(10, LONG, u64::MAX).await;
        let tally = tally.lock();
        assert_eq!((tally.successes(), tally.answered()), (10, 13));
        assert!(tally.first_failure.is_some());
    }
}
