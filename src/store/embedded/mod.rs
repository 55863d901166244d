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
//! | `heartbeats` | `meta` | `clock` | hearing time in µs, decimal |
//!
//! Beside the two is the file `ledger`. Registrations are committed with an fsync, and a second one of that file. A flush of heartbeats is one record, written without one: it survives the
//! end of the process however that comes, and a power cut takes at most what the system had not written out yet. The
//! two are apart so that they do not wait for each other, and so that a heartbeat log torn by a power cut can be set
//! aside without touching a registration.

mod changing;
mod database;
mod files;
mod heartbeat_log;
mod home;
#[cfg(test)]
mod injuries;
mod journal;
mod latest;
mod ledger;
mod loading;
mod look;
mod registry;
mod salvage;
mod threats;

use std::{path::Path, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::mpsc;

pub use self::look::EmbeddedReader;
use self::{heartbeat_log::HeartbeatLog, home::Home, registry::Registry};
use super::{Change, Chunk, Discard, HeartbeatBatch, Loaded, LoadedThreats, Store, StoreError, StoreReader, Sweep};
use crate::{
    fleet::Heard,
    private_file,
    threats::{Threat, ThreatEntry, ThreatKey},
};

/// A fleet in a folder.
#[derive(Debug)]
pub struct EmbeddedStore {
    registry: Arc<Registry>,
    heartbeats: Arc<HeartbeatLog>,
    home: Arc<Home>,
}

impl EmbeddedStore {
    /// Opens the store in the folder `path`, and creates what is missing. One that is damaged is refused, or, with
    /// `accept_loss`, opened with what is left of it.
    pub fn open(path: &Path, accept_loss: bool) -> Result<Self, StoreError> {
        private_file::create_folder(path)
            .map_err(|error| StoreError::unavailable(format_args!("{} cannot be created: {error}", path.display())))?;
        // Each reads its journals; there is no need for one to wait for the other.
        let (registry, heartbeats) = std::thread::scope(|scope| {
            let heartbeats = scope.spawn(|| HeartbeatLog::open(&path.join("heartbeats")));
            let registry = Registry::open(&path.join("agents"), accept_loss);
            (registry, heartbeats.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let (registry, heartbeats) = (registry?, heartbeats?);
        let home = Home::of(path).map_err(StoreError::unavailable)?;
        Ok(Self { registry: Arc::new(registry), heartbeats: Arc::new(heartbeats), home: Arc::new(home) })
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

    fn clock(&self) -> BoxFuture<'_, Result<Option<Heard>, StoreError>> {
        blocking(&self.heartbeats, HeartbeatLog::clock)
    }

    fn load(&self, out: mpsc::Sender<Chunk>) -> BoxFuture<'_, Result<Loaded, StoreError>> {
        loading::load(&self.registry, &self.heartbeats, out).boxed()
    }

    fn load_threats(&self, out: mpsc::Sender<Vec<ThreatEntry>>) -> BoxFuture<'_, Result<LoadedThreats, StoreError>> {
        blocking(&self.registry, move |registry| threats::load(registry, &out))
    }

    fn threats(&self, keys: Vec<ThreatKey>) -> BoxFuture<'_, Result<Vec<Option<Threat>>, StoreError>> {
        blocking(&self.registry, move |registry| threats::read(registry, keys))
    }
}

impl Store for EmbeddedStore {
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>> {
        let home = self.home.clone();
        blocking(&self.registry, move |registry| {
            home.must_be_there()?;
            registry.commit(&changes)?;
            // It may have gone in between.
            home.must_be_there().map_err(|error| StoreError::InDoubt(error.to_string().into()))
        })
    }

    fn discard(&self, discards: Vec<Discard>) -> BoxFuture<'_, Result<(), StoreError>> {
        blocking(&self.registry, move |registry| threats::discard(registry, &discards))
    }

    fn save<'a>(&'a self, batch: &'a HeartbeatBatch) -> BoxFuture<'a, Result<(), StoreError>> {
        let (flush, clock) = (heartbeat_log::encode(&batch.heartbeats), batch.clock);
        let home = self.home.clone();
        blocking(&self.heartbeats, move |log| {
            home.must_be_there()?;
            log.append(flush, clock)
        })
    }

    fn is_reachable(&self) -> bool {
        self.home.must_be_there().is_ok()
    }

    fn wants_sweep(&self, shard: usize, shards: usize) -> Option<Sweep> {
        self.heartbeats.wants_sweep(shard, shards)
    }

    fn swept(&self, shard: usize, _: Sweep) -> BoxFuture<'_, Result<(), StoreError>> {
        blocking(&self.heartbeats, move |log| log.swept(shard))
    }
}

/// The number that a key is. Keys of another length are not ours, and read as zero.
fn number(key: &[u8]) -> u64 {
    key.try_into().map_or(0, u64::from_be_bytes)
}
