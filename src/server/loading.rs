//! What a start brings back from the store: the fleet, which is waited for, and the threats, which may take their time.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    task::{JoinError, JoinHandle},
};

use super::{Running, error::ServeError};
use crate::{
    api::lifecycle::Phase,
    engine::{EngineError, EngineHandle},
    limits::{LOAD_CHUNKS_AHEAD, START_THREATS_WAIT_MS, THREATS_LOAD_RETRY_MS, WORKERS_START_MS},
    process::{
        output,
        supervision::{Task, restarted},
    },
    store::{Chunk, Loaded, LoadedThreats, Store, StoreError},
};

impl Running {
    /// Brings the fleet back from the store and goes into service. What it answers keeps the threats loaded, and ends if they
    /// are damaged.
    pub(super) async fn load_fleet(&self) -> Result<JoinHandle<StoreError>, ServeError> {
        let began = self.engine.clock().monotonic();
        // A worker that panics at its start is reported nowhere else.
        let attached = tokio::time::timeout(Duration::from_millis(WORKERS_START_MS), self.engine.attached());
        attached.await.map_err(|_| ServeError::WorkersMissing)?;
        let loaded = load(&self.engine, &*self.engine.durability().store).await?;
        // After the fleet, which is not to share the processors with them.
        let engine = self.engine.clone();
        let mut threats = actix_rt::spawn(restarted(Task::ThreatLoader, move || keep_threats_loaded(engine.clone())));
        tokio::select! {
            damage = &mut threats => return Err(damaged(damage)),
            () = await_threats(&self.engine) => {}
        }
        let took_ms = (self.engine.clock().monotonic() - began).as_millis() as u64;
        tracing::info!(agents = loaded.agents, took_ms, "the fleet is loaded");
        if loaded.corrupt > 0 {
            self.engine.metrics().corrupt_records.increment(loaded.corrupt);
            tracing::error!(records = loaded.corrupt, "some records of the store could not be read and were left out");
        }
        if loaded.agents > 0 && self.tls.as_ref().is_some_and(|tls| tls.ca_is_new) {
            tracing::warn!(
                agents = loaded.agents,
                "there was no certificate authority in the data folder, and a new one was made: the agents of this fleet \
                 refuse the server until they trust the new tls/ca.pem, or until the old tls/ca.pem and tls/ca-key.pem are \
                 back"
            );
        }
        self.lifecycle.enter(Phase::Serving);
        let banner = self.banner(loaded);
        output::announce(&banner, || banner.json(self.engine.clock().wall()));
        Ok(threats)
    }
}

/// Why the server ends when the history of threats can never be loaded.
pub(super) fn damaged(outcome: Result<StoreError, JoinError>) -> ServeError {
    outcome.unwrap_or_else(StoreError::unavailable).into()
}

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
