//! Looking into an embedded store without changing it: fjall cannot open a database without writing to it, so a copy is
//! opened. What is large, the tables, is not copied but linked to.

use std::{fs::File, path::Path, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{
    EmbeddedStore,
    database::refusal,
    files::{copy, lock},
    ledger::LEDGER,
};
use crate::{
    fleet::Heard,
    store::{Chunk, Loaded, LoadedThreats, StoreError, StoreReader},
    threats::{Threat, ThreatEntry, ThreatKey},
};

/// An embedded store that is only looked at.
#[derive(Debug)]
pub struct EmbeddedReader {
    store: EmbeddedStore,
    original: Arc<Path>,
    copy: TempDir,
    _locks: Vec<File>,
}

impl EmbeddedReader {
    /// Opens a copy of the store in `path`, in the folder for temporary files; nobody else can open it meanwhile.
    pub fn open(path: &Path, accept_loss: bool) -> Result<Self, StoreError> {
        let failed = |error: std::io::Error| {
            StoreError::unavailable(format_args!(
                "{} cannot be copied to {} to be looked at: {error}",
                path.display(),
                std::env::temp_dir().display()
            ))
        };
        let mut locks = Vec::new();
        for database in ["agents", "heartbeats"].map(|name| path.join(name)) {
            locks.extend(lock(&database).map_err(|unfit| refusal(&database, unfit))?);
        }
        let folder = tempfile::Builder::new().prefix("guardbeat-").tempdir().map_err(failed)?;
        for database in ["agents", "heartbeats"] {
            if path.join(database).try_exists().map_err(failed)? {
                copy(&path.join(database), &folder.path().join(database)).map_err(failed)?;
            }
        }
        if path.join(LEDGER).try_exists().map_err(failed)? {
            std::fs::copy(path.join(LEDGER), folder.path().join(LEDGER)).map_err(failed)?;
        }
        let store = EmbeddedStore::open(folder.path(), accept_loss);
        let store = store.map_err(|error| in_terms_of(path, folder.path(), error))?;
        Ok(Self { store, original: path.into(), copy: folder, _locks: locks })
    }

    fn named<'a, T: 'a>(
        &'a self,
        outcome: BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        async move { outcome.await.map_err(|error| in_terms_of(&self.original, self.copy.path(), error)) }.boxed()
    }
}

/// The error, with the names of the files that were copied.
fn in_terms_of(original: &Path, copy: &Path, error: StoreError) -> StoreError {
    let named = |text: Arc<str>| text.replace(&*copy.to_string_lossy(), &original.to_string_lossy()).into();
    match error {
        StoreError::Unavailable(text) => StoreError::Unavailable(named(text)),
        StoreError::InDoubt(text) => StoreError::InDoubt(named(text)),
        StoreError::Damaged(text) => StoreError::Damaged(named(text)),
        StoreError::Locked(text) => StoreError::Locked(named(text)),
        StoreError::Overloaded => StoreError::Overloaded,
        StoreError::Format(text) => StoreError::Format(named(text)),
    }
}

impl StoreReader for EmbeddedReader {
    fn format(&self) -> &'static str {
        self.store.format()
    }

    fn clock(&self) -> BoxFuture<'_, Result<Option<Heard>, StoreError>> {
        self.named(self.store.clock())
    }

    fn load(&self, out: mpsc::Sender<Chunk>) -> BoxFuture<'_, Result<Loaded, StoreError>> {
        self.named(self.store.load(out))
    }

    fn load_threats(&self, out: mpsc::Sender<Vec<ThreatEntry>>) -> BoxFuture<'_, Result<LoadedThreats, StoreError>> {
        self.named(self.store.load_threats(out))
    }

    fn threats(&self, keys: Vec<ThreatKey>) -> BoxFuture<'_, Result<Vec<Option<Threat>>, StoreError>> {
        self.named(self.store.threats(keys))
    }
}
