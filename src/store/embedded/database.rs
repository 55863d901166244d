//! A fjall database that is opened again after a write has failed.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions};

use crate::store::StoreError;

/// The caches stay small: after the start nothing is read.
const CACHE_BYTES: u64 = 8 << 20;
const MEMTABLE_BYTES: u64 = 16 << 20;
/// The least that fjall takes.
const JOURNAL_BYTES: u64 = 64 << 20;

/// An open database with a keyspace for data and one for facts about it. Clones share it.
#[derive(Clone)]
pub(super) struct Tables {
    pub(super) database: Database,
    pub(super) data: Keyspace,
    pub(super) meta: Keyspace,
}

impl Tables {
    /// Another keyspace of the database, made if it is not there.
    pub(super) fn keyspace(&self, name: &str) -> fjall::Result<Keyspace> {
        self.database.keyspace(name, options)
    }
}

/// A database in a folder.
///
/// After a failed write (a full disk) fjall takes no more of them until the database has been opened anew; that is done
/// at the next attempt, so that a disk that has room again needs no restart.
pub(super) struct Reopening {
    path: PathBuf,
    data: &'static str,
    tables: RwLock<Option<Tables>>,
}

impl std::fmt::Debug for Reopening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reopening").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Reopening {
    /// Opens the database in `path`, and creates it if there is none; its data is in the keyspace `data`.
    pub(super) fn open(path: &Path, data: &'static str) -> Result<Self, StoreError> {
        let tables = open(path, data).map_err(|error| cannot_open(path, &error))?;
        Ok(Self { path: path.into(), data, tables: RwLock::new(Some(tables)) })
    }

    /// The open database, which may have to be opened again.
    pub(super) fn tables(&self) -> Result<Tables, StoreError> {
        if let Some(tables) = &*self.tables.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(tables.clone());
        }
        let mut slot = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(tables) = &*slot {
            return Ok(tables.clone());
        }
        let tables = open(&self.path, self.data).map_err(|error| cannot_open(&self.path, &error))?;
        tracing::info!(path = %self.path.display(), "the embedded store has been opened again after a failed write");
        Ok(slot.insert(tables).clone())
    }

    /// Notes that a write failed, and says so. `tables` must be given up: a database is locked while anybody holds it.
    pub(super) fn failed(&self, tables: Tables, error: &fjall::Error) -> Arc<str> {
        drop(tables);
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = None;
        let path = self.path.display();
        format!("writing to {path} failed ({error}); is the disk full?").into()
    }
}

fn open(path: &Path, data: &str) -> fjall::Result<Tables> {
    let database =
        Database::builder(path).cache_size(CACHE_BYTES).max_journaling_size(JOURNAL_BYTES).worker_threads(1).open()?;
    let data = database.keyspace(data, options)?;
    let meta = database.keyspace("meta", options)?;
    Ok(Tables { database, data, meta })
}

fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES)
}

fn cannot_open(path: &Path, error: &fjall::Error) -> StoreError {
    let path = path.display();
    match error {
        fjall::Error::Locked => StoreError::Locked(
            format!("{path} is in use by another process; stop that one, or choose another folder").into(),
        ),
        // A file that is there and cannot be read may be readable again tomorrow; what is in it is not lost.
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) if !is_damage(error) => {
            StoreError::unavailable(format_args!("{path} cannot be opened: {error}"))
        }
        error => StoreError::Damaged(format!("{path} is damaged: {error}").into()),
    }
}

/// Whether the error says that a file was read and does not hold what it should.
fn is_damage(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    matches!(error.kind(), InvalidData | UnexpectedEof | NotFound)
}
