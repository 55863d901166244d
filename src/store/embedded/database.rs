//! A fjall database that is opened again after a write has failed.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use lsm_tree::AbstractTree;
use parking_lot::RwLock;
use xxhash_rust::xxh3::xxh3_128;

use super::files::{Damage, Unfit, prepare};
use crate::{
    limits::{STORE_CACHE_BYTES, STORE_FILES_MAX, STORE_JOURNAL_BYTES, STORE_MEMTABLE_BYTES},
    store::StoreError,
};

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

    /// Makes sure that every table of these keyspaces is as it was written. fjall looks at a part of a table when it needs it,
    /// and at some, like filters, when the start is long over.
    pub(super) fn must_be_whole(&self, keyspaces: &[&str]) -> Result<(), StoreError> {
        for keyspace in keyspaces.iter().filter(|name| self.database.keyspace_exists(name)) {
            let keyspace = self.keyspace(keyspace).map_err(StoreError::unavailable)?;
            for table in keyspace.tree.current_version().iter_tables() {
                let bytes = std::fs::read(&*table.path).map_err(StoreError::unavailable)?;
                if xxh3_128(&bytes) != table.checksum().into_u128() {
                    return Err(Damage::new(&*table.path, "does not match its checksum").into());
                }
            }
        }
        Ok(())
    }
}

/// A database in a folder.
///
/// After a failed write (a full disk) fjall takes no more of them until the database has been opened anew; that is done
/// at the next attempt, so that a disk that has room again needs no restart.
pub(super) struct Reopening {
    path: PathBuf,
    data: &'static str,
    /// The latest ledger that it must have, see [`prepare`].
    least: AtomicU64,
    tables: RwLock<Option<Tables>>,
}

impl std::fmt::Debug for Reopening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reopening").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Reopening {
    /// Opens the database in `path`, and creates it if there is none; its data is in the keyspace `data`. It must have the
    /// ledger numbered `least`, unless that is 0.
    pub(super) fn open(path: &Path, data: &'static str, least: u64) -> Result<Self, Unfit> {
        let tables = open(path, data, least)?;
        Ok(Self { path: path.into(), data, least: AtomicU64::new(least), tables: RwLock::new(Some(tables)) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// From now on it must have this ledger.
    pub(super) fn must_have(&self, ledger: u64) {
        self.least.store(ledger, Relaxed);
    }

    /// The open database, which may have to be opened again.
    pub(super) fn tables(&self) -> Result<Tables, StoreError> {
        if let Some(tables) = &*self.tables.read() {
            return Ok(tables.clone());
        }
        let mut slot = self.tables.write();
        if let Some(tables) = &*slot {
            return Ok(tables.clone());
        }
        let tables =
            open(&self.path, self.data, self.least.load(Relaxed)).map_err(|unfit| refusal(&self.path, unfit))?;
        tracing::info!(path = %self.path.display(), "the embedded store has been opened again after a failed write");
        Ok(slot.insert(tables).clone())
    }

    /// Does something with the files while the database is closed; it is opened again when it is needed.
    pub(super) fn closed<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut slot = self.tables.write();
        *slot = None;
        work()
    }

    /// Records that a write failed, and logs it. `tables` must be given up: a database is locked while anybody holds it.
    pub(super) fn failed(&self, tables: Tables, error: &fjall::Error) -> Arc<str> {
        drop(tables);
        *self.tables.write() = None;
        let path = self.path.display();
        format!("writing to {path} failed ({}); is the disk full?", plain(error)).into()
    }
}

fn open(path: &Path, data: &str, least: u64) -> Result<Tables, Unfit> {
    prepare(path, least)?;
    // What fjall does not expect in a file may make it panic.
    let opened = catch_unwind(AssertUnwindSafe(|| open_prepared(path, data)));
    let opened = opened.unwrap_or(Err(fjall::Error::Unrecoverable));
    opened.map_err(|error| match error {
        fjall::Error::Locked => Unfit::Locked,
        // A file that is there and cannot be read may be readable again tomorrow; what is in it is not lost.
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) if !is_damage(&error) => {
            Unfit::Io(error)
        }
        error => Damage::new(path.join("keyspaces"), format!("cannot be read: {}", plain(&error))).into(),
    })
}

fn open_prepared(path: &Path, data: &str) -> fjall::Result<Tables> {
    let database = Database::builder(path)
        .cache_size(STORE_CACHE_BYTES)
        .max_cached_files(Some(STORE_FILES_MAX))
        .max_journaling_size(STORE_JOURNAL_BYTES)
        .worker_threads(1)
        .open()?;
    let data = database.keyspace(data, options)?;
    let meta = database.keyspace("meta", options)?;
    Ok(Tables { database, data, meta })
}

fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(STORE_MEMTABLE_BYTES)
}

/// Why the database in `path` is not opened.
pub(super) fn refusal(path: &Path, unfit: Unfit) -> StoreError {
    let path = path.display();
    match unfit {
        Unfit::Locked => StoreError::Locked(
            format!("{path} is in use by another process; stop that one, or choose another folder").into(),
        ),
        Unfit::Io(error) => StoreError::unavailable(format_args!("{path} cannot be opened: {error}")),
        Unfit::Damaged(damage) => damage.into(),
    }
}

impl From<Damage> for StoreError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage.to_string().into())
    }
}

/// The error with what can be done about it, if that is damage.
pub(super) fn with_remedy(error: StoreError, accept_loss: bool) -> StoreError {
    let remedy = match accept_loss {
        false => {
            "Restore the data folder from a backup; `guardbeat store check` says what is left; or start with \
             store.accept_loss = true (GUARDBEAT_STORE__ACCEPT_LOSS=true) to go on without what is missing"
        }
        true => {
            "Start the server again, and it goes on with what can be read; or restore the data folder from a backup"
        }
    };
    match error {
        StoreError::Damaged(what) => StoreError::Damaged(format!("{what}; the store is damaged. {remedy}").into()),
        StoreError::Unavailable(_)
        | StoreError::UnknownOutcome(_)
        | StoreError::Locked(_)
        | StoreError::Overloaded
        | StoreError::Format(_) => error,
    }
}

/// What a read from an open database failed with.
pub(super) fn read_failed(path: &Path, error: &fjall::Error) -> StoreError {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) if !is_damage(error) => {
            StoreError::unavailable(format_args!("{} cannot be read: {error}", path.display()))
        }
        error => Damage::new(path.join("keyspaces"), format!("cannot be read: {}", plain(error))).into(),
    }
}

/// What fjall means, without its `Debug` words.
pub(super) fn plain(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => error.to_string(),
        fjall::Error::Storage(fjall::LsmError::ChecksumMismatch { .. }) => "a table does not match its checksum".into(),
        fjall::Error::Storage(_) => "a table, or the list of tables, is not what it should be".into(),
        fjall::Error::JournalRecovery(_) | fjall::Error::InvalidTrailer | fjall::Error::InvalidTag(_) => {
            "a journal does not match its checksum".into()
        }
        fjall::Error::InvalidVersion(_) => "the file version is not one that this program reads".into(),
        fjall::Error::Poisoned => "an earlier write has failed".into(),
        _ => "its files do not belong together".into(),
    }
}

/// Whether the error means that a file was read and does not hold what it should.
fn is_damage(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{AlreadyExists, InvalidData, InvalidInput, NotFound, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof | NotFound | AlreadyExists)
}
