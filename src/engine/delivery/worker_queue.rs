//! Heartbeats whose agent lives on another thread than their connection.
//!
//! A message to an actor of another thread wakes that thread by a system call, and its answer wakes this one by another:
//! together they cost as much as all the engine does for a heartbeat. So what is on its way to another thread is gathered.
//! Each worker has a carrier, a task that has its turn after those that are ready by then, takes what they have left for
//! other threads to the inboxes there, and wakes each of these threads once. Answers come back the same way.

use std::{
    cell::Cell,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, oneshot};

use super::routing::Routing;
use crate::engine::messages::{BeatAck, PostedBeat, Proof, Refusal};
use crate::fleet::{AgentId, Heartbeat};

thread_local! {
    /// The worker whose thread this is.
    static HERE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// What an agent answers to a heartbeat.
pub type Outcome = Result<BeatAck, Refusal>;

/// The post between the workers of an engine.
#[derive(Debug)]
pub struct Post {
    desks: Box<[Desk]>,
}

/// One worker's part of it.
#[derive(Debug, Default)]
struct Desk {
    /// Left by this worker, with where it is to go.
    out: Mutex<Vec<(usize, Letter)>>,
    /// Brought by the carriers of others.
    inbox: Mutex<Vec<Letter>>,
    /// Wakes the carrier of this worker.
    work: Notify,
}

#[derive(Debug)]
enum Letter {
    Beat(AgentId, PostedBeat),
    Answer(oneshot::Sender<Outcome>, Outcome),
}

/// Brings the answer to a heartbeat back to the thread that waits for it. Dropped, it says that there will be none.
#[derive(Debug)]
pub struct Reply {
    post: Arc<Post>,
    /// Where the agent lives.
    from: usize,
    /// Where the answer is waited for.
    to: usize,
    answer: oneshot::Sender<Outcome>,
}

impl Reply {
    /// Answers.
    pub fn send(self, outcome: Outcome) {
        let Self { post, from, to, answer } = self;
        post.leave(from, to, Letter::Answer(answer, outcome));
    }
}

impl Post {
    /// A post for so many workers. Each has to run a carrier.
    pub fn new(workers: usize) -> Self {
        Self { desks: (0..workers).map(|_| Desk::default()).collect() }
    }

    /// The worker on whose thread this is called, if `home` is another one: then the post is the way to go there.
    pub fn away_from(&self, home: usize) -> Option<usize> {
        HERE.get().filter(|here| *here != home && *here < self.desks.len())
    }

    /// Sends a heartbeat from worker `here` to an agent of worker `home`, and waits for the answer. `None` if the agent is
    /// not there, or does not answer.
    pub async fn ask(
        self: &Arc<Self>,
        (here, home): (usize, usize),
        id: AgentId,
        proof: Proof,
        heartbeat: Heartbeat,
    ) -> Option<Outcome> {
        let (answer, answered) = oneshot::channel();
        let reply = Reply { post: self.clone(), from: home, to: here, answer };
        self.leave(here, home, Letter::Beat(id, PostedBeat { proof, heartbeat, reply }));
        answered.await.ok()
    }

    /// Carries letters from and to worker `index`, on its thread, for ever.
    pub async fn carry(self: Arc<Self>, index: usize, routing: Arc<Routing>) {
        HERE.set(Some(index));
        let desk = &self.desks[index];
        let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
        loop {
            desk.work.notified().await;
            mem::swap(&mut incoming, &mut *lock(&desk.inbox));
            for letter in incoming.drain(..) {
                match letter {
                    Letter::Beat(id, beat) => routing.do_send(id, beat),
                    // Who hung up needs no answer.
                    Letter::Answer(answer, outcome) => _ = answer.send(outcome),
                }
            }
            mem::swap(&mut outgoing, &mut *lock(&desk.out));
            for (to, letter) in outgoing.drain(..) {
                add(&self.desks[to].inbox, letter, &self.desks[to].work);
            }
        }
    }

    fn leave(&self, from: usize, to: usize, letter: Letter) {
        add(&self.desks[from].out, (to, letter), &self.desks[from].work);
    }
}

/// Adds a letter; the first one of a heap wakes who will take all of it.
fn add<T>(heap: &Mutex<Vec<T>>, letter: T, work: &Notify) {
    let is_first = {
        let mut heap = lock(heap);
        heap.push(letter);
        heap.len() == 1
    };
    if is_first {
        work.notify_one();
    }
}

/// Whole after every step: a panic elsewhere does not spoil it.
fn lock<T>(heap: &Mutex<T>) -> MutexGuard<'_, T> {
    heap.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_for_an_agent_that_is_not_there_is_told_so() {
        let post = Arc::new(Post::new(2));
        let carriers = (0..2).map(|worker| post.clone().carry(worker, Arc::default()));
        let carriers: Vec<_> = carriers.map(tokio::spawn).collect();
        let beat = post.ask((0, 1), AgentId::new(7), Proof::Admin, Heartbeat::default());
        assert_eq!(beat.await, None);
        carriers.iter().for_each(|carrier| carrier.abort());
    }

    #[tokio::test]
    async fn letters_left_while_the_carrier_is_away_go_together_and_wake_once() {
        let post = Post::new(2);
        let reply = |answer| Letter::Answer(answer, Err(Refusal::Gone));
        let (first, second) = (oneshot::channel(), oneshot::channel());
        post.leave(0, 1, reply(first.0));
        post.leave(0, 1, reply(second.0));
        assert_eq!(lock(&post.desks[0].out).len(), 2);
        post.desks[0].work.notified().await;
        let again = post.desks[0].work.notified();
        assert!(futures_util::FutureExt::now_or_never(again).is_none(), "one wake for both");
    }

    #[test]
    fn the_post_is_for_other_threads_only() {
        HERE.set(Some(1));
        let post = Post::new(2);
        assert_eq!((post.away_from(0), post.away_from(1)), (Some(1), None));
        HERE.set(None);
        assert_eq!(post.away_from(0), None, "whoever is no worker sends directly");
    }
}
