//! Heartbeats whose agent lives on another thread than their connection.
//!
//! A message to an actor of another thread wakes that thread by a system call, and its answer wakes this one by another:
//! together they cost as much as all the engine does for a heartbeat. So what is on its way to another thread is batched.
//! Each worker has a flusher, a task that runs after those that are ready by then, takes what they have left for
//! other threads to the inboxes there, and wakes each of these threads once. Answers come back the same way.

use std::{cell::Cell, mem, sync::Arc};

use actix::Message;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::engine::messages::{AgentRefusal, BeatAck, Credential};
use crate::fleet::{AgentId, Heartbeat};

thread_local! {
    /// The worker whose thread this is.
    static HERE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// What an agent answers to a heartbeat.
pub type BeatOutcome = Result<BeatAck, AgentRefusal>;

/// The queues between the workers of an engine.
#[derive(Debug)]
pub struct WorkerQueues {
    queues: Box<[WorkerQueue]>,
}

/// One worker's part of it.
#[derive(Debug, Default)]
struct WorkerQueue {
    /// Left by this worker, with where it is to go.
    out: Mutex<Vec<(usize, Envelope)>>,
    /// Brought by the flushers of others.
    inbox: Mutex<Vec<Envelope>>,
    /// Wakes the flusher of this worker.
    work: Notify,
}

#[derive(Debug)]
enum Envelope {
    Beat(AgentId, QueuedBeat),
    Answer(oneshot::Sender<BeatOutcome>, BeatOutcome),
}

/// To an agent: a heartbeat that came in on another thread.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct QueuedBeat {
    pub credential: Credential,
    pub heartbeat: Heartbeat,
    pub reply: Reply,
}

/// Brings the answer to a heartbeat back to the thread that waits for it. Dropped, it means that there will be none.
#[derive(Debug)]
pub struct Reply {
    queues: Arc<WorkerQueues>,
    /// Where the agent lives.
    from: usize,
    /// Where the answer is waited for.
    to: usize,
    answer: oneshot::Sender<BeatOutcome>,
}

impl Reply {
    pub fn send(self, outcome: BeatOutcome) {
        let Self { queues, from, to, answer } = self;
        queues.leave(from, to, Envelope::Answer(answer, outcome));
    }
}

impl WorkerQueues {
    /// Queues for so many workers. Each has to run a flusher.
    pub fn new(workers: usize) -> Self {
        Self { queues: (0..workers).map(|_| WorkerQueue::default()).collect() }
    }

    /// The worker on whose thread this is called, if `home` is another one: then the queues are the way to go there.
    pub fn away_from(&self, home: usize) -> Option<usize> {
        HERE.get().filter(|here| *here != home && *here < self.queues.len())
    }

    /// Sends a heartbeat from worker `here` to an agent of worker `home`, and waits for the answer. `None` if the agent is
    /// not there, or does not answer.
    pub async fn ask(
        self: &Arc<Self>,
        (here, home): (usize, usize),
        id: AgentId,
        credential: Credential,
        heartbeat: Heartbeat,
    ) -> Option<BeatOutcome> {
        let (answer, answered) = oneshot::channel();
        let reply = Reply { queues: self.clone(), from: home, to: here, answer };
        self.leave(here, home, Envelope::Beat(id, QueuedBeat { credential, heartbeat, reply }));
        answered.await.ok()
    }

    /// Takes envelopes from and to worker `index`, on its thread, for ever; heartbeats for its agents go to `deliver`.
    pub async fn flush(self: Arc<Self>, index: usize, deliver: impl Fn(AgentId, QueuedBeat)) {
        HERE.set(Some(index));
        let queue = &self.queues[index];
        let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
        loop {
            queue.work.notified().await;
            mem::swap(&mut incoming, &mut *queue.inbox.lock());
            for envelope in incoming.drain(..) {
                match envelope {
                    Envelope::Beat(id, beat) => deliver(id, beat),
                    // Who hung up needs no answer.
                    Envelope::Answer(answer, outcome) => _ = answer.send(outcome),
                }
            }
            mem::swap(&mut outgoing, &mut *queue.out.lock());
            for (to, envelope) in outgoing.drain(..) {
                add(&self.queues[to].inbox, envelope, &self.queues[to].work);
            }
        }
    }

    fn leave(&self, from: usize, to: usize, envelope: Envelope) {
        add(&self.queues[from].out, (to, envelope), &self.queues[from].work);
    }
}

/// Adds an envelope; the first one of a queue wakes who will take all of it.
fn add<T>(queue: &Mutex<Vec<T>>, envelope: T, work: &Notify) {
    let is_first = {
        let mut queue = queue.lock();
        queue.push(envelope);
        queue.len() == 1
    };
    if is_first {
        work.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_for_an_agent_that_is_not_there_is_told_so() {
        let queues = Arc::new(WorkerQueues::new(2));
        let flushers = (0..2).map(|worker| queues.clone().flush(worker, |_, beat| drop(beat)));
        let flushers: Vec<_> = flushers.map(tokio::spawn).collect();
        let beat = queues.ask((0, 1), AgentId::new(7), Credential::Admin, Heartbeat::default());
        assert_eq!(beat.await, None);
        flushers.iter().for_each(|flusher| flusher.abort());
    }

    #[tokio::test]
    async fn envelopes_left_while_the_flusher_is_away_go_together_and_wake_once() {
        let queues = WorkerQueues::new(2);
        let reply = |answer| Envelope::Answer(answer, Err(AgentRefusal::Gone));
        let (first, second) = (oneshot::channel(), oneshot::channel());
        queues.leave(0, 1, reply(first.0));
        queues.leave(0, 1, reply(second.0));
        assert_eq!(queues.queues[0].out.lock().len(), 2);
        queues.queues[0].work.notified().await;
        let again = queues.queues[0].work.notified();
        assert!(futures_util::FutureExt::now_or_never(again).is_none(), "one wake for both");
    }

    #[test]
    fn the_queues_are_for_other_threads_only() {
        HERE.set(Some(1));
        let queues = WorkerQueues::new(2);
        assert_eq!((queues.away_from(0), queues.away_from(1)), (Some(1), None));
        HERE.set(None);
        assert_eq!(queues.away_from(0), None, "whoever is no worker sends directly");
    }
}
