//! Looking into an embedded store without changing it: fjall cannot open a database without writing to it, so a copy is
//! opened. What is large, the tables, is not copied but linked to.

use std::{
    fs::{self, File},
    path::Path,
};

use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{
    EmbeddedStore,
    database::refusal,
    files::{copy, lock},
    heartbeat_log::MARK,
    ledger::LEDGER,
    marker::marker_of,
};
use crate::{
    fleet::ActiveTime,
    process::private_file,
    store::{Chunk, Loaded, LoadedThreats, StoreError, StoreReader},
    threats::{Threat, ThreatEntry, ThreatKey},
};

/// An embedded store that is only looked at.
#[derive(Debug)]
pub struct EmbeddedReader {
    store: EmbeddedStore,
    _copy: TempDir,
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
        let store = folder.path().join("store");
        private_file::create_folder(&store).map_err(failed)?;
        for database in ["agents", "agents.rescued", "heartbeats", "heartbeats.rescued"] {
            if path.join(database).try_exists().map_err(failed)? {
                copy(&path.join(database), &store.join(database)).map_err(failed)?;
            }
        }
        let files = |folder: &Path| [Some(folder.join(LEDGER)), Some(folder.join(MARK)), marker_of(folder)];
        for (from, to) in files(path).into_iter().zip(files(&store)) {
            if let (Some(from), Some(to)) = (from, to)
                && from.try_exists().map_err(failed)?
            {
                fs::copy(from, to).map_err(failed)?;
            }
        }
        Ok(Self { store: EmbeddedStore::open_as(&store, path, accept_loss)?, _copy: folder, _locks: locks })
    }
}

impl StoreReader for EmbeddedReader {
    fn format(&self) -> &'static str {
        self.store.format()
    }

    fn damage(&self) -> Vec<String> {
        self.store.damage()
    }

    fn clock(&self) -> BoxFuture<'_, Result<Option<ActiveTime>, StoreError>> {
        self.store.clock()
    }

    fn load(&self, out: mpsc::Sender<Chunk>) -> BoxFuture<'_, Result<Loaded, StoreError>> {
        self.store.load(out)
    }

    fn load_threats(&self, out: mpsc::Sender<Vec<ThreatEntry>>) -> BoxFuture<'_, Result<LoadedThreats, StoreError>> {
        self.store.load_threats(out)
    }

    fn threats(&self, keys: Vec<ThreatKey>) -> BoxFuture<'_, Result<Vec<Option<Threat>>, StoreError>> {
        self.store.threats(keys)
    }
}
