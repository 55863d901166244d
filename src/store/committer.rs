//! Group commit: concurrent durable changes share one transaction.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot, watch};

use super::{Change, Store, StoreError};
use crate::limits::{COMMIT_BATCH_MAX, COMMIT_QUEUE_MAX};

type Waiting = (Change, oneshot::Sender<Result<(), StoreError>>);

/// Hands durable changes to the store's one committing task. Clones share it.
///
/// While one transaction is being written the changes of all other requests gather; the next transaction takes them
/// together. So the cost of an fsync (or a round trip) is shared by as many requests as came in its time, and a lone
/// request waits for nothing but its own.
#[derive(Clone, Debug)]
pub struct Committer {
    queue: mpsc::Sender<Waiting>,
    healthy: watch::Receiver<bool>,
}

/// After a failed transaction an empty one is tried at this interval, until one succeeds.
const PROBE: Duration = Duration::from_secs(1);

impl Committer {
    /// Starts the committing task on the current runtime. It ends when the last clone is gone.
    pub fn start(store: Arc<dyn Store>) -> Self {
        let (queue, changes) = mpsc::channel(COMMIT_QUEUE_MAX);
        let (health, healthy) = watch::channel(true);
        tokio::spawn(commit_all(store, changes, health));
        Self { queue, healthy }
    }

    /// Makes the change durable. When this fails with [`StoreError::Overloaded`] nothing was attempted.
    pub async fn commit(&self, change: Change) -> Result<(), StoreError> {
        let (done, outcome) = oneshot::channel();
        self.queue.try_send((change, done)).map_err(|_| StoreError::Overloaded)?;
        outcome.await.unwrap_or_else(|_| Err(StoreError::unavailable("the store has been closed")))
    }

    /// Whether the last transaction succeeded.
    pub fn is_healthy(&self) -> bool {
        *self.healthy.borrow()
    }
}

async fn commit_all(store: Arc<dyn Store>, mut changes: mpsc::Receiver<Waiting>, health: watch::Sender<bool>) {
    let mut batch = Vec::new();
    loop {
        let next = changes.recv_many(&mut batch, COMMIT_BATCH_MAX);
        let taken = if *health.borrow() {
            next.await
        } else {
            match tokio::time::timeout(PROBE, next).await {
                Ok(taken) => taken,
                Err(_) => {
                    let works = store.commit(Vec::new()).await.is_ok();
                    health.send_replace(works);
                    continue;
                }
            }
        };
        if taken == 0 {
            return;
        }
        let (changes, waiting): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let outcome = store.commit(changes).await;
        if let Err(error) = &outcome {
            tracing::error!(%error, changes = waiting.len(), "durable changes were refused");
        }
        health.send_replace(outcome.is_ok());
        for done in waiting {
            // A requester that has gone away needs no answer; the change stands.
            let _ = done.send(outcome.clone());
        }
    }
}
