//! Going on with what can still be read of a damaged database, if an operator says so.

use std::{
    collections::BTreeMap,
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{
    database::{REMEDY, refusal},
    files::{aside, copy, lock, make_readable},
    ledger::LEDGER,
};
use crate::store::StoreError;

/// Entries in a transaction.
const STEP: usize = 4_096;

/// Puts a database with whatever can be read in the place of the damaged one in `path`, which is kept beside it.
pub(super) fn salvage(path: &Path) -> Result<(), StoreError> {
    let (work, rescued) = (path.with_extension("salvage"), path.with_extension("rescued"));
    let failed = |error: io::Error| {
        StoreError::unavailable(format_args!("what is left in {} cannot be taken out of it: {error}", path.display()))
    };
    let remove = |folder: &Path| match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    };
    remove(&work)?;
    remove(&rescued)?;
    let exists = path.try_exists().map_err(failed)?;
    let _lock = if exists { lock(path).map_err(|unfit| refusal(path, unfit))? } else { None };
    if exists {
        copy(path, &work).map_err(failed)?;
    }
    make_readable(&work).map_err(failed)?;
    catch_unwind(AssertUnwindSafe(|| take_out(&work, &rescued))).unwrap_or(Err(fjall::Error::Unrecoverable)).map_err(
        |error| {
            tracing::debug!(%error, "fjall cannot open what is left");
            StoreError::Damaged(format!("nothing can be read of {} any more; {REMEDY}", path.display()).into())
        },
    )?;
    if exists {
        let kept = aside(&path.with_extension("damaged"));
        fs::rename(path, &kept).map_err(failed)?;
        tracing::warn!(kept = %kept.display(), "the damaged part of the store is kept");
    }
    fs::rename(&rescued, path).map_err(failed)?;
    remove(&work)
}

fn take_out(from: &Path, to: &Path) -> fjall::Result<()> {
    let (from, to) =
        (Database::builder(from).worker_threads(1).open()?, Database::builder(to).worker_threads(1).open()?);
    for name in from.list_keyspace_names() {
        let source = from.keyspace(&name, KeyspaceCreateOptions::default)?;
        let target = to.keyspace(&name, KeyspaceCreateOptions::default)?;
        take_entries(&source, &to, &target)?;
    }
    to.persist(PersistMode::SyncAll)
}

/// Copies the entries from both ends up to where they cannot be read.
fn take_entries(source: &Keyspace, to: &Database, target: &Keyspace) -> fjall::Result<()> {
    let mut pending: BTreeMap<fjall::Slice, fjall::Slice> = BTreeMap::new();
    let write = |pending: &mut BTreeMap<_, _>| {
        let mut batch = to.batch();
        for (key, value) in std::mem::take(pending) {
            batch.insert(target, key, value);
        }
        batch.commit()
    };
    let mut take = |entries: &mut dyn Iterator<Item = fjall::Guard>| {
        for entry in entries {
            let Ok((key, value)) = entry.into_inner() else { return Ok(false) };
            if *key != *LEDGER.as_bytes() {
                pending.insert(key, value);
            }
            if pending.len() == STEP {
                write(&mut pending)?;
            }
        }
        Ok::<_, fjall::Error>(true)
    };
    if !take(&mut source.iter())? {
        take(&mut source.iter().rev())?;
    }
    write(&mut pending)
}
