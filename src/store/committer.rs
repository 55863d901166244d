//! Group commit: concurrent durable changes share one transaction.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot, watch};

use super::{Change, Store, StoreError};
use crate::{
    limits::{COMMIT_BATCH_MAX, COMMIT_PROBE_MS, COMMIT_QUEUE_MAX},
    process::supervision::{Task, indispensable},
};

type Waiting = (Vec<Change>, oneshot::Sender<Result<(), StoreError>>);

/// Hands durable changes to the store's one committing task. Clones share it.
///
/// While one transaction is being written the changes of all other requests queue up; the next transaction takes them
/// together. So the cost of an fsync (or a round trip) is shared by as many requests as came in its time, and a lone
/// request waits for nothing but its own.
#[derive(Clone, Debug)]
pub struct Committer {
    queue: mpsc::Sender<Waiting>,
    healthy: watch::Receiver<bool>,
}

impl Committer {
    /// Starts the committing task on the current runtime. It ends when the last clone is gone.
    pub fn start(store: Arc<dyn Store>) -> Self {
        let (queue, changes) = mpsc::channel(COMMIT_QUEUE_MAX);
        let (health, healthy) = watch::channel(true);
        tokio::spawn(indispensable(Task::Committer, commit_all(store, changes, health)));
        Self { queue, healthy }
    }

    /// Makes the change durable. What fails with another error than [`StoreError::UnknownOutcome`] has not been done.
    pub fn commit(&self, change: Change) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        self.commit_all(vec![change])
    }

    /// Makes the changes durable, all or none. Changes take effect in the order of these calls, and are answered in it,
    /// whenever their outcome is asked for.
    pub fn commit_all(&self, changes: Vec<Change>) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        let (done, outcome) = oneshot::channel();
        let queued = self.queue.try_send((changes, done)).map_err(|_| StoreError::Overloaded);
        async move {
            queued?;
            outcome.await.unwrap_or_else(|_| Err(StoreError::unavailable("the store has been closed")))
        }
    }

    /// Whether the last transaction succeeded.
    pub fn is_healthy(&self) -> bool {
        *self.healthy.borrow()
    }
}

async fn commit_all(store: Arc<dyn Store>, mut changes: mpsc::Receiver<Waiting>, health: watch::Sender<bool>) {
    let mut batch = Vec::new();
    loop {
        if changes.recv_many(&mut batch, COMMIT_BATCH_MAX).await == 0 {
            return;
        }
        let (changes_of_all, waiting): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let outcome = store.commit(changes_of_all.into_iter().flatten().collect()).await;
        if let Err(error) = &outcome {
            tracing::error!(%error, "durable changes are refused until the store works again");
        }
        health.send_replace(outcome.is_ok());
        answer(waiting, &outcome);
        if let Err(error) = outcome {
            if refuse_until_it_works(&*store, &mut changes, error).await.is_none() {
                return;
            }
            tracing::info!("durable changes are accepted again");
            health.send_replace(true);
        }
    }
}

/// Refuses all changes until the store takes an empty transaction. None if there is nobody left to refuse.
///
/// Nothing else is tried meanwhile: each attempt could be one more change that the store made and did not confirm.
async fn refuse_until_it_works(
    store: &dyn Store,
    changes: &mut mpsc::Receiver<Waiting>,
    mut error: StoreError,
) -> Option<()> {
    let mut refused = Vec::new();
    loop {
        let probe = tokio::time::sleep(Duration::from_millis(COMMIT_PROBE_MS));
        tokio::pin!(probe);
        loop {
            tokio::select! {
                () = &mut probe => break,
                taken = changes.recv_many(&mut refused, COMMIT_BATCH_MAX) => {
                    if taken == 0 {
                        return None;
                    }
                    let waiting = refused.drain(..).map(|(_, done)| done);
                    answer(waiting, &Err(refusal(&error)));
                }
            }
        }
        match store.commit(Vec::new()).await {
            Ok(()) => return Some(()),
            Err(still) => error = still,
        }
    }
}

/// What those are answered who come while the store does not work: theirs is not of unknown outcome.
fn refusal(error: &StoreError) -> StoreError {
    match error {
        StoreError::UnknownOutcome(reason) => StoreError::Unavailable(reason.clone()),
        error => error.clone(),
    }
}

fn answer(
    waiting: impl IntoIterator<Item = oneshot::Sender<Result<(), StoreError>>>,
    outcome: &Result<(), StoreError>,
) {
    for done in waiting {
        // A requester that has gone away needs no answer; the change stands.
        let _ = done.send(outcome.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    };

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::{
        fleet::{ActiveTime, AgentId},
        store::{Chunk, Discard, HeartbeatBatch, Loaded, LoadedThreats, StoreReader},
        threats::{Threat, ThreatEntry, ThreatKey},
    };

    /// Takes changes, or leaves them of unknown outcome.
    #[derive(Debug, Default)]
    struct Moody {
        silent: AtomicBool,
        tried: Mutex<Vec<Change>>,
    }

    impl Store for Moody {
        fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>> {
            self.tried.lock().unwrap().extend(changes);
            let silent = self.silent.load(Relaxed);
            Box::pin(async move { if silent { Err(StoreError::UnknownOutcome("no answer".into())) } else { Ok(()) } })
        }

        fn discard(&self, _: Vec<Discard>) -> BoxFuture<'_, Result<(), StoreError>> {
            unreachable!("nothing is discarded here")
        }

        fn save<'a>(&'a self, _: &'a HeartbeatBatch) -> BoxFuture<'a, Result<(), StoreError>> {
            unreachable!("nothing is saved here")
        }
    }

    impl StoreReader for Moody {
        fn clock(&self) -> BoxFuture<'_, Result<Option<ActiveTime>, StoreError>> {
            unreachable!("nobody asks for the time")
        }

        fn load(&self, _: mpsc::Sender<Chunk>) -> BoxFuture<'_, Result<Loaded, StoreError>> {
            unreachable!("nothing is loaded")
        }

        fn load_threats(&self, _: mpsc::Sender<Vec<ThreatEntry>>) -> BoxFuture<'_, Result<LoadedThreats, StoreError>> {
            unreachable!("nothing is loaded")
        }

        fn threats(&self, _: Vec<ThreatKey>) -> BoxFuture<'_, Result<Vec<Option<Threat>>, StoreError>> {
            unreachable!("nothing is read")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_change_with_an_unknown_outcome_nothing_is_tried_until_the_store_works_again() {
        let store = Arc::new(Moody::default());
        let committer = Committer::start(store.clone());
        let change = |id| Change::Deregister(AgentId::new(id));
        committer.commit(change(1)).await.unwrap();
        store.silent.store(true, Relaxed);
        assert!(matches!(committer.commit(change(2)).await, Err(StoreError::UnknownOutcome(_))));
        assert!(!committer.is_healthy());
        assert!(matches!(committer.commit(change(3)).await, Err(StoreError::Unavailable(_))));
        store.silent.store(false, Relaxed);
        tokio::time::sleep(Duration::from_millis(COMMIT_PROBE_MS * 3 / 2)).await;
        assert!(committer.is_healthy());
        committer.commit(change(4)).await.unwrap();
        assert_eq!(*store.tried.lock().unwrap(), [change(1), change(2), change(4)]);
    }
}
