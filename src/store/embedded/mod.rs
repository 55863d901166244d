//! The embedded store: two fjall databases in one folder. Why fjall, and why a log: `docs/decisions/0001`.
//!
//! | folder | keyspace | key | value |
//! | --- | --- | --- | --- |
//! | `agents` | `agents` | agent id, 8 bytes big-endian | the registration, see [`super::record`] |
//! | `agents` | `meta` | `format` | version of this layout, decimal |
//! | `agents` | `threats`, `threat_bodies` | tenant and id, see [`threats`] | see [`super::threat_record`] |
//! | `agents` | `meta` | `threat` | the latest id of a threat, decimal |
//! | `agents` | `meta` | `policies:` and the scope: `*`, or `o:` and the tenant | its policies, see [`super::policy_record`] |
//! | `agents` | `meta` | `policy` | the newest version of a policy that was ever given out, decimal |
//! | `agents` | `meta` | `ledger` | what the database should hold, see [`ledger`] |
//! | `agents` | `meta` | `probe` | zeros, written to find out whether the disk takes them |
//! | `heartbeats` | `flushes` | number of the flush, 8 bytes big-endian | its heartbeats: for each the id (8 bytes), the length (2 bytes), the record |
//! | `heartbeats` | `meta` | `clock` | active time in µs, decimal |
//! | `heartbeats` | `meta` | `swept` | number of the first flush that sweeps have left, decimal |
//!
//! Beside the two are the files `ledger` and `heartbeats.mark` (the number that the next flush has), and beside the folder
//! the file [`marker`]. Registrations are committed with an fsync, and a second one of the ledger. A flush of heartbeats is
//! one record, written without one: it survives the end of the process however that comes, and a power cut takes at most
//! what the system had not written out yet. The
//! two are apart so that they do not wait for each other, and so that a heartbeat log torn by a power cut can be set
//! aside without touching a registration.

mod changing;
mod database;
mod files;
mod findings;
mod heartbeat_log;
mod home;
#[cfg(test)]
mod injuries;
mod journal;
mod latest;
mod ledger;
mod loading;
mod look;
mod marker;
mod registry;
mod rescue;
mod threats;

