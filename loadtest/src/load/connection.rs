//! One connection of a load: it sends requests, and counts what comes of them.

use std::sync::Arc;
use std::time::Instant;

use crate::wire::{Link, Target};

use super::heartbeat::Batch;
use super::operation::{Operation, Writer};
use super::relayed;
use super::{AgentId, Fleet, SharedTally, Transport, bulk::refusal};

pub(super) struct Connection {
    target: Arc<Target>,
    transport: Transport,
    writer: Writer,
    link: Link,
    request: Vec<u8>,
    tally: SharedTally,
}

impl Connection {
    pub(super) fn new(target: &Arc<Target>, operation: Operation, transport: Transport, tally: SharedTally) -> Self {
        Self {
            target: target.clone(),
            transport,
            writer: Writer::of(operation, target, transport.keep_alive),
            link: Link::new(target.clone(), transport.keep_alive),
            request: Vec::new(),
            tally,
        }
    }

    /// Sends the request with this number, an agent's, which was due at that moment; whether it succeeded.
    pub(super) async fn send(
        &mut self,
        number: u64,
        (agent, token): (AgentId, &str),
        due: Instant,
        counts: bool,
    ) -> bool {
        self.writer.write(&mut self.request, number, agent, token);
        let wait = due.elapsed();
        let outcome = self.link.exchange_within(self.transport.limit, &self.request).await;
        let latency = due.elapsed();
        let succeeded = outcome.as_ref().is_ok_and(|reply| reply.is_success());
        if counts {
            let mut tally = self.tally.lock();
            match outcome {
                Ok(reply) => {
                    tally.count_reply(reply, || refusal(&self.target, reply, self.link.body()), wait, latency);
                }
                Err(error) => tally.count_error(&error, &self.target),
            }
        }
        succeeded
    }

    /// What comes of the requests from now on is counted there.
    pub(super) fn count_in(&mut self, tally: SharedTally) {
        self.tally = tally;
    }

    /// Gives up the connection, if there is one; the next request opens another, which may resume its TLS session.
    pub(super) fn disconnect(&mut self) {
        self.link.disconnect();
    }

    pub(super) fn body(&self) -> &[u8] {
        self.link.body()
    }

    /// Sends these beats in one request; `due` says when each that counts was due. Whether all succeeded.
    pub(super) async fn relay(
        &mut self,
        batch: &mut Batch,
        fleet: &Fleet,
        beats: impl Iterator<Item = u64> + Clone,
        due: impl Fn(u64) -> Option<Instant>,
    ) -> bool {
        batch.write(&mut self.request, beats.clone().map(|beat| fleet.agent_of(beat).0));
        let sent = Instant::now();
        let outcome = self.link.exchange_within(self.transport.limit, &self.request).await;
        let answered = Instant::now();
        let counted: Vec<Instant> = beats.filter_map(due).collect();
        let count = counted.len() as u64;
        let mut tally = self.tally.lock();
        match outcome {
            Ok(reply) => {
                for due in counted {
                    tally.count_time(sent.saturating_duration_since(due), answered.saturating_duration_since(due));
                }
                relayed::count(&mut tally, reply, self.link.body(), count, &self.target)
            }
            Err(error) => {
                tally.count_errors(error.kind(), count, || error.advice(&self.target));
                false
            }
        }
    }
}
