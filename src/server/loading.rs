//! What a start brings back from the store: the fleet, which is waited for, and the threats, which may take their time.

use std::time::Duration;

use tokio::sync::mpsc;

use super::error::ServeError;
use crate::{
    engine::{EngineError, EngineHandle},
    limits::{LOAD_CHUNKS_AHEAD, START_THREATS_WAIT_MS, THREATS_LOAD_RETRY_MS},
    store::{Chunk, Loaded, LoadedThreats, Store, StoreError},
};

/// Loads the fleet from the store and starts its actors.
pub(crate) async fn load(engine: &EngineHandle, store: &dyn Store) -> Result<Loaded, ServeError> {
    let (out, chunks) = mpsc::channel::<Chunk>(LOAD_CHUNKS_AHEAD);
    let (loaded, restored) = tokio::join!(store.load(out), engine.restore(chunks));
    restored?;
    let loaded = loaded?;
    engine.durability().policies.gave_out(loaded.policy_version);
    engine.begin(loaded.agents).await?;
    Ok(loaded)
}

/// Loads the threats, again and again if that fails, and whenever the store has lost some. Ends if it finds that the store
/// is damaged.
pub(crate) async fn keep_threats_loaded(engine: EngineHandle) -> StoreError {
    let pause = Duration::from_millis(THREATS_LOAD_RETRY_MS);
    loop {
        let losses = engine.durability().store.losses();
        let began = engine.clock().monotonic();
        match engine.load_threats().await {
            Ok(LoadedThreats { threats, corrupt, .. }) => {
                let took_ms = (engine.clock().monotonic() - began).as_millis() as u64;
                tracing::info!(threats, took_ms, "the threat history is loaded");
                engine.metrics().corrupt_records.increment(corrupt);
                while engine.durability().store.losses() == losses {
                    tokio::time::sleep(pause).await;
                }
                tracing::warn!("the store has lost data: the threat history is loaded anew");
            }
            Err(EngineError::Store(error @ StoreError::Damaged(_))) => return error,
            Err(error) => {
                tracing::error!(%error, "the threat history cannot be loaded; it is tried again");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Waits for the threat history, but not for long: a fleet is not left alone for the sake of a long one.
pub(crate) async fn await_threats(engine: &EngineHandle) {
    if tokio::time::timeout(Duration::from_millis(START_THREATS_WAIT_MS), engine.threats_loaded()).await.is_err() {
        tracing::info!("the threat history is long and is loaded in the background");
    }
}