use std::{path::Path, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::mpsc;

use self::{database::with_remedy, findings::Findings, heartbeat_log::HeartbeatLog, home::Home, registry::Registry};
pub use self::{look::EmbeddedReader, marker::marker_of};
use super::{Change, Chunk, Discard, HeartbeatBatch, Loaded, LoadedThreats, Store, StoreError, StoreReader, Sweep};
use crate::{
    fleet::ActiveTime,
    process::private_file,
    threats::{Threat, ThreatEntry, ThreatKey},
};

/// A fleet in a folder.
#[derive(Debug)]
pub struct EmbeddedStore {
    registry: Arc<Registry>,
    heartbeats: Arc<HeartbeatLog>,
    home: Arc<Home>,
    findings: Arc<Findings>,
    accept_loss: bool,
}

impl EmbeddedStore {
    /// Opens the store in the folder `path`, and creates what is missing. One that is damaged is refused, or, with
    /// `accept_loss`, opened with what is left of it.
    pub fn open(path: &Path, accept_loss: bool) -> Result<Self, StoreError> {
        Self::open_as(path, path, accept_loss)
    }

    /// Opens the store in the folder `path`, which people know by another name.
    fn open_as(path: &Path, name: &Path, accept_loss: bool) -> Result<Self, StoreError> {
        let findings = Arc::new(Findings::of(path, name));
        let store = Self::try_open(path, accept_loss, &findings);
        store.map_err(|error| named(with_remedy(error, accept_loss), &findings))
    }

    fn try_open(path: &Path, accept_loss: bool, findings: &Arc<Findings>) -> Result<Self, StoreError> {
        private_file::create_folder(path)
            .map_err(|error| StoreError::unavailable(format_args!("{} cannot be created: {error}", path.display())))?;
        // Each reads its journals; there is no need for one to wait for the other.
        let (registry, heartbeats) = std::thread::scope(|scope| {
            let heartbeats = scope.spawn(|| HeartbeatLog::open(&path.join("heartbeats"), findings));
            let registry = Registry::open(&path.join("agents"), accept_loss, findings);
            (registry, heartbeats.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let (registry, heartbeats) = (Arc::new(registry?), Arc::new(heartbeats?));
        let home = Arc::new(Home::of(path).map_err(StoreError::unavailable)?);
        Ok(Self { registry, heartbeats, home, findings: findings.clone(), accept_loss })
    }

    /// The outcome in terms of what people know and can do.
    fn explained<'a, T: 'a>(
        &'a self,
        outcome: BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        let explain = |error| named(with_remedy(error, self.accept_loss), &self.findings);
        async move { outcome.await.map_err(explain) }.boxed()
    }
}

/// The error, with the names of files that people know.
fn named(error: StoreError, findings: &Findings) -> StoreError {
    let named = |text: Arc<str>| findings.named(&text).into();
    match error {
        StoreError::Unavailable(text) => StoreError::Unavailable(named(text)),
        StoreError::UnknownOutcome(text) => StoreError::UnknownOutcome(named(text)),
        StoreError::Damaged(text) => StoreError::Damaged(named(text)),
        StoreError::Locked(text) => StoreError::Locked(named(text)),
        StoreError::Overloaded => StoreError::Overloaded,
        StoreError::Format(text) => StoreError::Format(named(text)),
    }
}

/// Runs `work` where it may block.
fn blocking<S, T>(
    part: &Arc<S>,
    work: impl FnOnce(&S) -> Result<T, StoreError> + Send + 'static,
) -> BoxFuture<'static, Result<T, StoreError>>
where
    S: Send + Sync + 'static,
    T: Send + 'static,
{
    let part = part.clone();
    async move {
        let done = tokio::task::spawn_blocking(move || work(&part)).await;
        done.unwrap_or_else(|panic| Err(StoreError::unavailable(panic)))
    }
    .boxed()
}

impl StoreReader for EmbeddedStore {
    fn format(&self) -> &'static str {
        registry::FORMAT
    }

    fn clock(&self) -> BoxFuture<'_, Result<Option<ActiveTime>, StoreError>> {
        self.explained(blocking(&self.heartbeats, HeartbeatLog::clock))
    }

    fn load(&self, out: mpsc::Sender<Chunk>) -> BoxFuture<'_, Result<Loaded, StoreError>> {
        self.explained(loading::load(&self.registry, &self.heartbeats, out).boxed())
    }

    fn load_threats(&self, out: mpsc::Sender<Vec<ThreatEntry>>) -> BoxFuture<'_, Result<LoadedThreats, StoreError>> {
        self.explained(blocking(&self.registry, move |registry| threats::load(registry, &out)))
    }

    fn threats(&self, keys: Vec<ThreatKey>) -> BoxFuture<'_, Result<Vec<Option<Threat>>, StoreError>> {
        self.explained(blocking(&self.registry, move |registry| threats::read(registry, keys)))
    }

    fn damage(&self) -> Vec<String> {
        self.findings.all()
    }
}

impl Store for EmbeddedStore {
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>> {
        let home = self.home.clone();
        self.explained(blocking(&self.registry, move |registry| {
            home.must_be_there()?;
            registry.commit(&changes)?;
            // It may have gone in between.
            home.must_be_there().map_err(|error| StoreError::UnknownOutcome(error.to_string().into()))
        }))
    }

    fn discard(&self, discards: Vec<Discard>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.explained(blocking(&self.registry, move |registry| threats::discard(registry, &discards)))
    }

    fn save<'a>(&'a self, batch: &'a HeartbeatBatch) -> BoxFuture<'a, Result<(), StoreError>> {
        let (flush, clock) = (heartbeat_log::encode(&batch.heartbeats), batch.clock);
        let home = self.home.clone();
        self.explained(blocking(&self.heartbeats, move |log| {
            home.must_be_there()?;
            log.append(flush, clock)
        }))
    }

    fn is_reachable(&self) -> bool {
        self.home.must_be_there().is_ok()
    }

    fn wants_sweep(&self, shard: usize, shards: usize) -> Option<Sweep> {
        self.heartbeats.wants_sweep(shard, shards)
    }

    fn swept(&self, shard: usize, _: Sweep) -> BoxFuture<'_, Result<(), StoreError>> {
        self.explained(blocking(&self.heartbeats, move |log| log.swept(shard)))
    }
}

/// The number that a key is. Keys of another length are not ours, and read as zero.
fn number(key: &[u8]) -> u64 {
    key.try_into().map_or(0, u64::from_be_bytes)
}
