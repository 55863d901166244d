//! The end of a server: nothing new is taken, what is under way is finished, and everything is written down.

use std::time::Duration;

use super::{Running, error::ServeError};
use crate::{
    api::lifecycle::Phase,
    limits::{LAST_WRITE_MIN_MS, LAST_WRITE_RETRY_MS, STORE_CLOSE_MAX_MS},
    store::StoreError,
};

impl Running {
    /// Ends: takes nothing new, finishes what is under way, writes everything down.
    pub(super) async fn drain(self) -> Result<(), ServeError> {
        let grace = Duration::from_millis(self.config.server.shutdown_grace_ms);
        let deadline = self.engine.clock().monotonic() + grace;
        tracing::info!(grace_ms = grace.as_millis() as u64, "shutting down");
        self.lifecycle.enter(Phase::Draining);
        self.events.close();
        self.api.pause().await;
        if tokio::time::timeout_at(deadline, self.lifecycle.idle()).await.is_err() {
            tracing::warn!(
                requests = self.lifecycle.in_flight(),
                "the grace period is over; leaving requests unanswered"
            );
        }
        // At least a moment for the last write, even if the requests took all the time there was.
        let last = deadline.max(self.engine.clock().monotonic() + Duration::from_millis(LAST_WRITE_MIN_MS));
        let pause = Duration::from_millis(LAST_WRITE_RETRY_MS);
        // Before all shards run there is nothing to write.
        let write = async {
            while self.engine.is_attached()
                && let Err(error) = self.engine.drain().await
            {
                // The store may be back within the time that is left.
                if self.engine.clock().monotonic() + pause >= last {
                    return Err(error);
                }
                tokio::time::sleep(pause).await;
            }
            Ok(())
        };
        let flushed = match tokio::time::timeout_at(last, write).await {
            Ok(outcome) => outcome.map_err(ServeError::from),
            Err(_) => {
                Err(StoreError::unavailable("the last heartbeats could not be written within the grace period").into())
            }
        };
        // What it gives back runs out by itself.
        let _ = tokio::time::timeout(Duration::from_millis(STORE_CLOSE_MAX_MS), self.engine.durability().store.close())
            .await;
        self.front.stop();
        // Gracefully: an answer may still be on its way into its socket.
        self.api.stop(true).await;
        self.operations.stop(false).await;
        if flushed.is_ok() {
            tracing::info!("everything is written; bye");
        }
        flushed
    }
}
